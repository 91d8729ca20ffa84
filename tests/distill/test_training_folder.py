"""What was deleted or damaged in a half-done training is made again: weights, groups and logs are those of an undisturbed one."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.trainer import Texts, Trainer
from mta4dpr.distill.training_folder import checkpoints, keep_lines, mend, read_lines
from mta4dpr.machine.kept import STAMPS
from mta4dpr.models.encoder import Encoder

from .tiny_rounds import BAD, MIDDLE, Killed, Setting

# two rounds of 4 steps, a checkpoint every 3; a temperature that round 0 decides
STEPS = {"steps": 8, "batch_queries": 4, "assistants": {"bad": BAD, "a": MIDDLE}, "tau_teacher": "entropy:0.5"}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 0xFF
    path.write_bytes(content)


def _last(folder: Path) -> Path:
    return checkpoints(folder)[-1]


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "all checkpoints are gone": lambda folder: shutil.rmtree(folder / "checkpoint"),
    "a checkpoint's step is gone": lambda folder: (_last(folder) / "checkpoint.json").unlink(),
    "a checkpoint's weights are cut": lambda folder: _cut(_last(folder) / "student.safetensors"),
    "a checkpoint's weights have another bit": lambda folder: _flip(_last(folder) / "student.safetensors"),
    "the optimiser is cut": lambda folder: _cut(_last(folder) / "optimizer.pt"),
    "the groups are gone": lambda folder: shutil.rmtree(folder / "round-1" / "groups"),
    "the passages of the groups are cut": lambda folder: _cut(folder / "round-1" / "groups" / "passages.npy"),
    "the passages of the groups are others": lambda folder: _flip(folder / "round-1" / "groups" / "passages.npy"),
    "scores are gone": lambda folder: (folder / "round-1" / "groups" / "scores" / "0.npy").unlink(),
    "round 0's groups are gone": lambda folder: shutil.rmtree(folder / "round-0" / "groups"),
    "round 0's student is gone": lambda folder: shutil.rmtree(folder / "round-0" / "student"),
    "round 0's student has another bit": lambda folder: _flip(folder / "round-0" / "student" / "model.safetensors"),
    "rounds.jsonl is gone": lambda folder: (folder / "rounds.jsonl").unlink(),
    "rounds.jsonl is cut": lambda folder: _cut(folder / "rounds.jsonl"),
}


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    corpus: Corpus,
    queries: TrainingQueries,
    new_student: Callable[[], Encoder],
    texts_for: Callable[[Any, TrainingQueries], Texts],
) -> Setting:
    """`whole` was trained undisturbed; `died` three steps into round 1."""
    setting, made, real = Setting(tmp_path_factory.mktemp("left"), corpus, queries, new_student, texts_for), [0], Trainer._train_step

    def step(trainer: Trainer, *arguments: Any) -> Any:
        made[0] += 1
        if made[0] == 8:
            raise Killed
        return real(trainer, *arguments)

    setting.run(setting.bench(**STEPS), name="whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", step)
        with pytest.raises(Killed):
            setting.run(setting.bench(**STEPS), name="died")
    return setting


@pytest.fixture
def stopped(trained: Setting) -> Path:
    """A copy of the training that died."""
    shutil.rmtree(trained.root / "stopped", ignore_errors=True)
    return Path(shutil.copytree(trained.root / "died", trained.root / "stopped"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_damaged_the_end_is_the_same(trained: Setting, stopped: Path, damage: str) -> None:
    DAMAGES[damage](stopped)
    bench = trained.bench(**STEPS)
    mend(stopped, bench.options)
    final = trained.run(bench, name="stopped")
    assert (final / "model.safetensors").read_bytes() == (trained.root / "whole" / "round-1" / "student" / "model.safetensors").read_bytes()
    if damage != "round 0's groups are gone":  # nobody reads them again
        trained.assert_alike("whole", "stopped")


def test_nothing_is_removed_of_what_a_kill_leaves(stopped: Path, trained: Setting, caplog: pytest.LogCaptureFixture) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file() and path.name not in ("steps.jsonl", STAMPS)}
    with caplog.at_level(logging.WARNING):
        mend(stopped, trained.bench(**STEPS).options)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file() and path.name not in ("steps.jsonl", STAMPS)} == before
    assert not caplog.records


def test_an_earlier_checkpoint_stands_in_for_a_damaged_one(stopped: Path, trained: Setting) -> None:
    """What the last k are kept for: only the steps since are made again."""
    options = trained.bench(**STEPS).options
    last = _last(stopped)
    assert last.name == f"{6:08}"
    earlier = last.with_name(f"{4:08}")
    shutil.copytree(last, earlier)
    _cut(last / "optimizer.pt")
    mend(stopped, options)
    assert checkpoints(stopped) == [earlier]
    assert len(read_lines(stopped / "rounds.jsonl")) == 1
    assert [line["step"] for line in read_lines(stopped / "steps.jsonl")] == [0, 1, 2, 3]


def test_a_curve_that_lacks_steps_is_said(stopped: Path, trained: Setting, caplog: pytest.LogCaptureFixture) -> None:
    """The weights do not depend on it, so it is no reason to train again."""
    (stopped / "steps.jsonl").unlink()
    with caplog.at_level(logging.WARNING):
        mend(stopped, trained.bench(**STEPS).options)
    assert "lacks 6 of the 6 steps" in caplog.text
    assert checkpoints(stopped)


def test_the_trainings_of_a_chain_are_mended_too(setting: Setting) -> None:
    bench = setting.bench(steps=4, batch_queries=2, assistants={"a": MIDDLE}, trainable=["a"], rounds=2)
    setting.run(bench, strategy="takd", name="takd")
    link = setting.root / "takd" / "chain" / "a"
    _flip(link / "round-0" / "student" / "model.safetensors")
    mend(setting.root / "takd", bench.options)
    assert not (link / "round-0" / "student").exists()
    assert json.loads((link / "rounds.jsonl").read_text() or "[]") == []


def test_keep_lines_drops_a_half_written_line(tmp_path: Path) -> None:
    """What a kill leaves at the end of a file is not JSON; everything before it is kept to the byte."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"step": 0, "x": 1.50}\n{"step": 1}\n{"step": 2}\n{"step"')
    assert keep_lines(path, lambda line: line["step"] != 1) == [{"step": 0, "x": 1.5}, {"step": 2}]
    assert path.read_text() == '{"step": 0, "x": 1.50}\n{"step": 2}\n'
