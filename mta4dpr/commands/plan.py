"""`plan`: the stages that `run` would do, what of them is cached, what they need. Writes and downloads nothing.

What is needed is asked of the stages. Times are work over rates: those of earlier runs on this machine, else the usual ones.
"""

from __future__ import annotations

from typing import Any

from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.machine import environment
from mta4dpr.machine.environment import gigabytes
from mta4dpr.machine.places import SETTINGS, disk_lack
from mta4dpr.machine.progress import duration
from mta4dpr.machine.rates import Rates
from mta4dpr.machine.work import Piece
from mta4dpr.planning.needs import Needs
from mta4dpr.stages.costs import disk_of
from mta4dpr.stages.pipeline import pieces_of


def plan(request: Request) -> dict[str, Any]:
    """{"benchmark", "title", "passages", "downloads", "stages", "disk", "memory_bytes", "seconds", "rates", "lacking", "summary"}."""
    experiment = open_experiment(request)
    needs = Needs(experiment)
    device = environment.choose_device(request.device)[0]
    rates = Rates(experiment.cache, device=lambda: device, threads=experiment.threads)
    pieces = pieces_of(experiment, needs)
    rows = [_row(piece, rates) for piece in pieces]
    lacking = [piece.note for piece in pieces if piece.state == "lacking"]
    needed, places = disk_of(pieces), needs.sizes.places()
    lacking += disk_lack(needed, places)
    left = [row for row in rows if row["state"] in ("to do", "download")]
    seconds, memory = sum(row["seconds"] for row in left), max((row["memory_bytes"] for row in left), default=0)
    if memory > environment.memory_bytes() and device == "cpu":
        worst = max(left, key=lambda row: row["memory_bytes"])["stage"]
        lacking.append(f"the memory is {gigabytes(environment.memory_bytes())}, about {gigabytes(memory)} are needed to {worst}")
    return {
        "benchmark": experiment.bench.name,
        "title": experiment.bench.title,
        "passages": needs.sizes.texts.passages,
        "downloads": needs.downloads(),
        "stages": rows,
        "disk": [
            {"place": str(places[name]), "set_by": SETTINGS[name], "bytes": int(count), "free": environment.free_disk_bytes(places[name])}
            for name, count in needed.items()
            if count
        ],
        "memory_bytes": memory,
        "seconds": round(seconds, 1),
        "rates": _rates(pieces, rates),
        "lacking": lacking,
        "summary": _summary(needed, seconds, memory, output=str(experiment.folder.path)),
    }


def _row(piece: Piece, rates: Rates) -> dict[str, Any]:
    seconds, note = _seconds(piece, rates), piece.note
    if piece.instead_of and piece.instead_of.work:
        spared = f"{gigabytes(sum(piece.instead_of.disk.values()))}, ~{duration(_seconds(piece.instead_of, rates))}"
        note += f"; made here it would take {spared}"
    disk = sum(piece.disk.values())
    return {
        "stage": piece.name,
        "state": piece.state,
        "disk_bytes": int(disk),
        "memory_bytes": int(piece.memory),
        "seconds": round(seconds, 1),
        "disk": gigabytes(disk) if disk else "",
        "memory": gigabytes(piece.memory) if piece.memory else "",
        "time": f"~{duration(seconds)}" if seconds >= 1 else "",
        "note": note,
    }


def _seconds(piece: Piece, rates: Rates) -> float:
    return sum(work.amount / rates.of(work.kind, shape=work.shape).value for work in piece.work)


def _rates(pieces: list[Piece], rates: Rates) -> list[dict[str, Any]]:
    """What the times rest on."""
    kinds = sorted({(work.kind, work.shape) for piece in pieces for work in piece.work if work.amount})
    found = [(kind, shape, rates.of(kind, shape=shape)) for kind, shape in kinds]
    return [{"work": kind, "network": shape, "per_second": rate.value, "measured": rate.measured} for kind, shape, rate in found]


def _summary(needed: dict[str, float], seconds: float, memory: float, *, output: str) -> str:
    disk = sum(needed.values())
    if not disk and seconds < 1:
        return f"everything is done or cached; output: {output}"
    return f"about {gigabytes(disk)} of disk, {gigabytes(memory)} of memory, {duration(seconds)} on this machine; output: {output}"
