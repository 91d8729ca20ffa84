"""The layers and positions of a transformer, of any architecture: where they are, how many, and how all but some are removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mta4dpr.errors import UserError


def positions_of(transformer: Any) -> int:
    """Positions that a transformer can take; RoBERTa and its kin count from the one after padding's."""
    positions = int(getattr(transformer.config, "max_position_embeddings", 0) or 512)
    padding = getattr(getattr(getattr(transformer, "embeddings", None), "position_embeddings", None), "padding_idx", None)
    return positions if padding is None else positions - padding - 1


def keep_layers(transformer: Any, layers: Sequence[int], label: str) -> None:
    """Removes all layers but these from a transformer, in place. UserError for numbers that it does not have or that do not rise."""
    import torch

    holder, name = layer_list(transformer, label)
    all_layers = getattr(holder, name)
    wrong = [n for n in layers if not 0 <= n < len(all_layers)]
    if wrong or not layers or list(layers) != sorted(set(layers)):
        raise UserError(f"model {label!r}: layers {list(layers)} must be different numbers in rising order from 0 to {len(all_layers) - 1}")
    setattr(holder, name, torch.nn.ModuleList(all_layers[n] for n in layers))
    for attribute in ("num_hidden_layers", "n_layers"):
        if hasattr(transformer.config, attribute):
            setattr(transformer.config, attribute, len(layers))


def layer_list(transformer: Any, label: str) -> tuple[Any, str]:
    """(the module that has the list of layers, its attribute). UserError for a transformer whose layers are not known."""
    for owner in ("encoder", "transformer"):
        holder = getattr(transformer, owner, None)
        if holder is not None and hasattr(holder, "layer"):
            return holder, "layer"
    raise UserError(
        f"model {label!r}: layers can be cut from BERT, DistilBERT, RoBERTa, MPNet and their kin, found {type(transformer).__name__}; "
        "leave out layers"
    )
