"""`run` from data to leaderboard: resolves names, then goes through the stages in order.

    read the corpus -> for each system: train it (students), index or encode, search every eval set, time it -> evaluate -> report

What is shared between runs (corpus stores, indexes, tokens, vectors) is kept in the cache; what belongs to this run is in
its folder, and ledger.json says which of it is done. Reads like the method; how a stage works is in the module it calls.
"""

from __future__ import annotations

import gc
import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr import environment, suite
from mta4dpr.benchmark import Recipe
from mta4dpr.errors import UserError
from mta4dpr.evaluation.efficiency import energy_used, peak_memory_bytes
from mta4dpr.files import file_name, folder_written_aside, key_of, read_json, sha256_of_file, write_json
from mta4dpr.ledger import Ledger, locked, stage_shares
from mta4dpr.manifest import manifest_entry, manifest_of, noted
from mta4dpr.opened import Run, open_run
from mta4dpr.request import Request, System
from mta4dpr.searching import search, search_along, search_inputs, search_stage
from mta4dpr.sizes import Sizes
from mta4dpr.stages import check_disk, training_operations

if TYPE_CHECKING:
    from mta4dpr.data.collection import QuerySet
    from mta4dpr.data.corpus import Corpus
    from mta4dpr.evaluation.measures import Evaluation

log = logging.getLogger(__name__)

LATENCY_QUERIES, LATENCY_WARMUP = 100, 3  # so that the 99th percentile is not the slowest of a few
RECALL_QUERIES = 100  # of the first eval set, for which an approximate index is compared with exact search


def run(request: Request) -> Path:
    """Everything from data to leaderboard; the same request again goes on where it stopped. Returns the run's folder."""
    return complete(open_run(request))


def complete(opened: Run) -> Path:
    """All stages of an open run that are not done yet. Returns its folder."""
    _ready(opened)
    if not environment.is_main_process():
        _work_along(opened)
    else:
        _run(opened)
    return opened.folder


def _run(opened: Run) -> None:
    with locked(opened.folder, wait=opened.request.wait):
        manifest = manifest_of(opened)
        if opened.request.redo:
            _redo(opened)
        if _is_complete(opened, manifest):
            log.info("everything is done already in %s", opened.folder)
            return
        with noted(opened, manifest):
            for system in opened.systems:
                if system.recipe:
                    train(opened, system, system.recipe)
                prepare(opened, system)
                for eval_set in opened.bench.eval_sets:
                    search(opened, system, eval_set)
                measure_latency(opened, system)
            for member in _members(opened, manifest):
                _run(member)
            evaluate(opened, manifest)
            report(opened)
            for left in opened.folder.glob(".parts-*"):  # by this launch, or by one that was killed
                shutil.rmtree(left, ignore_errors=True)
    shares = ", ".join(f"{stage['stage']} {stage['share']:.0%}" for stage in stage_shares(opened.ledger))
    log.info("time by stage: %s; peak memory %s", shares, environment.gigabytes(peak_memory_bytes()))


def _members(opened: Run, manifest: dict[str, Any]) -> list[Run]:
    """The runs of the collections of the suites asked for."""
    return [suite.member(opened, name, one) for name in opened.bench.suites for one in manifest["eval_sets"][name]["suite"]]


def train_students(request: Request) -> dict[str, Any]:
    """Students only, into the folder of `run`; says of each where it is and what it is worth on D_eval."""
    opened = open_run(request)
    students = [(system, system.recipe) for system in opened.systems if system.recipe]
    untrained = [system.label for system in opened.systems if not system.recipe]
    if request.systems and untrained:
        raise UserError(f"{', '.join(untrained)} cannot be trained; `mta4dpr-bench list strategies` names what can")
    if not students:
        raise UserError(f"{opened.bench.name} has no student to train; name one with --strategy")
    _ready(opened)
    if not environment.is_main_process():
        _work_along(opened, only_train=True)
        return {}
    with locked(opened.folder, wait=request.wait):
        manifest = manifest_of(opened)
        if request.redo:
            _redo(opened)
        if all(opened.ledger.is_done(f"train {system.label}", opened.training_inputs(recipe)) for system, recipe in students):
            log.info("all of them are trained already in %s", opened.folder)
        else:
            with noted(opened, manifest):
                for system, recipe in students:
                    train(opened, system, recipe)
    rows = []
    for system, recipe in students:
        last = json.loads((opened.training_folder(system) / "rounds.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        rows.append(
            {
                "system": system.label,
                "strategy": recipe.strategy,
                "model": str(opened.folder / "models" / file_name(system.label)),
                "steps": recipe.distill.steps,
                "rounds": recipe.distill.rounds,
                "measure": last["measure"],
                "d_eval": last["student"],
                "seconds": _training_seconds(opened, system),
            }
        )
    return {"students": rows}


def _ready(opened: Run) -> None:
    """What must be so before a folder is made or locked, or a file is downloaded."""
    for name, one in opened.bench.suites.items():
        suite.at_hand(name, one)
    if environment.is_main_process():
        check_disk(opened)
    opened.eval_sets  # noqa: B018 (queries that cannot be read stop the run before it makes a folder)
    if opened.request.redo and environment.process_count() > 1:
        raise UserError("--redo takes one process; run it once without torchrun, then start the processes")
    opened.launch  # noqa: B018 (the processes meet before one of them waits for files)


def _work_along(opened: Run, *, only_train: bool = False) -> None:
    """What a process that is not the main one does: it trains, encodes and searches with it, and waits for its files in between."""
    for system in opened.systems:
        if system.recipe and _has_begun(opened, f"train {system.label}", opened.training_inputs(system.recipe)):
            _distil(opened, system, system.recipe)
        if only_train or system.kind == "lexical":
            continue
        if _has_begun(opened, _prepare_stage(system), _prepare_inputs(opened, system)):
            opened.retriever(system)
        for eval_set in opened.bench.eval_sets if opened.bench.dense.is_shared else []:
            if _has_begun(opened, search_stage(system, eval_set), search_inputs(opened, system, eval_set)):
                search_along(opened, system, eval_set)


def _has_begun(opened: Run, stage: str, inputs: Any) -> bool:
    """Waits until the main process of this launch is at that stage: True; or until the stage is done: False."""
    while True:
        ledger = Ledger(opened.folder)
        if ledger.is_done(stage, inputs):
            return False
        if ledger.is_running(stage, inputs, by=opened.launch):
            return True
        time.sleep(0.5)


def _is_complete(opened: Run, manifest: dict[str, Any]) -> bool:
    """Whether every stage of this request is done, so that nothing need be loaded or written."""
    ledger = opened.ledger
    return (
        all(ledger.is_done(f"train {s.label}", opened.training_inputs(s.recipe)) for s in opened.systems if s.recipe)
        and all(ledger.is_done(_prepare_stage(s), _prepare_inputs(opened, s)) for s in opened.systems)
        and all(ledger.is_done(search_stage(s, e), search_inputs(opened, s, e)) for s in opened.systems for e in opened.bench.eval_sets)
        and all(ledger.is_done(f"latency {s.label}", _prepare_inputs(opened, s)) for s in opened.systems if opened.bench.eval_sets)
        and all(_is_complete(member, manifest_of(member)) for member in _members(opened, manifest))
        and ledger.is_done("evaluate", _evaluate_inputs(opened, manifest))
        and ledger.is_done("report", _report_inputs(opened))
    )


def _redo(opened: Run) -> None:
    """Forgets what --redo names of the systems asked for, so that it and what follows from it is made again."""
    redo = opened.request.redo
    forgotten = ["evaluate"]
    if redo == "index":
        from mta4dpr.retrieval.bm25 import index_folder

        shutil.rmtree(index_folder(opened.cache, opened.corpus), ignore_errors=True)
    if redo == "train":
        for system in opened.systems:
            if system.recipe:
                shutil.rmtree(opened.training_folder(system), ignore_errors=True)
                forgotten.append(f"train {system.label}")
    if redo in ("index", "encode", "train"):
        forgotten += [_prepare_stage(system) for system in opened.systems]
    if redo in ("index", "encode", "train", "latency"):
        forgotten += ["report", *(f"latency {system.label}" for system in opened.systems)]
    if redo in ("index", "encode", "train", "search"):
        forgotten += [search_stage(system, eval_set) for system in opened.systems for eval_set in opened.bench.eval_sets]
    opened.ledger.forget(forgotten)


def train(opened: Run, system: System, recipe: Recipe) -> None:
    """One student by one strategy: Algorithm 1, then its model folder."""
    inputs = opened.training_inputs(recipe)
    if opened.ledger.is_done(f"train {system.label}", inputs):
        return
    folder = opened.training_folder(system)
    _clear_if_other(folder, [inputs, environment.process_count()])
    begun_before = [path.name for path in folder.iterdir()] != ["inputs.json"]
    with opened.ledger.stage(f"train {system.label}", inputs, by=opened.launch) as outputs:
        with energy_used() as joules:
            final = _distil(opened, system, recipe)
        if joules and not begun_before:  # of a training that was stopped in between, the first part is not known
            write_json(folder / "energy.json", joules)
        model = opened.folder / "models" / file_name(system.label)
        with folder_written_aside(model) as aside:
            shutil.copytree(final, aside, dirs_exist_ok=True)
        outputs.append(model / "model.safetensors")
    _note_training(opened, system, recipe)
    gc.collect()  # networks and optimisers refer to themselves; without this, each strategy would add to the memory


def _distil(opened: Run, system: System, recipe: Recipe) -> Path:
    from mta4dpr.distill.rounds import distil
    from mta4dpr.distill.strategies import STRATEGIES

    assert system.spec is not None
    student = opened.load_encoder(system.label, system.spec)
    reading = student.reading
    if reading.query_length != reading.passage_length:
        log.warning(
            "%s reads queries of %d and passages of %d tokens; elsewhere there is one length, so queries beyond %d "
            "tokens get other vectors in sentence-transformers and Pyserini",
            *(system.label, reading.query_length, reading.passage_length, reading.query_length),
        )
    return distil(system.label, STRATEGIES[recipe.strategy], student, opened.training(recipe), opened.training_folder(system))


def _note_training(opened: Run, system: System, recipe: Recipe) -> None:
    """What the steps took, for the next plan."""
    assert system.spec is not None
    lines = [json.loads(line) for line in (opened.training_folder(system) / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    batch = recipe.distill.batch_queries * environment.process_count()
    sizes, seconds = Sizes(opened), sum(batch / line["examples_per_second"] for line in lines)
    amount = training_operations(opened, recipe, system.spec, sizes) * len(lines) / recipe.distill.steps
    opened.rates.note("train", amount, seconds, shape=sizes.network(system.spec).shape)


def _clear_if_other(folder: Path, inputs: Any) -> None:
    """A half-done training goes on only with the inputs it began with; without a note of them, their removal was interrupted."""
    note, wanted = folder / "inputs.json", {"key": key_of(inputs)}
    if folder.exists() and not (note.exists() and read_json(note) == wanted):
        note.unlink(missing_ok=True)
        shutil.rmtree(folder)
    write_json(note, wanted)


def _prepare_stage(system: System) -> str:
    return f"{'index' if system.kind == 'lexical' else 'encode'} {system.label}"


def _prepare_inputs(opened: Run, system: System) -> Any:
    return [opened.identity(system), opened.corpus.text_hash, opened.bench.dense.pyserini_index]


def prepare(opened: Run, system: System) -> None:
    """The system's index: Lucene's, or kept vectors and, if wanted, a FAISS index in Pyserini's layout."""
    stage, inputs = _prepare_stage(system), _prepare_inputs(opened, system)
    if opened.ledger.is_done(stage, inputs):
        return
    with opened.ledger.stage(stage, inputs, by=opened.launch) as outputs:
        retriever = opened.retriever(system)
        manifest = read_json(opened.folder / "manifest.json")
        manifest["systems"][system.label] = manifest_entry(system, retriever, opened.bench) | _about_index(opened, retriever)
        write_json(opened.folder / "manifest.json", manifest)
        if system.kind != "lexical" and opened.bench.dense.pyserini_index:
            from mta4dpr.retrieval.dense import DenseRetriever, write_faiss_index

            assert isinstance(retriever, DenseRetriever)
            folder = opened.folder / "indexes" / file_name(system.label)
            approximate = retriever.approximate.file if retriever.approximate else None
            write_faiss_index(folder, retriever.vectors, opened.corpus, approximate=approximate)
            outputs += [folder / "index", folder / "docid"]


def _about_index(opened: Run, retriever: Any) -> dict[str, Any]:
    """How an approximate index was built, and its recall against exact search on queries of the first eval set."""
    from mta4dpr.retrieval.approximate import recall

    approximate = getattr(retriever, "approximate", None)
    if approximate is None or not opened.bench.eval_sets:  # a suite alone: its collections have their own rows
        return {}
    first, depth = opened.bench.eval_sets[0], opened.bench.depth
    texts = list(opened.eval_sets[first.id].texts.values())
    sample = np.arange(0, len(texts), max(1, len(texts) // RECALL_QUERIES))[:RECALL_QUERIES]
    vectors = retriever.encoder.encode_queries(texts)[sample]
    found = {"recall": recall(approximate, retriever.index, vectors, depth), "recall_depth": depth, "recall_queries": len(sample)}
    return {"index": {**opened.bench.dense.of_search(), **approximate.about, **found}}


def measure_latency(opened: Run, system: System) -> None:
    """What the machine decides of a system, for efficiency.json: bytes, rates, and the time of single queries."""
    stage, inputs = f"latency {system.label}", _prepare_inputs(opened, system)
    if opened.ledger.is_done(stage, inputs) or not opened.bench.eval_sets:
        return
    from mta4dpr.evaluation.efficiency import time_calls
    from mta4dpr.retrieval.dense import DenseRetriever
    from mta4dpr.retrieval.vectors import passages_per_second

    with opened.ledger.stage(stage, inputs):
        retriever: Any = opened.retriever(system)
        texts = list(opened.limited(opened.eval_sets[opened.bench.eval_sets[0].id]).texts.values())
        sample = texts[:: max(1, len(texts) // LATENCY_QUERIES)][:LATENCY_QUERIES]
        call: Callable[[str], Any] = lambda text: list(retriever.search([text], opened.bench.depth))  # noqa: E731
        with energy_used() as joules:
            timing = time_calls(call, sample, warmup=(warmup := min(LATENCY_WARMUP, len(sample))))
        dense = isinstance(retriever, DenseRetriever)
        entry = {
            "index_bytes": (retriever.approximate or retriever.vectors).bytes
            if dense
            else sum(p.stat().st_size for p in retriever.folder.iterdir()),
            "encode_passages_per_second": passages_per_second(retriever.vectors.folder) if dense else None,
            "query_ms": {"p50": timing.p50_ms, "p95": timing.p95_ms, "p99": timing.p99_ms, "calls": timing.calls},
            "training_seconds": _training_seconds(opened, system),
        }
        if joules:
            entry["query_joules"] = {part: value / (len(sample) + warmup) for part, value in joules.items()}
        if (energy := opened.training_folder(system) / "energy.json").exists():
            entry["training_joules"] = read_json(energy)
        path = opened.folder / "efficiency.json"
        document = read_json(path) if path.exists() else {"systems": {}}
        document["systems"][system.label] = entry
        write_json(path, document)


def _training_seconds(opened: Run, system: System) -> float | None:
    return float(opened.ledger.stages[f"train {system.label}"]["seconds"]) if system.recipe else None


def _run_files(opened: Run) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """(system, eval set) -> run file and its record, of every search that this folder's ledger knows. A run file is the first output."""
    return {
        (stage.split(" ", 2)[1], stage.split(" ", 2)[2]): next(iter(record["outputs"].items()))
        for stage, record in opened.ledger.stages.items()
        if stage.startswith("search ") and record["status"] == "done"
    }


def _evaluate_inputs(opened: Run, manifest: dict[str, Any]) -> Any:
    hashes = {f"{system} {eval_set}": about["sha256"] for (system, eval_set), (_, about) in _run_files(opened).items()}
    hashes.update(suite.hashes(opened.folder, manifest["eval_sets"]))
    return [hashes, *(manifest[key] for key in ("eval_sets", "contrasts", "systems", "notes", "title"))]


def evaluate(opened: Run, manifest: dict[str, Any]) -> None:
    """leaderboard.json and per_query/ from every run file that this folder's ledger knows, those of earlier commands included."""
    from mta4dpr.evaluation.leaderboard import leaderboard
    from mta4dpr.evaluation.per_query import per_query_file, write_per_query

    manifest["systems"] = read_json(opened.folder / "manifest.json")["systems"]
    files, inputs = _run_files(opened), _evaluate_inputs(opened, manifest)
    if opened.ledger.is_done("evaluate", inputs):
        return
    with opened.ledger.stage("evaluate", inputs) as outputs:
        evaluations: dict[str, dict[str, Evaluation]] = {}
        for eval_set_id, about in manifest["eval_sets"].items():
            if "suite" in about:
                means = suite.means(opened.folder, eval_set_id, about)
                evaluations |= {eval_set_id: means} if means else {}
                continue
            query_set = opened.limited(opened.query_set(eval_set_id))
            for system in manifest["systems"]:
                if (system, eval_set_id) in files:
                    found = evaluate_run(opened.folder / files[system, eval_set_id][0], query_set, about["measures"], opened.corpus)
                    evaluations.setdefault(eval_set_id, {})[system] = found
        for eval_set_id, of_systems in evaluations.items():
            for system, found in of_systems.items():
                place = per_query_file(opened.folder, eval_set_id, system)
                write_per_query(place, found.query_ids, found.values)
                outputs.append(place)
        titled = {name: opened.corpus.titled for name in evaluations} | suite.titled(opened.folder, manifest["eval_sets"])
        document = leaderboard(manifest, evaluations, titled=titled, teacher=opened.bench.teacher)
        write_json(opened.folder / "leaderboard.json", document)
        outputs.append(opened.folder / "leaderboard.json")
    for line in document["expected"]:
        log.info(
            "%s on %s: %s %.4f, published %.4f (%s): %s",
            line["system"],
            line["eval_set"],
            line["measure"],
            line["value"],
            line["published"],
            line["source"],
            line["verdict"],
        )


def evaluate_run(path: Path, query_set: QuerySet, measures: Sequence[str], corpus: Corpus) -> Evaluation:
    """A run file of ours; one without a single hit is worth 0 everywhere."""
    from mta4dpr.evaluation.answered import judge
    from mta4dpr.evaluation.measures import Evaluation, evaluate, parse_measures
    from mta4dpr.evaluation.trecrun import read_run

    if path.stat().st_size == 0:
        judged = list(query_set.qrels)
        zeros = {measure: np.zeros(len(judged)) for measure in measures}
        return Evaluation(judged, zeros, missing_queries=len(judged), ignored_queries=0, excluded=0)
    run, wanted = read_run(path), parse_measures(measures)
    qrels = judge(run, query_set.answers, corpus, wanted)[0] if query_set.answers else query_set.qrels
    return evaluate(run, qrels, wanted)


def _report_inputs(opened: Run) -> Any:
    return [sha256_of_file(opened.folder / "leaderboard.json"), "with texts.json"]


def report(opened: Run) -> None:
    """Texts of the queries that differ most, then tables, plots and page from what the stages left."""
    from mta4dpr.report import write_report
    from mta4dpr.report.texts import write_texts

    inputs = _report_inputs(opened)
    if opened.ledger.is_done("report", inputs):
        return
    with opened.ledger.stage("report", inputs) as outputs:
        path = opened.folder / "efficiency.json"
        document = read_json(path) if path.exists() else {"systems": {}}
        before = document.get("peak_memory_bytes", 0)
        document.update(
            {
                "stages": stage_shares(opened.ledger),
                "peak_memory_bytes": max(before, peak_memory_bytes()),
                "threads": opened.threads,
                "device": opened.__dict__.get("device") or document.get("device"),
            }
        )
        write_json(path, document)
        eval_sets = read_json(opened.folder / "manifest.json")["eval_sets"]
        query_sets = {name: suite.collections(name, about) or opened.limited(opened.query_set(name)) for name, about in eval_sets.items()}
        runs = {key: opened.folder / name for key, (name, _) in _run_files(opened).items()}
        outputs.append(write_texts(opened.folder, opened.corpus, query_sets, runs))
        write_report(opened.folder)
        outputs += [opened.folder / f"leaderboard.{suffix}" for suffix in ("csv", "md", "tex", "html")]


def search_once(request: Request, query: str, hits: int) -> dict[str, Any]:
    """The top passages of one system for one query, with text: to look at what a system does."""
    opened = open_run(request)
    if len(opened.systems) != 1:
        raise UserError(f"search takes one system, found {', '.join(s.label for s in opened.systems)}")
    if hits < 1:
        raise UserError(f"--hits takes a number of at least 1, found {hits}")
    if not query.strip():
        raise UserError("--query is empty; give some words to search for")
    system = opened.systems[0]
    found = next(iter(opened.retriever(system).search([query], hits)))
    shown = []
    for rank, (number, score) in enumerate(zip(found.passages[0], found.scores[0], strict=True), start=1):
        if number >= 0:
            passage = opened.corpus.passage(int(number))
            shown.append({"rank": rank, "score": float(score), "id": passage.id, "title": passage.title, "text": passage.text})
    return {"query": query, "system": system.label, "hits": shown}
