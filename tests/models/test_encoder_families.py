"""Published encoders as students: every family against transformers by hand, cut, saved, and at its limits.

Six layers of 16 dimensions with random weights stand for DistilBERT, MiniLM (a BERT), MPNet, RoBERTa, ELECTRA and DeBERTa.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from mta4dpr.errors import UserError
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.models.hashes import hash_of_files, hash_of_weights

from .checkpoints import (
    BERT_SPECIAL,
    FAMILIES,
    KEPT,
    POSITIONS,
    SIZES,
    TEXTS,
    WHERE_LAYERS_ARE,
    distilbert,
    load,
    rewrite,
    roberta,
    save_model,
    word_pieces,
)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the family as transformers saves it; nobody may change it."""
    return FAMILIES[family](tmp_path_factory.mktemp("published") / family)


def pooled(model: Any, folder: Path, *, longest: int, pooling: str = "mean", normalize: bool = False) -> np.ndarray:
    """Vectors of TEXTS by transformers alone."""
    batch = transformers.AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=True, truncation=True, max_length=longest, return_tensors="pt"
    )
    with torch.no_grad():
        states = model.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    vectors = states[:, 0] if pooling == "cls" else (states * mask).sum(dim=1) / mask.sum(dim=1)
    return (vectors / vectors.norm(dim=1, keepdim=True) if normalize else vectors).numpy()


def theirs(folder: Path) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return np.asarray(SentenceTransformer(str(folder), device="cpu").encode(TEXTS))


# --- what a family gives ---


@pytest.mark.parametrize(("pooling", "normalize"), [("mean", False), ("cls", True)])
def test_vectors_are_those_of_transformers(folder: Path, pooling: str, normalize: bool) -> None:
    """Own batches, own padding, no token types: the numbers must be the library's, white space and unknown letters included."""
    found = load(folder, pooling=pooling, normalize=normalize).encode_queries(TEXTS)
    expected = pooled(transformers.AutoModel.from_pretrained(folder), folder, longest=POSITIONS, pooling=pooling, normalize=normalize)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    distances = np.abs(expected[:, None] - expected[None]).max(axis=-1)
    assert distances[~np.eye(len(TEXTS), dtype=bool)].min() > 1e-3  # seven different texts, so a mix-up shows


def test_a_cut_has_the_kept_layers_weights(family: str, folder: Path) -> None:
    """Against a three-layer model of transformers into which the weights of layers 0, 2 and 4 were put by name."""
    cut = load(folder, layers=KEPT)
    whole = transformers.AutoModel.from_pretrained(folder)
    prefix = WHERE_LAYERS_ARE.get(family, "encoder.layer.")
    weights = {}
    for name, tensor in whole.state_dict().items():
        inside, number, rest = name.startswith(prefix), *name.removeprefix(prefix).split(".", 1)
        if not inside:
            weights[name] = tensor
        elif int(number) in KEPT:
            weights[f"{prefix}{KEPT.index(int(number))}.{rest}"] = tensor
    found = cut.transformer.state_dict()
    assert found.keys() == weights.keys()
    assert all((found[name] == tensor).all() for name, tensor in weights.items())
    config = transformers.AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 3
    reference = type(whole)(config)
    reference.load_state_dict(weights)
    np.testing.assert_allclose(cut.encode_queries(TEXTS), pooled(reference, folder, longest=POSITIONS), atol=1e-5)
    assert np.abs(cut.encode_queries(TEXTS) - load(folder).encode_queries(TEXTS)).max() > 1e-2


@pytest.mark.parametrize("layers", [None, KEPT])
def test_saved_it_loads_here_and_in_sentence_transformers_with_the_same_vectors(
    family: str, folder: Path, tmp_path: Path, layers: list[int] | None
) -> None:
    """The config on disk must say how many layers there are, under the family's own name for it."""
    student = load(folder, layers=layers)
    expected = student.encode_queries(TEXTS)
    student.save(tmp_path / "student")
    config = read_json(tmp_path / "student" / "config.json")
    assert config["n_layers" if family == "distilbert" else "num_hidden_layers"] == (6 if layers is None else 3)
    again = load(tmp_path / "student")
    np.testing.assert_allclose(again.encode_queries(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(theirs(tmp_path / "student"), expected, atol=1e-6)
    assert hash_of_weights(again.network) == hash_of_weights(student.network)
    assert again.reading == student.reading


# --- lengths ---


def test_texts_at_the_limit_of_positions(family: str, folder: Path) -> None:
    """The longest length is exactly what the model takes: one token more fails in transformers, and is an error here."""
    encoder = load(folder)
    assert encoder.reading.query_length == encoder.reading.passage_length == POSITIONS
    _, mask = encoder.query_tokens(TEXTS).batch(np.arange(len(TEXTS)), encoder.reading.query_length)
    assert mask.sum(axis=1).max() == POSITIONS
    if family != "deberta":  # its positions are relative, the limit is the one it was trained with
        one_more = torch.full((1, POSITIONS + 1), 20)
        with pytest.raises((IndexError, RuntimeError)):
            encoder.forward(one_more, torch.ones_like(one_more))
    with pytest.raises(UserError, match=f"query_length {POSITIONS + 1} is more than {POSITIONS}"):
        load(folder, query_length=POSITIONS + 1)


@pytest.mark.parametrize(("pad", "longest"), [(0, 41), (1, 40), (3, 38)])
def test_robertas_positions_begin_after_its_padding(tmp_path: Path, pad: int, longest: int) -> None:
    """42 positions: padding's number and those before it are never used. Published models have padding 1; others exist."""
    encoder = load(roberta(tmp_path / "roberta", pad))
    assert encoder.reading.passage_length == longest
    ids = torch.full((1, longest), 20)
    assert encoder.forward(ids, torch.ones_like(ids)).isfinite().all()
    with pytest.raises((IndexError, RuntimeError)):
        encoder.forward(torch.full((1, longest + 1), 20), torch.ones(1, longest + 1, dtype=torch.int64))


def test_truncation_is_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    """Special tokens count, and the last one stays: the shortest length there is, and around that of one of the texts."""
    from sentence_transformers import SentenceTransformer

    encoder, model = load(folder), transformers.AutoModel.from_pretrained(folder)
    encoder.save(tmp_path / "student")
    other = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    tokens = encoder.query_tokens(TEXTS)
    around = int(tokens.lengths(POSITIONS)[-1])
    whole = encoder.encode_queries(TEXTS)
    for length in (4, around - 1, around):
        found = encoder.encode(tokens, np.arange(len(TEXTS)), longest=length, token_budget=10_000)
        other.max_seq_length = length
        np.testing.assert_allclose(found, other.encode(TEXTS), atol=1e-6)
        np.testing.assert_allclose(found, pooled(model, folder, longest=length), atol=1e-5)
        assert (np.abs(found - whole)[-1].max() > 1e-3) == (length < around)


# --- how weights come ---


def test_masked_language_models_are_read_without_their_heads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """distilbert-base-uncased is saved so. What is left out is said in one line, not in transformers' table."""
    folder = distilbert(tmp_path / "mlm", transformers.DistilBertForMaskedLM)
    assert any(name.startswith("distilbert.") for name in load_file(folder / "model.safetensors"))
    table: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = table.append  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(handler)
    with caplog.at_level("INFO", logger="mta4dpr"):
        found = load(folder)
    logging.getLogger("transformers").removeHandler(handler)
    expected = transformers.DistilBertForMaskedLM.from_pretrained(folder).distilbert
    np.testing.assert_allclose(found.encode_queries(TEXTS), pooled(expected, folder, longest=POSITIONS), atol=1e-5)
    assert table == []
    assert "does not have: vocab_layer_norm, vocab_projector, vocab_transform" in caplog.text


def test_old_names_and_half_precision(checkpoint: Path, tmp_path: Path) -> None:
    """bert-base-uncased still says gamma and beta; a checkpoint in float16 is computed, and saved, in float32."""
    expected = load(checkpoint).encode_queries(TEXTS)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def renamed(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
        for new, before in old.items():
            name = name.replace(new, before)
        return f"bert.{name}", tensor

    rewrite(checkpoint, renamed)
    np.testing.assert_array_equal(load(checkpoint).encode_queries(TEXTS), expected)
    rewrite(checkpoint, lambda name, tensor: (name, tensor.half()))
    write_json(checkpoint / "config.json", {**read_json(checkpoint / "config.json"), "dtype": "float16"})
    half = load(checkpoint)
    assert {parameter.dtype for parameter in half.network.parameters()} == {torch.float32}
    np.testing.assert_allclose(half.encode_queries(TEXTS), expected, atol=0.05)
    half.save(tmp_path / "student")
    np.testing.assert_allclose(theirs(tmp_path / "student"), half.encode_queries(TEXTS), atol=1e-6)


def test_a_checkpoint_with_pytorch_model_bin_alone(checkpoint: Path) -> None:
    """Most checkpoints of the field come so; tensors alone are read, and the key follows the file."""
    expected, weights = load(checkpoint), load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    torch.save(weights, checkpoint / "pytorch_model.bin")
    found = load(checkpoint)
    np.testing.assert_array_equal(found.encode_queries(TEXTS), expected.encode_queries(TEXTS))
    assert hash_of_weights(found.network) == hash_of_weights(expected.network)
    before = hash_of_files(checkpoint)
    torch.save({**weights, "pooler.dense.bias": torch.ones(16)}, checkpoint / "pytorch_model.bin")
    assert hash_of_files(checkpoint) != before


def test_a_vocabulary_file_is_enough(checkpoint: Path) -> None:
    """Older checkpoints have no tokenizer.json."""
    expected = load(checkpoint).encode_queries(TEXTS)
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "tokenizer_config.json").unlink()
    np.testing.assert_array_equal(load(checkpoint).encode_queries(TEXTS), expected)


def test_layers_that_are_one_layer_cannot_be_cut(tmp_path: Path) -> None:
    """ALBERT's layers share their weights."""
    tokens = word_pieces(transformers.BertTokenizer, BERT_SPECIAL)
    folder = save_model(tmp_path / "albert", tokens, transformers.AlbertModel, transformers.AlbertConfig, embedding_size=8, **SIZES)
    assert load(folder).encode_queries(TEXTS).shape == (len(TEXTS), 16)
    with pytest.raises(UserError, match="model 'm': layers can be cut from BERT, .* found AlbertModel; leave out layers"):
        load(folder, layers=[0])
