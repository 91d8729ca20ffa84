"""Making a system ready: what the leaderboard's row says of it, and the index that is left beside the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mta4dpr.experiment.experiment import Experiment
from mta4dpr.machine.files import read_json
from mta4dpr.stages.indexing import indexing
from mta4dpr.stages.pipeline import perform
from mta4dpr.stages.stage import Stage

from .given import Given

Begun = Callable[..., Experiment]


def stage_of(experiment: Experiment) -> Stage:
    return indexing(experiment, experiment.systems[0], needs=())


def test_the_row_says_what_the_engine_says_of_itself(begun: Begun, given: type[Given]) -> None:
    """An index that does not find all is tried with the queries of the first eval set, at the depth of its run files."""
    given.found = {"recall": 0.5}
    experiment = begun()
    perform(experiment, stage_of(experiment), [])
    entry = read_json(experiment.folder.manifest)["systems"]["given"]
    assert (entry["kind"], entry["parameters"], entry["recall"]) == ("other", None, 0.5)
    assert entry["asked"] == [["red fox", "whale song"], experiment.bench.depth]


def test_a_suite_alone_has_no_queries_to_try_it_with(begun: Begun, given: type[Given]) -> None:
    """Its collections have rows of their own."""
    given.found = {"recall": 0.5}
    experiment = begun()
    alone = replace(experiment, bench=experiment.bench.model_copy(update={"eval_sets": []}))
    alone.manifest.document = experiment.manifest.document
    perform(alone, stage_of(alone), [])
    assert "recall" not in read_json(alone.folder.manifest)["systems"]["given"]


def test_an_index_that_is_left_is_part_of_what_the_stage_made(begun: Begun, given: type[Given]) -> None:
    """One that is deleted is written again by the next command; without one there is nothing to miss."""
    experiment = begun()
    perform(experiment, stage_of(experiment), [])
    assert not experiment.folder.index("given").exists()
    given.index = True
    leaving = begun(redo="index")
    leaving.ledger.forget([stage_of(leaving).name])
    perform(leaving, stage_of(leaving), [])
    assert sorted(path.name for path in leaving.folder.index("given").iterdir()) == ["docid.json", "index.json"]
    (leaving.folder.index("given") / "docid.json").unlink()
    again = begun()
    assert not again.ledger.is_done(stage_of(again).name, stage_of(again).inputs())
    perform(again, stage_of(again), [])
    assert (again.folder.index("given") / "docid.json").exists()


def test_whether_an_index_is_left_decides_the_stage(begun: Begun) -> None:
    """--set dense.pyserini_index=true for a run that had none: the folder refuses the setting, a repetition of it must not pass."""
    experiment = begun()
    without = experiment.bench.model_copy(update={"dense": experiment.bench.dense.model_copy(update={"pyserini_index": False})})
    assert stage_of(replace(experiment, bench=without)).inputs() != stage_of(experiment).inputs()


def test_processes_go_along_only_where_they_can_help(begun: Begun, given: type[Given]) -> None:
    """Lucene's index is built by one; vectors by all."""
    assert stage_of(begun()).along is None
    given.together = True
    assert stage_of(begun()).along is not None
