"""What the students of an experiment are trained with: the training queries, and teacher and assistants that score them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mta4dpr.config.benchmark import ModelSpec, Recipe
from mta4dpr.config.options import Distill
from mta4dpr.data.tokens import tokens_of_corpus
from mta4dpr.distill.bench import Bench
from mta4dpr.distill.queries import TrainingQueries, training_queries
from mta4dpr.distill.trainer import Texts
from mta4dpr.engines.engine import Scorer
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.systems import System, system_of, trainable

log = logging.getLogger(__name__)


def open_training_queries(experiment: Experiment, options: Distill) -> TrainingQueries:
    """D_train and D_eval under those options; kept, as most students of a run share them."""
    key = ("training queries", options.positive_rel, options.eval_fraction, options.eval_max)
    if key not in experiment.kept:
        queries = training_queries(
            experiment.train_set,
            experiment.protected,
            experiment.corpus,
            positive_rel=options.positive_rel,
            eval_fraction=options.eval_fraction,
            eval_max=options.eval_max,
            exclude_self=experiment.exclude_self,
        )
        for line in queries.counts:
            log.info(line)
        experiment.kept[key] = queries
    return experiment.kept[key]


def open_scorer(experiment: Experiment, label: str, queries: TrainingQueries) -> Scorer:
    """The teacher or assistant of that label, bound to those queries; kept."""
    key = ("scorer", label, queries.key)
    if key not in experiment.kept:
        experiment.kept[key] = experiment.engine_of_role(label).scorer(queries)
    return experiment.kept[key]


def training_bench(experiment: Experiment, recipe: Recipe) -> Bench:
    """What a student is trained with: the training queries, and how scorers and networks are opened."""
    corpus, options, place = experiment.corpus, recipe.distill, experiment.place
    queries = open_training_queries(experiment, options)

    def texts(network: Any) -> Texts:
        passages = tokens_of_corpus(place.cache, corpus, network.tokenizer, prefix=network.reading.passage_prefix)
        return Texts(network.query_tokens(queries.texts), passages)

    def freeze(label: str, model: Path, root: Path) -> Scorer:
        student = system_of(experiment.bench, recipe.student)
        frozen = System(label, student.kind, student.engine, ModelSpec(model=str(model)))
        return experiment.make_engine(frozen, root=root).scorer(queries)

    return Bench(
        corpus=corpus,
        queries=queries,
        teacher=recipe.teacher,
        assistants=recipe.assistants,
        trainable=trainable(experiment.bench, recipe.assistants),
        scorer=lambda label: open_scorer(experiment, label, queries),
        network=lambda label: experiment.engine_of_role(label).load(),
        mining=place.cache / "mining",
        freeze=freeze,
        texts=texts,
        options=options,
        seed=experiment.request.seed,
        exclude_self=experiment.exclude_self,
        accelerator=experiment.accelerator,
        tensorboard=experiment.request.tensorboard,
    )
