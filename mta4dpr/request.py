"""What a user asked for, resolved to a benchmark, a source and systems before anything starts.

Every name is checked against the registries here; all mistakes come in one error. Nothing is written or downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr import benchmark
from mta4dpr.benchmark import Benchmark, ModelSpec, Recipe, Variant
from mta4dpr.data.collection import BeirFolder, Source, judged_by_answers, open_source
from mta4dpr.errors import UserError, nearest
from mta4dpr.files import file_name

ADHOC_MEASURES = ["nDCG@10", "RR@10", "R@100", "R@1000"]
REDO = ("data", "index", "encode", "train", "search", "latency", "evaluate")
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
    tensorboard: bool = False


@dataclass(frozen=True)
class System:
    """A row of the leaderboard: BM25, an encoder as it is, or a student that is trained here."""

    label: str
    kind: str  # lexical, teacher, assistant, encoder, student
    spec: ModelSpec | None = None  # encoders and students before training
    recipe: Recipe | None = None  # trained students


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
        names = [*known, *bench.suites]
        unknown = [e for e in request.eval_sets if e not in names]
        if unknown:
            raise UserError(
                f"benchmark {bench.name} has no eval set {unknown[0]!r}{nearest(unknown[0], names)}; it has: {', '.join(names)}"
            )
        bench = bench.model_copy(update={"eval_sets": [known[e] for e in request.eval_sets if e in known]})
    bench = bench.model_copy(update={"suites": {name: suite for name, suite in bench.suites.items() if name in request.eval_sets}})
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
            "eval_sets": [{"id": e, "measures": usual_measures(source, e)} for e in eval_sets],
        },
        settings,
    )
    return benchmark.parse_benchmark(document, name), source


def usual_measures(source: Source, eval_set: str) -> list[str]:
    """What is reported of an eval set that no benchmark says it of."""
    from mta4dpr.evaluation.answered import USUAL

    return USUAL if judged_by_answers(source, eval_set) else ADHOC_MEASURES


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
    found, problems = [], []
    for name in wanted or bench.systems:
        try:
            found.append(_system(bench, name))
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


def variant_of(bench: Benchmark, name: str) -> Variant | None:
    """What a student's name stands for: a variant of the benchmark, a strategy, or an ablation of mta4dpr."""
    from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES

    if name in bench.variants:
        variant = bench.variants[name]
        overrides = STRATEGIES[variant.strategy].overrides if variant.strategy in STRATEGIES else {}
        return variant.model_copy(update={"distill": {**overrides, **variant.distill}})
    if name in STRATEGIES:
        return Variant(strategy=name, distill=STRATEGIES[name].overrides)
    return Variant(strategy="mta4dpr", distill=ABLATIONS[name][1]) if name in ABLATIONS else None


def _recipe(bench: Benchmark, name: str, variant: Variant) -> Recipe:
    from mta4dpr.distill.strategies import STRATEGIES
    from mta4dpr.distill.strategy import Requirement

    stages = variant.strategy in STRATEGIES and Requirement.STAGES in STRATEGIES[variant.strategy].requires
    if stages and variant.distill.get("regime", bench.distill.regime) == "static":
        raise UserError(f"{name}: {variant.strategy} changes its data from stage to stage, so it needs regime rounds")
    try:
        recipe = bench.recipe(variant)
        if stages:  # a round for each teacher
            options = {**variant.distill, "rounds": 1 + len(recipe.assistants)}
            recipe = bench.recipe(variant.model_copy(update={"distill": options}))
    except ValueError as error:
        raise UserError(f"{name} cannot be trained with these settings: {error}") from error
    return recipe


def differences(recipe: Recipe, bench: Benchmark) -> dict[str, Any]:
    """What a student's row should say: roles and options that are neither the benchmark's nor part of the strategy."""
    from mta4dpr.distill.strategies import STRATEGIES

    roles = {"teacher": bench.teacher, "assistants": tuple(bench.assistants), "student": bench.student}
    found = {role: getattr(recipe, role) for role, usual in roles.items() if getattr(recipe, role) != usual}
    usual = {**bench.distill.model_dump(), **STRATEGIES[recipe.strategy].overrides}
    return found | {name: value for name, value in recipe.distill.model_dump().items() if value != usual[name]}


def student_names(bench: Benchmark) -> list[str]:
    from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES

    return [*STRATEGIES, *ABLATIONS, *bench.variants]


def _system(bench: Benchmark, name: str) -> System:
    from mta4dpr.models.zoo import CHECKPOINTS, find_model

    if name == "bm25":
        return System(name, "lexical")
    if name in bench.models:
        if bench.models[name].scores or bench.models[name].kind == "cross-encoder":
            what = "a table of scores" if bench.models[name].scores else "a cross-encoder"
            raise UserError(f"{name!r} is {what}, which cannot search a corpus; it can be a teacher or an assistant")
        kind = "teacher" if name == bench.teacher else "assistant" if name in bench.assistants else "encoder"
        return System(name, kind, bench.models[name])
    variant = variant_of(bench, name)
    if name == STUDENT_INIT or variant:
        if not bench.student:
            raise UserError(
                f"{name!r} trains a student, but {bench.name} names no teacher, student and train; run a benchmark that does "
                f"({', '.join(benchmark.benchmark_names())}), or give a YAML with them"
            )
        if variant is None:
            return System(name, "student", bench.models[bench.student])
        recipe = _recipe(bench, name, variant)
        return System(name, "student", bench.models[recipe.student], recipe)
    label, equals, path = name.partition("=")
    if not equals:
        label, path = (Path(name).resolve().name, name) if Path(name).is_dir() else (name, name)
    elif not label or not path:
        raise UserError(f"expected LABEL=PATH, found {name!r}")
    taken = ["bm25", STUDENT_INIT, *student_names(bench), *bench.models]
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


def trainable(bench: Benchmark, labels: Sequence[str]) -> list[str]:
    """Those of the labels that are bi-encoders with weights."""
    specs = {label: bench.models[label] for label in labels if label in bench.models}
    return [label for label, spec in specs.items() if not spec.scores and spec.kind == "bi-encoder"]


def output_folder(request: Request, bench: Benchmark) -> Path:
    return request.output or Path("runs") / (bench.name + (f"-limit-{request.limit}" if request.limit else ""))
