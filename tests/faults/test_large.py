"""300,000 passages from a folder to a leaderboard within 4 GB of memory."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mta4dpr.machine.files import read_json

from .conftest import run_whole

pytestmark = pytest.mark.faults

PASSAGES, QUERIES, MOST = 300_000, 500, 4e9
ENCODER = {"untrained": {"layers": 1, "hidden": 32, "heads": 2, "seed": 1}, "query_length": 16, "passage_length": 64}


def test_memory_does_not_follow_the_corpus(tmp_path: Path, tell: Callable[[str], None]) -> None:
    draw = random.Random(3)
    words = ["".join(draw.choices("bdfgklmnprstaeiou", k=draw.randint(3, 9))) for _ in range(40_000)]
    weights = [1 / (n + 1) for n in range(len(words))]
    folder = tmp_path / "large"
    (folder / "qrels").mkdir(parents=True)
    texts = []
    with open(folder / "corpus.jsonl", "w", encoding="utf-8") as file:
        for number in range(PASSAGES):
            text = " ".join(draw.choices(words, weights, k=draw.randint(20, 90)))
            file.write(json.dumps({"_id": f"d{number}", "title": "", "text": text}) + "\n")
            if number % (PASSAGES // QUERIES) == 0:
                texts.append((number, text))
    with open(folder / "queries.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"_id": f"q{n}", "text": " ".join(text.split()[-6:])}) + "\n" for n, text in texts)
    lines = [f"q{n}\td{n}\t1\n" for n, _ in texts]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    bench = {
        "name": "large",
        "title": "Random words",
        "corpus": str(folder),
        "eval_sets": [{"id": f"{folder}/test", "measures": ["RR@10", "R@1000"], "primary": "RR@10"}],
        "systems": ["bm25", "dense"],
        "models": {"dense": ENCODER},
        "depth": 1000,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(bench))
    run = run_whole(tmp_path / "place", tmp_path / "mine.yaml")
    peak = read_json(run / "efficiency.json")["peak_memory_bytes"]
    found = {row["measure"]: row["value"] for row in read_json(run / "leaderboard.json")["rows"] if row["system"] == "bm25"}
    tell(f"{PASSAGES:,} passages: {peak / 1e9:.2f} GB at most; BM25's RR@10 {found['RR@10']:.3f}")
    assert peak < MOST
    assert found["RR@10"] > 0.8
