"""An experiment made ready again from the manifest.json that it left: the same settings, systems, queries and models, or an error.

Names are not looked up in benchmarks/ or in a YAML, which may have changed since; the manifest says what they meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mta4dpr.config import plugins
from mta4dpr.config.benchmark import Benchmark, EvalSet, ModelSpec, Recipe, parse_benchmark
from mta4dpr.config.options import Bm25Settings, DenseSettings, Distill, Section
from mta4dpr.data.collection import open_source
from mta4dpr.distill.registry import is_strategy
from mta4dpr.engines.registry import code_of
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment.description import code_of_system, fingerprint
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.manifest import Manifest, engine_of
from mta4dpr.experiment.request import Request
from mta4dpr.experiment.systems import System
from mta4dpr.machine import environment
from mta4dpr.machine.files import key_of

NEEDED = ("settings", "systems", "eval_sets", "recipes", "run_files", "request", "own_notes", "protected", "paths")


def recover(
    manifest: Manifest, path: Path, request: Request, folder: Path, *, systems: Mapping[str, list[str]], repeats: str = ""
) -> list[Experiment]:
    """Experiments over `folder` that make those systems on those of their eval sets, {system: [eval set]}.

    One for all systems with the same eval sets. `path` is where the manifest is, `repeats` its SHA-256 where it is to be repeated.

    Of the request only what a manifest does not decide is used: device, offline, wait, redo, tensorboard.
    """
    lacking = [key for key in NEEDED if key not in manifest]
    if lacking:
        raise UserError(
            f"{path} was written by an earlier version, which did not note {', '.join(lacking)}; "
            f"repeat it by its command: mta4dpr-bench {' '.join(manifest['runs'][-1]['command']) if manifest.get('runs') else 'run ...'}"
        )
    if request.offline:
        environment.refuse_network()
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, names in systems.items():
        groups.setdefault(tuple(names), []).append(label)
    bench = _benchmark(manifest, path)
    source = open_source(bench.corpus, name=bench.name, max_passages=bench.max_passages)
    settings, asked = manifest["settings"], manifest["request"]
    experiments = []
    for eval_sets, labels in groups.items():
        chosen = [eval_set for eval_set in bench.eval_sets if eval_set.id in eval_sets]
        wanted = replace(
            request,
            benchmark=asked["benchmark"],
            settings=tuple(asked["set"]),
            systems=tuple(labels),
            eval_sets=eval_sets,
            limit=settings["limit"],
            seed=settings["seed"],
            output=folder,
        )
        made = [_system(label, manifest, path) for label in labels]
        narrowed = bench.model_copy(update={"eval_sets": chosen})
        protected = tuple(manifest["protected"])
        experiments.append(Experiment(wanted, narrowed, source, tuple(made), Folder(folder), protected, repeats=repeats))
    return experiments


def _benchmark(manifest: Manifest, path: Path) -> Benchmark:
    settings = {key: value for key, value in manifest["settings"].items() if key not in ("limit", "seed", "text_hash")}
    for section, model in (("bm25", Bm25Settings), ("dense", DenseSettings), ("distill", Distill)):
        settings[section] = _given(model, settings[section])
    folder = manifest["source"].get("folder")
    return parse_benchmark(
        {
            **settings,
            "title": manifest["title"],
            "notes": manifest["own_notes"],
            "corpus": _place(settings["corpus"], folder) if folder else settings["corpus"],
            "models": {label: _relocated(spec, manifest["paths"]) for label, spec in settings["models"].items()},
            "variants": manifest["variants"],
            "strategies": manifest.get("strategies", {}),
            "engines": manifest.get("engines", {}),
            "contrasts": manifest["contrasts"],
            "systems": list(manifest["systems"]) or ["bm25"],
            "eval_sets": [
                {key: value for key, value in about.items() if key in EvalSet.model_fields}
                for about in manifest["eval_sets"].values()
                if "suite" not in about
            ],
        },
        str(path),
    )


def _given(section: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the defaults: options that have no effect may be there only as such."""
    defaults = section().model_dump(mode="json")
    return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}


def _relocated(spec: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    return {**spec, **{key: _place(spec[key], paths[spec[key]]) for key in ("model", "scores") if spec[key] in paths}}


def _place(typed: str, found: str) -> str:
    """A path as it was typed where it still means the same, else where it was found then."""
    return typed if str(Path(typed).resolve()) == found else found


def _system(label: str, manifest: Manifest, path: Path) -> System:
    made = manifest["recipes"].get(label)
    if made is None:
        raise UserError(f"{path} does not say how {label} is made: an earlier version ran it; repeat the run by its command")
    model = ModelSpec.model_validate(_relocated(made["spec"], manifest["paths"])) if made["spec"] else None
    recipe, engine = made["recipe"], engine_of(manifest, label)
    if not recipe:
        return System(label, made["kind"], engine, model, options=made.get("options", {}))
    if not is_strategy(recipe["strategy"]):
        raise UserError(f"{path}: {label} was trained by {recipe['strategy']!r}, a strategy that this version does not have")
    distill = Distill.model_validate(_given(Distill, recipe["distill"]))
    roles = (recipe["teacher"], tuple(recipe["assistants"]), recipe["student"])
    return System(label, made["kind"], engine, model, recipe=Recipe(recipe["strategy"], *roles, distill))


def _is_from_outside(system: System) -> bool:
    recipe = system.recipe
    if recipe is None:
        return plugins.is_outside(system.engine, plugins.ENGINES)
    return plugins.is_outside(recipe.strategy, plugins.STRATEGIES) or plugins.is_outside(recipe.distill.select, plugins.CRITERIA)


def check_unchanged(experiments: Sequence[Experiment], manifest: Manifest, path: Path, *, training: bool) -> None:
    """Corpus, models, queries and judgements must be those of then; UserError that names all that are not.

    Without `training` students are taken as they are, and what they were trained with may be gone.
    """
    problems: list[UserError] = []

    def same(what: str, then: str, now: Callable[[], str], hint: str) -> None:
        try:
            found = now()
        except UserError as error:
            problems.append(type(error)(f"{what}: {error}"))
        else:
            if found != then:
                problems.append(UserError(f"{what} is not what it was: hash {then[:16]} then, {found[:16]} now; {hint}"))

    first = experiments[0]
    systems = [system for experiment in experiments for system in experiment.systems if training or not system.recipe]
    specs = {**first.bench.models, **{s.label: s.model for s in systems if s.model and not s.recipe}}
    hashes = [item for system in systems for item in manifest["recipes"][system.label]["models"].items()]
    for name, then in dict.fromkeys(hashes):
        spec = specs[name]
        place = spec.model or spec.scores or "random weights"
        now: Any = lambda spec=spec: key_of(first.place.model_identity(spec))  # noqa: E731
        same(f"model {name!r} ({place})", then, now, "bring back its files")
    corpus = first.bench.corpus
    python = f" (docstrings of Python {manifest['versions']['python']} then)" if corpus == "docstrings" else ""
    same(f"corpus {corpus}{python}", manifest["settings"]["text_hash"], lambda: first.corpus.text_hash, "bring back the same passages")
    if not problems:
        for experiment in experiments:
            for name in (eval_set.id for eval_set in experiment.bench.eval_sets):
                found: Any = lambda experiment=experiment, name=name: fingerprint(experiment.eval_sets[name])  # noqa: E731
                same(f"eval set {name}", manifest["eval_sets"][name]["hash"], found, "bring back its queries and judgements")
        for system in systems:
            code = manifest["recipes"][system.label].get("code")
            if code and _is_from_outside(system):
                now = lambda system=system: code_of_system(system)  # noqa: E731
                same(f"code of {system.label}", code, now, "bring back the file as it was")
            for role, code in manifest["recipes"][system.label].get("engines", {}).items():
                now = lambda role=role: code_of(first.bench.engines[role].use)  # noqa: E731
                same(f"code of {role}", code, now, "bring back the file as it was")
        for system in (system for system in systems if system.recipe):
            then = manifest["recipes"][system.label]["training_data"]
            same(f"training data of {system.label} ({first.bench.train})", then, lambda: first.training_data, "bring back its queries")
    if problems:
        kind = EnvironmentLack if all(isinstance(problem, EnvironmentLack) for problem in problems) else UserError
        raise kind("\n  ".join([f"{path} cannot be had as it was:", *dict.fromkeys(map(str, problems))]))
