"""A benchmark in which every kind of thing is made that is kept, what must be the same of two runs of it, and how it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.config.yaml_files import benchmark_folder, read_yaml
from mta4dpr.machine.files import sha256_of_file

PATIENCE = 600.0  # seconds that a command may take
STUDENTS = ("contrastive", "kd", "mta4dpr", "takd", "rocketqav2", "rl_ta", "prod", "lead")  # one for each requirement of a strategy


def make_bench(folder: Path, *, students: tuple[str, ...], **distill: Any) -> Path:
    """tiny with dropout and a cross-encoder among the assistants, searched by HNSW, with indexes for Pyserini."""
    document = read_yaml(benchmark_folder() / "tiny.yaml")
    untrained = {"layers": 1, "hidden": 32, "heads": 2, "seed": 4}
    document["models"]["cross"] = {"kind": "cross-encoder", "untrained": untrained, "pair_length": 48}
    document["assistants"] = ["bm25", "assistant", "cross"]
    document["systems"] = ["bm25", "teacher", *students]
    document["dense"] = {"index": "hnsw", "hnsw_m": 8, "pyserini_index": True}
    document["distill"] |= {"dropout": 0.1, "scored": 10, **distill}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def start(root: Path, *arguments: str, through: tuple[str, ...] = ("-m", "mta4dpr"), **surroundings: str) -> subprocess.Popen[bytes]:
    """A command with cache and output below `root`, whose standard error goes to a file there."""
    environment = {**os.environ, "MTA4DPR_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1", **surroundings}
    with open(root / "stderr", "ab") as errors:
        return subprocess.Popen([sys.executable, *through, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=errors)


def run_whole(root: Path, bench: Path, *, into: str = "run", **surroundings: str) -> Path:
    """`run` to its end; the folder."""
    root.mkdir(exist_ok=True)
    process = start(root, "run", str(bench), "--output", str(root / into), **surroundings)
    assert process.wait(timeout=PATIENCE) == 0, said(root)
    return root / into


def said(root: Path) -> str:
    """The last words on standard error."""
    return (root / "stderr").read_text(errors="replace")[-3000:]


def results(folder: Path) -> dict[str, str]:
    """What a seed decides of a run, by hashes."""
    patterns = ("runs/*/*.trec", "per_query/*/*.csv", "models/*/model.safetensors", "leaderboard.json", "leaderboard.csv", "leaderboard.md")
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for pattern in patterns for path in folder.glob(pattern)}


def everything(folder: Path) -> dict[str, Any]:
    """The results, the groups of all rounds, and the logs of training without the speeds."""
    found: dict[str, Any] = dict(results(folder))
    for pattern in ("training/**/groups/**/*.npy", "training/**/scores.json", "training/**/standing.json"):
        found |= {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in folder.glob(pattern)}
    for path in folder.glob("training/**/*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.relative_to(folder).as_posix()] = [without_speeds(line) for line in lines]
    return found


def without_speeds(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a training's log without what the machine decides."""
    return {name: value for name, value in line.items() if name not in ("seconds", "examples_per_second")}


@pytest.fixture(scope="session")
def is_all() -> bool:
    """Whether all is asked for (`-m faults`), which takes hours, and not the part of it that .ci/run tries (`-m slow`)."""
    return os.environ.get("MTA4DPR_FAULTS") == "all"


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Writes a line where whoever runs the tests sees it: the counts are what they are for."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}\n")

    return write
