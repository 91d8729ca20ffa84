"""Approximate dense search by FAISS: HNSW and IVF-PQ over kept vectors, by inner product, and how much of exact search they find.

HNSW searches the kept vectors themselves (float16 ones as such), so its scores are theirs; IVF-PQ's scores are those of its codes.
An index lies beside its vectors and is named by what it is built with:

    vectors/KEY/hnsw-KEY/index      a FAISS file
    vectors/KEY/hnsw-KEY/about.json
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.options import DenseSettings
from mta4dpr.data.columns import blocks
from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.files import key_of, read_json, write_json
from mta4dpr.machine.kept import is_whole, sealed_folder
from mta4dpr.machine.locks import lock_beside
from mta4dpr.machine.progress import track
from mta4dpr.retrieval.exact import PASSAGE_BLOCK, QUERY_BLOCK, ExactIndex
from mta4dpr.retrieval.hits import Hits, best
from mta4dpr.retrieval.vectors import Vectors

log = logging.getLogger(__name__)

DETERMINISTIC_UP_TO = 1_000_000  # vectors; beyond, one thread takes too long
ROWS_OF_A_LIST = 64  # vectors that k-means sees for each list
CODE_WORDS, POINTS_OF_A_WORD = 256, 39  # values of a byte of a code, and vectors that FAISS wants to see for each


class ApproximateIndex:
    """A FAISS index that is open; `about` says how it was built."""

    def __init__(self, folder: Path, corpus: Corpus, settings: DenseSettings, threads: int) -> None:
        import faiss

        self.file, self.about = folder / "index", read_json(folder / "about.json")
        self._corpus, self._settings, self._threads = corpus, settings, threads
        self._index: Any = faiss.read_index(str(self.file))
        assert self._index.metric_type == faiss.METRIC_INNER_PRODUCT, self.file
        if settings.index == "ivfpq":
            faiss.extract_index_ivf(self._index).nprobe = settings.ivf_probes

    @property
    def bytes(self) -> int:
        """Bytes of the FAISS file."""
        return self.file.stat().st_size

    def search(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Hits of query vectors (queries, dimensions), QUERY_BLOCK queries at a time, in the one order."""
        import faiss

        faiss.omp_set_num_threads(self._threads)
        if self._settings.index == "hnsw":
            self._index.hnsw.efSearch = max(self._settings.hnsw_ef_search, k)
        wanted = min(k, self._index.ntotal)
        for rows in blocks(len(queries), QUERY_BLOCK):
            padded = np.zeros((QUERY_BLOCK, queries.shape[1]), np.float32)  # FAISS, too, takes other ways for other numbers of queries
            padded[: rows.stop - rows.start] = queries[rows]
            scores, passages = (array[: rows.stop - rows.start] for array in self._index.search(padded, wanted))
            row, column = np.nonzero(passages >= 0)
            yield best(row, passages[row, column], scores[row, column], queries=len(passages), k=k, id_rank=self._corpus.id_rank)


def build(vectors: Vectors, settings: DenseSettings, threads: int, *, again: bool = False) -> Path:
    """The FAISS index of those vectors, made on first use (or `again`) and kept beside them; returns its folder."""
    import faiss

    repeatable, folder = is_repeatable(settings, len(vectors)), index_folder(vectors.folder, settings, len(vectors))
    with lock_beside(folder):
        if is_whole(folder, otherwise="it is built again") and not again:
            return folder
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1 if repeatable else threads)
        try:
            index = _hnsw(vectors, settings) if settings.index == "hnsw" else _ivfpq(vectors, settings)
            label = f"build {settings.index}" + (" with one thread" if repeatable else "")
            for _, block in track(vectors.blocks(PASSAGE_BLOCK // 16), label, "blocks", total=-(-len(vectors) // (PASSAGE_BLOCK // 16))):
                index.add(block)
        finally:
            faiss.omp_set_num_threads(before)
        with sealed_folder(folder) as aside:
            try:
                faiss.write_index(index, str(aside / "index"))
            except RuntimeError as error:  # faiss has no OSError of its own
                raise EnvironmentLack(
                    f"the FAISS index cannot be written to {folder} ({' '.join(str(error).split())}); free some space"
                ) from error
            learnt = {"ivf_lists": index.nlist, "pq_bytes": index.pq.M} if settings.index == "ivfpq" else {}
            write_json(aside / "about.json", {**_built_with(settings), **learnt, "reproducible": repeatable, "vectors": len(vectors)})
    return folder


def index_folder(vectors: Path, settings: DenseSettings, size: int) -> Path:
    """Where the index over so many vectors of that folder is, or would be."""
    import faiss

    return vectors / f"{settings.index}-{key_of([_built_with(settings), is_repeatable(settings, size), faiss.__version__])}"


def is_repeatable(settings: DenseSettings, size: int) -> bool:
    """Whether one thread builds it, so that it can be repeated bit for bit."""
    return size <= DETERMINISTIC_UP_TO if settings.deterministic is None else settings.deterministic


def _built_with(settings: DenseSettings) -> dict[str, Any]:
    searched_with = ("hnsw_ef_search", "ivf_probes", "deterministic")
    return {name: value for name, value in settings.of_search().items() if name not in searched_with}


def expected_bytes(settings: DenseSettings, size: int, dimensions: int) -> float:
    """Of the FAISS file over so many vectors, and of the same index in memory.

    hnsw: the vectors, 2m neighbours of each below and, of one in m, m more a level above, all of 4 bytes. ivfpq: codes and 8-byte
    numbers, the lists' centres, the words of the codes.
    """
    if settings.index == "hnsw":
        m, item = settings.hnsw_m, 2 if settings.dtype == "float16" else 4
        return size * (item * dimensions + 8 * m + 4 * m / (m - 1) + 12)
    centres = 4 * dimensions * (_list_count(settings, size) + CODE_WORDS)
    return float(size * (_code_bytes(settings, dimensions) + 8) + centres)


def learning_bytes(settings: DenseSettings, size: int, dimensions: int) -> float:
    """Of the vectors in memory that codes and lists are learnt from."""
    return 0.0 if settings.index == "hnsw" else 8.0 * dimensions * -(-size // _learn_from_every(settings, size))


def building_work(settings: DenseSettings, size: int, dimensions: int) -> float:
    """What building takes: for hnsw, products of vectors up to a factor; for ivfpq, operations of matrix products."""
    if settings.index == "hnsw":
        return float(size) * dimensions * settings.hnsw_ef_construction
    lists, learnt = _list_count(settings, size), -(-size // _learn_from_every(settings, size))
    return 2.0 * dimensions * (10 * learnt * lists + 25 * min(learnt, CODE_WORDS * CODE_WORDS) * CODE_WORDS + size * (lists + CODE_WORDS))


def _hnsw(vectors: Vectors, settings: DenseSettings) -> Any:
    import faiss

    index: Any
    if vectors.array.dtype == np.float16:
        kind: Any = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexHNSWSQ(vectors.dimensions, kind, settings.hnsw_m, faiss.METRIC_INNER_PRODUCT)
        index.train(np.zeros((1, vectors.dimensions), np.float32))  # 16-bit floats have nothing to learn
    else:
        index = faiss.IndexHNSWFlat(vectors.dimensions, settings.hnsw_m, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = settings.hnsw_ef_construction
    return index


def _ivfpq(vectors: Vectors, settings: DenseSettings) -> Any:
    import faiss

    size, dimensions = len(vectors), vectors.dimensions
    if size < CODE_WORDS:
        raise UserError(f"ivfpq learns its codes from at least {CODE_WORDS} passages, found {size}; set dense.index to flat or hnsw")
    lists = _list_count(settings, size)
    if lists > size:
        raise UserError(f"dense.ivf_lists ({lists}) is more than the {size} passages; set it to less, or to 0")
    code = _code_bytes(settings, dimensions)
    if dimensions % code:
        raise UserError(
            f"dense.pq_bytes ({code}) must divide the {dimensions} dimensions of the vectors; set it to another number, or to 0"
        )
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dimensions), dimensions, lists, code, 8, faiss.METRIC_INNER_PRODUCT)
    step = _learn_from_every(settings, size)
    for clustering in (index.cp, index.pq.cp):
        clustering.min_points_per_centroid = 1  # FAISS would warn on standard error, once for every byte of a code
    if size < POINTS_OF_A_WORD * CODE_WORDS:
        log.warning("ivfpq: codes learnt from only %d passages may be poor; flat is fast enough for so few", size)
    log.info("ivfpq: %d lists, codes of %d bytes, learnt from %d of %d vectors", lists, code, -(-size // step), size)
    index.train(vectors.rows(np.arange(0, size, step)))
    return index


def _list_count(settings: DenseSettings, size: int) -> int:
    return settings.ivf_lists or max(1, min(round(4 * size**0.5), size // ROWS_OF_A_LIST))


def _learn_from_every(settings: DenseSettings, size: int) -> int:
    """The distance between two vectors that lists and codes are learnt from."""
    return max(1, size // max(_list_count(settings, size) * ROWS_OF_A_LIST, 2 * POINTS_OF_A_WORD * CODE_WORDS))


def _code_bytes(settings: DenseSettings, dimensions: int) -> int:
    return settings.pq_bytes or max(n for n in range(1, max(2, dimensions // 4 + 1)) if dimensions % n == 0)


def recall(approximate: ApproximateIndex, exact: ExactIndex, queries: np.ndarray, k: int) -> float:
    """The share of exact search's k passages that the index finds, mean over the queries."""
    shares = []
    for found, wanted in zip(approximate.search(queries, k), exact.search(queries, k), strict=True):
        for row, expected in zip(found.passages, wanted.passages, strict=True):
            shares.append(np.isin(expected[expected >= 0], row).mean())
    return float(np.mean(shares))
