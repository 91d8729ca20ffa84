"""The stages of a run and what each takes: disk, memory, work. What is brought from elsewhere stands in needs.py.

Disk is exact where it follows from counts (vectors, indexes of FAISS, run files, groups, checkpoints), else a usual ratio. Memory is
a process's peak as the code of the stage takes it; a network's part is on the GPU where there is one. Knows no rate: how long work
takes is for plan.py to say. Writes and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta4dpr import environment
from mta4dpr.benchmark import ModelSpec, Recipe
from mta4dpr.data.collection import IrDataset
from mta4dpr.data.columns import CUT_OFF
from mta4dpr.distill.rounds import MINING_PIECE
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.files import read_json
from mta4dpr.models.encoder import weights_key
from mta4dpr.models.zoo import checkpoint_of
from mta4dpr.needs import Needs
from mta4dpr.opened import Run, bytes_of
from mta4dpr.places import CACHE, DATA, INDEXES, MODELS, OUTPUT, disk_lack
from mta4dpr.request import System, trainable
from mta4dpr.retrieval.approximate import building_work, expected_bytes, index_folder, is_repeatable, learning_bytes
from mta4dpr.retrieval.dense import memory_of_search
from mta4dpr.sizes import ID_BYTES, UNPACKED, Network, Sizes, Texts

if TYPE_CHECKING:
    from mta4dpr.retrieval.prebuilt import Prebuilt

PYTHON = 1.1e9  # bytes of a process that has torch and sentence-transformers loaded
LUCENE_SHARE = 0.75  # bytes of a Lucene index for a byte of text
READING = 150  # bytes in memory for a passage while the corpus store is made and its ids are sorted
ID_COLUMNS = 24  # bytes in memory for a passage whose id is looked up: rank, order, padded id
QUERY, JUDGEMENT = 1300, 110  # bytes in memory of a training query and of a judgement
RUN_LINE = 48  # bytes of a line of a run file
GROUP = 60  # bytes in memory of a group's query, epoch and copy while a round is drawn
POOL = 4096 * 60  # bytes in memory for a candidate of a model's list, while the lists of a block of queries are fused
PYSERINI = 0.7e9  # bytes that Pyserini's encoders and its JVM add to a process
HIT = 25  # bytes in memory of a hit that is evaluated
INFERENCE = 100  # bytes for a token of a batch and hidden unit
TRAINING = 68  # bytes for a token, layer and hidden unit that a gradient in float32 needs
ADAM = 16  # bytes for a parameter: weight, gradient, two moments


@dataclass
class Work:
    """What takes time: an amount of a kind of work (rates.py names the units), on a network of that shape."""

    kind: str
    amount: float
    shape: str = ""


@dataclass
class Stage:
    """A stage of a run. `state` is done, cached, prebuilt, to do, download or lacking; `note` says the rest."""

    name: str
    state: str
    note: str = ""
    disk: dict[str, float] = field(default_factory=dict)  # bytes by place
    memory: float = 0.0
    work: list[Work] = field(default_factory=list)
    instead_of: Stage | None = None  # what a prebuilt index spares

    def __post_init__(self) -> None:
        if self.state in ("done", "cached", "prebuilt", "lacking"):
            self.disk, self.memory, self.work = {}, 0.0, []


class Stages:
    """The stages of an opened run, in its order."""

    def __init__(self, opened: Run) -> None:
        self.opened, self.needs = opened, Needs(opened)
        self.sizes = self.needs.sizes
        self._hashed: dict[tuple[Path, tuple[int, ...]], str] = {}

    @property
    def texts(self) -> Texts:
        return self.sizes.texts

    def __iter__(self) -> Iterator[Stage]:
        opened, recipes = self.opened, self.needs.recipes
        yield from self._fetching()
        yield self._corpus()
        needed = {label for recipe in recipes for label in (recipe.teacher, *recipe.assistants)}
        if self.needs.asks_bm25:
            yield self._bm25()
        encoders = {s.label: s.spec for s in opened.systems if s.spec and not s.recipe}
        others = {label: opened.bench.models[label] for label in sorted(needed - encoders.keys() - {"bm25"})}
        rankers = {label: spec for label, spec in {**encoders, **others}.items() if spec.kind == "bi-encoder" and not spec.scores}
        students = {r.student: opened.bench.models[r.student] for r in recipes}
        yield from self._tokens({**rankers, **{label: s for label, s in {**others, **students}.items() if not s.scores}})
        for label, spec in {**encoders, **others}.items():
            if spec.scores:
                yield _table(label, spec)
            elif spec.kind == "bi-encoder":
                yield self._encoding(label, spec)
        for system in opened.systems:
            if system.spec and not system.recipe:
                yield from self._index_of(system)
        if recipes:
            for label in sorted(needed & {"bm25", *rankers}):
                yield self._mining(label)
        for label, spec in others.items():
            if spec.kind == "cross-encoder":
                yield self._scoring(label, spec)
        for system in opened.systems:
            if system.recipe:
                yield self._training(system, system.recipe)
                yield from self._index_of(system)
        yield from self._searching()
        for name, suite in opened.bench.suites.items():
            yield Stage(f"collections of {name}", "to do", f"up to {len(suite.sets)}, each with runs and indexes of its own: not counted")

    # --- what is brought ---

    def _fetching(self) -> Iterator[Stage]:
        opened, offline = self.opened, self.opened.request.offline
        missing = [d for d in self.sizes.downloads if not d.here]
        if isinstance(opened.source, IrDataset):
            total = sum(d.bytes or 0 for d in missing)
            unpacked = sum((d.bytes or 0) * UNPACKED for d in self.sizes.downloads if d.unpacked and not d.is_unpacked)
            names = ", ".join(d.name for d in missing)
            if missing and offline:
                yield Stage(
                    "bring the data",
                    "lacking",
                    f"{opened.bench.corpus}: not downloaded yet ({names}), and --offline is given; `mta4dpr-bench fetch` brings it",
                )
            else:
                note = f"{len(missing)} of {len(self.sizes.downloads)} files" if missing else ""
                state = "download" if missing else "cached"
                yield Stage("bring the data", state, note, {DATA: total + unpacked}, 0.2e9, [Work("download", total)])
        rows = self.needs.model_downloads()
        missing_models = [row for row in rows if row["state"] == "download"]
        nowhere = [row["what"] for row in missing_models if offline or not (row["bytes"] or "/" in row["what"])]
        if nowhere:
            way = "and --offline is given; `mta4dpr-bench fetch` brings it" if offline else "nor is it a name of the Hugging Face hub"
            yield Stage("bring the models", "lacking", f"{', '.join(nowhere)}: not on this machine, {way}")
        elif rows:
            total = sum(row["bytes"] or 0 for row in missing_models)
            unknown = [row["what"] for row in missing_models if row["bytes"] is None]
            note = f"{len(missing_models)} of {len(rows)} from the hub" if missing_models else ""
            note += f"; the size of {', '.join(unknown)} is not known here and not counted" if unknown else ""
            state = "download" if missing_models else "cached"
            yield Stage("bring the models", state, note, {MODELS: total}, 0.2e9, [Work("download", total)])
        for prebuilt in {prebuilt.name: prebuilt for prebuilt in self.needs.indexes.values()}.values():
            yield self._prebuilt(prebuilt, offline=offline)

    def _prebuilt(self, prebuilt: Prebuilt, *, offline: bool) -> Stage:
        """Pyserini keeps archive and index beside each other until it has unpacked the one."""
        name, note = f"bring {prebuilt.name}", f"Pyserini's, of {prebuilt.passages:,} passages"
        if prebuilt.folder:
            return Stage(name, "cached", note)
        if offline:
            return Stage(name, "lacking", f"{prebuilt.name}: not on this machine, and --offline is given; `mta4dpr-bench fetch` brings it")
        return Stage(name, "download", note, {INDEXES: 2.0 * prebuilt.bytes}, 0.3e9, [Work("download", prebuilt.bytes)])

    # --- the corpus ---

    def _corpus(self) -> Stage:
        texts = self.texts
        note = f"{texts.passages:,} passages" + ("" if self.sizes.texts_are_counted else ", guessed from the bytes of its files")
        return Stage(
            "read the corpus",
            "cached" if self.sizes.corpus else "to do",
            note,
            {CACHE: texts.bytes + texts.passages * (8 + 16 + 4 + ID_BYTES)},
            0.3e9 + READING * texts.passages,
            [Work("read", texts.bytes)],
        )

    def _bm25(self) -> Stage:
        from mta4dpr.retrieval.bm25 import index_folder
        from mta4dpr.retrieval.java import find_java

        name = "index for BM25"
        try:
            java = find_java()
        except UserError as error:
            return Stage(name, "lacking", str(error))
        if "bm25" in self.needs.indexes:
            own = self._bm25_index(f"Java {java.version}", "to do")
            return Stage(name, "prebuilt", f"Pyserini's {self.needs.indexes['bm25'].name}", instead_of=own)
        corpus = self.sizes.corpus
        cached = corpus is not None and (index_folder(self.opened.cache, corpus) / "mta4dpr.json").exists()
        return self._bm25_index(f"Java {java.version}", "cached" if cached else "to do")

    def _bm25_index(self, note: str, state: str) -> Stage:
        return Stage(
            "index for BM25",
            state,
            note,
            {CACHE: LUCENE_SHARE * self.texts.bytes},
            0.3e9 + self._heap(),
            [Work("index", self.texts.passages)],
        )

    def _heap(self) -> float:
        from mta4dpr.retrieval.java import heap_size

        heap = heap_size(self.opened.bench.bm25.heap)
        return float(heap[:-1]) * {"k": 1e3, "m": 1e6, "g": 1e9}[heap[-1].lower()]

    def _tokens(self, specs: dict[str, ModelSpec]) -> Iterator[Stage]:
        """A token store for each tokenizer and prefix; a model that is unknown counts for nothing."""
        stores: dict[tuple[str, str], list[str]] = {}
        for label, spec in specs.items():
            try:
                network = self.sizes.network(spec)
            except UserError:
                continue
            known = checkpoint_of(spec.model)
            prefix = spec.passage_prefix if spec.passage_prefix is not None else (known and known.passage_prefix) or ""
            stores.setdefault((network.tokenizer, prefix), []).append(label)
        texts = self.texts
        tokens = texts.tokens * texts.passages
        for (tokenizer, prefix), labels in stores.items():
            done = all(self._is_over(label) for label in labels)
            yield Stage(
                f"tokenise for {', '.join(dict.fromkeys(labels))}",
                "cached" if self._has_tokens(tokenizer, prefix) else "done" if done else "to do",
                f"about {texts.tokens:.0f} tokens a passage",
                {CACHE: 2 * tokens + 8 * texts.passages},
                PYTHON + 24 * texts.passages,
                [Work("tokenise", tokens)],
            )

    def _has_tokens(self, tokenizer: str, prefix: str) -> bool:
        if self.sizes.corpus is None:
            return False
        wanted = {"text_hash": self.sizes.corpus.text_hash, "tokenizer_hash": tokenizer, "prefix": prefix}
        return any(about.items() >= wanted.items() for _, about in self._kept("tokens/*/tokens.json"))

    def _kept(self, pattern: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """(folder, what it says of itself) of what earlier runs left in the cache; what cannot be read is passed over."""
        for path in sorted(self.opened.cache.glob(pattern)):
            try:
                yield path.parent, dict(read_json(path))
            except CUT_OFF:
                continue

    # --- vectors and scores ---

    @property
    def _itemsize(self) -> int:
        return 2 if self.opened.bench.dense.dtype == "float16" else 4

    def _vectors(self, network: Network) -> float:
        """Bytes of all passages' vectors."""
        return float(self.texts.passages * network.hidden * self._itemsize)

    def _encoding(self, label: str, spec: ModelSpec) -> Stage:
        name = f"encode with {label}"
        try:
            network = self.sizes.network(spec)
        except UserError:
            return self._unknown(name, spec)
        done = self._is_over(label)
        state = "done" if done else "cached" if self._vectors_folder(spec, network) else "to do"
        own = self._encoding_all(name, state, spec, network)
        if label not in self.needs.indexes:
            return own
        vectors = self._vectors(network)
        copied = Stage(name, state, f"copied from {self.needs.indexes[label].name}", {CACHE: vectors}, own.memory, [Work("write", vectors)])
        return replace(copied, instead_of=own)

    def _encoding_all(self, name: str, state: str, spec: ModelSpec, network: Network) -> Stage:
        texts = self.texts
        return Stage(
            name,
            state,
            f"{texts.passages:,} x {network.hidden} {self.opened.bench.dense.dtype}",
            {CACHE: self._vectors(network)},
            self._inference(network) + 16 * texts.passages,
            [Work("encode", network.operations * texts.cut(spec.passage_length) * texts.passages, network.shape)],
        )

    def _inference(self, network: Network) -> float:
        return PYTHON + 4 * network.parameters + INFERENCE * self.opened.bench.dense.token_budget * network.hidden

    def _vectors_folder(self, spec: ModelSpec, network: Network) -> Path | None:
        """Where the cache holds finished vectors of these weights for a corpus of this size."""
        if network.place is None:
            return None
        wanted = {"texts": self.texts.passages, "dtype": self.opened.bench.dense.dtype}
        for folder, about in self._kept("vectors/*/vectors.json"):
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

    # --- other indexes of the same vectors ---

    def _index_of(self, system: System) -> Iterator[Stage]:
        """What a dense system is searched by, where that is not its vectors themselves."""
        dense, texts, spec = self.opened.bench.dense, self.texts, system.spec
        assert spec is not None
        if dense.is_shared:
            return
        name = f"build {dense.index} for {system.label}" if dense.index != "flat" else f"write {system.label} for Pyserini"
        if not self.needs.is_known(spec):
            yield self._unknown(name, spec)
            return
        network = self.sizes.network(spec)
        done, place = self._is_done(f"encode {system.label}"), OUTPUT if system.recipe else CACHE
        folder = None if system.recipe else self._vectors_folder(spec, network)
        if dense.index != "flat":
            size = self._index_bytes(network)
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

    def _index_bytes(self, network: Network) -> float:
        """Bytes of what a dense system is searched by, on disk and in memory; vectors themselves are read as they go by."""
        dense, texts = self.opened.bench.dense, self.texts
        if dense.index != "flat":
            return expected_bytes(dense, texts.passages, network.hidden)
        return float(texts.passages * 4 * network.hidden) if dense.engine == "pyserini" else 0.0

    def _unknown(self, name: str, spec: ModelSpec) -> Stage:
        return Stage(name, "to do", f"the size of {spec.model} is not known here: disk, memory and time are not counted")

    def _mining(self, label: str) -> Stage:
        """A model's list for every training query, made once for all students."""
        queries, depth = self.sizes.train_queries[0], max(recipe.distill.depth for recipe in self.needs.recipes)
        return Stage(
            f"mine with {label}",
            "done" if self._is_trained else "to do",
            f"top {depth} of {queries:,} training queries" if queries else "the number of training queries is known after reading",
            {CACHE: 4.0 * queries * depth},
            PYTHON + self._train_memory() + ID_COLUMNS * self.texts.passages + self._memory_of_mining(label, queries, depth),
            [self._search_work(label, queries)],
        )

    def _memory_of_mining(self, label: str, queries: int, depth: int) -> float:
        """A piece of the queries at a time; Lucene takes a few of them."""
        spec = self._spec(label)
        if label == "bm25":
            return self._heap()
        hidden = self.sizes.network(spec).hidden if spec and self.needs.is_known(spec) else 768
        return self._exact(hidden, min(queries, MINING_PIECE), depth)

    def _exact(self, hidden: int, queries: int, depth: int) -> float:
        return memory_of_search(hidden, queries, depth, memory=bytes_of(self.opened.bench.dense.search_memory))

    def _search_work(self, label: str, queries: int) -> Work:
        texts = self.texts
        if label == "bm25":
            return Work("bm25", queries * texts.passages)
        spec = self._spec(label)
        hidden = self.sizes.network(spec).hidden if spec and self.needs.is_known(spec) else 0
        return Work("search", 2.0 * queries * texts.passages * hidden)

    def _spec(self, label: str) -> ModelSpec | None:
        """The model behind a label: the benchmark's, a system's, or a student's before training."""
        return next((s.spec for s in self.opened.systems if s.label == label and s.spec), self.opened.bench.models.get(label))

    def _train_memory(self) -> float:
        queries, judgements = self.sizes.train_queries
        return float(QUERY * queries + JUDGEMENT * judgements)

    def _scoring(self, label: str, spec: ModelSpec) -> Stage:
        """A cross-encoder scores the groups of the strategies that ask it, and reranks D_eval's candidates; a pair once."""
        name = f"score pairs with {label}"
        try:
            network = self.sizes.network(spec)
        except UserError:
            return self._unknown(name, spec)
        asking = [r for r in self.needs.recipes if label == r.teacher or (label in r.assistants and STRATEGIES[r.strategy].assistants)]
        pairs = sum(groups_of(r) * r.distill.group for r in asking)
        length = min(spec.pair_length or 512, self.texts.tokens + 15)
        return Stage(
            name,
            "done" if self._is_trained else "to do",
            f"up to {pairs:,} pairs of the groups, and D_eval's candidates",
            {CACHE: 12.0 * pairs},
            self._inference(network) + self._train_memory() + 36.0 * pairs,
            [Work("encode", network.operations * length * pairs, network.shape)],
        )

    # --- training ---

    def _training(self, system: System, recipe: Recipe) -> Stage:
        name, opened = f"train {system.label}", self.opened
        assert system.spec is not None
        beside = trained_beside(opened, recipe)
        try:
            student = self.sizes.network(system.spec)
            others = [self.sizes.network(opened.bench.models[label]) for label in beside]
        except UserError:
            return self._unknown(name, system.spec)
        distill, strategy, texts = recipe.distill, STRATEGIES[recipe.strategy], self.texts
        groups, queries = groups_of(recipe), self.sizes.train_queries[0]
        scorers = 2 + (len(recipe.assistants) if strategy.assistants else 0)
        parameters = student.parameters + sum(network.parameters for network in others)
        vectors = self._vectors(student) * min(distill.rounds, 1 + len(recipe.assistants))  # of students that are assistants now
        if strategy.chain:
            vectors += sum(map(self._vectors, others))
        lists = distill.rounds * 4.0 * queries * distill.depth
        disk = vectors + lists + groups * (4 + distill.group * (6 + 4 * scorers)) + parameters * (12 * (distill.keep_checkpoints + 1))
        disk += 4 * student.parameters * (distill.rounds + 1)
        in_a_step = step_tokens(recipe, system.spec, texts)
        kept = min(in_a_step, distill.micro_batch_tokens) if distill.gradient_cache else in_a_step
        gradients = kept * TRAINING * (1.0 if distill.precision == "float32" else 0.5) * student.layers * student.hidden
        in_groups = groups / distill.rounds * (GROUP + distill.group * (7 + 4 * scorers))
        in_groups += POOL * distill.depth * (1 + len(recipe.assistants))
        mining = self._exact(student.hidden, min(queries, MINING_PIECE), distill.depth)
        encoded = (distill.rounds * texts.passages) * student.operations * texts.cut(system.spec.passage_length)
        if strategy.chain:  # each link is measured and teaches
            encoded += sum(texts.passages * network.operations * texts.cut(None) for network in others)
        return Stage(
            name,
            "done" if self._is_done(f"train {system.label}") else "to do",
            f"{distill.steps} steps, {distill.rounds} rounds" + (f"; trains {', '.join(beside)} too" if beside else ""),
            {OUTPUT: disk},
            PYTHON + ADAM * parameters + max(gradients, mining, in_groups) + self._train_memory() + ID_COLUMNS * texts.passages,
            [
                Work("train", training_operations(opened, recipe, system.spec, self.sizes), student.shape),
                Work("encode", encoded, student.shape),
                Work("search", 2.0 * distill.rounds * queries * texts.passages * student.hidden),
            ],
        )

    @property
    def _is_trained(self) -> bool:
        """Whether no student is left to train, so that nothing is needed for it."""
        return all(self._is_done(f"train {system.label}") for system in self.opened.systems if system.recipe)

    def _is_over(self, label: str) -> bool:
        """Whether a model's vectors are needed no more: what it taught is trained, and it is searched, if it is a system at all."""
        is_system = any(system.label == label for system in self.opened.systems)
        return self._is_trained and (not is_system or self._is_done(f"encode {label}"))

    def _is_done(self, stage: str) -> bool:
        return self.opened.ledger.stages.get(stage, {}).get("status") == "done"

    # --- what is left in the run's folder ---

    def _searching(self) -> Iterator[Stage]:
        opened, bench, texts, queries = self.opened, self.opened.bench, self.texts, self.sizes.eval_queries
        done = all(self._is_done(f"search {s.label} {e.id}") for s in opened.systems for e in bench.eval_sets)
        dense = [self.sizes.network(s.spec) for s in opened.systems if s.spec and self.needs.is_known(s.spec)]
        if bench.dense.pyserini_index and dense:
            indexes = self._beside_the_run()
            indexed = all(self._is_done(f"encode {s.label}") for s in opened.systems if s.spec)
            note = f"{len(dense)} in Pyserini's layout; dense.pyserini_index=false: none"
            state = "done" if indexed else "to do"
            yield Stage("write FAISS indexes", state, note, {OUTPUT: indexes}, PYTHON, [Work("write", indexes)])
        hits, files = queries * bench.depth, len(opened.systems) * len(bench.eval_sets)
        blocks = PYTHON + ID_COLUMNS * texts.passages + max((4 * network.parameters for network in dense), default=0)
        most = max((self.sizes.queries(e.id)[0] for e in bench.eval_sets), default=0)
        blocks += max((self._index_bytes(network) or self._exact(network.hidden, most, bench.depth) for network in dense), default=0)
        blocks += PYSERINI if bench.dense.engine == "pyserini" and dense else 0
        lexical = any(s.kind == "lexical" for s in opened.systems)
        yield Stage(
            "search",
            "done" if done else "to do",
            f"{files} run files, top {bench.depth} of {queries:,} queries" if queries else f"{files} run files, top {bench.depth}",
            {OUTPUT: float(RUN_LINE * hits * len(opened.systems))},
            blocks + (self._heap() if lexical else 0),
            [self._search_work(s.label, queries) for s in opened.systems if s.kind == "lexical" or bench.dense.index == "flat"],
        )
        reported = done and self._is_done("report")
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
                index = 0 if linked else flat if opened.bench.dense.index == "flat" else self._index_bytes(network)
                total += texts.passages * ID_BYTES + index
        return total


def _table(label: str, spec: ModelSpec) -> Stage:
    found = Path(spec.scores).is_file()
    return Stage(f"scores of {label}", "cached" if found else "lacking", spec.scores if found else f"there is no file {spec.scores}")


def groups_of(recipe: Recipe) -> int:
    """Groups that a student is trained on, over all steps and processes."""
    return recipe.distill.steps * recipe.distill.batch_queries * environment.process_count()


def step_tokens(recipe: Recipe, spec: ModelSpec, texts: Texts) -> float:
    """Tokens of a step in one process: its queries and their groups."""
    of_query = min(12, spec.query_length or 12)
    return recipe.distill.batch_queries * (of_query + recipe.distill.group * texts.cut(spec.passage_length))


def trained_beside(opened: Run, recipe: Recipe) -> list[str]:
    """Labels of the models that are trained beside a student or before it."""
    strategy = STRATEGIES[recipe.strategy]
    if strategy.trains_teacher:
        return [recipe.teacher]
    return trainable(opened.bench, recipe.assistants) if strategy.chain else []


def training_operations(opened: Run, recipe: Recipe, spec: ModelSpec, sizes: Sizes) -> float:
    """Operations of all steps, forwards and twice as many backwards; gradient caching goes forwards twice."""
    of_networks = sum(sizes.network(opened.bench.models[label]).operations for label in trained_beside(opened, recipe))
    passes = 4 if recipe.distill.gradient_cache else 3
    tokens = step_tokens(recipe, spec, sizes.texts) * environment.process_count() * recipe.distill.steps
    return passes * tokens * (sizes.network(spec).operations + of_networks)


def check_disk(opened: Run) -> None:
    """EnvironmentLack when the disk is too small for what is left to do, before any of it is done."""
    stages = Stages(opened)
    lacking = disk_lack(disk_of(stages), stages.needs.places())
    if lacking:
        raise EnvironmentLack(
            "; ".join(lacking) + f". Free some space, or set what is in brackets to a larger disk; `mta4dpr-bench plan "
            f"{opened.request.benchmark}` says what each stage needs"
        )


def disk_of(stages: Iterable[Stage]) -> dict[str, float]:
    """Bytes that the stages still need, by place."""
    total: dict[str, float] = {}
    for stage in stages:
        for place, count in stage.disk.items():
            total[place] = total.get(place, 0) + count
    return total
