"""`run --from-manifest`: makes the run files of a manifest again, in a folder of their own, and says of each whether it came out the same.

Threads are set as they were; versions, hardware and device are what they are, and are named where they differ.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.errors import UserError
from mta4dpr.experiment import settings
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.manifest import TO_REPEAT, Manifest, read_manifest
from mta4dpr.experiment.recovery import check_unchanged, recover
from mta4dpr.experiment.request import Request
from mta4dpr.machine import environment
from mta4dpr.machine.files import sha256_of_file, write_json
from mta4dpr.stages.pipeline import complete

log = logging.getLogger(__name__)


def repeat(path: Path, request: Request) -> dict[str, Any]:
    """Repeats the run of the manifest at `path`; the same command again continues. The document of repeat.json.

    {"manifest", "output", "run_files": [{"file", "system", "eval_set", "same", "then", "now", "how"}], "differences": {what: [then, now]}}
    """
    manifest = read_manifest(path, needs=TO_REPEAT)
    folder = request.output or Path("runs") / f"{manifest['settings']['name']}-repeat"
    of = sha256_of_file(path)
    _refuse_other_run(folder, path, of)
    files = manifest.get("run_files", {})
    if not files and "run_files" in manifest:
        raise UserError(f"{path} names no run file, so there is nothing to repeat; finish that run first")
    systems: dict[str, list[str]] = {}
    for about in files.values():
        systems.setdefault(about["system"], []).append(about["eval_set"])
    order = list(manifest["systems"])
    left_out = [label for label in order if label not in systems]
    if left_out:
        log.warning("not repeated, as no run file of theirs is noted in %s: %s", path, ", ".join(left_out))
    systems = dict(sorted(systems.items(), key=lambda item: order.index(item[0])))
    suites = [name for name, about in manifest["eval_sets"].items() if "suite" in about]
    if suites:
        log.warning("not repeated: the collections of %s, which --eval-sets of the benchmark makes", ", ".join(suites))
    _use_threads(manifest)
    request = replace(request, device=request.device or _device(files))
    experiments = recover(manifest, path, request, folder, systems=systems, repeats=of)
    check_unchanged(experiments, manifest, path, training=True)
    for experiment in experiments:
        complete(experiment)
    if not environment.is_main_process():
        return {}
    document = {"manifest": str(path), "output": str(folder), **_compared(manifest, path.parent, folder)}
    write_json(Folder(folder).repeat, document)
    return document


def _refuse_other_run(folder: Path, path: Path, of: str) -> None:
    there = Folder(folder).manifest
    if folder.resolve() == path.resolve().parent:
        raise UserError(f"{folder} is the folder of the run that is to be repeated; choose another one (--output DIR)")
    if there.exists() and read_manifest(there).get("repeats") != of:
        raise UserError(f"{folder} holds a run that is no repeat of {path}; choose another folder (--output DIR)")


def _use_threads(manifest: Manifest) -> None:
    """As many threads as then, unless the user says how many; torch and others read this when they are loaded."""
    os.environ.setdefault("OMP_NUM_THREADS", str(manifest["threads"]))


def _device(files: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The CPU when it was the CPU then; another device is chosen anew, as it may not be here."""
    devices = {about["device"] for about in files.values()} - {None}
    return "cpu" if devices == {"cpu"} else None


def _compared(manifest: Manifest, original: Path, folder: Path) -> dict[str, Any]:
    again = read_manifest(Folder(folder).manifest)
    rows: list[dict[str, Any]] = []
    differences: dict[str, tuple[str, str]] = {}
    for name, then in manifest["run_files"].items():
        now = again["run_files"][name]
        found = sha256_of_file(folder / name)
        same = found == then["sha256"]
        differences |= settings.differences(_circumstances(manifest, then), _circumstances(again, now))
        rows.append(
            {
                "file": name,
                "system": then["system"],
                "eval_set": then["eval_set"],
                "same": same,
                "then": then["sha256"],
                "now": found,
                "how": None if same else _how(original / name, folder / name, then["sha256"]),
            }
        )
    values = {what: [None if text == "not set" else json.loads(text) for text in both] for what, both in differences.items()}
    return {"run_files": rows, "differences": values}


def _circumstances(manifest: Manifest, about: Mapping[str, Any]) -> dict[str, Any]:
    made = manifest["runs"][about["made_by"]]
    return {**{key: made[key] for key in ("versions", "hardware", "git_commit", "threads", "processes")}, "device": about["device"]}


def _how(then: Path, now: Path, sha256: str) -> str:
    """In words, how two run files differ, where the one of then is still there."""
    from mta4dpr.evaluation.trecrun import read_run

    if not then.is_file() or sha256_of_file(then) != sha256:
        return "the file of then is not beside its manifest"
    if not then.stat().st_size or not now.stat().st_size:
        return "one of the two has no hits"
    a, b = read_run(then), read_run(now)
    queries = a.query_ids + [query_id for query_id in b.query_ids if query_id not in a.positions]
    passages = order = 0
    largest = 0.0
    for query_id in queries:
        (ours, our_scores), (theirs, their_scores) = a.ranking(query_id), b.ranking(query_id)
        if ours == theirs:
            largest = max(largest, float(np.abs(our_scores - their_scores).max(initial=0.0)))
        elif set(ours) == set(theirs):
            order += 1
            scores = dict(zip(theirs, their_scores.tolist(), strict=True))
            largest = max(largest, *(abs(score - scores[name]) for name, score in zip(ours, our_scores.tolist(), strict=True)))
        else:
            passages += 1
    return (
        f"{passages} of {len(queries)} queries have other passages, {order} another order; "
        f"scores of the rest differ by at most {largest:.2g}"
    )
