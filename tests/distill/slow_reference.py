"""Every strategy's loss a second time: lists, loops and the math module, from the method's text, a query and a passage at a time.

Also makes steps by hand, as lists for this file and as tensors for the strategies. Knows no network.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from mta4dpr.config.options import Distill
from mta4dpr.distill.step import Step

Rows = list[list[float]]
Values = dict[str, tuple[float, float]]  # weight and value of each term
LABELS = ("teacher", "a", "b", "c")
STANDING = {"teacher": 0.9, "a": 0.2, "b": 0.7, "c": 0.4}
OPTIONS: dict[str, Any] = {
    "ce_weight": 0.3,
    "teacher_weight": 0.25,
    "assistant_weight": 0.5,
    "soft_weight": 0.4,
    "soft_tau": 3.0,
    "steps": 30,
    "rounds": 1,
}


@dataclass
class Plain:
    """A step in lists. Scores are divided by their temperatures already."""

    options: Distill
    logits: Rows  # (queries, passages of the batch)
    place: list[list[int]]  # (queries, group): where a group's passages are among the batch's, the positive first
    kept: list[list[bool]]
    relevant: list[list[bool]]
    judged: list[set[int]]  # passages of the batch that are judged relevant for each query
    scores: dict[str, Rows]  # of teacher and assistants
    previous: Rows
    student_layers: list[Rows]
    teacher_layers: list[Rows]
    number: int = 0
    round: int = 0
    seed: int = 3
    standing: dict[str, float] = field(default_factory=lambda: dict(STANDING))
    chosen: Any = None  # rl_ta: what its policy answers, (teachers, queries)

    @property
    def student(self) -> Rows:
        """The student's scores in groups."""
        return [[row[n] for n in group] for row, group in zip(self.logits, self.place, strict=True)]


def hand_made(
    seed: int, *, queries: int = 3, group: int = 5, drop: bool = False, relabel: bool = False, spread: float = 1.5, **options: Any
) -> Plain:
    """Random scores; groups share passages, and a passage that is query 1's positive is judged relevant for query 0 too."""
    generator = np.random.default_rng(seed)
    width = queries * (group - 1) + 1

    def scores(*shape: int) -> Any:
        return (generator.normal(size=shape) * spread).tolist()

    place = [generator.choice(width, group, replace=False).tolist() for _ in range(queries)]
    kept = [[True] * group for _ in range(queries)]
    relevant = [[True] + [False] * (group - 1) for _ in range(queries)]
    if drop:
        kept[0][1] = False
        kept[-1][-1] = False
    if relabel:
        relevant[1 % queries][1] = True
    judged = [{row[0]} for row in place]
    judged[0].add(place[1 % queries][0])
    return Plain(
        Distill(**{**OPTIONS, **options}),
        scores(queries, width),
        place,
        kept,
        relevant,
        judged,
        {label: scores(queries, group) for label in LABELS},
        scores(queries, group),
        scores(2, queries, group),
        scores(4, queries, group),
    )


def reordered(plain: Plain, order: Sequence[int]) -> Plain:
    """The same groups with their negatives in another order; `order` starts with 0."""
    turned = copy.deepcopy(plain)

    def turn(rows: list[list[Any]]) -> list[list[Any]]:
        return [[row[n] for n in order] for row in rows]

    turned.place, turned.kept, turned.relevant, turned.previous = map(turn, (plain.place, plain.kept, plain.relevant, plain.previous))
    turned.scores = {label: turn(rows) for label, rows in plain.scores.items()}
    turned.student_layers = [turn(rows) for rows in plain.student_layers]
    turned.teacher_layers = [turn(rows) for rows in plain.teacher_layers]
    return turned


def shifted(plain: Plain, by: dict[str, list[float]]) -> Plain:
    """A constant added to all scores that a model gives a query; `by` has one for each query under student, previous and each label."""
    moved = copy.deepcopy(plain)

    def move(rows: Rows, constants: list[float]) -> Rows:
        return [[value + constant for value in row] for row, constant in zip(rows, constants, strict=True)]

    moved.logits, moved.previous = move(plain.logits, by["student"]), move(plain.previous, by["previous"])
    moved.scores = {label: move(rows, by[label]) for label, rows in plain.scores.items()}
    moved.student_layers = [move(rows, by["student"]) for rows in plain.student_layers]
    moved.teacher_layers = [move(rows, by["teacher"]) for rows in plain.teacher_layers]
    return moved


# --- as tensors -----------------------------------------------------------------------------------------------------


def candidates_of(plain: Plain) -> tuple[list[set[int]], list[set[int]]]:
    """(positives, candidates) of each query among the batch's passages: its own positives against what is neither dropped nor judged."""
    positives, candidates = [], []
    for row, group in enumerate(plain.place):
        own = {n for n, is_relevant in zip(group, plain.relevant[row], strict=True) if is_relevant}
        dropped = {n for n, is_kept in zip(group, plain.kept[row], strict=True) if not is_kept}
        positives.append(own)
        candidates.append(own | (set(range(len(plain.logits[row]))) - plain.judged[row] - dropped))
    return positives, candidates


def step_of(plain: Plain, policy: Any = None) -> tuple[Step, dict[str, torch.Tensor]]:
    """The step, float64, and the raw scores that it stands on: leaves that take gradients, but those of stored scores."""
    kept, relevant = torch.tensor(plain.kept), torch.tensor(plain.relevant)
    place = torch.tensor(plain.place)

    def leaf(rows: Any) -> torch.Tensor:
        return torch.tensor(rows, dtype=torch.float64, requires_grad=True)

    def distribution(scores: torch.Tensor) -> torch.Tensor:
        return scores.masked_fill(~kept, -math.inf).log_softmax(dim=-1)

    def columns(sets: list[set[int]]) -> torch.Tensor:
        return torch.tensor([[n in one for n in range(len(plain.logits[0]))] for one in sets])

    leaves = {"student": leaf(plain.logits), **{label: leaf(rows) for label, rows in plain.scores.items()}}
    leaves |= {f"student layer {n}": leaf(rows) for n, rows in enumerate(plain.student_layers)}
    leaves |= {f"teacher layer {n}": leaf(rows) for n, rows in enumerate(plain.teacher_layers)}
    positives, candidates = candidates_of(plain)
    step = Step(
        number=plain.number,
        round=plain.round,
        seed=plain.seed,
        options=plain.options,
        logits=leaves["student"],
        positives=columns(positives),
        candidates=columns(candidates),
        relevant=relevant,
        kept=kept,
        student=distribution(leaves["student"].gather(1, place)),
        teacher=distribution(leaves["teacher"]),
        assistants={label: distribution(leaves[label]).detach() for label in plain.scores if label != "teacher"},
        previous=distribution(torch.tensor(plain.previous, dtype=torch.float64)),
        standing=plain.standing,
        student_layers=[distribution(leaves[f"student layer {n}"]) for n in range(len(plain.student_layers))],
        teacher_layers=[distribution(leaves[f"teacher layer {n}"]) for n in range(len(plain.teacher_layers))],
        policy=policy,
    )
    return step, leaves


# --- the pieces of a loss -------------------------------------------------------------------------------------------


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def softmax(scores: Sequence[float], kept: Sequence[bool], tau: float = 1.0) -> list[float]:
    top = max(s / tau for s, k in zip(scores, kept, strict=True) if k)
    raw = [math.exp(s / tau - top) if k else 0.0 for s, k in zip(scores, kept, strict=True)]
    return [value / math.fsum(raw) for value in raw]


def kl(p: Sequence[float], q: Sequence[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def distributions(plain: Plain, scores: Rows, tau: float = 1.0) -> Rows:
    return [softmax(row, kept, tau) for row, kept in zip(scores, plain.kept, strict=True)]


def mean_kl(p: Rows, q: Rows) -> float:
    return mean([kl(a, b) for a, b in zip(p, q, strict=True)])


def soft_kl(plain: Plain, target: Rows, tau: float) -> float:
    return tau**2 * mean_kl(distributions(plain, target, tau), distributions(plain, plain.student, tau))


def cross_entropy(plain: Plain) -> float:
    positives, candidates = candidates_of(plain)
    losses = []
    for logits, own, others in zip(plain.logits, positives, candidates, strict=True):
        total = math.log(math.fsum(math.exp(logits[n]) for n in others))
        losses.append(mean([total - logits[n] for n in own]))
    return mean(losses)


def gold_nll(plain: Plain, p: Rows) -> list[float]:
    """-log p of each query's positives within its group, the mean over several."""
    return [
        mean([-math.log(value) for value, is_relevant in zip(row, relevant, strict=True) if is_relevant])
        for row, relevant in zip(p, plain.relevant, strict=True)
    ]


def weighted_mean(rows: Sequence[list[float]], weights: Sequence[float]) -> list[float]:
    return [math.fsum(w * value for w, value in zip(weights, column, strict=True)) for column in zip(*rows, strict=True)]


def entropy(p: Sequence[float]) -> float:
    return -math.fsum(value * math.log(value) for value in p if value > 0)


def offered(plain: Plain) -> dict[str, Rows]:
    """Assistants and the plain means of all their subsets of two or more."""
    single = {label: distributions(plain, rows) for label, rows in plain.scores.items() if label != "teacher"}
    found = dict(single)
    if plain.options.fused == "all":
        for size in range(2, len(single) + 1):
            for subset in itertools.combinations(single, size):
                share = [1 / size] * size
                found["+".join(subset)] = [weighted_mean(rows, share) for rows in zip(*(single[label] for label in subset), strict=True)]
    return found


def ranks(values: Sequence[float], kept: Sequence[bool]) -> list[int]:
    """1 for the greatest; what is dropped comes last."""
    order = sorted(range(len(values)), key=lambda n: (not kept[n], -values[n]))
    return [1 + order.index(n) for n in range(len(values))]


def curriculum(order: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """Labels of ranks from 1: 1/rank in the first part, 0 in the second, -1 in the third."""
    group = len(order)
    first = max(1, round(group * sizes[0] / 30))
    second = max(first, round(group * (sizes[0] + sizes[1]) / 30))
    return [1 / rank if rank <= first else 0.0 if rank <= second else -1.0 for rank in order]


# --- the strategies -------------------------------------------------------------------------------------------------


def _with_kl(plain: Plain, name: str, target: Rows) -> Values:
    o = plain.options
    student = distributions(plain, plain.student)
    return {"ce": (o.ce_weight, cross_entropy(plain)), name: (o.teacher_weight + o.assistant_weight, mean_kl(target, student))}


def contrastive(plain: Plain, notes: dict[str, Any]) -> Values:
    return {"ce": (1.0, cross_entropy(plain))}


def kd(plain: Plain, notes: dict[str, Any]) -> Values:
    return _with_kl(plain, "kl_teacher", distributions(plain, plain.scores["teacher"]))


def kd_ta(plain: Plain, notes: dict[str, Any]) -> Values:
    """The best on D_eval is b."""
    label = "b" if plain.options.ta == "best" else plain.options.ta
    assert notes["assistant"] == label
    return _with_kl(plain, "kl_assistant", distributions(plain, plain.scores[label]))


def margin_mse(plain: Plain, notes: dict[str, Any]) -> Values:
    squares = []
    for student, teacher, kept in zip(plain.student, plain.scores["teacher"], plain.kept, strict=True):
        for n in range(1, len(student)):
            if kept[n]:
                squares.append(((student[0] - student[n]) - (teacher[0] - teacher[n])) ** 2)
    return {"margin": (1.0, mean(squares) if squares else 0.0)}


def mean_ta(plain: Plain, notes: dict[str, Any]) -> Values:
    each = [distributions(plain, rows) for rows in plain.scores.values()]
    share = [1 / len(each)] * len(each)
    return _with_kl(plain, "kl_mean", [weighted_mean(rows, share) for rows in zip(*each, strict=True)])


def _with_assistant(plain: Plain, target: Rows) -> Values:
    o, student = plain.options, distributions(plain, plain.student)
    return {
        "ce": (o.ce_weight, cross_entropy(plain)),
        "kl_teacher": (o.teacher_weight, mean_kl(distributions(plain, plain.scores["teacher"]), student)),
        "kl_assistant": (o.assistant_weight, mean_kl(target, student)),
    }


def mta4dpr(plain: Plain, notes: dict[str, Any]) -> Values:
    teacher, found = distributions(plain, plain.scores["teacher"]), offered(plain)
    if plain.options.granularity == "query":
        labels = [min(found, key=lambda label: kl(teacher[row], found[label][row])) for row in range(len(teacher))]
        assert notes["assistant"] == labels
        return _with_assistant(plain, [found[label][row] for row, label in enumerate(labels)])
    label = min(found, key=lambda label: mean_kl(teacher, found[label]))
    assert notes["assistant"] == label
    return _with_assistant(plain, found[label])


def random_ta(plain: Plain, notes: dict[str, Any]) -> Values:
    """What was drawn stands in the notes; how it is drawn is tested apart."""
    return _with_assistant(plain, offered(plain)[notes["assistant"]])


def best_ta(plain: Plain, notes: dict[str, Any]) -> Values:
    assert notes["assistant"] == "b"
    return _with_assistant(plain, distributions(plain, plain.scores["b"]))


def weighted_ta(plain: Plain, notes: dict[str, Any]) -> Values:
    o, student = plain.options, distributions(plain, plain.student)
    each = [distributions(plain, rows) for rows in plain.scores.values()]
    losses = []
    for row in range(len(student)):
        raw = [1 / (1 + gold_nll(plain, p)[row]) for p in each]
        losses.append(math.fsum(w / math.fsum(raw) * kl(p[row], student[row]) for w, p in zip(raw, each, strict=True)))
    return {"ce": (o.ce_weight, cross_entropy(plain)), "kl_mean": (o.teacher_weight + o.assistant_weight, mean(losses))}


def takd(plain: Plain, notes: dict[str, Any]) -> Values:
    """The model before this one in the chain is the first assistant, or the teacher at the chain's start."""
    o, labels = plain.options, [label for label in plain.scores if label != "teacher"]
    assert notes["assistant"] == (labels or ["teacher"])[0]
    value = soft_kl(plain, plain.scores[notes["assistant"]], o.soft_tau)
    return {"ce": (1 - o.soft_weight, cross_entropy(plain)), "kl_assistant" if labels else "kl_teacher": (o.soft_weight, value)}


def dgkd(plain: Plain, notes: dict[str, Any]) -> Values:
    o = plain.options
    value = math.fsum(soft_kl(plain, rows, o.soft_tau) for label, rows in plain.scores.items() if label != notes["dropped"])
    return {"ce": (1 - o.soft_weight, cross_entropy(plain)), "kl_mean": (o.soft_weight, value)}


def rl_ta(plain: Plain, notes: dict[str, Any]) -> Values:
    """`chosen` is what the stand-in for the policy answers, with a policy loss of 0.5."""
    each = [distributions(plain, rows) for rows in plain.scores.values()]
    target = []
    for row in range(len(plain.place)):
        heard = [p[row] for p, chosen in zip(each, plain.chosen, strict=True) if chosen[row]]
        target.append(weighted_mean(heard, [1 / len(heard)] * len(heard)))
    return {**_with_kl(plain, "kl_mean", target), "policy": (1.0, 0.5)}


def cl_drd(plain: Plain, notes: dict[str, Any]) -> Values:
    third = 0 if plain.number < 10 else 1 if plain.number < 20 else 2  # of 30 steps
    sizes = ((5, 12, 13), (10, 10, 10), (20, 5, 5))[third]
    losses = []
    for student, teacher, kept in zip(plain.student, plain.scores["teacher"], plain.kept, strict=True):
        label, rank = curriculum(ranks(teacher, kept), sizes), ranks(student, kept)
        losses.append(
            math.fsum(
                abs(1 / rank[i] - 1 / rank[j]) * math.log(1 + math.exp(student[j] - student[i]))
                for i, j in itertools.permutations(range(len(student)), 2)
                if kept[i] and kept[j] and label[i] > label[j]
            )
        )
    return {"listwise": (1.0, mean(losses))}


def prod(plain: Plain, notes: dict[str, Any]) -> Values:
    """From weak to strong on D_eval: a, c, b, teacher."""
    label = ["a", "c", "b", "teacher"][min(plain.round, 3)]
    assert notes["assistant"] == label
    tau = plain.options.soft_tau
    return {
        "ce": (0.1, cross_entropy(plain)),
        "kl_teacher": (0.9, soft_kl(plain, plain.scores[label], tau)),
        "kl_previous": (1.0, soft_kl(plain, plain.previous, tau)),
    }


def rocketqav2(plain: Plain, notes: dict[str, Any]) -> Values:
    teacher, student = distributions(plain, plain.scores["teacher"]), distributions(plain, plain.student)
    pair = (teacher, student) if plain.options.joint_kl == "forward" else (student, teacher)
    return {"ce_teacher": (1.0, mean(gold_nll(plain, teacher))), "kl_teacher": (1.0, mean_kl(*pair))}


def lead(plain: Plain, notes: dict[str, Any]) -> Values:
    """Which of the teacher's layers were drawn stands in the notes."""
    teacher, student = distributions(plain, plain.scores["teacher"]), distributions(plain, plain.student)
    of_teacher = [distributions(plain, plain.teacher_layers[n]) for n in notes["layers"]]
    of_student = [distributions(plain, layer) for layer in plain.student_layers]
    weights = softmax([-mean(gold_nll(plain, layer)) / 10 for layer in of_teacher], [True] * len(of_teacher))
    return {
        "ce": (1.0, mean(gold_nll(plain, student))),
        "ce_teacher": (1.0, mean(gold_nll(plain, teacher))),
        "kl_teacher": (1.0, mean_kl(teacher, student) + mean_kl(student, teacher)),
        "kl_layers": (1.0, math.fsum(w * mean_kl(t, s) for w, t, s in zip(weights, of_teacher, of_student, strict=False))),
    }


REFERENCES: dict[str, Callable[[Plain, dict[str, Any]], Values]] = {
    "contrastive": contrastive,
    "kd": kd,
    "kd_ta": kd_ta,
    "margin_mse": margin_mse,
    "mean_ta": mean_ta,
    "random_ta": random_ta,
    "best_ta": best_ta,
    "weighted_ta": weighted_ta,
    "takd": takd,
    "dgkd": dgkd,
    "rl_ta": rl_ta,
    "cl_drd": cl_drd,
    "prod": prod,
    "rocketqav2": rocketqav2,
    "lead": lead,
    "mta4dpr": mta4dpr,
}


def total(values: Values) -> float:
    return math.fsum(weight * value for weight, value in values.values())
