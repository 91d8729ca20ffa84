"""Draws a run as plots/*.svg: leaderboards with intervals, training curves, chosen assistants, D_eval by round.

Same data, same bytes: no date, no random ids. Text stays text, sized for a page column of 700 px. Colours are
Okabe and Ito's (told apart by the colour-blind), and shape or place always says the same as colour. Names are
shown as they are, never as mathematics; long ones are shortened in the middle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta4dpr.files import file_name, written_aside
from mta4dpr.report.leaderboard import EvalSet, Leaderboard, load, one_line
from mta4dpr.report.training import Training, load_trainings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# `page` replaces these five by the colours of its light or dark theme
INK, MUTED, RULE, GROUND, BLUE = "#20242b", "#5f6672", "#d5d8de", "#ffffff", "#0072b2"
KINDS = {"lexical": "#999999", "teacher": "#e69f00", "assistant": "#009e73", "student": BLUE, "encoder": "#cc79a7"}
COLOURS = [BLUE, "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800"]
REST = "#999999"
MARKERS = "os^Dv<>P"
TERMS = {
    "loss": "total loss",
    "ce": "cross-entropy",
    "kl_teacher": "KL to the teacher (nats)",
    "kl_assistant": "KL to the chosen assistant (nats)",
    "kl_mean": "KL to teacher and assistants together (nats)",
    "kl_previous": "KL to the student before the round (nats)",
    "kl_layers": "KL between layers (nats)",
    "ce_teacher": "cross-entropy of the teacher",
    "margin": "squared error of the margins",
    "listwise": "listwise loss",
    "policy": "loss of the policy",
}
WIDTH = 7.2  # inches of 72 points: 691 px on a page


@dataclass(frozen=True)
class Plot:
    path: Path
    kind: str  # leaderboard | training | assistants | rounds
    subject: str  # the eval set's id, or the strategy
    description: str  # one sentence, for captions and screen readers


def draw(folder: Path) -> list[Plot]:
    """Writes the plots that the data in `folder` allow; UserError without leaderboard.json."""
    board = load(folder)
    plots = []
    with _style():
        for eval_set in board.eval_sets:
            figure = _leaderboard(board, eval_set)
            words = f"{eval_set.primary} on {eval_set.id} for each system, with its 95 % interval"
            plots.append(_saved(figure, folder, "leaderboard", eval_set.id, words))
        for training in load_trainings(folder):
            name = training.strategy
            figure = _training(training)
            plots.append(_saved(figure, folder, "training", name, f"Loss of {name} and its terms by step"))
            figure = _assistants(training)
            plots.append(_saved(figure, folder, "assistants", name, f"Assistants that {name} chose in each round"))
            figure = _rounds(training)
            words = f"Student and assistants of {name} on the held-out training queries (D_eval), by round"
            plots.append(_saved(figure, folder, "rounds", name, words))
    return [plot for plot in plots if plot is not None]


def _leaderboard(board: Leaderboard, eval_set: EvalSet) -> Figure | None:
    rows = [(s, board.row(s.system, eval_set.id, eval_set.primary)) for s in board.systems]
    found = [(system, row) for system, row in rows if row is not None]
    if not found:
        return None
    figure, axes = _figure(height=0.9 + 0.29 * len(found))
    top = max(row.ci95[1] if row.ci95 else row.value for _, row in found) or 1.0
    for y, (system, row) in enumerate(found):
        axes.barh(y, row.value, height=0.62, color=KINDS.get(system.kind, REST))
        if row.ci95:
            low, high = row.ci95
            for colour, width in ((GROUND, 3.1), (INK, 1.1)):  # a rim, so that it shows on every bar
                middle, half = (low + high) / 2, (high - low) / 2
                axes.errorbar(middle, y, xerr=half, color=colour, elinewidth=width, capthick=width, capsize=2.5 + width / 2)
        end = max(row.value, row.ci95[1] if row.ci95 else 0.0)
        axes.text(end + 0.018 * top, y, f"{row.value:.4f}", va="center", fontsize=9)
    axes.set_yticks(range(len(found)), [shortened(system.system) for system, _ in found])
    axes.set_ylim(len(found) - 0.45, -0.55)
    axes.set_xlim(0, 1.16 * top)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    kinds = list(dict.fromkeys(system.kind for system, _ in found))
    if len(kinds) > 1:
        _legend(figure, [(kind, KINDS.get(kind, REST)) for kind in kinds])
    queries = f"{board.queries(eval_set):,} queries"
    queries += "" if board.limit is None else f" (--limit {board.limit:,}: not comparable with a full run)"
    _title(figure, f"{eval_set.primary} on {shortened(eval_set.id, 44)}", f"95 % bootstrap interval, {queries}")
    return figure


def _training(training: Training) -> Figure | None:
    lines, positions = training.steps, training.positions()
    values = {term: [_number(line.get(term)) for line in lines] for term in TERMS}
    terms = [term for term in TERMS if not all(map(math.isnan, values[term]))]
    if not terms:
        return None
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
        axes.set_title(TERMS[term], loc="left", fontsize=9.5, color=INK, pad=14 if len(boundaries) > 1 else 5)
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
    _title(figure, f"Training of {shortened(training.strategy, 44)}", smoothing)
    return figure


def _assistants(training: Training) -> Figure | None:
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

    figure, axes = _figure(height=1.0 + 0.42 * len(chosen))
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
    _legend(figure, entries)
    _title(figure, f"Assistants chosen by {shortened(training.strategy, 40)}", "share of the batches of each round")
    return figure


def _rounds(training: Training) -> Figure | None:
    rounds = [line for line in training.rounds if line.get("student") is not None]
    if not rounds:
        return None
    labels = list(dict.fromkeys(label for line in rounds for label in line.get("assistants") or {}))
    figure, axes = _figure(height=3.3)
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
    _legend(figure, entries)
    _title(figure, f"Student and assistants by round: {name}", f"{measure} on held-out training queries (D_eval){count}")
    return figure


def shortened(name: str, width: int = 36) -> str:
    """`name` with its middle left out when it is longer than `width`."""
    name = one_line(name)
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return name[:head] + "…" + name[len(name) - (width - 1 - head) :]


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.use("agg", force=True)
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",  # text stays text: legible, searchable, small
                "font.family": "sans-serif",
                "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],  # laid out with the widest
                "font.size": 9.5,
                "text.color": INK,
                "text.parse_math": False,  # a $ in a name is a $
                "axes.edgecolor": MUTED,
                "axes.labelcolor": INK,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "axes.unicode_minus": False,
                "xtick.color": MUTED,
                "ytick.color": MUTED,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
                "grid.color": RULE,
                "grid.linewidth": 0.8,
                "legend.frameon": False,
            }
        )
        yield


def _figure(height: float) -> tuple[Figure, Axes]:
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(WIDTH, height), layout="constrained")


def _title(figure: Figure, title: str, subtitle: str) -> None:
    """Flush left over the whole figure; the layout makes room for both lines."""
    figure.suptitle(title + "\n", x=0.012, ha="left", fontsize=11, fontweight="bold", linespacing=1.35)
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.27 / height, subtitle, ha="left", va="top", fontsize=9, color=MUTED)


def _legend(figure: Figure, entries: list[tuple[str, Any]]) -> None:
    """Below the axes, in as many columns as the labels allow. Makes the figure taller, so `_title` comes after."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=x, label=label) if isinstance(x, str) else x for label, x in entries]
    labels = [label for label, _ in entries]
    columns = max(1, min(len(entries), 92 // (max(map(len, labels)) + 7)))
    rows = math.ceil(len(entries) / columns)
    figure.set_figheight(figure.get_figheight() + 0.12 + 0.19 * rows)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=9, borderaxespad=0.3)


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
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _saved(figure: Figure | None, folder: Path, kind: str, subject: str, description: str) -> Plot | None:
    if figure is None:
        return None
    import matplotlib
    import matplotlib.pyplot as plt

    path = folder / "plots" / f"{kind}-{file_name(subject)}.svg"
    matplotlib.rcParams["svg.hashsalt"] = path.name
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with written_aside(path, binary=True) as file:
        figure.savefig(file, format="svg", metadata=nothing)
    plt.close(figure)
    return Plot(path, kind, subject, description)
