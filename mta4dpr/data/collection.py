"""Where texts, queries and judgements come from: ir_datasets, a folder in BEIR's format, or docstrings.

Every source yields plain records, one at a time; nothing here holds a corpus. What is made of them (stores,
indexes, vectors) is not known here.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mta4dpr.data.docstrings import Docstrings
from mta4dpr.data.downloads import JUDGEMENTS, PASSAGES, QUERIES, corpus_id, docs_path
from mta4dpr.data.judgements import read_qrels
from mta4dpr.data.records import HIGHEST_GRADE, LEAST_GRADE, Passage, Qrel, why_no_id
from mta4dpr.data.text_files import numbered_lines, refuse, shown
from mta4dpr.errors import EnvironmentLack, UserError, nearest

log = logging.getLogger(__name__)

# Cranfield as ir_datasets gives it: 1 is best, 4 is least, -1 is "of no interest" (its own definitions are inverted)
CRANFIELD_RELEVANCE = {1: 4, 2: 3, 3: 2, 4: 1, -1: 0}
# BEIR's convention: these collections hold their queries as passages
EXCLUDE_SELF = ("beir/arguana", "beir/quora")
# ir_datasets splits these at tabs and leaves CSV's quotes in the fields; DPR reads them as CSV
CSV_QUOTED = ("dpr-w100",)
# a query's id is its place in its own file: the same id in two files means nothing
NUMBERED_QUERIES = ("dpr-w100",)


class Source(Protocol):
    """A collection that can be read: passages, and query sets with judgements.

    identity       JSON that names the texts and where they are; stores are kept under it
    exclude_self   whether a passage with its query's id is no hit (BEIR's convention where queries are passages too)
    notes          sentences that stand beside every table made from it
    """

    identity: dict[str, Any]
    exclude_self: bool
    notes: list[str]

    def files(self) -> list[list[Any]]:
        """[path, bytes, modification time in ns] of the files that hold the passages, as far as they are known and there."""
        ...

    def passages(self) -> Iterator[Passage]:
        """All passages in the collection's order. EnvironmentLack when they cannot be downloaded, UserError when a file is malformed."""
        ...

    def queries(self, query_set: str) -> Iterator[tuple[str, str]]:
        """(query id, text) of a query set, judged or not. UserError when the collection has no such set."""
        ...

    def qrels(self, query_set: str) -> Iterator[Qrel]:
        """The judgements of a query set. UserError when the collection has no such set."""
        ...

    def expected_passages(self) -> int | None:
        """The number of passages if it is known without reading them."""
        ...


@dataclass
class QuerySet:
    """Queries with judgements.

    texts       {query id: text}
    qrels       {query id: {passage id: relevance}}
    counts      what was dropped or mapped, one sentence each
    answers     {question id: its answers}, of a set that is judged by answers; its qrels name no passage
    namespace   two sets share a query where id and namespace are the same
    """

    id: str
    texts: dict[str, str]
    qrels: dict[str, dict[str, int]]
    counts: list[str] = field(default_factory=list)
    answers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    namespace: str = ""


def judged_by_answers(source: Source, query_set: str) -> bool:
    """Whether a passage of that set counts when its text has an answer, rather than by judgements of passages."""
    return isinstance(source, IrDataset) and source.has_answers(query_set)


def load_qrels(source: Source, query_set: str, *, least: int | None = None) -> tuple[dict[str, dict[str, int]], list[str]]:
    """{query id: {passage id: relevance}}, and what a reader should know of them. UserError when there are none.

    Judgements below `least` are not kept, their queries are: DPR's training set has 8.9 million lines, 95 % of them negatives.
    """
    qrels: dict[str, dict[str, int]] = {}
    for line in source.qrels(query_set):
        judged = qrels.setdefault(line.query_id, {})
        if least is not None and line.relevance < least:
            continue
        if not LEAST_GRADE <= line.relevance <= HIGHEST_GRADE:
            raise UserError(
                f"{query_set}: expected a relevance from {LEAST_GRADE} to {HIGHEST_GRADE} (trec_eval's bounds), found {line.relevance} for "
                f"query {line.query_id!r}, passage {line.passage_id!r}; map the grades to smaller ones"
            )
        if judged.setdefault(line.passage_id, line.relevance) != line.relevance:
            raise UserError(
                f"{query_set}: passage {line.passage_id!r} is judged twice for query {line.query_id!r}, with relevance "
                f"{judged[line.passage_id]} and {line.relevance}; keep one of the two lines"
            )
    if not qrels:
        raise UserError(f"{query_set} has no judgements (qrels); expected at least one query with one judged passage")
    inverted = isinstance(source, IrDataset) and query_set.split("/")[0] == "cranfield"
    return qrels, [f"{query_set}: Cranfield's codes run from 1 (best) to 4; mapped 1→4, 2→3, 3→2, 4→1, -1→0"] if inverted else []


def load_query_set(source: Source, query_set: str, *, least: int | None = None) -> QuerySet:
    """The queries with at least one judgement (trec_eval -c), or with answers. UserError when there is none."""
    answers: dict[str, tuple[str, ...]] = {}
    if isinstance(source, IrDataset) and source.has_answers(query_set):
        answers = source.answers(query_set)
        qrels, counts = {query_id: dict[str, int]() for query_id in answers}, list[str]()
    else:
        qrels, counts = load_qrels(source, query_set, least=least)
    texts: dict[str, str] = {}
    unjudged = 0
    for query_id, text in source.queries(query_set):
        if reason := why_no_id(query_id):
            raise UserError(f"{query_set}: a query has the id {query_id!r:.80}, which a TREC run file cannot hold: {reason}; rename it")
        if query_id in texts:
            raise UserError(f"{query_set}: query id {query_id!r} occurs twice; ids must be unique")
        if query_id in qrels:
            texts[query_id] = text.encode("utf-8", "replace").decode()  # a lone surrogate is no text for a tokenizer
        else:
            unjudged += 1
    without_text = [query_id for query_id in qrels if query_id not in texts]
    if not texts:
        raise UserError(
            f"{query_set}: none of its {unjudged} queries is judged; the judgements name queries such as {without_text[0]!r}. "
            "Check that both files use the same query ids"
        )
    if without_text:
        counts.append(f"{query_set}: {len(without_text)} judged queries have no text (such as {without_text[0]!r}); they score 0")
    if unjudged:
        log.debug("%s: %d queries without judgements are left out", query_set, unjudged)
    namespace = source.namespace(query_set) if isinstance(source, IrDataset) else ""
    return QuerySet(query_set, texts, qrels, counts, answers, namespace)


def _stat(path: Path) -> list[list[Any]]:
    path = path.resolve()
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns]] if path.exists() else []


# --- ir_datasets ---------------------------------------------------------------------------------------------------


class IrDataset:
    """A collection of ir_datasets, by the id of its corpus or of any of its query sets."""

    notes: list[str] = []  # noqa: RUF012

    def __init__(self, dataset_id: str) -> None:
        self.id = dataset_id
        self._dataset = self._load(dataset_id)
        if not self._dataset.has_docs():
            raise UserError(f"ir_datasets has no passages for {dataset_id!r}; give an id with docs, such as beir/nfcorpus")
        self.exclude_self = dataset_id.startswith(EXCLUDE_SELF)
        import ir_datasets

        from mta4dpr.data import questions

        self.identity = {
            "ir_datasets": questions.CORPUS if dataset_id in questions.DOWNLOADS else corpus_id(dataset_id),
            "version": importlib.metadata.version("ir_datasets"),
            "home": str(ir_datasets.util.home_path()),
        }

    @staticmethod
    def _load(dataset_id: str) -> Any:
        import ir_datasets

        from mta4dpr.data import questions

        questions.register()
        try:
            return ir_datasets.load(dataset_id)
        except KeyError as error:
            known = [str(name) for name in ir_datasets.registry]
            raise UserError(
                f"ir_datasets knows no {dataset_id!r}{nearest(dataset_id, known)}; its ids are listed at ir-datasets.com"
            ) from error

    def files(self) -> list[list[Any]]:
        """The file that holds the passages, if ir_datasets has it already; nothing is downloaded to find out."""
        path = docs_path(self._dataset)
        return _stat(path) if path else []

    def expected_passages(self) -> int | None:
        """The count in ir_datasets' metadata; None where it has none."""
        count = _metadata(self.identity["ir_datasets"], PASSAGES).get("count")
        return None if count is None else int(count)

    def expected_queries(self, query_set: str) -> tuple[int, int]:
        """(queries, judgements of at least 1) as far as they are known without reading them; 0 where they are not."""
        judgements = _metadata(query_set, JUDGEMENTS)
        by_value = judgements.get("fields", {}).get("relevance", {}).get("counts_by_value")
        positive = sum(n for value, n in by_value.items() if int(value) >= 1) if by_value else judgements.get("count", 0)
        return int(_metadata(query_set, QUERIES).get("count", 0)), int(positive)

    def parts(self, query_set: str = "") -> list[tuple[Any, list[str]]]:
        """(ir_datasets' dataset, parts of it) that a run reads: the passages, or queries and judgements of that set."""
        return [(self._load(query_set), [QUERIES, JUDGEMENTS])] if query_set else [(self._dataset, [PASSAGES])]

    def passages(self) -> Iterator[Passage]:
        """Passages as ir_datasets reads them; its first use downloads the files.

        A data set whose documents have no field `text` gives all their fields joined as the text, without a title.
        """
        with lacking_download(self.id):
            documents = iter(self._dataset.docs_iter())
            while True:
                document = next(documents, None)
                if document is None:
                    return
                if hasattr(document, "text"):
                    title, text = getattr(document, "title", None) or "", document.text or ""
                    if self.identity["ir_datasets"] in CSV_QUOTED:
                        title, text = _unquoted(title), _unquoted(text)
                    yield Passage(document.doc_id, title, text)
                else:  # default_text holds the title already
                    yield Passage(document.doc_id, "", document.default_text() or "")

    def queries(self, query_set: str) -> Iterator[tuple[str, str]]:
        """(query id, text) of the queries of any of ir_datasets' data sets. UserError for one without queries."""
        dataset = self._load(query_set)
        if not dataset.has_queries():
            raise UserError(f"ir_datasets has no queries for {query_set!r}; give an id with queries, such as {query_set}/test")
        with lacking_download(query_set):
            for query in dataset.queries_iter():
                yield query.query_id, (query.text if hasattr(query, "text") else query.default_text()) or ""

    def has_answers(self, query_set: str) -> bool:
        """Whether its questions come with answers and without judgements."""
        from mta4dpr.data import questions

        return query_set in questions.DOWNLOADS

    def answers(self, query_set: str) -> dict[str, tuple[str, ...]]:
        """{question id: its answers} of a set for which `has_answers` is true."""
        with lacking_download(query_set):
            return {query.query_id: tuple(query.answers) for query in self._load(query_set).queries_iter()}

    def namespace(self, query_set: str) -> str:
        """What query ids belong to: the same id in the same namespace is the same query."""
        corpus = str(self.identity["ir_datasets"])
        return query_set if corpus in NUMBERED_QUERIES else corpus

    def qrels(self, query_set: str) -> Iterator[Qrel]:
        """Judgements of any of ir_datasets' data sets; Cranfield's codes become grades. UserError for one without judgements."""
        dataset = self._load(query_set)
        if not dataset.has_qrels():
            raise UserError(
                f"ir_datasets has no judgements for {query_set!r}; give an id with docs, queries and qrels, such as beir/nfcorpus/test"
            )
        mapping = CRANFIELD_RELEVANCE if query_set.split("/")[0] == "cranfield" else {}
        with lacking_download(query_set):
            for line in dataset.qrels_iter():
                yield Qrel(line.query_id, line.doc_id, mapping.get(line.relevance, line.relevance))


def _unquoted(field: str) -> str:
    """A field of a CSV file as it was before quoting."""
    return field[1:-1].replace('""', '"') if len(field) > 1 and field[0] == field[-1] == '"' else field


def _metadata(dataset_id: str, part: str) -> dict[str, Any]:
    """What ir_datasets knows of a part without its files. (`dataset.docs_metadata()` would start to migrate files.)"""
    from ir_datasets.util import default_metadata_provider

    return dict(default_metadata_provider.get_metadata(dataset_id, part))


class lacking_download:  # noqa: N801 (reads as a phrase in `with`)
    """A `with` block around reading from ir_datasets: a failed download becomes EnvironmentLack, which says what to do about it."""

    def __init__(self, dataset_id: str) -> None:
        self.dataset_id = dataset_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if error is None or isinstance(error, UserError | GeneratorExit | KeyboardInterrupt):
            return
        import ir_datasets

        if isinstance(error, ImportError):  # it says itself which of its extras is lacking
            raise EnvironmentLack(f"ir_datasets cannot read {self.dataset_id} without another package: {error}") from error
        if isinstance(error, ValueError | IndexError | AssertionError | zlib.error):  # lines that it could not split, numbers that are none
            raise EnvironmentLack(
                f"ir_datasets cannot read the files of {self.dataset_id} that are here ({type(error).__name__}: {error!s:.200}); remove "
                f"them below {ir_datasets.util.home_path()}, and they are brought again"
            ) from error
        if isinstance(error, OSError | RuntimeError | EOFError) or type(error).__module__.startswith(("requests", "urllib3")):
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise EnvironmentLack(
                f"ir_datasets could not bring the files of {self.dataset_id}: {reason}. They are downloaded on first use into "
                f"{ir_datasets.util.home_path()}; check the network, or set IR_DATASETS_HOME to a folder that has them"
            ) from error


# --- a folder in BEIR's format -------------------------------------------------------------------------------------


class BeirFolder:
    """A collection in a folder: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv, each gzipped or not. UserError without a corpus."""

    exclude_self = False
    notes: list[str] = []  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self._corpus = self._file("corpus.jsonl")
        self.identity = {"folder": str(folder.resolve())}

    def files(self) -> list[list[Any]]:
        """The file of the passages with its size and time, by which corpus.py sees that it has changed."""
        return _stat(self._corpus)

    def _file(self, name: str) -> Path:
        for path in (self.folder / name, self.folder / f"{name}.gz"):
            if path.is_file():
                return path
        raise UserError(
            f"{self.folder} has no {name} or {name}.gz; a folder in BEIR's format holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"
        )

    def splits(self) -> list[str]:
        """Names of the query sets, from the files in qrels/: train, dev, test."""
        return sorted({path.name.split(".tsv")[0] for path in (self.folder / "qrels").glob("*.tsv*")})

    def expected_passages(self) -> int | None:
        """None: only reading the file tells."""
        return None

    def _records(self, path: Path) -> Iterator[dict[str, Any]]:
        """Objects with `_id` and `text`, both text. A whole number as `_id` is taken for its digits, as BEIR's exports have it."""
        for number, line in numbered_lines(path, kind="JSON lines"):
            try:
                pairs = json.loads(line, object_pairs_hook=tuple)  # a tuple is an object, a list an array
                if not isinstance(pairs, tuple):
                    raise ValueError("not an object")
                record = dict(pairs)
                if len(record) < len(pairs):
                    raise ValueError("a key occurs twice")
                if type(record["_id"]) not in (str, int) or not isinstance(record["text"], str):
                    raise ValueError("_id and text must be strings")
                if not isinstance(record.get("title") or "", str):
                    raise ValueError("title must be a string")
                record["_id"] = str(record["_id"])
                if reason := why_no_id(record["_id"]):
                    raise ValueError(f"the _id {shown(record['_id'])} cannot be used: {reason}")
            except (ValueError, KeyError, RecursionError) as error:
                refuse(path, number, f'expected {{"_id": ..., "text": ...}} as one JSON object, found {shown(line)} ({error})')
            yield record

    def passages(self) -> Iterator[Passage]:
        """Passages in the order of corpus.jsonl. UserError with the line for one that is no passage."""
        for record in self._records(self._corpus):
            yield Passage(record["_id"], record.get("title") or "", record["text"])

    def queries(self, query_set: str) -> Iterator[tuple[str, str]]:
        """(query id, text) of every line of queries.jsonl, which holds the queries of all splits."""
        for record in self._records(self._file("queries.jsonl")):
            yield record["_id"], record["text"]

    def qrels(self, query_set: str) -> Iterator[Qrel]:
        """Judgements of SPLIT or FOLDER/SPLIT from qrels/SPLIT.tsv. UserError for another folder, an unknown split, a bad line."""
        folder, _, split = query_set.rpartition("/")
        if folder not in ("", self.name) and Path(folder).resolve() != self.folder.resolve():
            raise UserError(f"{query_set} is not in the corpus's folder {self.folder}; write {self.name}/{split}")
        if split not in self.splits():
            raise UserError(f"{self.folder} has no qrels/{split}.tsv; its splits: {', '.join(self.splits()) or 'none'}")
        for query_id, judged in read_qrels(self._file(f"qrels/{split}.tsv"), beir=True).items():
            yield from (Qrel(query_id, passage_id, relevance) for passage_id, relevance in judged.items())


def open_source(corpus: str, *, name: str, max_passages: int | None) -> Source:
    """The source that a benchmark's `corpus` names: `docstrings`, a folder, or an id of ir_datasets.

    `name` is the benchmark's and `max_passages` its limit; only docstrings use them. UserError for a folder or an id that is not there.
    """
    if corpus == "docstrings":
        return Docstrings(name, max_passages)
    if os.path.isdir(corpus):  # Path's own raises for a name that is too long
        return BeirFolder(Path(corpus))
    if corpus.startswith((".", "/")):
        raise UserError(f"there is no folder {corpus}; a collection is a folder in BEIR's format or an ir_datasets id")
    return IrDataset(corpus)
