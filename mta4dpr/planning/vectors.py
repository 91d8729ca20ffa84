"""Stages that encode the corpus, index the vectors, and search them: for run files, or for the students' candidates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mta4dpr import environment
from mta4dpr.benchmark import ModelSpec
from mta4dpr.distill.mining import MINING_PIECE
from mta4dpr.errors import UserError
from mta4dpr.models.encoder import weights_key
from mta4dpr.opened import bytes_of
from mta4dpr.places import CACHE, OUTPUT
from mta4dpr.planning.needs import Needs
from mta4dpr.planning.sizes import ID_BYTES, Network
from mta4dpr.planning.stage import ID_COLUMNS, PYTHON, Part, Stage, Work, unknown
from mta4dpr.request import System
from mta4dpr.retrieval.approximate import building_work, expected_bytes, index_folder, is_repeatable, learning_bytes
from mta4dpr.retrieval.dense import memory_of_search

PYSERINI = 0.7e9  # bytes that Pyserini's encoders and its JVM add to a process
INFERENCE = 100  # bytes for a token of a batch and hidden unit
RUN_LINE = 48  # bytes of a line of a run file
HIT = 25  # bytes in memory of a hit that is evaluated


class VectorStages(Part):
    """What is done with vectors, and with BM25 beside them."""

    def __init__(self, needs: Needs) -> None:
        super().__init__(needs)
        self._hashed: dict[tuple[Path, tuple[int, ...]], str] = {}

    @property
    def itemsize(self) -> int:
        return 2 if self.opened.bench.dense.dtype == "float16" else 4

    def vector_bytes(self, network: Network) -> float:
        """Bytes of all passages' vectors."""
        return float(self.texts.passages * network.hidden * self.itemsize)

    def encoding(self, label: str, spec: ModelSpec) -> Stage:
        name = f"encode with {label}"
        try:
            network = self.sizes.network(spec)
        except UserError:
            return unknown(name, spec)
        done = self.is_over(label)
        state = "done" if done else "cached" if self._vectors_folder(spec, network) else "to do"
        own = self._encoding_all(name, state, spec, network)
        if label not in self.needs.indexes:
            return own
        vectors = self.vector_bytes(network)
        copied = Stage(name, state, f"copied from {self.needs.indexes[label].name}", {CACHE: vectors}, own.memory, [Work("write", vectors)])
        return replace(copied, instead_of=own)

    def _encoding_all(self, name: str, state: str, spec: ModelSpec, network: Network) -> Stage:
        texts = self.texts
        return Stage(
            name,
            state,
            f"{texts.passages:,} x {network.hidden} {self.opened.bench.dense.dtype}",
            {CACHE: self.vector_bytes(network)},
            self.inference(network) + 16 * texts.passages,
            [Work("encode", network.operations * texts.cut(spec.passage_length) * texts.passages, network.shape)],
        )

    def inference(self, network: Network) -> float:
        return PYTHON + 4 * network.parameters + INFERENCE * self.opened.bench.dense.token_budget * network.hidden

    def _vectors_folder(self, spec: ModelSpec, network: Network) -> Path | None:
        """Where the cache holds finished vectors of these weights for a corpus of this size."""
        if network.place is None:
            return None
        wanted = {"texts": self.texts.passages, "dtype": self.opened.bench.dense.dtype}
        for folder, about in self.kept("vectors/*/vectors.json"):
            same = about.items() >= wanted.items() and spec.passage_length in (None, about.get("longest"))
            if same and about.get("weights") == self._weights(network.place, spec.layers):
                return folder
        return None

    def _weights(self, folder: Path, layers: list[int] | None) -> str:
        """weights_key, once for a folder and its layers: it reads all of the weights."""
        key = (folder, tuple(layers or ()))
        if key not in self._hashed:
            self._hashed[key] = weights_key(folder, layers)
        return self._hashed[key]

    def index_of(self, system: System) -> Iterator[Stage]:
        """What a dense system is searched by, where that is not its vectors themselves."""
        dense, texts, spec = self.opened.bench.dense, self.texts, system.spec
        assert spec is not None
        if dense.is_shared:
            return
        name = f"build {dense.index} for {system.label}" if dense.index != "flat" else f"write {system.label} for Pyserini"
        if not self.needs.is_known(spec):
            yield unknown(name, spec)
            return
        network = self.sizes.network(spec)
        done, place = self.is_done(f"encode {system.label}"), OUTPUT if system.recipe else CACHE
        folder = None if system.recipe else self._vectors_folder(spec, network)
        if dense.index != "flat":
            size = self.index_bytes(network)
            there = folder is not None and (index_folder(folder, dense, texts.passages) / "about.json").exists()
            alone = is_repeatable(dense, texts.passages)
            yield Stage(
                name,
                "done" if done else "cached" if there else "to do",
                "in memory while it is built and searched; " + ("by one thread" if alone else "by all threads, not bit-reproducible"),
                {place: size},
                PYTHON + size + learning_bytes(dense, texts.passages, network.hidden),
                [Work(dense.index, building_work(dense, texts.passages, network.hidden) * (self.opened.threads if alone else 1))],
            )
            name = f"write {system.label} for Pyserini"
        if dense.engine == "pyserini":
            size = texts.passages * (ID_BYTES + (4 * network.hidden if dense.index == "flat" else 0))  # another index is linked to
            yield Stage(name, "done" if done else "to do", "searched by Pyserini", {place: size}, PYTHON, [Work("write", size)])

    def index_bytes(self, network: Network) -> float:
        """Bytes of what a dense system is searched by, on disk and in memory; vectors themselves are read as they go by."""
        dense, texts = self.opened.bench.dense, self.texts
        if dense.index != "flat":
            return expected_bytes(dense, texts.passages, network.hidden)
        return float(texts.passages * 4 * network.hidden) if dense.engine == "pyserini" else 0.0

    def mining(self, label: str) -> Stage:
        """A model's list for every training query, made once for all students."""
        queries, depth = self.sizes.train_queries[0], max(recipe.distill.depth for recipe in self.needs.recipes)
        return Stage(
            f"mine with {label}",
            "done" if self.is_trained else "to do",
            f"top {depth} of {queries:,} training queries" if queries else "the number of training queries is known after reading",
            {CACHE: 4.0 * queries * depth},
            PYTHON + self.train_memory() + ID_COLUMNS * self.texts.passages + self._memory_of_mining(label, queries, depth),
            [self.search_work(label, queries)],
        )

    def _memory_of_mining(self, label: str, queries: int, depth: int) -> float:
        """A piece of the queries at a time; Lucene takes a few of them."""
        spec = self._spec(label)
        if label == "bm25":
            return self.heap()
        hidden = self.sizes.network(spec).hidden if spec and self.needs.is_known(spec) else 768
        return self.exact(hidden, min(queries, MINING_PIECE), depth)

    def exact(self, hidden: int, queries: int, depth: int) -> float:
        return memory_of_search(hidden, queries, depth, memory=bytes_of(self.opened.bench.dense.search_memory))

    def search_work(self, label: str, queries: int) -> Work:
        texts = self.texts
        if label == "bm25":
            return Work("bm25", queries * texts.passages)
        spec = self._spec(label)
        hidden = self.sizes.network(spec).hidden if spec and self.needs.is_known(spec) else 0
        return Work("search", 2.0 * queries * texts.passages * hidden)

    def _spec(self, label: str) -> ModelSpec | None:
        """The model behind a label: the benchmark's, a system's, or a student's before training."""
        return next((s.spec for s in self.opened.systems if s.label == label and s.spec), self.opened.bench.models.get(label))

    def searching(self) -> Iterator[Stage]:
        opened, bench, texts, queries = self.opened, self.opened.bench, self.texts, self.sizes.eval_queries
        done = all(self.is_done(f"search {s.label} {e.id}") for s in opened.systems for e in bench.eval_sets)
        dense = [self.sizes.network(s.spec) for s in opened.systems if s.spec and self.needs.is_known(s.spec)]
        if bench.dense.pyserini_index and dense:
            indexes = self._beside_the_run()
            indexed = all(self.is_done(f"encode {s.label}") for s in opened.systems if s.spec)
            note = f"{len(dense)} in Pyserini's layout; dense.pyserini_index=false: none"
            state = "done" if indexed else "to do"
            yield Stage("write FAISS indexes", state, note, {OUTPUT: indexes}, PYTHON, [Work("write", indexes)])
        hits, files = queries * bench.depth, len(opened.systems) * len(bench.eval_sets)
        blocks = PYTHON + ID_COLUMNS * texts.passages + max((4 * network.parameters for network in dense), default=0)
        most = max((self.sizes.queries(e.id)[0] for e in bench.eval_sets), default=0)
        blocks += max((self.index_bytes(network) or self.exact(network.hidden, most, bench.depth) for network in dense), default=0)
        blocks += PYSERINI if bench.dense.engine == "pyserini" and dense else 0
        lexical = any(s.kind == "lexical" for s in opened.systems)
        yield Stage(
            "search",
            "done" if done else "to do",
            f"{files} run files, top {bench.depth} of {queries:,} queries" if queries else f"{files} run files, top {bench.depth}",
            {OUTPUT: float(RUN_LINE * hits * len(opened.systems))},
            blocks + (self.heap() if lexical else 0),
            [self.search_work(s.label, queries) for s in opened.systems if s.kind == "lexical" or bench.dense.index == "flat"],
        )
        reported = done and self.is_done("report")
        yield Stage("evaluate and report", "done" if reported else "to do", memory=PYTHON + HIT * hits)

    def _beside_the_run(self) -> float:
        """Bytes of the FAISS files in Pyserini's layout; an approximate index is linked to where it is on the same file system."""
        opened, texts, places, total = self.opened, self.texts, self.needs.places(), 0.0
        one_disk = environment.file_system(places[CACHE]) == environment.file_system(places[OUTPUT])
        for system in opened.systems:
            if system.spec and self.needs.is_known(system.spec):
                network = self.sizes.network(system.spec)
                linked = opened.bench.dense.index != "flat" and (system.recipe is not None or one_disk)
                flat = texts.passages * 4 * network.hidden
                index = 0 if linked else flat if opened.bench.dense.index == "flat" else self.index_bytes(network)
                total += texts.passages * ID_BYTES + index
        return total
