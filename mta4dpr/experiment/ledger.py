"""What of an experiment is done: stages with the hash of what went in and of the files that came out. Also the lock of a folder.

A stage is done when its inputs are the ones recorded and its outputs are there with the recorded bytes. So a run that is
started again goes on at the first stage that is not, and a file that was deleted or changed is made again.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Required, TypedDict

from mta4dpr.errors import UserError
from mta4dpr.experiment.folder import Folder
from mta4dpr.machine.files import key_of, lack_of_disk, read_json, write_json
from mta4dpr.machine.kept import checksum, is_same, read_sealed, stamp, write_sealed
from mta4dpr.machine.work import StageKind


class StageName(NamedTuple):
    """A stage's kind, and of what it is: a system, an eval set, both or neither."""

    kind: StageKind
    system: str = ""
    eval_set: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))

    @classmethod
    def of(cls, text: str) -> StageName:
        """The name that was written as `text`; kinds and labels of systems have no white space."""
        kind, *of = text.split(" ", 2)
        return cls(StageKind(kind), *of)


class Output(TypedDict, total=False):
    """A file that a stage has made. Earlier versions noted its bytes and time instead of a stamp."""

    sha256: Required[str]
    stamp: list[int]


class Record(TypedDict, total=False):
    """What is known of a stage. Earlier versions noted neither code nor who ran it."""

    status: Required[Literal["running", "done"]]
    inputs: Required[str]
    code: str
    outputs: Required[dict[str, Output]]
    seconds: Required[float]
    by: str
    before: dict[str, str]


class Document(TypedDict):
    """ledger.json."""

    stages: dict[str, Record]


class Ledger:
    """ledger.json of a run's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = Folder(folder)
        self.stages: dict[StageName, dict[str, Any]] = {}
        self.read()

    def read(self) -> None:
        """Takes what the file says now, which another process may have written."""
        path = self._folder.ledger
        again = "delete it: the next run does again what it cannot vouch for, and trainings go on from what they left"
        document = read_sealed(path, otherwise=again, shape=Document) if path.exists() else {"stages": {}}
        stages: dict[str, dict[str, Any]] = document["stages"]
        known = {text: record for text, record in stages.items() if text.split(" ")[0] in StageKind}  # others are of a later version
        self.stages = {StageName.of(text): record for text, record in known.items()}

    def is_done(self, stage: StageName, inputs: Any, *, code: str = "") -> bool:
        """Whether that stage was done with these inputs by that code, and its outputs are as it left them."""
        return self.was_done(stage) and not self.why_again(stage, inputs, code=code)

    def why_again(self, stage: StageName, inputs: Any, *, code: str = "") -> str:
        """Why a stage that was done once must be done again, in words; '' when it need not, or was never done.

        Earlier versions noted no code: theirs is taken for the present one.
        """
        if not self.was_done(stage):
            return ""
        record = self.stages[stage]
        if record["inputs"] != key_of(inputs):
            return "what goes into it has changed"
        if record.get("code", code) != code:
            return f"its code has changed (hash {record['code']} then, {code} now)"
        changed = [self._folder.relative(path) for path in self.changed(stage)]
        return f"files that it made are gone or changed ({', '.join(changed[:3])})" if changed else ""

    def is_intact(self, stage: StageName) -> bool:
        """Whether that stage is done, whatever its inputs were, and its outputs are as it left them."""
        return self.was_done(stage) and not self.changed(stage)

    def was_done(self, stage: StageName) -> bool:
        """Whether that stage was done once, whatever became of its outputs. Reads no file, for those who only plan."""
        return self.stages.get(stage, {}).get("status") == "done"

    def outputs(self, kind: StageKind) -> dict[StageName, dict[str, dict[str, Any]]]:
        """{stage: {file: its record}} of the stages of that kind that are done."""
        return {name: record["outputs"] for name, record in self.stages.items() if name.kind == kind and record["status"] == "done"}

    def seconds(self, stage: StageName) -> float | None:
        """What that stage took; None where it was never begun."""
        return float(self.stages[stage]["seconds"]) if stage in self.stages else None

    def changed(self, stage: StageName, *, by_content: bool = False) -> list[Path]:
        """Files of a stage that are gone or not as it left them; all are read with `by_content`. Earlier versions noted no stamps."""
        outputs = self.stages.get(stage, {}).get("outputs", {})
        paths = {self._folder.path / name: about for name, about in outputs.items()}
        return [path for path, about in paths.items() if not is_same(path, about["sha256"], about.get("stamp"), by_content=by_content)]

    def note_logs(self, stage: StageName, paths: Sequence[Path]) -> None:
        """Files that a stage which runs leaves beside its outputs: they may be deleted, but what is there must be what it wrote."""
        self.stages[stage]["logs"] = self._records(paths)

    def changed_logs(self, stage: StageName, *, by_content: bool = False) -> list[Path]:
        """Logs of a stage that are there and not as it left them; all are read with `by_content`."""
        paths = {self._folder.path / name: about for name, about in self.stages.get(stage, {}).get("logs", {}).items()}
        there = {path: about for path, about in paths.items() if path.exists()}
        return [path for path, about in there.items() if not is_same(path, about["sha256"], about["stamp"], by_content=by_content)]

    def _records(self, paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
        return {self._folder.relative(path): {"sha256": checksum(path), "stamp": stamp(path)} for path in paths}

    @contextmanager
    def stage(
        self, stage: StageName, inputs: Any, *, code: str = "", by: str = "", followers: Collection[StageName] = ()
    ) -> Iterator[list[Path]]:
        """Runs a stage; the block appends the files that it made. Records time, inputs and outputs when it ends well.

        `by` names the processes that run it together. When it makes other bytes than it made before, the `followers` are forgotten.
        """
        started = time.perf_counter()
        outputs: list[Path] = []
        record = self.stages.get(stage, {})
        earlier = record.get("seconds", 0.0) if self.is_running(stage, inputs) else 0.0
        before = record.get("before") or {name: about["sha256"] for name, about in record.get("outputs", {}).items()}
        running = {"status": "running", "inputs": key_of(inputs), "code": code, "outputs": {}, "before": before}
        self.stages[stage] = {**running, "seconds": earlier, "by": by}
        self._write()
        try:
            yield outputs
        finally:
            self.stages[stage]["seconds"] = round(earlier + time.perf_counter() - started, 3)
            self._write()
        self.stages[stage].update(
            status="done", outputs={self._folder.relative(path): {"sha256": checksum(path), "stamp": stamp(path)} for path in outputs}
        )
        made = {name: about["sha256"] for name, about in self.stages[stage]["outputs"].items()}
        if self.stages[stage].pop("before") not in ({}, made):
            self.stages = {name: record for name, record in self.stages.items() if name not in followers}
        self._write()

    def is_running(self, stage: StageName, inputs: Any, *, by: str | None = None) -> bool:
        """Begun with those inputs, by a process that works on it or was stopped; with `by`, begun by those processes."""
        record = self.stages.get(stage)
        begun = bool(record and record["status"] == "running" and record["inputs"] == key_of(inputs))
        return begun and (by is None or self.stages[stage].get("by") == by)

    def forget(self, stages: Collection[StageName]) -> None:
        """Drops those stages: they will be done again."""
        self.stages = {name: record for name, record in self.stages.items() if name not in stages}
        self._write()

    def _write(self) -> None:
        write_sealed(self._folder.ledger, {"stages": {str(name): record for name, record in self.stages.items()}})

    def shares(self) -> Sequence[dict[str, Any]]:
        """Seconds of each kind of stage and its share of the whole."""
        seconds: dict[str, float] = {}
        for name, record in self.stages.items():
            seconds[name.kind] = seconds.get(name.kind, 0.0) + record["seconds"]
        total = sum(seconds.values()) or 1.0
        return [{"stage": kind, "seconds": round(value, 2), "share": round(value / total, 4)} for kind, value in seconds.items()]


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Holds the folder for this process. UserError when another run has it and `wait` is off."""
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; --output takes a folder")
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise lack_of_disk(error, folder) from error
    place = Folder(folder)
    lock = FileLock(str(place.lock))
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        try:
            about = read_json(place.lock_holder)
            who = f"process {about['pid']} on {about['host']} since {about['start']}"
        except (OSError, ValueError, LookupError, TypeError):
            who = "another run"
        raise UserError(f"{folder} is in use by {who}; wait for it (--wait), or choose another folder (--output DIR)") from error
    try:
        start = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(place.lock_holder, {"host": platform.node(), "pid": os.getpid(), "start": start})
        yield
    finally:
        place.lock_holder.unlink(missing_ok=True)
        if is_new and [path.name for path in folder.iterdir()] in ([], [place.lock.name]):
            shutil.rmtree(folder)  # the run failed before it wrote anything
        lock.release()
