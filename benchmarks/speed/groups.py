"""GenDataset's scores: from vectors that are encoded once and kept, against encoding the texts of every pair anew.

    uv run python benchmarks/speed/groups.py [--rounds 3] [--steps 100] [--queries 8] [--group 8]

Both score the same groups of the quickstart with all-MiniLM-L6-v2 (96 tokens), round after round, each in a process of its own.
Kept: corpus and training queries are encoded once, a round is a product of rows. Anew: a round encodes the query and the
passage of each of its pairs, as a scorer of pairs does, in the same batches of similar length. Scores must agree to 1e-5.
Prints seconds, peak memory and the ratios.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def groups_of(arguments: argparse.Namespace) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """The open quickstart, its training queries, and (groups,), (groups, group) of all rounds drawn at random."""
    from mta4dpr.config.options import Distill
    from mta4dpr.experiment.experiment import open_experiment
    from mta4dpr.experiment.request import Request
    from mta4dpr.stages.teaching import open_training_queries

    experiment = open_experiment(Request("quickstart", systems=("minilm",), output=arguments.folder))
    queries = open_training_queries(experiment, Distill())
    generator = np.random.default_rng(0)
    count = arguments.rounds * arguments.steps * arguments.queries
    return (
        experiment,
        queries,
        generator.integers(0, queries.train_size, count),
        generator.integers(0, len(experiment.corpus), (count, arguments.group)),
    )


def kept(arguments: argparse.Namespace) -> tuple[np.ndarray, float]:
    from mta4dpr.stages.teaching import open_scorer

    experiment, queries, numbers, passages = groups_of(arguments)
    started = time.perf_counter()
    scorer = open_scorer(experiment, "minilm", queries)
    parts = np.array_split(np.arange(len(numbers)), arguments.rounds)
    scores = np.concatenate([scorer.score(numbers[part], passages[part]) for part in parts])
    return scores, time.perf_counter() - started


def anew(arguments: argparse.Namespace) -> tuple[np.ndarray, float]:
    from mta4dpr.data.tokens import tokens_of_corpus

    experiment, queries, numbers, passages = groups_of(arguments)
    started = time.perf_counter()
    encoder = experiment.engine_of_role("minilm").load()
    of_corpus = tokens_of_corpus(experiment.cache, experiment.corpus, encoder.tokenizer, prefix="")
    of_queries, reading = encoder.query_tokens(queries.texts), encoder.reading
    scores = []
    for part in np.array_split(np.arange(len(numbers)), arguments.rounds):
        pairs = np.repeat(numbers[part], arguments.group), passages[part].ravel()
        left = encoder.encode(of_queries, pairs[0], longest=reading.query_length, token_budget=8192)
        right = encoder.encode(of_corpus, pairs[1], longest=reading.passage_length, token_budget=8192)
        scores.append((left * right).sum(axis=1).reshape(passages[part].shape))
    return np.concatenate(scores), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rounds", 3), ("steps", 100), ("queries", 8), ("group", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--side", choices=["kept", "anew"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        from mta4dpr.evaluation.efficiency import peak_memory_bytes

        scores, seconds = (kept if arguments.side == "kept" else anew)(arguments)
        np.save(arguments.folder / f"{arguments.side}.npy", scores)
        print(json.dumps({"seconds": seconds, "bytes": peak_memory_bytes()}))
        return
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        import os

        environment = {**os.environ, "MTA4DPR_CACHE": f"{folder}/cache"}  # an empty one: kept vectors are made here
        for side in ("anew", "kept"):
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found[side] = json.loads(done.stdout.splitlines()[-1])
            print(f"{side:5} {found[side]['seconds']:8.1f} s, peak {found[side]['bytes'] / 1e9:.2f} GB")
        difference = np.abs(np.load(f"{folder}/kept.npy") - np.load(f"{folder}/anew.npy")).max()
    pairs = arguments.rounds * arguments.steps * arguments.queries * arguments.group
    if difference > 1e-5:
        raise SystemExit(f"the two sides differ by {difference}")
    ratios = {key: found["anew"][key] / found["kept"][key] for key in ("seconds", "bytes")}
    longer, more = ratios["seconds"], ratios["bytes"]
    print(f"{pairs:,} pairs in {arguments.rounds} rounds: anew takes {longer:.1f} times as long and {more:.2f} times the memory")


if __name__ == "__main__":
    main()
