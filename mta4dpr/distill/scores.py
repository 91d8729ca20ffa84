"""The score report of a round: what the scores of teacher and assistants look like, before a student is trained on them.

A softmax that has all its weight on one passage or is flat teaches nothing, and no loss curve shows it. Reads an open dataset of
groups; knows no models and no training. A group of which only the positive was kept says nothing: it is counted, and left out of
all other values but lowest and highest.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.distill.distributions import divergence, entropy
from mta4dpr.distill.groups import Groups
from mta4dpr.distill.selection import rank_biased_overlap

if TYPE_CHECKING:
    from torch import Tensor

COLLAPSED = 0.05  # a mean entropy below this share of ln(group) stands on one passage
FLAT = 0.99  # and above this share it tells passages no more apart
PAIRS = 2**21  # pairs of passages compared at once: bounds the memory

Report = dict[str, dict[str, float | int | None]]


def describe(groups: Groups, *, persistence: float, sample: int = 2000) -> Report:
    """What each scorer's scores look like over at most `sample` evenly spaced groups; the teacher comes first.

    Of each scorer, over its kept passages; None where a value is not defined or not finite:

        groups, single      groups of the sample, and those of them with one kept passage
        chance              share of groups in which a random order has the positive first, mean of 1 / kept passages
        lowest, highest     raw scores, overall
        spread              standard deviation of raw scores in a group (of the population), mean over groups
        ties, constant      share of groups with two or more equal raw scores, and with all equal
        positive_first      share of groups in which the positive's raw score is above all others; a tie with it is not first
        temperature         that divides its scores (after the z-score, where that is the calibration)
        entropy             of the calibrated softmax in nats, mean over groups
        entropy_share       mean entropy / mean ln(kept passages): 0 is one passage, 1 is uniform

    And of each assistant, against the teacher:

        kendall             tau-b of raw scores, mean over the groups in which neither is constant (Kendall 1945)
        kendall_undefined   groups in which one is constant
        kl                  KL(teacher || assistant) of the calibrated softmaxes in nats, mean over groups
        rbo                 rank-biased overlap of the calibrated softmaxes, mean over groups; `persistence` is that of TASelect
                            (option `rbo_p`), and ties are by position as there
    """
    number, size = groups.kept.shape
    rows = np.unique(np.linspace(0, number - 1, min(number, sample)).round().astype(np.int64)) if number else np.empty(0, np.int64)
    block = max(1, PAIRS // size**2)
    labels = [groups.about["teacher"], *groups.about["assistants"]]
    values_of: dict[str, dict[str, list[np.ndarray]]] = {label: defaultdict(list) for label in labels}
    for start in range(0, len(rows), block):
        for label, values in _of_block(_rows_of(groups, rows[start : start + block]), labels, persistence).items():
            for name, array in values.items():
                values_of[label][name].append(array)
    report = {}
    for label in labels:
        values = {name: np.concatenate(arrays) for name, arrays in values_of[label].items()}
        report[label] = _summary(values, groups.about["temperatures"][label], against_teacher=label != labels[0])
    return report


def warnings(report: Report) -> list[str]:
    """A sentence for each scorer that cannot teach: constant scores, a softmax on one passage or flat, a teacher below chance."""
    teacher = next(iter(report), None)
    sentences = []
    for label, row in report.items():
        share, constant = row["entropy_share"], row["constant"]
        remedy = "set tau_teacher {} or to entropy:0.5" if label == teacher else "calibration: temperature gives it the teacher's entropy"
        if constant == 1:
            sentences.append(
                f"{label}: expected scores that differ within a group, found the same score for all its passages in every group; "
                "nothing can be learnt from them: check its weights or its table, or leave it out"
            )
            continue
        if share is not None and share < COLLAPSED:
            sentences.append(
                f"{label}: expected a softmax with at least {COLLAPSED:.0%} of the greatest entropy, found {share:.2%}; it stands on one "
                f"passage of a group and says nothing of the others: {remedy.format('higher')}"
            )
        if share is not None and share > FLAT:
            sentences.append(
                f"{label}: expected a softmax with at most {FLAT:.0%} of the greatest entropy, found {share:.2%}; it is flat and tells "
                f"the passages of a group hardly apart: {remedy.format('lower')}"
            )
        first, chance = row["positive_first"], row["chance"]
        if label == teacher and first is not None and chance is not None and first < chance:
            sentences.append(
                f"{label}: expected a teacher that scores the positive highest in more groups than chance ({chance:.1%}), found "
                f"{first:.1%}; it teaches the opposite of the judgments: check its pooling, lengths and prefixes, or the qrels"
            )
    return sentences


def lines(report: Report) -> list[str]:
    """The report as an aligned table for the log: a heading, then a scorer a line."""
    columns = {
        "spread": ("spread", "{:.3g}"),
        "ties": ("ties", "{:.1%}"),
        "entropy": ("entropy_share", "{:.1%}"),
        "positive first": ("positive_first", "{:.1%}"),
        "kendall": ("kendall", "{:.3f}"),
        "kl": ("kl", "{:.3f}"),
        "rbo": ("rbo", "{:.3f}"),
    }
    table = [["scorer", *columns]]
    for label, row in report.items():
        values = [(row.get(name), form) for name, form in columns.values()]
        table.append([label, *("-" if value is None else form.format(value) for value, form in values)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table]


def kendall_tau_b(a: np.ndarray, b: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of two scorings of each group's kept passages, all (groups, group) -> (groups,); NaN where one is constant."""
    both = kept[:, :, None] & kept[:, None, :]
    signs = [((x[:, :, None] > x[:, None, :]).astype(np.int8) - (x[:, :, None] < x[:, None, :])) * both for x in (a, b)]  # (groups, g, g)
    agreement, in_a, in_b = ((x * y).sum(axis=(1, 2), dtype=np.int64) for x, y in ((signs[0], signs[1]), (signs[0],) * 2, (signs[1],) * 2))
    with np.errstate(invalid="ignore"):
        return agreement / np.sqrt(in_a * in_b.astype(np.float64))


def _rows_of(groups: Groups, rows: np.ndarray) -> Groups:
    """Those groups, in memory."""
    arrays: dict[str, Any] = {name: np.asarray(getattr(groups, name)[rows]) for name in ("queries", "passages", "kept", "relevant")}
    arrays["scores"] = {label: np.asarray(stored[rows]) for label, stored in groups.scores.items()}
    return replace(groups, **arrays)


def _of_block(groups: Groups, labels: list[str], persistence: float) -> dict[str, dict[str, np.ndarray]]:
    """{label: {name: values (groups,)}} of a block of groups; NaN for a group with one kept passage, save lowest and highest."""
    teacher_log_p, assistants, *_ = groups.log_distributions(slice(None), "cpu")
    log_p: dict[str, Tensor] = {labels[0]: teacher_log_p, **assistants}
    kept = groups.kept
    count = kept.sum(axis=1)
    alone = count < 2
    values_of = {}
    for label in labels:
        raw = groups.scores[label]
        scores = np.where(kept, raw.astype(np.float64), np.nan)
        ordered = np.sort(scores, axis=1)  # NaN comes last
        equal = (ordered[:, 1:] == ordered[:, :-1]).sum(axis=1)
        values: dict[str, np.ndarray] = {
            "chance": 1 / count,
            "spread": np.nanstd(scores, axis=1),
            "ties": equal > 0,
            "constant": equal == count - 1,
            "positive_first": (np.where(kept, raw, -np.inf)[:, 1:] < raw[:, :1]).all(axis=1),
            "entropy": entropy(log_p[label]).numpy(),
            "greatest": np.log(count),
        }
        if label != labels[0]:
            values["kendall"] = kendall_tau_b(groups.scores[labels[0]], raw, kept)
            values["kl"] = divergence(teacher_log_p, log_p[label]).numpy()
            values["rbo"] = rank_biased_overlap(teacher_log_p, log_p[label], persistence).numpy()
        values_of[label] = {name: np.where(alone, np.nan, value.astype(np.float64)) for name, value in values.items()}
        values_of[label] |= {"alone": alone, "lowest": np.nanmin(scores, axis=1), "highest": np.nanmax(scores, axis=1)}
    return values_of


def _summary(values: dict[str, np.ndarray], temperature: float, *, against_teacher: bool) -> dict[str, float | int | None]:
    """A scorer's row of the report, from the values of its groups (none, if there are no groups)."""
    nothing = np.empty(0)
    alone = values.get("alone", nothing).astype(bool)
    of_several = {name: array[~alone] for name, array in values.items()}

    def mean(array: np.ndarray) -> float | None:
        return _finite(array.mean()) if len(array) else None

    row: dict[str, float | int | None] = {
        "groups": len(alone),
        "single": int(alone.sum()),
        "chance": mean(of_several.get("chance", nothing)),
        "lowest": _finite(values["lowest"].min()) if len(alone) else None,
        "highest": _finite(values["highest"].max()) if len(alone) else None,
        **{name: mean(of_several.get(name, nothing)) for name in ("spread", "ties", "constant", "positive_first")},
        "temperature": _finite(temperature),
        "entropy": mean(of_several.get("entropy", nothing)),
    }
    nats, greatest = row["entropy"], mean(of_several.get("greatest", nothing))
    row["entropy_share"] = nats / greatest if nats is not None and greatest is not None else None
    if against_teacher:
        tau = of_several.get("kendall", nothing)
        row["kendall"] = mean(tau[np.isfinite(tau)])
        row["kendall_undefined"] = int(np.isnan(tau).sum())
        row |= {name: mean(of_several.get(name, nothing)) for name in ("kl", "rbo")}
    return row


def _finite(value: Any) -> float | None:
    return float(value) + 0.0 if math.isfinite(value) else None  # -0.0 becomes 0.0
