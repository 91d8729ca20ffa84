"""How plots look: the style does not leak, names are text, files have the same bytes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from mta4dpr.report.figures import MUTED, figure_of, legend, save, shortened, style, title


def test_names_are_shortened_in_the_middle() -> None:
    assert shortened("x" * 36) == "x" * 36
    assert shortened("a" * 30 + "b" * 30, 11) == "aaaaa…bbbbb"
    assert shortened("a\nb   c") == "a b c"


def test_the_style_is_the_same_for_everybody_and_ends_with_its_block() -> None:
    """A user's matplotlibrc must not change the bytes of a plot, nor a plot the user's own figures."""
    with matplotlib.rc_context({"axes.edgecolor": "#ff0000", "font.size": 30, "lines.linewidth": 9}):
        with style():
            assert matplotlib.rcParams["axes.edgecolor"] == MUTED
            assert matplotlib.rcParams["font.size"] == 9.5
            assert matplotlib.rcParams["lines.linewidth"] == 1.5  # matplotlib's own, where the style says nothing
        assert matplotlib.rcParams["font.size"] == 30


def test_a_file_has_the_same_bytes_and_its_text_is_text(tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        with style():
            figure, axes = figure_of(2.0)
            axes.plot([0, 1], [0, 1])
            title(figure, "a $x$ & b", "below")
            plot = save(figure, folder, "training", "kd/1", "A line")
        assert plot is not None
        assert plot.path.parent == folder / "plots"
    first, second = (next((tmp_path / name / "plots").iterdir()) for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    texts = [element.text for element in ElementTree.parse(first).getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert {"a $x$ & b", "below"} <= set(texts)
    assert plt.get_fignums() == []  # closed: a run with many plots would keep them all


def test_nothing_to_draw_is_no_file(tmp_path: Path) -> None:
    assert save(None, tmp_path, "training", "kd", "A line") is None
    assert list(tmp_path.iterdir()) == []


def test_a_legend_makes_room_for_its_rows() -> None:
    """Long labels stand one below another, and the axes keep their height."""
    with style():
        heights = []
        for labels in (["a", "b"], ["a" * 60, "b" * 60]):
            figure, _ = figure_of(2.0)
            legend(figure, [(label, "#0072b2") for label in labels])
            heights.append(round(figure.get_figheight(), 2))
            plt.close(figure)
    assert heights == [2.31, 2.5]
