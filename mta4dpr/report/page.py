"""leaderboard.html: everything about a run on one self-contained page that opens no connection; plots and script are inside.

Every text is escaped by Jinja, and data for the script goes in as JSON in which no tag can end; only the SVGs that `plots` drew
go in as markup. Without a script the page shows all tables and plots; with it they sort and filter, and two systems can be
compared query by query.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta4dpr.report.cost import cost_tables, duration, machine, stages
from mta4dpr.report.figures import BLUE, GROUND, INK, MUTED, RULE, Plot
from mta4dpr.report.frontier import COSTS
from mta4dpr.report.leaderboard import Leaderboard, one_line
from mta4dpr.report.tables import Cell, Name, Table, TableColumn, contrasts, letters, limit_notes, table
from mta4dpr.report.training import Training

if TYPE_CHECKING:
    import jinja2

SHOWN = ("leaderboard", *(f"frontier-{cost.kind}" for cost in COSTS))
TEMPLATES = Path(__file__).parent / "templates"


def to_html(
    board: Leaderboard,
    *,
    plots: Sequence[Plot] = (),
    trainings: Sequence[Training] = (),
    efficiency: dict[str, Any] | None = None,
    queries: dict[str, Any] | None = None,
) -> str:
    """The page. Plots are read from their files; `queries` is what `by_query` made. Sections without data are left out."""
    drawn = {(plot.kind, plot.subject): _figure(plot, number) for number, plot in enumerate(plots)}
    sections = []
    for number, eval_set in enumerate(board.eval_sets):
        measures = [eval_set.primary, *(m for m in eval_set.measures if m != eval_set.primary)]
        planned = [contrasts(board, eval_set, measure) for measure in measures]
        pairs = [contrasts(board, eval_set, measure, exploratory=True) for measure in measures]
        sections.append(
            {
                "anchor": f"eval-{number}",
                "table": table(board, eval_set),
                "plots": [drawn[kind, eval_set.id] for kind in SHOWN if (kind, eval_set.id) in drawn],
                "planned": planned[0],
                "more": [found for found in [*planned[1:], *pairs] if found is not None],
            }
        )
    strategies = [
        {
            "name": training.strategy,
            "plots": [p for kind in ("training", "assistants", "rounds") if (p := drawn.get((kind, training.strategy)))],
            "rounds": rounds_table(training),
        }
        for training in trainings
    ]
    templates = environment()
    templates.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    templates.filters["meaning"] = partial(_meaning, {mark: system for system, mark in letters(board).items()})
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    text = templates.get_template("leaderboard.html.j2").render(
        board=board,
        kinds={system.system: system.kind for system in board.systems},
        warnings=limit_notes(board),
        sections=sections,
        strategies=strategies,
        costs=cost_tables(board, efficiency or {}),
        stages=stages(efficiency or {}),
        machine=machine(efficiency or {}),
        queries=queries,
        style=_inside((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=_inside(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )
    return text.lstrip()


def environment() -> jinja2.Environment:
    """Templates with all text escaped; the test `name` tells names in notes from words."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.tests["name"] = lambda part: isinstance(part, Name)
    return found


def inline(svg: str, *, prefix: str) -> str:
    """An SVG file as an element of the page: ids unique to it, ink that follows the page's colours. Its text stays as it is."""
    themes = {INK: "ink", MUTED: "muted", RULE: "rule", GROUND: "ground", BLUE: "blue"}

    def fitted(tag: re.Match[str]) -> str:
        text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{prefix}-", tag[0])
        for colour, theme in themes.items():
            text = text.replace(colour, f"var(--{theme})")
        return re.sub(r"(font: [^\"]*?)'DejaVu Sans'[^\";]*", r"\1'DejaVu Sans', Verdana, sans-serif", text)

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"<[^<>]+>", fitted, svg)


def rounds_table(training: Training) -> Table | None:
    """D_eval by round as numbers, a column a round, with the replacements and what the plot cannot show."""
    rounds = training.rounds
    if not rounds:
        return None
    measure, queries = str(rounds[0].get("measure") or "value"), rounds[0].get("queries")
    columns = (TableColumn(measure, names=True), *(TableColumn(f"round {line['round']}") for line in rounds))
    rows = [(Cell("student"), *(_value(line.get("student")) for line in rounds))]
    for label in dict.fromkeys(label for line in rounds for label in line.get("assistants") or {}):
        values = [(line.get("assistants") or {}).get(label) for line in rounds]
        marks = ["×" if line.get("replaced") == label else "" for line in rounds]
        rows.append((Cell(one_line(label)), *(_value(v, m) for v, m in zip(values, marks, strict=True))))
    negatives = [line.get("false_negatives") for line in rounds]
    if any(count is not None for count in negatives):
        rows.append((Cell("false negatives"), *(Cell() if n is None else Cell(f"{n:,}") for n in negatives)))
    rows.append((Cell("time"), *(Cell(duration(line.get("seconds"))) for line in rounds)))
    count = f" ({queries:,} queries)" if isinstance(queries, int) else ""
    notes: list[tuple[str, ...]] = [(f"{measure} on held-out training queries{count}, not on an eval set.",)]
    for line in rounds:
        if line.get("replaced"):
            by = Name(one_line(str(line.get("by") or "a copy of the student")))
            notes.append((f"× after round {line['round']}: ", Name(one_line(line["replaced"])), " replaced by ", by, "."))
    return Table(title=f"Rounds of {training.strategy}", columns=columns, rows=tuple(rows), notes=tuple(notes))


def _value(value: float | None, marks: str = "") -> Cell:
    return Cell(marks=marks) if value is None else Cell(f"{value:.4f}", marks=marks)


def _figure(plot: Plot, number: int) -> dict[str, Any]:
    from markupsafe import Markup

    svg = Markup(inline(plot.path.read_text(encoding="utf-8"), prefix=f"plot{number}"))
    return {"svg": svg, "description": plot.description, "file": plot.path.name}


def _inside(text: str) -> Any:
    """Our own style sheet or script as the content of its element, byte for byte."""
    from markupsafe import Markup

    assert "</" not in text, "what ends its element early has no place in it"
    return Markup(text)


def _meaning(systems: dict[str, str], marks: str) -> str:
    """What raised letters say, in words; '' for other marks."""
    letters = marks.split(",") if "," in marks else list(marks) if marks not in systems else [marks]
    names = [systems[letter] for letter in letters if letter in systems]
    return f"significantly better than {', '.join(names)}" if len(names) == len(letters) and names else ""
