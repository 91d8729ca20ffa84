"""What 1,000,000 and 5,000,000 passages cost: time and memory of each stage, on random text and random vectors.

    uv run python benchmarks/scale/run.py [--sizes 1000000 5000000] [--folder runs/scale] [--stages corpus tokens ...] [--keep]

Each stage is a process of its own, which does what `run` does, by the same functions: it reads the corpus, tokenises it,
writes shards of vectors, searches them exactly, mines, looks up training queries, draws groups, indexes and searches for BM25.
Only the network is left out: vectors are random numbers, as what a network costs is its own affair.

Memory is the peak of RssAnon in /proc/PID/status, looked at 50 times a second: what the process holds itself, without
memory maps of files, which the kernel takes away when others need the room. Disk at 5,000,000: about 9 GB, removed when a
size is finished unless --keep is given. Finished stages are noted in FOLDER/results.json, so the same command goes on after an
interruption; a stage that was cut off is done anew, so that its time is whole. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

DIMENSIONS, SEARCH_QUERIES, SEARCH_DEPTH = 384, 1000, 1000
MINING_QUERIES, DEPTH = 2000, 200
TRAINING_QUERIES, GROUP = 500_000, 8
WORDS, VOCABULARY = 20, 30_000  # words of a passage, different words
BLOCK = 50_000
FLAT, LINEAR = 300e6, 0.15  # bytes of memory and share of time by which a size may differ from the first one


class RandomTexts:
    """Passages of random words, the frequent ones as frequent as in a language; block by block, the same for every size."""

    exclude_self, notes = False, ()

    def __init__(self, size: int) -> None:
        self.size, self.identity = size, {"random": f"random-{size}", "words": WORDS}

    def files(self) -> list[list[Any]]:
        return []

    def expected_passages(self) -> int:
        return self.size

    def passages(self) -> Iterator[Any]:
        from mta4dpr.data.collection import Passage

        words = np.array(vocabulary(), object)
        for start in range(0, self.size, BLOCK):
            draw = np.random.default_rng([7, start])
            chosen = words[(VOCABULARY ** draw.random((min(BLOCK, self.size - start), WORDS))).astype(int) - 1]
            for row, text in enumerate(chosen):
                yield Passage(str(start + row), "", " ".join(text))


class RandomEncoder:
    """Gives a text a random vector that depends on its number; has what `vectors.encode` asks of an encoder."""

    label, key, weights_hash, dimensions = "random", "random", "random", DIMENSIONS
    device = SimpleNamespace(type="cpu")

    def encode(self, tokens: Any, numbers: np.ndarray, **_: Any) -> np.ndarray:
        return np.random.default_rng([9, int(numbers[0])]).standard_normal((len(numbers), DIMENSIONS), np.float32)


def vocabulary() -> list[str]:
    letters = "bcdfghjklmnprstvz"
    syllables = [a + b for a in letters for b in "aeiou"]
    draw = np.random.default_rng(3).choice(len(syllables), (2 * VOCABULARY, 3))
    return list(dict.fromkeys("".join(syllables[n] for n in row) for row in draw))[:VOCABULARY]


def stages() -> dict[str, tuple[str, Callable[[int, Path], Any], bool]]:
    """{name: (what it does, function of size and folder that returns what is timed, whether time grows with the corpus)}."""
    return {
        "corpus": ("corpus store, random text included", read, True),
        "tokens": ("token store", tokenise, True),
        "vectors": ("vector shards, float16", write_vectors, True),
        "search": (f"exact search, {SEARCH_QUERIES:,} queries, k = {SEARCH_DEPTH:,}", search, True),
        "mining": (f"mining, {MINING_QUERIES:,} queries x {DEPTH}", mine, True),
        "queries": (f"training queries, {TRAINING_QUERIES:,}", look_up, True),
        "groups": (f"groups of {GROUP}, {TRAINING_QUERIES:,} queries x {DEPTH} of two models", draw_groups, False),
        "bm25": ("BM25 index", index_bm25, True),
        "bm25-search": (f"BM25 search, {SEARCH_QUERIES:,} queries, k = {SEARCH_DEPTH:,}", search_bm25, True),
        "open": ("opening all that is kept, unchanged", open_all, True),
        "compare": ("comparing every byte that is kept", compare_all, True),
    }


# --- the stages: each opens what earlier ones left, and returns the function that is timed ---------------------------------


def corpus_of(size: int, folder: Path) -> Any:
    from mta4dpr.data.corpus import open_corpus

    return open_corpus(folder, RandomTexts(size))


def read(size: int, folder: Path) -> Any:
    return lambda: corpus_of(size, folder)


def tokens_of(size: int, folder: Path) -> Any:
    from mta4dpr.data.tokens import Tokenizer, tokens_of_corpus
    from mta4dpr.models.untrained import untrained_network

    shape = {"layers": 1, "hidden": 32, "heads": 2, "vocabulary": 10_000, "seed": 1}
    tokenizer = Tokenizer(untrained_network(shape, vocabulary()).tokenizer)
    corpus = corpus_of(size, folder)
    return lambda: tokens_of_corpus(folder, corpus, tokenizer, prefix="")


def tokenise(size: int, folder: Path) -> Any:
    return tokens_of(size, folder)


def write_vectors(size: int, folder: Path) -> Any:
    from mta4dpr.retrieval.vectors import Encoding, encode

    tokens, encoder = tokens_of(size, folder)(), RandomEncoder()
    return lambda: encode(folder, encoder, tokens, longest=128, how=Encoding("float16", 8192, threads()))  # type: ignore[arg-type]


def vectors_of(folder: Path) -> Any:
    from mta4dpr.retrieval.vectors import stored_vectors

    return stored_vectors(next((folder / "vectors").glob("*/vectors.json")).parent)


def index_of(size: int, folder: Path) -> Any:
    import torch

    from mta4dpr.retrieval.exact import ExactIndex

    torch.set_num_threads(threads())
    return ExactIndex(vectors_of(folder), corpus_of(size, folder), torch.device("cpu"))


def search(size: int, folder: Path) -> Any:
    from mta4dpr.evaluation.trecrun import RunWriter

    index = index_of(size, folder)
    queries = np.random.default_rng(1).standard_normal((SEARCH_QUERIES, DIMENSIONS), np.float32)

    def timed() -> None:
        with RunWriter(folder / "search.trec", tag="random") as writer:
            written = 0
            for hits in index.search(queries, SEARCH_DEPTH):
                for passages, scores in zip(hits.passages, hits.scores, strict=True):
                    writer.write(f"q{written}", index.corpus.ids(passages), scores)
                    written += 1

    return timed


def training_set(size: int) -> Any:
    """Queries of eight words with one or two passages, as in MS MARCO."""
    from mta4dpr.data.collection import QuerySet

    draw = np.random.default_rng(5)
    words, chosen = np.array(vocabulary(), object), draw.integers(0, VOCABULARY, (TRAINING_QUERIES, 8))
    texts = {f"q{n}": " ".join(words[row]) for n, row in enumerate(chosen)}
    qrels = {f"q{n}": dict.fromkeys(map(str, draw.integers(0, size, 1 + (n % 10 == 0))), 1) for n in range(TRAINING_QUERIES)}
    return QuerySet("random/train", texts, qrels)


def queries_of(size: int, folder: Path) -> Any:
    from mta4dpr.distill.queries import training_queries

    corpus, train = corpus_of(size, folder), training_set(size)
    return lambda: training_queries(train, [], corpus, positive_rel=1, eval_fraction=0.1, eval_max=1000)


def look_up(size: int, folder: Path) -> Any:
    return queries_of(size, folder)


def mine(size: int, folder: Path) -> Any:
    from mta4dpr.distill.mining import rankings
    from mta4dpr.engines.dense import BiEncoderScorer

    index = index_of(size, folder)
    vectors = np.random.default_rng(2).standard_normal((MINING_QUERIES, DIMENSIONS), np.float32)
    bench: Any = SimpleNamespace(corpus=index.corpus, queries=SimpleNamespace(key="random"))
    scorer = BiEncoderScorer("random", index, vectors, "random")
    return lambda: rankings(scorer, np.arange(MINING_QUERIES), DEPTH, folder / "mining", bench)


def draw_groups(size: int, folder: Path) -> Any:
    from mta4dpr.config.options import Distill
    from mta4dpr.data.columns import Column
    from mta4dpr.distill.groups import RoundData, generate
    from mta4dpr.engines.dense import BiEncoderScorer

    index, queries = index_of(size, folder), queries_of(size, folder)()
    lists, draw = {}, np.random.default_rng(4)
    for label in ("teacher", "assistant"):
        with Column(folder / f"{label}.npy", np.int32, DEPTH) as column:
            for start in range(0, queries.train_size, BLOCK):
                rows = min(BLOCK, queries.train_size - start)
                column.append((draw.integers(0, size, (rows, 1)) + np.arange(DEPTH) * draw.integers(1, 50, (rows, 1))) % size)
        lists[label] = np.load(folder / f"{label}.npy", mmap_mode="r")
    with Column(folder / "queries.npy", np.float16, DIMENSIONS) as column:
        for start in range(0, len(queries.ids), BLOCK):
            column.append(draw.standard_normal((min(BLOCK, len(queries.ids) - start), DIMENSIONS), np.float32))
    scorers = [BiEncoderScorer(label, index, np.load(folder / "queries.npy", mmap_mode="r"), label) for label in lists]
    return lambda: generate(
        folder / "groups",
        RoundData(
            number=0,
            size=queries.train_size,
            teacher=scorers[0],
            assistants=scorers[1:],
            rankings=lists,
            wrong=np.zeros(queries.train_size, bool),
            tau_teacher=0.05,
        ),
        queries=queries,
        corpus=index.corpus,
        seed=0,
        options=Distill(group=GROUP, depth=DEPTH),
    )


def bm25_settings() -> Any:
    from mta4dpr.config.options import Bm25Settings

    return Bm25Settings(heap="512m")


def index_bm25(size: int, folder: Path) -> Any:
    from mta4dpr.retrieval.lucene import build_index

    corpus = corpus_of(size, folder)
    return lambda: build_index(folder, corpus, bm25_settings(), threads=threads())


def search_bm25(size: int, folder: Path) -> Any:
    from mta4dpr.evaluation.trecrun import RunWriter
    from mta4dpr.retrieval.lucene import LuceneIndex

    corpus, words, draw = corpus_of(size, folder), vocabulary(), np.random.default_rng(6)
    index = LuceneIndex(index_bm25(size, folder)(), corpus, bm25_settings(), threads())
    texts = [" ".join(words[n] for n in row) for row in draw.integers(500, VOCABULARY, (SEARCH_QUERIES, 5))]

    def timed() -> None:
        with RunWriter(folder / "bm25.trec", tag="bm25") as writer:
            written = 0
            for hits in index.search(texts, SEARCH_DEPTH):
                for passages, scores in zip(hits.passages, hits.scores, strict=True):
                    writer.write(f"q{written}", corpus.ids(passages[passages >= 0]), scores[passages >= 0])
                    written += 1

    return timed


def open_all(size: int, folder: Path) -> Any:
    """As a process does that finds everything as it left it."""
    index_bm25(size, folder)
    return lambda: (tokens_of(size, folder)(), vectors_of(folder), index_bm25(size, folder)())


def compare_all(size: int, folder: Path) -> Any:
    from mta4dpr.commands.verify_kept import verify_cache

    os.environ["MTA4DPR_CACHE"] = str(folder)

    def timed() -> None:
        kept = verify_cache()
        assert not any(row["broken"] for row in kept["rows"])
        sys.stderr.write(f"{sum(row['bytes'] for row in kept['rows']):,} bytes compared\n")

    return timed


def threads() -> int:
    from mta4dpr.machine.environment import choose_threads

    return choose_threads()[0]


# --- measuring --------------------------------------------------------------------------------------------------------

PRODUCTS = {
    "corpus": ["corpora"],
    "tokens": ["tokens"],
    "vectors": ["vectors"],
    "search": ["search.trec"],
    "mining": ["mining"],
    "queries": [],
    "groups": ["groups", "teacher.npy", "assistant.npy", "queries.npy"],
    "bm25": ["bm25"],
    "bm25-search": ["bm25.trec"],
    "open": [],
    "compare": [],
}


def measured(size: int, stage: str, folder: Path) -> dict[str, float]:
    """Seconds, and the highest RssAnon that this process sees of the stage's process."""
    for name in PRODUCTS[stage]:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--stage", stage, "--sizes", str(size), "--folder", str(folder)]
    with open(folder / f"{stage}.log", "w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        peak = 0
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(0.02)
    assert process.stdout is not None
    answer = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{stage} at {size:,} passages failed:\n" + (folder / f"{stage}.log").read_text()[-3000:])
    return {"seconds": json.loads(answer.splitlines()[-1])["seconds"], "bytes": peak}


def anonymous_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def table(results: dict[str, dict[str, dict[str, float]]], sizes: list[int]) -> str:
    """Time and memory of each stage at each size; the growth from the first size to the last, and whether it is as it should be."""
    first, last = str(sizes[0]), str(sizes[-1])
    heads = [f"{size:,}: s | MB" for size in sizes]
    lines = ["| stage | " + " | ".join(heads) + " |", "|---|" + "---:|---:|" * len(sizes)]
    grows = len(sizes) > 1
    if grows:
        lines = [lines[0] + " time | memory | |", lines[1] + "---:|---:|---|"]
    for stage, (label, _, with_size) in stages().items():
        found = [results.get(str(size), {}).get(stage) for size in sizes]
        if not any(found):
            continue
        cells = [f"{one['seconds']:,.1f} | {one['bytes'] / 1e6:,.0f}" if one else "– | –" for one in found]
        line = f"| {label} | " + " | ".join(cells) + " |"
        if grows and found[0] and found[-1]:
            a, b = results[first][stage], results[last][stage]
            times, more = b["seconds"] / a["seconds"], b["bytes"] - a["bytes"]
            wanted = sizes[-1] / sizes[0] if with_size else 1.0
            words = ["flat" if more <= FLAT else "NOT FLAT", "linear" if with_size else "constant"]
            words[1] = words[1] if times <= wanted * (1 + LINEAR) else f"MORE THAN {words[1].upper()}"
            line += f" x {times:.2f} | {more / 1e6:+,.0f} MB | {', '.join(words)} |"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--folder", type=Path, default=Path("runs/scale"))
    parser.add_argument("--stages", nargs="+", choices=list(stages()), default=list(stages()), metavar="STAGE")
    parser.add_argument("--keep", action="store_true", help="keep the files of a finished size")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        timed = stages()[arguments.stage][1](arguments.sizes[0], arguments.folder)
        started = time.perf_counter()
        timed()
        print(json.dumps({"seconds": time.perf_counter() - started}))
        return
    if not os.path.exists("/proc/self/status"):
        raise SystemExit("memory is read from /proc/PID/status, which only Linux has")
    place = arguments.folder / "results.json"
    results: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    for size in arguments.sizes:
        folder, done = arguments.folder / str(size), results.setdefault(str(size), {})
        for stage in arguments.stages:
            if stage in done:
                continue
            done[stage] = measured(size, stage, folder)
            print(f"{size:,} {stage}: {done[stage]['seconds']:.1f} s, {done[stage]['bytes'] / 1e6:,.0f} MB", file=sys.stderr, flush=True)
            arguments.folder.mkdir(parents=True, exist_ok=True)
            place.with_suffix(".part").write_text(json.dumps(results, indent=2))
            place.with_suffix(".part").replace(place)
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(table(results, arguments.sizes))


if __name__ == "__main__":
    main()
