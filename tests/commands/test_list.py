"""`list`: what is there, each name as it is typed elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mta4dpr.commands.list import LISTS, MEASURES, benchmarks, options, strategies, systems
from mta4dpr.config.yaml_files import parse_settings
from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES
from mta4dpr.errors import UserError
from mta4dpr.evaluation.measures import parse_measures
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request

from ..config.smallest import document


def test_benchmarks_of_ones_own_are_among_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their eval sets; a suite says that it must be asked for."""
    sets = [{"id": "a/test", "measures": ["RR@10"]}, {"id": "b/test", "measures": ["RR@10"]}]
    given = document(title="Mine", eval_sets=sets, suites={"beir": {"measure": "RR@10", "sets": ["c/test"]}})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(given))
    monkeypatch.setenv("MTA4DPR_BENCHMARKS", str(tmp_path))
    rows = {row["benchmark"]: row for row in benchmarks()}
    assert {"tiny", "quickstart", "nfcorpus", "msmarco", "nq", "mine"} <= rows.keys()
    assert rows["mine"] == {"benchmark": "mine", "title": "Mine", "eval sets": "a/test, b/test, beir (optional)"}


@pytest.mark.parametrize("text", ["title: Mine", "eval_sets: 5", "eval_sets: [a]", "[a", "a: 1e999", ""])
def test_a_benchmark_that_is_none_is_told_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setenv("MTA4DPR_BENCHMARKS", str(tmp_path))
    with pytest.raises(UserError, match=r"mine\.yaml"):
        benchmarks()


def test_every_system_that_tiny_can_train_may_be_asked_for() -> None:
    """A name that is listed and refused would be a page of documentation that lies."""
    named = [row["system"] for row in systems()]
    assert named[:2] == ["bm25", "student-init"]
    assert len(named) == len(set(named))
    trained = [name for name in named if name in (*STRATEGIES, *ABLATIONS)]
    assert trained == [*STRATEGIES, *ABLATIONS]
    assert len(open_experiment(Request("tiny", systems=("bm25", "student-init", *trained))).systems) == 2 + len(trained)
    assert all(row["what"] and row["from"] for row in systems())


def test_strategies_come_with_what_they_need_and_cost() -> None:
    rows = {row["strategy"]: row for row in strategies()}
    assert set(rows) == {*STRATEGIES, *ABLATIONS}
    for name in ABLATIONS:
        assert (rows[name]["needs"], rows[name]["cost"]) == (rows["mta4dpr"]["needs"], rows["mta4dpr"]["cost"])
        assert rows[name]["about"].startswith("mta4dpr ")


@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_is_written_as_tables_write_it(measure: str) -> None:
    """As it is listed, so it can be put into a YAML."""
    assert [str(one) for one in parse_measures(measure)] == [measure]


def test_an_option_is_listed_with_the_default_that_it_has() -> None:
    """And can be set by the name and to the value that are shown."""
    rows = {row["option"]: row for row in options()}
    assert rows["distill.steps"]["default"] == "300"
    assert rows["distill.steps"]["mark"] == "A"
    assert rows["dense.index"]["mark"] == ""
    bench = open_experiment(Request("nfcorpus", systems=("bm25",))).bench
    assert parse_settings([f"depth={rows['depth']['default']}"]) == {"depth": type(bench).model_fields["depth"].default}


def test_each_list_has_rows_of_the_same_columns() -> None:
    """They are printed as tables."""
    for name, rows in LISTS.items():
        made = rows()
        assert len({tuple(row) for row in made}) == 1, name


def test_a_yaml_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("- a list\n")
    monkeypatch.setenv("MTA4DPR_BENCHMARKS", str(tmp_path))
    with pytest.raises(UserError, match=r"mine\.yaml"):
        benchmarks()
