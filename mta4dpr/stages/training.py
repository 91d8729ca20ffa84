"""Trains one student: Algorithm 1 by its strategy, then its model folder; notes what that took."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mta4dpr.config.benchmark import Recipe
from mta4dpr.distill.registry import code_of, strategy_named
from mta4dpr.distill.rounds import distil
from mta4dpr.distill.training_folder import logs, mend, read_lines
from mta4dpr.evaluation.efficiency import energy_used
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.ledger import StageName
from mta4dpr.experiment.systems import System
from mta4dpr.machine import environment
from mta4dpr.machine.files import copy_folder, key_of, read_json, write_json
from mta4dpr.machine.kept import STAMPS, SUMS, files_of, sealed_folder
from mta4dpr.machine.work import StageKind
from mta4dpr.models.encoder import Encoder
from mta4dpr.planning.sizes import Sizes
from mta4dpr.planning.training import training_operations, training_pieces
from mta4dpr.stages.stage import Stage
from mta4dpr.stages.teaching import training_bench

log = logging.getLogger(__name__)

CUT_SHARE = 0.01  # of queries that may be cut without a word


def training(experiment: Experiment, system: System, recipe: Recipe) -> Stage:
    """The stage. All processes of a launch train together."""
    return Stage(
        StageName(StageKind.TRAIN, system.label),
        partial(experiment.training_inputs, recipe),
        partial(_train, experiment, system, recipe),
        along=partial(_train_along, experiment, system, recipe),
        pieces=partial(training_pieces, experiment, system, recipe),
        code=code_of(recipe.strategy, recipe.distill.select),
        forget=partial(shutil.rmtree, experiment.folder.training(system.label), ignore_errors=True),
        begin=partial(_begin, experiment, system, recipe),
    )


def _begin(experiment: Experiment, system: System, recipe: Recipe) -> None:
    """What an earlier command left goes on, if it was made by the same inputs and code, and is whole."""
    folder = experiment.folder.training(system.label)
    inputs = [experiment.training_inputs(recipe), environment.process_count()]
    _clear_if_other(folder, inputs, code_of(recipe.strategy, recipe.distill.select))
    mend(folder, recipe.distill)


def _train(experiment: Experiment, system: System, recipe: Recipe, outputs: list[Path]) -> None:
    folder = experiment.folder.training(system.label)
    begun_before = [path.name for path in folder.iterdir()] != ["inputs.json"]
    with energy_used() as joules:
        final = distil_student(experiment, system, recipe)
    if joules and not begun_before:  # of a training that was stopped in between, the first part is not known
        write_json(experiment.folder.energy(system.label), joules)
    model = experiment.folder.model(system.label)
    with sealed_folder(model) as aside:
        copy_folder(final, aside, leave_out=(SUMS, STAMPS))
    outputs += [model / name for name in [*files_of(model), SUMS]]
    experiment.ledger.note_logs(StageName(StageKind.TRAIN, system.label), logs(folder))
    _note_rate(experiment, system, recipe)
    gc.collect()  # networks and optimisers refer to themselves; without this, each strategy would add to the memory


def _train_along(experiment: Experiment, system: System, recipe: Recipe) -> None:
    distil_student(experiment, system, recipe)


def distil_student(experiment: Experiment, system: System, recipe: Recipe) -> Path:
    """Algorithm 1; returns the folder of the final student."""
    student = experiment.make_engine(system).load()
    bench = training_bench(experiment, recipe)
    if environment.is_main_process():
        _tell_of_cut_queries(experiment, system, student, bench.queries.texts)
    return distil(system.label, strategy_named(recipe.strategy), student, bench, experiment.folder.training(system.label))


def _tell_of_cut_queries(experiment: Experiment, system: System, student: Encoder, training: Sequence[str]) -> None:
    """A warning for each set of queries of which the student's length cuts more than CUT_SHARE: it never sees their ends."""
    sets = {"training": training, **{name: list(queries.texts.values()) for name, queries in experiment.eval_sets.items()}}
    for name, texts in sets.items():
        longest, cut = student.reading.query_length, student.query_tokens(texts).truncated(student.reading.query_length)
        if cut > CUT_SHARE * len(texts):
            log.warning(
                "%s reads queries to %d tokens, which cuts %d of %d queries (%s); query_length of its model sets another length",
                *(system.label, longest, cut, len(texts), name),
            )


def _note_rate(experiment: Experiment, system: System, recipe: Recipe) -> None:
    """What the steps took, for the next plan."""
    lines = read_lines(experiment.folder.training(system.label) / "steps.jsonl")
    batch = recipe.distill.batch_queries * environment.process_count()
    seconds = sum(batch / line["examples_per_second"] for line in lines)
    size = experiment.engine_of_role(recipe.student).model_size
    if size is not None:
        amount = training_operations(experiment, recipe, Sizes(experiment)) * len(lines) / recipe.distill.steps
        experiment.place.rates.note("train", amount, seconds, shape=size.shape)


def _clear_if_other(folder: Path, inputs: Any, code: str) -> None:
    """A half-done training goes on only with the inputs and the code it began with.

    Without a note of them, their removal was interrupted; earlier versions noted no code.
    """
    note, wanted = folder / "inputs.json", {"key": key_of(inputs), "code": code}
    try:
        begun_with = read_json(note)
    except (OSError, ValueError):
        begun_with = None
    if folder.exists() and (not isinstance(begun_with, dict) or {**wanted, **begun_with} != wanted):
        note.unlink(missing_ok=True)
        shutil.rmtree(folder)
    write_json(note, wanted)
