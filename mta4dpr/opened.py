"""An open run: the benchmark, its source and systems, and the data and devices that stages need, made when first needed."""

from __future__ import annotations

import logging
import os
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
from mta4dpr.benchmark import Benchmark, ModelSpec, parse_settings
from mta4dpr.checks import check_answered, check_names, check_request, idle_settings
from mta4dpr.data.collection import QuerySet, Source, judged_by_answers, load_query_set
from mta4dpr.data.corpus import Corpus, open_corpus, stored_corpus
from mta4dpr.errors import UserError
from mta4dpr.files import file_name, key_of, read_json
from mta4dpr.ledger import Ledger
from mta4dpr.rates import Rates
from mta4dpr.request import Request, System, output_folder, resolve_benchmark, resolve_systems

if TYPE_CHECKING:
    from mta4dpr.distill.queries import TrainingQueries
    from mta4dpr.distill.scorers import Scorer
    from mta4dpr.models.encoder import Encoder
    from mta4dpr.models.reranker import Reranker
    from mta4dpr.retrieval.bm25 import Bm25Retriever
    from mta4dpr.retrieval.dense import DenseRetriever

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
    # what identities.py, retrievers.py and teaching.py have made already
    identities: dict[str, Any] = field(default_factory=dict)
    open_retrievers: dict[str, Bm25Retriever | DenseRetriever] = field(default_factory=dict)
    made_again: set[Path] = field(default_factory=set)
    queries: dict[tuple[int, float, int], TrainingQueries] = field(default_factory=dict)
    scorers: dict[tuple[str, str], Scorer] = field(default_factory=dict)

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

    def limited(self, query_set: QuerySet) -> QuerySet:
        """The first N queries of an eval set under --limit."""
        if self.request.limit is None:
            return query_set
        texts = dict(list(query_set.texts.items())[: self.request.limit])
        qrels = {query_id: query_set.qrels[query_id] for query_id in texts}
        answers = {query_id: query_set.answers[query_id] for query_id in texts if query_id in query_set.answers}
        return replace(query_set, texts=texts, qrels=qrels, answers=answers)

    # models

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

    def training_folder(self, system: System) -> Path:
        return self.folder / "training" / file_name(system.label)


def bytes_of(size: str) -> int:
    """Bytes of a size such as 512m or 2g."""
    return int(size[:-1]) * {"m": 10**6, "g": 10**9}[size[-1]]


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
