"""The lock beside a kept folder: one process at a time where something can be made, none where nothing can."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import filelock
import pytest
from filelock import FileLock, Timeout

from mta4dpr.machine.locks import lock_beside


def test_the_lock_is_held_while_the_block_runs(tmp_path: Path) -> None:
    """Its folder is made with it; afterwards, also after an error, another takes it."""
    path = tmp_path / "a" / "store"
    with pytest.raises(RuntimeError), lock_beside(path):
        with pytest.raises(Timeout):
            FileLock(f"{path}.lock").acquire(timeout=0)
        raise RuntimeError
    with FileLock(f"{path}.lock").acquire(timeout=0):
        pass
    assert not path.exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_place_that_cannot_be_written_is_read_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A cache that somebody else has filled, on a medium or without permission to write."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with lock_beside(tmp_path / "store"):
        pass


def test_a_full_disk_and_a_path_through_a_file_are_no_reason_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "store", tmp_path / "file" / "a" / "store"):
        with pytest.raises((NotADirectoryError, FileExistsError)), lock_beside(path):
            pass

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(OSError, match="No space"), lock_beside(tmp_path / "store"):
        pass
