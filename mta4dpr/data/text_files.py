"""Text files that users bring: their bytes and lines, unzipped, without a mark, and errors that name file and line. Knows no format.

Whether a file is gzipped is seen from its first bytes, not from its name.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

from mta4dpr.errors import UserError

UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
GZIP = b"\x1f\x8b"
DAMAGED_GZIP = (EOFError, gzip.BadGzipFile, zlib.error)
READING_ERRORS = (OSError, ValueError, *DAMAGED_GZIP)  # ValueError: a NUL in the path


def content_of(path: Path, *, kind: str) -> bytes:
    """The bytes of a file, unzipped when gzipped, without a UTF-8 mark. `kind` ('run', 'qrels') is for the messages.

    UserError for what is no text: trec_eval and the measures end an id at a NUL, so one inside a file is refused wherever it stands.
    """
    try:
        with _opened(path) as file:
            content = file.read()
    except READING_ERRORS as error:
        raise _unreadable(path, kind, error) from error
    if content.startswith(UTF16_MARKS):
        raise UserError(f"{path}: expected UTF-8, found UTF-16; convert the file (iconv -f UTF-16 -t UTF-8)")
    if b"\0" in content:
        refuse(path, line_at(content, content.index(b"\0")), f"expected a {kind} file of text, found a NUL; write it anew")
    content = content.removeprefix(UTF8_MARK)
    if not content.strip():
        raise UserError(f"expected a {kind} file with at least one line, found an empty one: {path}; check what was to write it")
    return content


def numbered_lines(path: Path, *, kind: str) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, one at a time; LF, CRLF and CR end a line, as in Python. Blank ones are left out."""
    number = 0
    try:
        with _opened(path) as file:
            for block in file:
                for line in block.splitlines():  # bytes: at LF, CRLF and CR, and nowhere else
                    number += 1
                    if line.strip():
                        yield number, (line.removeprefix(UTF8_MARK) if number == 1 else line).decode()
    except UnicodeDecodeError as error:  # each line is decoded by itself, so the number is that of the byte
        refuse(path, number, f"expected UTF-8, found other bytes ({error.reason}); convert the file (iconv -t UTF-8)")
    except READING_ERRORS as error:
        raise _unreadable(path, kind, error) from error


def line_at(content: bytes | str, position: int) -> int:
    """The number of the line that a position of a file's content is in, from 1."""
    return 1 + (content.count(b"\n", 0, position) if isinstance(content, bytes) else content.count("\n", 0, position))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file, or what is zipped in it. Opened once: a pipe, as `<(zcat ...)` is one, cannot be read again."""
    with open(path, "rb") as file:
        yield gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == GZIP else file  # type: ignore[misc]


def _unreadable(path: Path, kind: str, error: Exception) -> UserError:
    if isinstance(error, DAMAGED_GZIP):
        return UserError(f"expected a whole gzip file, found a damaged one: {path} ({error}); copy or download it again")
    if isinstance(error, FileNotFoundError):
        return UserError(f"expected a {kind} file, found nothing at {path}; check the path")
    if isinstance(error, IsADirectoryError):
        return UserError(f"expected a {kind} file, found a folder: {path}; name a file in it")
    if isinstance(error, OSError):
        return UserError(f"the {kind} file {path} cannot be read ({error.strerror or error}); check its name and permissions")
    return UserError(f"expected the path of a {kind} file, found {str(path)!r} ({error})")


def refuse(path: Path, line: int, problem: str) -> NoReturn:
    """UserError that names file and line."""
    raise UserError(f"{path}, line {line}: {problem}")


def shown(content: bytes | str) -> str:
    """A piece of the user's file for a message: at most 80 letters, in quotes."""
    text = (content if isinstance(content, str) else content.decode(errors="backslashreplace")).strip()
    return repr(text if len(text) <= 80 else text[:77] + "...")
