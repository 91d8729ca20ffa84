"""`plan`: the stages that `run` would do, what of them is cached, what they need. Writes and downloads nothing.

Times are rough: operations of a stage over a matrix rate that is measured in a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mta4dpr import environment
from mta4dpr.benchmark import ModelSpec, Recipe
from mta4dpr.data.collection import IrDataset, downloads_of
from mta4dpr.data.corpus import stored_corpus
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.environment import gigabytes
from mta4dpr.errors import UserError
from mta4dpr.files import read_json
from mta4dpr.ledger import Ledger
from mta4dpr.models.encoder import weights_key
from mta4dpr.models.zoo import checkpoint_of, find_model
from mta4dpr.opened import Run, open_run
from mta4dpr.progress import duration
from mta4dpr.request import Request, System, trainable

PASSAGE_BYTES, PASSAGE_TOKENS = 400, 80  # of an average passage, where the corpus has not been read yet
LUCENE_BYTES = 250  # of an indexed passage
INDEX_RATE = 5000  # passages a second and thread that Lucene takes
LAYER_PARAMETERS = 12  # times hidden size squared: a transformer layer


def plan(request: Request) -> dict[str, Any]:
    """{"benchmark", "title", "stages": [...], "lacking": [...], "summary"}."""
    opened = open_run(request)
    stages = list(_stages(opened))
    lacking = [stage["note"] for stage in stages if stage["state"] == "lacking"]
    disk, seconds = sum(s["disk_bytes"] for s in stages), sum(s["seconds"] for s in stages)
    free = environment.free_disk_bytes(opened.cache)
    if disk > free:
        lacking.append(f"the disk of {opened.cache} has {gigabytes(free)} free, about {gigabytes(disk)} are needed")
    for stage in stages:
        stage["disk"] = gigabytes(stage["disk_bytes"]) if stage["disk_bytes"] else ""
        stage["memory"] = gigabytes(stage["memory_bytes"]) if stage["memory_bytes"] else ""
        stage["time"] = f"~{duration(stage['seconds'])}" if stage["seconds"] >= 1 else ""
    summary = (
        f"about {gigabytes(disk)} of disk ({gigabytes(free)} free), about {duration(seconds)} on this machine; output: {opened.folder}"
        if disk or seconds >= 1
        else f"everything is done or cached; output: {opened.folder}"
    )
    return {"benchmark": opened.bench.name, "title": opened.bench.title, "stages": stages, "lacking": lacking, "summary": summary}


def _stage(stage: str, state: str, *, disk: float = 0, memory: float = 0, seconds: float = 0, note: str = "") -> dict[str, Any]:
    if state in ("cached", "done"):
        disk = seconds = 0
    return {
        "stage": stage,
        "state": state,
        "disk_bytes": int(disk),
        "memory_bytes": int(memory),
        "seconds": round(seconds, 1),
        "note": note,
    }


def _stages(opened: Run) -> Iterator[dict[str, Any]]:
    corpus = stored_corpus(opened.cache, opened.source)
    size = len(corpus) if corpus else opened.source.expected_passages() or 0
    rate = matrix_rate()
    ledger = Ledger(opened.folder)
    yield _data(opened, corpus is not None, size)
    recipes = [s.recipe for s in opened.systems if s.recipe]
    needed = {label for recipe in recipes for label in (recipe.teacher, *recipe.assistants)}
    if any(s.kind == "lexical" for s in opened.systems) or "bm25" in needed:
        yield _bm25(opened, corpus, size)
    for system in opened.systems:
        if system.spec and not system.recipe:
            yield _encoding(opened, system.label, system.spec, size, rate)
    for label in sorted(needed - {s.label for s in opened.systems} - {"bm25"}):
        spec = opened.bench.models[label]
        if spec.kind == "cross-encoder":
            yield _scoring(opened, label, spec, recipes, rate)
        else:
            yield _encoding(opened, label, spec, size, rate)
    for system in opened.systems:
        if system.recipe:
            yield _training(opened, system, size, rate, ledger)
    done = all(_is_done(ledger, f"search {s.label} {e.id}") for s in opened.systems for e in opened.bench.eval_sets)
    pairs = len(opened.systems) * len(opened.bench.eval_sets)
    yield _stage("search", "done" if done else "to do", note=f"{pairs} run files, top {opened.bench.depth}")
    yield _stage("evaluate and report", "done" if done and _is_done(ledger, "report") else "to do")


def _is_done(ledger: Ledger, stage: str) -> bool:
    return ledger.stages.get(stage, {}).get("status") == "done"


def _data(opened: Run, stored: bool, size: int) -> dict[str, Any]:
    note = f"{size:,} passages" if size else "the number of passages is known after reading"
    if stored or not isinstance(opened.source, IrDataset):
        return _stage("data", "cached" if stored else "to do", disk=size * PASSAGE_BYTES, seconds=size / 40_000, note=note)
    sets = [e.id for e in opened.bench.eval_sets] + ([opened.bench.train] if any(s.recipe for s in opened.systems) else [])
    missing = [d for d in downloads_of(opened.bench.corpus, sets) if not d.present]
    download = sum(d.size for d in missing)
    if missing:
        note += f"; ir_datasets downloads {gigabytes(download)}: " + ", ".join(d.name for d in missing)
    if missing and opened.request.offline:
        return _stage(
            "data",
            "lacking",
            note=f"{opened.bench.corpus}: not downloaded yet ({', '.join(d.name for d in missing)}), and --offline is given",
        )
    return _stage("data", "to do", disk=size * PASSAGE_BYTES + 2 * download, seconds=size / 40_000 + download / 10e6, note=note)


def _bm25(opened: Run, corpus: Any, size: int) -> dict[str, Any]:
    from mta4dpr.retrieval.bm25 import index_folder
    from mta4dpr.retrieval.java import find_java, heap_size

    try:
        java = find_java()
    except UserError as error:
        return _stage("index for BM25", "lacking", note=str(error))
    cached = corpus is not None and (index_folder(opened.cache, corpus) / "mta4dpr.json").exists()
    heap = heap_size(opened.bench.bm25.heap)
    memory = int(heap[:-1]) * (1e9 if heap[-1] in "gG" else 1e6)
    return _stage(
        "index for BM25",
        "cached" if cached else "to do",
        disk=size * LUCENE_BYTES,
        memory=memory,
        seconds=size / (INDEX_RATE * opened.threads) + 2,
        note=f"Java {java.version}",
    )


def _encoding(opened: Run, label: str, spec: ModelSpec, size: int, rate: float) -> dict[str, Any]:
    name = f"encode with {label}"
    if spec.scores:
        found = Path(spec.scores).is_file()
        return _stage(
            f"scores of {label}", "cached" if found else "lacking", note=spec.scores if found else f"there is no file {spec.scores}"
        )
    try:
        parameters, dimensions, where = _found(spec)
    except UserError as error:
        return _not_here(opened, name, spec, error)
    done = not spec.untrained and _kept_vectors(opened, spec, size)
    tokens = min(PASSAGE_TOKENS, spec.passage_length or PASSAGE_TOKENS)
    itemsize = 2 if opened.bench.dense.dtype == "float16" else 4
    return _stage(
        name,
        "cached" if done else "to do",
        disk=size * dimensions * itemsize,
        memory=1e9 + 8 * parameters,
        seconds=2 * parameters * tokens * size / rate,
        note=where,
    )


def _scoring(opened: Run, label: str, spec: ModelSpec, recipes: Sequence[Recipe], rate: float) -> dict[str, Any]:
    """A cross-encoder scores the groups of the strategies that ask it, and reranks D_eval's candidates; a pair once."""
    name = f"score pairs with {label}"
    try:
        parameters, _, where = _found(spec)
    except UserError as error:
        return _not_here(opened, name, spec, error)
    pairs = sum(
        r.distill.steps * r.distill.batch_queries * environment.process_count() * r.distill.group
        for r in recipes
        if label == r.teacher or (label in r.assistants and STRATEGIES[r.strategy].assistants)
    )
    seconds = 2 * parameters * (spec.pair_length or 2 * PASSAGE_TOKENS) * pairs / rate
    note = f"up to {pairs:,} pairs of the groups, and D_eval's candidates; {where}"
    return _stage(name, "to do", disk=12 * pairs, memory=1e9 + 8 * parameters, seconds=seconds, note=note)


def _found(spec: ModelSpec) -> tuple[int, int, str]:
    """(parameters, dimensions, where its weights are); UserError where they are not on this machine."""
    if spec.untrained:
        return 100_000, 64, "random weights"
    folder, where = find_model(spec.model, offline=True)
    return (*_size_of(folder, spec), where)


def _not_here(opened: Run, stage: str, spec: ModelSpec, error: UserError) -> dict[str, Any]:
    if opened.request.offline or not ("/" in spec.model or checkpoint_of(spec.model)):
        return _stage(stage, "lacking", note=str(error))
    return _stage(stage, "download", note=f"from the Hugging Face hub, if the network gives it: {spec.model}")


def _kept_vectors(opened: Run, spec: ModelSpec, size: int) -> bool:
    """Whether the cache holds finished vectors of these weights for a corpus of this size."""
    weights = weights_key(find_model(spec.model, offline=True)[0], spec.layers)
    for path in (opened.cache / "vectors").glob("*/vectors.json"):
        about = read_json(path)
        same = (about["weights"], about["texts"], about["dtype"]) == (weights, size, opened.bench.dense.dtype)
        if same and spec.passage_length in (None, about["longest"]):
            return True
    return False


def _training(opened: Run, system: System, size: int, rate: float, ledger: Ledger) -> dict[str, Any]:
    recipe, spec = system.recipe, system.spec
    assert spec is not None and recipe is not None
    distill, strategy = recipe.distill, STRATEGIES[recipe.strategy]
    done = _is_done(ledger, f"train {system.label}")
    also = [recipe.teacher] if strategy.trains_teacher else trainable(opened.bench, recipe.assistants) if strategy.chain else []
    try:
        parameters = _found(spec)[0]
        others = sum(_found(opened.bench.models[label])[0] for label in also)  # trained beside the student or before it
    except UserError as error:
        return _not_here(opened, f"train {system.label}", spec, error)
    tokens = min(PASSAGE_TOKENS, spec.passage_length or PASSAGE_TOKENS)
    passages = distill.steps * distill.batch_queries * environment.process_count() * distill.group
    encoded = size * distill.rounds
    link = 2 * size * others if strategy.chain else 0  # each link is measured and teaches: its vectors
    return _stage(
        f"train {system.label}",
        "done" if done else "to do",
        disk=24 * parameters,
        memory=1e9 + 40 * parameters,
        seconds=((6 * passages + 2 * encoded) * parameters + 6 * passages * others + link) * tokens / rate,
        note=f"{distill.steps} steps, {distill.rounds} rounds" + (f"; trains {', '.join(also)} too" if also else ""),
    )


def _size_of(folder: Path, spec: ModelSpec) -> tuple[int, int]:
    """(parameters of the layers that are kept, dimensions), from config.json; word embeddings cost nothing to speak of."""
    config = read_json(folder / "config.json")
    hidden = int(config.get("hidden_size") or config.get("dim") or 768)
    layers = len(spec.layers) if spec.layers else int(config.get("num_hidden_layers") or config.get("n_layers") or 12)
    return LAYER_PARAMETERS * hidden * hidden * layers, hidden


def matrix_rate() -> float:
    """Floating-point operations a second that a transformer gets of this machine: a third of a float32 product's, by numpy."""
    import numpy as np

    a = np.ones((1024, 1024), np.float32)
    _ = a @ a
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < 0.5:
        _ = a @ a
        rounds += 1
    return 2 * 1024**3 * rounds / (time.perf_counter() - started) / 3
