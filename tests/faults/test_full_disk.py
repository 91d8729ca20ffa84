"""A disk that fills at ten moments: one sentence and exit status 3; with more room the same command ends with the same bytes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import PATIENCE, everything, make_bench, run_whole, said, start

pytestmark = pytest.mark.faults

KILOBYTE = 1024
FULL = "no space left on the disk"


def used(folder: Path) -> int:
    """Bytes of the files of a folder, in whole pages, as a memory disk counts."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, in memory; skipped where mounting is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True).returncode:
        pytest.skip("a disk of some size is mounted, which needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)


def shrink(disk: Path, process: subprocess.Popen[bytes], kilobytes: int) -> None:
    """Makes the disk small once the run has begun: before, it looks how much is free, and would not begin."""
    while process.poll() is None and not (disk / "run" / "ledger.json").exists():
        time.sleep(0.01)
    while process.poll() is None and kilobytes * KILOBYTE < used(disk):
        kilobytes = used(disk) // KILOBYTE + 8
    if process.poll() is None:
        resize(disk, kilobytes)


def test_a_disk_that_fills_is_told_and_nothing_is_lost(tmp_path: Path, disk: Path, is_all: bool, tell: Callable[[str], None]) -> None:
    bench = make_bench(tmp_path, students=("mta4dpr",), steps=8, checkpoint_every=2)
    expected = everything(run_whole(tmp_path / "whole", bench))
    needed, sizes, told = used(tmp_path / "whole") // KILOBYTE, 10 if is_all else 2, 0
    for number in range(sizes):
        resize(disk, 400_000)
        process = start(disk, "run", str(bench), "--output", str(disk / "run"))
        shrink(disk, process, needed * (2 * number + 1) // (2 * sizes))
        status = process.wait(timeout=PATIENCE)
        words = said(disk)
        assert status in (0, 3), words
        assert "Traceback" not in words
        if status:
            assert FULL in words.splitlines()[-1] or FULL in words, words
            told += 1
    tell(f"{sizes} sizes of disk: {told} times too small and told, {sizes - told} times large enough")
    assert told >= sizes // 2
    resize(disk, 400_000)
    found = everything(run_whole(disk, bench))
    assert {name for name in expected if expected[name] != found.get(name)} == set()
