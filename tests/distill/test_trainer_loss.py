"""What a step's loss is made of, against a slow second writing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mta4dpr.distill.groups import Groups
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.distill.trainer import Batch, Texts, Trainer, checked_terms
from mta4dpr.errors import UserError
from mta4dpr.models.encoder import Encoder

from .slow_reference import REFERENCES, Plain, total
from .tiny_trainer import Training, turned


def test_each_distinct_passage_is_encoded_once(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pledge of design section 8: the batch's forward passes hold its queries and its distinct passages, no more."""
    trainer, groups = training.trainer("t"), training.groups()
    rows = []
    real = trainer.student.forward
    monkeypatch.setattr(trainer.student, "forward", lambda ids, mask, **more: rows.append(len(ids)) or real(ids, mask, **more))
    trainer.loss(trainer._batch(groups, slice(0, 20)))
    distinct = len(np.unique(groups.passages[:20]))
    assert distinct < 20 * 4  # there is something to save
    assert sum(rows) == 20 + distinct


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("budget", [24, 100])
def test_micro_batches_do_not_show(training: Training, budget: int, cached: bool) -> None:
    """Vectors come back in the order of the batch whatever is encoded together, once or twice."""
    groups = training.groups()
    whole, parts = training.trainer("t"), training.trainer("u", micro_batch_tokens=budget, gradient_cache=cached)
    expected, found = (one.loss(one._batch(groups, slice(0, 8))) for one in (whole, parts))
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-4)
    assert found[1] == {name: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value for name, value in expected[1].items()}


def vectors_of(model: Any, store: Any, number: int, longest: int) -> list[np.ndarray]:
    """One text's vector and those of its layers, pooled by hand from transformers' hidden states, float64."""
    ids, mask = (torch.from_numpy(a) for a in store.batch(np.array([number]), longest))
    with torch.no_grad():
        states = model.network[0].model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    means = [state[0].double().mean(dim=0).numpy() for state in [states[-1], *states[1:]]]
    return [one / np.linalg.norm(one) for one in means]


def plain_of(trainer: Trainer, groups: Groups, rows: range) -> Plain:
    """Those groups as the slow reference takes them: each text is encoded alone, each pair scored alone."""
    numbers = [int(groups.queries[row]) for row in rows]
    passages = [[int(p) for p in groups.passages[row]] for row in rows]
    distinct = sorted({p for group in passages for p in group})
    place = [[distinct.index(p) for p in group] for group in passages]
    temperatures = groups.about["temperatures"]

    def over(model: Any, texts: Texts, tau: float) -> list[list[list[float]]]:
        """(queries, distinct) of the output and of each layer."""
        of_queries = [vectors_of(model, texts.queries, n, model.reading.query_length) for n in numbers]
        of_passages = [vectors_of(model, texts.passages, p, model.reading.passage_length) for p in distinct]
        return [[[float(q[n] @ p[n]) / tau for p in of_passages] for q in of_queries] for n in range(len(of_queries[0]))]

    def in_groups(scores: list[list[float]]) -> list[list[float]]:
        return [[row[n] for n in group] for row, group in zip(scores, place, strict=True)]

    scores = {
        label: [[float(stored[row][n]) / temperatures[label] for n in range(len(place[0]))] for row in rows]
        for label, stored in groups.scores.items()
    }
    logits, *student_layers = over(trainer.student, trainer.texts, trainer.options.tau_student)
    teacher_layers: list[list[list[float]]] = []
    if trainer.teacher:
        model, texts = trainer.teacher
        if isinstance(model, Encoder):
            found = [in_groups(one) for one in over(model, texts, temperatures["teacher"])]
            scores["teacher"], *teacher_layers = found
        else:
            pairs = model.pairs(texts.queries, texts.passages)
            scores["teacher"] = [
                [float(model.score(pairs, np.array([n]), np.array([p]), token_budget=64)[0]) / temperatures["teacher"] for p in group]
                for n, group in zip(numbers, passages, strict=True)
            ]
    return Plain(
        trainer.options,
        logits,
        place,
        groups.kept[rows.start : rows.stop].tolist(),
        groups.relevant[rows.start : rows.stop].tolist(),
        [{distinct.index(p) for p in trainer.queries.relevant[n] if p in distinct} for n in numbers],
        {label: scores[label] for label in ("teacher", "a", "b", "c")},
        scores.get("student before the round", logits),
        [in_groups(one) for one in student_layers],
        teacher_layers,
    )


@pytest.mark.parametrize("rule", ["keep", "drop", "relabel"])
@pytest.mark.parametrize(("strategy", "teacher"), [*((name, "bi-encoder") for name in STRATEGIES), ("rocketqav2", "cross-encoder")])
def test_the_loss_is_the_methods(training: Training, strategy: str, teacher: str, rule: str) -> None:
    """From texts and stored scores to each term, against the slow reference, on 8 queries that share passages."""
    changes = {"false_negatives": rule, "ce_weight": 0.3, "teacher_weight": 0.6, "assistant_weight": 0.4}
    trainer = training.trainer("t", strategy=strategy, teacher=teacher, **changes)
    groups = training.groups(false_negatives=rule, previous=Requirement.PREVIOUS_STUDENT in STRATEGIES[strategy].requires)
    rows = range(4, 12)
    if rule != "keep":
        assert groups.about["false_negatives"] > 10
    for network in trainer.networks.values():
        network.eval()
    plain = plain_of(trainer, groups, rows)
    if strategy == "rl_ta":
        plain.chosen = np.random.default_rng(0).integers(0, 2, (4, 8))
        plain.chosen[0] = 1
        trainer.networks["policy"] = lambda *_, **__: (torch.from_numpy(plain.chosen).float(), torch.tensor(0.5))
    loss, record = trainer.loss(trainer._batch(groups, slice(rows.start, rows.stop)))
    expected = REFERENCES[strategy](plain, record)
    assert loss.item() == pytest.approx(total(expected), rel=1e-4)
    for name in ("ce", "kl_teacher", "kl_assistant", *expected):
        assert record[name] == (pytest.approx(expected[name][1], rel=1e-4) if name in expected else None)
    if rule == "drop":
        gradients = [p.grad for network in trainer.networks.values() if strategy != "rl_ta" for p in network.parameters()]
        assert all(torch.isfinite(g).all() for g in gradients if g is not None)


def test_a_term_that_weighs_nothing_is_left_out(training: Training) -> None:
    """mta4dpr with c = 0 and b = 1 is kd: the same loss, the same gradient to the bit, no term of an assistant in the log."""
    groups, found = training.groups(), []
    for strategy in ("mta4dpr", "kd"):
        trainer = training.trainer(strategy, strategy=strategy, teacher_weight=1.0, assistant_weight=0.0)
        loss, record = trainer.loss(trainer._batch(groups, slice(0, 8)))
        assert record["kl_assistant"] is None
        found.append([loss.item(), *(p.grad.tolist() for p in trainer.student.network.parameters() if p.grad is not None)])
    assert found[0] == found[1]


def bare(numbers: Any, distinct: Any, place: Any, kept: Any, relevant: Any) -> Batch:
    """A batch without scores."""
    return Batch(numbers, distinct, place, kept, relevant, None, {}, None, "teacher", 1.0)


def test_a_passage_relevant_to_another_query_of_the_batch_is_masked_for_it(training: Training) -> None:
    """Query 0's relevant passages are 0 and 1; query 1's positive is 1: it is no negative of query 0, and 0 is one of query 1's."""
    trainer = training.trainer("t")
    numbers, passages = np.array([0, 1]), np.array([[0, 10, 11, 12], [1, 0, 13, 14]])
    distinct, place = np.unique(passages, return_inverse=True)
    first = np.zeros((2, 4), bool)
    first[:, 0] = True
    kept = np.ones((2, 4), bool)
    kept[0, 3] = False
    positives, candidates = trainer._in_batch(bare(numbers, distinct, place.reshape(2, 4), kept, first))
    assert distinct[positives[0]].tolist() == [0]
    assert distinct[positives[1]].tolist() == [1]
    assert distinct[candidates[0]].tolist() == [0, 10, 11, 13, 14]  # without 1 (relevant) and 12 (dropped)
    assert distinct[candidates[1]].tolist() == [0, 1, 10, 11, 12, 13, 14]  # 12 is dropped for query 0 alone


def test_relabelled_passages_are_positives_of_their_query_alone(training: Training) -> None:
    """10 counts as positive for query 0 and stays a negative for query 4."""
    trainer = training.trainer("t")
    passages = np.array([[0, 10, 11, 12], [4, 10, 13, 14]])
    distinct, place = np.unique(passages, return_inverse=True)
    relevant = np.array([[True, True, False, False], [True, False, False, False]])
    positives, candidates = trainer._in_batch(bare(np.array([0, 4]), distinct, place.reshape(2, 4), np.ones((2, 4), bool), relevant))
    assert distinct[positives[0]].tolist() == [0, 10]
    assert distinct[positives[1]].tolist() == [4]
    assert distinct[candidates[1]].tolist() == [0, 4, 10, 11, 12, 13, 14]


def test_group_order_does_not_change_the_loss(training: Training) -> None:
    """Negatives in another order, and all that is stored beside them: the same loss and the same assistant."""
    trainer, groups = training.trainer("t"), training.groups()
    batch = trainer._batch(groups, slice(0, 8))
    plain, record = trainer.loss(batch)
    other, again = trainer.loss(turned(batch, [0, 3, 1, 2]))
    assert other.item() == pytest.approx(plain.item(), rel=1e-5)
    assert again["assistant"] == record["assistant"]


@pytest.mark.parametrize("granularity", ["batch", "query"])
def test_selection_ignores_the_student(training: Training, granularity: str) -> None:
    """TASelect is a function of stored scores: another student and another moment choose the same."""
    groups = training.groups()
    found = []
    for step in range(2):
        trainer = training.trainer(f"t{step}", granularity=granularity)
        with torch.no_grad():
            for parameter in trainer.student.network.parameters():
                parameter.add_(step * torch.randn_like(parameter))
        found.append([trainer.loss(trainer._batch(groups, slice(n, n + 4)))[1]["assistant"] for n in range(0, 40, 4)])
    assert found[0] == found[1]
    assert len({str(one) for one in found[0]}) > 1  # the choice is not constant, so equality says something


def test_query_granularity_takes_each_querys_own_target(training: Training) -> None:
    """Batches of one query choose alike under both granularities; a batch's KL is then the mean of those."""
    groups, by_query = training.groups(), training.trainer("q", granularity="query")
    single = training.trainer("b", granularity="batch")
    record = by_query.loss(by_query._batch(groups, slice(0, 8)))[1]
    alone = [single.loss(single._batch(groups, slice(n, n + 1)))[1] for n in range(8)]
    assert record["assistant"] == [one["assistant"] for one in alone]
    assert len(set(record["assistant"])) > 1
    assert record["kl_assistant"] == pytest.approx(np.mean([one["kl_assistant"] for one in alone]), rel=1e-4)


@pytest.mark.parametrize("select", ["kl", "footrule", "rbo"])
@pytest.mark.parametrize("fused", ["all", "none", [["a", "c"]]])
def test_what_may_be_chosen(training: Training, select: str, fused: Any) -> None:
    """Every criterion runs with every set of fused assistants, and chooses among those that are offered."""
    trainer = training.trainer("t", select=select, fused=fused, granularity="query")
    record = trainer.loss(trainer._batch(training.groups(), slice(0, 20)))[1]
    extra = {"all": {"a+b", "a+c", "b+c", "a+b+c"}, "none": set()}.get(str(fused), {"a+c"})
    assert set(record["assistant"]) <= {"a", "b", "c"} | extra


LEARNT = torch.ones((), requires_grad=True)


@pytest.mark.parametrize(
    ("terms", "notes", "told"),
    [
        (LEARNT, {}, "expected of a loss.*; found Tensor"),
        (None, {}, "found NoneType"),
        ({"a": LEARNT}, {}, "for 'a'"),
        ({"a": (LEARNT, 1.0)}, {}, "for 'a'"),
        ({"a": (1.0, torch.ones(3, requires_grad=True))}, {}, r"found \[3\] for 'a'"),
        ({"a": (1.0, 2.0)}, {}, "found 2.0 for 'a'"),
        ({}, {}, "nothing would be learnt"),
        ({"a": (1.0, LEARNT.detach()), "b": (0.0, LEARNT)}, {}, "nothing would be learnt"),
        ({"step": (1.0, LEARNT)}, {}, "called 'step'"),
        ({"a": (1.0, LEARNT)}, {"lr": 7}, "called 'lr'"),
        ({"a": (1.0, LEARNT)}, {"mine": LEARNT}, r"say \.item\(\)"),
    ],
)
def test_what_is_no_loss_is_told(terms: Any, notes: dict[str, Any], told: str) -> None:
    """The mistakes of a first strategy of one's own, each a sentence and no fault within the trainer."""
    with pytest.raises(UserError, match=told):
        checked_terms(terms, notes)


def test_a_loss_as_it_should_be_passes() -> None:
    """A vector of one number is a scalar too; numbers, texts and lists may be noted."""
    terms = checked_terms({"a": (2, LEARNT.reshape(1)), "b": (0, LEARNT)}, {"mine": [1.5, "x", None]})
    assert list(terms) == ["a"]
    assert (terms["a"][0], terms["a"][1].shape) == (2, torch.Size([]))
