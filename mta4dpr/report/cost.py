"""Tables of what systems cost: each system's time, size and energy beside its effectiveness, a student's as shares of its teacher's,
and how long the stages of a run took.

Reads what efficiency.json says; measures nothing. Any of it may be absent.
"""

from __future__ import annotations

from typing import Any

from mta4dpr.report.latencies import Latency, latencies, sessions, why_busy
from mta4dpr.report.leaderboard import Leaderboard, SystemRow
from mta4dpr.report.tables import NOTHING, Cell, Note, Table, TableColumn, limit_notes, names_note, parameters_text


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
        TableColumn("range", right=True),
        TableColumn("p95", right=True),
        TableColumn("p99", right=True),
        TableColumn("query energy", right=True),
    ]
    columns += [TableColumn("training", right=True), TableColumn("training energy", right=True)]
    rows, timed = [], latencies(board, efficiency)
    for name in order:
        found, system = measured[name] or {}, systems.get(name)
        row = board.row(name, eval_set.id, eval_set.primary) if eval_set else None
        rate = found.get("encode_passages_per_second")
        parameters, dimensions = (system.parameters, system.dimensions) if system else (None, None)
        cells = [Cell(name), Cell() if row is None else Cell(f"{row.value:.4f}", value=row.value)]
        cells += [Cell(parameters_text(parameters), value=parameters)]
        cells += [Cell() if dimensions is None else Cell(str(dimensions), value=dimensions)]
        cells += [Cell(size(found.get("index_bytes")), value=found.get("index_bytes"))]
        cells += [Cell() if rate is None else Cell(f"{rate:,.{1 if rate < 100 else 0}f}", value=rate)]
        cells += _times(timed.get(name))
        cells += [energy(found.get("query_joules")), Cell(duration(found.get("training_seconds")), value=found.get("training_seconds"))]
        rows.append((*cells, energy(found.get("training_joules"))))
    used = [i for i in range(len(columns)) if i < 1 or any(row[i].text != NOTHING for row in rows)]
    return Table(
        title="Cost of each system",
        columns=tuple(columns[i] for i in used),
        rows=tuple(tuple(row[i] for i in used) for row in rows),
        warnings=(*limit_notes(board), *busy_warning(efficiency, timed)),
        notes=tuple(_cost_notes(efficiency, timed)),
    )


def _times(found: Latency | None) -> list[Cell]:
    """p50, its range, p95, p99."""
    if found is None:
        return [Cell()] * 4
    p50, p95, p99 = (Cell() if ms is None else Cell(f"{ms:,.1f} ms", value=ms) for ms in (found.p50, found.p95, found.p99))
    return [
        p50,
        Cell(f"{found.low:,.1f}–{found.high:,.1f} ms", value=found.low) if found.session or len(found.same) > 1 else Cell(),
        p95,
        p99,
    ]


def busy_warning(efficiency: dict[str, Any], timed: dict[str, Latency]) -> tuple[Note, ...]:
    """That the machine was busy while queries were timed, and how that is known."""
    why = why_busy(efficiency, timed)
    return ((f"The machine was busy while queries were timed, so their times are uncertain: {'; '.join(why)}.",),) if why else ()


def _cost_notes(efficiency: dict[str, Any], timed: dict[str, Latency]) -> list[Note]:
    measured = [found or {} for found in (efficiency.get("systems") or {}).values()]
    notes = _time_notes(efficiency, timed)
    if parts := sorted({part for f in measured for key in ("query_joules", "training_joules") for part in f.get(key) or {}}):
        notes.append((f"Energy: of the whole machine, as far as its counters tell ({', '.join(parts)}); other programs are in it.",))
    if any(found.get("index_bytes") for found in measured):
        notes.append(("Index: the vectors of a dense system, Lucene’s files of a lexical one.",))
    if efficiency.get("peak_memory_bytes"):
        notes.append((f"Peak memory of the whole run: {size(efficiency['peak_memory_bytes'])}.",))
    if efficiency.get("note"):
        notes.append((str(efficiency["note"]),))
    return notes


def _time_notes(efficiency: dict[str, Any], timed: dict[str, Latency]) -> list[Note]:
    """How queries were timed, which systems share a measurement, and what does not compare."""
    if not timed:
        return []
    threads, together, about = efficiency.get("threads"), sessions(timed), efficiency.get("sessions") or {}
    text = "Query: from text to ranked passages, one query at a time, warm"
    text += f", {threads} {'thread' if threads == 1 else 'threads'}" if threads else ""
    counts = sorted({(one["queries"], one["rounds"]) for name in together if {"queries", "rounds"} <= (one := about.get(name, {})).keys()})
    text += "".join(f"; {queries:,} queries in each of {rounds} rounds, systems in turns" for queries, rounds in counts)
    notes: list[Note] = [(text + ".",)]
    if any(together):
        notes.append(
            (
                "p50, p95 and p99 are of the quieter rounds; the range goes from the lowest to the highest median of a round. "
                "Where the ranges of two systems meet, their times cannot be told apart.",
            )
        )
    if any(about.get(name, {}).get("side_by_side") is False for name in together):
        notes.append(("Memory does not hold all systems at once, so each was opened anew for its turn, and warmed up again.",))
    if "" in together:
        notes.append(
            (
                "Timed one system after the other, by an earlier version: what else the machine did is in it, so they rank nothing. "
                "Systems of one size share the median of their times; the range is that of their p50.",
            )
        )
    for same in dict.fromkeys(latency.same for latency in timed.values() if len(latency.same) > 1):
        how = "do the same work for a query" if timed[same[0]].session else "are of one size"
        notes.append(("One measurement of query times, as they ", f"{how}: ", *names_note(same), "."))
    if len(together) > 1:
        notes.append(
            (
                f"Timed in {len(together)} sessions, which do not compare:",
                *_listed(together),
                ". `run --redo latency` with all of them takes one.",
            )
        )
    return notes


def _listed(together: dict[str, list[str]]) -> list[str]:
    parts: list[str] = []
    for number, names in enumerate(together.values()):
        parts += ["; " if number else " ", *names_note(names)]
    return parts


def shares_table(board: Leaderboard, efficiency: dict[str, Any]) -> Table | None:
    """What each student keeps of its teacher's effectiveness, and which share of its costs it has; None without a teacher's row.

    The teacher is the benchmark's: a student that was taught by another one says so in its note.
    """
    teacher = next((system for system in board.systems if system.kind == "teacher"), None)
    students = [system for system in board.systems if system.kind == "student"]
    if teacher is None or not students:
        return None
    measured, timed = efficiency.get("systems") or {}, latencies(board, efficiency)

    def costs(system: SystemRow) -> list[float | None]:
        return [system.parameters, (measured.get(system.system) or {}).get("index_bytes")]

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
        cells.append(_share_of_time(timed.get(student.system), timed.get(teacher.system)))
        rows.append(tuple(cells))
    used = [i for i in range(len(columns)) if i < 1 or any(row[i].text != NOTHING for row in rows)]
    notes: list[Note] = [("Effectiveness first (more is better), then costs (less is better), each as a share of the teacher’s own.",)]
    if any(row[-1].text == "cannot tell" for row in rows):
        notes.append(("Cannot tell: the times of student and teacher lie so close that the measurement does not tell them apart.",))
    if teacher.system in timed and any(s.system in timed and row[-1].text == NOTHING for s, row in zip(students, rows, strict=True)):
        notes.append(("A query’s time is no share of the teacher’s where the two were not timed in turns.",))
    return Table(
        title=f"Students as a share of their teacher, {teacher.system}",
        columns=tuple(columns[i] for i in used),
        rows=tuple(tuple(row[i] for i in used) for row in rows),
        warnings=limit_notes(board),
        notes=tuple(notes),
    )


def _share_of_time(part: Latency | None, whole: Latency | None) -> Cell:
    """Of a query's time; none where the two were not timed together, words where their ranges meet."""
    if part is None or whole is None or not part.session or part.session != whole.session:
        return Cell()
    return share(part.p50, whole.p50) if part.is_apart_from(whole) else Cell("cannot tell")


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
