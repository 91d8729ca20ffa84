"""Files of users as bytes and lines: marks, zips, bytes that are no text, and what the errors name."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest

from mta4dpr.data.text_files import content_of, numbered_lines
from mta4dpr.errors import UserError

TEXT = b"one\n\ntwo\r\nthree"


@pytest.mark.parametrize("content", [TEXT, b"\xef\xbb\xbf" + TEXT, gzip.compress(TEXT), gzip.compress(TEXT[:5]) + gzip.compress(TEXT[5:])])
@pytest.mark.parametrize("name", ["lines", "lines.gz"])
def test_marks_and_zips_are_seen_by_content(tmp_path: Path, content: bytes, name: str) -> None:
    """A name says nothing: browsers unzip what they keep as .gz, and curl keeps zipped what has no ending."""
    path = tmp_path / name
    path.write_bytes(content)
    assert content_of(path, kind="run") == TEXT
    assert list(numbered_lines(path, kind="run")) == [(1, "one"), (3, "two"), (4, "three")]


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """`evaluate <(zcat run.gz)` names a pipe, whose first bytes are gone when it is opened again."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(gzip.compress(TEXT),))
    writer.start()
    assert content_of(path, kind="run") == TEXT
    writer.join()


def test_what_ends_a_line_in_json_lines(tmp_path: Path) -> None:
    """LF, CRLF and CR. JSON has U+2028, U+0085 and form feeds inside of texts, where str.splitlines() would cut."""
    path = tmp_path / "lines"
    path.write_text("a\u2028b\u0085c\fd\re\r\nf\n", newline="")
    assert list(numbered_lines(path, kind="run")) == [(1, "a\u2028b\u0085c\fd"), (2, "e"), (3, "f")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "at least one line, found an empty one"),
        (b"\xef\xbb\xbf \n", "at least one line"),
        (gzip.compress(b""), "at least one line"),
        (gzip.compress(TEXT * 99)[:-9], "whole gzip file"),
        (gzip.compress(TEXT)[:-8] + b"12345678", "whole gzip file"),
        (gzip.compress(TEXT) + b"more", "whole gzip file"),
        (b"a\nb\0c\n", "line 2: expected a run file of text, found a NUL"),
        ("a\n".encode("utf-16"), "expected UTF-8, found UTF-16"),
    ],
)
def test_what_is_no_text(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError, match=told) as caught:
        content_of(path, kind="run")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("line", "number"), [(b"\xff", 3), (b"\xed\xa0\x80", 3), (b"ok", None)])
def test_a_byte_that_is_no_utf_8_has_the_number_of_its_line(tmp_path: Path, line: bytes, number: int | None) -> None:
    """Python's text files decode blocks of 8,192 bytes, so the line that they are at says nothing."""
    path = tmp_path / "lines"
    path.write_bytes(b"a\n\n" + line + b"\n" + b"more\n" * 9)
    if number is None:
        assert len(list(numbered_lines(path, kind="run"))) == 11
        return
    with pytest.raises(UserError, match=rf"lines, line {number}: expected UTF-8"):
        list(numbered_lines(path, kind="run"))


@pytest.mark.parametrize("name", ["gone", "folder", "x" * 300, "a\0b", "file/below"])
def test_what_cannot_be_opened(tmp_path: Path, name: str) -> None:
    """None of them is a fault of ours, and none is about writing."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for read in (content_of, lambda path, kind: list(numbered_lines(path, kind=kind))):
        with pytest.raises(UserError, match="run file") as caught:
            read(tmp_path / name, kind="run")
        assert "written" not in str(caught.value)
