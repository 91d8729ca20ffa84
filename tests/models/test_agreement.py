"""What no file names shows where a few texts go through the library too; and a text without tokens is no reason to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as st

from mta4dpr.errors import UserError
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.models.agreement import tokenizer_as_it_was

from .checkpoints import POSITIONS, TEXTS, bert, change, load, roberta, saved_with
from .test_reranker import load as load_reranker
from .test_reranker import make_model

TOKENIZER = "tokenizer_config.json"


def as_written(folder: Path, **settings: Any) -> Path:
    """The folder with a tokenizer that is what tokenizer.json says, instead of one that its class makes of a vocabulary."""
    change(folder / TOKENIZER, tokenizer_class="PreTrainedTokenizerFast", **settings)
    return folder


def template(folder: Path, pieces: list[Any] | None) -> Path:
    """Another template around a text; None: no special tokens at all."""
    tokenizer = read_json(folder / "tokenizer.json")
    special = {name: {"id": name, "ids": [n], "tokens": [name]} for n, name in ((2, "[CLS]"), (3, "[SEP]"))}
    pair = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    made = None if pieces is None else {"type": "TemplateProcessing", "single": pieces, "pair": pair, "special_tokens": special}
    write_json(folder / "tokenizer.json", {**tokenizer, "post_processor": made})
    return as_written(folder, model_input_names=["input_ids", "token_type_ids", "attention_mask"])


def test_token_types_that_are_not_all_zero(tmp_path: Path) -> None:
    """Here no token type is given to the network: such a tokenizer would have other vectors in the library."""
    folder = saved_with(bert(tmp_path / "bert"))
    typed = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 1}}]
    with pytest.raises(UserError, match="expected the vectors that sentence-transformers has, found others .* token types"):
        load(template(folder, typed))
    typed[1]["Sequence"]["type_id"] = 0
    load(template(folder, typed))


def test_padding_on_the_left(tmp_path: Path) -> None:
    """BERT counts positions from the padding, so a text's vector would depend on its neighbours; RoBERTa's do not."""
    folder = as_written(saved_with(bert(tmp_path / "bert")), padding_side="left")
    with pytest.raises(UserError, match=r"padding_side in tokenizer_config.json is 'left', and its vectors depend"):
        load(folder)
    folder = as_written(saved_with(roberta(tmp_path / "roberta"), similarity_fn_name="dot"), padding_side="left")
    found = load(folder)
    np.testing.assert_allclose(found.encode_queries(TEXTS), SentenceTransformer(str(folder), device="cpu").encode_query(TEXTS), atol=1e-4)
    found.save(tmp_path / "student")
    assert read_json(tmp_path / "student" / TOKENIZER)["padding_side"] == "right"


def test_a_cross_encoder_that_pads_on_the_left(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "ce", "bert")
    load_reranker(folder)
    change(folder / TOKENIZER, padding_side="left")
    with pytest.raises(UserError, match="expected the scores that transformers gives, found others .*padding_side"):
        load_reranker(folder)


def test_the_tokenizer_is_left_as_it_was(tmp_path: Path) -> None:
    """Or a student would be saved with the padding of a few texts."""
    tokenizer = load(bert(tmp_path / "bert")).network.tokenizer
    for before in (lambda: None, lambda: tokenizer.backend_tokenizer.enable_truncation(7)):
        before()
        state = tokenizer.backend_tokenizer.to_str()
        with tokenizer_as_it_was(tokenizer):
            tokenizer(["a", "b c"], padding=True, truncation=True, max_length=5)
            assert tokenizer.backend_tokenizer.to_str() != state
        assert tokenizer.backend_tokenizer.to_str() == state


# --- texts without tokens ---


@pytest.mark.parametrize("mode", ["mean", "cls", "weightedmean", "lasttoken", "mean_sqrt_len_tokens"])
@pytest.mark.parametrize("tail", [(), (st.Normalize,)])
def test_a_text_without_tokens_has_the_librarys_vector(tmp_path: Path, mode: str, tail: Any) -> None:
    """The library itself fails when such a text is alone; beside others it has a vector, which is ours, alone or not."""
    folder = template(saved_with(bert(tmp_path / "bert"), *(make() for make in tail), mode=mode, similarity_fn_name="dot"), None)
    found, theirs = load(folder), SentenceTransformer(str(folder), device="cpu")
    assert found.query_tokens([""]).lengths(POSITIONS).tolist() == [0]
    np.testing.assert_allclose(found.encode_queries(TEXTS), theirs.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(found.encode_queries([""]), found.encode_queries(["", *TEXTS])[:1], atol=1e-6)
    assert found.encode_queries(["", ""]).shape == (2, 16)


def test_a_text_without_tokens_and_without_a_vector_is_an_error(tmp_path: Path) -> None:
    """The largest of no numbers is minus infinity: every score with it would be none."""
    folder = template(saved_with(bert(tmp_path / "bert"), mode="max", similarity_fn_name="dot"), None)
    with pytest.raises(UserError, match=r"m: expected texts of which its tokenizer keeps a token, found 1 of 2 without, such as number 1"):
        load(folder).encode_queries(["red", ""])


def test_a_tokenizer_that_drops_the_first_letter(tmp_path: Path) -> None:
    """Special tokens are found around a text of which something is left, not around nothing."""
    folder = as_written(saved_with(bert(tmp_path / "bert"), similarity_fn_name="dot"))
    tokenizer = read_json(folder / "tokenizer.json")
    dropped = {"type": "Replace", "pattern": {"String": "a"}, "content": ""}
    write_json(
        folder / "tokenizer.json", {**tokenizer, "normalizer": {"type": "Sequence", "normalizers": [tokenizer["normalizer"], dropped]}}
    )
    found = load(folder)
    assert (found.tokenizer.before.tolist(), found.tokenizer.after.tolist()) == ([2], [3])
    np.testing.assert_allclose(found.encode_queries(TEXTS), SentenceTransformer(str(folder), device="cpu").encode_query(TEXTS), atol=1e-5)
