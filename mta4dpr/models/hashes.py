"""What names a model's weights and files: hashes, of which the keys of all that is kept are made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mta4dpr.machine.files import key_of
from mta4dpr.machine.kept import checksum

# of the files that may decide a vector: weights, settings of modules in folders of any depth, vocabularies, templates
ENDINGS = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja", ".spm", ".vocab", ".codes", ".bpe", ".tiktoken", ".py")


def hash_of_files(folder: Path) -> str:
    """A key of the bytes of a model folder's weights, configurations and tokenizer files."""
    patterns = ("*.safetensors", "pytorch_model*.bin", "*/*.safetensors", "*/pytorch_model*.bin")
    weights = sorted(path for pattern in patterns for path in folder.glob(pattern))
    configs = sorted([*folder.glob("*.json"), *folder.glob("*/config.json"), *folder.glob("*.txt"), *folder.glob("*.model")])
    first = {*weights, *configs}  # what earlier versions looked at: keys of models without others are as they were
    others = sorted(path for path in set(folder.rglob("*")) - first if path.suffix in ENDINGS)
    files = [path for path in [*weights, *configs, *others] if path.is_file() and not _is_hidden(path, folder)]
    return key_of([[path.relative_to(folder).as_posix(), checksum(path)] for path in files])


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def hash_of_weights(network: Any) -> str:
    """SHA-256 of the weights as they are now, (names, shapes, bytes)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def weights_key(folder: Path, layers: Sequence[int] | None) -> str:
    """A key of the weights of a model folder, cut to those layers; None keeps all."""
    return key_of([hash_of_files(folder), list(layers) if layers is not None else None])


def transformers_version() -> str:
    """The installed version of transformers, a part of every key: another version may compute other bits."""
    import importlib.metadata

    return importlib.metadata.version("transformers")
