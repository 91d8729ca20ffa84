"""Lengths, prefixes and similarity: what the benchmark says, the files state, and the registry knows, in that order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st

from mta4dpr.errors import UserError
from mta4dpr.machine.files import write_json
from mta4dpr.models import encoder as module
from mta4dpr.models.reading import EARLIER, Reading
from mta4dpr.models.registry import Checkpoint
from mta4dpr.models.settings import CONFIG

from .checkpoints import POSITIONS, TEXTS, bert, change, load, saved_with
from .test_settings import passages

SBERT = "sentence_bert_config.json"
MINE = Checkpoint(
    parameters=1, layers=6, dimensions=16, tokenizer="x", source="[a]", query_length=12, query_prefix="blue ", normalize=False
)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of sentence-transformers with those settings."""
    return lambda *modules, **told: saved_with(bert(tmp_path / "bert"), *modules, **told)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows every model."""
    monkeypatch.setattr(module, "checkpoint_of", lambda _name: MINE)


def lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


# --- similarity ---


@pytest.mark.parametrize("similarity", ["cosine", "dot", None])
@pytest.mark.parametrize("tail", [(), ("dense",), ("normalize",), ("normalize", "dropout")])
@pytest.mark.parametrize("cut", [None, [0, 2]])
def test_scores_are_those_that_the_files_mean(saved: Callable[..., Path], tmp_path: Path, similarity: Any, tail: Any, cut: Any) -> None:
    """By sentence-transformers' own similarity: as a teacher or a system, and of the student that is saved, loaded anywhere."""
    torch.manual_seed(1)
    made = {"dense": lambda: st.Dense(16, 8), "normalize": st.Normalize, "dropout": lambda: st.Dropout(0.1)}
    folder = saved(*(made[name]() for name in tail), similarity_fn_name=similarity, prompts={"query": "red "}, mode="cls")
    change(folder / CONFIG, similarity_fn_name=similarity)
    found = load(folder, layers=cut)
    ours = found.encode_queries(TEXTS) @ passages(found).T
    found.save(tmp_path / "student")
    others = [SentenceTransformer(str(tmp_path / "student"), device="cpu")]
    if cut is None:
        others.append(SentenceTransformer(str(folder), device="cpu"))
    for model in others:
        theirs = model.similarity(model.encode_query(TEXTS), model.encode_document(TEXTS)).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-5)
    again = load(tmp_path / "student")
    np.testing.assert_allclose(again.encode_queries(TEXTS) @ passages(again).T, ours, atol=1e-4)
    assert (similarity == "dot" and "normalize" not in tail) != np.allclose(lengths(found.encode_queries(TEXTS)), 1)


def test_what_the_benchmark_says_of_normalisation(saved: Callable[..., Path]) -> None:
    """true goes with every folder; false is an error against files that have it, and both are named."""
    folder = saved(similarity_fn_name="dot")
    assert np.allclose(lengths(load(folder, normalize=True).encode_queries(TEXTS)), 1)
    assert not np.allclose(lengths(load(folder, normalize=False).encode_queries(TEXTS)), 1)
    change(folder / CONFIG, similarity_fn_name="cosine")
    with pytest.raises(UserError, match=r"normalize is false, but its config_sentence_transformers.json has similarity_fn_name 'cosine'"):
        load(folder, normalize=False)
    change(folder / CONFIG, similarity_fn_name=None)
    assert not np.allclose(lengths(load(folder, normalize=False).encode_queries(TEXTS)), 1)


def test_normalisation_in_the_files_is_not_taken_away(saved: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"normalize is false, but its modules.json ends in Normalize"):
        load(saved(st.Normalize(), similarity_fn_name="dot"), normalize=False)


def test_files_without_a_word_are_the_registrys_or_the_cosines(
    saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """TAS-B's files may say nothing, and it is compared by inner product; one line says what was assumed."""
    folder = saved()
    change(folder / CONFIG, similarity_fn_name=None)
    with caplog.at_level("INFO", logger="mta4dpr"):
        assert np.allclose(lengths(load(folder).encode_queries(TEXTS)), 1)
        assert "name no similarity_fn_name; vectors are compared by cosine, as sentence-transformers does" in caplog.text
        monkeypatch.setattr(module, "checkpoint_of", lambda _name: MINE)
        assert not np.allclose(lengths(load(folder).encode_queries(TEXTS)), 1)
        assert "compared by inner product, as is known of it" in caplog.text
    change(folder / CONFIG, similarity_fn_name="cosine")
    assert np.allclose(lengths(load(folder).encode_queries(TEXTS)), 1)


def test_a_key_changes_with_the_similarity(saved: Callable[..., Path]) -> None:
    """Vectors are kept under it."""
    folder = saved(similarity_fn_name="dot")
    assert load(folder).key != load(folder, normalize=True).key


# --- lengths ---


def test_both_lengths_are_read_and_written(saved: Callable[..., Path], tmp_path: Path) -> None:
    """To 1e-6 with queries of 16 and passages of 32 tokens, as sentence-transformers (and mteb through it) reads them."""
    found = load(saved(lengths=(16, 32), similarity_fn_name="cosine"))
    assert found.reading == Reading(16, 32, "", "")
    found.save(tmp_path / "student")
    theirs = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    np.testing.assert_allclose(theirs.encode_query(TEXTS), found.encode_queries(TEXTS), atol=1e-6)
    np.testing.assert_allclose(theirs.encode_document(TEXTS), passages(found), atol=1e-6)
    assert np.abs(theirs.encode_query(TEXTS) - theirs.encode_document(TEXTS)).max() > 1e-3
    assert theirs.max_seq_length == 32


@pytest.mark.usefixtures("known")
def test_the_order_of_those_who_say_a_length(saved: Callable[..., Path]) -> None:
    folder = saved()
    assert load(folder).reading == Reading(12, POSITIONS, "blue ", "")
    change(folder / SBERT, query_length=20)
    change(folder / CONFIG, prompts={"query": "red ", "document": "song "})
    assert load(folder).reading == Reading(20, POSITIONS, "red ", "song ")
    assert load(folder, query_length=8, passage_length=9, query_prefix="", passage_prefix="a").reading == Reading(8, 9, "", "a")


def test_lengths_that_the_model_cannot_take(saved: Callable[..., Path]) -> None:
    folder = saved(lengths=(POSITIONS + 1, None))
    with pytest.raises(UserError, match=f"query_length {POSITIONS + 1} is more than {POSITIONS} tokens"):
        load(folder)
    change(folder / SBERT, query_length=None)
    change(folder / "tokenizer_config.json", model_max_length=3)
    with pytest.raises(UserError, match="length 3 is less than 4 tokens"):
        load(folder)


def test_what_an_earlier_version_kept_is_read(saved: Callable[..., Path]) -> None:
    """Where it does not go with the files of sentence-transformers beside it, nobody can say which is meant."""
    folder = saved(prompts={"query": "red "})
    write_json(folder / EARLIER, {"query_length": 9, "passage_length": POSITIONS, "query_prefix": "red ", "passage_prefix": ""})
    assert load(folder).reading == Reading(9, POSITIONS, "red ", "")
    for file, settings, name in (
        (CONFIG, {"prompts": {"query": "blue "}}, "query_prefix 'red '"),
        (SBERT, {"query_length": 10}, "query_length 9"),
        ("tokenizer_config.json", {"model_max_length": 30}, f"passage_length {POSITIONS}"),
    ):
        before = (folder / file).read_bytes()
        change(folder / file, **settings)
        with pytest.raises(UserError, match=f"mta4dpr.json has {name}, the files of sentence-transformers beside it"):
            load(folder)
        (folder / file).write_bytes(before)


# --- prompts ---


def test_prompts_are_used_as_the_library_uses_them(saved: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    """It has an empty prompt `document` for every model, so one that is called passage is never used: that is said."""
    folder = saved(prompts={"query": "red ", "passage": "blue ", "s2p": "song "}, default_prompt_name="s2p")
    found, theirs = load(folder), SentenceTransformer(str(folder), device="cpu")
    assert "that nothing begins with" in caplog.text and "passage, s2p" in caplog.text
    np.testing.assert_allclose(found.encode_queries(TEXTS), unit(theirs.encode_query(TEXTS)), atol=1e-5)
    np.testing.assert_allclose(passages(found), unit(theirs.encode_document(TEXTS)), atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens"])
@pytest.mark.parametrize("prompt", ["red ", "red fox, ", "dog " * 60])
def test_prompts_are_left_out_of_pooling(saved: Callable[..., Path], tmp_path: Path, mode: str, prompt: str) -> None:
    """include_prompt: false, in queries and passages, here and in the student that is saved."""
    folder = saved(include_prompt=False, mode=mode, prompts={"query": prompt, "document": "a song: "}, similarity_fn_name="dot")
    found = load(folder)
    found.save(tmp_path / "student")
    for place in (folder, tmp_path / "student"):
        theirs = SentenceTransformer(str(place), device="cpu")
        np.testing.assert_allclose(found.encode_queries(TEXTS), theirs.encode_query(TEXTS), atol=1e-5)
        np.testing.assert_allclose(passages(found), theirs.encode_document(TEXTS), atol=1e-5)
    pooled = found.encode(found.tokens(TEXTS, prompt), np.arange(len(TEXTS)), longest=POSITIONS, token_budget=300)
    change(folder / "1_Pooling" / "config.json", include_prompt=True)
    whole = load(folder)
    assert whole.key != found.key
    assert not found.includes_prompts and whole.includes_prompts
    if mode in ("mean", "weightedmean", "mean_sqrt_len_tokens") and len(prompt) < POSITIONS:
        assert np.abs(pooled - whole.encode_queries(TEXTS)).max() > 1e-3


def test_prompts_are_left_out_in_training_too(saved: Callable[..., Path]) -> None:
    """With gradients, and for each layer."""
    found = load(saved(include_prompt=False, prompts={"query": "red fox, "}, similarity_fn_name="dot"))
    tokens = found.query_tokens(TEXTS)
    ids, mask = (torch.from_numpy(array) for array in tokens.batch(np.arange(len(TEXTS)), POSITIONS))
    found.network.eval()
    vectors, layers = found.forward_layers(ids, mask, prefix=tokens.prefix)
    np.testing.assert_allclose(vectors.detach().numpy(), found.encode_queries(TEXTS), atol=1e-5)
    np.testing.assert_allclose(layers[:, -1].detach().numpy(), unit(found.encode_queries(TEXTS)), atol=1e-5)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
