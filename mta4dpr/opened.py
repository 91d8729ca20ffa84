"""An open run: the benchmark, its source and systems, and all that stages need, made when it is first needed.

Identities say what goes into a stage without loading a model, so that a finished run is recognised at once.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock

from mta4dpr import environment
from mta4dpr.benchmark import Benchmark, ModelSpec, Recipe, parse_settings
from mta4dpr.checks import check_answered, check_names, check_request, idle_settings
from mta4dpr.data.collection import QuerySet, Source, judged_by_answers, load_query_set
from mta4dpr.data.corpus import Corpus, open_corpus, stored_corpus
from mta4dpr.errors import UserError
from mta4dpr.files import file_name, key_of, read_json, sha256_of_file
from mta4dpr.ledger import Ledger
from mta4dpr.models.published import operations_of, shape_of
from mta4dpr.rates import Rates
from mta4dpr.request import Request, System, output_folder, resolve_benchmark, resolve_systems, trainable

if TYPE_CHECKING:
    from mta4dpr.distill.assistants import Scorer
    from mta4dpr.distill.queries import TrainingQueries
    from mta4dpr.distill.rounds import Bench
    from mta4dpr.models.encoder import Encoder
    from mta4dpr.models.reranker import Reranker
    from mta4dpr.retrieval.bm25 import Bm25Retriever
    from mta4dpr.retrieval.dense import DenseRetriever
    from mta4dpr.retrieval.vectors import Vectors

log = logging.getLogger(__name__)


@dataclass
class Run:
    """An open run: what every stage needs, made when it is first needed."""

    request: Request
    bench: Benchmark
    source: Source
    systems: list[System]
    folder: Path
    every_eval_set: list[str]  # of the benchmark, chosen by --eval-sets or not
    cache: Path = field(default_factory=environment.cache_folder)
    repeats: str = ""  # SHA-256 of the manifest that this run repeats
    suite: str = ""  # that asked for this collection, in a run inside another one's folder
    _scorers: dict[tuple[str, str], Scorer] = field(default_factory=dict)
    _training_queries: dict[tuple[int, float, int], TrainingQueries] = field(default_factory=dict)
    _open: dict[str, Bm25Retriever | DenseRetriever] = field(default_factory=dict)
    _identities: dict[str, Any] = field(default_factory=dict)
    _made_again: set[Path] = field(default_factory=set)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.folder)

    @cached_property
    def corpus(self) -> Corpus:
        known, started = stored_corpus(self.cache, self.source), time.perf_counter()
        with self._reading():
            corpus = open_corpus(self.cache, self.source, verify=self.request.redo == "data")
        if known is None:
            self.rates.note("read", (corpus.folder / "texts.bin").stat().st_size, time.perf_counter() - started)
        return corpus

    @cached_property
    def rates(self) -> Rates:
        """What earlier runs on this machine took, and where this one notes what it takes."""
        return Rates(self.cache, device=lambda: self.device, threads=self.threads)

    @cached_property
    def device(self) -> str:
        device, reason = environment.choose_device(self.request.device)
        environment.set_threads(self.threads)
        log.info("device %s (%s), %d threads", device, reason, self.threads)
        return device

    @cached_property
    def threads(self) -> int:
        return environment.choose_threads()[0]

    @cached_property
    def exclude_self(self) -> bool:
        return self.bench.exclude_self or self.source.exclude_self

    @cached_property
    def eval_sets(self) -> dict[str, QuerySet]:
        with self._reading():
            return {e.id: load_query_set(self.source, e.id) for e in self.bench.eval_sets}

    def query_set(self, name: str) -> QuerySet:
        """An eval set of the benchmark, asked for by this command or not."""
        found = self.eval_sets.get(name)
        if found is None:
            with self._reading():
                found = load_query_set(self.source, name)
        return found

    @cached_property
    def train_set(self) -> QuerySet:
        """Training knows positives and all else alike, so judgements of 0 and less are not kept."""
        with self._reading():
            return load_query_set(self.source, self.bench.train, least=1)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One process of a launch at a time reads the source: ir_datasets downloads on first use, and all to the same place."""
        if environment.process_count() == 1:
            yield
            return
        self.cache.mkdir(parents=True, exist_ok=True)
        with FileLock(str(self.cache / f".source-{key_of(self.source.identity)}.lock")):
            yield

    @cached_property
    def protected(self) -> list[QuerySet]:
        """The eval sets whose queries must not be trained on: all of the benchmark."""
        return [self.query_set(name) for name in self.every_eval_set]

    @cached_property
    def training_data(self) -> str:
        """A hash of what the training queries are made of."""
        return key_of([self.train_set.texts, self.train_set.qrels, [s.texts for s in self.protected], self.exclude_self])

    @cached_property
    def accelerator(self) -> Any:
        """Processes that train together: one, or those that torchrun or `accelerate launch` has started."""
        from accelerate import Accelerator

        return Accelerator(cpu=self.device == "cpu")

    @cached_property
    def launch(self) -> str:
        """A word that processes which were started together share and no earlier ones had; empty for one alone.

        Asked for by all of them at once. By it they know what the main one began from what a killed run left behind.
        """
        if environment.process_count() == 1:
            return ""
        from accelerate.utils import broadcast_object_list

        assert self.accelerator.num_processes == environment.process_count()
        return str(broadcast_object_list([uuid4().hex])[0])

    def training(self, recipe: Recipe) -> Bench:
        return _bench(self, recipe)

    def limited(self, query_set: QuerySet) -> QuerySet:
        """The first N queries of an eval set under --limit."""
        if self.request.limit is None:
            return query_set
        texts = dict(list(query_set.texts.items())[: self.request.limit])
        qrels = {query_id: query_set.qrels[query_id] for query_id in texts}
        answers = {query_id: query_set.answers[query_id] for query_id in texts if query_id in query_set.answers}
        return replace(query_set, texts=texts, qrels=qrels, answers=answers)

    # systems

    def load_encoder(self, label: str, spec: ModelSpec) -> Encoder:
        from mta4dpr.models.encoder import load_encoder

        texts = [passage.text for passage in islice(self.corpus, 2000)] if spec.untrained else []
        return load_encoder(label, spec, device=self.device, offline=self.request.offline, texts=texts)

    def network(self, label: str) -> Encoder | Reranker:
        """A fresh network of the benchmark's model of that label."""
        from mta4dpr.models.reranker import load_reranker

        spec = self.bench.models[label]
        if spec.kind == "bi-encoder":
            return self.load_encoder(label, spec)
        texts = [passage.text for passage in islice(self.corpus, 2000)] if spec.untrained else []
        return load_reranker(label, spec, device=self.device, offline=self.request.offline, texts=texts)

    def training_queries(self, positive_rel: int, eval_fraction: float, eval_max: int) -> TrainingQueries:
        """D_train and D_eval under those options; kept, as most students of a run share them."""
        from mta4dpr.distill.queries import training_queries

        key = (positive_rel, eval_fraction, eval_max)
        if key not in self._training_queries:
            queries = training_queries(
                self.train_set,
                self.protected,
                self.corpus,
                positive_rel=positive_rel,
                eval_fraction=eval_fraction,
                eval_max=eval_max,
                exclude_self=self.exclude_self,
            )
            for line in queries.counts:
                log.info(line)
            self._training_queries[key] = queries
        return self._training_queries[key]

    def scorer(self, label: str, queries: TrainingQueries) -> Scorer:
        """The teacher or assistant of that label, bound to those queries; kept."""
        key = (label, queries.key)
        if key not in self._scorers:
            self._scorers[key] = self._scorer(label, queries)
        return self._scorers[key]

    def _scorer(self, label: str, queries: TrainingQueries) -> Scorer:
        from mta4dpr.data.tokens import tokens_of_corpus
        from mta4dpr.distill.assistants import Bm25Scorer, CrossEncoderScorer, TableScorer
        from mta4dpr.distill.pairs import PairScores

        bench, corpus = self.bench, self.corpus
        if label == "bm25":
            return Bm25Scorer(self.bm25(), queries.texts, _bm25_key(bench, corpus))
        spec = bench.models[label]
        if spec.scores:
            return TableScorer(label, Path(spec.scores), queries.ids, corpus, key_of(self.model_identity(spec)))
        network: Any = self.network(label)
        if spec.kind == "bi-encoder":
            return _bi_encoder(self, network, queries, self.cache, index=spec.index)
        passages = tokens_of_corpus(self.cache, corpus, network.tokenizer, prefix=network.reading.passage_prefix)
        pairs = PairScores(
            self.cache,
            network,
            network.pairs(network.query_tokens(queries.texts), passages),
            query_hashes=queries.text_hashes,
            text_hash=corpus.text_hash,
            token_budget=self.bench.dense.token_budget,
        )
        return CrossEncoderScorer(pairs)

    def bm25(self) -> Bm25Retriever:
        from mta4dpr.retrieval.bm25 import Bm25Retriever, build_index, index_folder

        settings = self.bench.bm25
        if settings.index:
            from mta4dpr.retrieval.prebuilt import bring, check_lucene, find

            prebuilt = find(settings.index, dense=False, heap=settings.heap)
            folder = bring(prebuilt, offline=self.request.offline)
        else:
            known, started = (index_folder(self.cache, self.corpus) / "mta4dpr.json").exists(), time.perf_counter()
            folder = build_index(self.cache, self.corpus, heap=settings.heap, threads=self.threads)
            if not known:
                self.rates.note("index", len(self.corpus), time.perf_counter() - started)
        retriever = Bm25Retriever(folder, self.corpus, self.bench.bm25, self.threads)
        if settings.index:
            check_lucene(retriever, prebuilt, self.corpus)
        if retriever.not_indexed:
            log.info("bm25: %d of %d passages are empty; Lucene leaves them out", retriever.not_indexed, len(self.corpus))
        return retriever

    def dense(self, encoder: Encoder, root: Path, *, index: str = "") -> DenseRetriever:
        """A retriever over the encoder's kept vectors under `root`; encodes the corpus, or copies a prebuilt `index`, if need be."""
        from mta4dpr.data.tokens import tokens_of_corpus
        from mta4dpr.retrieval.dense import DenseRetriever
        from mta4dpr.retrieval.vectors import encode, passages_per_second, stored_vectors, vectors_folder

        reading = encoder.reading
        tokens = tokens_of_corpus(self.cache, self.corpus, encoder.tokenizer, prefix=reading.passage_prefix)
        cut = tokens.truncated(reading.passage_length)
        if cut:
            log.info("%s: %d of %d passages are cut to %d tokens", encoder.label, cut, len(tokens), reading.passage_length)
        if index:
            from mta4dpr.retrieval.prebuilt import bring, find, vectors_of

            prebuilt = find(index, dense=True, heap=self.bench.bm25.heap)
            place = bring(prebuilt, offline=self.request.offline)
            copied = vectors_of(root, prebuilt, place, corpus=self.corpus, encoder=encoder, tokens=tokens, how=self.encoding)
            return DenseRetriever(encoder, copied, self.corpus, memory=bytes_of(self.bench.dense.search_memory))
        folder = vectors_folder(root, encoder, tokens, reading.passage_length, self.encoding)
        if self.request.redo == "encode" and folder not in self._made_again:
            self._made_again.add(folder)
            shutil.rmtree(folder, ignore_errors=True)
        known = stored_vectors(folder)
        vectors = encode(root, encoder, tokens, longest=reading.passage_length, how=self.encoding)
        rate = passages_per_second(vectors.folder)
        if known is None and rate:
            layers, hidden = encoder.size
            operations = operations_of(layers, hidden) * int(tokens.lengths(reading.passage_length).sum())
            self.rates.note("encode", operations, len(tokens) / rate, shape=shape_of(layers, hidden))
        return DenseRetriever(encoder, vectors, self.corpus, memory=bytes_of(self.bench.dense.search_memory))

    @cached_property
    def encoding(self) -> Any:
        from mta4dpr.retrieval.vectors import Encoding

        dense = self.bench.dense
        return Encoding(dense.dtype, dense.token_budget, self.threads, dense.precision)

    def retriever(self, system: System) -> Bm25Retriever | DenseRetriever:
        """The system, ready to search, kept until another one is asked for. Students must have been trained."""
        if system.label not in self._open:
            self._open.clear()
            self._open[system.label] = self._retriever(system)
        return self._open[system.label]

    def _retriever(self, system: System) -> Bm25Retriever | DenseRetriever:
        if system.kind == "lexical":
            return self.bm25()
        if system.recipe:
            model = self.folder / "models" / file_name(system.label)
            if not model.is_dir():
                raise UserError(
                    f"{system.label} is not trained in {self.folder} yet; `mta4dpr-bench run {self.request.benchmark}` trains it"
                )
            encoder = self.load_encoder(system.label, ModelSpec(model=str(model)))
            retriever = self.dense(encoder, self._vectors_of_student(system))
        else:
            assert system.spec is not None
            retriever = self.dense(self.load_encoder(system.label, system.spec), self.cache, index=system.spec.index)
        if self.bench.dense.index != "flat" and environment.is_main_process():
            from mta4dpr.retrieval.approximate import ApproximateIndex

            again = self.request.redo == "index" and retriever.vectors.folder not in self._made_again
            self._made_again.add(retriever.vectors.folder)
            place = self._built(retriever.vectors, again=again)
            retriever.approximate = ApproximateIndex(place, self.corpus, self.bench.dense, self.threads)
        if self.bench.dense.engine == "pyserini" and environment.is_main_process():
            from mta4dpr.retrieval.dense import write_faiss_index
            from mta4dpr.retrieval.pyserini_faiss import PyseriniIndex

            file = retriever.approximate.file if retriever.approximate else None
            place = (file.parent if file else retriever.vectors.folder) / "pyserini"
            with FileLock(str(place) + ".lock"):
                if not place.exists():
                    write_faiss_index(place, retriever.vectors, self.corpus, approximate=file)
            retriever.pyserini = PyseriniIndex(place, self.corpus, heap=self.bench.bm25.heap, threads=self.threads)
        return retriever

    def _built(self, vectors: Vectors, *, again: bool) -> Path:
        """The approximate index over those vectors; what building it takes is noted."""
        from mta4dpr.retrieval.approximate import build, building_work, index_folder, is_repeatable

        dense, size = self.bench.dense, len(vectors)
        known, started = (index_folder(vectors.folder, dense, size) / "about.json").exists(), time.perf_counter()
        place = build(vectors, dense, self.threads, again=again)
        if again or not known:
            work = building_work(dense, size, vectors.dimensions) * (self.threads if is_repeatable(dense, size) else 1)
            self.rates.note(dense.index, work, time.perf_counter() - started)
        return place

    def training_folder(self, system: System) -> Path:
        return self.folder / "training" / file_name(system.label)

    def _vectors_of_student(self, system: System) -> Path:
        from mta4dpr.distill.rounds import best_round

        assert system.recipe is not None
        folder = self.training_folder(system)
        return folder / f"round-{best_round(folder, system.recipe.distill)}"

    # identities: what the inputs of a stage are, without loading a model

    def identity(self, system: System) -> Any:
        if system.kind == "lexical":
            return ["bm25", self.bench.bm25.k1, self.bench.bm25.b, *filter(None, [self.bench.bm25.index])]
        dense = {**self.bench.dense.of_vectors(), **self.bench.dense.of_search()}
        if system.recipe:
            return [self.training_inputs(system.recipe), dense]
        assert system.spec is not None
        return [self.model_identity(system.spec), dense]

    def model_identity(self, spec: ModelSpec) -> Any:
        """What names a model's weights and reading; files are hashed once a run."""
        key = spec.model_dump_json()
        if key not in self._identities:
            self._identities[key] = self._model_identity(spec)
        return self._identities[key]

    def _model_identity(self, spec: ModelSpec) -> Any:
        from mta4dpr.models.encoder import hash_of_files
        from mta4dpr.models.zoo import find_model

        described = spec.model_dump(exclude={"model", "scores"})
        if spec.scores:
            return [described, sha256_of_file(_existing(Path(spec.scores)))]
        if spec.untrained:
            return described
        return [described, hash_of_files(find_model(spec.model, offline=self.request.offline)[0])]

    def training_inputs(self, recipe: Recipe) -> Any:
        bench = self.bench
        roles = [recipe.teacher, *recipe.assistants, recipe.student]
        return {
            "strategy": recipe.strategy,
            "corpus": self.corpus.text_hash,
            "train": [bench.train, self.training_data],
            "seed": self.request.seed,
            "models": {role: self.model_identity(bench.models[role]) for role in roles if role in bench.models},
            "roles": roles,
            "bm25": bench.bm25.model_dump(exclude={"heap"}),
            "dense": bench.dense.of_vectors(),
            "distill": recipe.distill.model_dump(),
        }


def _bm25_key(bench: Benchmark, corpus: Corpus) -> str:
    return key_of(["bm25", corpus.text_hash, bench.bm25.k1, bench.bm25.b, *filter(None, [bench.bm25.index])])


def bytes_of(size: str) -> int:
    """Bytes of a size such as 512m or 2g."""
    return int(size[:-1]) * {"m": 10**6, "g": 10**9}[size[-1]]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    return path


def open_run(request: Request) -> Run:
    """Resolves every name of a request; nothing is written or downloaded."""
    check_request(request)
    # ir_datasets then takes a file of any size from its own downloads folder; read when it is imported
    os.environ.setdefault("IR_DATASETS_SMALL_FILE_SIZE", "0")
    if request.offline:
        environment.refuse_network()
    bench, source, every_eval_set = resolve_benchmark(request)
    systems = resolve_systems(bench, request.systems)
    check_names(bench, systems)
    check_answered([eval_set for eval_set in bench.eval_sets if judged_by_answers(source, eval_set.id)])
    folder = output_folder(request, bench)
    idle = idle_settings(bench, systems, parse_settings(list(request.settings)).get("distill", {}))
    if idle and not _adds_rows(folder, bench):
        raise UserError("\n".join(idle))
    if request.device:
        environment.choose_device(request.device)
    return Run(request, bench, source, systems, folder, every_eval_set)


def _adds_rows(folder: Path, bench: Benchmark) -> bool:
    """Whether the folder holds a run with these options already: rows of other systems are added to it under the same ones."""
    path = folder / "manifest.json"
    known = read_json(path).get("settings", {}).get("distill") if path.exists() else None
    return bool(known == bench.distill.model_dump(mode="json"))


def _bench(opened: Run, recipe: Recipe) -> Bench:
    """What a student is trained with: the training queries, and how scorers and networks are opened."""
    from mta4dpr.data.tokens import tokens_of_corpus
    from mta4dpr.distill.rounds import Bench
    from mta4dpr.distill.trainer import Texts

    corpus, options = opened.corpus, recipe.distill
    queries = opened.training_queries(options.positive_rel, options.eval_fraction, options.eval_max)

    def texts(network: Any) -> Texts:
        passages = tokens_of_corpus(opened.cache, corpus, network.tokenizer, prefix=network.reading.passage_prefix)
        return Texts(network.query_tokens(queries.texts), passages)

    def freeze(label: str, model: Path, root: Path) -> Scorer:
        return _bi_encoder(opened, opened.load_encoder(label, ModelSpec(model=str(model))), queries, root)

    return Bench(
        corpus=corpus,
        queries=queries,
        teacher=recipe.teacher,
        assistants=recipe.assistants,
        trainable=trainable(opened.bench, recipe.assistants),
        scorer=lambda label: opened.scorer(label, queries),
        network=opened.network,
        mining=opened.cache / "mining",
        freeze=freeze,
        texts=texts,
        options=options,
        seed=opened.request.seed,
        exclude_self=opened.exclude_self,
        accelerator=opened.accelerator,
        tensorboard=opened.request.tensorboard,
    )


def _bi_encoder(opened: Run, encoder: Encoder, queries: TrainingQueries, root: Path, *, index: str = "") -> Scorer:
    from mta4dpr.distill.assistants import BiEncoderScorer
    from mta4dpr.retrieval.vectors import encode

    tokens = encoder.query_tokens(queries.texts)
    vectors = encode(root, encoder, tokens, longest=encoder.reading.query_length, how=opened.encoding)
    retriever = opened.dense(encoder, root, index=index)
    key = key_of([encoder.key, opened.encoding.parts, opened.device, *filter(None, [index])])
    return BiEncoderScorer(encoder.label, retriever.index, vectors.array, key)
