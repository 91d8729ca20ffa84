"""The lock that stands for a kept folder, and what it means where nothing can be written: nothing is made there, so nothing is locked."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def lock_beside(path: Path) -> Iterator[None]:
    """Holds PATH.lock, which is made with the folder it is in, while the block runs.

    In a place that cannot be written (a cache that others have made, a medium) it holds nothing: what is there is only read, and is
    compared with its checksums by whoever reads it. What would have to be made there is refused when it is written.
    """
    from filelock import FileLock

    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        log.debug("%s.lock cannot be made (%s); the folder is only read", path, error.strerror)
    try:
        yield
    finally:
        lock.release()
