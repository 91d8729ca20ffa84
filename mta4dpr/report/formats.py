"""Tables as text: CSV, Markdown, LaTeX and the terminal. Each format is one function of the leaderboard, and one of a
`Table` that other tables (the paper's) can use. The bytes depend on nothing but the input: no times, no paths.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mta4dpr.machine.grids import GridColumn, print_grid
from mta4dpr.report.cost import cost_tables, machine
from mta4dpr.report.leaderboard import Leaderboard, one_line
from mta4dpr.report.tables import Cell, Name, Note, Table, TableColumn, contrasts, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

SUPERSCRIPTS = str.maketrans("abcdefghijklmnoprstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")


def shown_tables(board: Leaderboard) -> Iterator[Table]:
    """What the text formats show: each eval set's table, and the contrasts of its primary measure."""
    for eval_set in board.eval_sets:
        yield table(board, eval_set)
        for exploratory in (False, True):
            found = contrasts(board, eval_set, eval_set.primary, exploratory=exploratory)
            if found is not None:
                yield found


def to_csv(board: Leaderboard) -> str:
    """Long format, one line a value; values are unrounded (repr)."""
    systems = {system.system: system for system in board.systems}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["benchmark", "eval_set", "measure", "system", "kind", "regime", "steps", "parameters", "dimensions"]
        + ["value", "ci95_low", "ci95_high", "queries", "missing_queries", "significant_over", "seed", "limit", "seeds", "std"]
    )
    for row in board.rows:
        system = systems[row.system]
        low, high = map(repr, row.ci95) if row.ci95 else ("", "")
        writer.writerow(
            [board.benchmark, row.eval_set, row.measure, row.system, system.kind, system.regime, system.steps]
            + [system.parameters, system.dimensions, repr(row.value), low, high, row.queries, row.missing_queries]
            + [" ".join(row.significant_over), board.seed, board.limit, row.seeds, "" if row.std is None else repr(row.std)]
        )
    return out.getvalue()


def to_markdown(board: Leaderboard) -> str:
    """GitHub's Markdown, with columns padded so that it reads well as plain text too."""
    parts = [f"# {markdown_text(board.title)}"]
    if board.notes:
        parts.append("\n".join(markdown_item((note,)) for note in board.notes))
    parts += [_markdown_part(part) for part in shown_tables(board)]
    if _other_measures(board):
        parts.append("Contrasts on the other measures: `leaderboard.html`, `leaderboard.json`.")
    return "\n\n".join(parts) + "\n"


def costs_to_markdown(board: Leaderboard, efficiency: dict[str, Any]) -> str:
    """efficiency.md: times, sizes and energy. They change from machine to machine, so leaderboard.md does not hold them."""
    parts = [f"# Cost: {markdown_text(board.title)}"]
    parts += [f"Measured on one machine ({markdown_text(where)})."] if (where := machine(efficiency)) else []
    return "\n\n".join([*parts, *(_markdown_part(part) for part in cost_tables(board, efficiency))]) + "\n"


def _markdown_part(part: Table) -> str:
    parts = [f"{'##' if part.lead else '###'} {markdown_text(part.title)}"]
    parts += [f"**{markdown_note(warning)}**" for warning in part.warnings]
    parts += [markdown_note(part.lead)] if part.lead else []
    parts.append(markdown_table(part))
    parts += ["\n".join(markdown_item(note) for note in part.notes)] if part.notes else []
    return "\n\n".join(parts)


def markdown_table(part: Table) -> str:
    """The table alone, without title and notes; columns are padded to one width on the screen, wide characters counted as two."""
    from rich.cells import cell_len  # counts wide characters as two

    lines = [[_markdown_cell(cell, column) for cell, column in zip(row, part.columns, strict=True)] for row in part.rows]
    heads = [markdown_text(head) for head in _flat_heads(part)]
    widths = [max(3, *(cell_len(line[i]) for line in [heads, *lines])) for i in range(len(heads))]

    def padded(line: list[str]) -> str:
        cells = []
        for text, width, column in zip(line, widths, part.columns, strict=True):
            space = " " * (width - cell_len(text))
            cells.append(space + text if column.right else text + space)
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * (width - 1) + (":" if column.right else "-") for width, column in zip(widths, part.columns, strict=True)]
    return "\n".join([padded(heads), padded(rule), *map(padded, lines)])


def _flat_heads(part: Table) -> list[str]:
    """Markdown has one line of heads: the first column of a group has the group's name before its own."""
    before = ["", *(column.group for column in part.columns)]
    return [f"{c.group}: {c.head}" if c.group and c.group != was else c.head for c, was in zip(part.columns, before, strict=False)]


def markdown_text(text: str) -> str:
    """`text` so that Markdown shows it as it is, with a backslash only where one is needed."""
    text = re.sub(r"[\\`*|~]", r"\\\g<0>", one_line(text))
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)  # inside a word it means nothing
    text = re.sub(r"<(?=[A-Za-z/!?])", r"\\<", text)
    text = re.sub(r"&(?=#?\w+;)", r"\\&", text)
    return re.sub(r"\](?=[(\[])", r"\\]", text)


def markdown_code(name: str) -> str:
    """`name` as inline code, in as many backticks as it needs."""
    name = one_line(name)
    fence = "`" * (max((len(run) for run in re.findall("`+", name)), default=0) + 1)
    space = " " if name.startswith("`") or name.endswith("`") else ""
    return f"{fence}{space}{name}{space}{fence}"


def _markdown_cell(cell: Cell, column: TableColumn) -> str:
    text = markdown_code(cell.text).replace("|", "\\|") if column.names else markdown_text(cell.text)
    return (f"**{text}**" if cell.bold else text) + cell.marks.translate(SUPERSCRIPTS)


def markdown_note(note: Note) -> str:
    """A note with its names as inline code and its words escaped."""
    return "".join(markdown_code(part) if isinstance(part, Name) else _markdown_fragment(part) for part in note)


def _markdown_fragment(part: str) -> str:
    """A fragment keeps the spaces at its ends."""
    return part[: len(part) - len(part.lstrip())] + markdown_text(part) + part[len(part.rstrip()) :]


def markdown_item(note: Note) -> str:
    """A list item; what would start a heading, a quote or another list at its head is escaped."""
    return "- " + re.sub(r"^[#>+=-]", r"\\\g<0>", markdown_note(note))


LATEX = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"},
    **{"|": r"\textbar{}", '"': r"\textquotedbl{}", "–": "--", "—": "---", "−": "$-$", "×": r"$\times$"},
    **{"†": r"\textdagger{}", "·": r"\textperiodcentered{}", "“": "``", "”": "''", "‘": "`", "’": "'"},
    **{"‡": r"\textdaggerdbl{}", "§": r"\textsection{}"},
    **{"…": r"\dots{}", "≥": r"$\geq$", "≤": r"$\leq$", "±": r"$\pm$", "→": r"$\rightarrow$", "\u00a0": "~"},
}


LATEX_NEEDS = r"% Needs \usepackage[T1]{fontenc}, \usepackage{booktabs} and \usepackage{graphicx}."


def to_latex(board: Leaderboard) -> str:
    """One table environment for each eval set and for its contrasts, to \\input into a paper."""
    lines = [f"% {one_line(board.title)}", LATEX_NEEDS]
    lines += [f"% {one_line(note)}" for note in board.notes]
    return "\n".join(lines) + "\n\n" + "\n".join(latex_table(part, board.benchmark) for part in shown_tables(board))


def latex_table(part: Table, prefix: str) -> str:
    """A table environment with caption, label (tab:PREFIX-TITLE) and notes; needs the packages of LATEX_NEEDS."""
    label = re.sub(r"[^A-Za-z0-9]+", "-", f"{prefix}-{part.title}").strip("-").lower()
    caption = ". ".join([latex_text(part.title), *filter(None, [_latex_note(part.lead).rstrip(".")])]) + "."
    caption = " ".join([caption, *(rf"\textbf{{{_latex_note(warning)}}}" for warning in part.warnings)])
    lines = [r"\begin{table}", r"\centering\small", rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}"]
    lines += [r"\setlength{\tabcolsep}{4pt}"]
    shrunk = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"  # where it is wider than the line
    lines += [rf"{shrunk}\begin{{tabular}}{{{''.join('r' if column.right else 'l' for column in part.columns)}}}", r"\toprule"]
    lines += _latex_groups(part)
    lines += [" & ".join(latex_text(column.head) for column in part.columns) + r" \\", r"\midrule"]
    for number, row in enumerate(part.rows):
        if part.groups and number and part.groups[number] != part.groups[number - 1]:
            lines.append(r"\addlinespace")
        # {} keeps a leading bracket from being read as an argument of the \\ before it
        lines.append("{}" * row[0].text.startswith("[") + " & ".join(map(_latex_cell, row)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if part.notes:
        lines += [r"\par\smallskip\begin{minipage}{0.95\linewidth}\footnotesize"]
        lines += [" ".join(_latex_note(note) for note in part.notes), r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


def head_groups(columns: Sequence[TableColumn]) -> list[tuple[str, int]]:
    """(head over several columns, how many); '' over columns without one."""
    return [(group, len(list(own))) for group, own in itertools.groupby(columns, key=lambda column: column.group)]


def _latex_groups(part: Table) -> list[str]:
    """A line of heads over several columns each, with a rule below each; nothing when no column has one."""
    heads, rules, number = [], [], 1
    for group, width in head_groups(part.columns):
        heads.append(rf"\multicolumn{{{width}}}{{c}}{{{latex_text(group)}}}" if group else " & " * (width - 1))
        rules += [rf"\cmidrule(lr){{{number}-{number + width - 1}}}"] if group else []
        number += width
    return [" & ".join(heads) + r" \\", "".join(rules)] if rules else []


def latex_text(text: str) -> str:
    """`text` escaped; two hyphens stay two (--limit), not a dash."""
    hyphens = re.split(r"(?<=-)(?=-)", text)
    return "{}".join("".join(LATEX.get(character, character) for character in part) for part in hyphens)


def _latex_cell(cell: Cell) -> str:
    text = latex_text(one_line(cell.text))
    marks = rf"\textsuperscript{{{latex_text(cell.marks)}}}" if cell.marks else ""
    return (rf"\textbf{{{text}}}" if cell.bold else text) + marks


def _latex_note(note: Note) -> str:
    return "".join(rf"\texttt{{{latex_text(part)}}}" if isinstance(part, Name) else latex_text(part) for part in note)


def to_rich(board: Leaderboard, console: Console, *, efficiency: dict[str, Any] | None = None) -> None:
    """Prints the tables to a terminal, what systems cost last. Names are never read as Rich markup."""
    from rich.text import Text

    console.print(Text(board.title, style="bold"))
    for note in board.notes:
        console.print(Text(f"- {note}", style="dim"))
    for part in shown_tables(board):
        print_table(part, console)
    if _other_measures(board):
        console.print(Text("Contrasts on the other measures: leaderboard.html, leaderboard.json.", style="dim"))
    for part in cost_tables(board, efficiency or {}):
        print_table(part, console, elsewhere="efficiency.json")


def print_table(part: Table, console: Console, *, elsewhere: str = "--json") -> None:
    """Prints one table with title, warnings and notes. The last columns go first where the terminal is narrow; `elsewhere` shows them."""
    from rich.text import Text

    console.print()
    console.print(Text(part.title, style="bold cyan" if part.lead else "bold"))
    if part.lead:
        console.print(_rich_note(part.lead))
    for warning in part.warnings:
        console.print(_rich_note(warning, style="bold yellow"))
    key = next(place for place, column in enumerate(part.columns) if column.head)  # what stands before it are letters
    columns = [
        GridColumn(column.head, max(0, place - key - 1), right=column.right, folds=column.names or column.wraps)
        for place, column in enumerate(part.columns)
    ]
    changes = [n for n in range(1, len(part.groups)) if part.groups[n] != part.groups[n - 1]]
    print_grid(columns, [[_rich_cell(cell) for cell in row] for row in part.rows], console, sections=changes, elsewhere=elsewhere)
    for note in part.notes:
        console.print(_rich_note(note, style="dim"))


def _rich_cell(cell: Cell) -> Text:
    from rich.text import Text

    return Text(cell.text, style="bold" if cell.bold else "").append(cell.marks.translate(SUPERSCRIPTS))


def _rich_note(note: Note, style: str = "") -> Text:
    from rich.text import Text

    text = Text(style=style)
    for part in note:
        text.append(part, style="bold" if isinstance(part, Name) else "")
    return text


def _other_measures(board: Leaderboard) -> bool:
    primary = {eval_set.id: eval_set.primary for eval_set in board.eval_sets}
    return any(comparison.measure != primary.get(comparison.eval_set) for comparison in board.comparisons)
