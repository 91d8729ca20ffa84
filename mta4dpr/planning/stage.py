"""What a stage of a run takes, and what every part of a plan knows of the run.

Disk is exact where it follows from counts (vectors, indexes of FAISS, run files, groups, checkpoints), else a usual ratio. Memory is
a process's peak as the code of the stage takes it; a network's part is on the GPU where there is one. Knows no rate: how long work
takes is for plan.py to say. Writes and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mta4dpr.benchmark import ModelSpec
from mta4dpr.data.columns import CUT_OFF
from mta4dpr.files import read_json
from mta4dpr.planning.needs import Needs
from mta4dpr.planning.sizes import Texts

PYTHON = 1.1e9  # bytes of a process that has torch and sentence-transformers loaded
ID_COLUMNS = 24  # bytes in memory for a passage whose id is looked up: rank, order, padded id
QUERY, JUDGEMENT = 1300, 110  # bytes in memory of a training query and of a judgement


@dataclass
class Work:
    """What takes time: an amount of a kind of work (rates.py names the units), on a network of that shape."""

    kind: str
    amount: float
    shape: str = ""


@dataclass
class Stage:
    """A stage of a run. `state` is done, cached, prebuilt, to do, download or lacking; `note` says the rest."""

    name: str
    state: str
    note: str = ""
    disk: dict[str, float] = field(default_factory=dict)  # bytes by place
    memory: float = 0.0
    work: list[Work] = field(default_factory=list)
    instead_of: Stage | None = None  # what a prebuilt index spares

    def __post_init__(self) -> None:
        if self.state in ("done", "cached", "prebuilt", "lacking"):
            self.disk, self.memory, self.work = {}, 0.0, []


class Part:
    """Stages of one kind, and what is known of the run that they belong to."""

    def __init__(self, needs: Needs) -> None:
        self.opened, self.needs, self.sizes = needs.opened, needs, needs.sizes

    @property
    def texts(self) -> Texts:
        return self.sizes.texts

    def kept(self, pattern: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """(folder, what it says of itself) of what earlier runs left in the cache; what cannot be read is passed over."""
        for path in sorted(self.opened.cache.glob(pattern)):
            try:
                yield path.parent, dict(read_json(path))
            except CUT_OFF:
                continue

    @property
    def is_trained(self) -> bool:
        """Whether no student is left to train, so that nothing is needed for it."""
        return all(self.is_done(f"train {system.label}") for system in self.opened.systems if system.recipe)

    def is_over(self, label: str) -> bool:
        """Whether a model's vectors are needed no more: what it taught is trained, and it is searched, if it is a system at all."""
        is_system = any(system.label == label for system in self.opened.systems)
        return self.is_trained and (not is_system or self.is_done(f"encode {label}"))

    def is_done(self, stage: str) -> bool:
        return self.opened.ledger.stages.get(stage, {}).get("status") == "done"

    def train_memory(self) -> float:
        queries, judgements = self.sizes.train_queries
        return float(QUERY * queries + JUDGEMENT * judgements)

    def heap(self) -> float:
        from mta4dpr.retrieval.java import heap_size

        heap = heap_size(self.opened.bench.bm25.heap)
        return float(heap[:-1]) * {"k": 1e3, "m": 1e6, "g": 1e9}[heap[-1].lower()]


def unknown(name: str, spec: ModelSpec) -> Stage:
    return Stage(name, "to do", f"the size of {spec.model} is not known here: disk, memory and time are not counted")
