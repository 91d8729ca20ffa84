"""Suites: what is refused before anything starts. A whole run over one is in test_full_size.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr.commands.run import run
from mta4dpr.config.benchmark import Suite, parse_benchmark
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment import suite
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.request import Request, resolve_benchmark
from mta4dpr.machine.files import write_json

BENCH = {"name": "b", "title": "b", "corpus": "docstrings", "eval_sets": [{"id": "b/test", "measures": ["RR@10"]}], "systems": ["bm25"]}
TWO = Suite(measure="nDCG@10", sets=["beir/nfcorpus/test", "beir/scifact/test"])


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The collections whose files are on this machine."""
    present: set[str] = set()
    monkeypatch.setattr(suite, "_is_here", lambda one: one in present)
    return present


def test_a_suite_is_evaluated_only_when_it_is_named() -> None:
    """Each collection takes an index and an encoding of its own; nobody should get thirteen of them unasked."""
    assert resolve_benchmark(Request("msmarco"))[0].suites == {}
    bench, _, every = resolve_benchmark(Request("msmarco", eval_sets=("beir", "msmarco-passage/dev/small")))
    assert (list(bench.suites), [e.id for e in bench.eval_sets]) == (["beir"], ["msmarco-passage/dev/small"])
    assert len(every) == 4
    with pytest.raises(UserError, match="no eval set 'bier'.*did you mean 'beir'"):
        resolve_benchmark(Request("msmarco", eval_sets=("bier",)))


def test_without_any_of_its_collections_it_says_how_to_get_one(here: set[str], tmp_path: Path) -> None:
    """Exit status 3, and no folder is made."""
    with pytest.raises(EnvironmentLack, match=r"none of the 13 collections of beir is here \(beir/trec-covid, .*; `mta4dpr-bench run ID"):
        run(Request("msmarco", systems=("bm25",), eval_sets=("beir",), output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_collections_that_are_here_are_named_with_how_many_there_are(here: set[str]) -> None:
    here.add("beir/scifact/test")
    about = suite.about("beir", TWO)
    assert (about["suite"], about["measures"], about["primary"]) == (["beir/scifact/test"], ["nDCG@10"], "nDCG@10")
    assert "mean nDCG@10 over 1 of 2 collections" in about["note"]


def test_a_system_that_lacks_a_collection_has_no_mean(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mean over other collections than its neighbours' would look like one over the same."""
    for one, found in {"beir/nfcorpus/test": {"bm25": 0.3, "kd": 0.25}, "beir/scifact/test": {"bm25": 0.6}}.items():
        rows = [{"system": s, "measure": "nDCG@10", "value": v} for s, v in found.items()] + [
            {"system": "kd", "measure": "RR@10", "value": 1}
        ]
        path = tmp_path / "suites" / "beir" / one.replace("/", "-") / "leaderboard.json"
        path.parent.mkdir(parents=True)
        write_json(path, {"rows": rows, "eval_sets": [{"titled": one.startswith("beir/sci")}]})
    about = {"measures": ["nDCG@10"], "suite": TWO.sets}
    means = suite.means(Folder(tmp_path), "beir", about)
    assert list(means) == ["bm25"]
    assert "no mean of kd, which lack some of its collections" in caplog.text
    assert means["bm25"].query_ids == TWO.sets
    assert means["bm25"].mean("nDCG@10") == pytest.approx(np.mean([0.3, 0.6]))
    assert suite.titled(Folder(tmp_path), {"beir": about, "other": {}}) == {"beir": True}
    path.unlink()
    assert suite.means(Folder(tmp_path), "beir", about) == {}


@pytest.mark.parametrize(
    ("suites", "problem"),
    [
        ({"beir": {"measure": "nDCG@10", "sets": []}}, "suites.beir.sets"),
        ({"beir": {"measure": "nDCG@10", "sets": ["a", "a"]}}, "'a' occurs twice"),
        ({"be/ir": {"measure": "nDCG@10", "sets": ["a"]}}, "a suite cannot be called 'be/ir'"),
        ({"b/test": {"measure": "nDCG@10", "sets": ["a"]}}, "a suite cannot be called"),
        ({"beir": {"measures": "nDCG@10", "sets": ["a"]}}, "unknown key suites.beir.measures .*did you mean 'measure'"),
    ],
)
def test_mistakes_in_a_suite_are_told(suites: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        parse_benchmark({**BENCH, "suites": suites}, "b")
