"""Sizes of transformers, against models that transformers builds."""

from __future__ import annotations

from types import SimpleNamespace

from transformers import BertConfig, BertModel, DistilBertConfig, T5Config

from mta4dpr.models.transformer import LAYER_PARAMETERS, operations_of, shape_of, size_of


def test_sizes_of_configurations_that_name_them_differently() -> None:
    """BERT says num_hidden_layers and hidden_size, DistilBERT n_layers and dim, T5 num_layers and d_model."""
    assert size_of(BertConfig(num_hidden_layers=3, hidden_size=48)) == (3, 48)
    assert size_of(DistilBertConfig(n_layers=4, dim=36)) == (4, 36)
    assert size_of(T5Config(num_layers=5, d_model=24)) == (5, 24)
    assert size_of(SimpleNamespace()) == (12, 768)


def test_a_layer_has_twelve_times_the_square_of_the_hidden_size() -> None:
    """Four square matrices of attention and two of a feed-forward network four times as wide; biases and norms are under 1 %."""
    hidden = 256
    config = BertConfig(num_hidden_layers=1, hidden_size=hidden, intermediate_size=4 * hidden, num_attention_heads=4, vocab_size=10)
    parameters = sum(p.numel() for p in BertModel(config).encoder.parameters())
    assert abs(parameters / (LAYER_PARAMETERS * hidden**2) - 1) < 0.01


def test_operations_are_two_a_parameter() -> None:
    assert operations_of(layers=2, hidden=10) == 2 * 2 * 12 * 100


def test_shapes_tell_sizes_apart() -> None:
    assert len({shape_of(layers, hidden) for layers in (1, 6, 12) for hidden in (384, 768)}) == 6
