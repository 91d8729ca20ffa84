"""Where bytes go and whether there is room: each file system on its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta4dpr.machine import environment
from mta4dpr.machine.places import CACHE, DATA, OUTPUT, data_home, disk_lack, indexes_home


def test_each_file_system_is_looked_at_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits together on one disk need not fit on two, and the other way round."""
    places = {DATA: Path("/one/data"), CACHE: Path("/two/cache"), OUTPUT: Path("/two/output")}
    monkeypatch.setattr(environment, "file_system", lambda path: path.parts[1])
    free = {"one": 10e9, "two": 100e9}
    monkeypatch.setattr(environment, "free_disk_bytes", lambda path: free[path.parts[1]])
    assert disk_lack({DATA: 9e9, CACHE: 50e9, OUTPUT: 49e9}, places) == []
    (line,) = disk_lack({DATA: 11e9, CACHE: 50e9, OUTPUT: 49e9}, places)
    assert "10.0 GB free" in line
    assert "11.0 GB in /one/data (IR_DATASETS_HOME)" in line
    (line,) = disk_lack({DATA: 9e9, CACHE: 60e9, OUTPUT: 49e9}, places)
    assert "109.0 GB are needed" in line
    assert "MTA4DPR_CACHE" in line
    assert "--output" in line


def test_a_place_that_needs_nothing_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving it would not help."""
    monkeypatch.setattr(environment, "file_system", lambda _: 1)
    monkeypatch.setattr(environment, "free_disk_bytes", lambda _: 5e9)
    (line,) = disk_lack({CACHE: 6e9, OUTPUT: 0.0}, {CACHE: Path("/cache"), OUTPUT: Path("/output")}, settings={CACHE: "--to", OUTPUT: "-o"})
    assert "6.0 GB in /cache (--to)" in line
    assert "/output" not in line


def test_homes_are_where_their_libraries_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable is none; nothing is made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IR_DATASETS_HOME", "")
    monkeypatch.delenv("PYSERINI_CACHE", raising=False)
    assert data_home() == tmp_path / ".ir_datasets"
    assert indexes_home() == tmp_path / ".cache" / "pyserini"
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "x"))
    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path / "y"))
    assert (data_home(), indexes_home()) == (tmp_path / "x", tmp_path / "y")
    assert list(tmp_path.iterdir()) == []
