"""The hash of a model's files changes with every file that may decide a vector, and with no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from sentence_transformers.sentence_transformer import modules as st

from mta4dpr.models.hashes import hash_of_files

from .checkpoints import bert, saved_with


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = saved_with(bert(tmp_path / "bert"), st.Dense(16, 8), st.Normalize())
    (found / "README.md").write_text("a card")
    return found


def test_every_file_of_a_saved_model_counts_but_its_card(folder: Path) -> None:
    before = hash_of_files(folder)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        kept = path.read_bytes()
        path.write_bytes(kept + b" ")
        assert (hash_of_files(folder) == before) == (path.name == "README.md"), path
        path.write_bytes(kept)
    assert hash_of_files(folder) == before


@pytest.mark.parametrize(
    "name",
    [
        "0_Transformer/sentence_bert_config.json",
        "0_Transformer/tokenizer.json",
        "0_Transformer/vocab.txt",
        "1_Pooling/inner/model.safetensors",
        "spiece.model",
        "0_Transformer/spiece.model",
        "bpe.codes",
        "chat_template.jinja",
        "qwen.tiktoken",
        "modeling_mine.py",
    ],
)
def test_files_that_other_models_have_count_wherever_they_are(folder: Path, name: str) -> None:
    before = hash_of_files(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}")
    added = hash_of_files(folder)
    (folder / name).write_text("{} ")
    assert len({before, added, hash_of_files(folder)}) == 3


@pytest.mark.parametrize("name", ["notes.md", ".cache/huggingface/x.json", ".git/config.json", "plot.png"])
def test_files_that_decide_nothing_do_not_count(folder: Path, name: str) -> None:
    before = hash_of_files(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}")
    assert hash_of_files(folder) == before
