"""Tables and page out of what the other stages left."""

from __future__ import annotations

from collections.abc import Callable

from mta4dpr.experiment.experiment import Experiment
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.stages.evaluation import evaluation
from mta4dpr.stages.indexing import indexing
from mta4dpr.stages.pipeline import perform
from mta4dpr.stages.reporting import reporting
from mta4dpr.stages.searching import searching


def reported(experiment: Experiment) -> Experiment:
    (system,) = experiment.systems
    for stage in (
        indexing(experiment, system, needs=()),
        searching(experiment, system, experiment.bench.eval_sets[0], needs=()),
        evaluation(experiment, needs=()),
        reporting(experiment, needs=()),
    ):
        perform(experiment, stage, [])
    return experiment


def test_tables_page_and_texts_are_what_the_stage_made(begun: Callable[..., Experiment]) -> None:
    """One that is deleted is made again by the same command."""
    experiment = reported(begun())
    (name,) = (name for name in experiment.ledger.stages if name.kind == "report")
    outputs = experiment.ledger.stages[name]["outputs"]
    tables = {f"leaderboard.{suffix}" for suffix in ("csv", "md", "tex", "html")}
    assert set(outputs) == {"texts.json", "efficiency.json", "efficiency.md", "plots/leaderboard-mini-test.svg", *tables}
    assert "given" in (experiment.folder.path / "leaderboard.md").read_text()
    texts = read_json(experiment.folder.path / "texts.json")
    assert texts["queries"]["mini/test"] == {"q1": "red fox", "q2": "whale song"}
    (experiment.folder.path / "leaderboard.csv").unlink()
    assert (reported(begun()).folder.path / "leaderboard.csv").exists()


def test_costs_say_what_all_commands_took(begun: Callable[..., Experiment]) -> None:
    """Memory is the most that any of them held; a command without a network does not hide on which device an earlier one ran."""
    experiment = begun()
    write_json(experiment.folder.efficiency, {"systems": {"bm25": {}}, "peak_memory_bytes": 10**15, "device": "cuda"})
    document = read_json(reported(experiment).folder.efficiency)
    assert (document["peak_memory_bytes"], document["device"], document["systems"]) == (10**15, "cuda", {"bm25": {}})
    assert document["threads"] == experiment.threads
    assert {stage["stage"] for stage in document["stages"]} >= {"index", "search", "evaluate"}
