"""plots/*.svg: the leaderboards with their intervals, the frontiers, and what `curves` draws of each training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mta4dpr.report.curves import assistants_chosen, student_by_round, training_curves
from mta4dpr.report.figures import GROUND, INK, KINDS, NARROW, REST, Plot, figure_of, legend, save, shortened, style, title
from mta4dpr.report.frontier import COSTS, frontier, points, why_no_line
from mta4dpr.report.leaderboard import EvalSetRow, Leaderboard, load
from mta4dpr.report.training import load_efficiency, load_trainings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(folder: Path) -> list[Plot]:
    """Writes the plots that the data in `folder` allow; UserError without leaderboard.json."""
    board, efficiency = load(folder), load_efficiency(folder)
    plots = []
    with style():
        for eval_set in board.eval_sets:
            figure = _leaderboard(board, eval_set)
            words = f"{eval_set.primary} on {eval_set.id} for each system, with its 95 % interval"
            plots.append(save(figure, folder, "leaderboard", eval_set.id, words))
            for cost in COSTS:
                figure = frontier(board, eval_set, cost, efficiency)
                line = "" if why_no_line(points(board, eval_set, cost, efficiency)) else ", with the frontier"
                words = f"{eval_set.primary} on {eval_set.id} against the {cost.words}{line}"
                plots.append(save(figure, folder, f"frontier-{cost.kind}", eval_set.id, words))
        for training in load_trainings(folder):
            name = training.strategy
            figure = training_curves(training)
            plots.append(save(figure, folder, "training", name, f"Loss of {name} and its terms by step"))
            figure = assistants_chosen(training)
            plots.append(save(figure, folder, "assistants", name, f"Assistants that {name} chose in each round"))
            figure = student_by_round(training)
            words = f"Student and assistants of {name} on the held-out training queries (D_eval), by round"
            plots.append(save(figure, folder, "rounds", name, words))
    return [plot for plot in plots if plot is not None]


def _leaderboard(board: Leaderboard, eval_set: EvalSetRow) -> Figure | None:
    rows = [(s, board.row(s.system, eval_set.id, eval_set.primary)) for s in board.systems]
    found = [(system, row) for system, row in rows if row is not None]
    if not found:
        return None
    figure, axes = figure_of(height=max(2.6, 0.9 + 0.27 * len(found)), width=NARROW)
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
    axes.set_yticks(range(len(found)), [shortened(system.system, 24) for system, _ in found])
    axes.set_ylim(len(found) - 0.45, -0.55)
    axes.set_xlim(0, 1.24 * top)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    kinds = list(dict.fromkeys(system.kind for system, _ in found))
    if len(kinds) > 1:
        legend(figure, [(kind, KINDS.get(kind, REST)) for kind in kinds], letters=64)
    queries = f"{board.queries(eval_set):,} queries"
    queries += "" if board.limit is None else f" (--limit {board.limit:,}, no full run)"
    title(figure, f"{eval_set.primary} on {shortened(eval_set.id, 30)}", f"95 % bootstrap interval, {queries}")
    return figure
