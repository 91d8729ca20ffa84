"""A run file: which queries, which passages, and what is noted of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mta4dpr.experiment.experiment import Experiment
from mta4dpr.machine import environment
from mta4dpr.machine.files import read_json, sha256_of_file
from mta4dpr.stages.indexing import indexing
from mta4dpr.stages.pipeline import perform
from mta4dpr.stages.searching import searching
from mta4dpr.stages.stage import Stage

from .given import Given

Begun = Callable[..., Experiment]


def stage_of(experiment: Experiment) -> Stage:
    return searching(experiment, experiment.systems[0], experiment.bench.eval_sets[0], needs=())


def searched(experiment: Experiment) -> list[str]:
    """The lines of the run file."""
    stage = stage_of(experiment)
    perform(experiment, indexing(experiment, experiment.systems[0], needs=()), [])
    perform(experiment, stage, [])
    return experiment.folder.run_file("given", "mini/test").read_text().splitlines()


def deeper(experiment: Experiment, depth: int, **changed: object) -> Experiment:
    made = replace(experiment, bench=experiment.bench.model_copy(update={"depth": depth, **changed}))
    made.manifest.document = experiment.manifest.document
    return made


def test_lines_are_hits_in_their_order(begun: Begun) -> None:
    """A query without a hit has no line; unjudged queries are not searched."""
    experiment = begun()
    assert [line.split()[:4] for line in searched(experiment)] == [
        ["q1", "Q0", "d1", "1"],
        ["q1", "Q0", "d3", "2"],
        ["q2", "Q0", "d2", "1"],
    ]
    assert Given.asked == [(["red fox", "whale song"], experiment.bench.depth)]


def test_it_is_noted_with_its_hash_and_the_command_that_makes_it(begun: Begun) -> None:
    """The metadata beside it says the same to who gets the run file alone."""
    experiment = begun()
    searched(experiment)
    path = experiment.folder.run_file("given", "mini/test")
    record = read_json(experiment.folder.manifest)["run_files"]["runs/mini-test/given.trec"]
    assert (record["system"], record["eval_set"], record["sha256"]) == ("given", "mini/test", sha256_of_file(path))
    assert record["device"] is None, "nothing has asked for one"
    assert "--systems given --eval-sets mini/test" in record["command"]
    assert yaml.safe_load(path.with_name("given.ir_metadata.yml").read_text())["tag"] == "given"
    outputs = experiment.ledger.outputs(stage_of(experiment).kind)[stage_of(experiment).name]
    assert next(iter(outputs)) == "runs/mini-test/given.trec", "evaluation takes the first output for the run file"


def test_no_more_than_depth_passages(begun: Begun) -> None:
    assert [line.split()[2] for line in searched(deeper(begun(), 1))] == ["d1", "d2"]


def test_a_passage_with_the_querys_own_id_makes_room_for_the_next(
    begun: Begun, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BEIR's convention for arguana: one more is asked for, so that the list is as long as any other."""
    experiment = deeper(begun(), 1, exclude_self=True)
    monkeypatch.setattr(experiment.corpus, "ids", lambda numbers: [["q1", "d2", "d3"][n] for n in numbers])
    with caplog.at_level("INFO"):
        lines = searched(experiment)
    assert [line.split()[2] for line in lines] == ["d3", "d2"]
    assert {k for _, k in Given.asked} == {2}
    assert "1 passages with their query's own id are left out" in caplog.text


def test_the_first_queries_are_searched_as_among_all(begun: Begun) -> None:
    """--limit gives the beginning of the run file that would be made without it."""
    assert len(searched(begun(limit=1))) == 2
    assert Given.asked[0][0] == ["red fox"]


def test_what_decides_a_run_file_is_what_it_is_done_again_for(begun: Begun, given: type[Given]) -> None:
    """Hits, queries, depth, limit, and who is left out; a judgement changes no line of it."""
    experiment = begun()
    inputs = stage_of(experiment).inputs()
    assert stage_of(begun()).inputs() == inputs
    query_set = experiment.eval_sets["mini/test"]
    for changed in (deeper(experiment, 7), deeper(experiment, 1000, exclude_self=True), begun(limit=1)):
        assert stage_of(changed).inputs() != inputs
    other = begun()
    other.eval_sets["mini/test"] = replace(query_set, qrels={"q1": {"d3": 1}, "q2": {"d2": 1}})
    assert stage_of(other).inputs() == inputs
    other.eval_sets["mini/test"] = replace(query_set, texts={"q1": "red", "q2": "whale song"})
    assert stage_of(other).inputs() != inputs
    given.hits["new"] = []
    assert stage_of(begun()).inputs() != inputs


def test_processes_search_a_part_each_and_the_main_one_merges(begun: Begun, given: type[Given], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts lie under the launch's own name and are swept away when they are merged."""
    assert stage_of(begun()).along is None, "an engine that is not shared is searched by the main process alone"
    given.together = True
    monkeypatch.setattr(environment, "process_count", lambda: 2)
    main, beside = begun(limit=1), begun(limit=1)
    for experiment in (main, beside):
        experiment.__dict__["launch"] = "launch"
    monkeypatch.setattr(environment, "process_rank", lambda: 1)
    along = stage_of(beside).along
    assert along is not None
    along()
    (part,) = Path(main.folder.path).glob(".parts-launch/*/1.json")
    assert read_json(part) == [["red fox", "whale song"], 1, 1000, 1, 2], "all queries, of which the first one is wanted"
    monkeypatch.setattr(environment, "process_rank", lambda: 0)
    assert [line.split()[2] for line in searched(main)] == ["d1", "d3"]
    assert not part.parent.exists()
