"""Values of run files: which of them are scored, with which judgements, and when they are scored again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mta4dpr.data.collection import QuerySet
from mta4dpr.evaluation.per_query import read_per_query
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.machine.files import key_of, read_json
from mta4dpr.stages.evaluation import evaluate_run, evaluation, run_files
from mta4dpr.stages.indexing import indexing
from mta4dpr.stages.pipeline import perform
from mta4dpr.stages.searching import searching

Begun = Callable[..., Experiment]


def searched(experiment: Experiment) -> Experiment:
    """With a run file of its only system."""
    (system,) = experiment.systems
    for stage in (indexing(experiment, system, needs=()), searching(experiment, system, experiment.bench.eval_sets[0], needs=())):
        perform(experiment, stage, [])
    return experiment


def evaluated(experiment: Experiment) -> dict[str, float]:
    stage = evaluation(experiment, needs=())
    perform(experiment, stage, [stage])
    return {row["measure"]: row["value"] for row in read_json(experiment.folder.leaderboard)["rows"] if row["system"] == "given"}


def test_values_by_hand(begun: Begun) -> None:
    """q1 finds d1 first, q2 finds d2 first; the per-query file says so too."""
    experiment = searched(begun())
    assert evaluated(experiment)["RR@10"] == 1.0
    ids, values = read_per_query(experiment.folder.per_query("given", "mini/test"))
    assert (ids, values["RR@10"].tolist()) == (["q1", "q2"], [1.0, 1.0])


def test_a_run_file_without_a_hit_is_worth_nothing(begun: Begun, tmp_path: Path) -> None:
    """Not an error: a system that finds nothing is a row of zeros, over all judged queries."""
    (tmp_path / "empty.trec").touch()
    query_set = QuerySet("x", {"q1": "a", "q2": "b"}, {"q1": {"d1": 1}, "q2": {"d2": 1}})
    found = evaluate_run(tmp_path / "empty.trec", query_set, ["RR@10", "R@100"], begun().corpus)
    assert (found.query_ids, found.missing_queries) == (["q1", "q2"], 2)
    assert {measure: values.tolist() for measure, values in found.values.items()} == {"RR@10": [0.0, 0.0], "R@100": [0.0, 0.0]}


def test_answers_in_the_texts_decide_where_an_eval_set_has_answers(begun: Begun) -> None:
    """As DPR counts: a passage is right when its text has the answer, judged or not."""
    experiment = searched(begun())
    query_set = replace(experiment.eval_sets["mini/test"], answers={"q1": ("sleeps",), "q2": ("whale",)})
    found = evaluate_run(experiment.folder.run_file("given", "mini/test"), query_set, ["Success@1", "Success@2"], experiment.corpus)
    assert {measure: values.tolist() for measure, values in found.values.items()} == {"Success@1": [0.0, 1.0], "Success@2": [1.0, 1.0]}


def test_rows_of_earlier_commands_stay(begun: Begun) -> None:
    """A command over other systems, or over none at all, joins one table with what is there."""
    searched(begun())
    later = begun(systems=("bm25",))
    assert list(run_files(later)) == [("given", "mini/test")]
    assert evaluated(later)["RR@10"] == 1.0


def test_what_is_half_searched_is_not_evaluated(begun: Begun) -> None:
    """A run file that a kill has cut off is written aside, but its earlier one may still be there."""
    experiment = searched(begun())
    (name,) = (name for name in experiment.ledger.stages if name.kind == "search")
    with pytest.raises(KeyboardInterrupt), experiment.ledger.stage(name, "other"):
        raise KeyboardInterrupt
    assert run_files(begun()) == {}


def test_it_is_done_again_when_a_run_file_or_a_judgement_changes(begun: Begun) -> None:
    """And not otherwise: the same command again writes nothing."""
    experiment = searched(begun())
    before = key_of(evaluation(experiment, needs=()).inputs())
    assert key_of(evaluation(begun(), needs=()).inputs()) == before
    experiment.manifest.document["eval_sets"]["mini/test"]["hash"] = "other"
    assert key_of(evaluation(experiment, needs=()).inputs()) != before
    again = begun()
    (name,) = (name for name in again.ledger.stages if name.kind == "search")
    (file, about) = next(iter(again.ledger.stages[name]["outputs"].items()))
    again.ledger.stages[name]["outputs"][file] = {**about, "sha256": "0" * 64}
    assert key_of(evaluation(again, needs=()).inputs()) != before


def test_a_published_figure_is_compared_in_the_log(begun: Begun, caplog: pytest.LogCaptureFixture) -> None:
    experiment = searched(begun())
    expected = {"system": "given", "measure": "RR@10", "value": 0.9, "tolerance": 0.01, "source": "a paper"}
    experiment.manifest.document["eval_sets"]["mini/test"]["expected"] = [expected]
    with caplog.at_level("INFO"):
        evaluated(experiment)
    assert "given on mini/test: RR@10 1.0000, published 0.9000 (a paper): " in caplog.text
