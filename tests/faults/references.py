"""Readers of the formats, written anew after trec_eval's get_trec_results.c and get_qrels.c, BEIR's GenericDataLoader, and PyYAML.

Each gives a value, or raises Odd for what it may not, or would rather not, read. They know nothing of ours.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import ir_measures
import numpy as np
import pytrec_eval
import yaml

WHITE = b" \t\n\v\f\r"  # C's isspace()
NO_ID = re.compile("[ \t\n\v\f\r\0\ud800-\udfff]")
Judged = dict[str, dict[str, int]]


class Odd(Exception):
    """A reference's word for what nobody should take as it is."""


def unzipped(content: bytes) -> bytes:
    try:
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, ValueError) as error:
        raise Odd from error


def text_of(content: bytes) -> bytes:
    content = unzipped(content)
    if b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff") or not content.removeprefix(b"\xef\xbb\xbf").strip(WHITE):
        raise Odd
    return content.removeprefix(b"\xef\xbb\xbf")


def decoded(word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise Odd from error


def _lines(content: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Lines that are not blank, and their words, by C's white space."""
    for line in text_of(content).split(b"\n"):
        found = [word for word in re.split(rb"[ \t\v\f\r]+", line) if word]
        if found:
            yield line, found


def run_by_trec_eval(content: bytes) -> dict[str, list[tuple[str, float]]]:
    """Words after the first of the tag are passed over; scores are float32, ties fall by id, descending by bytes."""
    found: dict[str, dict[str, float]] = {}
    for line, words in _lines(content):
        if len(words) < 6:
            raise Odd
        run_together = b"Q0" in words[6:] or b"\r" in line.rstrip(WHITE)
        if len(words) > 6 and (run_together or not words[3].isdigit() or re.match(rb"[-+]?[.\d]", words[5])):
            raise Odd  # an id with white space: trec_eval would take a rank for a score without a word
        if not re.fullmatch(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", words[4]):
            raise Odd  # atof() takes what it can of it
        with np.errstate(over="ignore"):
            score = float(np.float32(float(words[4])))
        query_id, document = decoded(words[0]), decoded(words[2])
        if not math.isfinite(score) or document in found.setdefault(query_id, {}):
            raise Odd
        found[query_id][document] = score
    return {query_id: sorted(hits.items(), key=lambda hit: (hit[1], hit[0].encode()), reverse=True) for query_id, hits in found.items()}


def _judged(rows: Iterator[tuple[str, str, str]]) -> Judged:
    """Grades that atol() and int() read alike, within trec_eval's bounds."""
    found: Judged = {}
    for query_id, document, grade in rows:
        if not re.fullmatch(r"[-+]?[0-9]+", grade.strip(WHITE.decode())) or len(grade) > 4000 or not -127 <= int(grade) <= 127:
            raise Odd
        if not query_id or not document or NO_ID.search(query_id + document) or max(len(query_id), len(document)) > 1000:
            raise Odd
        if found.setdefault(query_id, {}).setdefault(document, int(grade)) != int(grade):
            raise Odd
    if not found:
        raise Odd
    return found


def qrels_by_trec_eval(content: bytes) -> Judged:
    """Exactly four words a line."""

    def rows() -> Iterator[tuple[str, str, str]]:
        first = next(line for line in text_of(content).splitlines() if line.strip())
        if len(first.split()) == 4 and first.count(b"\t") == 2:
            raise Odd  # BEIR's three columns, with white space in an id
        for _, words in _lines(content):
            if len(words) != 4:
                raise Odd
            yield decoded(words[0]), decoded(words[2]), decoded(words[3])

    return _judged(rows())


def qrels_by_beir(content: bytes) -> Judged:
    """csv.reader with tabs. BEIR passes over the first row, whatever it says; here it counts unless it is the header."""
    text = decoded(text_of(content))

    def rows() -> Iterator[tuple[str, str, str]]:
        try:
            every = list(csv.reader(io.StringIO(text, newline=None), delimiter="\t", quoting=csv.QUOTE_MINIMAL))
        except csv.Error as error:
            raise Odd from error
        every = [row for row in every if len(row) > 1 or "".join(row).strip(WHITE.decode())]
        for row in every[every[0] == ["query-id", "corpus-id", "score"] :]:
            if len(row) != 3:
                raise Odd
            yield row[0], row[1], row[2]

    return _judged(rows())


def records_by_beir(content: bytes) -> list[dict[str, Any]]:
    """json.loads of each line; what has no id, no text, a key twice, or an id for no TREC file is odd."""
    found = []
    for line in re.split("\r\n|\r|\n", decoded(unzipped(content).removeprefix(b"\xef\xbb\xbf"))):
        if not line.strip():
            continue
        try:
            record, pairs = json.loads(line), json.loads(line, object_pairs_hook=tuple)
        except (ValueError, RecursionError) as error:
            raise Odd from error
        if not isinstance(record, dict) or len(pairs) > len(record) or not isinstance(record.get("text"), str):
            raise Odd
        if type(record.get("_id")) not in (str, int) or not isinstance(record.get("title") or "", str):
            raise Odd
        record["_id"], record["title"] = str(record["_id"]), record.get("title") or ""
        if not record["_id"] or NO_ID.search(record["_id"]) or len(record["_id"]) > 1000:
            raise Odd
        found.append(record)
    return found


def by_other_readers(content: bytes, *, grades: bool) -> list[dict[str, dict[str, float]]]:
    """What pytrec_eval and ir-measures make of a file of plain ASCII: str.split(), int() and float() know more white space and digits."""
    text = text_of(content).decode(errors="replace")
    if re.search("[^\x20-\x7e\t\n]", text):
        return []
    found: list[dict[str, dict[str, float]]] = []
    lines = [line for line in text.split("\n") if line.strip()]
    with suppress(ValueError, AssertionError):  # other numbers of columns, a pair twice
        found.append((pytrec_eval.parse_qrel if grades else pytrec_eval.parse_run)(lines))
    theirs: dict[str, dict[str, float]] = {}
    with suppress(ValueError):
        for record in (ir_measures.read_trec_qrels if grades else ir_measures.read_trec_run)(io.StringIO(text)):
            theirs.setdefault(record.query_id, {})[record.doc_id] = record[2]
        found.append(theirs)
    return [{query_id: {d: float(np.float32(v)) for d, v in of.items()} for query_id, of in one.items() if of} for one in found]


class _Loader(yaml.SafeLoader):
    """safe_load, and two rules on top: 1e-4 is a number, a date is text."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


def by_pyyaml(text: str) -> Any:
    try:
        found = yaml.load(text, _Loader)
        json.dumps(found, allow_nan=False).encode()
    except Exception as error:  # whatever it raises, it is no value
        raise Odd from error
    return found
