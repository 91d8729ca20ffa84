"""Networks with random weights for smoke tests: decided by seed and sizes, and they know the collection's words."""

from __future__ import annotations

import pytest
import torch

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.models.encoder import load_encoder
from mta4dpr.models.hashes import hash_of_weights
from mta4dpr.models.reranker import load_reranker
from mta4dpr.models.untrained import POSITIONS, SPECIAL, untrained_classifier, untrained_network

SIZES = {"layers": 1, "hidden": 16, "heads": 2, "vocabulary": 50, "seed": 1}


@pytest.mark.parametrize(("change", "same"), [({}, True), ({"seed": 2}, False), ({"hidden": 32}, False)])
def test_a_bi_encoder_is_decided_by_seed_and_sizes(change: dict[str, int], same: bool) -> None:
    """Smoke tests promise equal bytes from run to run, whatever drew random numbers before."""
    torch.manual_seed(len(change))
    one = load_encoder("a", ModelSpec(untrained=SIZES), device="cpu", texts=["red fox"])
    state = torch.get_rng_state()
    other = load_encoder("a", ModelSpec(untrained={**SIZES, **change}), device="cpu", texts=["red fox"])
    assert (one.key == other.key) is same
    assert (torch.get_rng_state() == state).all()  # and they leave the stream of others alone


@pytest.mark.parametrize(("change", "same"), [({}, True), ({"seed": 2}, False), ({"hidden": 32}, False)])
def test_a_cross_encoder_is_decided_by_seed_and_sizes(change: dict[str, int], same: bool) -> None:
    """Its head, which transformers draws too, included."""
    torch.manual_seed(len(change))
    state = torch.get_rng_state()
    one, other = (
        load_reranker("ce", ModelSpec(kind="cross-encoder", untrained=chosen), device="cpu", texts=["red fox"])
        for chosen in (SIZES, {**SIZES, **change})
    )
    assert (one.key == other.key) is same
    assert (hash_of_weights(one.network.classifier) == hash_of_weights(other.network.classifier)) is same
    assert (torch.get_rng_state() == state).all()
    assert one.reading.pair_length == POSITIONS


def test_the_vocabulary_is_the_most_frequent_words_of_the_texts() -> None:
    """Else every text is a row of letters, and a smoke test of retrieval finds nothing; other words fall back to letters."""
    network = untrained_network({**SIZES, "vocabulary": 2}, ["Fox fox river", "river fox stone"])
    tokenizer = network.tokenizer
    assert tokenizer.tokenize("FOX river stone") == ["fox", "river", "s", "##t", "##o", "##n", "##e"]
    assert tokenizer.convert_tokens_to_ids(SPECIAL) == [0, 1, 2, 3, 4]
    assert len(tokenizer) == network[0].model.config.vocab_size


def test_sizes_are_those_that_were_asked_for() -> None:
    network = untrained_network({"layers": 3, "hidden": 24, "heads": 4}, ["red fox"])
    config = network[0].model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (3, 24, 4)
    vectors = network.encode(["red fox", "fox"], convert_to_tensor=True)
    assert vectors.shape == (2, 24)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))  # normalised


def test_a_classifier_scores_pairs_with_one_label() -> None:
    network, tokenizer = untrained_classifier(SIZES, ["red fox"])
    batch = tokenizer("red", "fox", return_tensors="pt")
    assert network(**batch).logits.shape == (1, 1)
