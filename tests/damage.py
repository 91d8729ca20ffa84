"""Damage to files as disks, people and half-done copies do it; the time of the change is put back, so that it gives nothing away."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def flip(path: Path, place: int | None = None) -> None:
    """Turns over one bit, in the middle of the file or at that byte; a negative one counts from the end."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 4
    _write(path, bytes(content))


def cut(path: Path) -> None:
    """Leaves the first half."""
    content = path.read_bytes()
    _write(path, content[: len(content) // 2])


def zero(path: Path) -> None:
    """As many zeros: what a power cut leaves of a file whose bytes had not reached the disk."""
    _write(path, bytes(path.stat().st_size))


def empty(path: Path) -> None:
    """No byte is left."""
    _write(path, b"")


def delete(path: Path) -> None:
    """The file is gone."""
    path.unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {"flip": flip, "cut": cut, "zero": zero, "empty": empty, "delete": delete}


def _write(path: Path, content: bytes) -> None:
    before = path.stat()
    with open(path, "r+b") as file:  # the same inode
        file.write(content)
        file.truncate(len(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
