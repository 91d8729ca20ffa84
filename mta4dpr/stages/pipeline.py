"""The stages of an experiment in their order, and the loops over them: do what is left, do it again, work along, add up what it takes.

    for each system: train it (students), index or encode, search every eval set -> time all -> evaluate -> report

What is shared between runs (corpus stores, indexes, tokens, vectors) is kept in the cache; what belongs to this run is in
its folder, and its ledger says which of it is done.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.evaluation.efficiency import peak_memory_bytes
from mta4dpr.experiment import suite
from mta4dpr.experiment.description import absent_passages, command_note, describe
from mta4dpr.experiment.efficiency import forget_damaged_efficiency
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.ledger import Ledger, StageName, locked
from mta4dpr.experiment.request import REDO
from mta4dpr.machine import environment
from mta4dpr.machine.places import disk_lack
from mta4dpr.machine.work import Piece, StageKind
from mta4dpr.planning.needs import Needs
from mta4dpr.planning.sizes import Sizes
from mta4dpr.stages.costs import disk_of, rows_of
from mta4dpr.stages.evaluation import evaluation
from mta4dpr.stages.indexing import indexing
from mta4dpr.stages.latency import latencies
from mta4dpr.stages.reporting import reporting
from mta4dpr.stages.searching import searching
from mta4dpr.stages.stage import Stage
from mta4dpr.stages.training import training

log = logging.getLogger(__name__)


def stages_of(experiment: Experiment) -> list[Stage]:
    """All stages of an experiment, in the order in which they are done. The only place that knows it."""
    bench = experiment.bench
    stages, ready, found = list[Stage](), list[Stage](), list[Stage]()
    for system in experiment.systems:
        trained = [training(experiment, system, system.recipe)] if system.recipe else []
        index = indexing(experiment, system, needs=_names(trained))
        searches = [searching(experiment, system, eval_set, needs=(index.name,)) for eval_set in bench.eval_sets]
        stages += [*trained, index, *searches]
        ready, found = [*ready, index], [*found, *searches]
    timed = latencies(experiment, needs={stage.name.system: (stage.name,) for stage in ready}) if bench.eval_sets else []
    collections = [_collections(experiment, name, needs=_names(ready)) for name in bench.suites]
    evaluate = evaluation(experiment, needs=_names([*found, *collections]))
    return [*stages, *timed, *collections, evaluate, reporting(experiment, needs=_names([evaluate, *timed]))]


def _names(stages: Iterable[Stage]) -> tuple[StageName, ...]:
    return tuple(stage.name for stage in stages)


def _collections(experiment: Experiment, name: str, *, needs: tuple[StageName, ...]) -> Stage:
    """The experiments on the collections of a suite that are here, each with stages and a ledger of its own."""
    asked = experiment.bench.suites[name]

    def members() -> list[Experiment]:
        return [suite.member(experiment, name, one) for one in suite.at_hand(name, asked)]

    def work(_: list[Path]) -> None:
        for member in members():
            _work(member)

    def are_done() -> bool:
        for member in members():
            _begin(member)
            if not is_complete(member, stages_of(member)):
                return False
        return True

    def pieces(_: Sizes) -> Iterator[Piece]:
        yield Piece(f"collections of {name}", note=f"up to {len(asked.sets)}, each with runs and indexes of its own: not counted")

    return Stage(StageName(StageKind.COLLECTIONS, name), lambda: None, work, needs, pieces=pieces, is_done=are_done)


# --- the loops over them -----------------------------------------------------------------------------------------------


def complete(experiment: Experiment) -> None:
    """Everything that is not done yet."""
    prepare(experiment)
    if environment.is_main_process():
        _work(experiment)
    else:
        work_along(experiment, stages_of(experiment))


def complete_trainings(experiment: Experiment) -> None:
    """The students that are not trained yet."""
    prepare(experiment)
    if environment.is_main_process():
        _work(experiment, only=StageKind.TRAIN)
    else:
        work_along(experiment, [stage for stage in stages_of(experiment) if stage.kind is StageKind.TRAIN])


def prepare(experiment: Experiment) -> None:
    """What must be so before a folder is made or locked, or a file is downloaded."""
    for name, one in experiment.bench.suites.items():
        suite.at_hand(name, one)
    if environment.is_main_process():
        check_disk(experiment)
    experiment.read_queries()
    if experiment.request.redo and environment.process_count() > 1:
        raise UserError("--redo takes one process; run it once without torchrun, then start the processes")
    experiment.meet()


def _work(experiment: Experiment, *, only: StageKind | None = None) -> None:
    """What is left of the stages (of one kind alone), under the folder's lock."""
    folder = experiment.folder
    with locked(folder.path, wait=experiment.request.wait):
        _begin(experiment)
        every = stages_of(experiment)
        stages = [stage for stage in every if only in (None, stage.kind)]
        if experiment.request.redo:
            redo(experiment, every, experiment.request.redo)
        if is_complete(experiment, stages):
            log.info("all of them are trained already in %s" if only else "everything is done already in %s", folder.path)
            return
        with experiment.manifest.of_command(command_note(experiment)):
            for query_set in experiment.eval_sets.values():
                for line in [*query_set.counts, *absent_passages(experiment, query_set)]:
                    log.info(line)
            for stage in stages:
                perform(experiment, stage, every)
            for parts in folder.all_parts():
                shutil.rmtree(parts, ignore_errors=True)
    if not only:
        shares = ", ".join(f"{stage['stage']} {stage['share']:.0%}" for stage in experiment.ledger.shares())
        log.info("time by stage: %s; peak memory %s", shares, environment.gigabytes(peak_memory_bytes()))


def _begin(experiment: Experiment) -> None:
    """Reads what earlier commands left in the folder, and refuses other settings than theirs."""
    experiment.ledger.read()
    if not experiment.folder.manifest.exists() and experiment.ledger.stages:  # nothing is known of earlier rows: only training is kept
        experiment.ledger.forget([stage for stage in experiment.ledger.stages if stage.kind is not StageKind.TRAIN])
    experiment.manifest.begin(describe(experiment))
    for path in (path for stage in experiment.ledger.stages for path in experiment.ledger.changed_logs(stage)):
        log.warning("%s is not what the training wrote; it is removed, and its curve with it", path)
        path.unlink()
    timed = [stage for stage in experiment.ledger.stages if stage.kind is StageKind.LATENCY]
    if timed and forget_damaged_efficiency(experiment.folder):
        log.warning("%s is gone or not what was written there; times of queries are taken again", experiment.folder.efficiency)
        experiment.ledger.forget(timed)
    lost = {system for system in experiment.manifest.document["systems"] if not _has_rows(experiment, system)}
    lost -= {system.label for system in experiment.systems}
    if lost:
        log.warning(
            "%s: the ledger knows no run file of %s; run them again to have their rows", experiment.folder.path, ", ".join(sorted(lost))
        )


def _has_rows(experiment: Experiment, label: str) -> bool:
    return any(name.kind is StageKind.SEARCH and name.system == label for name in experiment.ledger.stages)


def is_complete(experiment: Experiment, stages: Sequence[Stage]) -> bool:
    """Whether all of those stages are done, so that nothing need be loaded or written."""
    return all(_is_done(experiment, stage) for stage in stages)


def _is_done(experiment: Experiment, stage: Stage) -> bool:
    return stage.is_done() if stage.is_done else experiment.ledger.is_done(stage.name, stage.inputs(), code=stage.code)


def perform(experiment: Experiment, stage: Stage, every: Sequence[Stage]) -> None:
    """Does a stage that is not done yet. If what it makes is not what it made before, all that follows from it is done again."""
    if stage.is_done:
        stage.do([])
        return
    ledger, inputs = experiment.ledger, stage.inputs()
    if ledger.is_done(stage.name, inputs, code=stage.code):
        return
    why = ledger.why_again(stage.name, inputs, code=stage.code)
    if why:
        log.info("%s: done again, as %s", stage.name, why)
    stage.begin()
    followers = _followers(experiment, stage.name, every)
    with ledger.stage(stage.name, inputs, code=stage.code, by=experiment.launch, followers=followers) as outputs:
        stage.do(outputs)


def following(names: set[StageName], stages: Sequence[Stage]) -> set[StageName]:
    """Those stages and all that follow from them."""
    found = set(names)
    for stage in stages:  # each stands behind what it follows from
        if found & set(stage.needs):
            found.add(stage.name)
    return found


def _followers(experiment: Experiment, of: StageName, stages: Sequence[Stage]) -> set[StageName]:
    """Stages in the ledger that follow from one, on eval sets that this command leaves out too."""
    kinds = {name.kind for name in following({of}, stages) - {of}}
    return {name for name in experiment.ledger.stages if name.kind in kinds and name.system in ("", of.system)}


def redo(experiment: Experiment, stages: Sequence[Stage], what: str) -> None:
    """Forgets the stages that --redo names, and all that follow from them, so that they are done again."""
    again = following({stage.name for stage in stages if stage.kind in REDO[what]}, stages)
    for stage in stages:
        if stage.name in again and stage.kind == what:
            stage.forget()
    experiment.ledger.forget(again.union(*(_followers(experiment, name, stages) for name in again)))


def work_along(experiment: Experiment, stages: Sequence[Stage]) -> None:
    """What a process that is not the main one does: its part of the stages that processes do together; it waits in between."""
    for stage in stages:
        if stage.along and has_begun(experiment, stage):
            stage.along()


def has_begun(experiment: Experiment, stage: Stage) -> bool:
    """Waits until the main process of this launch is at that stage: True; or until the stage is done: False."""
    inputs = stage.inputs()
    while True:
        ledger = Ledger(experiment.folder.path)
        if ledger.is_done(stage.name, inputs, code=stage.code):
            return False
        if ledger.is_running(stage.name, inputs, by=experiment.launch):
            return True
        time.sleep(0.5)


# --- what it takes -----------------------------------------------------------------------------------------------------


def pieces_of(experiment: Experiment, needs: Needs) -> list[Piece]:
    """What the experiment takes, a row a name; what several stages need is done when all of them are."""
    found: list[tuple[Piece, bool]] = [(piece, False) for piece in needs.pieces()]
    for stage in stages_of(experiment):
        found += [(piece, experiment.ledger.was_done(stage.name)) for piece in stage.pieces(needs.sizes)]
    return rows_of(found)


def check_disk(experiment: Experiment) -> None:
    """EnvironmentLack when the disk is too small for what is left to do, before any of it is done."""
    needs = Needs(experiment)
    lacking = disk_lack(disk_of(pieces_of(experiment, needs)), needs.sizes.places())
    if lacking:
        raise EnvironmentLack(
            "; ".join(lacking) + f". Free some space, or set what is in brackets to a larger disk; `mta4dpr-bench plan "
            f"{experiment.request.benchmark}` says what each stage needs"
        )
