"""Work that several processes share: what is done is a file, who is at it holds a lock. Knows no process group.

Any process may join at any time and any may be killed: its piece is free again then. So nobody waits for one that never
comes, and a work that was cut off goes on at its missing pieces. Processes meet on a file system that they share.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mta4dpr.machine.kept import SUMS, is_whole, sealed_folder, unseal
from mta4dpr.machine.locks import lock_beside
from mta4dpr.machine.progress import Bar, bar

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds until a line says what is waited for


@dataclass(frozen=True)
class Pieces:
    """What a folder is made of.

    count    pieces
    make     writes the piece of a number to a file, all at once, and advances the bar
    join     fills a folder from the files of all pieces
    total, label, unit    what the bar says
    """

    count: int
    make: Callable[[int, Path, Bar], None]
    join: Callable[[Path, Sequence[Path]], None]
    total: int
    label: str
    unit: str


def make_together(folder: Path, pieces: Pieces, *, otherwise: str, by_content: bool = False) -> None:
    """Makes a sealed folder, unless it is there and whole; returns when it is, whichever process made it.

    `otherwise` says what is done about a folder that is not whole any more, and `by_content` that its stamps are not enough (see kept.py).
    """
    if is_whole(folder, by_content=by_content, otherwise=otherwise):
        return
    place = folder.with_name(folder.name + ".pieces")
    with lock_beside(folder):
        if not is_whole(folder, by_content=by_content):  # another process may have made it just now
            unseal(folder)
    files = [place / f"{number:05}.npy" for number in range(pieces.count)]
    with bar(pieces.total, pieces.label, pieces.unit) as shown:
        for number in missing_pieces(files, whole=folder / SUMS):
            pieces.make(number, files[number], shown)
    with lock_beside(folder):
        if not is_whole(folder):
            with sealed_folder(folder) as aside:
                pieces.join(aside, files)
        shutil.rmtree(place, ignore_errors=True)


def missing_pieces(files: Sequence[Path], *, whole: Path | None = None) -> Iterator[int]:
    """Numbers of the files that are not there, each for this process alone, which makes the file before it asks for the next.

    Ends when all files are there, those that other processes make included; or when `whole` is, which is made of them and
    may then stand in for them.
    """
    left, waiting_since = list(range(len(files))), 0.0
    while left:
        taken = []  # by others
        for number in left:
            file = files[number]
            if _is_done(file, whole):
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            place = file.with_name(f".{file.name}.lock")
            lock = FileLock(str(place))
            try:
                lock.acquire(blocking=False)
            except (Timeout, FileNotFoundError):  # FileNotFoundError: the folder was removed just now, as all is done
                taken.append(number)
                continue
            try:
                if not _is_done(file, whole):
                    yield number
                    waiting_since = 0.0
            finally:
                if file.exists():  # whoever opens the lock after this sees that the piece is done
                    place.unlink(missing_ok=True)
                lock.release()
        left = taken
        if left:
            now = time.monotonic()
            waiting_since = waiting_since or now
            if now - waiting_since > PATIENCE:
                log.info("waiting for %d of %d pieces in %s that other processes are at", len(left), len(files), files[0].parent)
                waiting_since = now
            time.sleep(0.1)


def _is_done(file: Path, whole: Path | None) -> bool:
    """The pieces are removed after the whole is there, so the whole is looked for last."""
    return file.exists() or (whole is not None and whole.exists())
