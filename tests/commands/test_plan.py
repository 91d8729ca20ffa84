"""`plan`: times are work over rates, and what is lacking is said with what it is lacking for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.commands import plan as module
from mta4dpr.commands.plan import plan
from mta4dpr.experiment.request import Request
from mta4dpr.machine import environment
from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.machine.rates import Rate, Rates
from mta4dpr.machine.work import Piece, Work

GB = 10**9


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The plan of those pieces, on a machine whose rates are a hundred a second, with so much disk and memory."""

    def make(*pieces: Piece, disk: float = 100 * GB, memory: float = 16 * GB) -> dict[str, Any]:
        monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(module, "pieces_of", lambda *_: list(pieces))
        monkeypatch.setattr(Rates, "of", lambda self, kind, *, shape="": Rate(100.0, kind == "encode"))
        monkeypatch.setattr(environment, "free_disk_bytes", lambda _: int(disk))
        monkeypatch.setattr(environment, "memory_bytes", lambda: int(memory))
        monkeypatch.setattr(environment, "choose_device", lambda _: ("cpu", ""))
        return plan(Request("tiny", systems=("bm25",), output=tmp_path / "run"))

    return make


def test_times_are_work_over_rates(planned: Callable[..., dict[str, Any]]) -> None:
    """Their sum and the largest memory are of what is left to do; a rate says whether it was measured here."""
    document = planned(
        Piece("read", disk={CACHE: 2 * GB}, memory=3 * GB, work=(Work("read", 500.0), Work("tokenise", 100.0))),
        Piece("encode", disk={CACHE: GB, OUTPUT: GB}, memory=5 * GB, work=(Work("encode", 1000.0, "small"),)),
        Piece("search", "done", memory=9 * GB, work=(Work("bm25", 1e9),)),
    )
    assert [(row["stage"], row["state"], row["seconds"]) for row in document["stages"]] == [
        ("read", "to do", 6.0),
        ("encode", "to do", 10.0),
        ("search", "done", 0.0),
    ]
    assert (document["seconds"], document["memory_bytes"], document["lacking"]) == (16.0, 5 * GB, [])
    assert {row["set_by"]: row["bytes"] for row in document["disk"]} == {"MTA4DPR_CACHE": 3 * GB, "--output": GB}
    assert {(row["work"], row["network"]): row["measured"] for row in document["rates"]} == {
        ("read", ""): False,
        ("tokenise", ""): False,
        ("encode", "small"): True,
    }
    assert document["summary"].startswith("about 4.0 GB of disk, 5.0 GB of memory, 16 s on this machine")


def test_a_prebuilt_index_says_what_it_spares(planned: Callable[..., dict[str, Any]]) -> None:
    own = Piece("index", disk={CACHE: 3 * GB}, work=(Work("index", 12_000.0),))
    (row,) = planned(Piece("index", "prebuilt", "Pyserini's", instead_of=own))["stages"]
    assert row["note"] == "Pyserini's; made here it would take 3.0 GB, ~2 min 0 s"
    assert (row["seconds"], row["disk_bytes"]) == (0.0, 0)


def test_what_is_lacking_is_said_with_what_for(planned: Callable[..., dict[str, Any]]) -> None:
    """Stages that cannot be had, a disk that is too small, memory that is."""
    document = planned(
        Piece("bring the models", "lacking", "some/model: not on this machine"),
        Piece("encode", disk={CACHE: 3 * GB}, memory=20 * GB),
        Piece("search", memory=2 * GB),
        disk=2 * GB,
    )
    model, disk, memory = document["lacking"]
    assert model == "some/model: not on this machine"
    assert "2.0 GB free, about 3.0 GB are needed" in disk
    assert memory == "the memory is 16.0 GB, about 20.0 GB are needed to encode"


def test_memory_of_what_is_done_is_not_lacking(planned: Callable[..., dict[str, Any]]) -> None:
    """The vectors may come from a larger machine."""
    assert planned(Piece("encode", "done", memory=20 * GB), Piece("search", memory=2 * GB))["lacking"] == []


def test_with_nothing_left_the_summary_says_so(planned: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    document = planned(Piece("read", "cached"), Piece("search", "done"), Piece("evaluate", work=(Work("read", 5.0),)))
    assert document["summary"] == f"everything is done or cached; output: {tmp_path / 'run'}"
