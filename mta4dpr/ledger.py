"""What of a run is done: stages with the hash of what went in and of the files that came out. Also the lock of a folder.

A stage is done when its inputs are the ones recorded and its outputs are there with the recorded bytes. So a run that is
started again goes on at the first stage that is not, and a file that was deleted or changed is made again.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mta4dpr.errors import UserError
from mta4dpr.files import key_of, lack_of_disk, read_json, sha256_of_file, write_json


class Ledger:
    """ledger.json of a run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "ledger.json"
        self.stages: dict[str, dict[str, Any]] = read_json(self._path)["stages"] if self._path.exists() else {}

    def is_done(self, stage: str, inputs: Any) -> bool:
        record = self.stages.get(stage)
        return bool(record and record["status"] == "done" and record["inputs"] == key_of(inputs) and self._intact(record))

    def is_intact(self, stage: str) -> bool:
        """Whether that stage is done, whatever its inputs were, and its outputs are as it left them."""
        record = self.stages.get(stage)
        return bool(record and record["status"] == "done" and self._intact(record))

    def _intact(self, record: dict[str, Any]) -> bool:
        for name, about in record["outputs"].items():
            path = self.folder / name
            if not path.exists():
                return False
            stat = path.stat()
            if stat.st_size != about["bytes"]:
                return False
            if stat.st_mtime_ns != about["mtime_ns"] and sha256_of_file(path) != about["sha256"]:
                return False
        return True

    @contextmanager
    def stage(self, stage: str, inputs: Any, *, by: str = "") -> Iterator[list[Path]]:
        """Runs a stage; the block appends the files that it made. Records time, inputs and outputs when it ends well.

        `by` names the processes that run it together.
        """
        started = time.perf_counter()
        outputs: list[Path] = []
        earlier = self.stages.get(stage, {}).get("seconds", 0.0) if self.is_running(stage, inputs) else 0.0
        self.stages[stage] = {"status": "running", "inputs": key_of(inputs), "outputs": {}, "seconds": earlier, "by": by}
        self._write()
        try:
            yield outputs
        finally:
            self.stages[stage]["seconds"] = round(earlier + time.perf_counter() - started, 3)
            self._write()
        self.stages[stage].update(
            status="done",
            outputs={
                path.relative_to(self.folder).as_posix(): {
                    "bytes": path.stat().st_size,
                    "mtime_ns": path.stat().st_mtime_ns,
                    "sha256": sha256_of_file(path),
                }
                for path in outputs
            },
        )
        self._write()

    def is_running(self, stage: str, inputs: Any, *, by: str | None = None) -> bool:
        """Begun with those inputs, by a process that works on it or was stopped; with `by`, begun by those processes."""
        record = self.stages.get(stage)
        begun = bool(record and record["status"] == "running" and record["inputs"] == key_of(inputs))
        return begun and (by is None or self.stages[stage].get("by") == by)

    def forget(self, stages: Sequence[str]) -> None:
        """Drops those stages: they will be done again."""
        self.stages = {name: record for name, record in self.stages.items() if name not in stages}
        self._write()

    def _write(self) -> None:
        write_json(self._path, {"stages": self.stages})


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
    holder = folder / ".lock.json"
    lock = FileLock(str(folder / ".lock"))
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        try:
            about = read_json(holder)
            who = f"process {about['pid']} on {about['host']} since {about['start']}"
        except (OSError, json.JSONDecodeError, KeyError):
            who = "another run"
        raise UserError(f"{folder} is in use by {who}; wait for it (--wait), or choose another folder (--output DIR)") from error
    try:
        write_json(holder, {"host": platform.node(), "pid": os.getpid(), "start": datetime.now(UTC).isoformat(timespec="seconds")})
        yield
    finally:
        holder.unlink(missing_ok=True)
        if is_new and [path.name for path in folder.iterdir()] in ([], [".lock"]):
            shutil.rmtree(folder)  # the run failed before it wrote anything
        lock.release()


def refuse_other_settings(folder: Path, settings: dict[str, Any], known: dict[str, Any]) -> None:
    """UserError that names the settings in which an earlier run in this folder differs."""
    different = [f"  {key}: {was} there, {now} now" for key, (was, now) in differing(known, settings).items()]
    if different:
        raise UserError(
            f"{folder} holds a run with other settings:\n"
            + "\n".join(different)
            + "\nChoose another folder (--output DIR), or give the same settings"
        )


def differing(known: dict[str, Any], settings: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """{section.key: (value there, value now)} of the settings that are not the same."""
    was, now = _flat(known), _flat(settings)
    keys = [key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key)]
    return {key: (was.get(key, "not set"), now.get(key, "not set")) for key in keys}


def _flat(document: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(document, dict) and document:
        return {key: value for name, inner in document.items() for key, value in _flat(inner, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): json.dumps(document, ensure_ascii=False)}


def stage_shares(ledger: Ledger) -> Sequence[dict[str, Any]]:
    """Seconds of each kind of stage (the first word of its name) and its share of the whole."""
    seconds: dict[str, float] = {}
    for name, record in ledger.stages.items():
        kind = name.split()[0]
        seconds[kind] = seconds.get(kind, 0.0) + record["seconds"]
    total = sum(seconds.values()) or 1.0
    return [{"stage": kind, "seconds": round(value, 2), "share": round(value / total, 4)} for kind, value in seconds.items()]
