"""leaderboard.html: everything about a run on one self-contained page, plots included. No network, no script.

All text is escaped by Jinja; only the SVGs that `plots` drew go in as markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta4dpr.report.leaderboard import Leaderboard, one_line
from mta4dpr.report.plots import BLUE, GROUND, INK, MUTED, RULE, Plot
from mta4dpr.report.tables import NOTHING, Cell, Column, Name, Table, contrasts, limit_notes, table
from mta4dpr.report.training import Training

if TYPE_CHECKING:
    import jinja2


def to_html(
    board: Leaderboard, *, plots: Sequence[Plot] = (), trainings: Sequence[Training] = (), efficiency: dict[str, Any] | None = None
) -> str:
    """The page. Plots are read from their files; without efficiency or trainings their sections are left out."""
    from markupsafe import Markup

    drawn: dict[tuple[str, str], dict[str, Any]] = {}
    for plot in plots:
        svg = Markup(inlined(plot.path.read_text(encoding="utf-8"), prefix=plot.path.stem))
        drawn[plot.kind, plot.subject] = {"svg": svg, "description": plot.description, "file": plot.path.name}
    sections = []
    for number, eval_set in enumerate(board.eval_sets):
        measures = [eval_set.primary, *(m for m in eval_set.measures if m != eval_set.primary)]
        planned = [contrasts(board, eval_set, measure) for measure in measures]
        pairs = [contrasts(board, eval_set, measure, exploratory=True) for measure in measures]
        sections.append(
            {
                "anchor": f"eval-{number}",
                "table": table(board, eval_set),
                "plot": drawn.get(("leaderboard", eval_set.id)),
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
    template = environment().get_template("leaderboard.html.j2")
    return template.render(
        board=board,
        warnings=limit_notes(board),
        sections=sections,
        strategies=strategies,
        efficiency=efficiency_table(board, efficiency or {}),
        stages=_stages(efficiency or {}),
        machine=_machine(efficiency or {}),
    )


def environment() -> jinja2.Environment:
    """Templates with all text escaped; the test `name` tells names in notes from words."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.tests["name"] = lambda part: isinstance(part, Name)
    return found


def inlined(svg: str, *, prefix: str) -> str:
    """An SVG file as an element of the page: ids unique to it, ink that follows the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    themes = {INK: "ink", MUTED: "muted", RULE: "rule", GROUND: "ground", BLUE: "blue"}
    for colour, theme in themes.items():
        svg = svg.replace(colour, f"var(--{theme})")
    return re.sub(r"(font: [^\"]*?)'DejaVu Sans'[^\";]*", r"\1'DejaVu Sans', Verdana, sans-serif", svg)


def rounds_table(training: Training) -> Table | None:
    """D_eval by round as numbers, a column a round, with the replacements and what the plot cannot show."""
    rounds = training.rounds
    if not rounds:
        return None
    measure, queries = str(rounds[0].get("measure") or "value"), rounds[0].get("queries")
    columns = (Column(measure, names=True), *(Column(f"round {line['round']}") for line in rounds))
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


def efficiency_table(board: Leaderboard, efficiency: dict[str, Any]) -> Table | None:
    """What the machine decides, for the systems of the board and then any others; None when nothing was measured."""
    measured: dict[str, dict[str, Any]] = efficiency.get("systems") or {}
    order = [s.system for s in board.systems if s.system in measured]
    order += [name for name in measured if name not in order]
    if not order:
        return None
    dimensions = {system.system: system.dimensions for system in board.systems}
    columns = [Column("system", names=True), Column("dimensions", right=True), Column("index", right=True)]
    columns += [Column("passages/s", right=True), Column("query p50", right=True), Column("p95", right=True)]
    columns += [Column("p99", right=True), Column("training", right=True)]
    rows = []
    for name in order:
        found = measured[name] or {}
        rate, query = found.get("encode_passages_per_second"), found.get("query_ms") or {}
        cells = [Cell(name), Cell() if dimensions.get(name) is None else Cell(str(dimensions[name]))]
        cells += [Cell(size(found.get("index_bytes"))), Cell() if rate is None else Cell(f"{rate:,.{1 if rate < 100 else 0}f}")]
        cells += [Cell() if query.get(p) is None else Cell(f"{query[p]:,.1f} ms") for p in ("p50", "p95", "p99")]
        rows.append((*cells, Cell(duration(found.get("training_seconds")))))
    used = [i for i in range(len(columns)) if i < 1 or any(row[i].text != NOTHING for row in rows)]
    return Table(title="Cost", columns=tuple(columns[i] for i in used), rows=tuple(tuple(row[i] for i in used) for row in rows))


def size(count: float | None) -> str:
    if count is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = divmod(round(seconds), 60), divmod(round(seconds / 60), 60)
    return f"{minutes[0]} min {minutes[1]:02d} s" if seconds < 3600 else f"{hours[0]} h {hours[1]:02d} min"


def _stages(efficiency: dict[str, Any]) -> list[dict[str, Any]]:
    stages = [stage for stage in efficiency.get("stages") or () if stage.get("stage")]
    return [{"name": s["stage"], "time": duration(s.get("seconds")), "percent": f"{100 * (s.get('share') or 0):.1f}"} for s in stages]


def _machine(efficiency: dict[str, Any]) -> str:
    """One sentence about where the costs were measured, '' when nothing is known."""
    parts = []
    if efficiency.get("device"):
        parts.append(f"device {efficiency['device']}")
    if efficiency.get("threads"):
        parts.append(f"{efficiency['threads']} {'thread' if efficiency['threads'] == 1 else 'threads'}")
    if efficiency.get("peak_memory_bytes"):
        parts.append(f"peak memory {size(efficiency['peak_memory_bytes'])}")
    return ", ".join(parts)
