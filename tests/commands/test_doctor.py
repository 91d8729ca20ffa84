"""`doctor`: what a machine lacks is named where a stage needs it, and nothing is written."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.commands import doctor
from mta4dpr.commands.doctor import examine
from mta4dpr.errors import EnvironmentLack
from mta4dpr.machine import environment
from mta4dpr.retrieval import java


def stages(found: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["lacks"] for stage in found["stages"] if stage["state"] == "lacking"}


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with enough of everything, whatever this one has."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "memory_bytes", lambda: 10**11)
    monkeypatch.setattr(environment, "free_disk_bytes", lambda _: 10**12)


def test_a_machine_with_everything_lacks_nothing(healthy: None, tmp_path: Path) -> None:
    """And no folder is made to find out whether one could be."""
    found = examine(quick=True)
    assert stages(found) == {}
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "runs").exists()


def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise EnvironmentLack("no Java 21 here")

    monkeypatch.setattr(java, "find_java", none)


def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    find = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))


def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "memory_bytes", lambda: 1_000_000_000)


def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "free_disk_bytes", lambda path: 1000 if path == environment.cache_folder() else 10**12)


def no_pyserini(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "versions", lambda: {"torch": "2", "pyserini": "not installed"})


@pytest.mark.parametrize(
    ("without", "lacking", "told"),
    [
        (no_java, {"BM25"}, "Java: no Java 21 here"),
        (no_torch, {"encoding", "training"}, "torch: not installed: `pip install torch`"),
        (no_memory, {"encoding", "training"}, "memory: 1.0 GB"),
        (no_disk, {"data"}, "MTA4DPR_CACHE), 1.0 kB free"),
        (no_pyserini, {"BM25"}, "pyserini: not installed"),
    ],
)
def test_what_is_lacking_is_named_where_it_is_needed(
    healthy: None, monkeypatch: pytest.MonkeyPatch, without: Callable[[pytest.MonkeyPatch], None], lacking: set[str], told: str
) -> None:
    """Somebody who only evaluates run files needs no Java."""
    without(monkeypatch)
    found = stages(examine(quick=True))
    assert set(found) == lacking
    assert all(told in text for text in found.values())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_lacking(healthy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "closed" / "cache"))
    assert "not writable" in stages(examine(quick=True))["data"]


def test_only_the_long_examination_opens_a_connection(healthy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is not there is a note: data and models may be here already."""
    asked: list[Any] = []

    def refuse(address: Any, **_: Any) -> None:
        asked.append(address)
        raise OSError("no route")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert "network" not in {check["what"] for check in examine(quick=True)["checks"]}
    assert asked == []
    found = examine(quick=False)
    (network,) = (check for check in found["checks"] if check["what"] == "network")
    assert network["state"] == "note"
    assert "no route" in network["found"]
    assert stages(found) == {}
