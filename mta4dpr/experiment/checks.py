"""Whether what a user asked for fits together: measures, contrasts, options, what each strategy needs. Starts nothing.

Each function names all mistakes that it finds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence

from mta4dpr.config.benchmark import Benchmark, EvalSet, Recipe, Variant
from mta4dpr.config.options import LATER_ROUNDS
from mta4dpr.distill.registry import criterion_named, is_strategy, strategy_named, takers_of, takes
from mta4dpr.distill.selection import Basis
from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.engines.registry import by_name, engine_named
from mta4dpr.errors import EnvironmentLack, UserError, nearest
from mta4dpr.experiment.request import REDO, Request
from mta4dpr.experiment.systems import STUDENT_INIT, System, student_names, system_of, trainable, variant_of
from mta4dpr.machine.files import file_name


def check_request(request: Request) -> None:
    """Options of the command line that are wrong by themselves. UserError, or EnvironmentLack for a package that is not installed."""
    if request.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise EnvironmentLack("--tensorboard needs the package tensorboard, found none; `uv sync --extra tensorboard` installs it")
    if not 0 <= request.seed < 2**31:
        raise UserError(f"--seed takes a whole number from 0 to 2147483647, found {request.seed}")
    if request.limit is not None and request.limit < 1:
        raise UserError(f"--limit takes a number of queries of at least 1, found {request.limit}")
    if request.redo is not None and request.redo not in REDO:
        raise UserError(f"--redo takes one of {', '.join(REDO)}, found {request.redo!r}{nearest(request.redo, list(REDO))}")


def check_names(bench: Benchmark, systems: Sequence[System]) -> None:
    """Measures, contrasts and fused assistants against what there is; one error for all mistakes."""
    from mta4dpr.evaluation.measures import parse_measures

    own = (STUDENT_INIT, *STRATEGIES, *ABLATIONS)
    named: list[tuple[str, str]] = [*(("models", label) for label in bench.models), *(("variants", label) for label in bench.variants)]
    named += [(section, label) for section in ("strategies", "engines") for label in getattr(bench, section)]
    problems = [f"{what}: {label!r} is the name of a system already" for what, label in named if label in own]
    problems += [
        f"models: {label!r} has a +, which joins the names of fused assistants; choose another" for label in bench.models if "+" in label
    ]
    problems += [
        f"variants.{name}: there is no strategy {v.strategy!r}{nearest(v.strategy, list(STRATEGIES))}"
        for name, v in bench.variants.items()
        if not is_strategy(v.strategy)
    ]
    for name, v in bench.variants.items():
        if is_strategy(v.strategy):
            problems += [f"variants.{name}: {problem}" for problem in _not_taken(v)]
    for system in systems:
        if system.recipe:
            problems += [f"{system.label}: {problem}" for problem in _unfit(bench, system.recipe)]
    for eval_set in bench.eval_sets:
        for measure in eval_set.measures:
            try:
                parsed = parse_measures(measure)
                if len(parsed) != 1 or str(parsed[0]) != measure:
                    problems.append(f"{eval_set.id}: write the measure {measure!r} as {' '.join(map(str, parsed))!r}")
            except UserError as error:
                problems.append(f"{eval_set.id}: {error}")
    for name, suite in bench.suites.items():
        try:
            parsed = parse_measures(suite.measure)
            if len(parsed) != 1 or str(parsed[0]) != suite.measure:
                problems.append(f"suites.{name}: write the measure {suite.measure!r} as {' '.join(map(str, parsed))!r}")
        except UserError as error:
            problems.append(f"suites.{name}: {error}")
    known = [*by_name(), STUDENT_INIT, *student_names(bench), *bench.models, *bench.engines, *bench.systems]
    named = [("contrasts", label) for pair in bench.contrasts for label in pair]
    named += [(f"{eval_set.id}: expected", e.system) for eval_set in bench.eval_sets for e in eval_set.expected]
    problems += [f"{where}: there is no system {name!r}{nearest(name, known)}" for where, name in named if name not in known]
    for eval_set in bench.eval_sets:
        lacking = [e.measure for e in eval_set.expected if e.measure not in eval_set.measures]
        problems += [f"{eval_set.id}: expected names {measure!r}, which is not among its measures" for measure in lacking]
    files = [file_name(eval_set.id).casefold() for eval_set in bench.eval_sets]
    problems += [f"two eval sets would write the folder {name!r}" for name in sorted({n for n in files if files.count(n) > 1})]
    for measure in {bench.distill.compare_measure, *(s.recipe.distill.compare_measure for s in systems if s.recipe)}:
        try:
            if len(parse_measures(measure)) != 1:
                problems.append(f"distill.compare_measure takes one measure, found {measure!r}")
        except UserError as error:
            problems.append(f"distill.compare_measure: {error}")
    problems += _wrong_subsets(bench.distill.fused, bench.assistants)
    if problems:
        raise UserError("\n".join(problems))


def check_answered(eval_sets: Sequence[EvalSet]) -> None:
    """The measures of eval sets that are judged by answers."""
    from mta4dpr.evaluation.answered import check_measures

    problems = [problem for eval_set in eval_sets for problem in check_measures(eval_set.measures, eval_set.id)]
    if problems:
        raise UserError("\n".join(problems))


def _not_taken(variant: Variant) -> list[str]:
    """The options of a variant that its strategy does not take."""
    problems = []
    for option in variant.distill:
        takers = takers_of(option)
        if takers and not takes(variant.strategy, option):
            problems.append(f"{variant.strategy} does not take distill.{option}, an option of {', '.join(takers)}; leave it out")
        elif option == "rounds" and Requirement.STAGES in strategy_named(variant.strategy).requires:
            problems.append(f"{variant.strategy} makes a round for each teacher, so distill.rounds has no effect; leave it out")
    return problems


def _unfit(bench: Benchmark, recipe: Recipe) -> list[str]:
    """What a recipe's strategy needs and does not get."""
    if not is_strategy(recipe.strategy):
        return []
    strategy, teacher = strategy_named(recipe.strategy), engine_named(system_of(bench, recipe.teacher).engine)
    problems = []
    if Requirement.ASSISTANTS in strategy.requires and not recipe.assistants:
        problems.append(f"{recipe.strategy} needs assistants; the benchmark names none")
    if Requirement.CHAIN in strategy.requires and recipe.assistants and not trainable(bench, recipe.assistants):
        problems.append(f"{recipe.strategy} trains its assistants in a chain, but none of {', '.join(recipe.assistants)} is a bi-encoder")
    if Requirement.TEACHER_TRAINING in strategy.requires and not teacher.has_weights:
        problems.append(f"{recipe.strategy} trains its teacher too, and {recipe.teacher!r} has no weights; give a variant another teacher")
    if Requirement.LAYERS in strategy.requires and teacher.has_weights and not teacher.encodes:
        problems.append(f"{recipe.strategy} aligns layers of two bi-encoders, and {recipe.teacher!r} is {teacher.noun}")
    by_standing = criterion_named(recipe.distill.select).basis is Basis.STANDING
    if by_standing and "select" in strategy.options and Requirement.STANDING not in strategy.requires:
        problems.append(f"{recipe.strategy} selects by nearness to the teacher; always the best on D_eval is the strategy best_ta")
    if "ta" in strategy.options and recipe.distill.ta not in ("best", *recipe.assistants):
        near = nearest(recipe.distill.ta, list(recipe.assistants))
        problems.append(f"distill.ta is best or an assistant ({', '.join(recipe.assistants)}), found {recipe.distill.ta!r}{near}")
    if "fused" in strategy.options and recipe.assistants != tuple(bench.assistants):
        problems += _wrong_subsets(recipe.distill.fused, recipe.assistants)
    return problems


def _wrong_subsets(fused: str | list[list[str]], assistants: Sequence[str]) -> list[str]:
    return [
        f"distill.fused: {subset} must name two or more of the assistants ({', '.join(assistants)})"
        for subset in (fused if isinstance(fused, list) else [])
        if len(subset) < 2 or not set(subset) <= set(assistants)
    ]


def idle_settings(bench: Benchmark, systems: Sequence[System], given: Iterable[str]) -> list[str]:
    """A sentence for each of those distillation options that no requested student takes."""
    students = {system.label: system.recipe.strategy for system in systems if system.recipe}
    problems = []
    for option in given:
        free = [strategy for label, strategy in students.items() if not _fixes(bench, label, strategy, option)]
        takers = takers_of(option)
        if takers and not any(takes(strategy, option) for strategy in free):
            problems.append(
                f"distill.{option} is an option of {', '.join(takers)}; {_trained(students)}, so it has no effect; leave it out"
            )
        elif students and not free:
            problems.append(f"distill.{option} has no effect: {', '.join(students)} has a value of its own; leave it out")
        elif option in LATER_ROUNDS and students and all(system.recipe.distill.rounds == 1 for system in systems if system.recipe):
            problems.append(
                f"distill.{option} says how later rounds differ from the first; {_trained(students)}, in one round; leave it out"
            )
    return problems


def _fixes(bench: Benchmark, label: str, strategy: str, option: str) -> bool:
    """Whether that student has its own value of an option, whatever the benchmark's is."""
    variant = variant_of(bench, label) or variant_of(bench, strategy)
    if variant is None:
        return False
    own_rounds = Requirement.STAGES in strategy_named(variant.strategy).requires
    return option in variant.distill or (option == "rounds" and own_rounds)


def _trained(students: Iterable[str]) -> str:
    return f"asked for: {', '.join(students)}" if students else "no student is asked for"
