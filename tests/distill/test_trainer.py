"""One round of training: the optimiser's options, numbers that are none, the curve."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.distill.terms import STEP_NUMBERS, TERMS, TOTAL
from mta4dpr.distill.trainer import Batch, Trainer
from mta4dpr.errors import UserError

from .tiny_trainer import Training, equal, lines_of, run, student_of, weights

# --- optimiser ---


def test_learning_rate_schedule(training: Training) -> None:
    """Warm-up 3 of 10 steps: 1/4, 2/4, 3/4 of the peak, the peak, then 7 equal steps down that would end at 0 after the last."""
    trainer = training.trainer("t", strategy="contrastive", warmup=3, lr=0.01)
    run(trainer, training.groups())
    expected = [0.0025, 0.005, 0.0075, *(0.01 * (7 - n) / 7 for n in range(7))]
    assert [line["lr"] for line in lines_of(training.root / "t")] == pytest.approx(expected)


def test_without_warmup_the_first_step_has_the_peak(training: Training) -> None:
    """The default."""
    trainer = training.trainer("t", strategy="contrastive", lr=0.01)
    run(trainer, training.groups(), last=2)
    assert [line["lr"] for line in lines_of(training.root / "t")] == pytest.approx([0.01, 0.009])


@pytest.mark.parametrize("freeze", [True, False])
def test_freeze_embeddings(training: Training, freeze: bool) -> None:
    """Frozen: word embeddings keep every bit (no weight decay either), the layers move. Not frozen: they move."""
    trainer = training.trainer("t", freeze_embeddings=freeze, weight_decay=0.5)
    before = weights(trainer)
    run(trainer, training.groups(), last=2)
    after = weights(trainer)
    [words] = [name for name in before if name.endswith("word_embeddings.weight")]
    assert torch.equal(before[words], after[words]) == freeze
    assert sum(not torch.equal(before[name], after[name]) for name in before) > len(before) / 2


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_the_gradient_norm_is_clipped(training: Training, clip: float, precision: str) -> None:
    """What reaches AdamW has norm `clip` when the true norm, without float16's scale, is greater; 0 means never."""
    norms = []
    trainer = training.trainer("t", clip=clip, precision=precision)

    def spy(*_: Any) -> None:
        grads = [p.grad for p in trainer.student.network.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in grads]).norm()))

    trainer.optimizer.register_step_pre_hook(spy)
    run(trainer, training.groups(), last=2)
    if clip:
        assert norms == pytest.approx([clip, clip], rel=1e-3)
    else:
        assert 0.02 < min(norms) < max(norms) < 50


def test_training_learns(training: Training) -> None:
    """The sign of everything at once: the loss on the training groups falls."""
    trainer = training.trainer("t", lr=3e-3, steps=40)
    groups = training.groups(steps=40)
    run(trainer, groups, last=40)
    losses = [line["loss"] for line in lines_of(training.root / "t")]
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


def test_a_nan_loss_names_step_queries_and_checkpoint(training: Training) -> None:
    """The user can look at the queries and go on from the checkpoint with a smaller learning rate; nothing worse was saved."""
    groups = training.groups()
    trainer = training.trainer("t")
    run(trainer, groups, last=5)
    with torch.no_grad():
        next(trainer.student.network.parameters()).fill_(math.nan)
    with pytest.raises(UserError) as caught:
        run(trainer, groups)
    message = str(caught.value)
    assert "the loss became nan" in message
    assert "at step 5" in message
    assert f"the last good checkpoint is {training.root / 't' / 'checkpoint' / '00000005'}." in message
    for n in groups.queries[20:24]:
        assert f"'q{n}'" in message
    again = training.trainer("t")
    again.restore()
    assert again.step == 5
    assert all(torch.isfinite(w).all() for w in weights(again).values())


def test_a_gradient_that_is_no_number_stops_too(training: Training) -> None:
    """The loss may still be finite: weights must not become NaN and be saved."""
    trainer, groups = training.trainer("t"), training.groups()
    run(trainer, groups, last=4)
    before = weights(trainer)
    next(p for p in trainer.student.network.parameters() if p.dim() == 2).register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(UserError, match="at step 4"):
        run(trainer, groups)
    assert equal(weights(trainer), before)


def test_a_loss_that_is_no_number_at_once_has_no_checkpoint_to_name(training: Training) -> None:
    """A folder that is not there would be looked for."""
    trainer = training.trainer("t")
    with torch.no_grad():
        next(trainer.student.network.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match=r"\); there is no checkpoint before it\. Try a smaller"):
        run(trainer, training.groups())


def test_the_curve_is_written_as_it_goes(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows steps.jsonl sees a step when it is done, not when a buffer is full or a checkpoint is saved."""
    trainer, seen, real = training.trainer("t"), [], Trainer._train_step

    def looking(self: Trainer, *arguments: Any) -> dict[str, Any]:
        seen.append([line["step"] for line in lines_of(training.root / "t")])
        return real(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_step", looking)
    run(trainer, training.groups(), last=3)
    assert seen == [[], [0], [0, 1]]


def test_a_slow_step_has_a_rate(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next plan divides by it: a rate of 0 would end a run after its training."""
    clock = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr("mta4dpr.distill.trainer.time.perf_counter", lambda: float(next(clock)))
    run(training.trainer("t"), training.groups(), last=1)
    assert lines_of(training.root / "t")[0]["examples_per_second"] == 4e-6


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_float16_skips_a_step_that_overflows(training: Training) -> None:
    """A scale that is too great makes infinite gradients: no weight moves, the scale is halved, and training goes on."""
    trainer = training.trainer("t", precision="float16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    groups, before = training.groups(), weights(trainer)
    run(trainer, groups, last=1)
    assert equal(weights(trainer), before)
    assert trainer.scaler.get_scale() == 2.0**126
    trainer.scaler.update(1024.0)
    run(trainer, groups, last=3)
    assert not equal(weights(trainer), before)
    assert [line["step"] for line in lines_of(training.root / "t")] == [0, 1, 2]
    again = training.trainer("t", precision="float16")
    again.restore()
    assert again.scaler.state_dict() == trainer.scaler.state_dict()
    assert again.scaler.get_scale() == 1024.0


def test_all_strategies_start_alike_and_see_the_same_groups(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 8: a row differs in the strategy alone."""
    groups, seen, starts = training.groups(previous=True), {}, {}
    real = Trainer.loss

    def spying(self: Trainer, batch: Batch, round_number: int) -> Any:
        seen.setdefault(id(self.strategy), []).append((batch.numbers.tolist(), batch.distinct[batch.place].tolist(), round_number))
        return real(self, batch, round_number)

    monkeypatch.setattr(Trainer, "loss", spying)
    ends = {}
    for name in STRATEGIES:
        trainer = training.trainer(name, strategy=name)
        starts[name] = student_of(trainer)
        run(trainer, groups, last=3)
        ends[name] = student_of(trainer)
    assert all(equal(one, starts["kd"]) for one in starts.values())
    assert len(seen) == len(STRATEGIES)
    assert all(one == seen[id(STRATEGIES["kd"])] for one in seen.values())
    kinds = {b"".join(tensor.numpy().tobytes() for tensor in one.values()) for one in ends.values()}
    assert len(kinds) == len(STRATEGIES)  # no two strategies are the same in secret


def test_each_network_has_its_own_learning_rate(training: Training) -> None:
    """Student, teacher and policy, each with its option, under one schedule."""
    rates = {"lr": 0.01, "teacher_lr": 0.002, "policy_lr": 0.3}
    for strategy, expected in (("rocketqav2", [0.01, 0.002]), ("rl_ta", [0.01, 0.3]), ("kd", [0.01])):
        trainer = training.trainer(strategy, strategy=strategy, **rates)
        assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx(expected)
        run(trainer, training.groups(), last=1)
        assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([0.9 * rate for rate in expected])


@pytest.mark.parametrize("teacher", ["bi-encoder", "cross-encoder"])
def test_a_trained_teachers_word_embeddings_are_frozen_too(training: Training, teacher: str) -> None:
    """`freeze_embeddings` is about all that is trained; everything else moves."""
    trainer = training.trainer("t", strategy="rocketqav2", teacher=teacher, freeze_embeddings=True, weight_decay=0.5)
    before = weights(trainer)
    run(trainer, training.groups(), last=2)
    after = weights(trainer)
    for which in ("student", "teacher"):
        [words] = [name for name in before if name.startswith(which) and name.endswith("word_embeddings.weight")]
        assert torch.equal(before[words], after[words])
        assert sum(not torch.equal(before[name], after[name]) for name in before if name.startswith(which)) > 10


def test_clipping_is_for_each_network(training: Training) -> None:
    """A teacher's great gradient must not shrink the student's step."""
    norms: dict[str, list[float]] = {}
    trainer = training.trainer("t", strategy="rocketqav2", clip=0.01)

    def spy(*_: Any) -> None:
        for which, network in trainer.networks.items():
            grads = [p.grad for p in network.parameters() if p.grad is not None]
            norms.setdefault(which, []).append(float(torch.stack([g.norm() for g in grads]).norm()))

    trainer.optimizer.register_step_pre_hook(spy)
    run(trainer, training.groups(), last=2)
    assert norms == {"student": pytest.approx([0.01, 0.01], rel=1e-3), "teacher": pytest.approx([0.01, 0.01], rel=1e-3)}


CONTRACT = ["round", "step", "loss", "ce", "kl_teacher", "kl_assistant", "assistant"]


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_steps_jsonl_has_the_contracts_fields(training: Training, strategy: str) -> None:
    """Section 3: loss and its terms, chosen assistant, lr, examples/s; what a strategy has besides stands between them."""
    trainer = training.trainer("t", strategy=strategy)
    run(trainer, training.groups(previous=Requirement.PREVIOUS_STUDENT in STRATEGIES[strategy].requires), last=2)
    for step, line in enumerate(lines_of(training.root / "t")):
        assert list(line)[:7] == CONTRACT
        assert list(line)[-2:] == ["lr", "examples_per_second"]
        assert (line["round"], line["step"]) == (0, step)
        more = set(line) - {*CONTRACT, "lr", "examples_per_second"}
        assert all(isinstance(line[name], float) or name in ("dropped", "chosen", "layers") for name in more)
        if strategy == "mta4dpr":
            assert not more
            assert line["loss"] == pytest.approx(0.2 * line["ce"] + 0.5 * line["kl_teacher"] + 0.5 * line["kl_assistant"], rel=1e-5)


def test_numbers_of_a_step_are_terms_or_known_not_to_be(training: Training) -> None:
    """What is neither would be drawn as a term; what is missing from a line would leave a gap."""
    for name in STRATEGIES:
        trainer = training.trainer(name, strategy=name)
        run(trainer, training.groups(previous=Requirement.PREVIOUS_STUDENT in STRATEGIES[name].requires), last=1)
        [line] = lines_of(trainer.folder)
        numbers = {key for key, value in line.items() if isinstance(value, int | float)}
        assert {*STEP_NUMBERS, TOTAL} <= numbers <= {*STEP_NUMBERS, *TERMS}


@pytest.mark.parametrize("name", ["loss", "step", "lr"])
def test_a_term_cannot_be_called_as_what_a_step_has_already(training: Training, name: str) -> None:
    """It would take the other's place in steps.jsonl without a word."""
    trainer = training.trainer("t", strategy="kd")
    trainer.strategy = replace(trainer.strategy, loss=lambda step: {name: (1.0, step.cross_entropy())})
    with pytest.raises(UserError, match=f"called '{name}'"):
        run(trainer, training.groups(), last=1)
