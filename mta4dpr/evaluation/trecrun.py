"""TREC run files: read, checked, ordered and written under one rule.

Inside a query, hits are ordered by score (float32) descending, then by document id descending by UTF-8 bytes: trec_eval's rule. The rank
column of a file is never used, exactly as in trec_eval. This module knows nothing of qrels or measures.

A cleanly delimited file takes the fast path (Arrow's CSV parser). Whatever the fast path does not understand is read again line by line, so
every error names the file and the line, and every file that is legal but untidy (tabs and spaces mixed) is still read.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from mta4dpr.data.records import why_no_id
from mta4dpr.data.text_files import UTF8_MARK, content_of, refuse, shown
from mta4dpr.errors import UserError
from mta4dpr.machine.files import forget_parts, written_aside

if TYPE_CHECKING:
    import pyarrow

COLUMNS = ("query", "iteration", "document", "rank", "score", "tag")
EXPECTED = "expected 6 columns: query Q0 document rank score tag"
BATCH = 32_768
"""Hits hashed or sorted together: few enough to stay in the processor's cache, which is four times as fast as all at once."""


@dataclass(frozen=True, eq=False)
class Run:
    """The hits of all queries, as columns, in ranked order inside a query: 6,980 x 1,000 hits take about 150 MB.

    query_ids   in order of first appearance
    offsets     (queries + 1,) int64: the hits of query i are [offsets[i], offsets[i + 1])
    documents   (hits,) document ids, an Arrow large_string array
    scores      (hits,) float32
    """

    query_ids: list[str]
    offsets: np.ndarray
    documents: pyarrow.Array
    scores: np.ndarray

    @cached_property
    def positions(self) -> dict[str, int]:
        """{query id: its position in `query_ids` and `offsets`}"""
        return {query_id: position for position, query_id in enumerate(self.query_ids)}

    def ranking(self, query_id: str) -> tuple[list[str], np.ndarray]:
        """Document ids and float32 scores of a query, best first; both empty when the run lacks the query."""
        position = self.positions.get(query_id)
        if position is None:
            return [], np.empty(0, np.float32)
        start, end = self.offsets[position], self.offsets[position + 1]
        return self.documents[start:end].to_pylist(), self.scores[start:end]


def run_of(scores: Mapping[str, Mapping[str, float]]) -> Run:
    """A Run from {query id: {document id: score}}, for runs that are in memory already. Queries without hits are left out."""
    hits = _Hits()
    for query_id, documents in scores.items():
        for document, score in documents.items():
            hits.add(query_id, document, score)
    run = _ordered(*hits.columns())
    if not np.isfinite(run.scores).all():
        raise UserError("expected finite scores (float32), found NaN or an infinite score in a run; see what its system computes")
    return run


def read_run(path: Path | str) -> Run:
    """Reads a TREC run, gzipped or not (seen from its first bytes, not from its name).

    Columns are separated by any ASCII white space; blank lines are skipped; lines of a query need not be adjacent; words after the first of
    the tag are passed over, as trec_eval does.
    UserError, with file and line: too few columns, a score that is no finite float32, a document twice for one query, two lines in one.
    """
    path = Path(path)
    content = content_of(path, kind="run")
    run = _read_delimited(content)
    return run if run is not None else _read_lines(content, path)


def rank_order(doc_ids: Sequence[str], scores: np.ndarray) -> np.ndarray:
    """Positions of one query's hits, best first, by the rule above. `scores` is compared as float32; NaN is not allowed."""
    scores = np.asarray(scores, np.float32)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    if (ranked[1:] != ranked[:-1]).all():
        return order
    keys = scores.tolist()  # Python compares strings by code point, which is the order of their UTF-8 bytes
    return np.array(sorted(range(len(keys)), key=lambda i: (keys[i], doc_ids[i]), reverse=True), np.int64)


class RunWriter:
    """Writes a TREC run query by query; the file appears under its name only when the block ends well.

    with RunWriter(path, tag="bm25") as writer:
        writer.write("q1", ["d1", "d2"], np.array([1.5, 2.5]))
    """

    def __init__(self, path: Path | str, tag: str) -> None:
        self.path = Path(path)
        self.tag = _checked_id(tag, "tag")
        self._stack = ExitStack()
        self._file: IO[Any] | None = None
        self._written: set[str] = set()

    def __enter__(self) -> Self:
        forget_parts(self.path)
        self._file = self._stack.enter_context(written_aside(self.path))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        self._file = None
        return self._stack.__exit__(kind, error, trace)

    def write(self, query_id: str, doc_ids: Sequence[str], scores: np.ndarray | Sequence[float]) -> None:
        """Sorts one query's hits by the rule and writes them; ranks count from 1, scores are float32 with 9 significant digits.

        UserError: ids that are empty or hold white space, a document or query twice, NaN or infinite scores. Nothing is written then.
        """
        if self._file is None:
            raise RuntimeError("RunWriter.write outside of its with block")
        with np.errstate(over="ignore"):
            floats = np.asarray(scores, np.float32) + np.float32(0)  # -0.0 becomes 0.0
        if floats.shape != (len(doc_ids),):
            raise ValueError(f"{len(doc_ids)} documents but scores of shape {floats.shape} for query {query_id!r}")
        _checked_id(query_id, "query id")
        for doc_id in doc_ids:
            _checked_id(doc_id, "document id")
        if query_id in self._written:
            problem = f"expected each query once, found {query_id!r} twice while writing {self.path}"
            raise UserError(f"{problem}; look for duplicates in the queries")
        if len(set(doc_ids)) != len(doc_ids):
            twice = next(doc_id for i, doc_id in enumerate(doc_ids) if doc_id in doc_ids[:i])
            raise UserError(f"expected each document once, found {twice!r} twice for query {query_id!r}; look for duplicates in the corpus")
        if not np.isfinite(floats).all():
            bad = int(np.flatnonzero(~np.isfinite(floats))[0])
            raise UserError(
                f"expected finite scores (float32), found {floats[bad]} for query {query_id!r}, document {doc_ids[bad]!r}; "
                "a model that diverged or an overflow in half precision does this"
            )
        self._written.add(query_id)
        values = floats.tolist()
        order = rank_order(doc_ids, floats).tolist()
        self._file.writelines(f"{query_id} Q0 {doc_ids[i]} {rank} {values[i]:.9g} {self.tag}\n" for rank, i in enumerate(order, 1))


def _checked_id(text: str, what: str) -> str:
    """`text`, when it can be a column of a TREC file."""
    if reason := why_no_id(text):
        raise UserError(f"expected a {what} that a TREC run file can hold, found {text!r:.80}: {reason}; rename it")
    return text


def _read_delimited(content: bytes) -> Run | None:
    """The fast path: None when the file is not cleanly delimited or anything is wrong with it."""
    import pyarrow
    from pyarrow import csv

    if b"\r" in content and content.count(b"\r") != content.count(b"\r\n"):
        return None  # Arrow would take a lone carriage return for the end of a line
    if content.startswith(UTF8_MARK):
        return None  # a second one is part of the first id, and Arrow would pass over it
    first_line = content[: content.find(b"\n")]
    types = {column: pyarrow.dictionary(pyarrow.int32(), pyarrow.string()) for column in COLUMNS}
    types |= {"document": pyarrow.large_string(), "score": pyarrow.float64()}
    try:
        table = csv.read_csv(
            pyarrow.BufferReader(content),
            read_options=csv.ReadOptions(column_names=list(COLUMNS), block_size=16 << 20),
            parse_options=csv.ParseOptions(delimiter="\t" if b"\t" in first_line else " ", quote_char=False, double_quote=False),
            convert_options=csv.ConvertOptions(
                column_types=types,
                null_values=[],  # "NA", "null" and "" are words like any other
                strings_can_be_null=False,
            ),
        )
        words = {column: table[column].unify_dictionaries().combine_chunks() for column in ("query", "iteration", "rank", "tag")}
        documents = table["document"].combine_chunks()
    except pyarrow.ArrowException:
        return None
    if not all(_all_single_words(values) for values in (*(column.dictionary for column in words.values()), documents)):
        return None
    with np.errstate(over="ignore"):
        scores = table["score"].to_numpy().astype(np.float32)
    if not np.isfinite(scores).all():
        return None
    run = _ordered(words["query"].dictionary.to_pylist(), words["query"].indices.to_numpy(), documents, scores)
    return None if _any_duplicate(run) else run


def _all_single_words(words: pyarrow.Array) -> bool:
    """Whether no value is empty or holds ASCII white space (then two separators met, or another one than the delimiter was used)."""
    import pyarrow.compute as pc

    if pc.min(pc.binary_length(words)).as_py() == 0:
        return False
    letters = words.buffers()[2].to_pybytes()  # one scan of the bytes is ten times as fast as a pattern on each word
    return not any(separator in letters for separator in b" \t\n\r\v\f")


def _read_lines(content: bytes, path: Path) -> Run:
    """The exact path: any ASCII white space, and errors that name the line."""
    hits = _Hits()
    lines: array[int] = array("q")
    for number, line in enumerate(io.BytesIO(content), 1):
        columns = line.split()
        if not columns:
            continue
        if len(columns) < len(COLUMNS):
            refuse(path, number, f"{EXPECTED}; found {len(columns)}: {shown(line)}")
        if len(columns) > len(COLUMNS) and (reason := _not_only_a_long_tag(columns, line)):
            refuse(path, number, f"{EXPECTED}; found {len(columns)}, as if {reason}: {shown(line)}")
        try:
            query_id, document = columns[0].decode(), columns[2].decode()
        except UnicodeDecodeError:
            refuse(path, number, f"expected UTF-8, found other bytes: {shown(line)}; convert the file (iconv -t UTF-8)")
        try:
            score = float(columns[4].replace(b"_", b"?"))  # Python's float takes 1_000, no other reader of runs does
        except ValueError:
            refuse(path, number, f"expected a number as score (column 5), found {shown(columns[4])}; {EXPECTED}")
        if not abs(score) < 3.4028235677973366e38:  # from here on a float32 is infinite
            problem = f"expected a finite score (float32), found {shown(columns[4])}"
            refuse(path, number, f"{problem}; remove the line or fix the system that wrote it")
        hits.add(query_id, document, score)
        lines.append(number)
    again = hits.first_duplicate()
    if again is not None:
        query_id, document = list(hits.query_codes)[hits.queries[again]], list(hits.document_codes)[hits.hits[again]]
        problem = f"expected each document once a query, found {document!r} again for query {query_id!r}"
        refuse(path, lines[again], f"{problem}; keep one of the lines")
    return _ordered(*hits.columns())


def _not_only_a_long_tag(columns: list[bytes], line: bytes) -> str:
    """What may be wrong with a line of more than 6 columns; '' when its tag has several words, of which trec_eval reads the first.

    trec_eval passes over all the rest, so it would lose hits, and take ranks for scores, without a word.
    """
    if b"\r" in line.rstrip() or b"Q0" in columns[len(COLUMNS) :]:
        return "lines were run together; end each with LF"
    if not columns[3].isdigit() or _is_number(columns[5]):
        return "an id had white space; rename it"
    return ""


def _is_number(column: bytes) -> bool:
    try:
        float(column)
    except ValueError:
        return False
    return True


class _Hits:
    """Hits gathered one by one, as codes."""

    def __init__(self) -> None:
        self.query_codes: dict[str, int] = {}
        self.document_codes: dict[str, int] = {}
        self.queries, self.hits, self.scores = array("i"), array("i"), array("d")

    def add(self, query_id: str, document: str, score: float) -> None:
        self.queries.append(self.query_codes.setdefault(query_id, len(self.query_codes)))
        self.hits.append(self.document_codes.setdefault(document, len(self.document_codes)))
        self.scores.append(score)

    def columns(self) -> tuple[list[str], np.ndarray, pyarrow.Array, np.ndarray]:
        """Distinct query ids, and of each hit: the position of its query, its document, its score."""
        import pyarrow

        documents = pyarrow.array(list(self.document_codes), pyarrow.large_string()).take(np.array(self.hits, np.int32))
        with np.errstate(over="ignore"):
            scores = np.array(self.scores).astype(np.float32)
        return list(self.query_codes), np.array(self.queries, np.int32), documents, scores

    def first_duplicate(self) -> int | None:
        """Position of the first hit that repeats an earlier (query, document); None when there is none."""
        pairs = np.array(self.queries, np.int64) * len(self.document_codes) + np.array(self.hits)
        order = np.argsort(pairs, kind="stable")
        again = order[1:][pairs[order][1:] == pairs[order][:-1]]
        return int(again.min()) if len(again) else None


def _any_duplicate(run: Run) -> bool:
    """Whether a query has a document twice. Looks at some whole queries at a time."""
    first = 0
    while first < len(run.query_ids):
        after = max(first + 1, int(np.searchsorted(run.offsets, run.offsets[first] + BATCH, side="right")) - 1)
        start, end = int(run.offsets[first]), int(run.offsets[after])
        codes = run.documents[start:end].dictionary_encode().indices.to_numpy()
        queries = np.repeat(np.arange(after - first), np.diff(run.offsets[first : after + 1]))
        pairs = np.sort(queries * (end - start) + codes)
        if (pairs[1:] == pairs[:-1]).any():
            return True
        first = after
    return False


def _ordered(query_ids: list[str], queries: np.ndarray, documents: pyarrow.Array, scores: np.ndarray) -> Run:
    """Groups hits by query and orders them by the rule. Most files come nearly in order: only what is not is sorted."""
    scores = scores + np.float32(0)  # -0.0 becomes 0.0
    same_query = queries[1:] == queries[:-1]
    if (queries[1:] < queries[:-1]).any() or (same_query & (scores[1:] > scores[:-1])).any():
        order = np.lexsort((-scores, queries))
        queries, documents, scores = queries[order], documents.take(order), scores[order]
        same_query = queries[1:] == queries[:-1]
    documents = _ties_ordered(same_query & (scores[1:] == scores[:-1]), documents)
    offsets = np.searchsorted(queries, np.arange(len(query_ids) + 1), side="left").astype(np.int64)
    return Run(query_ids, offsets, documents, scores)


def _ties_ordered(ties_with_previous: np.ndarray, documents: pyarrow.Array) -> pyarrow.Array:
    """`documents` with each stretch of equal scores ordered by id, descending by bytes (Arrow compares strings by bytes)."""
    import pyarrow.compute as pc

    if not ties_with_previous.any():
        return documents
    starts = np.concatenate(([True], ~ties_with_previous))  # (hits,): a stretch begins here
    tied = np.flatnonzero(~starts | np.concatenate((~starts[1:], [False])))
    stretch = np.cumsum(starts)[tied]
    order = np.arange(len(documents))
    first = 0
    while first < len(tied):  # some whole stretches at a time
        after = int(np.searchsorted(stretch, stretch[min(first + BATCH, len(tied)) - 1], side="right"))
        some = tied[first:after]
        rank = np.empty(len(some), np.int64)
        rank[pc.array_sort_indices(documents.take(some)).to_numpy()] = np.arange(len(some))
        order[some] = some[np.lexsort((-rank, stretch[first:after]))]
        first = after
    return documents.take(order)
