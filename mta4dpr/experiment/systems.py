"""The systems that a request names: rows of the leaderboard, each an engine with its options, or a student that is trained first.

Every name is checked against the registries here; all mistakes come in one error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mta4dpr.config import plugins, yaml_files
from mta4dpr.config.benchmark import Benchmark, ModelSpec, Recipe, Variant
from mta4dpr.distill.registry import is_strategy, strategy_named
from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.engines.registry import by_name, engine_named, is_engine
from mta4dpr.errors import UserError, nearest
from mta4dpr.evaluation.leaderboard import place_of_kind
from mta4dpr.machine.files import file_name

STUDENT_INIT = "student-init"


@dataclass(frozen=True)
class System:
    """A row of the leaderboard: an engine with its options; a student's engine searches with the model that its recipe has trained."""

    label: str
    kind: str  # its word in the leaderboard: teacher, assistant, student, else the engine's own (lexical, encoder)
    engine: str  # a name in ENGINES
    model: ModelSpec | None = None  # of an engine that has one; of a student, the model that it starts from
    options: dict[str, Any] = field(default_factory=dict)  # of an engine from outside the package
    recipe: Recipe | None = None  # how a student is trained

    def as_trained(self, model: Path) -> System:
        """The student as the encoder that it has become, whose folder that is."""
        return replace(self, kind="encoder", model=ModelSpec(model=str(model.resolve())), recipe=None)


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
    return sorted(found, key=lambda system: place_of_kind(system.kind))


def variant_of(bench: Benchmark, name: str) -> Variant | None:
    """What a student's name stands for: a variant of the benchmark, a strategy (ours or not), or an ablation of mta4dpr."""
    if name in bench.variants:
        variant = bench.variants[name]
        overrides = strategy_named(variant.strategy).overrides if is_strategy(variant.strategy) else {}
        return variant.model_copy(update={"distill": {**overrides, **variant.distill}})
    strategy = bench.strategies.get(name, name)
    if is_strategy(strategy):
        return Variant(strategy=plugins.resolved(strategy, Path()), distill=strategy_named(strategy).overrides)
    return Variant(strategy="mta4dpr", distill=ABLATIONS[name][1]) if name in ABLATIONS else None


def _recipe(bench: Benchmark, name: str, variant: Variant) -> Recipe:
    stages = is_strategy(variant.strategy) and Requirement.STAGES in strategy_named(variant.strategy).requires
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
    roles = {"teacher": bench.teacher, "assistants": tuple(bench.assistants), "student": bench.student}
    found = {role: getattr(recipe, role) for role, usual in roles.items() if getattr(recipe, role) != usual}
    usual = {**bench.distill.model_dump(), **strategy_named(recipe.strategy).overrides}
    return found | {name: value for name, value in recipe.distill.model_dump().items() if value != usual[name]}


def student_names(bench: Benchmark) -> list[str]:
    """What trains a student in that benchmark, by name."""
    return [*STRATEGIES, *ABLATIONS, *bench.variants, *bench.strategies]


def _system(bench: Benchmark, name: str) -> System:
    if name in by_name() or name in bench.models:
        system = system_of(bench, name)
        engine = engine_named(system.engine)
        if not engine.ranks:
            raise UserError(f"{name!r} is {engine.noun}, which cannot search a corpus; it can be a teacher or an assistant")
        role = "teacher" if name == bench.teacher else "assistant" if name in bench.assistants else system.kind
        return replace(system, kind=role) if system.model else system
    if name in bench.engines:
        return system_of(bench, name)
    label, equals, path = name.partition("=")
    outside = plugins.is_outside(path if equals else name, plugins.STRATEGIES, plugins.ENGINES)
    variant = None if outside else variant_of(bench, name)
    if name == STUDENT_INIT or variant:
        return _student(bench, name, variant)
    if outside and not equals:
        label, path = plugins.name_of(name), name
    elif not equals:
        label, path = (Path(name).resolve().name, name) if Path(name).is_dir() else (name, name)
    elif not label or not path:
        raise UserError(f"expected LABEL=PATH, found {name!r}")
    taken = [*by_name(), STUDENT_INIT, *student_names(bench), *bench.models, *bench.engines]
    if label in taken or len(label.split()) != 1 or file_name(label).startswith("."):
        raise UserError(
            f"a model cannot be called {label!r} here; name it as LABEL=PATH, no white space, no leading dot, none of {', '.join(taken)}"
        )
    return _from_outside(bench, label, path) if outside else _published_or_local(bench, name, label, path, taken)


def _from_outside(bench: Benchmark, label: str, reference: str) -> System:
    """A student by a strategy of one's own, or an engine of one's own: PATH.py:NAME, or a name that an installed package offers."""
    reference = plugins.resolved(reference, Path())
    if is_engine(reference):
        return System(label, engine_named(reference).kind, reference)
    variant = Variant(strategy=reference, distill=strategy_named(reference).overrides)
    return _student(bench, label, variant)


def _published_or_local(bench: Benchmark, typed: str, label: str, path: str, taken: Sequence[str]) -> System:
    """A bi-encoder that no benchmark names: a checkpoint's name, a hub id, or a folder."""
    from mta4dpr.models.files import find_model
    from mta4dpr.models.registry import short_names

    if path not in short_names() and "/" not in path:
        try:
            find_model(path, offline=True)
        except UserError as error:
            valid = [*taken, *short_names()]
            raise UserError(
                f"there is no system {typed!r}{nearest(typed, valid)}; expected bm25, one of the benchmark's "
                f"({', '.join(bench.systems)}), a name from `mta4dpr-bench list systems`, a model's folder, or a hub id with a slash"
            ) from error
    model = ModelSpec(model=path)
    return System(label, engine_named(model.engine).kind, model.engine, model)


def _student(bench: Benchmark, label: str, variant: Variant | None) -> System:
    """A student that is trained as the variant says; without one, the student before training."""
    if not bench.student:
        raise UserError(
            f"{label!r} trains a student, but {bench.name} names no teacher, student and train; run a benchmark that does "
            f"({', '.join(yaml_files.benchmark_names())}), or give a YAML with them"
        )
    recipe = _recipe(bench, label, variant) if variant else None
    student = system_of(bench, recipe.student if recipe else bench.student)
    return replace(student, label=label, kind="student", recipe=recipe)


def system_of(bench: Benchmark, label: str) -> System:
    """What a label stands for as a system, a teacher or an assistant: an engine by its name, a model, or an engine of one's own."""
    if label in by_name():
        return System(label, engine_named(label).kind, label)
    if label in bench.engines:
        own = bench.engines[label]
        return System(label, engine_named(own.use).kind, own.use, options=own.options)
    model = bench.models[label]
    return System(label, engine_named(model.engine).kind, model.engine, model)


def trainable(bench: Benchmark, labels: Sequence[str]) -> list[str]:
    """Those of the labels that are bi-encoders, which a chain of students can be made of."""
    return [label for label in labels if engine_named(system_of(bench, label).engine).encodes]
