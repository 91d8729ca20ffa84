"""What training and the efficiency measurements left in a run's folder, as data. Draws and computes nothing.

Both may be absent: a run without students has no training/, a report of copied results has no efficiency.json.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mta4dpr.errors import UserError
from mta4dpr.experiment.efficiency import AGAIN, Document
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.manifest import known_manifest
from mta4dpr.machine.files import file_name
from mta4dpr.machine.kept import read_sealed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """One strategy's lines, as `distill` wrote them: a dict a step and a dict a round."""

    strategy: str
    steps: list[dict[str, Any]]
    rounds: list[dict[str, Any]]
    titles: dict[str, str] = field(default_factory=dict)  # of terms that its strategy names itself

    def positions(self) -> list[int]:
        """Each step's number counted over all rounds, whether the file counts on or starts again every round."""
        positions: list[int] = []
        offset = previous = 0
        for line in self.steps:
            if line["step"] < previous:
                offset = positions[-1] + (1 if line["step"] == 0 else 0)
            previous = line["step"]
            positions.append(offset + previous)
        return positions

    def boundaries(self) -> list[tuple[int, int]]:
        """(round, position of its first step) for each round."""
        starts: dict[int, int] = {}
        for line, position in zip(self.steps, self.positions(), strict=True):
            starts.setdefault(line.get("round", 0), position)
        return list(starts.items())


def load_trainings(folder: Path) -> list[Training]:
    """The trainings in `folder`/training that logged something, in the order of their names. UserError for a damaged log."""
    found = []
    recipes = (known_manifest(Folder(folder)) or {}).get("recipes", {})
    titles = {file_name(label): made.get("terms", {}) for label, made in recipes.items()}
    for path in sorted((folder / "training").glob("*/")):
        steps, rounds = _lines(path / "steps.jsonl", "step"), _lines(path / "rounds.jsonl", "round")
        training = Training(path.name, steps, rounds, titles.get(path.name, {}))
        if training.steps or training.rounds:
            found.append(training)
    return found


def load_efficiency(folder: Path) -> dict[str, Any]:
    """efficiency.json, or {} without it. UserError for one that is not what was written."""
    path = Folder(folder).efficiency
    return read_sealed(path, otherwise=AGAIN, shape=Document) if path.is_file() else {}


def load_document(path: Path) -> dict[str, Any]:
    """A JSON file that a report can do without; {} where it is not there. UserError for one that is not what was written."""
    return read_sealed(path, otherwise="delete it, then run the report again") if path.is_file() else {}


def _lines(path: Path, key: str) -> list[dict[str, Any]]:
    """The JSON lines of `path`. A last line cut short, as a killed run leaves it, is dropped with a warning."""
    if not path.is_file():
        return []
    texts = [text for text in path.read_text(encoding="utf-8").split("\n") if text.strip()]
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            line[key]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            if number == len(texts):
                log.warning("%s: the last line is incomplete and was left out", path)
                break
            raise UserError(
                f"expected a JSON object with {key!r} on line {number} of {path}, found {text[:60]!r}; "
                "train that strategy again (`mta4dpr-bench run BENCH --redo train`)"
            ) from error
        lines.append(line)
    return lines
