"""Exact resume of one round, for every strategy, and the checkpoints it goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.distill.trainer import set_dropout

from .tiny_trainer import STEPS, Training, equal, killed, lines_of, run, weights, without_speed


@pytest.mark.parametrize(
    ("killed_at", "changes"),
    [
        *((at, {"dropout": 0.1}) for at in (2, 4, 6, 9)),
        (6, {"dropout": 0.0}),
        (6, {"dropout": 0.1, "gradient_cache": True, "micro_batch_tokens": 50}),
        (9, {"dropout": 0.1, "keep_checkpoints": 3}),
        (6, {"dropout": 0.1, "precision": "bfloat16"}),
        (6, {"precision": "float16", "gradient_cache": True}),
    ],
)
def test_killed_and_restored_is_bitwise_the_same(
    training: Training, monkeypatch: pytest.MonkeyPatch, killed_at: int, changes: dict[str, Any]
) -> None:
    """10 steps = some steps, an end at any moment, a new process, the rest: weights, and each step once in steps.jsonl."""
    groups = training.groups()
    whole = training.trainer("whole", **changes)
    run(whole, groups)
    second = killed(training, monkeypatch, groups, killed_at, **changes)
    assert equal(weights(whole), weights(second))
    assert [line["step"] for line in lines_of(training.root / "killed")] == list(range(STEPS))
    assert without_speed(lines_of(training.root / "killed")) == without_speed(lines_of(training.root / "whole"))
    kept = [path.name for path in sorted((training.root / "killed" / "checkpoint").iterdir())]
    assert kept == [f"{step:08}" for step in (4, 8, STEPS)[-changes.get("keep_checkpoints", 1) :]]


@pytest.mark.parametrize(("strategy", "teacher"), [*((name, "bi-encoder") for name in STRATEGIES), ("rocketqav2", "cross-encoder")])
def test_every_strategy_resumes_bitwise(training: Training, monkeypatch: pytest.MonkeyPatch, strategy: str, teacher: str) -> None:
    """Ten steps with a kill at the seventh: student, trained teacher and policy end with the same bits, random choices are the same."""
    changes = {"strategy": strategy, "teacher": teacher, "dropout": 0.1}
    groups = training.groups(previous=Requirement.PREVIOUS_STUDENT in STRATEGIES[strategy].requires)
    whole = training.trainer("whole", **changes)
    start = weights(whole)
    run(whole, groups)
    second = killed(training, monkeypatch, groups, 6, **changes)
    assert equal(weights(whole), weights(second))
    assert without_speed(lines_of(training.root / "killed")) == without_speed(lines_of(training.root / "whole"))
    trained = (
        {"student"}
        | ({"teacher"} if Requirement.TEACHER_TRAINING in STRATEGIES[strategy].requires else set())
        | ({"policy"} if strategy == "rl_ta" else set())
    )
    moved = {name.split(".")[0] for name, tensor in weights(whole).items() if not torch.equal(tensor, start[name])}
    assert set(whole.networks) == moved == trained
    state = [[one.tolist() for p in t.optimizer.state.values() for one in p.values()] for t in (whole, second)]
    assert state[0] == state[1]  # AdamW's moments as well


def test_four_steps_and_six_more_is_ten(training: Training) -> None:
    """The clean stop: 4 steps, fresh objects, restore, 6 steps, with warm-up and dropout in between."""
    changes = {"dropout": 0.1, "warmup": 5}
    groups = training.groups()
    whole = training.trainer("whole", **changes)
    run(whole, groups)
    run(training.trainer("parts", **changes), groups, last=4)
    second = training.trainer("parts", **changes)
    second.restore()
    assert second.step == 4
    run(second, groups)
    assert equal(weights(whole), weights(second))
    assert not equal(weights(whole), weights(training.trainer("fresh", **changes)))  # it did train


def test_dropout_depends_on_seed_and_is_really_on(training: Training) -> None:
    """If dropout were 0 in secret, the bitwise test with 0.1 would prove nothing."""
    groups = training.groups()
    found = []
    for name, changes in (("none", {"dropout": 0.0}), ("some", {"dropout": 0.1}), ("seed", {"dropout": 0.1, "seed": 4})):
        trainer = training.trainer(name, **changes)
        run(trainer, groups, last=2)
        found.append(weights(trainer))
    assert not equal(found[0], found[1])
    assert not equal(found[1], found[2])


def test_dropout_zero_switches_off_every_dropout(training: Training) -> None:
    """BERT's own config says 0.1, attention's too: with the option 0 two forward passes in training mode are equal."""
    trainer = training.trainer("t", dropout=0.0)
    trainer.student.network.train()
    ids, mask = (torch.from_numpy(a) for a in trainer.texts.passages.batch(np.arange(5), 24))
    assert torch.equal(trainer.student.forward(ids, mask), trainer.student.forward(ids, mask))
    noisy = training.trainer("u", dropout=0.5)
    noisy.student.network.train()
    assert not torch.equal(noisy.student.forward(ids, mask), noisy.student.forward(ids, mask))


def test_dropout_that_a_module_keeps_as_a_number_is_set_too() -> None:
    """T5's attention and ModernBERT's have no module for it: with dropout 0 a training would still be noisy."""
    from transformers import ModernBertConfig, ModernBertModel, T5Config, T5EncoderModel

    sizes = {"vocab_size": 40, "pad_token_id": 0}
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "attention_dropout": 0.3}
    ids = torch.arange(4, 20).reshape(2, 8)
    for network in (
        T5EncoderModel(T5Config(d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, **sizes)),
        ModernBertModel(ModernBertConfig(bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, **bert, **sizes)),
    ):
        set_dropout(network.train(), 0.0)
        first, second = (network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state for _ in range(2))
        assert torch.equal(first, second), type(network).__name__


def test_weights_that_are_shared_are_saved_once(training: Training) -> None:
    """T5 has its word embeddings under two names, which safetensors refuses: a training would die at its first checkpoint."""
    trainer = training.trainer("t")
    for one in (trainer, again := training.trainer("t")):
        transformer = one.networks["student"][0].model
        transformer.embeddings_again = transformer.get_input_embeddings()
    run(trainer, training.groups(), last=4)
    before = weights(trainer)
    again.restore()
    assert equal(weights(again), before)


@pytest.mark.parametrize("at", ["while writing", "before the old one is removed"])
def test_there_is_a_whole_checkpoint_at_every_moment(training: Training, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """A kill while step 8's checkpoint is written must leave step 4's, not none."""
    groups = training.groups()
    trainer = training.trainer("t")
    run(trainer, groups, last=4)
    rmtree = shutil.rmtree

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def die_at_the_old_one(path: Path, **more: Any) -> None:
        if Path(path).name == f"{4:08}":
            raise KeyboardInterrupt
        rmtree(path, **more)

    with monkeypatch.context() as patch:
        if at == "while writing":
            patch.setattr("safetensors.torch.save_file", die)
        else:
            patch.setattr(shutil, "rmtree", die_at_the_old_one)
        with pytest.raises(KeyboardInterrupt):
            run(trainer, groups, last=8)
    again = training.trainer("t")
    again.restore()
    assert again.step == (4 if at == "while writing" else 8)
    run(again, groups)
    assert [path.name for path in (training.root / "t" / "checkpoint").iterdir()] == [f"{STEPS:08}"]
    whole = training.trainer("whole")
    run(whole, groups)
    assert equal(weights(whole), weights(again))


def test_restore_without_a_checkpoint_starts_over(training: Training) -> None:
    """Steps that were logged but never saved are cut off: the log never has a step twice."""
    trainer = training.trainer("t")
    (training.root / "t" / "steps.jsonl").write_text('{"step": 0}\n{"step": 1}\n{"ste')
    trainer.restore()
    assert trainer.step == 0
    assert lines_of(training.root / "t") == []


def test_restore_removes_a_checkpoint_that_was_half_written(training: Training) -> None:
    """A SIGKILL while a checkpoint is written leaves its folder aside; under another process id nothing else would ever remove it."""
    trainer = training.trainer("t")
    left = training.root / "t" / "checkpoint" / f".{8:08}.1.part"
    left.mkdir(parents=True)
    trainer.restore()
    assert not left.exists()
