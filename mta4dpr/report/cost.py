"""Tables of what systems cost: each system's time, size and energy beside its effectiveness, a student's as shares of its teacher's,
and how long the stages of a run took.

Reads what efficiency.json says; measures nothing. Any of it may be absent.
"""

from __future__ import annotations

from typing import Any

from mta4dpr.report.leaderboard import Leaderboard, SystemRow
from mta4dpr.report.tables import NOTHING, Cell, Note, Table, TableColumn, limit_notes, parameters_text


def cost_tables(board: Leaderboard, efficiency: dict[str, Any]) -> list[Table]:
    """Students as shares of their teacher, then every system's costs; none when nothing was measured."""
    found = (shares_table(board, efficiency), cost_table(board, efficiency)) if efficiency.get("systems") else ()
    return [part for part in found if part is not None]


def cost_table(board: Leaderboard, efficiency: dict[str, Any]) -> Table | None:
    """Each system's costs on this machine, beside its primary measure on the first eval set; None when nothing was measured."""
    measured: dict[str, dict[str, Any]] = efficiency.get("systems") or {}
    systems = {system.system: system for system in board.systems}
    order = [name for name in systems if name in measured] + [name for name in measured if name not in systems]
    if not order:
        return None
    eval_set = next(iter(board.eval_sets), None)
    columns = [
        TableColumn("system", names=True),
        TableColumn(eval_set.primary if eval_set else "value"),
        TableColumn("parameters", right=True),
    ]
    columns += [TableColumn("dimensions", right=True), TableColumn("index", right=True), TableColumn("passages/s", right=True)]
    columns += [
        TableColumn("query p50", right=True),
        TableColumn("p95", right=True),
        TableColumn("p99", right=True),
        TableColumn("query energy", right=True),
    ]
    columns += [TableColumn("training", right=True), TableColumn("training energy", right=True)]
    rows = []
    for name in order:
        found, system = measured[name] or {}, systems.get(name)
        row = board.row(name, eval_set.id, eval_set.primary) if eval_set else None
        rate, query = found.get("encode_passages_per_second"), found.get("query_ms") or {}
        parameters, dimensions = (system.parameters, system.dimensions) if system else (None, None)
        cells = [Cell(name), Cell() if row is None else Cell(f"{row.value:.4f}", value=row.value)]
        cells += [Cell(parameters_text(parameters), value=parameters)]
        cells += [Cell() if dimensions is None else Cell(str(dimensions), value=dimensions)]
        cells += [Cell(size(found.get("index_bytes")), value=found.get("index_bytes"))]
        cells += [Cell() if rate is None else Cell(f"{rate:,.{1 if rate < 100 else 0}f}", value=rate)]
        cells += [Cell() if query.get(p) is None else Cell(f"{query[p]:,.1f} ms", value=query[p]) for p in ("p50", "p95", "p99")]
        cells += [energy(found.get("query_joules")), Cell(duration(found.get("training_seconds")), value=found.get("training_seconds"))]
        rows.append((*cells, energy(found.get("training_joules"))))
    used = [i for i in range(len(columns)) if i < 1 or any(row[i].text != NOTHING for row in rows)]
    return Table(
        title="Cost of each system",
        columns=tuple(columns[i] for i in used),
        rows=tuple(tuple(row[i] for i in used) for row in rows),
        warnings=limit_notes(board),
        notes=tuple(_cost_notes(board, efficiency)),
    )


def _cost_notes(board: Leaderboard, efficiency: dict[str, Any]) -> list[Note]:
    measured = [found or {} for found in (efficiency.get("systems") or {}).values()]
    notes: list[Note] = []
    if any(found.get("query_ms") for found in measured):
        threads = efficiency.get("threads")
        calls = {count for found in measured if (count := (found.get("query_ms") or {}).get("calls"))}
        text = "Query: from text to ranked passages, one query at a time, warm"
        text += f", {threads} {'thread' if threads == 1 else 'threads'}" if threads else ""
        text += f", {' or '.join(f'{count:,}' for count in sorted(calls))} queries timed" if calls else ""
        notes.append((text + ".",))
    if parts := sorted({part for f in measured for key in ("query_joules", "training_joules") for part in f.get(key) or {}}):
        notes.append((f"Energy: of the whole machine, as far as its counters tell ({', '.join(parts)}); other programs are in it.",))
    if any(found.get("index_bytes") for found in measured):
        notes.append(("Index: the vectors of a dense system, Lucene’s files of a lexical one.",))
    if efficiency.get("peak_memory_bytes"):
        notes.append((f"Peak memory of the whole run: {size(efficiency['peak_memory_bytes'])}.",))
    if efficiency.get("note"):
        notes.append((str(efficiency["note"]),))
    return notes


def shares_table(board: Leaderboard, efficiency: dict[str, Any]) -> Table | None:
    """What each student keeps of its teacher's effectiveness, and which share of its costs it has; None without a teacher's row.

    The teacher is the benchmark's: a student that was taught by another one says so in its note.
    """
    teacher = next((system for system in board.systems if system.kind == "teacher"), None)
    students = [system for system in board.systems if system.kind == "student"]
    if teacher is None or not students:
        return None
    measured = efficiency.get("systems") or {}

    def costs(system: SystemRow) -> list[float | None]:
        found = measured.get(system.system) or {}
        return [system.parameters, found.get("index_bytes"), (found.get("query_ms") or {}).get("p50")]

    known = [e for e in board.eval_sets if (row := board.row(teacher.system, e.id, e.primary)) is not None and row.value > 0]
    if not known:
        return None
    several = len(known) > 1
    columns = [TableColumn("student", names=True)]
    columns += [TableColumn(f"{e.primary} on {e.id}" if several else e.primary, right=True) for e in known]
    columns += [TableColumn("parameters", right=True), TableColumn("index", right=True), TableColumn("query p50", right=True)]
    rows = []
    for student in students:
        cells = [Cell(student.system)]
        for eval_set in known:
            its, row = (board.row(s.system, eval_set.id, eval_set.primary) for s in (teacher, student))
            assert its is not None
            cells.append(share(row.value if row else None, its.value))
        cells += [share(part, whole) for part, whole in zip(costs(student), costs(teacher), strict=True)]
        rows.append(tuple(cells))
    used = [i for i in range(len(columns)) if i < 1 or any(row[i].text != NOTHING for row in rows)]
    return Table(
        title=f"Students as a share of their teacher, {teacher.system}",
        columns=tuple(columns[i] for i in used),
        rows=tuple(tuple(row[i] for i in used) for row in rows),
        warnings=limit_notes(board),
        notes=(("Effectiveness first (more is better), then costs (less is better), each as a share of the teacher’s own.",),),
    )


def share(part: float | None, whole: float | None) -> Cell:
    """A part of a whole, in percent; no value where one of them is not known or the whole is 0."""
    return Cell() if part is None or not whole else Cell(f"{100 * part / whole:.1f} %", value=part / whole)


def stages(efficiency: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, time and percentage of each kind of stage, for the page's bars."""
    found = [stage for stage in efficiency.get("stages") or () if stage.get("stage")]
    return [{"name": s["stage"], "time": duration(s.get("seconds")), "percent": f"{100 * (s.get('share') or 0):.1f}"} for s in found]


def machine(efficiency: dict[str, Any]) -> str:
    """Where the costs were measured, '' when nothing is known."""
    parts = []
    if efficiency.get("device"):
        parts.append(f"device {efficiency['device']}")
    if efficiency.get("threads"):
        parts.append(f"{efficiency['threads']} {'thread' if efficiency['threads'] == 1 else 'threads'}")
    return ", ".join(parts)


def size(count: float | None) -> str:
    """Bytes in the largest decimal unit of which there is at least one: 1.5 GB."""
    if count is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def energy(joules: dict[str, float] | None) -> Cell:
    """Joules of all parts of the machine that have counters, added up, in the largest unit of which there is at least one."""
    if not joules:
        return Cell()
    total = sum(joules.values())
    scale, unit = next((entry for entry in ((1e6, "MJ"), (1e3, "kJ"), (1, "J")) if total >= entry[0]), (1e-3, "mJ"))
    return Cell(f"{total / scale:.1f} {unit}", value=total)


def duration(seconds: float | None) -> str:
    """Seconds as a reader takes them in: 12.3 s, 4 min 05 s, 2 h 10 min."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = divmod(round(seconds), 60), divmod(round(seconds / 60), 60)
    return f"{minutes[0]} min {minutes[1]:02d} s" if seconds < 3600 else f"{hours[0]} h {hours[1]:02d} min"
