"""What surrounds a run must not show in its bytes: hash seed, time zone, locale, umask, working folder; of threads, what the docs say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PATIENCE, everything, make_bench, results, run_whole, said, start

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a benchmark and a run of it in the usual surroundings."""
    root = tmp_path_factory.mktemp("surroundings")
    run_whole(root / "usual", make_bench(root, students=("mta4dpr",), steps=4, checkpoint_every=2))
    return root


def test_hash_seed_time_zone_locale_and_umask_do_not_show(place: Path, tmp_path: Path) -> None:
    """All of them others at once; a cache of its own, so that everything is made."""
    before = os.umask(0o077)
    try:
        others = {"PYTHONHASHSEED": "4711", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "COLUMNS": "37"}
        folder = run_whole(tmp_path / "other", place / "mine.yaml", **others)
    finally:
        os.umask(before)
    expected, found = everything(place / "usual" / "run"), everything(folder)
    assert {name for name in expected if expected[name] != found.get(name)} == set()


def test_of_threads_only_sums_in_another_order_show(place: Path, tmp_path: Path) -> None:
    """The README promises the same bytes for one number of threads; with another, figures are the same to many digits."""
    folder = run_whole(tmp_path / "two", place / "mine.yaml", OMP_NUM_THREADS="2")
    one, two = results(place / "usual" / "run"), results(folder)
    assert one.keys() == two.keys()
    assert {name for name in one if one[name] != two[name] and "bm25" in name} == set()


def test_without_a_network_nothing_is_asked_for(place: Path, tmp_path: Path) -> None:
    """In a network of its own without any interface that is up, offline and with all data here."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a network of its own needs `unshare -n`, which is not allowed here")
    (tmp_path / "off").mkdir()
    arguments = [sys.executable, "-m", "mta4dpr", "run", str(place / "mine.yaml"), "--output", str(tmp_path / "off" / "run"), "--offline"]
    environment = {**os.environ, "MTA4DPR_CACHE": str(tmp_path / "off" / "cache"), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(["unshare", "-n", *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert results(tmp_path / "off" / "run") == results(place / "usual" / "run")


def test_a_command_from_another_folder_makes_the_same(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are relative to where one stands; nothing else may be."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    process = start(tmp_path, "run", os.path.relpath(place / "mine.yaml"), "--output", "../run")
    assert process.wait(timeout=PATIENCE) == 0, said(tmp_path)
    assert results(tmp_path / "deep" / "run") == results(place / "usual" / "run")
