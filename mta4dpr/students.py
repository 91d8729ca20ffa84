"""Trains one student of a run: Algorithm 1 by its strategy, then its model folder; says what that took."""

from __future__ import annotations

import gc
import logging
import shutil
from pathlib import Path
from typing import Any

from mta4dpr import environment
from mta4dpr.benchmark import Recipe
from mta4dpr.evaluation.efficiency import energy_used
from mta4dpr.files import SUMS, copy_folder, file_name, folder_written_aside, key_of, read_json, write_json
from mta4dpr.identities import training_inputs
from mta4dpr.opened import Run
from mta4dpr.planning.sizes import Sizes
from mta4dpr.planning.training import training_operations
from mta4dpr.request import System
from mta4dpr.teaching import training_bench

log = logging.getLogger(__name__)


def train(opened: Run, system: System, recipe: Recipe) -> None:
    """One student by one strategy: Algorithm 1, then its model folder."""
    from mta4dpr.distill.training_folder import mend

    inputs = training_inputs(opened, recipe)
    if opened.ledger.is_done(f"train {system.label}", inputs):
        return
    folder = opened.training_folder(system)
    _clear_if_other(folder, [inputs, environment.process_count()])
    mend(folder, recipe.distill)
    begun_before = [path.name for path in folder.iterdir()] != ["inputs.json"]
    with opened.ledger.stage(f"train {system.label}", inputs, by=opened.launch) as outputs:
        with energy_used() as joules:
            final = distil_student(opened, system, recipe)
        if joules and not begun_before:  # of a training that was stopped in between, the first part is not known
            write_json(folder / "energy.json", joules)
        model = opened.folder / "models" / file_name(system.label)
        with folder_written_aside(model) as aside:
            copy_folder(final, aside, leave_out=(SUMS,))
        outputs.append(model / "model.safetensors")
    _note_training(opened, system, recipe)
    gc.collect()  # networks and optimisers refer to themselves; without this, each strategy would add to the memory


def distil_student(opened: Run, system: System, recipe: Recipe) -> Path:
    from mta4dpr.distill.rounds import distil
    from mta4dpr.distill.strategies import STRATEGIES

    assert system.spec is not None
    student = opened.load_encoder(system.label, system.spec)
    reading = student.reading
    if reading.query_length != reading.passage_length:
        log.warning(
            "%s reads queries of %d and passages of %d tokens; elsewhere there is one length, so queries beyond %d "
            "tokens get other vectors in sentence-transformers and Pyserini",
            *(system.label, reading.query_length, reading.passage_length, reading.query_length),
        )
    return distil(system.label, STRATEGIES[recipe.strategy], student, training_bench(opened, recipe), opened.training_folder(system))


def _note_training(opened: Run, system: System, recipe: Recipe) -> None:
    """What the steps took, for the next plan."""
    from mta4dpr.distill.training_folder import read_lines

    assert system.spec is not None
    lines = read_lines(opened.training_folder(system) / "steps.jsonl")
    batch = recipe.distill.batch_queries * environment.process_count()
    sizes, seconds = Sizes(opened), sum(batch / line["examples_per_second"] for line in lines)
    amount = training_operations(opened, recipe, system.spec, sizes) * len(lines) / recipe.distill.steps
    opened.rates.note("train", amount, seconds, shape=sizes.network(system.spec).shape)


def _clear_if_other(folder: Path, inputs: Any) -> None:
    """A half-done training goes on only with the inputs it began with; without a note of them, their removal was interrupted."""
    note, wanted = folder / "inputs.json", {"key": key_of(inputs)}
    try:
        begun_with = read_json(note)
    except (OSError, ValueError):
        begun_with = None
    if folder.exists() and begun_with != wanted:
        note.unlink(missing_ok=True)
        shutil.rmtree(folder)
    write_json(note, wanted)


def training_seconds(opened: Run, system: System) -> float | None:
    return float(opened.ledger.stages[f"train {system.label}"]["seconds"]) if system.recipe else None
