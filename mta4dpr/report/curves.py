"""Draws a training: loss and its terms by step, chosen assistants, D_eval by round with the replacements."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from mta4dpr.distill.terms import STEP_NUMBERS
from mta4dpr.report.figures import BLUE, COLOURS, GROUND, INK, MARKERS, MUTED, REST, WIDTH, figure_of, legend, shortened, title
from mta4dpr.report.leaderboard import one_line
from mta4dpr.report.training import Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def training_curves(training: Training) -> Figure | None:
    """A panel for each term of the loss that the training logged, by optimiser step. None when it logged none."""
    lines, positions = training.steps, training.positions()
    headings = _headings(training)
    terms = list(headings)
    if not terms:
        return None
    values = {term: [_number(line.get(term)) for line in lines] for term in terms}
    import matplotlib.pyplot as plt

    columns = min(2, len(terms))
    count = math.ceil(len(terms) / columns)
    figure, grid = plt.subplots(count, columns, figsize=(WIDTH, 0.6 + 1.85 * count), sharex=True, squeeze=False, layout="constrained")
    panels = list(grid.flat)
    window = max(1, len(lines) // 50)
    every = len(lines) // 1500 + 1  # a long run's pale line stays a small file
    boundaries = training.boundaries()
    for axes, term in zip(panels, terms, strict=False):
        axes.plot(positions[::every], values[term][::every], color=COLOURS[0], alpha=0.3, linewidth=0.8)
        smooth = _running_mean(values[term], window)
        axes.plot(positions[::every], smooth[::every], color=COLOURS[0], linewidth=1.8)
        axes.set_title(headings[term], loc="left", fontsize=9.5, color=INK, pad=14 if len(boundaries) > 1 else 5)
        axes.grid(axis="y")
        axes.margins(x=0.01)
        if min(value for value in values[term] if not math.isnan(value)) >= 0:
            axes.set_ylim(bottom=0)
        if len(boundaries) > 1:
            _mark_rounds(axes, boundaries)
    for axes in panels[len(terms) :]:
        axes.set_visible(False)
    for number, axes in enumerate(panels[: len(terms)]):
        if number + columns >= len(terms):
            axes.set_xlabel("optimiser step")
            axes.tick_params(labelbottom=True)
    smoothing = f"line: mean of {window} steps, pale: each step" if window > 1 else "each step"
    smoothing += ", dotted: a new round" if len(boundaries) > 1 else ""
    title(figure, f"Training of {shortened(training.strategy, 44)}", smoothing)
    return figure


def assistants_chosen(training: Training) -> Figure | None:
    """Share of the batches in which each assistant was chosen, one stacked bar a round."""
    chosen: dict[int, Counter[str]] = {}
    for line in training.steps:
        names = line.get("assistant") or []  # one for the batch, or one for each query
        for name in [names] if isinstance(names, str) else names:
            chosen.setdefault(line.get("round", 0), Counter())[one_line(str(name))] += 1
    if not chosen:
        return None
    total = sum(chosen.values(), Counter[str]())
    ranked = sorted(total, key=lambda label: (-total[label], label))
    kept = ranked if len(ranked) <= len(COLOURS) else ranked[: len(COLOURS) - 1]
    rest = len(ranked) - len(kept)
    entries = list(zip([shortened(label, 48) for label in kept], COLOURS, strict=False))
    entries += [(f"{rest} others", REST)] if rest else []

    figure, axes = figure_of(height=1.0 + 0.42 * len(chosen))
    for y, counts in enumerate(chosen.values()):
        batches, left = sum(counts.values()), 0.0
        shares = [counts[label] / batches for label in kept]
        shares += [1 - sum(shares)] if rest else []
        for share, (_, colour) in zip(shares, entries, strict=True):
            axes.barh(y, share, left=left, height=0.66, color=colour, edgecolor=GROUND, linewidth=0.8)
            if share >= 0.07:
                ink = "#fefefe" if colour in (BLUE, "#d55e00", "#009e73") else "black"
                axes.text(left + share / 2, y, f"{100 * share:.0f} %", ha="center", va="center", color=ink, fontsize=9)
            left += share
    labels = [f"round {number} ({sum(counts.values()):,} batches)" for number, counts in chosen.items()]
    axes.set_yticks(range(len(chosen)), labels)
    axes.set_ylim(len(chosen) - 0.45, -0.55)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    legend(figure, entries)
    title(figure, f"Assistants chosen by {shortened(training.strategy, 40)}", "share of the batches of each round")
    return figure


def student_by_round(training: Training) -> Figure | None:
    """The student's and the assistants' effectiveness on held-out training queries (D_eval) after each round; a cross marks an
    assistant that was replaced. None when the training has no rounds.
    """
    rounds = [line for line in training.rounds if line.get("student") is not None]
    if not rounds:
        return None
    labels = list(dict.fromkeys(label for line in rounds for label in line.get("assistants") or {}))
    figure, axes = figure_of(height=3.3)
    entries: list[tuple[str, Any]] = []
    for number, label in enumerate(labels):
        points = [(at["round"], (at.get("assistants") or {}).get(label)) for at in rounds]
        known = [(x, y) for x, y in points if y is not None]
        line = axes.plot(
            [x for x, _ in known],
            [y for _, y in known],
            color=COLOURS[1:][number % 6],
            marker=MARKERS[1:][number % 7],
            markersize=5,
            linestyle="--",
            linewidth=1.2,
        )[0]
        entries.append((shortened(label, 48), line))
    xs, ys = [line["round"] for line in rounds], [line["student"] for line in rounds]
    entries.insert(0, ("student", axes.plot(xs, ys, color=COLOURS[0], marker="o", linewidth=2.4, markersize=7)[0]))
    replaced = [
        (line["round"], line["assistants"][line["replaced"]]) for line in rounds if line.get("replaced") in (line.get("assistants") or {})
    ]
    if replaced:
        xs, ys = [x for x, _ in replaced], [y for _, y in replaced]
        cross = axes.plot(xs, ys, "x", color=INK, markersize=15, markeredgewidth=1.5, zorder=1.5)[0]
        entries.append(("replaced by a copy of the student", cross))
    numbers = sorted({line["round"] for line in rounds})
    axes.set_xticks(numbers[:: len(numbers) // 16 + 1])
    axes.set_xlim(numbers[0] - 0.35, numbers[-1] + 0.35)
    axes.margins(y=0.12)
    axes.grid(axis="y")
    axes.set_xlabel("round")
    measure = str(rounds[0].get("measure") or "value")
    axes.set_ylabel(measure)
    queries = rounds[0].get("queries")
    count = f", {queries:,} queries" if isinstance(queries, int) else ""
    name = shortened(training.strategy, 30)
    legend(figure, entries)
    title(figure, f"Student and assistants by round: {name}", f"{measure} on held-out training queries (D_eval){count}")
    return figure


def _headings(training: Training) -> dict[str, str]:
    """What is drawn, each under its heading: the terms that have a number in some step. An unknown one is called by its own name."""
    from mta4dpr.distill.strategies import headings_of_terms  # loads numpy, which this package does without until it draws

    drawn = {name for line in training.steps for name, value in line.items() if not math.isnan(_number(value))} - {*STEP_NUMBERS}
    known = headings_of_terms(training.strategy) | training.titles
    unknown = dict.fromkeys(name for line in training.steps for name in line if name not in known)
    return {name: known.get(name, name) for name in [*known, *unknown] if name in drawn}


def _mark_rounds(axes: Axes, boundaries: list[tuple[int, int]]) -> None:
    every = math.ceil(len(boundaries) / 5)
    for number, (label, start) in enumerate(boundaries):
        if number:
            axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=":")
        if number % every == 0:
            text = f"round {label}" if len(boundaries) <= 4 else str(label)
            axes.annotate(
                text, (start, 1), xycoords=("data", "axes fraction"), xytext=(1, 2), textcoords="offset points",
                fontsize=8, color=MUTED, ha="left", va="bottom",
            )  # fmt: skip


def _running_mean(values: list[float], window: int) -> list[float]:
    """Mean over the last `window` values that are numbers."""
    means = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - window) : end] if not math.isnan(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    return means


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else math.nan
