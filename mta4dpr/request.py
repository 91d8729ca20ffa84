"""What a user asked for, resolved to a benchmark, a source and systems before anything starts.

Every name is checked against the registries here; all mistakes come in one error. Nothing is written or downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr import benchmark
from mta4dpr.benchmark import Benchmark, ModelSpec
from mta4dpr.data.collection import BeirFolder, Source, open_source
from mta4dpr.errors import UserError, nearest
from mta4dpr.files import file_name

ADHOC_MEASURES = ["nDCG@10", "RR@10", "R@100", "R@1000"]
REDO = ("data", "index", "encode", "train", "search", "evaluate")
STUDENT_INIT = "student-init"


@dataclass(frozen=True)
class Request:
    """What a user asked for, as it was typed."""

    benchmark: str
    systems: tuple[str, ...] = ()
    eval_sets: tuple[str, ...] = ()
    limit: int | None = None
    settings: tuple[str, ...] = ()
    output: Path | None = None
    device: str | None = None
    seed: int = 0
    redo: str | None = None
    offline: bool = False
    wait: bool = False


@dataclass(frozen=True)
class System:
    """A row of the leaderboard: BM25, an encoder as it is, or a student that is trained here."""

    label: str
    kind: str  # lexical, teacher, assistant, encoder, student
    spec: ModelSpec | None = None  # encoders and student-init
    strategy: str | None = None  # trained students


def resolve_benchmark(request: Request) -> tuple[Benchmark, Source, list[str]]:
    """The benchmark of that name, YAML, ir_datasets id or BEIR folder, with the user's settings; its source; all its eval sets.

    --eval-sets chooses what is evaluated; training queries must not occur in any eval set, chosen or not.
    """
    name, settings = request.benchmark, benchmark.parse_settings(list(request.settings))
    bench = benchmark.load_benchmark(name, settings)
    if bench is None:
        bench, source = _adhoc(request, settings)
        return bench, source, [eval_set.id for eval_set in bench.eval_sets]
    every = [eval_set.id for eval_set in bench.eval_sets]
    source = open_source(bench.corpus, name=bench.name, max_passages=bench.max_passages)
    if request.eval_sets:
        known = {e.id: e for e in bench.eval_sets}
        unknown = [e for e in request.eval_sets if e not in known]
        if unknown:
            raise UserError(
                f"benchmark {bench.name} has no eval set {unknown[0]!r}{nearest(unknown[0], list(known))}; it has: {', '.join(known)}"
            )
        bench = bench.model_copy(update={"eval_sets": [known[e] for e in request.eval_sets]})
    return bench, source, every


def _adhoc(request: Request, settings: dict[str, Any]) -> tuple[Benchmark, Source]:
    """A benchmark made of an ir_datasets id or a folder in BEIR's format."""
    name = request.benchmark
    if not Path(name).is_dir() and "/" not in name and name not in _ir_dataset_ids():
        valid = [*benchmark.benchmark_names(), *_ir_dataset_ids()]
        raise UserError(
            f"there is no benchmark {name!r}{nearest(name, valid)}; expected one of {', '.join(benchmark.benchmark_names())}, a YAML file, "
            "an ir_datasets id with docs, queries and qrels, or a folder in BEIR's format"
        )
    source = open_source(name, name=name, max_passages=None)
    if isinstance(source, BeirFolder):
        eval_sets = [f"{source.name}/{split}" for split in _splits(source, request.eval_sets)]
        title = f"{source.name} (a folder in BEIR's format)"
    else:
        eval_sets = list(request.eval_sets) or [name]
        title = f"{name} (ir_datasets)"
    if "distill" in settings:
        raise UserError(f"distill options have no effect on {name!r}, where nothing is trained; give a benchmark's name or a YAML")
    document = benchmark.merge(
        {
            "name": file_name(source.name if isinstance(source, BeirFolder) else name),
            "title": title,
            "corpus": name,
            "exclude_self": source.exclude_self,
            "systems": ["bm25"],
            "eval_sets": [{"id": e, "measures": ADHOC_MEASURES} for e in eval_sets],
        },
        settings,
    )
    return benchmark.parse_benchmark(document, name), source


def _splits(source: BeirFolder, wanted: Sequence[str]) -> list[str]:
    splits = source.splits()
    if not splits:
        raise UserError(f"{source.folder} has no qrels/SPLIT.tsv; a run needs judgements")
    evaluable = [split for split in splits if split != "train"] or splits
    chosen = [name.removeprefix(f"{source.name}/") for name in wanted] or (["test"] if "test" in splits else evaluable)
    for split in chosen:
        if split not in splits:
            raise UserError(f"{source.folder} has no split {split!r}{nearest(split, splits)}; it has: {', '.join(splits)}")
        if split == "train":
            raise UserError(f"{source.folder}: the split train is never evaluated; it has: {', '.join(splits)}")
    if not wanted and "test" not in splits and len(evaluable) > 1:
        raise UserError(f"{source.folder} has no split test; choose with --eval-sets from: {', '.join(evaluable)}")
    return chosen


def _ir_dataset_ids() -> list[str]:
    import ir_datasets

    return [str(name) for name in ir_datasets.registry]


def resolve_systems(bench: Benchmark, wanted: Sequence[str]) -> list[System]:
    """The systems of those names (default: the benchmark's own), in the order bm25, encoders, students. One error for all mistakes."""
    from mta4dpr.distill.strategies import STRATEGIES

    found, problems = [], []
    for name in wanted or bench.systems:
        try:
            found.append(_system(bench, name, list(STRATEGIES)))
        except UserError as error:
            problems.append(str(error))
    names = [file_name(system.label).casefold() for system in found]
    problems += [
        f"two systems would write the files of {name!r}; name one as LABEL=PATH"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if problems:
        raise UserError("\n".join(problems))
    order = {"lexical": 0, "teacher": 1, "assistant": 2, "encoder": 3, "student": 4}
    return sorted(found, key=lambda system: order[system.kind])


def _system(bench: Benchmark, name: str, strategies: list[str]) -> System:
    from mta4dpr.models.zoo import CHECKPOINTS, find_model

    if name == "bm25":
        return System(name, "lexical")
    if name in bench.models:
        if bench.models[name].scores:
            raise UserError(f"{name!r} is a table of scores, which cannot search a corpus")
        kind = "teacher" if name == bench.teacher else "assistant" if name in bench.assistants else "encoder"
        return System(name, kind, bench.models[name])
    if name == STUDENT_INIT or name in strategies:
        if not bench.student:
            raise UserError(
                f"{name!r} trains a student, but {bench.name} names no teacher, student and train; run a benchmark that does "
                f"({', '.join(benchmark.benchmark_names())}), or give a YAML with them"
            )
        return System(name, "student", bench.models[bench.student], None if name == STUDENT_INIT else name)
    label, equals, path = name.partition("=")
    if not equals:
        label, path = (Path(name).resolve().name, name) if Path(name).is_dir() else (name, name)
    elif not label or not path:
        raise UserError(f"expected LABEL=PATH, found {name!r}")
    taken = ["bm25", STUDENT_INIT, *strategies, *bench.models]
    if label in taken or len(label.split()) != 1 or file_name(label).startswith("."):
        raise UserError(
            f"a model cannot be called {label!r} here; name it as LABEL=PATH, no white space, no leading dot, none of {', '.join(taken)}"
        )
    if path not in CHECKPOINTS and "/" not in path:
        try:
            find_model(path, offline=True)
        except UserError as error:
            valid = [*taken, *CHECKPOINTS]
            raise UserError(
                f"there is no system {name!r}{nearest(name, valid)}; expected bm25, one of the benchmark's "
                f"({', '.join(bench.systems)}), a name from `mta4dpr-bench list systems`, a model's folder, or a hub id with a slash"
            ) from error
    return System(label, "encoder", ModelSpec(model=path))


def check_names(bench: Benchmark, systems: Sequence[System]) -> None:
    """Measures, contrasts and fused assistants against what there is; one error for all mistakes."""
    from mta4dpr.distill.strategies import STRATEGIES
    from mta4dpr.evaluation.measures import parse_measures

    problems = [f"models: {label!r} is the name of a system already" for label in bench.models if label in (STUDENT_INIT, *STRATEGIES)]
    for eval_set in bench.eval_sets:
        for measure in eval_set.measures:
            try:
                parsed = parse_measures(measure)
                if len(parsed) != 1 or str(parsed[0]) != measure:
                    problems.append(f"{eval_set.id}: write the measure {measure!r} as {' '.join(map(str, parsed))!r}")
            except UserError as error:
                problems.append(f"{eval_set.id}: {error}")
    known = ["bm25", STUDENT_INIT, *STRATEGIES, *bench.models, *bench.systems]
    named = [("contrasts", name) for pair in bench.contrasts for name in pair]
    named += [(f"{eval_set.id}: expected", e.system) for eval_set in bench.eval_sets for e in eval_set.expected]
    problems += [f"{where}: there is no system {name!r}{nearest(name, known)}" for where, name in named if name not in known]
    for eval_set in bench.eval_sets:
        lacking = [e.measure for e in eval_set.expected if e.measure not in eval_set.measures]
        problems += [f"{eval_set.id}: expected names {measure!r}, which is not among its measures" for measure in lacking]
    files = [file_name(eval_set.id).casefold() for eval_set in bench.eval_sets]
    problems += [f"two eval sets would write the folder {name!r}" for name in sorted({n for n in files if files.count(n) > 1})]
    try:
        if len(parse_measures(bench.distill.compare_measure)) != 1:
            problems.append(f"distill.compare_measure takes one measure, found {bench.distill.compare_measure!r}")
    except UserError as error:
        problems.append(f"distill.compare_measure: {error}")
    if isinstance(bench.distill.fused, list):
        for subset in bench.distill.fused:
            unknown = [name for name in subset if name not in bench.assistants]
            if unknown or len(subset) < 2:
                problems.append(f"distill.fused: {subset} must name two or more of the assistants ({', '.join(bench.assistants)})")
    if any(system.strategy == "mta4dpr" for system in systems) and not bench.assistants:
        problems.append("mta4dpr needs assistants; the benchmark names none")
    if problems:
        raise UserError("\n".join(problems))


def output_folder(request: Request, bench: Benchmark) -> Path:
    return request.output or Path("runs") / (bench.name + (f"-limit-{request.limit}" if request.limit else ""))


def check_request(request: Request) -> None:
    if not 0 <= request.seed < 2**31:
        raise UserError(f"--seed takes a whole number from 0 to 2147483647, found {request.seed}")
    if request.limit is not None and request.limit < 1:
        raise UserError(f"--limit takes a number of queries of at least 1, found {request.limit}")
    if request.redo is not None and request.redo not in REDO:
        raise UserError(f"--redo takes one of {', '.join(REDO)}, found {request.redo!r}{nearest(request.redo, list(REDO))}")
