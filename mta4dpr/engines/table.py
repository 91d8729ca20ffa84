"""Stored scores: a Parquet file with a score for each pair of query and passage. A teacher or an assistant; it searches no corpus."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.benchmark import Benchmark, ModelSpec
from mta4dpr.data.corpus import Corpus
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.engines.dense_cost import DenseOptions
from mta4dpr.engines.engine import Engine
from mta4dpr.engines.scorer import Queries, Scorer
from mta4dpr.errors import UserError
from mta4dpr.machine.files import key_of
from mta4dpr.machine.work import Piece
from mta4dpr.retrieval.hits import Hits, best

log = logging.getLogger(__name__)

QUERY_BLOCK = 256  # queries ranked at once


class ScoreTable(Engine):
    """A file of scores under a model's label; `scores` in the YAML names it."""

    noun = "a table of scores"
    needs_model = True
    ranks = False
    options: DenseOptions

    @classmethod
    def options_of(cls, bench: Benchmark, model: ModelSpec | None, own: Mapping[str, Any]) -> DenseOptions:
        """The model of its label, whose `scores` is the file."""
        return DenseOptions.of(bench, model)

    @property
    def identity(self) -> Any:
        """The settings of the label and a hash of the file."""
        return self.place.model_identity(self.options.model)

    def pieces(self, texts: CorpusSize) -> Iterator[Piece]:
        """Nothing to make: the file is there, or is lacking."""
        path = self.options.model.scores
        found = Path(path).is_file()
        yield Piece(f"scores of {self.label}", "cached" if found else "lacking", path if found else f"there is no file {path}")

    def search(self, queries: Sequence[str], k: int) -> Iterator[Hits]:
        """UserError: it holds scores for training queries alone."""
        raise UserError(f"{self.label} is {self.noun}, which cannot search a corpus; it can be a teacher or an assistant")

    def scorer(self, queries: Queries) -> TableScorer:
        """A table does rank the queries that it has scores for."""
        return TableScorer(self.label, Path(self.options.model.scores), queries.ids, self.place.corpus, key_of(self.identity))


class TableScorer(Scorer):
    """Scores from a Parquet file with the columns query, passage, score (ids as text).

    A pair that the table lacks gets the lowest score that the table has for its query; the note counts them. `ids` are those of the
    training queries. Raises UserError where the table lacks a query, has a pair twice, or a score that is no finite number.
    """

    kind, ranks = "score table", True

    def __init__(self, label: str, path: Path, ids: Sequence[str], corpus: Corpus, key: str) -> None:
        self.label, self.key, self._corpus = label, key, corpus
        self._asked = self._missing = 0  # pairs of the last call of `score`
        self._pairs, self._scores, self._floor = _read_table(label, path, ids, corpus)
        self._size = len(corpus)

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """The passages that the table has for each query, by their scores; a list may be shorter than `k`."""
        rows_of, passages = np.divmod(self._pairs, self._size)
        for start in range(0, len(queries), QUERY_BLOCK):
            block = queries[start : start + QUERY_BLOCK]
            low, high = np.searchsorted(rows_of, block), np.searchsorted(rows_of, block + 1)
            flat = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)]).astype(np.int64)
            rows = np.repeat(np.arange(len(block)), high - low)
            yield best(rows, passages[flat], self._scores[flat], queries=len(block), k=k, id_rank=self._corpus.id_rank)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """The scores of the table; its lowest of the query for a pair that it lacks."""
        wanted = queries[:, None].astype(np.int64) * self._size + passages
        place = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        is_there = self._pairs[place] == wanted
        self._asked, self._missing = wanted.size, int((~is_there).sum())
        return np.where(is_there, self._scores[place], self._floor[queries][:, None]).astype(np.float32)

    def note(self) -> str:
        """How many pairs of the last call the table lacks."""
        if not self._missing:
            return ""
        return f"{self._missing:,} of {self._asked:,} pairs are not in its table; each gets its query's lowest score there"


def _read_table(label: str, path: Path, ids: Sequence[str], corpus: Corpus) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(sorted pair keys query * passages + passage, their scores, lowest score of each query)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["query", "passage", "score"])
        queries, passages = (table[name].cast(pa.string()).combine_chunks() for name in ("query", "passage"))
        scores = table["score"].cast(pa.float32()).combine_chunks().to_numpy(zero_copy_only=False)
    except (OSError, pa.ArrowException, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"model {label!r}: {path} is not a Parquet file with the columns query, passage, score ({reason})") from error
    number_of = {query_id: n for n, query_id in enumerate(ids)}

    def numbered(column: pa.StringArray, numbers_of: Callable[[list[str]], Any]) -> np.ndarray:
        """Each distinct id is looked up once: a table has many more rows than ids."""
        distinct = pc.unique(column.fill_null(""))
        numbers = np.array(numbers_of(distinct.to_pylist()), np.int64)
        return numbers[pc.index_in(column.fill_null(""), distinct).to_numpy(zero_copy_only=False)] if len(column) else numbers

    rows = numbered(queries, lambda distinct: [number_of.get(query_id, -1) for query_id in distinct])
    columns = numbered(passages, corpus.numbers)
    known = (rows >= 0) & (columns >= 0)
    if not known.all():
        others = f"{int((rows < 0).sum()):,} of queries that are not trained on, {int((columns < 0).sum()):,} of passages not in the corpus"
        log.info("%s: %s of its table's %s scores are not used: %s", label, f"{int((~known).sum()):,}", f"{len(known):,}", others)
    if not np.isfinite(scores[known]).all():
        raise UserError(f"model {label!r}: {path} has scores that are empty, NaN or infinite; every score must be a finite number")
    pairs, scores = rows[known] * len(corpus) + columns[known], scores[known]
    order = np.argsort(pairs, kind="stable")
    pairs, scores = pairs[order], scores[order]
    if (pairs[1:] == pairs[:-1]).any():
        raise UserError(f"model {label!r}: {path} scores a (query, passage) pair twice")
    floor = np.full(len(ids), np.inf, np.float32)
    np.minimum.at(floor, pairs // len(corpus), scores)
    lacking = [ids[n] for n in np.flatnonzero(np.isinf(floor)).tolist()]
    if lacking:
        raise UserError(
            f"model {label!r}: {path} has no score for {len(lacking):,} of {len(ids):,} training queries, such as {lacking[0]!r}"
        )
    return pairs, scores, floor
