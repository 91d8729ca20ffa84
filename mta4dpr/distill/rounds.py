"""Algorithm 1 of MTA4DPR for one strategy: GenDataset, train, Compare, replace Worst, once a round.

Everything a round decides is in files of training/STRATEGY, so that the same call goes on where it stopped (see training_folder.py):

    round-R/groups/     the round's dataset                 round-R/student/    a copy of the student after the round
    rounds.jsonl        one line a finished round           steps.jsonl, checkpoint/    see trainer.py
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.options import Distill
from mta4dpr.distill.bench import Bench
from mta4dpr.distill.compare import compare
from mta4dpr.distill.groups import Groups, RoundData, generate, open_groups
from mta4dpr.distill.mining import first_of, mine, wrong_queries
from mta4dpr.distill.scores import describe, lines, warnings
from mta4dpr.distill.strategy import Requirement, Strategy
from mta4dpr.distill.trainer import Texts, Trainer, TrainerSetup
from mta4dpr.distill.training_folder import append, finished_rounds, groups_folder, round_bounds, student_folder, vectors_folder
from mta4dpr.engines.scorer import Scorer
from mta4dpr.machine.files import file_name, read_json, write_json
from mta4dpr.machine.kept import sealed_folder
from mta4dpr.models.encoder import Encoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Training:
    """One strategy's training: its name in the log, the strategy, what it shares with others, and its folder."""

    name: str
    strategy: Strategy
    bench: Bench
    folder: Path


def distil(name: str, strategy: Strategy, student: Encoder, bench: Bench, folder: Path) -> Path:
    """Trains `student` by Algorithm 1; returns the folder of the final student. Goes on where it was stopped.

    All processes of a launch call it together; each returns the same folder. Raises UserError where a loss is no finite number,
    a scorer's score is none, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if len(finished_rounds(folder)) == bench.options.rounds:
        if bench.is_main:
            _report_again(folder, bench.options)
        return student_folder(folder, best_round(folder, bench.options))
    training = _Training(name, strategy, bench, folder)
    return _all_rounds(training, student, taught_by=_chain(training) if Requirement.CHAIN in strategy.requires else None)


def best_round(folder: Path, options: Distill) -> int:
    """The round whose student is exported: the last one, or the best on D_eval (the earliest of equals)."""
    records = finished_rounds(folder)
    if options.checkpoint == "last" or not records:
        return options.rounds - 1
    return int(max(records, key=lambda r: (r["student"], -r["round"]))["round"])


def _all_rounds(training: _Training, student: Encoder, *, taught_by: Scorer | None) -> Path:
    """`taught_by` is the model before this one in a chain, unless that is the teacher: it alone is scored beside the teacher."""
    bench, folder, options = training.bench, training.folder, training.bench.options
    folder.mkdir(parents=True, exist_ok=True)
    finished = finished_rounds(folder)
    assistants, latest = _restored(finished, bench, folder)  # `latest` scores as the student did after the round before
    trainer = _trainer(training, student)
    trainer.restore()
    bounds = round_bounds(options)
    for number in range(len(finished), options.rounds):
        started = time.perf_counter()
        last = bounds[number + 1]
        start = 0 if options.regime == "static" else bounds[number]  # the step of the round's first group
        groups = open_groups(groups_folder(folder, number))
        if groups is None:
            size = (last - start) * trainer.batch_size
            groups = _new_groups(training, number, size, assistants=assistants, latest=latest, taught_by=taught_by)
        if bench.is_main:
            _report_scores(groups, folder / f"round-{number}" / "scores.json", persistence=options.rbo_p)
        progress = f"train {training.name}, round {number + 1}/{options.rounds}"
        trainer.train_round(groups, round_number=number, first_step=start, last_step=last, label=progress)
        label = f"student-round-{number}"
        if bench.is_main and not student_folder(folder, number).exists():
            with sealed_folder(student_folder(folder, number)) as aside:
                student.save(aside)
        _wait_for(student_folder(folder, number))
        latest = bench.freeze(label, student_folder(folder, number), vectors_folder(folder, number))
        if bench.is_main:
            seconds = time.perf_counter() - started
            append(folder / "rounds.jsonl", _record(training, number, groups, latest, assistants, seconds=seconds))
        _score_until(folder / "rounds.jsonl", bench, lines=number + 1)
        replaced = finished_rounds(folder)[number]["replaced"]
        assistants = [latest if assistant.label == replaced else assistant for assistant in assistants]
        if bench.is_main:
            _forget_vectors(folder, keep=[latest.label, *(a.label for a in assistants)])
    return student_folder(folder, best_round(folder, options))


def _trainer(training: _Training, student: Encoder) -> Trainer:
    """With all that the strategy requires of it."""
    bench, requires = training.bench, training.strategy.requires
    setup = TrainerSetup(
        options=bench.options,
        queries=bench.queries,
        texts=bench.texts(student),
        folder=training.folder,
        seed=bench.seed,
        accelerator=bench.accelerator,
        teacher=_trainable_teacher(bench) if Requirement.TEACHER_TRAINING in requires else None,
        assistants=len(bench.assistants),
        standing=_standing(bench, training.folder) if Requirement.STANDING in requires else {},
        tensorboard=bench.tensorboard,
    )
    return Trainer(student, training.strategy, setup)


def _new_groups(
    training: _Training, number: int, size: int, *, assistants: Sequence[Scorer], latest: Scorer | None, taught_by: Scorer | None
) -> Groups:
    """GenDataset of a round: all processes mine, the main one draws and scores `size` groups."""
    bench, folder, requires = training.bench, training.folder, training.strategy.requires
    rankings, of_student = mine(number, assistants, latest, bench, folder)
    groups = None
    if bench.is_main:
        all_score = {Requirement.ASSISTANTS, Requirement.OFFERED_ASSISTANTS} & set(requires) and Requirement.CHAIN not in requires
        data = RoundData(
            number=0 if bench.options.regime == "static" else number,
            size=size,
            teacher=bench.scorer(bench.teacher),
            assistants=[taught_by] if taught_by else assistants if all_score else [],
            rankings=rankings,
            wrong=_wrong(of_student, bench),
            tau_teacher=_teacher_temperature(number, bench, folder),
            previous=latest if Requirement.PREVIOUS_STUDENT in requires else None,
            only_wrong=Requirement.STAGES in requires and number == bench.options.rounds - 1,
            few_candidates=not all(bench.scorer(label).ranks for label in (bench.teacher, *bench.assistants)),
        )
        if data.only_wrong and not data.wrong.any():
            log.warning("the student got no query wrong that the teacher has right, so its last round is of all queries")
        place = groups_folder(folder, number)
        groups = generate(place, data, queries=bench.queries, corpus=bench.corpus, seed=bench.seed, options=bench.options)
    _score_until(groups_folder(folder, number), bench)
    groups = groups or open_groups(groups_folder(folder, number))
    assert groups is not None
    return groups


def _wrong(of_student: np.ndarray | None, bench: Bench) -> np.ndarray:
    """The train queries that the student got wrong, (train queries,) bool; none where no ranking of it is looked at."""
    if of_student is None:
        return np.zeros(bench.queries.train_size, bool)
    first_of_teacher = partial(first_of, bench.scorer(bench.teacher), of_student, bench)
    return wrong_queries(of_student, bench.queries, first_of_teacher if bench.options.wrong_rule == "prod" else None)


def _teacher_temperature(number: int, bench: Bench, folder: Path) -> float | str:
    """As the option says; a temperature that is fitted is fitted once, on the groups of round 0."""
    tau = bench.options.tau_teacher
    if number > 0 and isinstance(tau, str):
        return float(finished_rounds(folder)[0]["temperatures"][bench.teacher])
    return tau


def _record(
    training: _Training, number: int, groups: Groups, student: Scorer, assistants: Sequence[Scorer], *, seconds: float
) -> dict[str, Any]:
    """A round's line: Compare's measure of the student and of the assistants, and which of these it replaces (Algorithm 1)."""
    bench, options, began = training.bench, training.bench.options, time.perf_counter()
    values = compare([student, *assistants], bench)
    of_student = values.pop(student.label)
    worst = min(assistants, key=lambda a: values[a.label]) if assistants else None
    may_replace = Requirement.REPLACEMENT in training.strategy.requires and options.replace
    replaced = None
    if may_replace and worst is not None and of_student > values[worst.label]:
        replaced = worst.label
        figures = worst.label, values[worst.label], of_student
        log.info("%s, round %d: %s (%.4f) is replaced by the student (%.4f)", training.name, number, *figures)
    return {
        "round": number,
        "measure": options.compare_measure,
        "queries": len(bench.queries.held_out),
        "student": of_student,
        "assistants": values,
        "worst": worst.label if worst else None,
        "replaced": replaced,
        "by": student.label,
        **{key: groups.about[key] for key in ("depth", "false_negatives", "filled", "wrong_queries", "temperatures", "teacher_entropy")},
        "seconds": round(seconds + time.perf_counter() - began, 2),
    }


def _chain(training: _Training) -> Scorer | None:
    """TAKD's chain: each assistant that can be trained, largest first, is taught by the one before it. Returns the last as a scorer.

    Each makes all steps in one round; the teacher teaches the first.
    """
    bench = training.bench
    networks = {label: bench.network(label) for label in bench.trainable}
    taught_by = None  # the teacher itself
    link = replace(bench, options=bench.options.model_copy(update={"rounds": 1}))
    for label in sorted(networks, key=lambda label: -networks[label].parameters):
        place = training.folder / "chain" / file_name(label)
        final = student_folder(place, 0)
        if not finished_rounds(place):
            own = _Training(f"{training.name}, {label}", training.strategy, link, place)
            _all_rounds(own, networks[label], taught_by=taught_by)
        taught_by = bench.freeze(f"{label}-taught", final, vectors_folder(place, 0))
    return taught_by


def _trainable_teacher(bench: Bench) -> tuple[Any, Texts]:
    network = bench.network(bench.teacher)
    return network, bench.texts(network)


def _standing(bench: Bench, folder: Path) -> dict[str, float]:
    """Compare's measure of teacher and assistants before training, kept in standing.json."""
    place = folder / "standing.json"
    if not place.exists():
        scorers = [bench.scorer(label) for label in (bench.teacher, *bench.assistants)]
        if bench.is_main:
            write_json(place, compare(scorers, bench))
    _score_until(place, bench)
    return dict(read_json(place))


def _report_scores(groups: Groups, place: Path, *, persistence: float) -> None:
    """The score report of a round, in the log and in a file, with what a reader should be warned of."""
    if place.exists():
        return
    report = describe(groups, persistence=persistence)
    for line in lines(report):
        log.info(line)
    for line in [*(f"{label}: {note}" for label, note in groups.about["notes"].items()), *warnings(report)]:
        log.warning(line)
    write_json(place, report)


def _report_again(folder: Path, options: Distill) -> None:
    """Score reports that are gone, where the groups are still there."""
    for place in sorted([*folder.glob("round-*"), *folder.glob("chain/*/round-*")]):
        groups = open_groups(place / "groups")
        if groups is not None:
            _report_scores(groups, place / "scores.json", persistence=options.rbo_p)


def _restored(finished: Sequence[dict[str, Any]], bench: Bench, folder: Path) -> tuple[list[Scorer], Scorer | None]:
    """The assistants and the student after those rounds, as scorers; only students that are still needed are opened."""
    labels = list(bench.assistants)
    for record in finished:
        labels = [record["by"] if label == record["replaced"] else label for label in labels]
    students = {
        record["by"]: bench.freeze(record["by"], student_folder(folder, record["round"]), vectors_folder(folder, record["round"]))
        for record in finished
        if record["by"] in labels or record is finished[-1]
    }
    return [students.get(label) or bench.scorer(label) for label in labels], students[finished[-1]["by"]] if finished else None


def _wait_for(place: Path, *, lines: int = 0, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Until the main process has made that file, with so many lines; at once where it is there."""
    while not place.exists() or (lines and place.read_text(encoding="utf-8").count("\n") < lines):
        meanwhile()
        time.sleep(0.2)


def _score_until(place: Path, bench: Bench, *, lines: int = 0) -> None:
    """Like `_wait_for`, and scores pairs with the main process, which may need them for that file."""

    def score() -> None:
        for label in (bench.teacher, *bench.assistants):
            bench.scorer(label).score_along()

    _wait_for(place, lines=lines, meanwhile=score)


def _forget_vectors(folder: Path, *, keep: Sequence[str]) -> None:
    """Vectors of students that are neither the present one nor an assistant are not needed again."""
    for place in folder.glob("round-*"):
        if f"student-{place.name}" not in keep:
            shutil.rmtree(place / "vectors", ignore_errors=True)
