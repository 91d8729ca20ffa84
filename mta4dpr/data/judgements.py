"""Judgements in files: TREC's qrels, and the tsv of folders in BEIR's format. Both end in one check. Knows no collection and no measure.

TREC (query, iteration, document, relevance): columns are separated by white space, as trec_eval's are. BEIR (query-id, corpus-id, score):
separated by tabs, with CSV's quotes, as BEIR's own reader takes them; it passes over the first line whatever it says, here a header is
known by its words, so that a file without one loses no judgement and a malformed one is told.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from mta4dpr.data.records import HIGHEST_GRADE, LEAST_GRADE, WHITE, why_no_id
from mta4dpr.data.text_files import content_of, line_at, refuse, shown
from mta4dpr.errors import UserError

HEADER = (
    {"queryid", "query", "qid", "topicid", "topic"},
    {"corpusid", "docid", "docno", "documentid", "document", "doc", "did", "passageid", "passage", "pid"},
    {"score", "relevance", "rel", "label", "grade", "judgment", "judgement"},
)
"""Words of a header of three columns, without - _ and spaces. None of the last column is a grade, so no judgement is taken for a header."""
BEIR = "query-id TAB corpus-id TAB whole number"
TREC = "query iteration document relevance"
GRADE = re.compile(r"[+-]?[0-9]+")  # what atol() and int() agree on: int() alone would take 1_000 and the digits of other scripts


def read_qrels(path: Path, *, beir: bool = False) -> dict[str, dict[str, int]]:
    """{query id: {document id: relevance}}. `beir`: a file of BEIR's; else the first line tells TREC's four columns from BEIR's three.

    UserError, with file and line: other columns, ids that no TREC file can hold, a relevance that is no whole number or beyond trec_eval's
    bounds, one pair with two relevances. The same line twice says nothing new.
    """
    content = content_of(path, kind="qrels")
    beir = beir or _is_beir(content, path)
    found: dict[str, dict[str, int]] = {}
    grades: dict[str, int] = {}  # by how they are written: there are few
    for number, query_id, document, written in _beir_rows(content, path) if beir else _trec_rows(content, path):
        if query_id not in found:
            _check_id(query_id, "query", path, number)
        _check_id(document, "document", path, number)
        relevance = grades.get(written)
        if relevance is None:
            relevance = grades[written] = _grade(written, path, number)
        known = found.setdefault(query_id, {}).setdefault(document, relevance)
        if known != relevance:
            problem = f"expected one relevance for query {query_id!r}, document {document!r}; found {known} and {relevance}"
            refuse(path, number, f"{problem}; keep one line")
    if not found:
        raise UserError(f"expected at least one judgment below the header, found none: {path}; check what was to write it")
    return found


def _check_id(text: str, what: str, path: Path, number: int) -> None:
    if reason := why_no_id(text):
        refuse(path, number, f"expected a {what} id, found {shown(text)}: {reason}; rename it")


def _grade(text: str, path: Path, number: int) -> int:
    digits = text.strip(WHITE)
    if not GRADE.fullmatch(digits):
        problem = f"expected an integer as relevance (last column), found {shown(text)}"
        refuse(path, number, f"{problem}; grades are integers such as 0 (not relevant), 1, 2")
    size = digits.lstrip("+-0") or "0"
    relevance = -int(size[:9]) if digits.startswith("-") else int(size[:9])  # nine digits tell; int() itself refuses very many
    if len(size) > 9 or not LEAST_GRADE <= relevance <= HIGHEST_GRADE:
        problem = f"expected a relevance from {LEAST_GRADE} to {HIGHEST_GRADE} (trec_eval's bounds), found {shown(digits)}"
        refuse(path, number, f"{problem}; map the grades to smaller ones")
    return relevance


def _is_beir(content: bytes, path: Path) -> bool:
    lines = (line for block in io.BytesIO(content) for line in block.splitlines())
    number, first = next((number, line) for number, line in enumerate(lines, 1) if line.strip())
    if len(first.split()) == 4 and first.count(b"\t") == 2:
        problem = f"expected 4 columns ({TREC}) or 3 ({BEIR}), found what is both: {shown(first)}"
        refuse(path, number, f"{problem}; separate them by tabs alone, and rename ids with white space")
    return len(first.split()) != 4 and first.count(b"\t") == 2


def _trec_rows(content: bytes, path: Path) -> Iterator[tuple[int, str, str, str]]:
    """(line number, query id, document id, relevance), as they are written."""
    for number, line in enumerate(io.BytesIO(content), 1):
        columns = line.split()
        if not columns:
            continue
        if len(columns) != 4:
            expected = f"4 columns: {TREC} (or BEIR's 3 columns, separated by tabs: query-id corpus-id score)"
            refuse(path, number, f"expected {expected}; found {len(columns)}: {shown(line)}")
        try:
            yield number, columns[0].decode(), columns[2].decode(), columns[3].decode()
        except UnicodeDecodeError:
            refuse(path, number, f"expected UTF-8, found other bytes: {shown(line)}; convert the file (iconv -t UTF-8)")


def _beir_rows(content: bytes, path: Path) -> Iterator[tuple[int, str, str, str]]:
    """The same of BEIR's format. A quoted field may go on in the next line; the number is that of the first."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        refuse(path, line_at(content, error.start), "expected UTF-8, found other bytes; convert the file (iconv -t UTF-8)")
    reader, number, is_first = csv.reader(io.StringIO(text, newline=None), delimiter="\t"), 1, True
    try:
        for row in reader:
            if len(row) == 3 and not is_first:  # nearly all
                yield number, row[0], row[1], row[2]
            elif len(row) > 1 or any(field.strip(WHITE) for field in row):
                if not (is_first and _is_header(row)):
                    yield number, *_three(row, path, number)
                is_first = False
            number = reader.line_num + 1
    except csv.Error as error:
        refuse(path, number, f"expected {BEIR}, found what is no CSV ({error})")


def _is_header(row: list[str]) -> bool:
    words = [re.sub(r"[-_ ]", "", field).lower() for field in row]
    return len(words) == 3 and all(word in known for word, known in zip(words, HEADER, strict=True))


def _three(row: list[str], path: Path, number: int) -> tuple[str, str, str]:
    if len(row) != 3:
        written = "\t".join(row)
        open_quote = "; a field that begins with a quote lacks the one at its end" if "\n" in written else ""
        refuse(path, number, f"expected {BEIR}, found {len(row)} column{'s' * (len(row) != 1)}: {shown(written)}{open_quote}")
    return row[0], row[1], row[2]
