"""`doctor`: what this machine has, on one screen, and what each stage of a run would lack. Writes nothing."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from typing import Any

from mta4dpr.errors import UserError
from mta4dpr.machine import environment
from mta4dpr.machine.environment import gigabytes
from mta4dpr.models.files import find_model
from mta4dpr.models.registry import CHECKPOINTS

HUB = ("huggingface.co", 443)
SPARE_DISK = 2_000_000_000  # bytes that a small run needs
SPARE_MEMORY = 3_000_000_000


def examine(*, quick: bool) -> dict[str, Any]:
    """{"checks": [{"what", "found", "state"}], "stages": [{"stage", "state", "lacks"}]}; states are ok, note and lacking."""
    checks = [_java(), _torch(quick), *_models(quick), _memory(), *_places(), *_versions()]
    lacking = {check["what"]: check["found"] for check in checks if check["state"] == "lacking"}
    needs = {
        "data": ["cache", "ir_datasets"],
        "BM25": ["Java", "pyserini"],
        "encoding": ["torch", "sentence-transformers", "memory"],
        "training": ["torch", "memory"],
        "evaluation": ["ir-measures"],
    }
    stages = [
        {"stage": stage, "state": "lacking" if lacks else "ok", "lacks": "; ".join(lacks)}
        for stage, wanted in needs.items()
        for lacks in [[f"{what}: {lacking[what]}" for what in wanted if what in lacking]]
    ]
    return {"checks": checks, "stages": stages}


def _check(what: str, found: str, state: str = "ok") -> dict[str, str]:
    return {"what": what, "found": found, "state": state}


def _java() -> dict[str, str]:
    from mta4dpr.retrieval.java import find_java, heap_size

    try:
        java = find_java()
    except UserError as error:
        return _check("Java", str(error), "lacking")
    module = "with" if java.vector_module else "without"
    return _check("Java", f"{java.version}, {java.reason}, {module} the vector module, heap {heap_size('')}")


def _torch(quick: bool) -> dict[str, str]:
    threads, reason = environment.choose_threads()
    if importlib.util.find_spec("torch") is None:
        return _check("torch", "not installed: `pip install torch`", "lacking")
    version = environment.versions()["torch"]
    if quick:
        return _check("torch", f"{version}, {threads} threads ({reason})")
    device, why = environment.choose_device(None)
    return _check("torch", f"{version}, device {device} ({why}), {threads} threads ({reason})")


def _models(quick: bool) -> list[dict[str, str]]:
    found = []
    for name, package in [(c.name, c.package.name) for c in CHECKPOINTS.values() if c.package]:
        if quick:
            present = importlib.util.find_spec(package) is not None
            found.append(
                _check(
                    f"model {name}", f"the package {package}" if present else f"not in the package {package}", "ok" if present else "note"
                )
            )
            continue
        try:
            found.append(_check(f"model {name}", find_model(name, offline=True)[1] + ", checksum right"))
        except UserError as error:
            found.append(_check(f"model {name}", str(error), "note"))
    if not quick:
        try:
            socket.create_connection(HUB, timeout=3).close()
            found.append(_check("network", f"{HUB[0]} answers"))
        except OSError as error:
            found.append(_check("network", f"{HUB[0]} does not answer ({error}); data and models must be here already", "note"))
    return found


def _memory() -> dict[str, str]:
    memory = environment.memory_bytes()
    return _check("memory", gigabytes(memory), "ok" if memory >= SPARE_MEMORY else "lacking")


def _places() -> list[dict[str, str]]:
    places = {
        "cache": (environment.cache_folder(), "MTA4DPR_CACHE"),
        "ir_datasets' home": (Path(os.environ.get("IR_DATASETS_HOME", Path.home() / ".ir_datasets")), "IR_DATASETS_HOME"),
        "output": (Path("runs").resolve(), "--output"),
    }
    found = []
    for what, (path, variable) in places.items():
        free, existing = environment.free_disk_bytes(path), path
        while not existing.exists():
            existing = existing.parent
        writable = os.access(existing, os.W_OK)
        state = "ok" if writable and free >= SPARE_DISK else "lacking"
        found.append(_check(what, f"{path} ({variable}), {gigabytes(free)} free{'' if writable else ', not writable'}", state))
    return found


def _versions() -> list[dict[str, str]]:
    return [
        _check(package, version, "lacking" if version == "not installed" else "ok")
        for package, version in environment.versions().items()
        if package != "torch"
    ]
