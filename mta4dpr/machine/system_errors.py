"""What an error of the operating system means for a user: which path, whether it was read or written, and what to do.

A block that writes one file reads others, too. Which of them failed is told by the error's own path, where it has one.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from mta4dpr.errors import EnvironmentLack, UserError

ELSEWHERE = "choose another place (--output DIR, MTA4DPR_CACHE=DIR)"
AGAIN = "then run the same command again: finished stages are kept"
MISTAKES = (LookupError, TypeError, ValueError, AttributeError, NameError, AssertionError)  # of code, whatever was handled meanwhile
TAKES_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
FORBIDDEN = (errno.EACCES, errno.EPERM)
NO_SUCH_PATH = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ)
GONE = (errno.ENOENT,)
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
NO_ANSWER = tuple(
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ENODEV", "ENXIO", "EREMOTEIO", "EREMOTE", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ENOLINK", "EBADMSG")
    if hasattr(errno, name)
) + (errno.ETIMEDOUT,)


def lack_of_disk(error: OSError, path: Path) -> Exception:
    """What stopped the writing of `path`, or the reading of something else meanwhile, as a user's error; otherwise the error itself."""
    named, path, number = _named(error), _without_aside(path), number_of(error)
    if number in TAKES_NO_MORE:
        return _takes_no_more(number, str(path))
    if named is not None and not _is_part_of(named, path):
        return unreadable(error, named)
    if number in (*FORBIDDEN, *NO_SUCH_PATH, *GONE):
        return EnvironmentLack(f"{path} cannot be written ({os.strerror(number)}); {ELSEWHERE}")
    return _of_the_machine(number, f"while {path} was written") or error


def unreadable(error: OSError, path: Path) -> Exception:
    """What stopped the reading of `path`, as a user's error; the error itself if it is none of files."""
    number = number_of(error)
    if number in (*FORBIDDEN, *NO_SUCH_PATH, *GONE):
        advice = {errno.EISDIR: "name a file in it", errno.ENOENT: "check its path"}.get(number, "check its path and permissions")
        return UserError(f"{path} cannot be read ({os.strerror(number)}); {advice}")
    return _of_the_machine(number, f"while {path} was read") or error


def explained(error: OSError) -> Exception:
    """What an error means of which nothing else is known; the error itself if it is none of files."""
    path, number = _named(error), number_of(error)
    if number in TAKES_NO_MORE:
        return _takes_no_more(number, str(path or "the output, or temporary files (TMPDIR moves them)"))
    if path is not None and number in NO_SUCH_PATH:
        return EnvironmentLack(f"{path} cannot be used ({os.strerror(number)}); check what stands in its path, or {ELSEWHERE}")
    if path is not None and number in (*FORBIDDEN, *GONE):
        may_be_read = os.access(path, os.R_OK) if os.path.exists(path) else os.access(path.parent, os.X_OK)
        return lack_of_disk(error, path) if may_be_read and number in FORBIDDEN else unreadable(error, path)
    return _of_the_machine(number, f"at {path}" if path else "while a file was read or written") or error


def number_of(error: OSError) -> int:
    """The error's number; numpy's has none where a file took a part of an array, and a file where a folder is wanted has two."""
    if error.errno == errno.EEXIST:
        return errno.ENOTDIR
    return error.errno or (errno.ENOSPC if re.search(r"\d+ requested and \d+ written", str(error)) else 0)


def system_error_of(error: BaseException) -> OSError | None:
    """The system's error behind one that is none: its context, or quoted by number as Rust does ("(os error 28)") or in words."""
    if isinstance(error, MISTAKES):
        return None
    if isinstance(error.__context__, OSError) and number_of(error.__context__):
        return error.__context__
    text = str(error)
    quoted = re.search(r"\(os error (\d+)\)", text)
    numbers = [int(quoted[1])] if quoted else [number for number in (*TAKES_NO_MORE, *TOO_MANY_FILES) if os.strerror(number) in text]
    return OSError(numbers[0], os.strerror(numbers[0])) if numbers else None


def _takes_no_more(number: int, what: str) -> EnvironmentLack:
    if number == errno.EROFS:
        return EnvironmentLack(f"{what} cannot be written ({os.strerror(number)}); {ELSEWHERE}")
    if number == errno.EFBIG:
        return EnvironmentLack(f"{what} would be larger than a file may be here; raise the limit (ulimit -f) or {ELSEWHERE}, {AGAIN}")
    quota = " (your quota is used up)" if number == errno.EDQUOT else ""
    return EnvironmentLack(f"no space left on the disk while writing {what}{quota}; free some space or {ELSEWHERE}, {AGAIN}")


def _of_the_machine(number: int, when: str) -> EnvironmentLack | None:
    if number in TOO_MANY_FILES:
        return EnvironmentLack(f"{os.strerror(number)} {when}; raise the limit (ulimit -n), then run the same command again")
    if number in NO_ANSWER:
        return EnvironmentLack(
            f"{os.strerror(number)} {when}: the disk or network does not answer; check it, then run the same command again"
        )
    return None


def _named(error: OSError) -> Path | None:
    """The path in an error, which is the source where two are named; None for a descriptor or none."""
    return Path(os.fsdecode(error.filename)).absolute() if isinstance(error.filename, str | bytes | os.PathLike) else None


def _without_aside(path: Path) -> Path:
    """The path of a file or folder whose bytes are still aside (see `files.written_aside`)."""
    aside = re.fullmatch(r"\.(.+)\.\d+\.part", path.name)
    return path.with_name(aside[1]) if aside else path


def _is_part_of(named: Path, path: Path) -> bool:
    """Whether a path is what is being written: the file or folder, what is in it, what stands aside for it, or a folder that holds it."""
    path = path.absolute()
    if named == path or path in named.parents or named in path.parents:
        return True
    return path.parent in named.parents and named.relative_to(path.parent).parts[0].startswith(f".{path.name}.")
