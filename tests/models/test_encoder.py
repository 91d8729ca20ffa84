"""Bi-encoders: what is saved is what others load, and what is cut is what was meant."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.tokens import MOST_TOKENS
from mta4dpr.errors import UserError
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.models.encoder import Encoder, batches_by_length, load_encoder
from mta4dpr.models.hashes import hash_of_weights
from mta4dpr.models.layers import keep_layers
from mta4dpr.models.reading import Reading

TEXTS = ["red fox", "", "winter song of iron", "The OCEAN, and a stone!", "dog " * 40, "lantern"]


@pytest.fixture(scope="module")
def saved(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared encoder with prefixes and lengths of its own, as a folder."""
    ours = copy.copy(encoder)
    ours.network = copy.deepcopy(encoder.network)
    ours.reading = Reading(query_length=60, passage_length=60, query_prefix="query: ", passage_prefix="passage: ")
    folder = tmp_path_factory.mktemp("models") / "student"
    ours.save(folder)
    return folder


def load(folder: Path, **spec: Any) -> Encoder:
    return load_encoder("m", ModelSpec(model=str(folder), **spec), device="cpu", offline=True)


def bare(folder: Path, to: Path) -> Path:
    """The same weights without sentence-transformers' files, as most checkpoints of the field come."""
    to.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, to)
    return to


def test_sentence_transformers_loads_the_folder_and_gives_the_same_vectors(saved: Path) -> None:
    """The engineer's use: SentenceTransformer(folder), prefixes included by prompt name."""
    from sentence_transformers import SentenceTransformer

    ours, theirs = load(saved), SentenceTransformer(str(saved), device="cpu")
    assert theirs.max_seq_length == 60
    np.testing.assert_allclose(ours.encode_queries(TEXTS), theirs.encode(TEXTS, prompt_name="query"), atol=1e-5)
    np.testing.assert_allclose(ours.encode_queries(TEXTS), theirs.encode_query(TEXTS), atol=1e-5)
    assert np.abs(ours.encode_queries(TEXTS) - theirs.encode(TEXTS)).max() > 1e-3  # the prefix does matter


def test_a_saved_encoder_reads_texts_as_before(saved: Path) -> None:
    """Both lengths stand where sentence-transformers looks for them."""
    again = load(saved)
    assert again.reading == Reading(60, 60, "query: ", "passage: ")
    said = read_json(saved / "sentence_bert_config.json")
    assert (said["query_length"], said["document_length"]) == (60, 60)
    assert load(saved).key == again.key


def test_saving_and_loading_changes_no_bit(encoder: Encoder, saved: Path) -> None:
    before, after = encoder.network.state_dict(), load(saved).network.state_dict()
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)


def test_what_the_spec_says_goes_before_what_the_files_say(saved: Path) -> None:
    """Lengths and prefixes of a paper's table are typed in the YAML."""
    found = load(saved, query_length=16, passage_prefix="").reading
    assert found == Reading(query_length=16, passage_length=60, query_prefix="query: ", passage_prefix="")


def test_lengths_are_used(saved: Path) -> None:
    """Two queries that differ only beyond the length are one query then."""
    short, long = load(saved, query_length=8, query_prefix=""), load(saved, query_prefix="")
    texts = ["dog " * 10, "dog " * 6 + "fox"]
    assert np.abs(np.subtract(*short.encode_queries(texts))).max() < 1e-6
    assert np.abs(np.subtract(*long.encode_queries(texts))).max() > 1e-3


@pytest.mark.parametrize("name", ["query_length", "passage_length"])
def test_more_tokens_than_positions_is_an_error(saved: Path, name: str) -> None:
    """torch would fail with an index error in the middle of the corpus."""
    with pytest.raises(UserError, match=f"{name} 129 is more than 128"):
        load(saved, **{name: 129})


def test_lengths_stay_within_what_a_token_store_keeps(saved: Path, tmp_path: Path) -> None:
    """A model of 1,024 positions would lose tokens beyond the store's without a word."""
    import torch
    from transformers import BertConfig, BertModel

    folder = bare(saved, tmp_path / "long")
    small = BertConfig.from_pretrained(saved)
    small.max_position_embeddings = 1024
    torch.manual_seed(0)
    BertModel(small).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(saved / name, folder)
    settings = read_json(folder / "tokenizer_config.json")
    write_json(folder / "tokenizer_config.json", {**settings, "model_max_length": 1024})
    assert load(folder).reading.passage_length == MOST_TOKENS
    with pytest.raises(UserError, match=f"passage_length 600 is more than {MOST_TOKENS}"):
        load(folder, passage_length=600)


def test_cut_layers_are_the_originals_in_order(encoder: Encoder, saved: Path) -> None:
    """[0, 2] of three: the cut's second layer is the original's third; one that starts elsewhere is another experiment."""
    cut = load(saved, layers=[0, 2])
    assert len(cut.transformer.encoder.layer) == cut.transformer.config.num_hidden_layers == 2
    whole = encoder.transformer.state_dict()
    for name, tensor in cut.transformer.state_dict().items():
        original = name.replace("encoder.layer.1.", "encoder.layer.2.")
        assert (tensor == whole[original]).all(), name
    layer = sum(p.numel() for p in encoder.transformer.encoder.layer[1].parameters())
    assert cut.parameters == encoder.parameters - layer
    assert np.abs(cut.encode_queries(TEXTS) - load(saved).encode_queries(TEXTS)).max() > 1e-3


def test_a_cut_encoder_saves_and_loads_as_it_is(saved: Path, tmp_path: Path) -> None:
    """The config's number of layers must be the cut's, or a reload would add untrained ones."""
    cut = load(saved, layers=[1])
    cut.save(tmp_path / "cut")
    again = load(tmp_path / "cut")
    assert len(again.transformer.encoder.layer) == 1
    np.testing.assert_array_equal(again.encode_queries(TEXTS), cut.encode_queries(TEXTS))


@pytest.mark.parametrize("layers", [[], [3], [-1], [0, 0], [2, 0]])
def test_layers_that_are_not_there_or_out_of_order(encoder: Encoder, layers: list[int]) -> None:
    with pytest.raises(UserError, match="model 'x': layers .* rising order from 0 to 2"):
        keep_layers(encoder.transformer, layers, "x")
    assert len(encoder.transformer.encoder.layer) == 3


def test_the_key_changes_with_whatever_changes_vectors(saved: Path, tmp_path: Path) -> None:
    """Vectors are kept under it: two encoders with one key would share them."""
    plain = bare(saved, tmp_path / "bare")
    encoders = [
        load(saved),
        load(saved, query_length=16),
        load(saved, passage_length=16),
        load(saved, query_prefix="q"),
        load(saved, layers=[0, 1]),
        load(saved, layers=[0, 2]),
        load(plain, pooling="mean", normalize=True),
        load(plain, pooling="cls", normalize=True),
        load(plain, pooling="mean", normalize=False),
    ]
    assert len({encoder.key for encoder in encoders}) == len(encoders)


def test_the_key_changes_with_one_weight(saved: Path, tmp_path: Path) -> None:
    """A checkpoint that was overwritten under the same name."""
    import torch

    other = load(saved)
    with torch.no_grad():
        other.transformer.encoder.layer[1].output.dense.bias[0] += 1e-3
    other.save(tmp_path / "other")
    assert load(tmp_path / "other").key != load(saved).key


def test_a_model_that_pools_by_itself_is_not_told_how(saved: Path) -> None:
    """The option would be ignored in silence."""
    with pytest.raises(UserError, match="leave out pooling"):
        load(saved, pooling="cls")


def test_a_bare_checkpoint_pools_as_it_is_told(saved: Path, tmp_path: Path) -> None:
    """cls is the first vector, mean the mean over the mask, both by hand from the transformer's own output."""
    import torch

    plain = bare(saved, tmp_path / "bare")
    tokenizer = load(saved).network.tokenizer
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = load(saved).transformer.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    expected = {"cls": states[:, 0], "mean": (states * mask).sum(1) / mask.sum(1)}
    for pooling, vectors in expected.items():
        found = load(plain, pooling=pooling, normalize=False)
        np.testing.assert_allclose(found.encode_queries(TEXTS), vectors, atol=1e-5)
        unit = load(plain, pooling=pooling, normalize=True).encode_queries(TEXTS)
        np.testing.assert_allclose(unit, torch.nn.functional.normalize(vectors), atol=1e-5)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError, match="holds no model that sentence-transformers can load"):
        load(tmp_path)


def test_vectors_do_not_depend_on_the_batch(encoder: Encoder) -> None:
    """Padding must be masked everywhere: alone, in a large batch, in any order, a text has one vector."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(["red", "fox", "dog", "river", "unseen"], size)) for size in draw.integers(0, 60, 30)]
    tokens = encoder.query_tokens(texts)
    every = encoder.encode(tokens, np.arange(30), longest=64, token_budget=100_000)
    small = encoder.encode(tokens, np.arange(30), longest=64, token_budget=64)
    order = draw.permutation(30)
    shuffled = encoder.encode(tokens, order, longest=64, token_budget=500)
    np.testing.assert_allclose(small, every, atol=1e-6)
    np.testing.assert_allclose(shuffled, every[order], atol=1e-6)
    assert np.abs(every[0] - every[1]).max() > 1e-3
    assert encoder.encode(tokens, order[:0], longest=64, token_budget=64).shape == (0, encoder.dimensions)


@settings(deadline=None)
@given(st.lists(st.integers(1, 512), max_size=80), st.integers(64, 4096))
def test_batches_keep_to_the_budget_and_take_each_text_once(lengths: list[int], budget: int) -> None:
    """The budget bounds memory: padding included; a text longer than the budget goes alone."""
    array = np.array(lengths, np.int64)
    batches = batches_by_length(array, budget)
    assert sorted(int(n) for batch in batches for n in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * array[batch].max() <= budget
    longest = [int(array[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_batches_are_filled() -> None:
    """Length-sorting is there for speed: as many texts as the budget takes, and stable among equals."""
    assert [batch.tolist() for batch in batches_by_length(np.array([2, 8, 2, 4, 4]), 8)] == [[1], [3, 4], [0, 2]]


def test_hash_of_weights_sees_the_smallest_change(encoder: Encoder) -> None:
    """Trained students are identified by it."""
    import torch

    other = copy.copy(encoder)
    other.network = copy.deepcopy(encoder.network)
    assert hash_of_weights(other.network) == hash_of_weights(encoder.network)
    with torch.no_grad():
        weight = next(other.network.parameters())
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))
    assert hash_of_weights(other.network) != hash_of_weights(encoder.network)


def test_a_reading_is_a_value() -> None:
    """It is part of keys: equal when all four parts are."""
    reading = Reading(32, 128, "", "")
    assert replace(reading, query_length=32) == reading
    assert replace(reading, query_length=33) != reading
