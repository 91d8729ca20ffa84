"""Makes a system ready for search: Lucene's index or kept vectors, what is built over them, and a copy for Pyserini beside the run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mta4dpr.experiment.description import system_entry
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.ledger import StageName
from mta4dpr.experiment.systems import System
from mta4dpr.machine import environment
from mta4dpr.machine.kept import files_of
from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.machine.work import Piece
from mta4dpr.planning.sizes import Sizes
from mta4dpr.stages.stage import Stage


def indexing(experiment: Experiment, system: System, *, needs: tuple[StageName, ...]) -> Stage:
    """The stage; its kind is the engine's: index or encode."""
    engine = experiment.engine(system)
    return Stage(
        StageName(engine.prepares, system.label),
        partial(inputs, experiment, system),
        partial(_index, experiment, system),
        needs,
        along=partial(_index_along, experiment, system) if engine.is_encoded_together else None,
        pieces=partial(_pieces, experiment, system),
    )


def inputs(experiment: Experiment, system: System) -> Any:
    """What decides an index, and whether it is left beside the run."""
    return [experiment.identity(system), experiment.corpus.text_hash, experiment.bench.dense.pyserini_index]


def _index(experiment: Experiment, system: System, outputs: list[Path]) -> None:
    engine, bench = experiment.open_engine(system), experiment.bench
    quality = {}
    if bench.eval_sets:  # a suite alone: its collections have their own rows
        quality = engine.quality(list(experiment.eval_sets[bench.eval_sets[0].id].texts.values()), bench.depth)
    experiment.manifest.note_system(system.label, system_entry(experiment, system, engine.facts | quality))
    if engine.leaves_index:
        folder = experiment.folder.index(system.label)
        engine.write_index(folder)
        outputs += [folder / name for name in files_of(folder)]


def _index_along(experiment: Experiment, system: System) -> None:
    experiment.open_engine(system)


def _pieces(experiment: Experiment, system: System, sizes: Sizes) -> Iterator[Piece]:
    engine = experiment.planned_engine(system)
    yield from engine.pieces(sizes.texts)
    yield from engine.search_pieces(sizes.texts)
    if engine.leaves_index and sizes.is_known(engine):
        places = sizes.places()
        one_disk = environment.file_system(places[CACHE]) == environment.file_system(places[OUTPUT])
        yield from engine.index_pieces(sizes.texts, one_disk=one_disk)
