"""How every plot looks: size, colours, letters, title, legend, and the file it becomes. Knows no data.

Same data, same bytes: no date, no random ids. Text stays text, sized for a page column of 700 px. Colours are
Okabe and Ito's (told apart by the colour-blind), and shape or place always says the same as colour. Names are
shown as they are, never as mathematics; long ones are shortened in the middle.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta4dpr.machine.files import file_name, written_aside
from mta4dpr.report.leaderboard import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# `page` replaces these five by the colours of its light or dark theme
INK, MUTED, RULE, GROUND, BLUE = "#20242b", "#5f6672", "#d5d8de", "#ffffff", "#0072b2"
KINDS = {"lexical": "#999999", "teacher": "#e69f00", "assistant": "#009e73", "student": BLUE, "encoder": "#cc79a7"}
COLOURS = [BLUE, "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800"]
REST = "#999999"
MARKERS = "os^Dv<>P"
WIDTH = 7.2  # inches of 72 points: 691 px on a page
NARROW = 5.1  # inches: two side by side on a wide page, one on a phone


@dataclass(frozen=True)
class Plot:
    """A plot that was written to a file, with what a page needs to place and describe it."""

    path: Path
    kind: str  # leaderboard | frontier-COST | training | assistants | rounds
    subject: str  # the eval set's id, or the strategy
    description: str  # one sentence, for captions and screen readers


def shortened(name: str, width: int = 36) -> str:
    """`name` with its middle left out when it is longer than `width`."""
    name = one_line(name)
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return name[:head] + "…" + name[len(name) - (width - 1 - head) :]


@contextmanager
def style() -> Iterator[None]:
    """Inside the block matplotlib draws in this module's style, whatever the user's own settings are."""
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


def figure_of(height: float, *, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; `height` and `width` in inches."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")


def title(figure: Figure, words: str, subtitle: str) -> None:
    """Flush left over the whole figure; the layout makes room for both lines."""
    figure.suptitle(words + "\n", x=0.012, ha="left", fontsize=11, fontweight="bold", linespacing=1.35)
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.27 / height, subtitle, ha="left", va="top", fontsize=9, color=MUTED)


def legend(figure: Figure, entries: list[tuple[str, Any]], *, letters: int = 92) -> None:
    """Below the axes, in as many columns as `letters` a line allow. Makes the figure taller, so `title` comes after."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=x, label=label) if isinstance(x, str) else x for label, x in entries]
    labels = [label for label, _ in entries]
    columns = max(1, min(len(entries), letters // (max(map(len, labels)) + 7)))
    rows = math.ceil(len(entries) / columns)
    figure.set_figheight(figure.get_figheight() + 0.12 + 0.19 * rows)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, fontsize=9, borderaxespad=0.3)


def save(figure: Figure | None, folder: Path, kind: str, subject: str, description: str) -> Plot | None:
    """Writes a figure to `folder`/plots/KIND-SUBJECT.svg and closes it. None when `figure` is None: there was nothing to draw."""
    if figure is None:
        return None
    import matplotlib
    import matplotlib.pyplot as plt

    path = folder / "plots" / f"{kind}-{file_name(subject)}.svg"
    matplotlib.rcParams["svg.hashsalt"] = path.name
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with written_aside(path, binary=True) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # text stays text: the reader's browser has the letters
        figure.savefig(file, format="svg", metadata=nothing)
    plt.close(figure)
    return Plot(path, kind, subject, description)
