"""Pieces of work that several processes share: each is made once, and a killed process leaves its piece to the others."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mta4dpr.machine.shared_work import missing_pieces


def make(files: list[Path], made: list[int], seconds: float = 0.0) -> None:
    for number in missing_pieces(files):
        made.append(number)
        time.sleep(seconds)
        files[number].write_text("done")


def test_each_piece_is_made_once_by_whoever_is_free(tmp_path: Path) -> None:
    """Locks are held by open files, so two threads are to each other what two processes are."""
    files, made = [tmp_path / "pieces" / f"{n}" for n in range(12)], ([], [])
    workers = [threading.Thread(target=make, args=(files, one, 0.02)) for one in made]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(made[0] + made[1]) == list(range(12))
    assert made[0]
    assert made[1]
    assert sorted(path.name for path in (tmp_path / "pieces").iterdir()) == sorted(str(n) for n in range(12))  # no locks are left


def test_pieces_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    files, made = [tmp_path / f"{n}" for n in range(4)], []
    files[1].write_text("earlier")
    make(files, made)
    assert made == [0, 2, 3]
    assert files[1].read_text() == "earlier"


def test_a_piece_that_failed_is_free_again(tmp_path: Path) -> None:
    files = [tmp_path / "0", tmp_path / "1"]
    with pytest.raises(RuntimeError):
        for _ in missing_pieces(files):
            raise RuntimeError
    made: list[int] = []
    make(files, made)
    assert made == [0, 1]


def test_a_killed_process_leaves_its_piece_to_those_who_wait(tmp_path: Path) -> None:
    """It must not be waited for, as no one would ever come."""
    code = (
        "import sys, time; from pathlib import Path; from mta4dpr.machine.shared_work import missing_pieces\n"
        f"for n in missing_pieces([Path({str(tmp_path / '0')!r})]):\n    print('at it', flush=True)\n    time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at it\n"
    files, made = [tmp_path / "0", tmp_path / "1"], []
    worker = threading.Thread(target=make, args=(files, made))
    worker.start()
    worker.join(0.5)
    assert (worker.is_alive(), made) == (True, [1])
    process.kill()
    process.wait()
    worker.join(10)
    assert made == [1, 0]


def test_the_whole_stands_in_for_pieces_that_were_removed(tmp_path: Path) -> None:
    """Who comes late, after the pieces were joined, must not make them again."""
    files, whole = [tmp_path / "pieces" / "0", tmp_path / "pieces" / "1"], tmp_path / "whole"
    pieces = missing_pieces(files, whole=whole)
    assert next(pieces) == 0
    files[0].write_text("done")
    whole.write_text("joined")
    shutil.rmtree(tmp_path / "pieces")
    assert list(pieces) == []
