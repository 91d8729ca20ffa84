"""One step as a strategy sees it: TASelect and its notes, draws, who is best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from mta4dpr.distill.selection import CRITERIA, Basis, Criterion
from mta4dpr.distill.step import Step

from .slow_reference import LABELS, distributions, hand_made, kl, offered, step_of


def made(seed: int = 0, **options: Any) -> Step:
    return step_of(hand_made(seed, queries=4, **options))[0]


def test_cross_entropy_is_over_the_whole_batch() -> None:
    """With nothing masked it is torch's cross_entropy of the batch's scores, not of the group's."""
    step = made()
    positives = torch.zeros_like(step.positives)
    positives[torch.arange(4), torch.tensor([3, 1, 0, 5])] = True
    step = replace(step, positives=positives, candidates=torch.ones_like(positives))
    torch.testing.assert_close(step.cross_entropy(), functional.cross_entropy(step.logits, torch.tensor([3, 1, 0, 5])))


def test_everyone_is_the_teacher_first() -> None:
    """Weights, draws and the policy's rows are in this order."""
    step = made()
    assert list(step.everyone) == list(LABELS)
    assert step.everyone["teacher"] is step.teacher


@pytest.mark.parametrize("seed", range(4))
def test_select_by_query_takes_each_querys_own(seed: int) -> None:
    """Fused ones among them: the target of a query is the distribution of the assistant that is noted for it."""
    plain = hand_made(seed, queries=4, granularity="query", drop=True)
    step, _ = step_of(plain)
    target, found = step.select(), offered(plain)
    teacher = distributions(plain, plain.scores["teacher"])
    for row, label in enumerate(step.notes["assistant"]):
        assert label == min(found, key=lambda label: kl(teacher[row], found[label][row]))
        np.testing.assert_allclose(target[row].exp(), found[label][row], atol=1e-12)


@pytest.mark.parametrize("select", list(CRITERIA))
def test_select_for_a_batch_notes_one(select: str) -> None:
    """Every criterion gives one name and that assistant's distributions for all queries."""
    plain = hand_made(1, queries=4, select=select)
    step, _ = step_of(plain)
    target, label = step.select(), step.notes["assistant"]
    assert label in offered(plain)
    np.testing.assert_allclose(target.exp(), offered(plain)[label], atol=1e-12)
    assert select != "best" or label == "b"


@pytest.mark.parametrize("select", [name for name, criterion in CRITERIA.items() if criterion.basis is Basis.NEARNESS])
@pytest.mark.parametrize("granularity", ["batch", "query"])
def test_a_copy_of_the_teacher_is_nearest(select: str, granularity: str) -> None:
    """By each criterion: KL 0, footrule 0, overlap 1; the direction of the comparison is right."""
    step = made(2, select=select, fused="none", granularity=granularity)
    step.assistants["c"] = step.teacher.detach()
    step.select()
    assert step.notes["assistant"] in ("c", ["c"] * 4)


def test_a_criterion_from_outside_chooses_with_the_options_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry in the registry is enough: here the assistant that differs most, by a distance that takes `rrf_k`."""
    given = []

    def farthest(teacher: torch.Tensor, assistant: torch.Tensor, *, rrf_k: int) -> torch.Tensor:
        given.append(rrf_k)
        return -(teacher - assistant).abs().sum(dim=-1)

    monkeypatch.setitem(CRITERIA, "farthest", Criterion(farthest, options=("rrf_k",)))
    step = made(2, fused="none")
    step.options = step.options.model_copy(update={"select": "farthest"})
    step.assistants["b"] = step.teacher.flip(1) * 9
    step.select()
    assert step.notes["assistant"] == "b"
    assert given == [step.options.rrf_k] * 3


def test_selection_ignores_the_student_and_has_no_gradient() -> None:
    """TASelect does not see the student (method, section 1)."""
    step = made(3)
    one = step.select()
    other = replace(step, student=step.student.flip(1), logits=-step.logits, notes={})
    assert torch.equal(one, other.select())
    assert other.notes == step.notes
    assert not one.requires_grad


def test_the_best_assistant_is_the_first_of_equals_and_never_the_teacher() -> None:
    """Ties must not depend on anything but the order that the benchmark names."""
    step = made()
    assert step.best_assistant() == "b"
    assert replace(step, standing=dict.fromkeys(LABELS, 0.5)).best_assistant() == "a"


def test_draws_are_uniform_and_only_seed_step_and_stream_decide() -> None:
    """In [0, 1); another step, seed or stream gives unrelated numbers, and a longer draw begins with the shorter."""
    step = made()
    found = step.draw(4000)
    assert found.min() >= 0 and found.max() < 1
    assert np.histogram(found, bins=10, range=(0, 1))[0] == pytest.approx(np.full(10, 400), abs=4 * 19)
    np.testing.assert_array_equal(step.draw(7), found[:7])
    others = [replace(step, number=1).draw(4000), replace(step, seed=4).draw(4000), step.draw(4000, stream=1)]
    for other in others:
        assert abs(np.corrcoef(found, other)[0, 1]) < 0.07
    np.testing.assert_array_equal(replace(step, logits=step.logits * 2, notes={}).draw(50), step.draw(50))
