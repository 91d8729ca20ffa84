"""The folder of a training: where its files lie, and from where a training that was stopped goes on.

A kill leaves whole files, so going on is exact. What was deleted or damaged since is noticed here by its checksums, before
any of it is used: it is removed, with all that came after it, and made again. Knows no model and no loss.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.options import Distill
from mta4dpr.machine.files import read_json, written_aside
from mta4dpr.machine.kept import is_whole

log = logging.getLogger(__name__)


def student_folder(folder: Path, number: int) -> Path:
    """Where the student after a round is saved, a model folder."""
    return folder / f"round-{number}" / "student"


def vectors_folder(folder: Path, number: int) -> Path:
    """Below which the vectors of the student after a round are kept, and its rankings."""
    return folder / f"round-{number}"


def groups_folder(folder: Path, number: int) -> Path:
    """Where the groups of a round lie (see groups.py)."""
    return folder / f"round-{number}" / "groups"


def round_bounds(options: Distill) -> list[int]:
    """The step at which each round begins, and that at which the last one ends: (rounds + 1) of them."""
    return [int(step) for step in np.linspace(0, options.steps, options.rounds + 1).round()]


def logs(folder: Path) -> list[Path]:
    """What a training has written of itself beside its rounds' folders: steps, rounds, score reports; those of a chain too."""
    patterns = ("steps.jsonl", "rounds.jsonl", "standing.json", "energy.json", "round-*/scores.json")
    return sorted(path for pattern in patterns for path in [*folder.glob(pattern), *folder.glob(f"chain/*/{pattern}")])


def finished_rounds(folder: Path) -> list[dict[str, Any]]:
    """The lines of rounds.jsonl, one a finished round; reading writes nothing."""
    return read_lines(folder / "rounds.jsonl")


def append(path: Path, record: dict[str, Any]) -> None:
    """Adds a line to a JSON-lines file, whole or not at all."""
    lines = path.read_text(encoding="utf-8") if path.exists() else ""
    with written_aside(path) as file:
        file.write(lines + json.dumps(record) + "\n")


def checkpoints(folder: Path) -> list[Path]:
    """Folders of the checkpoints, each named by its step, rising."""
    return sorted((folder / "checkpoint").glob("[0-9]*"))


def mend(folder: Path, options: Distill) -> None:
    """Leaves of a training what a kill could have left, so that going on is exact; says what had to go.

    For the main process, before any other looks into the folder. The trainings of a chain are mended too.
    """
    for link in sorted(folder.glob("chain/*")):
        mend(link, options.model_copy(update={"rounds": 1}))
    for place in [*checkpoints(folder), *sorted(folder.glob("round-*/groups")), *sorted(folder.glob("round-*/student"))]:
        if not is_whole(place, by_content=True):
            _forget(place, "is not what was written there")
    for place in [*folder.glob("standing.json"), *sorted(folder.glob("round-*/scores.json"))]:
        try:
            read_json(place)
        except ValueError:
            _forget(place, "is no JSON any more")
    bounds, records = round_bounds(options), finished_rounds(folder)
    whole = next((n for n in range(len(records)) if not student_folder(folder, n).exists()), len(records))
    for place in checkpoints(folder):
        if int(place.name) > bounds[min(whole + 1, options.rounds)]:
            _forget(place, f"is of a later round than {whole}, whose student is gone")
    step = max((int(place.name) for place in checkpoints(folder)), default=0)
    kept = keep_lines(folder / "rounds.jsonl", lambda record: record["round"] < whole and bounds[record["round"] + 1] <= step)
    if len(kept) < len(records):
        log.warning("%s: trained again from step %d on, as what came after it is not whole", folder, step)
    logged = len(keep_lines(folder / "steps.jsonl", lambda record: record["step"] < step))
    if logged < step:
        log.warning("%s lacks %d of the %d steps that are done; the training goes on, its curve has a gap", folder, step - logged, step)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file up to the first line that is damaged, as a kill leaves the last one."""
    return [record for _, record in _whole_lines(path)]


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Like `read_lines`, of the wanted lines; all others are removed from the file."""
    if not path.exists():
        return []
    kept = [(text, record) for text, record in _whole_lines(path) if wanted(record)]
    with written_aside(path) as file:
        file.writelines(text + "\n" for text, _ in kept)
    return [record for _, record in kept]


def _whole_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    whole: list[tuple[str, dict[str, Any]]] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                whole.append((text, json.loads(text)))
            except json.JSONDecodeError:
                break
    return whole


def _forget(place: Path, why: str) -> None:
    log.warning("%s %s; it is removed, and made again", place, why)
    shutil.rmtree(place) if place.is_dir() else place.unlink()
