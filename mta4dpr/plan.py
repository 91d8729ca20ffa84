"""`plan`: the stages that `run` would do, what of them is cached, what they need. Writes and downloads nothing.

What is needed stands in planning/. Times are work over rates: those of earlier runs on this machine, else the usual ones.
"""

from __future__ import annotations

from typing import Any

from mta4dpr import environment
from mta4dpr.environment import gigabytes
from mta4dpr.opened import open_run
from mta4dpr.places import SETTINGS, disk_lack
from mta4dpr.planning.stage import Stage
from mta4dpr.planning.stages import Stages, disk_of
from mta4dpr.progress import duration
from mta4dpr.rates import Rates
from mta4dpr.request import Request


def plan(request: Request) -> dict[str, Any]:
    """{"benchmark", "title", "passages", "downloads", "stages", "disk", "memory_bytes", "seconds", "rates", "lacking", "summary"}."""
    opened = open_run(request)
    all_stages = Stages(opened)
    needs = all_stages.needs
    device = environment.choose_device(request.device)[0]
    rates = Rates(opened.cache, device=lambda: device, threads=opened.threads)
    stages = list(all_stages)
    rows = [_row(stage, rates) for stage in stages]
    lacking = [stage.note for stage in stages if stage.state == "lacking"]
    needed, places = disk_of(stages), needs.places()
    lacking += disk_lack(needed, places)
    left = [row for row in rows if row["state"] in ("to do", "download")]
    seconds, memory = sum(row["seconds"] for row in left), max((row["memory_bytes"] for row in left), default=0)
    if memory > environment.memory_bytes() and device == "cpu":
        worst = max(left, key=lambda row: row["memory_bytes"])["stage"]
        lacking.append(f"the memory is {gigabytes(environment.memory_bytes())}, about {gigabytes(memory)} are needed to {worst}")
    return {
        "benchmark": opened.bench.name,
        "title": opened.bench.title,
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
        "rates": _rates(stages, rates),
        "lacking": lacking,
        "summary": _summary(needed, seconds, memory, output=str(opened.folder)),
    }


def _row(stage: Stage, rates: Rates) -> dict[str, Any]:
    seconds, note = _seconds(stage, rates), stage.note
    if stage.instead_of and stage.instead_of.work:
        spared = f"{gigabytes(sum(stage.instead_of.disk.values()))}, ~{duration(_seconds(stage.instead_of, rates))}"
        note += f"; made here it would take {spared}"
    disk = sum(stage.disk.values())
    return {
        "stage": stage.name,
        "state": stage.state,
        "disk_bytes": int(disk),
        "memory_bytes": int(stage.memory),
        "seconds": round(seconds, 1),
        "disk": gigabytes(disk) if disk else "",
        "memory": gigabytes(stage.memory) if stage.memory else "",
        "time": f"~{duration(seconds)}" if seconds >= 1 else "",
        "note": note,
    }


def _seconds(stage: Stage, rates: Rates) -> float:
    return sum(work.amount / rates.of(work.kind, shape=work.shape).value for work in stage.work)


def _rates(stages: list[Stage], rates: Rates) -> list[dict[str, Any]]:
    """What the times rest on."""
    kinds = sorted({(work.kind, work.shape) for stage in stages for work in stage.work if work.amount})
    found = [(kind, shape, rates.of(kind, shape=shape)) for kind, shape in kinds]
    return [{"work": kind, "network": shape, "per_second": rate.value, "measured": rate.measured} for kind, shape, rate in found]


def _summary(needed: dict[str, float], seconds: float, memory: float, *, output: str) -> str:
    disk = sum(needed.values())
    if not disk and seconds < 1:
        return f"everything is done or cached; output: {output}"
    return f"about {gigabytes(disk)} of disk, {gigabytes(memory)} of memory, {duration(seconds)} on this machine; output: {output}"
