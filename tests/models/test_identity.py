"""What names a model without loading it: it changes with everything that changes its scores, and with nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.errors import UserError
from mta4dpr.models.identity import model_identity

from .checkpoints import change, saved_with


def test_of_an_untrained_model_it_is_the_settings() -> None:
    one, other = (ModelSpec(untrained={"layers": 1, "hidden": 32, "heads": 2, "seed": seed}) for seed in (1, 2))
    assert model_identity(one, offline=True) == model_identity(one.model_copy(), offline=True)
    assert model_identity(one, offline=True) != model_identity(other, offline=True)
    json.dumps(model_identity(one, offline=True))


def test_of_a_folder_it_is_the_files_and_not_the_place(checkpoint: Path, tmp_path: Path) -> None:
    """A model that was moved is the same one; one with other weights in the same place is not."""
    before = model_identity(ModelSpec(model=str(checkpoint)), offline=True)
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    assert model_identity(ModelSpec(model=str(moved)), offline=True) == before
    weights = next(moved.rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert model_identity(ModelSpec(model=str(moved)), offline=True) != before


def test_how_a_folder_is_read_counts_too(checkpoint: Path) -> None:
    found = [model_identity(ModelSpec(model=str(checkpoint), passage_length=length), offline=True) for length in (32, 64)]
    assert found[0] != found[1]


def test_of_a_table_it_is_the_files_content(tmp_path: Path) -> None:
    table = tmp_path / "scores.tsv"
    table.write_text("q1\td1\t1.0\n")
    spec = ModelSpec(scores=str(table))
    before = model_identity(spec, offline=True)
    table.write_text("q1\td1\t2.0\n")
    assert model_identity(spec, offline=True) != before
    table.unlink()
    with pytest.raises(UserError, match="there is no file"):
        model_identity(spec, offline=True)


def test_a_model_that_is_not_here_is_an_error() -> None:
    with pytest.raises(UserError, match="no-such/model"):
        model_identity(ModelSpec(model="no-such/model"), offline=True)


def test_settings_that_earlier_versions_passed_over_count(checkpoint: Path) -> None:
    """What they made of such a model was wrong, so a finished run of it is not taken as it is; other folders are named as they were."""
    folder = saved_with(checkpoint, similarity_fn_name="dot")
    plain = model_identity(ModelSpec(model=str(folder)), offline=True)
    assert len(plain) == 2
    for file, settings, noted in (
        ("config_sentence_transformers.json", {"similarity_fn_name": "cosine"}, {"similarity_fn_name": "cosine"}),
        ("config_sentence_transformers.json", {"prompts": {"passage": "a: "}}, {"passage_prefix": ""}),
        ("1_Pooling/config.json", {"include_prompt": False}, {"include_prompt": False}),
        ("sentence_bert_config.json", {"query_length": 9}, {"query_length": 9}),
    ):
        before = (folder / file).read_bytes()
        change(folder / file, **settings)
        assert model_identity(ModelSpec(model=str(folder)), offline=True)[2:] == [noted]
        (folder / file).write_bytes(before)


def test_a_model_that_is_refused_is_refused_before_it_is_loaded(checkpoint: Path) -> None:
    folder = saved_with(checkpoint, similarity_fn_name="euclidean")
    with pytest.raises(UserError, match="similarity_fn_name"):
        model_identity(ModelSpec(model=str(folder)), offline=True)
