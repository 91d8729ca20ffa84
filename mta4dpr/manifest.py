"""manifest.json of a run's folder: who ran what, where, with which versions, settings and data.

It names everything that another run needs to make the same files (`reopen` reads it): the settings, how each system
is made, hashes of corpus, queries, judgements and models, and of each run file its SHA-256 and the command that made it.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mta4dpr import environment, suite
from mta4dpr.benchmark import Benchmark, EvalSet, parse_settings, with_defaults
from mta4dpr.checks import idle_settings
from mta4dpr.data.collection import IrDataset, QuerySet
from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import UserError
from mta4dpr.files import file_name, key_of, read_json, sha256_of_file, write_json
from mta4dpr.identities import model_identity
from mta4dpr.ledger import refuse_other_settings
from mta4dpr.opened import Run
from mta4dpr.request import System, differences

log = logging.getLogger(__name__)


def manifest_of(opened: Run) -> dict[str, Any]:
    """Who runs what, where, with which versions; with what earlier commands left in the folder. Refuses other settings."""
    path = opened.folder / "manifest.json"
    document = opened.bench.model_dump(mode="json", exclude={"systems", "variants", "eval_sets", "suites", "contrasts", "title", "notes"})
    settings = {**document, "limit": opened.request.limit, "seed": opened.request.seed, "text_hash": opened.corpus.text_hash}
    manifest: dict[str, Any] = read_json(path) if path.exists() else {"systems": {}, "eval_sets": {}, "runs": []}
    if not path.exists() and opened.ledger.stages:  # without it nothing is known of earlier rows; all but training is done again
        opened.ledger.forget([stage for stage in opened.ledger.stages if not stage.startswith("train ")])
    partial = _partial_corpus(opened)
    if "settings" in manifest:
        refuse_other_settings(opened.folder, settings, with_defaults(manifest["settings"]))
    for section in ("run_files", "recipes", "paths"):
        manifest.setdefault(section, {})
    manifest.update(
        {
            "benchmark": opened.bench.name,
            "title": opened.bench.title,
            "notes": [*opened.bench.notes, *opened.source.notes, *partial],
            "contrasts": [list(pair) for pair in opened.bench.contrasts],
            "settings": settings,
            "versions": environment.versions(),
            "hardware": environment.hardware(),
            "git_commit": environment.git_commit(),
            "threads": opened.threads,
            "source": opened.source.identity,
            "passages": len(opened.corpus),
            "request": {"benchmark": opened.request.benchmark, "set": list(opened.request.settings)},
            "own_notes": opened.bench.notes,
            "variants": {label: variant.model_dump(mode="json") for label, variant in opened.bench.variants.items()},
            "protected": opened.every_eval_set,
            "repeats": opened.repeats or None,
        }
    )
    for eval_set in opened.bench.eval_sets:
        query_set = opened.eval_sets[eval_set.id]
        about = eval_set.model_dump(mode="json", exclude={"expected"} if partial else None)
        manifest["eval_sets"][eval_set.id] = {"expected": [], **about, "hash": fingerprint(query_set)}
    manifest["eval_sets"].update({name: suite.about(name, one) for name, one in opened.bench.suites.items()})
    manifest["notes"] += [found["note"] for found in manifest["eval_sets"].values() if "note" in found]
    for system in opened.systems:
        for other in manifest["systems"]:
            if other != system.label and file_name(other).casefold() == file_name(system.label).casefold():
                raise UserError(
                    f"{opened.folder} has a system {other!r}, whose files {system.label!r} would overwrite; name one as LABEL=PATH"
                )
    manifest["recipes"].update({system.label: recipe_entry(opened, system) for system in opened.systems})
    specs = [*opened.bench.models.values(), *(system.spec for system in opened.systems if system.spec)]
    places = [place for spec in specs for place in (spec.model, spec.scores) if place and Path(place).exists()]
    manifest["paths"].update({place: str(Path(place).resolve()) for place in places})  # to be found from another folder too
    return manifest


def fingerprint(query_set: QuerySet) -> str:
    """A hash of queries, judgements and answers."""
    return key_of([query_set.texts, query_set.qrels, query_set.answers])


def recipe_entry(opened: Run, system: System) -> dict[str, Any]:
    """How a system is made, whatever names meant when it was: its model, or strategy, roles and options; and hashes of what goes in."""
    recipe, models = system.recipe, opened.bench.models
    used = {system.label: system.spec} if system.spec and not recipe else {}
    if recipe:
        used = {role: models[role] for role in (recipe.teacher, *recipe.assistants, recipe.student) if role in models}
    return {
        "kind": system.kind,
        "spec": system.spec.model_dump(mode="json") if system.spec else None,
        "recipe": {**asdict(recipe), "distill": recipe.distill.model_dump(mode="json")} if recipe else None,
        "training_data": opened.training_data if recipe else None,
        "models": {label: key_of(model_identity(opened, spec)) for label, spec in used.items()},
    }


def circumstances(opened: Run) -> dict[str, Any]:
    """What beside settings and data may change the last digits of a score."""
    return {
        "versions": environment.versions(),
        "hardware": environment.hardware(),
        "git_commit": environment.git_commit(),
        "threads": opened.threads,
        "processes": environment.process_count(),
    }


def note_run_file(opened: Run, path: Path, system: System, eval_set: EvalSet) -> dict[str, Any]:
    """Writes into manifest.json which command made a run file, on which device, and its SHA-256; returns that record."""
    manifest = read_json(opened.folder / "manifest.json")
    device = opened.__dict__.get("device")  # BM25 opens none
    record = {
        "system": system.label,
        "eval_set": eval_set.id,
        "sha256": sha256_of_file(path),
        "device": device,
        "gpu": environment.gpu(device),
        "made_by": len(manifest["runs"]) - 1,
        "command": command_for(opened, system, eval_set),
    }
    manifest["run_files"][path.relative_to(opened.folder).as_posix()] = record
    write_json(opened.folder / "manifest.json", manifest)
    return record


def command_for(opened: Run, system: System, eval_set: EvalSet) -> str:
    """The shortest command that makes this one run file: the same text for the same bytes, whatever else a command asked for."""
    request, spec, name = opened.request, system.spec, system.label
    if opened.suite:  # its students are models that the run around it has trained
        name = next((typed for typed in request.systems if typed.partition("=")[0] == name), name)
    elif spec and not system.recipe and spec not in opened.bench.models.values() and spec.model != name:
        name = f"{name}={spec.model}"
    words = ["mta4dpr-bench", "run", request.benchmark, "--systems", name, "--eval-sets", opened.suite or eval_set.id]
    words += ["--limit", str(request.limit)] if request.limit else []
    for setting in request.settings:
        distill = parse_settings([setting]).get("distill", {})
        if not distill or (system.recipe and not idle_settings(opened.bench, [system], distill)):
            words += ["--set", setting]
    return f"OMP_NUM_THREADS={opened.threads} {shlex.join([*words, '--seed', str(request.seed)])}"


@contextmanager
def noted(opened: Run, manifest: dict[str, Any]) -> Iterator[None]:
    """Writes into manifest.json that this command works here, and when it has finished."""
    note = {"command": sys.argv[1:], **circumstances(opened), "started": _now(), "finished": None}
    manifest["runs"].append(note)
    write_json(opened.folder / "manifest.json", manifest)
    for query_set in opened.eval_sets.values():
        for line in [*query_set.counts, *_absent_passages(query_set, opened.corpus)]:
            log.info(line)
    yield
    left = read_json(opened.folder / "manifest.json")
    manifest |= {"systems": left["systems"], "run_files": left["run_files"]}
    note["finished"] = _now()
    write_json(opened.folder / "manifest.json", manifest)


def manifest_entry(system: System, retriever: Any, bench: Benchmark) -> dict[str, Any]:
    encoder, recipe = getattr(retriever, "encoder", None), system.recipe
    return {
        "kind": system.kind,
        "strategy": recipe.strategy if recipe else None,
        "regime": recipe.distill.regime if recipe else None,
        "steps": recipe.distill.steps if recipe else None,
        "differs": differences(recipe, bench) if recipe else None,
        "model": system.spec.model if system.spec else None,
        "parameters": encoder.parameters if encoder else None,
        "dimensions": encoder.dimensions if encoder else None,
        "weights": encoder.weights_hash if encoder else None,
    }


def _partial_corpus(opened: Run) -> list[str]:
    """A note when a published collection is not here as a whole: published figures are then nothing to compare with."""
    whole, here = opened.source.expected_passages(), len(opened.corpus)
    if whole in (None, here) or not isinstance(opened.source, IrDataset):
        return []
    return [f"This corpus is not the whole collection: {here:,} passages of {whole:,}. No figure can be compared with published ones."]


def _absent_passages(query_set: QuerySet, corpus: Corpus) -> list[str]:
    """Says how many judgements name passages that the corpus lacks: they can never be found."""
    absent = int((corpus.numbers([passage_id for judged in query_set.qrels.values() for passage_id in judged]) < 0).sum())
    return [f"{query_set.id}: {absent:,} judgements name passages that are not in the corpus"] if absent else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
