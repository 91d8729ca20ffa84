"""Runs the experiments of docs/experiments.md one training at a time, and keeps each result in runs/reference/.

    uv run python benchmarks/experiments/run.py [--only nfcorpus] [--minutes 60] [--list | --latency]

What runs/reference/ has already is skipped, and a training that was stopped goes on where it was, so the script can be started
again at any time. The list is ordered so that any beginning of it is useful. MedQuAD must be at data/medquad in BEIR's format.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mta4dpr.evaluation.leaderboard import leaderboard
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.report import load, to_markdown
from mta4dpr.report.seeds import evaluations_of, refuse_other_settings

ROOT = Path(__file__).resolve().parents[2]
CORE = ("kd", "mta4dpr", "kd_ta", "mean_ta", "random_ta", "contrastive")
MODELS = ("bm25", "mpnet", "minilm", "minilm-tuned", "student-init")
DOCUMENTS = ("manifest.json", "leaderboard.json", "efficiency.json")
RUN_FILES = ("bm25", "mpnet", "kd", "kd_ta", "mta4dpr")
OTHERS = (
    *("best_ta", "weighted_ta", "margin_mse", "dgkd", "rl_ta", "cl_drd", "takd", "prod"),
    *("mta4dpr-no-fused", "mta4dpr-no-selection", "mta4dpr-no-replacement", "mta4dpr-no-harder", "mta4dpr-one-round", "mta4dpr-3-rounds"),
    *("mta4dpr-footrule", "mta4dpr-rbo", "mta4dpr-by-query", "kd_ta-minilm", "kd_ta-tuned"),
    *("kd-minilm-60-steps", "rocketqav2-minilm", "lead-minilm"),
)


def todo() -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """(collection, seed, systems of one call), in order."""
    for seed in (0, 1, 2):
        if seed == 0:
            yield "nfcorpus", 0, MODELS
        for system in CORE:
            yield "nfcorpus", seed, (system,)
    yield "medquad", 0, MODELS
    for system in CORE:
        yield "medquad", 0, (system,)
    for system in OTHERS:
        yield "nfcorpus", 0, (system,)
    for seed in (1, 2):
        for system in CORE:
            yield "medquad", seed, (system,)
    for seed in (1, 2):
        yield "nfcorpus", seed, ("kd_ta-minilm",)
    for seed in (0, 1, 2):
        yield "medquad", seed, ("mta4dpr-tuned-teacher",)


def is_done(collection: str, seed: int, systems: tuple[str, ...]) -> bool:
    kept = ROOT / "runs" / "reference" / collection / f"seed-{seed}" / "per_query"
    return all(list(kept.glob(f"*/{system}.csv")) for system in systems)


def run(collection: str, seed: int, systems: tuple[str, ...]) -> None:
    benchmark = f"benchmarks/experiments/{collection}.yaml"
    if not (ROOT / "runs" / f"{collection}-assistant" / "models" / "minilm-tuned").is_dir():
        call("train", f"benchmarks/experiments/{collection}-assistant.yaml")
    folder = ROOT / "runs" / "experiments" / collection / f"seed-{seed}"
    call("run", benchmark, "--seed", str(seed), "--systems", ",".join(systems), "--output", str(folder.relative_to(ROOT)))
    keep(folder, ROOT / "runs" / "reference" / collection / f"seed-{seed}", seed)


def time_queries(collection: str) -> None:
    """Latency anew of every system that is in runs/experiments/, one after the other: they can then be compared."""
    folders = sorted((ROOT / "runs" / "experiments" / collection).glob("seed-*"))
    if not folders:
        print(f"{collection}: nothing was trained here, so there is nothing to time", flush=True)
    for folder in folders:
        there = read_json(folder / "efficiency.json")["systems"]  # what was finished
        arguments = ("--seed", folder.name[-1], "--systems", ",".join(there), "--redo", "latency")
        call("run", f"benchmarks/experiments/{collection}.yaml", *arguments, "--output", str(folder.relative_to(ROOT)))
        keep(folder, ROOT / "runs" / "reference" / collection / folder.name, int(folder.name[-1]))


def call(*arguments: str) -> None:
    """A command of ours, which has said itself what was wrong where it fails."""
    status = subprocess.run([sys.executable, "-m", "mta4dpr", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL).returncode
    if status:
        sys.exit(status)


def keep(folder: Path, place: Path, seed: int) -> None:
    """The small files of a run beside what is there, without this machine's paths; of seed 0 curves too, and a few systems' run files."""
    kept = {name: read_json(place / name) for name in DOCUMENTS if (place / name).exists()}
    patterns = [*DOCUMENTS, "training/*/rounds.jsonl", "per_query/*/*.csv"]
    patterns += ["training/*/steps.jsonl", "training/*/round-*/scores.json"] if seed == 0 else []
    here = {str(ROOT): ".", **{str(path.resolve()): f"./data/{path.name}" for path in (ROOT / "data").glob("*")}}
    here |= {os.environ[name]: f"${name}" for name in ("IR_DATASETS_HOME", "MTA4DPR_MODELS", "HOME") if os.environ.get(name)}
    for path in [path for pattern in patterns for path in sorted(folder.glob(pattern))]:
        target = place / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8")
        for place_here, name in here.items():
            text = text.replace(place_here, name)
        target.write_text(text, encoding="utf-8")
    _with_earlier_rows(place, kept)
    for path in [path for system in RUN_FILES for path in folder.glob(f"runs/*test/{system}.trec")] if seed == 0 else []:
        target = place / path.relative_to(folder).with_suffix(".trec.gz")
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as source, open(target, "wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed:
            shutil.copyfileobj(source, packed)


def _with_earlier_rows(place: Path, kept: dict[str, Any]) -> None:
    """One leaderboard of what was kept before and of what came now, which need not be from one folder or one machine."""
    now = {name: read_json(place / name) for name in DOCUMENTS}
    if kept:
        refuse_other_settings(place, now["manifest.json"], place, kept["manifest.json"])
        for name, part in (
            ("efficiency.json", "systems"),
            *(("manifest.json", part) for part in ("systems", "run_files", "recipes", "paths")),
        ):
            now[name][part] = {**kept[name].get(part, {}), **now[name].get(part, {})}
        earlier = [one for one in kept["manifest.json"]["runs"] if one not in now["manifest.json"]["runs"]]
        now["manifest.json"]["runs"] = earlier + now["manifest.json"]["runs"]
        new = {row["system"] for row in now["leaderboard.json"]["rows"]}
        now["leaderboard.json"]["rows"] += [row for row in kept["leaderboard.json"]["rows"] if row["system"] not in new]
    manifest, board = now["manifest.json"], now["leaderboard.json"]
    titled = {one["id"]: one["titled"] for one in board["eval_sets"]}
    teacher = next((name for name, about in manifest["systems"].items() if about["kind"] == "teacher"), "")
    now["leaderboard.json"] = leaderboard(manifest, evaluations_of(place, board), titled=titled, teacher=teacher)
    for name, document in now.items():
        write_json(place / name, document)
    (place / "leaderboard.md").write_text(to_markdown(load(place)), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["nfcorpus", "medquad"])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no training after so many")
    parser.add_argument("--list", action="store_true", help="say what is done and what is not")
    parser.add_argument("--latency", action="store_true", help="time queries again of what was trained here, on a quiet machine")
    arguments = parser.parse_args()
    if arguments.latency:
        for collection in [arguments.only] if arguments.only else ["nfcorpus", "medquad"]:
            time_queries(collection)
        return
    started = time.monotonic()
    for collection, seed, systems in todo():
        done = is_done(collection, seed, systems)
        if arguments.list:
            print(f"{'done ' if done else 'to do'} {collection} seed {seed}: {', '.join(systems)}")
        elif not done and arguments.only in (None, collection) and time.monotonic() - started < 60 * arguments.minutes:
            began = time.monotonic()
            run(collection, seed, systems)
            print(f"{collection} seed {seed}: {', '.join(systems)} in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
