"""An experiment that is open: the benchmark, its systems, its folder, and the data and engines that stages need.

Frozen: everything is given when it is opened, or made once when it is first asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from mta4dpr.config import plugins
from mta4dpr.config.benchmark import Benchmark, Recipe
from mta4dpr.config.yaml_files import parse_settings
from mta4dpr.data.collection import QuerySet, Source, judged_by_answers, load_query_set
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.rounds import best_round
from mta4dpr.distill.training_folder import vectors_folder
from mta4dpr.engines.engine import Engine
from mta4dpr.engines.registry import code_of, engine_named
from mta4dpr.engines.workplace import Workplace
from mta4dpr.errors import UserError
from mta4dpr.experiment.checks import check_answered, check_names, check_request, idle_settings
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.ledger import Ledger
from mta4dpr.experiment.manifest import ManifestWriter, known_manifest
from mta4dpr.experiment.request import Request, output_folder, resolve_benchmark
from mta4dpr.experiment.systems import System, resolve_systems, system_of
from mta4dpr.machine import environment
from mta4dpr.machine.files import key_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """What every stage is given. `every_eval_set` are those of the benchmark, chosen by --eval-sets or not."""

    request: Request
    bench: Benchmark
    source: Source
    systems: tuple[System, ...]
    folder: Folder
    every_eval_set: tuple[str, ...]
    cache: Path = field(default_factory=environment.cache_folder)
    repeats: str = ""  # SHA-256 of the manifest that this experiment repeats
    suite: str = ""  # that asked for this collection, in an experiment inside another one's folder
    kept: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)  # what stages share: training queries, scorers
    _engines: dict[str, Engine] = field(default_factory=dict, repr=False)
    _planned: dict[str, Engine] = field(default_factory=dict, repr=False)

    # --- the folder and the machine ------------------------------------------------------------------------------------

    @cached_property
    def ledger(self) -> Ledger:
        """What of the folder is done."""
        return Ledger(self.folder.path)

    @cached_property
    def manifest(self) -> ManifestWriter:
        """What the folder says of itself; begun when the folder is locked."""
        return ManifestWriter(self.folder)

    @cached_property
    def place(self) -> Workplace:
        """Corpus, cache and machine, which the experiment's engines share."""
        request = self.request
        return Workplace(self.source, self.cache, request.device, request.offline, request.redo or "")

    @property
    def corpus(self) -> Corpus:
        """The passages; read from their source on first use."""
        return self.place.corpus

    @property
    def threads(self) -> int:
        """Threads of torch, FAISS and Lucene."""
        return self.place.threads

    @cached_property
    def accelerator(self) -> Any:
        """Processes that train together: one, or those that torchrun or `accelerate launch` has started."""
        from accelerate import Accelerator

        return Accelerator(cpu=self.place.device == "cpu")

    def meet(self) -> str:
        """Where the processes of a launch come together, before one of them waits for another's files. Returns `launch`."""
        return self.launch

    @cached_property
    def launch(self) -> str:
        """A word that processes which were started together share and no earlier ones had; empty for one alone.

        First asked for by all of them at once (`meet`). By it they know what the main one began from what a killed run left behind. On a
        collection of a suite the main process works alone.
        """
        if environment.process_count() == 1 or self.suite:
            return ""
        from accelerate.utils import broadcast_object_list

        assert self.accelerator.num_processes == environment.process_count()
        return str(broadcast_object_list([uuid4().hex])[0])

    # --- queries -------------------------------------------------------------------------------------------------------

    @cached_property
    def exclude_self(self) -> bool:
        """Whether a passage that has its query's own id is left out (BEIR's convention for some collections)."""
        return self.bench.exclude_self or self.source.exclude_self

    @cached_property
    def eval_sets(self) -> dict[str, QuerySet]:
        """The eval sets asked for, whole. UserError for queries or judgements that cannot be read."""
        with self.place.reading():
            return {eval_set.id: load_query_set(self.source, eval_set.id) for eval_set in self.bench.eval_sets}

    def read_queries(self) -> None:
        """Reads the eval sets now, so that what cannot be read, or not be measured, stops a run before it makes a folder."""
        from mta4dpr.evaluation.measures import check_grades, parse_measures

        for eval_set in self.bench.eval_sets:
            check_grades(self.eval_sets[eval_set.id].qrels, parse_measures(eval_set.measures), f"{eval_set.id}: ")

    def query_set(self, name: str) -> QuerySet:
        """An eval set of the benchmark, asked for by this command or not."""
        known = self.eval_sets.get(name)
        if known is not None:
            return known
        with self.place.reading():
            return load_query_set(self.source, name)

    def limited(self, query_set: QuerySet) -> QuerySet:
        """The first N queries of an eval set under --limit."""
        if self.request.limit is None:
            return query_set
        texts = dict(list(query_set.texts.items())[: self.request.limit])
        qrels = {query_id: query_set.qrels[query_id] for query_id in texts}
        answers = {query_id: query_set.answers[query_id] for query_id in texts if query_id in query_set.answers}
        return replace(query_set, texts=texts, qrels=qrels, answers=answers)

    @cached_property
    def train_set(self) -> QuerySet:
        """The training queries. Training knows positives and all else alike, so judgements of 0 and less are not kept."""
        with self.place.reading():
            return load_query_set(self.source, self.bench.train, least=1)

    @cached_property
    def protected(self) -> list[QuerySet]:
        """The eval sets whose queries must not be trained on: all of the benchmark."""
        return [self.query_set(name) for name in self.every_eval_set]

    @cached_property
    def training_data(self) -> str:
        """A hash of what the training queries are made of."""
        return key_of([self.train_set.texts, self.train_set.qrels, [s.texts for s in self.protected], self.exclude_self])

    # --- engines -------------------------------------------------------------------------------------------------------

    @property
    def students(self) -> list[tuple[System, Recipe]]:
        """The systems that are trained here, with their recipes."""
        return [(system, system.recipe) for system in self.systems if system.recipe]

    def engine(self, system: System) -> Engine:
        """The engine of a system, the same one at each call; of a student, over the model that its training leaves."""
        root = self._root(system)
        known = self._engines.get(system.label)
        if known is None or (root is not None and known.root != root):
            made = system.as_trained(self.folder.model(system.label)) if system.recipe else system
            known = self._engines[system.label] = self.make_engine(made, root=root)
        return known

    def planned_engine(self, system: System) -> Engine:
        """The engine of a system, to be asked what it takes; of a student that is not trained yet, over the model it starts from."""
        if not system.recipe or self.folder.model(system.label).is_dir():
            return self.engine(system)
        if system.label not in self._planned:
            self._planned[system.label] = self.make_engine(system, root=self._root(system))
        return self._planned[system.label]

    def open_engine(self, system: System, *, beside: Collection[str] = ()) -> Engine:
        """The engine of a system, ready to search; those of others are closed, except `beside`. A student must have been trained."""
        for label, engine in self._engines.items():
            if label != system.label and label not in beside:
                engine.close()
        if system.recipe and not self.folder.model(system.label).is_dir():
            raise UserError(
                f"{system.label} is not trained in {self.folder.path} yet; `mta4dpr-bench run {self.request.benchmark}` trains it"
            )
        engine = self.engine(system)
        engine.open()
        return engine

    def make_engine(self, system: System, *, root: Path | None = None) -> Engine:
        """A new engine of that system's kind, options and model; what it makes is kept under `root`, by default in the cache."""
        engine = engine_named(system.engine)
        options = engine.options_of(self.bench, system.model, system.options)
        try:
            return engine(system.label, options, self.place, root=root)
        except TypeError as error:
            if not code_of(system.engine):
                raise
            raise UserError(f"{system.engine} is no engine yet: {error}; docs/your-own.md shows what one needs") from error

    def engine_of_role(self, label: str) -> Engine:
        """A new engine for a teacher, an assistant or a student before training, by its label in the benchmark."""
        return self.make_engine(system_of(self.bench, label))

    def _root(self, system: System) -> Path | None:
        """Where the vectors of a student's best round are; None for a system that is not trained here."""
        if not system.recipe:
            return None
        training = self.folder.training(system.label)
        return vectors_folder(training, best_round(training, system.recipe.distill))

    # --- what goes into a stage, said without loading a model ------------------------------------------------------------

    def identity(self, system: System) -> Any:
        """What decides a system's hits, beside the corpus."""
        if system.recipe:
            return [self.training_inputs(system.recipe), self.engine(system).settings]
        code = code_of(system.engine)
        return [plugins.name_of(system.engine), code, self.engine(system).identity] if code else self.engine(system).identity

    def training_inputs(self, recipe: Recipe) -> Mapping[str, Any]:
        """What decides a student's weights."""
        bench = self.bench
        roles = [recipe.teacher, *recipe.assistants, recipe.student]
        own = {role: self.identity(system_of(bench, role)) for role in roles if role in bench.engines}
        return {
            "strategy": plugins.name_of(recipe.strategy),
            "corpus": self.corpus.text_hash,
            "train": [bench.train, self.training_data],
            "seed": self.request.seed,
            "models": {role: self.place.model_identity(bench.models[role]) for role in roles if role in bench.models},
            "roles": roles,
            "bm25": bench.bm25.of_hits(),
            "dense": bench.dense.of_vectors(),
            "distill": recipe.distill.model_dump(),
            **({"engines": own} if own else {}),
        }


def open_experiment(request: Request) -> Experiment:
    """Resolves every name of a request; nothing is written or downloaded. UserError for what does not fit together."""
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
    return Experiment(request, bench, source, tuple(systems), Folder(folder), tuple(every_eval_set))


def _adds_rows(folder: Path, bench: Benchmark) -> bool:
    """Whether the folder holds a run with these options already: rows of other systems are added to it under the same ones."""
    known = known_manifest(Folder(folder))
    return known is not None and known["settings"].get("distill") == bench.distill.model_dump(mode="json")
