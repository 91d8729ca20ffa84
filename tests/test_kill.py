"""SIGKILL at any moment of scoring, mining, encoding, training: the same command again ends with the bytes of an uninterrupted run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.config.yaml_files import benchmark_folder, read_yaml
from mta4dpr.machine.files import sha256_of_file

pytestmark = pytest.mark.slow

STUDENTS = ("mta4dpr", "takd", "rocketqav2", "rl_ta", "prod")
PATIENCE = 300.0  # seconds after which a moment must have come

# (command, where the file lies, what has to be there): a moment begins when one more file of that pattern is there than before
MOMENTS = [
    ("train", "cache", "vectors/*/shards/*.json"),  # encoding
    ("train", "cache", "pairs/*/[!.]*"),  # scoring by the cross-encoder: what is asked for, then its scores
    ("train", "run", "training/mta4dpr/checkpoint/*"),
    ("run", "run", "training/takd/chain/*/checkpoint/*"),
    ("run", "run", "training/rl_ta/rounds.jsonl"),
    ("run", "run", "training/prod/round-*/scores.json"),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny with dropout, a cross-encoder among the assistants, and five students."""
    document = read_yaml(benchmark_folder() / "tiny.yaml")
    untrained = {"layers": 1, "hidden": 32, "heads": 2, "seed": 4}
    document["models"]["cross"] = {"kind": "cross-encoder", "untrained": untrained, "pair_length": 48}
    document["assistants"] = ["bm25", "assistant", "cross"]
    document["systems"] = ["bm25", *STUDENTS]
    document["distill"] |= {"steps": 16, "dropout": 0.1, "checkpoint_every": 2, "scored": 10}
    path = tmp_path_factory.mktemp("bench") / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def started(command: str, bench: Path, root: Path) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "mta4dpr", command, str(bench), "--output", str(root / "run")]
    environment = {**os.environ, "MTA4DPR_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    with open(root / "stderr", "ab") as errors:
        return subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=errors)


def whole(bench: Path, root: Path) -> None:
    process = started("run", bench, root)
    assert process.wait(timeout=2 * PATIENCE) == 0, (root / "stderr").read_text()[-3000:]


def kept(folder: Path) -> dict[str, Any]:
    """What section 3 calls byte-identical, by hashes; the groups; and the logs of training without the speeds."""
    patterns = ("runs/*/*.trec", "per_query/*/*.csv", "models/*/model.safetensors", "leaderboard.json", "leaderboard.csv", "leaderboard.md")
    patterns += ("training/**/groups/**/*.npy", "training/**/scores.json", "training/**/standing.json")
    found: dict[str, Any] = {
        path.relative_to(folder).as_posix(): sha256_of_file(path) for pattern in patterns for path in folder.glob(pattern)
    }
    for path in folder.glob("training/**/*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.relative_to(folder).as_posix()] = [
            {name: value for name, value in line.items() if name not in ("seconds", "examples_per_second")} for line in lines
        ]
    return found


def test_killed_at_many_moments_the_same_command_ends_with_the_same_bytes(bench: Path, tmp_path: Path) -> None:
    """Each moment begins with a file and lasts a random while; together they go through every kind of work, `train` and `run` by turns."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole(bench, tmp_path / "whole")
    root, draw, killed = tmp_path / "killed", random.Random(11), []
    for command, where, pattern in MOMENTS:
        before = len(list((root / where).glob(pattern)))
        process = started(command, bench, root)
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and len(list((root / where).glob(pattern))) <= before:
            assert time.monotonic() < deadline, pattern
            time.sleep(0.002)
        time.sleep(draw.random() * draw.choice([0.02, 0.3]))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed.append(pattern)
        assert process.wait() in (0, -signal.SIGKILL), (root / "stderr").read_text()[-3000:]
    assert len(killed) >= 5, killed
    whole(bench, root)
    assert not {path for path in (root / "run").rglob("*") if path.name.startswith(".lock.json")}
    expected, found = kept(tmp_path / "whole" / "run"), kept(root / "run")
    assert expected.keys() == found.keys()
    assert {name for name in expected if expected[name] != found[name]} == set()
    assert len([name for name in expected if name.startswith("models/")]) == len(STUDENTS)
    assert [name for name in expected if name.startswith("training/takd/chain/")]
