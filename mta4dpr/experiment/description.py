"""What the manifest says of an experiment: settings, systems, hashes of what goes in, circumstances, commands."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mta4dpr.config import plugins
from mta4dpr.config.benchmark import Benchmark, EvalSet, Recipe
from mta4dpr.config.yaml_files import parse_settings
from mta4dpr.data.collection import IrDataset, QuerySet
from mta4dpr.distill import registry
from mta4dpr.engines.registry import code_of as engine_code
from mta4dpr.experiment import suite
from mta4dpr.experiment.checks import idle_settings
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.manifest import Manifest, RunFile
from mta4dpr.experiment.systems import System, differences
from mta4dpr.machine import environment
from mta4dpr.machine.files import key_of, sha256_of_file

# of a benchmark: what may change in a folder, since rows are told apart by what goes into their stages
NOT_SETTINGS = {"systems", "variants", "strategies", "engines", "eval_sets", "suites", "contrasts", "title", "notes"}


def describe(experiment: Experiment) -> Manifest:
    """Who runs what, where, with which versions: what `ManifestWriter.begin` takes."""
    bench, request, partial = experiment.bench, experiment.request, _partial_corpus(experiment)
    settings = bench.model_dump(mode="json", exclude=NOT_SETTINGS)
    models = [*bench.models.values(), *(system.model for system in experiment.systems if system.model)]
    places = [place for model in models for place in (model.model, model.scores) if place and Path(place).exists()]
    eval_sets = {
        one.id: {
            "expected": [],
            **one.model_dump(mode="json", exclude={"expected"} if partial else None),
            "hash": fingerprint(experiment.eval_sets[one.id]),
        }
        for one in bench.eval_sets
    }
    return {
        "benchmark": bench.name,
        "title": bench.title,
        "notes": [*bench.notes, *experiment.source.notes, *partial],
        "contrasts": [list(pair) for pair in bench.contrasts],
        "settings": {**settings, "limit": request.limit, "seed": request.seed, "text_hash": experiment.corpus.text_hash},
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        "git_commit": environment.git_commit(),
        "threads": experiment.threads,
        "source": experiment.source.identity,
        "passages": len(experiment.corpus),
        "request": {"benchmark": request.benchmark, "set": list(request.settings)},
        "own_notes": bench.notes,
        "variants": {label: variant.model_dump(mode="json") for label, variant in bench.variants.items()},
        "strategies": bench.strategies,
        "engines": {label: engine.model_dump(mode="json") for label, engine in bench.engines.items()},
        "protected": list(experiment.every_eval_set),
        "repeats": experiment.repeats or None,
        "eval_sets": eval_sets | {name: suite.about(name, one) for name, one in bench.suites.items()},
        "recipes": {system.label: recipe_entry(experiment, system) for system in experiment.systems},
        "paths": {place: str(Path(place).resolve()) for place in places},  # to be found from another folder too
    }


def fingerprint(query_set: QuerySet) -> str:
    """A hash of queries, judgements and answers."""
    return key_of([query_set.texts, query_set.qrels, query_set.answers])


def system_entry(experiment: Experiment, system: System, found: Mapping[str, Any]) -> dict[str, Any]:
    """What the leaderboard says of a system; `found` is what its engine says of itself."""
    recipe = system.recipe
    return {
        "kind": system.kind,
        "strategy": plugins.name_of(recipe.strategy) if recipe else None,
        "regime": recipe.distill.regime if recipe else None,
        "steps": recipe.distill.steps if recipe else None,
        "differs": differences(recipe, experiment.bench) if recipe else None,
        "model": system.model.model if system.model else None,
        **found,
    }


def recipe_entry(experiment: Experiment, system: System) -> dict[str, Any]:
    """How a system is made, whatever names meant when it was: its model, or strategy, roles and options; and hashes of what goes in."""
    recipe, models = system.recipe, experiment.bench.models
    used = {system.label: system.model} if system.model and not recipe else {}
    if recipe:
        used = {role: models[role] for role in (recipe.teacher, *recipe.assistants, recipe.student) if role in models}
    return {
        "kind": system.kind,
        "engine": system.engine,
        "options": system.options,
        "code": code_of_system(system),
        "terms": dict(registry.strategy_named(recipe.strategy).terms) if recipe else {},
        "spec": system.model.model_dump(mode="json") if system.model else None,
        "recipe": {**asdict(recipe), "distill": recipe.distill.model_dump(mode="json")} if recipe else None,
        "training_data": experiment.training_data if recipe else None,
        "models": {label: key_of(experiment.place.model_identity(spec)) for label, spec in used.items()},
        "engines": engines_of_roles(experiment.bench, recipe) if recipe else {},
    }


def code_of_system(system: System) -> str:
    """A hash of the code that makes a system what it is, where that is not our release alone: its strategy's, or its own engine's."""
    recipe = system.recipe
    return registry.code_of(recipe.strategy, recipe.distill.select) if recipe else engine_code(system.engine)


def engines_of_roles(bench: Benchmark, recipe: Recipe) -> dict[str, str]:
    """The code of teacher and assistants that are engines of one's own, a hash by label."""
    return {role: engine_code(bench.engines[role].use) for role in (recipe.teacher, *recipe.assistants) if role in bench.engines}


def circumstances(experiment: Experiment) -> dict[str, Any]:
    """What beside settings and data may change the last digits of a score."""
    return {
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        "git_commit": environment.git_commit(),
        "threads": experiment.threads,
        "processes": environment.process_count(),
    }


def command_for(experiment: Experiment, system: System, eval_set: EvalSet) -> str:
    """The shortest command that makes this one run file: the same text for the same bytes, whatever else a command asked for."""
    request, model, name, bench = experiment.request, system.model, system.label, experiment.bench
    code = next(filter(plugins.is_reference, (system.recipe.strategy if system.recipe else "", system.engine)), "")
    if experiment.suite:  # its students are models that the run around it has trained
        name = next((typed for typed in request.systems if typed.partition("=")[0] == name), name)
    elif code and name not in (*bench.strategies, *bench.variants, *bench.engines):
        name = f"{name}={code}"
    elif model and not system.recipe and model not in experiment.bench.models.values() and model.model != name:
        name = f"{name}={model.model}"
    words = ["mta4dpr-bench", "run", request.benchmark, "--systems", name, "--eval-sets", experiment.suite or eval_set.id]
    words += ["--limit", str(request.limit)] if request.limit else []
    for setting in request.settings:
        distill = parse_settings([setting]).get("distill", {})
        if not distill or (system.recipe and not idle_settings(experiment.bench, [system], distill)):
            words += ["--set", setting]
    return f"OMP_NUM_THREADS={experiment.threads} {shlex.join([*words, '--seed', str(request.seed)])}"


def command_note(experiment: Experiment) -> dict[str, Any]:
    """What the manifest says of the present command."""
    return {"command": sys.argv[1:], **circumstances(experiment)}


def run_file_entry(experiment: Experiment, system: System, eval_set: EvalSet) -> RunFile:
    """Which command made a run file, on which device, and its SHA-256."""
    device = experiment.place.device_in_use
    return {
        "system": system.label,
        "eval_set": eval_set.id,
        "sha256": sha256_of_file(experiment.folder.run_file(system.label, eval_set.id)),
        "device": device,
        "gpu": environment.gpu(device),
        "made_by": len(experiment.manifest.document["runs"]) - 1,
        "command": command_for(experiment, system, eval_set),
    }


def absent_passages(experiment: Experiment, query_set: QuerySet) -> list[str]:
    """Says how many judgements name passages that the corpus lacks: they can never be found."""
    judged = [passage_id for of_query in query_set.qrels.values() for passage_id in of_query]
    absent = int((experiment.corpus.numbers(judged) < 0).sum())
    return [f"{query_set.id}: {absent:,} judgements name passages that are not in the corpus"] if absent else []


def _partial_corpus(experiment: Experiment) -> list[str]:
    """A note when a published collection is not here as a whole: published figures are then nothing to compare with."""
    whole, here = experiment.source.expected_passages(), len(experiment.corpus)
    if whole in (None, here) or not isinstance(experiment.source, IrDataset):
        return []
    return [f"This corpus is not the whole collection: {here:,} passages of {whole:,}. No figure can be compared with published ones."]
