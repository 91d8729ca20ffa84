"""Dense retrieval: a bi-encoder's vectors, searched exactly by us, by FAISS's HNSW or IVF-PQ, or by Pyserini over either."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.engines.dense_cost import DenseCost
from mta4dpr.engines.scorer import Queries, Scorer
from mta4dpr.machine import environment
from mta4dpr.machine.files import key_of
from mta4dpr.machine.kept import is_whole
from mta4dpr.machine.locks import lock_beside
from mta4dpr.machine.work import StageKind
from mta4dpr.models.encoder import Encoder, load_encoder
from mta4dpr.models.transformer import operations_of, shape_of
from mta4dpr.retrieval.exact import ExactIndex
from mta4dpr.retrieval.hits import Hits
from mta4dpr.retrieval.vectors import Vectors, encode, forget, passages_per_second, stored_vectors, vectors_folder

if TYPE_CHECKING:
    from mta4dpr.data.tokens import TokenStore
    from mta4dpr.retrieval.approximate import ApproximateIndex
    from mta4dpr.retrieval.pyserini_faiss import PyseriniIndex

log = logging.getLogger(__name__)

SCORE_BLOCK = 256  # groups scored at once
RECALL_QUERIES = 100  # for which an approximate index is compared with exact search


class Dense(DenseCost):
    """A bi-encoder over kept vectors."""

    kind = "encoder"
    prepares = StageKind.ENCODE
    encodes = has_weights = True
    _searched: _Opened | None = None

    @property
    def identity(self) -> Any:
        """The model's settings and hash, and what decides vectors and search."""
        return [self.place.model_identity(self.model), self.settings]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Type, batches and precision of the vectors; the index, unless search is exact and ours."""
        return {**self.dense.of_vectors(), **self.dense.of_search()}

    def load(self) -> Encoder:
        """A fresh encoder on the device."""
        return load_encoder(
            self.label, self.model, device=self.place.device, offline=self.place.offline, texts=self.place.vocabulary(self.model)
        )

    def open(self) -> None:
        """Encodes what is not kept, then opens the vectors and what is built over them."""
        self._opened()

    def _opened(self) -> _Opened:
        if self._searched is None:
            encoder = self.load()
            exact = ExactIndex(self._vectors(encoder), self.place.corpus, encoder.device, memory=self.dense.search_bytes)
            self._searched = _Opened(encoder, exact)
            if environment.is_main_process():
                self._add_indexes(self._searched)
        return self._searched

    def _vectors(self, encoder: Encoder, *, by_content: bool = False) -> Vectors:
        """The passages' vectors: kept ones, those of a prebuilt index, or made now."""
        from mta4dpr.data.tokens import tokens_of_corpus

        reading, place, how = encoder.reading, self.place, self.encoding
        tokens = tokens_of_corpus(place.cache, place.corpus, encoder.tokenizer, prefix=reading.passage_prefix)
        cut = tokens.truncated(reading.passage_length)
        if cut:
            log.info("%s: %d of %d passages are cut to %d tokens", encoder.label, cut, len(tokens), reading.passage_length)
        if self.prebuilt:
            return self._prebuilt_vectors(encoder, tokens)
        folder = vectors_folder(self.root, encoder, tokens, reading.passage_length, how)
        if place.must_remake(folder, StageKind.ENCODE):
            forget(folder)
        known = stored_vectors(folder)
        vectors = encode(self.root, encoder, tokens, longest=reading.passage_length, how=how, by_content=by_content)
        rate = passages_per_second(vectors.folder)
        if known is None and rate:
            layers, hidden = encoder.size
            operations = operations_of(layers, hidden) * int(tokens.lengths(reading.passage_length).sum())
            place.rates.note("encode", operations, len(tokens) / rate, shape=shape_of(layers, hidden))
        return vectors

    def _prebuilt_vectors(self, encoder: Encoder, tokens: TokenStore) -> Vectors:
        from mta4dpr.retrieval.prebuilt import bring, find, vectors_of

        prebuilt = find(self.prebuilt, dense=True, heap=self.options.heap)
        folder = bring(prebuilt, self.place.cache, offline=self.place.offline)
        return vectors_of(self.root, prebuilt, folder, corpus=self.place.corpus, encoder=encoder, tokens=tokens, how=self.encoding)

    def _add_indexes(self, opened: _Opened) -> None:
        """What searches the vectors in their stead: an approximate index, Pyserini, or both."""
        place, vectors = self.place, opened.exact.vectors
        if self.dense.index != "flat":
            from mta4dpr.retrieval.approximate import ApproximateIndex

            opened.approximate = ApproximateIndex(self._built(vectors), place.corpus, self.dense, place.threads)
        if self.dense.engine == "pyserini":
            from mta4dpr.retrieval.faiss_files import write_faiss_index
            from mta4dpr.retrieval.pyserini_faiss import PyseriniIndex

            file = opened.approximate.file if opened.approximate else None
            folder = (file.parent if file else vectors.folder) / "pyserini"
            with lock_beside(folder):
                if not is_whole(folder, otherwise="it is written again"):
                    write_faiss_index(folder, vectors, place.corpus, approximate=file)
            opened.pyserini = PyseriniIndex(folder, place.corpus, heap=self.options.heap, threads=place.threads)

    def _built(self, vectors: Vectors) -> Path:
        """The folder of the approximate index over those vectors; what building it takes is noted."""
        from mta4dpr.retrieval.approximate import build, building_work, index_folder, is_repeatable

        dense, size, threads = self.dense, len(vectors), self.place.threads
        folder = index_folder(vectors.folder, dense, size)
        known, started = is_whole(folder), time.perf_counter()
        again = self.place.must_remake(folder, StageKind.INDEX, StageKind.ENCODE)
        build(vectors, dense, threads, again=again)
        if again or not known:
            work = building_work(dense, size, vectors.dimensions) * (threads if is_repeatable(dense, size) else 1)
            self.place.rates.note(dense.index, work, time.perf_counter() - started)
        return folder

    def close(self) -> None:
        """Lets go of network, vectors and indexes."""
        self._searched = None

    def search(self, queries: Sequence[str], k: int) -> Iterator[Hits]:
        """From text to hits, QUERY_BLOCK queries at a time."""
        opened = self._opened()
        return opened.index.search(opened.encoder.encode_queries(queries), k)

    def search_first(self, queries: Sequence[str], first: int, k: int) -> Iterator[Hits]:
        """Vectors are made of all queries, so that a score does not depend on how many are asked."""
        opened = self._opened()
        reading = opened.encoder.reading
        cut = opened.encoder.query_tokens(queries).truncated(reading.query_length)
        if cut:
            log.info("%s: %d of %d queries are cut to %d tokens", self.label, cut, len(queries), reading.query_length)
        return opened.index.search(opened.encoder.encode_queries(queries)[:first], k)

    @property
    def is_shared(self) -> bool:
        """Where search is exact and ours."""
        return self.dense.is_shared

    @property
    def is_encoded_together(self) -> bool:
        """Always: the processes of a launch share the shards of vectors."""
        return True

    def search_part(self, queries: Sequence[str], first: int, k: int, folder: Path, *, part: int, parts: int) -> None:
        """Exact search of a part of the passages."""
        opened = self._opened()
        opened.exact.search_part(opened.encoder.encode_queries(queries)[:first], k, folder, part=part, parts=parts)

    def merged_parts(self, first: int, k: int, folder: Path, *, parts: int) -> Iterator[Hits]:
        """Hits merged in the one order."""
        return self._opened().exact.merged_parts(first, k, folder, parts=parts)

    def note_search(self, queries: int, seconds: float) -> None:
        """Keeps the rate of an exact search."""
        if self.is_shared:
            vectors = self._opened().exact.vectors
            self.place.rates.note("search", 2.0 * queries * len(vectors) * vectors.dimensions, seconds)

    @property
    def bytes(self) -> int:
        """Of the approximate index where there is one, else of the vectors."""
        opened = self._opened()
        return (opened.approximate or opened.exact.vectors).bytes

    @property
    def passages_per_second(self) -> float | None:
        """As its shards say."""
        return passages_per_second(self._opened().exact.vectors.folder)

    @property
    def work_of_a_query(self) -> Any:
        """The shape of the network, tokenizer and length of queries, and the vectors' size, where search is exact.

        An approximate index looks at other passages for other vectors, so none is like another.
        """
        opened, encoder = self._opened(), self._opened().encoder
        if opened.index is not opened.exact:
            return None
        modules = [type(module).__name__ for module in encoder.network.modules()]
        shapes = [list(weights.shape) for weights in encoder.network.parameters()]
        reading = [encoder.tokenizer.hash, encoder.reading.query_length, encoder.reading.query_prefix]
        return [modules, shapes, encoder.transformer.config.to_dict().get("num_attention_heads"), reading, self.settings]

    @property
    def facts(self) -> dict[str, Any]:
        """Parameters, dimensions and a hash of the weights."""
        encoder = self._opened().encoder
        return {"parameters": encoder.parameters, "dimensions": encoder.dimensions, "weights": encoder.weights_hash}

    def quality(self, queries: Sequence[str], k: int) -> dict[str, Any]:
        """Recall@k of an approximate index against exact search, over RECALL_QUERIES of the queries."""
        opened = self._opened()
        if opened.approximate is None:
            return {}
        from mta4dpr.retrieval.approximate import recall

        sample = np.arange(0, len(queries), max(1, len(queries) // RECALL_QUERIES))[:RECALL_QUERIES]
        vectors = opened.encoder.encode_queries(queries)[sample]
        found = {"recall": recall(opened.approximate, opened.exact, vectors, k), "recall_depth": k, "recall_queries": len(sample)}
        return {"index": {**self.dense.of_search(), **opened.approximate.about, **found}}

    @property
    def leaves_index(self) -> bool:
        """`dense.pyserini_index` of the benchmark."""
        return self.dense.pyserini_index

    def write_index(self, folder: Path) -> None:
        """`index` (FAISS: what the system is searched by) and `docid`, for Pyserini's FaissSearcher."""
        from mta4dpr.retrieval.faiss_files import write_faiss_index

        opened = self._opened()
        approximate = opened.approximate.file if opened.approximate else None
        write_faiss_index(folder, opened.exact.vectors, self.place.corpus, approximate=approximate)

    @classmethod
    def metadata(cls, label: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """The model, its sizes, and all options of the vectors; of a student also how it was trained."""
        settings, about = manifest["settings"], manifest["systems"][label]
        recipe = manifest.get("recipes", {}).get(label, {}).get("recipe")
        model = Path(about["model"]).name if about["model"] in manifest.get("paths", {}) else about["model"] or "random weights"
        return {
            "automatic": True,
            "score ties": "trec_eval: the larger document id first, by bytes",
            "indexing": {"tokenizer": f"the model's own ({model})", "stemmer": "none", "stopwords": "none"},
            "retrieval": [
                {
                    "name": label,
                    "method": "dense retrieval by inner product",
                    "description": _description(about, recipe),
                    "params": {
                        "model": model,
                        "parameters": about["parameters"],
                        "dimensions": about["dimensions"],
                        **{f"dense.{name}": value for name, value in settings["dense"].items() if name != "pyserini_index"},
                        **({f"distill.{name}": value for name, value in recipe["distill"].items()} if recipe else {}),
                        "seed": settings["seed"] if about["strategy"] else None,
                    },
                    "depth": settings["depth"],
                }
            ],
        }

    def scorer(self, queries: Queries) -> BiEncoderScorer:
        """Mining and scores are always exact, whatever index the benchmark searches by; kept vectors that train a student are compared."""
        encoder = self.load()
        tokens = encoder.query_tokens(queries.texts)
        vectors = encode(self.root, encoder, tokens, longest=encoder.reading.query_length, how=self.encoding, by_content=True)
        index = ExactIndex(self._vectors(encoder, by_content=True), self.place.corpus, encoder.device, memory=self.dense.search_bytes)
        key = key_of([encoder.key, self.encoding.parts, self.place.device, *filter(None, [self.prebuilt])])
        return BiEncoderScorer(self.label, index, vectors.array, key)


@dataclass
class _Opened:
    """An encoder, the exact index of its vectors and, where the benchmark asks for it, what is searched instead."""

    encoder: Encoder
    exact: ExactIndex
    approximate: ApproximateIndex | None = None
    pyserini: PyseriniIndex | None = None

    @property
    def index(self) -> Any:
        return self.pyserini or self.approximate or self.exact


class BiEncoderScorer(Scorer):
    """Inner products of kept vectors: no text is ever encoded twice. `query_vectors` are (training queries, dimensions)."""

    kind, ranks = "bi-encoder", True

    def __init__(self, label: str, index: ExactIndex, query_vectors: np.ndarray, key: str) -> None:
        self.label, self.key = label, key
        self._index, self._queries = index, query_vectors

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Exact search by inner product."""
        return self._index.search(np.asarray(self._queries[queries]), k)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Inner products of the kept vectors, SCORE_BLOCK groups at a time."""
        scores = np.empty(passages.shape, np.float32)
        for start in range(0, len(queries), SCORE_BLOCK):
            block = slice(start, start + SCORE_BLOCK)
            vectors = self._index.vectors.rows(passages[block])
            scores[block] = np.einsum("qd,qgd->qg", np.asarray(self._queries[queries[block]], np.float32), vectors)
        return scores


def _description(about: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> str:
    if not about["strategy"]:
        return "a bi-encoder as it is"
    if not recipe:
        return f"a student trained by {about['strategy']}"
    assistants = f", assistants {', '.join(recipe['assistants'])}" if recipe["assistants"] else ""
    return f"student {recipe['student']} trained by {about['strategy']}, teacher {recipe['teacher']}{assistants}"
