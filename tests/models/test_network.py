"""What bi-encoders and cross-encoders share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mta4dpr.models.encoder import Encoder


def test_queries_are_tokenised_with_the_models_prefix(encoder: Encoder) -> None:
    """E5 and BGE lose much of their effectiveness without it."""
    prefixed = Encoder(encoder.label, encoder.network, replace(encoder.reading, query_prefix="red "), encoder.weights_hash)
    found, plain = prefixed.query_tokens(["fox", "dog"]), encoder.query_tokens(["red fox", "red dog"])
    np.testing.assert_array_equal(found.flat, plain.flat)
    np.testing.assert_array_equal(found.starts, plain.starts)
    assert found.key != plain.key  # a store is named by what it was made of


def test_parameters_are_counted_once(encoder: Encoder) -> None:
    """Embeddings of the vocabulary, positions, types; three layers of attention and feed-forward; the pooler. By hand."""
    config = encoder.transformer.config
    hidden, inner = config.hidden_size, config.intermediate_size
    norm = 2 * hidden
    embeddings = (config.vocab_size + config.max_position_embeddings + config.type_vocab_size) * hidden + norm
    layer = 4 * (hidden * hidden + hidden) + norm + (hidden * inner + inner) + (inner * hidden + hidden) + norm
    assert encoder.parameters == embeddings + 3 * layer + hidden * hidden + hidden


def test_the_device_is_that_of_the_weights(encoder: Encoder) -> None:
    assert encoder.device.type == "cpu"
