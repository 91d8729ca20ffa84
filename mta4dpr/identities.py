"""What goes into a stage of a run, said without loading a model, so that a finished run is recognised at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mta4dpr.benchmark import Benchmark, ModelSpec, Recipe
from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import UserError
from mta4dpr.files import key_of, sha256_of_file
from mta4dpr.opened import Run
from mta4dpr.request import System


def identity(opened: Run, system: System) -> Any:
    if system.kind == "lexical":
        return ["bm25", opened.bench.bm25.k1, opened.bench.bm25.b, *filter(None, [opened.bench.bm25.index])]
    dense = {**opened.bench.dense.of_vectors(), **opened.bench.dense.of_search()}
    if system.recipe:
        return [training_inputs(opened, system.recipe), dense]
    assert system.spec is not None
    return [model_identity(opened, system.spec), dense]


def model_identity(opened: Run, spec: ModelSpec) -> Any:
    """What names a model's weights and reading; files are hashed once a run."""
    key = spec.model_dump_json()
    if key not in opened.identities:
        opened.identities[key] = _model_identity(opened, spec)
    return opened.identities[key]


def _model_identity(opened: Run, spec: ModelSpec) -> Any:
    from mta4dpr.models.encoder import hash_of_files
    from mta4dpr.models.files import find_model

    described = spec.model_dump(exclude={"model", "scores"})
    if spec.scores:
        return [described, sha256_of_file(_existing(Path(spec.scores)))]
    if spec.untrained:
        return described
    return [described, hash_of_files(find_model(spec.model, offline=opened.request.offline)[0])]


def training_inputs(opened: Run, recipe: Recipe) -> Any:
    bench = opened.bench
    roles = [recipe.teacher, *recipe.assistants, recipe.student]
    return {
        "strategy": recipe.strategy,
        "corpus": opened.corpus.text_hash,
        "train": [bench.train, opened.training_data],
        "seed": opened.request.seed,
        "models": {role: model_identity(opened, bench.models[role]) for role in roles if role in bench.models},
        "roles": roles,
        "bm25": bench.bm25.model_dump(exclude={"heap"}),
        "dense": bench.dense.of_vectors(),
        "distill": recipe.distill.model_dump(),
    }


def bm25_key(bench: Benchmark, corpus: Corpus) -> str:
    return key_of(["bm25", corpus.text_hash, bench.bm25.k1, bench.bm25.b, *filter(None, [bench.bm25.index])])


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    return path
