"""Reading and scoring a run of MS MARCO's size: this package against the `ir_measures` command line, each in a process of its own.

    python benchmarks/speed/evaluate.py [--queries 6980] [--depth 1000] [--repeat 1] [--gzip]

Makes its own qrels and run in a temporary folder. Both sides must print the same numbers (4 decimals);
the order alternates. Prints seconds, peak memory and the ratio.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MEASURES = "RR@10 R@50 Success@50 R@1000 nDCG@10"

OURS = """
import sys
from mta4dpr.evaluation.trecrun import read_run
from mta4dpr.data.judgements import read_qrels
from mta4dpr.evaluation.measures import evaluate, parse_measures
evaluation = evaluate(read_run(sys.argv[2]), read_qrels(sys.argv[1]), parse_measures(sys.argv[3]))
for measure in evaluation.values:
    print(f"{measure}\\t{evaluation.mean(measure):.4f}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=6980)
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--corpus", type=int, default=8_841_823)
    parser.add_argument("--measures", default=MEASURES)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--gzip", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        qrels, run = write_data(Path(folder), arguments)
        commands = {
            "mta4dpr": [sys.executable, "-c", OURS, str(qrels), str(run), arguments.measures],
            "ir_measures": [sys.executable, "-W", "ignore", "-m", "ir_measures", str(qrels), str(run), *arguments.measures.split()],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for repetition in range(arguments.repeat):
            outputs = {}
            for name in list(commands) if repetition % 2 == 0 else list(reversed(commands)):
                took, peak, outputs[name] = timed(commands[name])
                seconds[name].append(took)
                print(f"{name:12} {took:7.2f} s  peak {peak / 2**20:7.0f} MB")
            ours, theirs = ({line for line in outputs[name].splitlines() if line} for name in commands)
            if ours != theirs:
                raise SystemExit(f"the two sides differ:\n{outputs['mta4dpr']}\n{outputs['ir_measures']}")
    ratio = min(seconds["ir_measures"]) / min(seconds["mta4dpr"])
    print(f"mta4dpr is {ratio:.1f} times as fast ({arguments.queries} queries x {arguments.depth} hits; {arguments.measures})")


def write_data(folder: Path, arguments: argparse.Namespace) -> tuple[Path, Path]:
    """One relevant document a query, in the run for 85 % of the queries, its rank falling off like a retriever's. Scores do not tie."""
    generator = np.random.default_rng(0)
    qrels, run = folder / "qrels.txt", folder / ("run.trec.gz" if arguments.gzip else "run.trec")
    scores = [f"{100 - 0.01 * rank:.6f}" for rank in range(arguments.depth)]
    with open(qrels, "w") as judgments, gzip.open(run, "wt", 1) if arguments.gzip else open(run, "w") as hits:
        for query in range(arguments.queries):
            documents = np.unique(generator.integers(0, arguments.corpus, 2 * arguments.depth))
            documents = generator.permutation(documents)[: arguments.depth + 1]
            found = generator.random() < 0.85
            rank = min(int(generator.exponential(arguments.depth / 10)), len(documents) - 2) if found else len(documents) - 1
            judgments.write(f"{1_000_000 + query} 0 {documents[rank]} 1\n")
            hits.writelines(
                f"{1_000_000 + query} Q0 {document} {i + 1} {scores[i]} synthetic\n"
                for i, document in enumerate(documents[: arguments.depth].tolist())
            )
    return qrels, run


def timed(command: list[str]) -> tuple[float, int, str]:
    """Seconds, peak resident bytes and standard output of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[:3]} ended with {process.returncode}")
    return took, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), output


if __name__ == "__main__":
    main()
