"""The size of a transformer: its layers and hidden size, and the parameters, operations and measured rates that follow from them."""

from __future__ import annotations

from typing import Any

LAYER_PARAMETERS = 12  # times hidden size squared: parameters of a transformer layer


def operations_of(layers: int, hidden: int) -> int:
    """Floating-point operations for one token, forwards: two a parameter of the layers. Word embeddings are looked up and cost none."""
    return 2 * LAYER_PARAMETERS * hidden**2 * layers


def shape_of(layers: int, hidden: int) -> str:
    """The key under which measured rates (tokens a second) of networks of one size are kept."""
    return f"{layers} layers, {hidden} wide"


def size_of(config: Any) -> tuple[int, int]:
    """(layers, hidden size) by a Hugging Face configuration, whose names for them differ; what it does not say is as in BERT-base."""
    layers = next((getattr(config, name) for name in ("num_hidden_layers", "n_layers", "num_layers") if getattr(config, name, None)), 12)
    hidden = next((getattr(config, name) for name in ("hidden_size", "dim", "d_model") if getattr(config, name, None)), 768)
    return int(layers), int(hidden)
