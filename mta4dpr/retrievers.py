"""Retrievers of a run's systems: makes what they search, where the cache does not have it, and opens it."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mta4dpr import environment
from mta4dpr.benchmark import ModelSpec
from mta4dpr.errors import UserError
from mta4dpr.files import file_name
from mta4dpr.models.transformer import operations_of, shape_of
from mta4dpr.opened import Run, bytes_of
from mta4dpr.request import System

if TYPE_CHECKING:
    from mta4dpr.models.encoder import Encoder
    from mta4dpr.retrieval.bm25 import Bm25Retriever
    from mta4dpr.retrieval.dense import DenseRetriever
    from mta4dpr.retrieval.vectors import Vectors

log = logging.getLogger(__name__)


def open_retriever(opened: Run, system: System) -> Bm25Retriever | DenseRetriever:
    """The system, ready to search, kept until another one is asked for. Students must have been trained."""
    if system.label not in opened.open_retrievers:
        opened.open_retrievers.clear()
        opened.open_retrievers[system.label] = _open_retriever(opened, system)
    return opened.open_retrievers[system.label]


def _open_retriever(opened: Run, system: System) -> Bm25Retriever | DenseRetriever:
    if system.kind == "lexical":
        return bm25_retriever(opened)
    if system.recipe:
        model = opened.folder / "models" / file_name(system.label)
        if not model.is_dir():
            raise UserError(
                f"{system.label} is not trained in {opened.folder} yet; `mta4dpr-bench run {opened.request.benchmark}` trains it"
            )
        encoder = opened.load_encoder(system.label, ModelSpec(model=str(model)))
        retriever = dense_retriever(opened, encoder, _vectors_of_student(opened, system))
    else:
        assert system.spec is not None
        retriever = dense_retriever(opened, opened.load_encoder(system.label, system.spec), opened.cache, index=system.spec.index)
    if environment.is_main_process():
        _add_indexes(opened, retriever)
    return retriever


def bm25_retriever(opened: Run) -> Bm25Retriever:
    from mta4dpr.retrieval.bm25 import Bm25Retriever, build_index, index_folder

    settings = opened.bench.bm25
    if settings.index:
        from mta4dpr.retrieval.prebuilt import bring, check_lucene, find

        prebuilt = find(settings.index, dense=False, heap=settings.heap)
        folder = bring(prebuilt, offline=opened.request.offline)
    else:
        known, started = (index_folder(opened.cache, opened.corpus) / "mta4dpr.json").exists(), time.perf_counter()
        folder = build_index(opened.cache, opened.corpus, heap=settings.heap, threads=opened.threads)
        if not known:
            opened.rates.note("index", len(opened.corpus), time.perf_counter() - started)
    retriever = Bm25Retriever(folder, opened.corpus, opened.bench.bm25, opened.threads)
    if settings.index:
        check_lucene(retriever, prebuilt, opened.corpus)
    if retriever.not_indexed:
        log.info("bm25: %d of %d passages are empty; Lucene leaves them out", retriever.not_indexed, len(opened.corpus))
    return retriever


def dense_retriever(opened: Run, encoder: Encoder, root: Path, *, index: str = "") -> DenseRetriever:
    """A retriever over the encoder's kept vectors under `root`; encodes the corpus, or copies a prebuilt `index`, if need be."""
    from mta4dpr.data.tokens import tokens_of_corpus
    from mta4dpr.retrieval.dense import DenseRetriever
    from mta4dpr.retrieval.vectors import encode, passages_per_second, stored_vectors, vectors_folder

    reading = encoder.reading
    tokens = tokens_of_corpus(opened.cache, opened.corpus, encoder.tokenizer, prefix=reading.passage_prefix)
    cut = tokens.truncated(reading.passage_length)
    if cut:
        log.info("%s: %d of %d passages are cut to %d tokens", encoder.label, cut, len(tokens), reading.passage_length)
    if index:
        from mta4dpr.retrieval.prebuilt import bring, find, vectors_of

        prebuilt = find(index, dense=True, heap=opened.bench.bm25.heap)
        place = bring(prebuilt, offline=opened.request.offline)
        copied = vectors_of(root, prebuilt, place, corpus=opened.corpus, encoder=encoder, tokens=tokens, how=encoding_of(opened))
        return DenseRetriever(encoder, copied, opened.corpus, memory=bytes_of(opened.bench.dense.search_memory))
    folder = vectors_folder(root, encoder, tokens, reading.passage_length, encoding_of(opened))
    if opened.request.redo == "encode" and folder not in opened.made_again:
        opened.made_again.add(folder)
        shutil.rmtree(folder, ignore_errors=True)
    known = stored_vectors(folder)
    vectors = encode(root, encoder, tokens, longest=reading.passage_length, how=encoding_of(opened))
    rate = passages_per_second(vectors.folder)
    if known is None and rate:
        layers, hidden = encoder.size
        operations = operations_of(layers, hidden) * int(tokens.lengths(reading.passage_length).sum())
        opened.rates.note("encode", operations, len(tokens) / rate, shape=shape_of(layers, hidden))
    return DenseRetriever(encoder, vectors, opened.corpus, memory=bytes_of(opened.bench.dense.search_memory))


def encoding_of(opened: Run) -> Any:
    from mta4dpr.retrieval.vectors import Encoding

    dense = opened.bench.dense
    return Encoding(dense.dtype, dense.token_budget, opened.threads, dense.precision)


def _vectors_of_student(opened: Run, system: System) -> Path:
    from mta4dpr.distill.rounds import best_round

    assert system.recipe is not None
    folder = opened.training_folder(system)
    return folder / f"round-{best_round(folder, system.recipe.distill)}"


def _add_indexes(opened: Run, retriever: DenseRetriever) -> None:
    """What searches the vectors in their stead: an approximate index, Pyserini, or both."""
    if opened.bench.dense.index != "flat":
        from mta4dpr.retrieval.approximate import ApproximateIndex

        again = opened.request.redo == "index" and retriever.vectors.folder not in opened.made_again
        opened.made_again.add(retriever.vectors.folder)
        place = _built(opened, retriever.vectors, again=again)
        retriever.approximate = ApproximateIndex(place, opened.corpus, opened.bench.dense, opened.threads)
    if opened.bench.dense.engine == "pyserini":
        from mta4dpr.retrieval.dense import write_faiss_index
        from mta4dpr.retrieval.pyserini_faiss import PyseriniIndex

        file = retriever.approximate.file if retriever.approximate else None
        place = (file.parent if file else retriever.vectors.folder) / "pyserini"
        with FileLock(str(place) + ".lock"):
            if not place.exists():
                write_faiss_index(place, retriever.vectors, opened.corpus, approximate=file)
        retriever.pyserini = PyseriniIndex(place, opened.corpus, heap=opened.bench.bm25.heap, threads=opened.threads)


def _built(opened: Run, vectors: Vectors, *, again: bool) -> Path:
    """The approximate index over those vectors; what building it takes is noted."""
    from mta4dpr.retrieval.approximate import build, building_work, index_folder, is_repeatable

    dense, size = opened.bench.dense, len(vectors)
    known, started = (index_folder(vectors.folder, dense, size) / "about.json").exists(), time.perf_counter()
    place = build(vectors, dense, opened.threads, again=again)
    if again or not known:
        work = building_work(dense, size, vectors.dimensions) * (opened.threads if is_repeatable(dense, size) else 1)
        opened.rates.note(dense.index, work, time.perf_counter() - started)
    return place
