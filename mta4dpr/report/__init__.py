"""What a run left, as leaderboards, plots and one page. Reads files, computes no measure and runs no test.

    from mta4dpr import report
    report.to_rich(report.load(folder), console)   # for the terminal
    report.write_report(folder)                    # leaderboard.{csv,md,tex,html}, efficiency.md and plots/*.svg again

`leaderboard` reads leaderboard.json, `tables` and `cost` decide what a table shows, `formats` turns tables into text,
`training` reads what training and the efficiency measurements left. `plots` draws with `frontier` and `curves`, all in the
style of `figures`. `page` makes the HTML page, with the values of each query from `queries` and the texts that `texts` kept.
"""

from __future__ import annotations

import logging
from pathlib import Path

from mta4dpr.machine.files import written_aside
from mta4dpr.report.formats import costs_to_markdown, to_csv, to_latex, to_markdown, to_rich
from mta4dpr.report.leaderboard import Leaderboard, load
from mta4dpr.report.page import to_html
from mta4dpr.report.plots import draw
from mta4dpr.report.training import load_efficiency, load_trainings

__all__ = ["Leaderboard", "draw", "load", "load_efficiency", "to_csv", "to_html", "to_latex", "to_markdown", "to_rich", "write_report"]

log = logging.getLogger(__name__)


def write_report(folder: Path) -> list[Path]:
    """Writes leaderboard.{csv,md,tex,html}, efficiency.md and plots/*.svg of the run in `folder`; returns the files written.

    Needs `folder`/leaderboard.json (UserError without it); all else is used when there: efficiency.json, training/, per_query/, texts.json.
    """
    from mta4dpr.report.queries import by_query

    board, efficiency = load(folder), load_efficiency(folder)
    plots, queries = draw(folder), by_query(board, folder)
    texts = {
        "leaderboard.csv": to_csv(board),
        "leaderboard.md": to_markdown(board),
        "leaderboard.tex": to_latex(board),
        "leaderboard.html": to_html(board, plots=plots, trainings=load_trainings(folder), efficiency=efficiency, queries=queries),
    }
    if efficiency:
        texts["efficiency.md"] = costs_to_markdown(board, efficiency)
    for name, text in texts.items():
        with written_aside(folder / name) as file:
            file.write(text)
    written = [folder / name for name in texts] + [plot.path for plot in plots]
    log.info("report: %d files in %s", len(written), folder)
    return written
