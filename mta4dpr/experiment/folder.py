"""The folder of an experiment: the one place that says where each file of it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mta4dpr.machine.files import file_name


@dataclass(frozen=True)
class Folder:
    """The paths of a run's folder. Labels and ids become file names by `file_name`. Nothing is read or made here."""

    path: Path

    @property
    def manifest(self) -> Path:
        """Who ran what, with which settings and data."""
        return self.path / "manifest.json"

    @property
    def ledger(self) -> Path:
        """What is done."""
        return self.path / "ledger.json"

    @property
    def leaderboard(self) -> Path:
        """The leaderboard as a document."""
        return self.path / "leaderboard.json"

    @property
    def efficiency(self) -> Path:
        """What the machine decides: bytes, rates, times."""
        return self.path / "efficiency.json"

    @property
    def repeat(self) -> Path:
        """What `run --from-manifest` found."""
        return self.path / "repeat.json"

    @property
    def lock(self) -> Path:
        """Held by the process that works in the folder."""
        return self.path / ".lock"

    @property
    def lock_holder(self) -> Path:
        """Who that is."""
        return self.path / ".lock.json"

    def run_file(self, system: str, eval_set: str) -> Path:
        """The TREC run file of a system on an eval set; its ir_metadata lies beside it."""
        return self.path / "runs" / file_name(eval_set) / f"{file_name(system)}.trec"

    def per_query(self, system: str, eval_set: str) -> Path:
        """The value of each measure for each query."""
        return self.path / "per_query" / file_name(eval_set) / f"{file_name(system)}.csv"

    def model(self, system: str) -> Path:
        """The folder of a trained student."""
        return self.path / "models" / file_name(system)

    def training(self, system: str) -> Path:
        """What a training leaves on its way: rounds, checkpoints, logs."""
        return self.path / "training" / file_name(system)

    def energy(self, system: str) -> Path:
        """Joules that a training took, where the machine has counters."""
        return self.training(system) / "energy.json"

    def index(self, system: str) -> Path:
        """An index in the layout that Pyserini opens."""
        return self.path / "indexes" / file_name(system)

    def collection(self, suite: str, set_id: str) -> Path:
        """The folder of the run over one collection of a suite."""
        return self.path / "suites" / file_name(suite) / file_name(set_id)

    def parts(self, launch: str, what: str) -> Path:
        """Where processes of a launch leave their parts of a search; named by the launch, as what a killed one left is of no use."""
        return self.path / f".parts-{launch}" / file_name(what)

    def all_parts(self) -> list[Path]:
        """Parts that a launch has left, this one or one that was killed."""
        return list(self.path.glob(".parts-*"))

    def relative(self, path: Path) -> str:
        """A file of it as the ledger and the manifest name it."""
        return path.relative_to(self.path).as_posix()
