"""The efficiency frontier: what a system is worth on an eval set against what it costs (query latency, index, parameters).

A system is on the frontier when none is at least as good and at least as cheap without being its equal in both. Costs that a measurement
does not tell apart count as equal; where it tells none apart, or times were not taken together, there is no line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mta4dpr.report.figures import GROUND, INK, KINDS, MARKERS, MUTED, NARROW, REST, figure_of, legend, shortened, title
from mta4dpr.report.latencies import Latency, compare, latencies, why_busy
from mta4dpr.report.leaderboard import EvalSetRow, Leaderboard, SystemRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHAPES = dict(zip(KINDS, MARKERS, strict=False))
BETWEEN_LABELS = 0.19  # inches


@dataclass(frozen=True)
class Cost:
    """An axis: `of` takes a system and its entry in efficiency.json, None for times; `units` from the largest, of which one is chosen."""

    kind: str
    axis: str
    words: str
    units: tuple[tuple[float, str], ...]
    of: Callable[[SystemRow, dict[str, Any]], float | None] | None


BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
COUNTS = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))
COSTS = (
    Cost("latency", "query latency, median", "latency of one query", ((1, "ms"),), None),
    Cost("index", "index", "size of the index", BYTES, lambda _, found: found.get("index_bytes")),
    Cost("parameters", "parameters", "size of the model", COUNTS, lambda system, _: system.parameters),
)


@dataclass(frozen=True)
class Point:
    """A system on the plot: its cost in the smallest unit (ms, bytes, parameters) and its value of the primary measure.

    `latency` is what the cost was read from where it is a time.
    """

    system: SystemRow
    cost: float
    value: float
    latency: Latency | None = None

    @property
    def range(self) -> tuple[float, float]:
        """Between what the cost may lie."""
        return (self.latency.low, self.latency.high) if self.latency else (self.cost, self.cost)

    def is_cheaper_than(self, other: Point) -> bool:
        """Whether that can be told."""
        return self.range[1] < other.range[0]


def points(board: Leaderboard, eval_set: EvalSetRow, cost: Cost, efficiency: dict[str, Any]) -> list[Point]:
    """The systems whose cost is known and which were measured on the eval set, by its primary measure."""
    measured, timed = efficiency.get("systems") or {}, {} if cost.of else latencies(board, efficiency)
    found = []
    for system in board.systems:
        row, latency = board.row(system.system, eval_set.id, eval_set.primary), timed.get(system.system)
        paid = cost.of(system, measured.get(system.system) or {}) if cost.of else latency.p50 if latency else None
        if row is not None and paid is not None and paid > 0:
            found.append(Point(system, float(paid), row.value, latency))
    return found


def on_frontier(given: Sequence[Point]) -> list[Point]:
    """The points that no other one beats, from the cheapest on. Equal points are all on it, or none."""

    def beats(other: Point, point: Point) -> bool:
        better = other.value > point.value or other.is_cheaper_than(point)
        return better and other.value >= point.value and not point.is_cheaper_than(other)

    return sorted((p for p in given if not any(beats(other, p) for other in given)), key=lambda p: (p.cost, p.value))


def why_no_line(given: Sequence[Point]) -> str:
    """Why these points have no frontier, for a subtitle; '' where they have one."""
    timed = {point.system.system: point.latency for point in given if point.latency}
    if timed and not compare(timed):
        return "no line: not timed together"
    if not any(a.is_cheaper_than(b) for a in given for b in given):
        return "no line: the times cannot be told apart"
    return ""


def frontier(board: Leaderboard, eval_set: EvalSetRow, cost: Cost, efficiency: dict[str, Any]) -> Figure | None:
    """The eval set's primary measure against `cost`; None for fewer than two systems, or when all cost the same."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    found = points(board, eval_set, cost, efficiency)
    if len({point.cost for point in found}) < 2:
        return None
    unranked = why_no_line(found)
    best = [] if unranked else on_frontier(found)
    figure = figure_of(height=max(2.9, 1.1 + BETWEEN_LABELS * len(found)), width=NARROW)[0]
    axes = figure.axes[0]
    xs, ys = [point.cost for point in best], [point.value for point in best]
    left, right = min(p.range[0] for p in found), max(p.range[1] for p in found)
    scale, unit = next((entry for entry in cost.units if right >= entry[0]), cost.units[-1])
    margin = (right / left) ** 0.06
    axes.set_xscale("log")
    axes.set_xlim(left / margin, right * margin)
    if best:
        axes.plot([*xs, right * margin], [*ys, ys[-1]], color=MUTED, drawstyle="steps-post", linewidth=1.2, zorder=1)
    for point in found:
        low, high = point.range
        if low < high:
            axes.plot([low, high], [point.value] * 2, color=KINDS.get(point.system.kind, REST), linewidth=1.4, alpha=0.35, zorder=2)
    for kind in dict.fromkeys(point.system.kind for point in found):
        chosen = [point for point in found if point.system.kind == kind]
        axes.plot(
            [point.cost for point in chosen],
            [point.value for point in chosen],
            linestyle="none",
            marker=SHAPES.get(kind, MARKERS[-1]),
            color=KINDS.get(kind, REST),
            markeredgecolor=GROUND,
            markersize=8.5,
            label=kind,
            zorder=3,
        )
    low, high = min(p.value for p in found), max(p.value for p in found)
    room = 0.08 * (high - low) or 0.05
    axes.set_ylim(max(0.0, low - room) if low >= 0 else low - room, high + room)
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if right / left < 100 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / scale:,g}"))
    axes.set_xlabel(f"{cost.axis} ({unit})")
    axes.set_ylabel(eval_set.primary)
    _label(axes, found, {point.system.system for point in best})
    kinds = dict(zip(axes.get_legend_handles_labels()[1], axes.get_legend_handles_labels()[0], strict=True))
    legend(figure, list(kinds.items()), letters=64)
    limit = "" if board.limit is None else f", first {board.limit:,} queries only (--limit)"
    how = unranked or "bold: on the line"
    how += "; busy machine" if why_busy(efficiency, {point.system.system: point.latency for point in found if point.latency}) else ""
    title(figure, f"{eval_set.primary} against {cost.words}", f"{shortened(eval_set.id, 34)}{limit}; {how}")
    return figure


def _label(axes: Any, found: Sequence[Point], bold: set[str]) -> None:
    """Names in a column right of the axes, in the order of their points and never on one another, each with a thin line."""
    ranked = sorted(found, key=lambda point: (-point.value, point.cost))
    height = axes.figure.get_figheight() - 1.35  # what titles, ticks and legend leave to the axes, roughly
    step = min(BETWEEN_LABELS / height, 1 / max(1, len(ranked) - 1))
    low, high = axes.get_ylim()
    places = _spread([(point.value - low) / (high - low) for point in ranked], step)
    for point, place in zip(ranked, places, strict=True):
        name = point.system.system
        axes.annotate(
            shortened(name, 22),
            xy=(point.cost, point.value),
            xytext=(1.07, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            fontweight="bold" if name in bold else "normal",
            color=INK,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "alpha": 0.55, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)},
            zorder=2,
        )


def _spread(wanted: Sequence[float], step: float) -> list[float]:
    """Places from the top (1) down, at least `step` apart, inside [0, 1], each as near to the one wanted as that allows from above."""
    places: list[float] = []
    for place in wanted:
        places.append(min(place, places[-1] - step if places else 1.0))
    floor = 0.0
    for number in range(len(places) - 1, -1, -1):  # those pushed below the axes come up again
        places[number] = max(places[number], floor)
        floor = places[number] + step
    return places
