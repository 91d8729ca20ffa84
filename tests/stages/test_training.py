"""The stage that trains a student: what it goes on from, what it leaves, and what decides it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.experiment.experiment import Experiment
from mta4dpr.machine import environment
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.machine.kept import SUMS, is_whole
from mta4dpr.machine.rates import FILE
from mta4dpr.stages import training as module
from mta4dpr.stages.pipeline import perform
from mta4dpr.stages.stage import Stage
from mta4dpr.stages.training import training

from ..damage import flip

Student = Callable[..., tuple[Experiment, Stage]]


@pytest.fixture
def student(with_students: Callable[..., Experiment]) -> Student:
    """Opens an experiment with those systems; it, and the training of its first student."""

    def open_it(*systems: str, **asked: Any) -> tuple[Experiment, Stage]:
        experiment = with_students(*(systems or ("kd",)), **asked)
        system, recipe = experiment.students[0]
        return experiment, training(experiment, system, recipe)

    return open_it


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A training that takes no time; what each found in the training's folder."""
    found: list[list[str]] = []

    def distil_student(experiment: Experiment, system: Any, recipe: Any) -> Path:
        folder = experiment.folder.training(system.label)
        found.append(sorted(path.name for path in folder.iterdir()))
        final = folder / "round-1" / "student"
        final.mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "config.json", SUMS):
            (final / name).write_text(name)
        (folder / "steps.jsonl").write_text("".join(json.dumps({"step": n, "examples_per_second": 4.0}) + "\n" for n in range(12)))
        return final

    monkeypatch.setattr(module, "distil_student", distil_student)
    return found


def test_the_ledger_knows_every_file_of_a_model_and_the_logs_of_its_training(student: Student, quick: list[list[str]]) -> None:
    """A changed config is another model, and a changed log another curve."""
    experiment, stage = student()
    perform(experiment, stage, [stage])
    model = experiment.folder.model("kd")
    assert is_whole(model, by_content=True)
    record = experiment.ledger.stages[stage.name]
    assert list(record["outputs"]) == ["models/kd/config.json", "models/kd/model.safetensors", "models/kd/SHA256SUMS"]
    assert list(record["logs"]) == ["training/kd/steps.jsonl"]
    flip(model / "config.json")
    before = len(quick)
    perform(experiment, stage, [stage])
    assert len(quick) == before + 1
    assert is_whole(model, by_content=True)


def test_a_log_may_be_deleted_but_not_be_another(student: Student, quick: list[list[str]]) -> None:
    """No weight depends on it, and a training may have taken days."""
    experiment, stage = student()
    perform(experiment, stage, [stage])
    path = experiment.folder.training("kd") / "steps.jsonl"
    assert experiment.ledger.changed_logs(stage.name) == []
    flip(path)
    assert experiment.ledger.changed_logs(stage.name) == [path]
    path.unlink()
    assert experiment.ledger.changed_logs(stage.name) == []
    perform(experiment, stage, [stage])
    assert len(quick) == 1


def test_what_steps_took_is_noted_for_the_next_plan(
    student: Student, quick: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 steps of 8 queries at 4 a second: 24 seconds."""
    monkeypatch.setattr("mta4dpr.machine.rates.SMALLEST", dict.fromkeys(("train", "read"), 0))
    experiment, stage = student()
    perform(experiment, stage, [stage])
    (line,) = (json.loads(line) for line in (tmp_path / "cache" / FILE).read_text().splitlines() if '"train"' in line)
    assert line["seconds"] == 24.0
    assert line["amount"] > 0


@pytest.mark.parametrize("begun", [False, True])
def test_energy_is_noted_of_a_training_that_was_not_interrupted(
    student: Student, quick: list[list[str]], monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """Of one that goes on, the first part is not known: half the joules would look like a saving."""

    @contextmanager
    def counted() -> Iterator[dict[str, float]]:
        yield {"gpu": 5.0}

    monkeypatch.setattr(module, "energy_used", counted)
    experiment, stage = student()
    stage.begin()
    if begun:
        (experiment.folder.training("kd") / "round-0").mkdir()
    perform(experiment, stage, [stage])
    assert experiment.folder.energy("kd").exists() is not begun


def left(experiment: Experiment, stage: Stage, change: Callable[[Path], None]) -> list[str]:
    """What a training goes on from, after an earlier one that left a round was changed."""
    stage.begin()
    folder = experiment.folder.training("kd")
    (folder / "round-0").mkdir()
    change(folder)
    stage.begin()
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("change", "goes_on"),
    [
        (lambda folder: None, True),
        (lambda folder: (folder / "inputs.json").unlink(), False),
        (lambda folder: (folder / "inputs.json").write_text("{"), False),
        (lambda folder: write_json(folder / "inputs.json", {**read_json(folder / "inputs.json"), "key": "other"}), False),
        (lambda folder: write_json(folder / "inputs.json", {**read_json(folder / "inputs.json"), "code": "other"}), False),
        (lambda folder: write_json(folder / "inputs.json", {"key": read_json(folder / "inputs.json")["key"]}), True),
    ],
    ids=["same", "no note", "half a note", "other inputs", "other code", "an earlier version's note"],
)
def test_only_what_the_same_inputs_and_code_made_goes_on(student: Student, change: Callable[[Path], None], goes_on: bool) -> None:
    """Checkpoints of another learning rate, or of another loss, would give a student that nobody can repeat."""
    experiment, stage = student()
    assert ("round-0" in left(experiment, stage, change)) is goes_on


def test_another_number_of_processes_starts_over(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is as many times as large."""
    experiment, stage = student()
    assert "round-0" not in left(experiment, stage, lambda _: monkeypatch.setattr(environment, "process_count", lambda: 2))


def test_redo_forgets_all_that_it_would_go_on_from(student: Student) -> None:
    experiment, stage = student()
    stage.begin()
    stage.forget()
    assert not experiment.folder.training("kd").exists()
    stage.forget()


def test_what_decides_a_student_is_what_it_is_trained_again_for(student: Student) -> None:
    """Seed, options, roles; not its label, nor which systems stand beside it, nor the heap of a JVM."""
    usual = student()[1].inputs()
    assert student("bm25", "kd", "mta4dpr")[1].inputs() == usual
    assert student(settings=("heap=1g", "search_memory=2g"))[1].inputs() == usual
    for other in ({"seed": 1}, {"settings": ("lr=0.5",)}, {"settings": ("k1=1.2",)}, {"settings": ("dtype=float16",)}):
        assert student(**other)[1].inputs() != usual, other
    assert student("contrastive")[1].inputs() != usual


def test_its_code_is_that_of_strategy_and_criterion(student: Student) -> None:
    assert student("kd")[1].code == student("kd", "mta4dpr")[1].code != student("mean_ta")[1].code


def test_a_length_that_cuts_queries_is_told_before_training(student: Student, caplog: pytest.LogCaptureFixture) -> None:
    """More than a hundredth of a set of queries: the student never sees their ends. The counts are told for each set."""
    experiment, _ = student("kd")
    encoder = experiment.make_engine(experiment.systems[0]).load()
    length = encoder.reading.query_length
    texts = [*(["a word"] * 98), *(["word " * 200] * 2)]
    module._tell_of_cut_queries(experiment, experiment.systems[0], encoder, texts)
    assert f"kd reads queries to {length} tokens, which cuts 2 of 100 queries (training)" in caplog.text
    caplog.clear()
    module._tell_of_cut_queries(experiment, experiment.systems[0], encoder, texts[:99] + ["a word"] * 10)
    assert "(training)" not in caplog.text
