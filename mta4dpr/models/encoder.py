"""Bi-encoders: texts in, vectors out. Loading, cutting layers, encoding a token store, saving.

The network is a sentence-transformers model, so that pooling, normalisation and extra layers are that library's and a
saved student loads there as it is. How texts are read (lengths, prefixes) is kept beside it in mta4dpr.json.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.tokens import MOST_TOKENS, TokenStore
from mta4dpr.errors import UserError
from mta4dpr.machine.files import folder_written_aside, key_of, read_json, sha256_of_file, write_json
from mta4dpr.models.completeness import check_vocabulary, check_weights, loading
from mta4dpr.models.files import find_model
from mta4dpr.models.network import Network
from mta4dpr.models.registry import Checkpoint, checkpoint_of
from mta4dpr.models.transformer import size_of

log = logging.getLogger(__name__)

READING = "mta4dpr.json"


@dataclass(frozen=True)
class Reading:
    """How texts become tokens. Lengths count special tokens."""

    query_length: int
    passage_length: int
    query_prefix: str
    passage_prefix: str


class Encoder(Network[Reading]):
    """A bi-encoder: one network encodes queries and passages. Vectors are compared by dot product."""

    def __init__(self, label: str, network: Any, reading: Reading, weights_hash: str) -> None:
        super().__init__(label, network, network.tokenizer, reading, weights_hash)

    @property
    def key(self) -> str:
        """Names what decides a vector: weights, kept layers, tokenizer, reading, modules after the transformer, library versions.

        Equal keys give equal vectors, so stores of vectors are kept under it.
        """
        import torch

        parts = [str(module) for module in list(self.network)[1:]]
        return key_of([self.weights_hash, self.tokenizer.hash, asdict(self.reading), parts, torch.__version__, transformers_version()])

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.network.get_embedding_dimension())

    @cached_property
    def transformer(self) -> Any:
        """The Hugging Face model inside."""
        return self.network[0].model

    def forward(self, ids: Any, mask: Any) -> Any:
        """Vectors of padded token ids, (texts, length) -> (texts, dimensions), with gradients if they are enabled."""
        return self.network({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]

    @property
    def hidden_size(self) -> int:
        """Width of the transformer's layers; a dense layer after pooling may make `dimensions` another number."""
        return int(self.transformer.config.hidden_size)

    @property
    def size(self) -> tuple[int, int]:
        """(transformer layers, hidden size), of any architecture."""
        return size_of(self.transformer.config)

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return len(self._layer_modules())

    def _layer_modules(self) -> Any:
        return getattr(*_layer_list(self.transformer, self.label))

    def forward_layers(self, ids: Any, mask: Any) -> tuple[Any, Any]:
        """Vectors as `forward` gives them, and those of each layer, pooled and normalised, (texts, layers, hidden size)."""
        import torch

        states: list[Any] = []
        keep: Any = lambda _module, _inputs, output: states.append(output[0] if isinstance(output, tuple) else output)  # noqa: E731
        hooks = [layer.register_forward_hook(keep) for layer in self._layer_modules()]
        try:
            vectors = self.forward(ids, mask)
        finally:
            for hook in hooks:
                hook.remove()
        pooling = self.network[1]
        pooled = [pooling({"token_embeddings": state, "attention_mask": mask})["sentence_embedding"] for state in states]
        return vectors, torch.nn.functional.normalize(torch.stack(pooled, dim=1), dim=-1)

    def encode(self, tokens: TokenStore, numbers: np.ndarray, *, longest: int, token_budget: int, precision: str = "float32") -> np.ndarray:
        """Vectors of those texts, (texts, dimensions) float32, in batches of similar length within the budget.

        `precision` is what matrices are multiplied in: float32, bfloat16 or float16.
        """
        import torch

        vectors = np.empty((len(numbers), self.dimensions), np.float32)
        self.network.eval()
        lower = torch.autocast(self.device.type, getattr(torch, precision), enabled=precision != "float32")
        with torch.inference_mode(), lower:
            for rows in batches_by_length(tokens.lengths(longest, numbers), token_budget):
                ids, mask = (torch.from_numpy(a).to(self.device) for a in tokens.batch(numbers[rows], longest))
                vectors[rows] = self.forward(ids, mask).float().cpu().numpy()
        return vectors

    def encode_queries(self, texts: Sequence[str], *, token_budget: int = 8192) -> np.ndarray:
        """Vectors of query texts, (queries, dimensions) float32."""
        tokens = self.query_tokens(texts)
        return self.encode(tokens, np.arange(len(texts)), longest=self.reading.query_length, token_budget=token_budget)

    def save(self, folder: Path) -> None:
        """Writes a folder that sentence-transformers loads; lengths and prefixes stand in its files and in mta4dpr.json."""
        self.network.max_seq_length = self.reading.passage_length
        self.network.similarity_fn_name = "dot"  # what a student is trained and searched with
        self.network.prompts = {"query": self.reading.query_prefix, "document": self.reading.passage_prefix}
        with folder_written_aside(folder) as aside:
            self.network.save(str(aside), create_model_card=False)
            write_json(aside / READING, asdict(self.reading))


def batches_by_length(lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Positions in batches of similar length, at most `token_budget` tokens each with padding; longest first."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, token_budget // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


def load_encoder(label: str, spec: ModelSpec, *, device: str, offline: bool = False, texts: Sequence[str] = ()) -> Encoder:
    """The encoder of a spec, in float32 on `device`. `texts` give an untrained one its vocabulary.

    EnvironmentLack when the model is nowhere to be found; UserError when its files are damaged or are no bi-encoder, or when the spec
    does not go with them (lengths beyond the model's positions, layers that it does not have, pooling that its own files decide).
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # loading takes a moment; our own bars show the long work
    if spec.untrained is not None:
        from mta4dpr.models.untrained import untrained_network

        network = untrained_network(spec.untrained, texts)
        folder, known = None, None
    else:
        folder, where = find_model(spec.model, offline=offline)
        log.info("model %s: %s", label, where)
        known = checkpoint_of(spec.model)
        pooling = spec.pooling or (known.pooling if known else None)
        normalize = spec.normalize if spec.normalize is not None else (known.normalize if known else None)
        with loading(label, folder) as options:
            if (folder / "modules.json").exists():
                network = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=options)
                if spec.pooling or spec.normalize is not None:
                    raise UserError(
                        f"model {label!r} at {spec.model} says itself how it pools and normalises (modules.json); leave out "
                        "pooling and normalize"
                    )
            else:
                transformer = Transformer(str(folder), model_kwargs=options)
                modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling or "mean")]
                network = SentenceTransformer(modules=modules + ([Normalize()] if normalize else []), device="cpu")
                if not pooling:
                    log.warning("model %s has no sentence-transformers files: mean pooling, no normalisation are assumed", label)
            _check(label, network, folder)
    if spec.layers is not None:
        keep_layers(network[0].model, spec.layers, label)
    network = network.to(torch.float32).to(device)
    reading = _reading(spec, known, folder, network)
    encoder = Encoder(label, network, reading, "")
    encoder.weights_hash = weights_key(folder, spec.layers) if folder else hash_of_weights(network)
    return encoder


def _check(label: str, network: Any, folder: Path) -> None:
    """The transformer must be whole; its pooler has no part in a vector, and most published checkpoints lack it."""
    if not hasattr(network[0], "model"):
        raise UserError(f"model {label!r}: expected a transformer in {folder}, found {type(network[0]).__name__}; choose another model")
    modules = read_json(folder / "modules.json") if (folder / "modules.json").exists() else [{"path": ""}]
    place = folder / modules[0]["path"]
    check_weights(label, network[0].model, place, unused=("pooler.",))
    check_vocabulary(label, network[0].model, network.tokenizer, place)


def _reading(spec: ModelSpec, known: Checkpoint | None, folder: Path | None, network: Any) -> Reading:
    """What the spec says, else the model's own mta4dpr.json, else the registry, else sentence-transformers' files."""
    saved = read_json(folder / READING) if folder and (folder / READING).exists() else {}
    prompts = network.prompts or {}
    most = min(positions_of(network[0].model), MOST_TOKENS)  # a token store holds no more
    longest = int(min(network.max_seq_length or most, most))
    found: dict[str, Any] = {
        "query_length": longest,
        "passage_length": longest,
        "query_prefix": prompts.get("query") or "",
        "passage_prefix": prompts.get("document") or prompts.get("passage") or "",
    }
    for name in found:
        for value in (getattr(spec, name), saved.get(name), getattr(known, name, None)):
            if value is not None:
                found[name] = value
                break
    for name in ("query_length", "passage_length"):
        if found[name] > most:
            raise UserError(
                f"{name} {found[name]} is more than {most} tokens (the model has {positions_of(network[0].model)} positions, "
                f"a token store keeps {MOST_TOKENS} tokens of a text)"
            )
    return Reading(**found)


def positions_of(transformer: Any) -> int:
    """Positions that a transformer can take; RoBERTa and its kin count from the one after padding's."""
    positions = int(getattr(transformer.config, "max_position_embeddings", 0) or 512)
    padding = getattr(getattr(getattr(transformer, "embeddings", None), "position_embeddings", None), "padding_idx", None)
    return positions if padding is None else positions - padding - 1


def keep_layers(transformer: Any, layers: Sequence[int], label: str) -> None:
    """Removes all layers but these from a transformer, in place. UserError for numbers that it does not have or that do not rise."""
    import torch

    holder, name = _layer_list(transformer, label)
    all_layers = getattr(holder, name)
    wrong = [n for n in layers if not 0 <= n < len(all_layers)]
    if wrong or not layers or list(layers) != sorted(set(layers)):
        raise UserError(f"model {label!r}: layers {list(layers)} must be different numbers in rising order from 0 to {len(all_layers) - 1}")
    setattr(holder, name, torch.nn.ModuleList(all_layers[n] for n in layers))
    for attribute in ("num_hidden_layers", "n_layers"):
        if hasattr(transformer.config, attribute):
            setattr(transformer.config, attribute, len(layers))


def _layer_list(transformer: Any, label: str) -> tuple[Any, str]:
    for owner in ("encoder", "transformer"):
        holder = getattr(transformer, owner, None)
        if holder is not None and hasattr(holder, "layer"):
            return holder, "layer"
    raise UserError(
        f"model {label!r}: layers can be cut from BERT, DistilBERT, RoBERTa, MPNet and their kin, found {type(transformer).__name__}; "
        "leave out layers"
    )


def hash_of_files(folder: Path) -> str:
    """A key of the bytes of a model folder's weights, configurations and tokenizer files."""
    patterns = ("*.safetensors", "pytorch_model*.bin", "*/*.safetensors", "*/pytorch_model*.bin")
    weights = sorted(path for pattern in patterns for path in folder.glob(pattern))
    configs = sorted([*folder.glob("*.json"), *folder.glob("*/config.json"), *folder.glob("*.txt"), *folder.glob("*.model")])
    return key_of([[path.relative_to(folder).as_posix(), sha256_of_file(path)] for path in weights + configs])


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
