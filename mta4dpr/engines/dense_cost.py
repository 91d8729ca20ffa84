"""What dense retrieval takes: vectors, indexes over them, searches. Asked before anything is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mta4dpr.config.benchmark import Benchmark, ModelSpec
from mta4dpr.config.options import DenseSettings
from mta4dpr.data.columns import CUT_OFF
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.engines.engine import Engine
from mta4dpr.engines.workplace import Workplace
from mta4dpr.errors import UserError
from mta4dpr.machine.files import read_json
from mta4dpr.machine.kept import is_whole
from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.machine.work import ID_BYTES, ID_COLUMNS, PYTHON, Piece, Work, unknown
from mta4dpr.models.hashes import weights_key
from mta4dpr.models.registry import checkpoint_of
from mta4dpr.models.sizes import ModelSize, size_of_model
from mta4dpr.retrieval.exact import memory_of_search
from mta4dpr.retrieval.vectors import Encoding

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


class DenseCost(Engine):
    """The part of a dense engine that is known without its network. Its vectors lie under `root`."""

    needs_model = True
    options: DenseOptions
    _size: ModelSize | UserError | None = None

    @classmethod
    def options_of(cls, bench: Benchmark, model: ModelSpec | None, own: Mapping[str, Any]) -> DenseOptions:
        """The model of its label, the section dense, and the heap of a JVM that Pyserini may need."""
        return DenseOptions.of(bench, model)

    def __init__(self, label: str, options: DenseOptions, place: Workplace, *, root: Path | None = None) -> None:
        super().__init__(label, options, place, root=root)
        self.model, self.dense = options.model, options.settings

    @property
    def prebuilt(self) -> str:
        """`index` of the model."""
        return self.model.index

    @property
    def encoding(self) -> Encoding:
        """What decides the bytes of vectors, beside model and texts."""
        return Encoding(self.dense.dtype, self.dense.token_budget, self.place.threads, self.dense.precision)

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
            built = folder is not None and is_whole(index_folder(folder, dense, passages))
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
