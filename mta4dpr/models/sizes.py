"""How large a model is, before it is loaded: from its own files, or from what is known of it as a published one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.errors import UserError
from mta4dpr.models.files import find_model
from mta4dpr.models.registry import checkpoint_of, hub_of
from mta4dpr.models.settings import read_object
from mta4dpr.models.transformer import LAYER_PARAMETERS, operations_of, shape_of, size_of


@dataclass(frozen=True)
class ModelSize:
    """How large a transformer is of which `layers` are kept, and where its files are."""

    parameters: int
    layers: int
    hidden: int
    tokenizer: str
    place: Path | None  # None: on the hub
    where: str
    bytes: int  # of its files, here or on the hub

    @property
    def operations(self) -> int:
        """Operations for a token, forwards."""
        return operations_of(self.layers, self.hidden)

    @property
    def shape(self) -> str:
        """By which measured rates of networks are told apart."""
        return shape_of(self.layers, self.hidden)


def size_of_model(spec: ModelSpec) -> ModelSize:
    """From the model's own files, or from what is known of it. UserError for one that is neither here nor known."""
    if spec.untrained:
        layers, hidden = spec.untrained.get("layers", 2), spec.untrained.get("hidden", 64)
        parameters = LAYER_PARAMETERS * hidden**2 * layers + spec.untrained.get("vocabulary", 2000) * hidden
        return ModelSize(parameters, layers, hidden, f"untrained {spec.model_dump_json()}", None, "random weights", 0)
    try:
        folder, where = find_model(spec.model, offline=True)
    except UserError:
        about = checkpoint_of(spec.model)
        if about is None:
            raise
        layers = len(spec.layers) if spec.layers else about.layers
        left_out = LAYER_PARAMETERS * about.dimensions**2 * (about.layers - layers)
        return ModelSize(about.parameters - left_out, layers, about.dimensions, about.tokenizer, None, hub_of(spec.model), about.bytes)
    every, hidden = _size(spec.model, folder)
    layers = len(spec.layers) if spec.layers else every
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) or sum(
        path.stat().st_size for path in folder.rglob("pytorch_model*.bin")
    )
    parameters = max(0, weights // 4 - LAYER_PARAMETERS * hidden**2 * (every - layers))
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return ModelSize(parameters, layers, hidden, tokenizer_key(folder), folder, where, total)


def _size(model: str, folder: Path) -> tuple[int, int]:
    """(layers, hidden size) by the transformer's configuration: at the top, or in the folder of sentence-transformers' first module."""
    for path in [folder / "config.json", *sorted(folder.glob("*/config.json"))]:
        if path.is_file():
            found = read_object(model, path)
            if "model_type" in found or "hidden_size" in found:
                try:
                    return size_of(SimpleNamespace(**found))
                except (TypeError, ValueError) as error:
                    raise UserError(f"model {model!r}: expected whole numbers of layers and hidden size in {path} ({error})") from error
    return size_of(SimpleNamespace())


def tokenizer_key(folder: Path) -> str:
    """The hash by which token stores know a model's tokenizer; the folder itself where there is no tokenizer.json."""
    import hashlib

    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # the library raises nothing more special; a model that cannot be read is told when it is loaded
        return str(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
