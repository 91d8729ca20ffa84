"""`verify`: what other libraries make of a folder is compared with what we make of it, and a difference is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr.commands.verify import TEXTS, check_verified, verify, verify_model
from mta4dpr.errors import UserError

from ..models.checkpoints import bert, change, load, roberta, saved_with, t5


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    return lambda make=bert, *modules, **told: saved_with(make(tmp_path / make.__name__), *modules, **told)


def test_the_texts_are_of_every_kind() -> None:
    assert "" in TEXTS and any(len(text.split()) > 1000 for text in TEXTS)
    assert sum(any(ord(letter) > 0x2FF for letter in text) for text in TEXTS) > 8
    assert len(set(TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("make", [bert, roberta])
def test_libraries_agree_about_a_student(saved: Callable[..., Path], tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """With queries of 9 and passages of 17 tokens, prefixes, and the cosine."""
    found = load(saved(make, lengths=(9, 17), prompts={"query": "red "}, similarity_fn_name="cosine"))
    found.save(tmp_path / "student")
    document = verify(str(tmp_path / "student"), pyserini=False, offline=True)
    assert [row["library"] for row in document["rows"]] == ["sentence-transformers", "transformers"]
    assert max(document["rows"][0]["queries"], document["rows"][0]["passages"]) < 1e-5
    assert document["differ"] == [] and document["texts"] == len(TEXTS)
    check_verified(document, "student")


def test_a_library_that_gives_other_vectors_is_an_error(saved: Callable[..., Path]) -> None:
    """The folder says another length than the encoder reads: nobody would notice by looking at it."""
    folder = saved(lengths=(9, 17))
    found = load(folder)
    change(folder / "sentence_bert_config.json", query_length=10)
    document = verify_model(found, folder)
    assert document["differ"] == ["sentence-transformers"]
    assert document["rows"][0]["queries"] > 1e-3 > document["rows"][0]["passages"]
    with pytest.raises(UserError, match=r"m: expected the vectors of every library .* up to \S+ by sentence-transformers"):
        check_verified(document, "m")


@pytest.mark.parametrize(
    "told", [{"mode": "max"}, {"mode": ["cls", "mean"]}, {"include_prompt": False, "prompts": {"query": "red "}}, {"make": t5}]
)
def test_transformers_alone_is_left_out_where_it_cannot_agree(saved: Callable[..., Path], told: dict[str, Any]) -> None:
    """Its code on a card would give other vectors, or fail."""
    folder = saved(**told)
    document = verify_model(load(folder), folder)
    assert [row["library"] for row in document["rows"]] == ["sentence-transformers"]
    assert document["differ"] == []


def test_not_a_number_is_no_agreement(saved: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from mta4dpr.models import libraries

    folder = saved()
    broken = lambda _folder: lambda texts, _queries: np.full((len(texts), 16), np.nan)  # noqa: E731
    monkeypatch.setattr(libraries, "by_sentence_transformers", broken)
    document = verify_model(load(folder), folder)
    assert document["differ"] == ["sentence-transformers"]
    with pytest.raises(UserError):
        check_verified(document, "m")


def test_the_command_prints_and_ends_with_its_status(saved: Callable[..., Path], command: Any) -> None:
    folder = saved()
    status, out, _ = command("verify", str(folder), "--json")
    assert status == 0 and json.loads(out)["differ"] == []
    status, out, _ = command("verify", str(folder))
    assert status == 0 and "sentence-transformers" in out
    change(folder / "config_sentence_transformers.json", similarity_fn_name="euclidean")
    status, _, error = command("verify", str(folder))
    assert status == 2 and "similarity_fn_name" in error
