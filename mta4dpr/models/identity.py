"""What names a model, said without loading it, so that a finished run is recognised at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.errors import UserError
from mta4dpr.machine.files import sha256_of_file
from mta4dpr.models.files import find_model
from mta4dpr.models.hashes import hash_of_files
from mta4dpr.models.reading import is_normalized
from mta4dpr.models.registry import checkpoint_of
from mta4dpr.models.settings import COSINE, read_settings


def model_identity(spec: ModelSpec, *, offline: bool) -> Any:
    """The settings of a spec and a hash of the files behind it. UserError when they are not here."""
    described = spec.model_dump(exclude={"model", "scores"})
    if spec.scores:
        if not Path(spec.scores).is_file():
            raise UserError(f"there is no file {spec.scores}")
        return [described, sha256_of_file(Path(spec.scores))]
    if spec.untrained:
        return described
    folder = find_model(spec.model, offline=offline)[0]
    honoured = {} if spec.only_scores_pairs else _honoured(spec, folder)
    return [described, hash_of_files(folder), *([honoured] if honoured else [])]


def _honoured(spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """Settings of the files that earlier versions passed over: what they made of such a model is made again."""
    said = read_settings(spec.model, folder)
    if said is None:
        return {}
    found: dict[str, Any] = {}
    if is_normalized(spec.model, spec, said, checkpoint_of(spec.model)) and not said.normalized:
        found["similarity_fn_name"] = COSINE
    if not said.include_prompt:
        found["include_prompt"] = False
    lengths = {"query_length": said.query_length, "document_length": said.document_length}
    found |= {name: length for name, length in lengths.items() if length is not None}
    if not said.passage_prefix and said.prompts.get("passage"):
        found["passage_prefix"] = ""
    return found
