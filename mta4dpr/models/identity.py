"""What names a model, said without loading it, so that a finished run is recognised at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.errors import UserError
from mta4dpr.machine.files import sha256_of_file
from mta4dpr.models.encoder import hash_of_files
from mta4dpr.models.files import find_model


def model_identity(spec: ModelSpec, *, offline: bool) -> Any:
    """The settings of a spec and a hash of the files behind it. UserError when they are not here."""
    described = spec.model_dump(exclude={"model", "scores"})
    if spec.scores:
        if not Path(spec.scores).is_file():
            raise UserError(f"there is no file {spec.scores}")
        return [described, sha256_of_file(Path(spec.scores))]
    if spec.untrained:
        return described
    return [described, hash_of_files(find_model(spec.model, offline=offline)[0])]
