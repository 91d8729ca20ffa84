"""manifest.json of a run's folder: who ran what, where, with which versions, settings and data."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from mta4dpr import environment, suite
from mta4dpr.benchmark import Benchmark
from mta4dpr.data.collection import IrDataset, QuerySet
from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import UserError
from mta4dpr.files import file_name, key_of, read_json, write_json
from mta4dpr.ledger import refuse_other_settings
from mta4dpr.opened import Run
from mta4dpr.options import Bm25, Dense
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
        for section, made in (("dense", Dense()), ("bm25", Bm25())):  # an option that came later had its default then
            manifest["settings"][section] = {**made.model_dump(mode="json"), **manifest["settings"][section]}
        refuse_other_settings(opened.folder, settings, manifest["settings"])
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
        }
    )
    for eval_set in opened.bench.eval_sets:
        query_set = opened.eval_sets[eval_set.id]
        fingerprint = key_of([query_set.texts, query_set.qrels, query_set.answers])
        about = eval_set.model_dump(mode="json", exclude={"expected"} if partial else None)
        manifest["eval_sets"][eval_set.id] = {"expected": [], **about, "hash": fingerprint}
    manifest["eval_sets"].update({name: suite.about(name, one) for name, one in opened.bench.suites.items()})
    manifest["notes"] += [found["note"] for found in manifest["eval_sets"].values() if "note" in found]
    for system in opened.systems:
        for other in manifest["systems"]:
            if other != system.label and file_name(other).casefold() == file_name(system.label).casefold():
                raise UserError(
                    f"{opened.folder} has a system {other!r}, whose files {system.label!r} would overwrite; name one as LABEL=PATH"
                )
    return manifest


@contextmanager
def noted(opened: Run, manifest: dict[str, Any]) -> Iterator[None]:
    """Writes into manifest.json that this command works here, and when it has finished."""
    note = {"command": sys.argv[1:], "processes": environment.process_count(), "started": _now(), "finished": None}
    manifest["runs"].append(note)
    write_json(opened.folder / "manifest.json", manifest)
    for query_set in opened.eval_sets.values():
        for line in [*query_set.counts, *_absent_passages(query_set, opened.corpus)]:
            log.info(line)
    yield
    manifest["systems"] = read_json(opened.folder / "manifest.json")["systems"]
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
