"""Several processes are one: losses, weights and files of `torchrun --nproc-per-node 2` against those of a single process.

All start real processes on the loopback, with several micro-batches a step, so that each process has some.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from safetensors.numpy import load_file

from mta4dpr.commands.run import run
from mta4dpr.commands.train import train
from mta4dpr.config.yaml_files import benchmark_folder, read_yaml
from mta4dpr.distill.trainer import Trainer
from mta4dpr.engines import pairs
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import read_json, sha256_of_file

from .tiny_rounds import Killed, lines_of, without_time

pytestmark = pytest.mark.slow

STRATEGIES = ("contrastive", "mta4dpr", "rl_ta", "rocketqav2")
PLAIN = ("steps=20", "rounds=2", "micro_batch_tokens=128", "checkpoint_every=4")
DROPOUT = (*PLAIN, "dropout=0.1")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mta4dpr"]
PATIENCE = 300.0  # seconds after which two processes must be waiting for each other


def started(
    command: str, folder: Path, strategies: Sequence[str], settings: Sequence[str], *more: str, bench: str = "tiny"
) -> subprocess.Popen[str]:
    """`run` or `train` in two processes."""
    named = "--systems" if command == "run" else "--strategy"
    arguments = [command, bench, "--output", str(folder), named, ",".join(strategies), *more]
    for setting in settings:
        arguments += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*TORCHRUN, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    """Its standard output, when it has ended well; nobody is left behind where it has not."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        kill_all(process)
        raise
    assert process.returncode == 0, err[-3000:]
    return out


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL to torchrun and its processes, each of which has a session of its own."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.communicate()
    psutil.wait_procs(family, timeout=30)


def one_process(folder: Path, strategies: Sequence[str], settings: Sequence[str], batch: int) -> Path:
    train(Request("tiny", systems=tuple(strategies), output=folder, settings=(*settings, f"batch_queries={batch}")))
    return folder


@pytest.fixture(scope="module", params=[PLAIN, DROPOUT], ids=["plain", "dropout"])
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of two processes with four queries each, and of one with eight."""
    root = tmp_path_factory.mktemp("pair")
    finished(started("train", root / "two", STRATEGIES, (*request.param, "batch_queries=4")))
    return root / "two", one_process(root / "one", STRATEGIES, request.param, 8)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of two processes with dropout."""
    folder = tmp_path_factory.mktemp("two") / "run"
    finished(started("train", folder, ("mta4dpr", "rocketqav2"), (*DROPOUT, "batch_queries=4")))
    return folder


def losses(folder: Path, strategy: str) -> np.ndarray:
    return np.array([line["loss"] for line in lines_of(folder / "training" / strategy / "steps.jsonl")])


def trained(folder: Path) -> dict[str, str]:
    """Hashes of all weights and groups that a training left, and of its log without the speeds."""
    found = {}
    for pattern in ("models/*/model.safetensors", "training/**/*.safetensors", "training/**/groups/**/*.npy"):
        found.update({path.relative_to(folder).as_posix(): sha256_of_file(path) for path in folder.glob(pattern)})
    for path in folder.glob("training/*/*.jsonl"):
        found[path.relative_to(folder).as_posix()] = json.dumps(without_time(lines_of(path)))
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_have_the_losses_of_one_with_twice_the_queries(pair: tuple[Path, Path], strategy: str) -> None:
    """In-batch negatives over both processes, the policy and the trained teacher included; dropout depends on seed, step and
    micro-batch, never on the process that computes it."""
    of_two, of_one = (losses(folder, strategy) for folder in pair)
    assert len(of_two) == 20
    np.testing.assert_allclose(of_two, of_one, rtol=1e-5)
    for number in (0, 1):
        groups = [np.load(folder / "training" / strategy / f"round-{number}" / "groups" / "passages.npy") for folder in pair]
        assert groups[0].tolist() == groups[1].tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_end_with_nearly_the_same_weights(pair: tuple[Path, Path], strategy: str) -> None:
    """Sums of gradients are added up in another order, nothing else differs; a weight without a gradient stays as it is in both."""
    of_two, of_one = (load_file(folder / "models" / strategy / "model.safetensors") for folder in pair)
    assert of_two.keys() == of_one.keys()
    for name in sorted(of_two.keys()):
        np.testing.assert_allclose(of_two[name], of_one[name], atol=5e-5, err_msg=name)
        if "pooler" in name:
            assert of_two[name].tobytes() == of_one[name].tobytes(), "it has no gradient, so not even weight decay may move it"


def test_two_processes_stay_near_one_over_200_steps(tmp_path: Path) -> None:
    """What rounding does must not grow into another training."""
    settings = ("steps=200", "rounds=2", "micro_batch_tokens=128", "dropout=0.1", "checkpoint_every=100")
    finished(started("train", tmp_path / "two", ("mta4dpr",), (*settings, "batch_queries=4")))
    one_process(tmp_path / "one", ("mta4dpr",), settings, 8)
    np.testing.assert_allclose(losses(tmp_path / "two", "mta4dpr"), losses(tmp_path / "one", "mta4dpr"), rtol=1e-3)


def test_run_with_two_processes_leaves_one_leaderboard_and_says_it_once(tmp_path: Path) -> None:
    """The second process trains and is silent; `run` again in one process finds everything done, and prints the same."""
    out = finished(started("run", tmp_path / "run", ("bm25", "kd", "kd_ta"), ("steps=6",), "--json"))
    board = json.loads(out)
    assert board == read_json(tmp_path / "run" / "leaderboard.json")
    assert {row["system"] for row in board["rows"]} == {"bm25", "kd", "kd_ta"}
    assert [run["processes"] for run in read_json(tmp_path / "run" / "manifest.json")["runs"]] == [2]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = finished(started("run", tmp_path / "run", ("bm25", "kd", "kd_ta"), ("steps=6",), "--json"))
    assert again == out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_two_processes_encode_mine_and_search_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run files, vectors and mined rankings have the bytes that one process gives them; parts of a search are removed."""
    systems = ("bm25", "teacher", "student-init", "kd")
    caches = tmp_path / "cache-one", tmp_path / "cache-two"
    monkeypatch.setenv("MTA4DPR_CACHE", str(caches[1]))
    finished(started("run", tmp_path / "two", systems, ("steps=6", "batch_queries=4")))
    monkeypatch.setenv("MTA4DPR_CACHE", str(caches[0]))
    run(Request("tiny", systems=systems, output=tmp_path / "one", settings=("steps=6", "batch_queries=8")))
    for pattern in ("vectors/*/vectors.npy", "mining/*/passages.npy", "tokens/*/ids.bin"):
        one, two = ({path.relative_to(cache): sha256_of_file(path) for path in cache.glob(pattern)} for cache in caches)
        assert one == two != {}
    for system in systems[:-1]:  # sums of gradients are rounded in another order, so the trained one is only nearly the same
        one, two = ((tmp_path / name / "runs" / "tiny-test" / f"{system}.trec").read_bytes() for name in ("one", "two"))
        assert one == two
    assert list((tmp_path / "two").glob(".parts-*")) == []


def test_two_processes_score_pairs_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces of a cross-encoder's pairs, and what it says on D_eval: the same bytes, and the same groups."""
    document = read_yaml(benchmark_folder() / "tiny.yaml")
    document["models"]["teacher"] |= {"kind": "cross-encoder", "pair_length": 48}
    document["models"]["teacher"].pop("passage_length")
    document["distill"] |= {"rounds": 1, "steps": 60, "group": 16, "depth": 100, "scored": 100}
    bench = tmp_path / "mine.yaml"
    bench.write_text(yaml.safe_dump(document))
    caches = tmp_path / "cache-one", tmp_path / "cache-two"
    monkeypatch.setenv("MTA4DPR_CACHE", str(caches[1]))
    finished(started("train", tmp_path / "two", ("kd",), ("batch_queries=4",), bench=str(bench)))
    monkeypatch.setenv("MTA4DPR_CACHE", str(caches[0]))
    train(Request(str(bench), systems=("kd",), output=tmp_path / "one"))
    one, two = ({path.relative_to(cache): sha256_of_file(path) for path in cache.glob("pairs/*/*.scores/scores.npy")} for cache in caches)
    assert one == two != {}
    assert sum(len(np.load(caches[0] / path)) for path in one) > 2 * pairs.BLOCK
    groups = [sha256_of_file(tmp_path / name / "training" / "kd" / "round-0" / "groups" / "scores" / "0.npy") for name in ("one", "two")]
    assert groups[0] == groups[1]


@pytest.mark.parametrize("moment", ["training/mta4dpr/round-1/groups"])
def test_killed_and_started_again_two_processes_end_bit_for_bit_alike(two: Path, tmp_path: Path, moment: str) -> None:
    """The second process must not take what the killed ones left for what the new main process has begun."""
    arguments = ("train", tmp_path / "run", ("mta4dpr", "rocketqav2"), (*DROPOUT, "batch_queries=4"))
    process = started(*arguments)
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "run" / moment).exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    kill_all(process)
    assert not (tmp_path / "run" / "models" / "rocketqav2").exists()
    finished(started(*arguments))
    assert trained(tmp_path / "run") == trained(two)


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training by one process that died at step 9, after a checkpoint at 8."""
    real = Trainer._train_step

    def dying(self: Trainer, *arguments: Any) -> Any:
        if self.step == 9:
            raise Killed
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", dying)
        with pytest.raises(Killed):
            one_process(tmp_path / "run", ("mta4dpr", "rocketqav2"), DROPOUT, 4)
    assert (tmp_path / "run" / "training" / "mta4dpr" / "checkpoint" / "00000008").exists()
    return tmp_path / "run"


def test_another_number_of_processes_starts_over(two: Path, half: Path) -> None:
    """Two processes make groups and steps of eight queries; going on from steps of four would be a mixture of both."""
    finished(started("train", half, ("mta4dpr", "rocketqav2"), (*DROPOUT, "batch_queries=4")))
    assert trained(half) == trained(two)
