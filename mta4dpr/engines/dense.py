"""Dense retrieval: a bi-encoder's vectors, searched exactly by us, by FAISS's HNSW or IVF-PQ, or by Pyserini over either."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from mta4dpr.config.benchmark import Benchmark, ModelSpec
from mta4dpr.config.options import DenseSettings
from mta4dpr.data.columns import CUT_OFF
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.engines.engine import Engine
from mta4dpr.engines.scorer import Queries, Scorer
from mta4dpr.engines.workplace import Workplace
from mta4dpr.errors import UserError
from mta4dpr.machine import environment
from mta4dpr.machine.files import key_of, read_json
from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.machine.work import ID_BYTES, ID_COLUMNS, PYTHON, Piece, Work, unknown
from mta4dpr.models.encoder import Encoder, load_encoder, weights_key
from mta4dpr.models.registry import checkpoint_of
from mta4dpr.models.sizes import ModelSize, size_of_model
from mta4dpr.models.transformer import operations_of, shape_of
from mta4dpr.retrieval.exact import ExactIndex, memory_of_search
from mta4dpr.retrieval.hits import Hits
from mta4dpr.retrieval.vectors import Encoding, Vectors, encode, forget, passages_per_second, stored_vectors, vectors_folder

if TYPE_CHECKING:
    from mta4dpr.data.tokens import TokenStore
    from mta4dpr.retrieval.approximate import ApproximateIndex
    from mta4dpr.retrieval.pyserini_faiss import PyseriniIndex

log = logging.getLogger(__name__)

SCORE_BLOCK = 256  # groups scored at once
RECALL_QUERIES = 100  # for which an approximate index is compared with exact search
PYSERINI = 0.7e9  # bytes that Pyserini's encoders and its JVM add to a process
USUAL_WIDTH = 768  # of a network whose size is not known
INFERENCE = 100  # bytes for a token of a batch and hidden unit


@dataclass(frozen=True)
class DenseOptions:
    """A model and how it is used. `heap` is the JVM's, where Pyserini is asked for something."""

    model: ModelSpec
    settings: DenseSettings
    heap: str = ""

    @classmethod
    def of(cls, bench: Benchmark, model: ModelSpec | None) -> DenseOptions:
        """The benchmark's settings for that model."""
        if model is None:
            raise UserError("expected a model for a bi-encoder, a cross-encoder or stored scores, found none; name one under models")
        return cls(model, bench.dense, bench.bm25.heap)


class Dense(Engine):
    """A bi-encoder over kept vectors, which lie under `root`."""

    kind = "encoder"
    prepares = "encode"
    encodes = has_weights = True
    options: DenseOptions

    @classmethod
    def options_of(cls, bench: Benchmark, model: ModelSpec | None, own: Mapping[str, Any]) -> DenseOptions:
        """The model of its label, the section dense, and the heap of a JVM that Pyserini may need."""
        return DenseOptions.of(bench, model)

    def __init__(self, label: str, options: DenseOptions, place: Workplace, *, root: Path | None = None) -> None:
        super().__init__(label, options, place, root=root)
        self.model, self.dense = options.model, options.settings
        self._searched: _Opened | None = None
        self._size: ModelSize | UserError | None = None

    @property
    def identity(self) -> Any:
        """The model's settings and hash, and what decides vectors and search."""
        return [self.place.model_identity(self.model), self.settings]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Type, batches and precision of the vectors; the index, unless search is exact and ours."""
        return {**self.dense.of_vectors(), **self.dense.of_search()}

    @property
    def prebuilt(self) -> str:
        """`index` of the model."""
        return self.model.index

    @property
    def encoding(self) -> Encoding:
        """What decides the bytes of vectors, beside model and texts."""
        return Encoding(self.dense.dtype, self.dense.token_budget, self.place.threads, self.dense.precision)

    # --- what it takes -------------------------------------------------------------------------------------------------

    @property
    def model_size(self) -> ModelSize:
        """From the files, or from what is known of the checkpoint, looked up once."""
        if self._size is None:
            try:
                self._size = size_of_model(self.model)
            except UserError as error:
                self._size = error
        if isinstance(self._size, UserError):
            raise self._size
        return self._size

    @property
    def is_known(self) -> bool:
        """Whether the size of its model is known without loading it."""
        try:
            return bool(self.model_size)
        except UserError:
            return False

    def token_pieces(self, texts: CorpusSize) -> Iterator[Piece]:
        """The corpus by its tokenizer; nothing for a model that is not known."""
        if self.is_known:
            yield tokens_piece(self, self.model, self.model_size, texts)

    def pieces(self, texts: CorpusSize) -> Iterator[Piece]:
        """Tokens and vectors; of a student nothing, since its vectors are made where it is trained."""
        if self.is_student:  # whose vectors are made where it is trained
            return
        yield from self.token_pieces(texts)
        if self.is_known:
            yield self._encoding_piece(self.model_size, texts)
        else:
            yield unknown(f"encode with {self.label}", self.model.model)

    def _encoding_piece(self, size: ModelSize, texts: CorpusSize) -> Piece:
        vectors = self.vector_bytes(size, texts)
        tokens = texts.cut(self.model.passage_length) * texts.passages
        own = Piece(
            f"encode with {self.label}",
            "cached" if self._kept_vectors(size, texts) else "to do",
            f"{texts.passages:,} x {size.hidden} {self.dense.dtype}",
            {CACHE: vectors},
            inference_memory(size, self.dense.token_budget) + 16 * texts.passages,
            (Work("encode", size.operations * tokens, size.shape),),
        )
        if not self.prebuilt:
            return own
        copied = Piece(own.name, own.state, f"copied from {self.prebuilt.partition(':')[2]}", {CACHE: vectors}, own.memory)
        return replace(copied, work=(Work("write", vectors),) if copied.state == "to do" else (), instead_of=own)

    def search_pieces(self, texts: CorpusSize) -> Iterator[Piece]:
        """An approximate index over the vectors, Pyserini's files, or both."""
        from mta4dpr.retrieval.approximate import building_work, index_folder, is_repeatable, learning_bytes

        name = f"build {self.dense.index} for {self.label}" if self.dense.index != "flat" else f"write {self.label} for Pyserini"
        if not self.is_known:
            yield from () if self.dense.is_shared else (unknown(name, self.model.model),)
            return
        size = self.model_size
        dense, passages, where = self.dense, texts.passages, OUTPUT if self.is_student else CACHE
        if dense.index != "flat":
            folder = None if self.is_student else self._kept_vectors(size, texts)
            built = folder is not None and (index_folder(folder, dense, passages) / "about.json").exists()
            alone = is_repeatable(dense, passages)
            yield Piece(
                name,
                "cached" if built else "to do",
                "in memory while it is built and searched; " + ("by one thread" if alone else "by all threads, not bit-reproducible"),
                {where: self.index_memory(size, texts)},
                PYTHON + self.index_memory(size, texts) + learning_bytes(dense, passages, size.hidden),
                (Work(dense.index, building_work(dense, passages, size.hidden) * (self.place.threads if alone else 1)),),
            )
        if dense.engine == "pyserini":
            written = passages * (ID_BYTES + (4 * size.hidden if dense.index == "flat" else 0))  # another index is linked to
            note = "searched by Pyserini"
            yield Piece(f"write {self.label} for Pyserini", "to do", note, {where: written}, PYTHON, (Work("write", written),))

    def index_pieces(self, texts: CorpusSize, *, one_disk: bool) -> Iterator[Piece]:
        """The FAISS file beside the run files; an approximate index is linked to where that is possible."""
        size, flat = self.model_size, self.dense.index == "flat"
        linked = not flat and (self.is_student or one_disk)
        index = 0 if linked else texts.passages * 4 * size.hidden if flat else self.index_memory(size, texts)
        written = float(texts.passages * ID_BYTES + index)
        yield Piece(
            "write FAISS indexes",
            note="in Pyserini's layout; dense.pyserini_index=false: none",
            disk={OUTPUT: written},
            memory=PYTHON,
            work=(Work("write", written),),
            thing=("FAISS index", self.label),
            unit="indexes",
        )

    def vector_bytes(self, size: ModelSize, texts: CorpusSize) -> float:
        """Bytes of all passages' vectors as they are kept."""
        return float(texts.passages * size.hidden * (2 if self.dense.dtype == "float16" else 4))

    def index_memory(self, size: ModelSize, texts: CorpusSize) -> float:
        """Bytes of what is searched in the vectors' stead, on disk and in memory; 0 where they are read as they go by."""
        from mta4dpr.retrieval.approximate import expected_bytes

        if self.dense.index != "flat":
            return expected_bytes(self.dense, texts.passages, size.hidden)
        return float(texts.passages * 4 * size.hidden) if self.dense.engine == "pyserini" else 0.0

    def search_work(self, queries: int, texts: CorpusSize) -> tuple[Work, ...]:
        """Of exact search; an approximate index looks at few passages."""
        if self.dense.index != "flat":
            return ()
        return self.mining_work(queries, texts)

    def mining_work(self, queries: int, texts: CorpusSize) -> tuple[Work, ...]:
        """Mining is always exact."""
        return (Work("search", 2.0 * queries * texts.passages * self.model_size.hidden),) if self.is_known else ()

    def mining_memory(self, queries: int, k: int) -> float:
        """Of an exact search over so many queries."""
        hidden = self.model_size.hidden if self.is_known else USUAL_WIDTH
        return float(memory_of_search(hidden, queries, k, memory=self.dense.search_bytes))

    def search_memory(self, queries: int, k: int, texts: CorpusSize) -> float:
        """The network, and the index in memory or what an exact search holds."""
        found = PYTHON + ID_COLUMNS * texts.passages + (PYSERINI if self.dense.engine == "pyserini" else 0)
        if not self.is_known:
            return found
        size = self.model_size
        return found + 4 * size.parameters + (self.index_memory(size, texts) or self.mining_memory(queries, k))

    def _kept_vectors(self, size: ModelSize, texts: CorpusSize) -> Path | None:
        """Where the cache holds finished vectors of these weights for a corpus of this size."""
        if size.place is None:
            return None
        wanted, weights = {"texts": texts.passages, "dtype": self.dense.dtype}, None
        for folder, about in kept_in(self.place.cache, "vectors/*/vectors.json"):
            same = about.items() >= wanted.items() and self.model.passage_length in (None, about.get("longest"))
            if same:
                weights = weights or weights_key(size.place, self.model.layers)  # which reads all of them
                if about.get("weights") == weights:
                    return folder
        return None

    # --- at work -------------------------------------------------------------------------------------------------------

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

    def _vectors(self, encoder: Encoder) -> Vectors:
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
        if place.must_remake(folder, "encode"):
            forget(folder)
        known = stored_vectors(folder)
        vectors = encode(self.root, encoder, tokens, longest=reading.passage_length, how=how)
        rate = passages_per_second(vectors.folder)
        if known is None and rate:
            layers, hidden = encoder.size
            operations = operations_of(layers, hidden) * int(tokens.lengths(reading.passage_length).sum())
            place.rates.note("encode", operations, len(tokens) / rate, shape=shape_of(layers, hidden))
        return vectors

    def _prebuilt_vectors(self, encoder: Encoder, tokens: TokenStore) -> Vectors:
        from mta4dpr.retrieval.prebuilt import bring, find, vectors_of

        prebuilt = find(self.prebuilt, dense=True, heap=self.options.heap)
        folder = bring(prebuilt, offline=self.place.offline)
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
            with FileLock(str(folder) + ".lock"):
                if not folder.exists():
                    write_faiss_index(folder, vectors, place.corpus, approximate=file)
            opened.pyserini = PyseriniIndex(folder, place.corpus, heap=self.options.heap, threads=place.threads)

    def _built(self, vectors: Vectors) -> Path:
        """The folder of the approximate index over those vectors; what building it takes is noted."""
        import time

        from mta4dpr.retrieval.approximate import build, building_work, index_folder, is_repeatable

        dense, size, threads = self.dense, len(vectors), self.place.threads
        folder = index_folder(vectors.folder, dense, size)
        known, started = (folder / "about.json").exists(), time.perf_counter()
        again = self.place.must_remake(folder, "index", "encode")
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
    def about(self) -> dict[str, Any]:
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
        """Mining and scores are always exact, whatever index the benchmark searches by."""
        encoder = self.load()
        tokens = encoder.query_tokens(queries.texts)
        vectors = encode(self.root, encoder, tokens, longest=encoder.reading.query_length, how=self.encoding)
        index = ExactIndex(self._vectors(encoder), self.place.corpus, encoder.device, memory=self.dense.search_bytes)
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


def inference_memory(size: ModelSize, token_budget: int) -> float:
    """Bytes of a process that runs a network of that size over batches of so many tokens, forwards."""
    return PYTHON + 4 * size.parameters + INFERENCE * token_budget * size.hidden


def tokens_piece(engine: Engine, model: ModelSpec, size: ModelSize, texts: CorpusSize) -> Piece:
    """The token store of the corpus for a model; models with one tokenizer and prefix share it."""
    known = checkpoint_of(model.model)
    prefix = model.passage_prefix if model.passage_prefix is not None else (known and known.passage_prefix) or ""
    corpus, tokens = engine.place.stored_corpus, texts.tokens * texts.passages
    wanted = {"text_hash": corpus.text_hash if corpus else "", "tokenizer_hash": size.tokenizer, "prefix": prefix}
    kept = corpus is not None and any(about.items() >= wanted.items() for _, about in kept_in(engine.place.cache, "tokens/*/tokens.json"))
    return Piece(
        "tokenise for",
        "cached" if kept else "to do",
        f"about {texts.tokens:.0f} tokens a passage",
        {CACHE: 2 * tokens + 8 * texts.passages},
        PYTHON + 24 * texts.passages,
        (Work("tokenise", tokens),),
        thing=("tokens", size.tokenizer, prefix),
        subject=engine.label,
    )


def kept_in(cache: Path, pattern: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(folder, what it says of itself) of what earlier runs left in the cache; what cannot be read is passed over."""
    for path in sorted(cache.glob(pattern)):
        try:
            yield path.parent, dict(read_json(path))
        except CUT_OFF:
            continue


def _description(about: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> str:
    if not about["strategy"]:
        return "a bi-encoder as it is"
    if not recipe:
        return f"a student trained by {about['strategy']}"
    assistants = f", assistants {', '.join(recipe['assistants'])}" if recipe["assistants"] else ""
    return f"student {recipe['student']} trained by {about['strategy']}, teacher {recipe['teacher']}{assistants}"
