"""How every table fits a terminal: words fold, paths shorten to what differs, the least important columns go, and no number is ever cut.

Knows texts and their widths on a screen; not what they mean, nor which command prints them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

BETWEEN = 2  # cells between two columns
FOLDED, NARROWEST = 12, 4  # what a column of words keeps, and what it keeps where nothing else helps
NUMBER = r"\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?"
ATOMS = re.compile(rf"{NUMBER}|[^\d\-_/.:;=+@]*[\-_/.:;=+@]+|[^\d\-_/.:;=+@]+")


@dataclass(frozen=True)
class GridColumn:
    """A column. `rank` says how soon it is left out where the terminal is narrow: the largest first, 0 never."""

    head: str
    rank: int
    right: bool = False
    folds: bool = False  # words and names, which may run over several lines
    paths: bool = False  # paths, of which those parts that all share may go; they fold too


def print_grid(
    columns: Sequence[GridColumn],
    rows: Sequence[Sequence[Text]],
    console: Console,
    *,
    sections: Sequence[int] = (),
    elsewhere: str = "--json",
) -> None:
    """Prints the table as wide as the console. What it has no room for is named below, with where else it is (`elsewhere`).

    Before the rows numbered in `sections` stands a rule.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    texts = [[cell.plain for cell in row] for row in rows]
    shown = _fitting(columns, texts, console.width)
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, width in shown.widths.items():
        column = columns[number]
        justify: Literal["left", "right"] = "right" if column.right else "left"
        grid.add_column(Text(folded(column.head, width)), justify=justify, width=width, no_wrap=True, overflow="crop")
    for number, row in enumerate(rows):
        if number in sections:
            grid.add_section()
        cells = ((row[i], shown.texts[number][i], width) for i, width in shown.widths.items())
        grid.add_row(*(Text(folded(text, width), style=cell.style) for cell, text, width in cells))
    usual = console.width
    console.width = max(usual, shown.total)  # a number that is wider than the screen is still not cut
    console.print(grid)
    console.width = usual
    left_out = [column.head for number, column in enumerate(columns) if number not in shown.widths]
    if left_out:
        console.print(Text(f"columns left out: {', '.join(left_out)}; a wider terminal or {elsewhere} shows them", style="dim"))


def folded(text: str, width: int) -> str:
    """The text in lines of at most `width` cells: between words, else behind signs like - and /, else anywhere outside a number."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    lines = [""]
    for word in text.split():
        space = " " if lines[-1] else ""
        if cell_len(lines[-1] + space + word) <= width:
            lines[-1] += space + word
            continue
        whole = cell_len(word) <= width
        lines += [""] if lines[-1] and (whole or width - cell_len(lines[-1]) < NARROWEST) else []
        pieces = [word] if whole else _pieces(word, width)
        for place, piece in enumerate(pieces):
            before = " " if place == 0 and lines[-1] else ""
            if lines[-1] and cell_len(lines[-1] + before + piece) > width:
                lines.append("")
                before = ""
            lines[-1] += before + piece
    return "\n".join(lines)


def _pieces(word: str, width: int) -> Iterator[str]:
    """A word that is too long for a line, in parts that are not, unless they are numbers."""
    from rich.cells import chop_cells

    for atom in ATOMS.findall(word):
        yield from [atom] if re.fullmatch(NUMBER, atom) else chop_cells(atom, width)


def what_differs(paths: Sequence[str]) -> list[str]:
    """Each path without the folders that all of them begin and end with, an ellipsis in their place; of a single one, its last part.

    An ending such as .trec.gz that all of several have goes too.
    """
    several = len(set(paths)) > 1
    ending = _shared_ending(paths) if several else ""
    parts = [path.removesuffix(ending).split("/") for path in paths]
    most = min(map(len, parts), default=1) - 1
    first = next((n for n in range(most) if len({part[n] for part in parts}) > 1), most)
    last = next((n for n in range(most - first) if len({part[-1 - n] for part in parts}) > 1), most - first) if several else 0
    found = []
    for path, part in zip(paths, parts, strict=True):
        kept = "/".join([*(["…"] if first else []), *part[first : len(part) - last], *(["…"] if last else [])])
        found.append(kept if len(kept) <= len(path) else path)
    return found


def _shared_ending(paths: Sequence[str]) -> str:
    """From a point on, behind a letter of the file's name: the longest that all paths end with, '' for none."""
    found = re.search(r"(?<=[^/.])(\.[^/.]+)+$", paths[0])
    ending = found[0] if found else ""
    while ending and not all(path.endswith(ending) and path.removesuffix(ending)[-1:] not in ("", "/", ".") for path in paths):
        ending = ending[1:].partition(".")[1] and "." + ending[1:].partition(".")[2]
    return ending


@dataclass(frozen=True)
class _Shown:
    """The columns that fit, {number: width}, and the texts of all cells as they are shown."""

    widths: dict[int, int]
    texts: list[list[str]]

    @property
    def total(self) -> int:
        return sum(self.widths.values()) + BETWEEN * (len(self.widths) - 1)


@dataclass(frozen=True)
class _Room:
    """What a column takes at least, and as it is."""

    least: int
    natural: int


def _fitting(columns: Sequence[GridColumn], texts: list[list[str]], width: int) -> _Shown:
    rooms = [_room(column, [row[i] for row in texts], FOLDED) for i, column in enumerate(columns)]
    natural = _Shown({i: room.natural for i, room in enumerate(rooms)}, texts)
    if natural.total <= width:
        return natural
    for i, column in enumerate(columns):
        if column.paths and texts:
            short = what_differs([row[i] for row in texts])
            texts = [[*row[:i], short[n], *row[i + 1 :]] for n, row in enumerate(texts)]
            rooms[i] = _room(column, short, FOLDED)
    shown = set(range(len(columns)))
    while _least(rooms, shown) > width and any(columns[i].rank for i in shown):
        shown.remove(max(shown, key=lambda i: (columns[i].rank, i)))
    if _least(rooms, shown) > width:
        rooms = [_room(column, [row[i] for row in texts], NARROWEST) for i, column in enumerate(columns)]
    return _Shown(_shared({i: rooms[i] for i in sorted(shown)}, width - BETWEEN * (len(shown) - 1)), texts)


def _least(rooms: Sequence[_Room], shown: set[int]) -> int:
    return sum(rooms[i].least for i in shown) + BETWEEN * (len(shown) - 1)


def _room(column: GridColumn, texts: Sequence[str], folded_to: int) -> _Room:
    """Heads fold between words; numbers and short facts take what they take."""
    from rich.cells import cell_len

    head = max(map(cell_len, column.head.split()), default=0)
    longest = max(map(cell_len, texts), default=0)
    natural = max(cell_len(column.head), longest)
    if column.folds or column.paths:
        numbers = max((len(number) for text in texts for number in re.findall(NUMBER, text)), default=0)
        longest = min(longest, max(folded_to, numbers))
    return _Room(max(head, longest), natural)


def _shared(rooms: dict[int, _Room], width: int) -> dict[int, int]:
    """The width shared out: what all need at least, then what is left in equal parts among those that want more."""
    left, widths = width - sum(room.least for room in rooms.values()), {}
    wanting = sorted(rooms, key=lambda i: rooms[i].natural - rooms[i].least)
    for place, i in enumerate(wanting):
        more = max(0, min(rooms[i].natural - rooms[i].least, left // (len(wanting) - place)))
        widths[i], left = rooms[i].least + more, left - more
    return {i: widths[i] for i in rooms}
