"""`run` from data to leaderboard: resolves names, then goes through the stages in order.

    read the corpus -> for each system: train it (students), search every eval set -> evaluate -> report

What is shared between runs (corpus stores, indexes, tokens, vectors) is kept in the cache; what belongs to this run is in
its folder, and ledger.json says which of it is done. Reads like the method; how a stage works is in the module it calls.
"""

from __future__ import annotations

import gc
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr import environment
from mta4dpr.benchmark import Benchmark, EvalSet, ModelSpec
from mta4dpr.data.collection import QuerySet, Source, load_query_set
from mta4dpr.data.corpus import Corpus, open_corpus
from mta4dpr.errors import UserError
from mta4dpr.evaluation.efficiency import peak_memory_bytes
from mta4dpr.files import file_name, folder_written_aside, key_of, read_json, sha256_of_file, write_json, written_aside
from mta4dpr.ledger import Ledger, locked, refuse_other_settings, stage_shares
from mta4dpr.request import Request, System, check_names, check_request, output_folder, resolve_benchmark, resolve_systems

if TYPE_CHECKING:
    from mta4dpr.distill.assistants import Scorer
    from mta4dpr.distill.rounds import Bench
    from mta4dpr.evaluation.measures import Evaluation
    from mta4dpr.models.encoder import Encoder
    from mta4dpr.retrieval.bm25 import Bm25Retriever
    from mta4dpr.retrieval.dense import DenseRetriever
    from mta4dpr.retrieval.hits import Hits

log = logging.getLogger(__name__)

LATENCY_QUERIES, LATENCY_WARMUP = 30, 3


# --- one run -------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """An open run: what every stage needs, made when it is first needed."""

    request: Request
    bench: Benchmark
    source: Source
    systems: list[System]
    folder: Path
    cache: Path = field(default_factory=environment.cache_folder)
    _open: dict[str, Bm25Retriever | DenseRetriever] = field(default_factory=dict)
    _encoded_again: set[Path] = field(default_factory=set)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.folder)

    @cached_property
    def corpus(self) -> Corpus:
        return open_corpus(self.cache, self.source, verify=self.request.redo == "data")

    @cached_property
    def device(self) -> str:
        device, reason = environment.choose_device(self.request.device)
        environment.set_threads(self.threads)
        log.info("device %s (%s), %d threads", device, reason, self.threads)
        return device

    @cached_property
    def threads(self) -> int:
        return environment.choose_threads()[0]

    @cached_property
    def exclude_self(self) -> bool:
        return self.bench.exclude_self or self.source.exclude_self

    @cached_property
    def eval_sets(self) -> dict[str, QuerySet]:
        return {e.id: load_query_set(self.source, e.id) for e in self.bench.eval_sets}

    @cached_property
    def training(self) -> Bench:
        return _bench(self)

    def limited(self, query_set: QuerySet) -> QuerySet:
        """The first N queries of an eval set under --limit."""
        if self.request.limit is None:
            return query_set
        texts = dict(list(query_set.texts.items())[: self.request.limit])
        return QuerySet(query_set.id, texts, {query_id: query_set.qrels[query_id] for query_id in texts}, query_set.counts)

    # systems

    def load_encoder(self, label: str, spec: ModelSpec) -> Encoder:
        from mta4dpr.models.encoder import load_encoder

        texts = [passage.text for passage in islice(self.corpus, 2000)] if spec.untrained else []
        return load_encoder(label, spec, device=self.device, offline=self.request.offline, texts=texts)

    def bm25(self) -> Bm25Retriever:
        from mta4dpr.retrieval.bm25 import Bm25Retriever, build_index

        folder = build_index(self.cache, self.corpus, heap=self.bench.bm25.heap, threads=self.threads)
        return Bm25Retriever(folder, self.corpus, self.bench.bm25, self.threads)

    def dense(self, encoder: Encoder, root: Path) -> DenseRetriever:
        """A retriever over the encoder's kept vectors under `root`; encodes the corpus if need be."""
        from mta4dpr.data.tokens import tokens_of_corpus
        from mta4dpr.retrieval.dense import DenseRetriever
        from mta4dpr.retrieval.vectors import encode, vectors_folder

        reading = encoder.reading
        tokens = tokens_of_corpus(self.cache, self.corpus, encoder.tokenizer, prefix=reading.passage_prefix)
        cut = tokens.truncated(reading.passage_length)
        if cut:
            log.info("%s: %d of %d passages are cut to %d tokens", encoder.label, cut, len(tokens), reading.passage_length)
        folder = vectors_folder(root, encoder, tokens, reading.passage_length, self.encoding)
        if self.request.redo == "encode" and folder not in self._encoded_again:
            self._encoded_again.add(folder)
            shutil.rmtree(folder, ignore_errors=True)
        vectors = encode(root, encoder, tokens, longest=reading.passage_length, how=self.encoding)
        return DenseRetriever(encoder, vectors, self.corpus)

    @cached_property
    def encoding(self) -> Any:
        from mta4dpr.retrieval.vectors import Encoding

        return Encoding(self.bench.dense.dtype, self.bench.dense.token_budget, self.threads)

    def retriever(self, system: System) -> Bm25Retriever | DenseRetriever:
        """The system, ready to search, kept until another one is asked for. Students must have been trained."""
        if system.label not in self._open:
            self._open.clear()
            self._open[system.label] = self._retriever(system)
        return self._open[system.label]

    def _retriever(self, system: System) -> Bm25Retriever | DenseRetriever:
        if system.kind == "lexical":
            return self.bm25()
        if system.strategy:
            model = self.folder / "models" / file_name(system.label)
            if not model.is_dir():
                raise UserError(
                    f"{system.label} is not trained in {self.folder} yet; `mta4dpr-bench run {self.request.benchmark}` trains it"
                )
            encoder = self.load_encoder(system.label, ModelSpec(model=str(model)))
            return self.dense(encoder, self._vectors_of_student(system.strategy))
        assert system.spec is not None
        return self.dense(self.load_encoder(system.label, system.spec), self.cache)

    def _vectors_of_student(self, strategy: str) -> Path:
        from mta4dpr.distill.rounds import best_round

        folder = self.folder / "training" / strategy
        return folder / f"round-{best_round(folder, self.bench.distill)}"

    # identities: what the inputs of a stage are, without loading a model

    def identity(self, system: System) -> Any:
        if system.kind == "lexical":
            return ["bm25", self.bench.bm25.k1, self.bench.bm25.b]
        dense = self.bench.dense.model_dump(exclude={"pyserini_index"})
        if system.strategy:
            return [self.training_inputs(system.strategy), dense]
        assert system.spec is not None
        return [self.model_identity(system.spec), dense]

    def model_identity(self, spec: ModelSpec) -> Any:
        from mta4dpr.models.encoder import hash_of_files
        from mta4dpr.models.zoo import find_model

        described = spec.model_dump(exclude={"model", "scores"})
        if spec.scores:
            return [described, sha256_of_file(_existing(Path(spec.scores)))]
        if spec.untrained:
            return described
        return [described, hash_of_files(find_model(spec.model, offline=self.request.offline)[0])]

    def training_inputs(self, strategy: str) -> Any:
        bench = self.bench
        roles = [bench.teacher, *bench.assistants, bench.student]
        return {
            "strategy": strategy,
            "corpus": self.corpus.text_hash,
            "train": bench.train,
            "seed": self.request.seed,
            "models": {role: self.model_identity(bench.models[role]) for role in roles if role in bench.models},
            "roles": roles,
            "bm25": bench.bm25.model_dump(exclude={"heap"}),
            "dense": bench.dense.model_dump(exclude={"pyserini_index"}),
            "distill": bench.distill.model_dump(),
        }


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    return path


def run(request: Request) -> Path:
    """Everything from data to leaderboard; the same request again goes on where it stopped. Returns the run's folder."""
    opened = open_run(request)
    opened.eval_sets  # noqa: B018 (queries that cannot be read stop the run before it makes a folder)
    with locked(opened.folder, wait=request.wait):
        manifest = _manifest(opened)
        if request.redo:
            _redo(opened)
        if _is_complete(opened, manifest):
            log.info("everything is done already in %s", opened.folder)
            return opened.folder
        manifest["runs"].append({"command": sys.argv[1:], "started": _now(), "finished": None})
        write_json(opened.folder / "manifest.json", manifest)
        for query_set in opened.eval_sets.values():
            for line in [*query_set.counts, *_absent_passages(query_set, opened.corpus)]:
                log.info(line)
        for system in opened.systems:
            if system.strategy:
                train(opened, system)
            prepare(opened, system)
            for eval_set in opened.bench.eval_sets:
                search(opened, system, eval_set)
        evaluate(opened, manifest)
        report(opened)
        manifest["runs"][-1]["finished"] = _now()
        write_json(opened.folder / "manifest.json", manifest)
    shares = ", ".join(f"{stage['stage']} {stage['share']:.0%}" for stage in stage_shares(opened.ledger))
    log.info("time by stage: %s; peak memory %s", shares, environment.gigabytes(peak_memory_bytes()))
    return opened.folder


def open_run(request: Request) -> Run:
    """Resolves every name of a request; nothing is written or downloaded."""
    check_request(request)
    if request.offline:
        environment.refuse_network()
    bench, source = resolve_benchmark(request)
    systems = resolve_systems(bench, request.systems)
    check_names(bench, systems)
    return Run(request, bench, source, systems, output_folder(request, bench))


# --- stages --------------------------------------------------------------------------------------------------------


def _manifest(opened: Run) -> dict[str, Any]:
    """Who runs what, where, with which versions; with what earlier commands left in the folder. Refuses other settings."""
    path = opened.folder / "manifest.json"
    document = opened.bench.model_dump(mode="json", exclude={"systems", "eval_sets", "contrasts", "title", "notes"})
    settings = {**document, "limit": opened.request.limit, "seed": opened.request.seed}
    manifest: dict[str, Any] = read_json(path) if path.exists() else {"systems": {}, "eval_sets": {}, "runs": []}
    if "settings" in manifest:
        refuse_other_settings(opened.folder, settings, manifest["settings"])
    manifest.update(
        {
            "benchmark": opened.bench.name,
            "title": opened.bench.title,
            "notes": opened.bench.notes,
            "contrasts": [list(pair) for pair in opened.bench.contrasts],
            "settings": settings,
            "versions": environment.versions(),
            "hardware": environment.hardware(),
            "git_commit": environment.git_commit(),
            "threads": opened.threads,
            "source": opened.source.identity,
        }
    )
    for eval_set in opened.bench.eval_sets:
        manifest["eval_sets"][eval_set.id] = eval_set.model_dump(mode="json")
    return manifest


def _is_complete(opened: Run, manifest: dict[str, Any]) -> bool:
    """Whether every stage of this request is done, so that nothing need be loaded or written."""
    ledger = opened.ledger
    return (
        all(ledger.is_done(f"train {s.label}", opened.training_inputs(s.strategy)) for s in opened.systems if s.strategy)
        and all(ledger.is_done(_prepare_stage(s), _prepare_inputs(opened, s)) for s in opened.systems)
        and all(ledger.is_done(_search_stage(s, e), _search_inputs(opened, s, e)) for s in opened.systems for e in opened.bench.eval_sets)
        and ledger.is_done("evaluate", _evaluate_inputs(opened, manifest))
        and ledger.is_done("report", sha256_of_file(opened.folder / "leaderboard.json"))
    )


def _absent_passages(query_set: QuerySet, corpus: Corpus) -> list[str]:
    """Says how many judgements name passages that the corpus lacks: they can never be found."""
    absent = int((corpus.numbers([passage_id for judged in query_set.qrels.values() for passage_id in judged]) < 0).sum())
    return [f"{query_set.id}: {absent:,} judgements name passages that are not in the corpus"] if absent else []


def _redo(opened: Run) -> None:
    """Forgets what --redo names of the systems asked for, so that it and what follows from it is made again."""
    redo = opened.request.redo
    forgotten = ["evaluate"]
    if redo == "index":
        from mta4dpr.retrieval.bm25 import index_folder

        shutil.rmtree(index_folder(opened.cache, opened.corpus), ignore_errors=True)
    if redo == "train":
        for system in opened.systems:
            if system.strategy:
                shutil.rmtree(opened.folder / "training" / system.strategy, ignore_errors=True)
                forgotten.append(f"train {system.label}")
    if redo in ("index", "encode", "train"):
        forgotten += [_prepare_stage(system) for system in opened.systems]
    if redo in ("index", "encode", "train", "search"):
        forgotten += [_search_stage(system, eval_set) for system in opened.systems for eval_set in opened.bench.eval_sets]
    opened.ledger.forget(forgotten)


def train(opened: Run, system: System) -> None:
    """One student by one strategy: Algorithm 1, then its model folder."""
    assert system.strategy is not None
    assert system.spec is not None
    inputs = opened.training_inputs(system.strategy)
    if opened.ledger.is_done(f"train {system.label}", inputs):
        return
    from mta4dpr.distill.rounds import distil
    from mta4dpr.distill.strategies import STRATEGIES

    folder = opened.folder / "training" / system.strategy
    _clear_if_other(folder, inputs)
    with opened.ledger.stage(f"train {system.label}", inputs) as outputs:
        student = opened.load_encoder(system.label, system.spec)
        final = distil(system.strategy, STRATEGIES[system.strategy], student, opened.training, folder)
        model = opened.folder / "models" / file_name(system.label)
        with folder_written_aside(model) as aside:
            shutil.copytree(final, aside, dirs_exist_ok=True)
        outputs.append(model / "model.safetensors")
    gc.collect()  # networks and optimisers refer to themselves; without this, each strategy would add to the memory


def _clear_if_other(folder: Path, inputs: Any) -> None:
    """A half-done training goes on only with the inputs it began with."""
    note = folder / "inputs.json"
    if note.exists() and read_json(note) != {"key": key_of(inputs)}:
        shutil.rmtree(folder)
    write_json(note, {"key": key_of(inputs)})


def _bench(opened: Run) -> Bench:
    """What all strategies of a run share: teacher, assistants, training queries."""
    from mta4dpr.data.tokens import tokens_of_corpus
    from mta4dpr.distill.queries import training_queries
    from mta4dpr.distill.rounds import Bench
    from mta4dpr.distill.trainer import Texts

    bench, corpus = opened.bench, opened.corpus
    queries = training_queries(
        load_query_set(opened.source, bench.train),
        list(opened.eval_sets.values()),
        corpus,
        positive_rel=bench.distill.positive_rel,
        eval_fraction=bench.distill.eval_fraction,
        eval_max=bench.distill.eval_max,
    )
    for line in queries.counts:
        log.info(line)

    def texts(student: Encoder) -> Texts:
        passages = tokens_of_corpus(opened.cache, corpus, student.tokenizer, prefix=student.reading.passage_prefix)
        return Texts(student.query_tokens(queries.texts), passages)

    def bi_encoder(encoder: Encoder, root: Path) -> Scorer:
        from mta4dpr.distill.assistants import BiEncoderScorer
        from mta4dpr.retrieval.vectors import encode

        tokens = encoder.query_tokens(queries.texts)
        vectors = encode(root, encoder, tokens, longest=encoder.reading.query_length, how=opened.encoding)
        retriever = opened.dense(encoder, root)
        return BiEncoderScorer(encoder.label, retriever.index, vectors.array, key_of([encoder.key, asdict(opened.encoding), opened.device]))

    def scorer(label: str) -> Scorer:
        from mta4dpr.distill.assistants import Bm25Scorer, TableScorer

        if label == "bm25":
            return Bm25Scorer(opened.bm25(), queries.texts, key_of(["bm25", corpus.text_hash, bench.bm25.k1, bench.bm25.b]))
        spec = bench.models[label]
        if spec.scores:
            return TableScorer(label, Path(spec.scores), queries.ids, corpus, key_of(opened.model_identity(spec)))
        return bi_encoder(opened.load_encoder(label, spec), opened.cache)

    def freeze(label: str, model: Path, root: Path) -> Scorer:
        return bi_encoder(opened.load_encoder(label, ModelSpec(model=str(model))), root)

    return Bench(
        corpus=corpus,
        queries=queries,
        teacher=scorer(bench.teacher),
        assistants=[scorer(label) for label in bench.assistants],
        mining=opened.cache / "mining",
        freeze=freeze,
        texts=texts,
        options=bench.distill,
        seed=opened.request.seed,
    )


def _prepare_stage(system: System) -> str:
    return f"{'index' if system.kind == 'lexical' else 'encode'} {system.label}"


def _prepare_inputs(opened: Run, system: System) -> Any:
    return [opened.identity(system), opened.corpus.text_hash, opened.bench.dense.pyserini_index]


def prepare(opened: Run, system: System) -> None:
    """The system's index: Lucene's, or kept vectors and, if wanted, a FAISS index in Pyserini's layout."""
    stage, inputs = _prepare_stage(system), _prepare_inputs(opened, system)
    if opened.ledger.is_done(stage, inputs):
        return
    with opened.ledger.stage(stage, inputs) as outputs:
        retriever = opened.retriever(system)
        if system.kind != "lexical" and opened.bench.dense.pyserini_index:
            from mta4dpr.retrieval.dense import DenseRetriever, write_faiss_index

            assert isinstance(retriever, DenseRetriever)
            folder = opened.folder / "indexes" / file_name(system.label)
            write_faiss_index(folder, retriever.vectors, opened.corpus)
            outputs += [folder / "index", folder / "docid"]


def _search_stage(system: System, eval_set: EvalSet) -> str:
    return f"search {system.label} {eval_set.id}"


def _search_inputs(opened: Run, system: System, eval_set: EvalSet) -> Any:
    full = opened.eval_sets[eval_set.id]
    return [
        opened.identity(system),
        opened.corpus.text_hash,
        key_of(full.texts),
        list(opened.limited(full).texts),
        opened.bench.depth,
        opened.exclude_self,
    ]


def search(opened: Run, system: System, eval_set: EvalSet) -> None:
    """The run file of one system on one eval set, and what its search costs."""
    full = opened.eval_sets[eval_set.id]
    wanted = opened.limited(full)
    path = opened.folder / "runs" / file_name(eval_set.id) / f"{file_name(system.label)}.trec"
    stage, inputs = _search_stage(system, eval_set), _search_inputs(opened, system, eval_set)
    if opened.ledger.is_done(stage, inputs):
        return
    from mta4dpr.evaluation.trecrun import RunWriter

    with opened.ledger.stage(stage, inputs) as outputs:
        retriever = opened.retriever(system)
        excluded = 0
        with RunWriter(path, tag=file_name(system.label)) as writer:
            query_ids = iter(wanted.texts)
            for hits in _all_hits(retriever, list(full.texts.values()), len(wanted.texts), opened.bench.depth + opened.exclude_self):
                for passages, scores in zip(hits.passages, hits.scores, strict=True):
                    query_id = next(query_ids)
                    ids, kept = opened.corpus.ids(passages[passages >= 0]), scores[passages >= 0]
                    if opened.exclude_self and query_id in ids:
                        place = ids.index(query_id)
                        del ids[place]
                        kept = np.delete(kept, place)
                        excluded += 1
                    writer.write(query_id, ids[: opened.bench.depth], kept[: opened.bench.depth])
        outputs.append(path)
    if excluded:
        log.info("%s, %s: %d passages with their query's own id are left out", system.label, eval_set.id, excluded)
    _note_efficiency(opened, system, retriever, list(wanted.texts.values()))


def _all_hits(retriever: Any, texts: list[str], first: int, k: int) -> Iterator[Hits]:
    """Hits of the `first` texts. Vectors are made of all texts, so that a score does not depend on --limit."""
    from mta4dpr.retrieval.dense import DenseRetriever

    if isinstance(retriever, DenseRetriever):
        cut = retriever.encoder.query_tokens(texts).truncated(retriever.encoder.reading.query_length)
        if cut:
            log.info("%s: %d of %d queries are cut to %d tokens", retriever.label, cut, len(texts), retriever.encoder.reading.query_length)
        yield from retriever.index.search(retriever.encoder.encode_queries(texts)[:first], k)
    else:
        yield from retriever.search(texts[:first], k)


def _note_efficiency(opened: Run, system: System, retriever: Any, texts: list[str]) -> None:
    """What the machine decides, for efficiency.json and for the system's entry in the manifest."""
    from mta4dpr.evaluation.efficiency import time_calls
    from mta4dpr.retrieval.dense import DenseRetriever
    from mta4dpr.retrieval.vectors import passages_per_second

    about = manifest_entry(system, retriever)
    manifest = read_json(opened.folder / "manifest.json")
    manifest["systems"][system.label] = about
    write_json(opened.folder / "manifest.json", manifest)

    sample = texts[:: max(1, len(texts) // LATENCY_QUERIES)][:LATENCY_QUERIES]
    call: Callable[[str], Any] = lambda text: list(retriever.search([text], opened.bench.depth))  # noqa: E731
    timing = time_calls(call, sample, warmup=min(LATENCY_WARMUP, len(sample)))
    dense = isinstance(retriever, DenseRetriever)
    entry = {
        "index_bytes": retriever.vectors.bytes if dense else sum(p.stat().st_size for p in retriever.folder.iterdir()),
        "encode_passages_per_second": passages_per_second(retriever.vectors.folder) if dense else None,
        "query_ms": {"p50": timing.p50_ms, "p95": timing.p95_ms, "p99": timing.p99_ms},
        "training_seconds": _training_seconds(opened, system),
    }
    path = opened.folder / "efficiency.json"
    document = read_json(path) if path.exists() else {"systems": {}}
    document["systems"][system.label] = entry
    write_json(path, document)


def manifest_entry(system: System, retriever: Any) -> dict[str, Any]:
    encoder = getattr(retriever, "encoder", None)
    return {
        "kind": system.kind,
        "strategy": system.strategy,
        "model": system.spec.model if system.spec else None,
        "parameters": encoder.parameters if encoder else None,
        "dimensions": encoder.dimensions if encoder else None,
        "weights": encoder.weights_hash if encoder else None,
    }


def _training_seconds(opened: Run, system: System) -> float | None:
    return float(opened.ledger.stages[f"train {system.label}"]["seconds"]) if system.strategy else None


def _run_files(opened: Run) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """(system, eval set) -> run file and its record, of every search that this folder's ledger knows."""
    return {
        (stage.split(" ", 2)[1], stage.split(" ", 2)[2]): next(iter(record["outputs"].items()))
        for stage, record in opened.ledger.stages.items()
        if stage.startswith("search ") and record["status"] == "done"
    }


def _evaluate_inputs(opened: Run, manifest: dict[str, Any]) -> Any:
    hashes = {f"{system} {eval_set}": about["sha256"] for (system, eval_set), (_, about) in _run_files(opened).items()}
    return [hashes, *(manifest[key] for key in ("eval_sets", "contrasts", "systems", "notes", "title"))]


def evaluate(opened: Run, manifest: dict[str, Any]) -> None:
    """leaderboard.json and per_query/ from every run file that this folder's ledger knows, those of earlier commands included."""
    from mta4dpr.evaluation.leaderboard import leaderboard

    manifest["systems"] = read_json(opened.folder / "manifest.json")["systems"]
    files, inputs = _run_files(opened), _evaluate_inputs(opened, manifest)
    if opened.ledger.is_done("evaluate", inputs):
        return
    with opened.ledger.stage("evaluate", inputs) as outputs:
        evaluations: dict[str, dict[str, Evaluation]] = {}
        for eval_set_id, about in manifest["eval_sets"].items():
            query_set = opened.limited(opened.eval_sets.get(eval_set_id) or load_query_set(opened.source, eval_set_id))
            for system in manifest["systems"]:
                if (system, eval_set_id) in files:
                    found = evaluate_run(opened.folder / files[system, eval_set_id][0], query_set.qrels, about["measures"])
                    evaluations.setdefault(eval_set_id, {})[system] = found
                    place = opened.folder / "per_query" / file_name(eval_set_id) / f"{file_name(system)}.csv"
                    write_per_query(place, found)
                    outputs.append(place)
        document = leaderboard(manifest, evaluations, titled=opened.corpus.titled, teacher=opened.bench.teacher)
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


def evaluate_run(path: Path, qrels: dict[str, dict[str, int]], measures: Sequence[str]) -> Evaluation:
    """A run file of ours; one without a single hit is worth 0 everywhere."""
    from mta4dpr.evaluation.measures import Evaluation, evaluate, parse_measures
    from mta4dpr.evaluation.trecrun import read_run

    if path.stat().st_size == 0:
        zeros = {measure: np.zeros(len(qrels)) for measure in measures}
        return Evaluation(list(qrels), zeros, missing_queries=len(qrels), ignored_queries=0, excluded=0)
    return evaluate(read_run(path), qrels, parse_measures(measures))


def write_per_query(path: Path, found: Evaluation) -> None:
    """One line a query: its id and the unrounded value of each measure."""
    import csv

    with written_aside(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query_id", *found.values])
        for row, query_id in enumerate(found.query_ids):
            writer.writerow([query_id, *(repr(float(column[row])) for column in found.values.values())])


def report(opened: Run) -> None:
    """Tables, plots and page from what the stages left."""
    from mta4dpr.report import write_report

    inputs = sha256_of_file(opened.folder / "leaderboard.json")
    names = [f"leaderboard.{suffix}" for suffix in ("csv", "md", "tex", "html")]
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
                "device": opened.__dict__.get("device"),
            }
        )
        write_json(path, document)
        write_report(opened.folder)
        outputs.extend(opened.folder / name for name in names)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def search_once(request: Request, query: str, hits: int) -> dict[str, Any]:
    """The top passages of one system for one query, with text: to look at what a system does."""
    opened = open_run(request)
    if len(opened.systems) != 1:
        raise UserError(f"search takes one system, found {', '.join(s.label for s in opened.systems)}")
    if hits < 1:
        raise UserError(f"--hits takes a number of at least 1, found {hits}")
    system = opened.systems[0]
    found = next(iter(opened.retriever(system).search([query], hits)))
    shown = []
    for rank, (number, score) in enumerate(zip(found.passages[0], found.scores[0], strict=True), start=1):
        if number >= 0:
            passage = opened.corpus.passage(int(number))
            shown.append({"rank": rank, "score": float(score), "id": passage.id, "title": passage.title, "text": passage.text})
    return {"query": query, "system": system.label, "hits": shown}
