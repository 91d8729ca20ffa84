"""Models that are not whole: damaged files, missing weights, a tokenizer of another model. None may be filled with random numbers."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from mta4dpr.errors import UserError
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.models.hashes import hash_of_weights

from .checkpoints import TEXTS, load, rewrite


class Pickled:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_could_run_code_is_not_opened(checkpoint: Path, tmp_path: Path) -> None:
    """A model is data. The message must not send the user to weights_only=False, as torch's does."""
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    torch.save({**weights, "more": Pickled(tmp_path / "ran")}, checkpoint / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"expected pytorch_model.bin in .* tensors alone.*convert it to model.safetensors") as error:
        load(checkpoint)
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    torch.load(checkpoint / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("what", ["cut short", "hardly begun", "empty", "a pointer"])
def test_damaged_weights_are_an_error_of_one_line(checkpoint: Path, name: str, what: str) -> None:
    """A broken download, and a clone without git lfs."""
    if name == "pytorch_model.bin":
        torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / name)
        (checkpoint / "model.safetensors").unlink()
    whole = (checkpoint / name).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    damaged = {"cut short": whole[: len(whole) // 2], "hardly begun": whole[:10], "empty": b"", "a pointer": pointer}
    (checkpoint / name).write_bytes(damaged[what])
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_info()
    with pytest.raises(UserError) as error:
        load(checkpoint)
    assert str(checkpoint) in str(error.value)
    assert "\n" not in str(error.value)
    assert transformers.logging.get_verbosity() == logging.INFO  # as the caller had it
    transformers.logging.set_verbosity(verbosity)


def test_a_missing_layer_is_not_made_up(checkpoint: Path) -> None:
    """transformers would draw it at random, print a table, and the student would start from noise."""
    rewrite(checkpoint, lambda name, tensor: None if ".layer.5." in name else (name, tensor))
    with pytest.raises(UserError, match=r"found none for 16 of 103, such as encoder.layer.5.attention.output.LayerNorm.bias"):
        load(checkpoint)
    with pytest.raises(UserError, match="found none for 16 of 103"):  # also if the layer would be cut away: the files are wrong
        load(checkpoint, layers=[0])


def test_weights_of_another_model_are_not_taken_for_this_one(checkpoint: Path) -> None:
    """No name fits, or no shape."""
    config = read_json(checkpoint / "config.json")
    write_json(checkpoint / "config.json", {**config, "intermediate_size": 32})
    with pytest.raises(UserError, match=r"expected encoder.layer.0.intermediate.dense.bias of shape \(32,\) .* found \(24,\)"):
        load(checkpoint)
    write_json(checkpoint / "config.json", config)
    rewrite(checkpoint, lambda name, tensor: (f"text.{name.replace('layer', 'block')}", tensor))
    with pytest.raises(UserError, match="found none for 101 of 103"):
        load(checkpoint)


def test_a_student_of_sentence_transformers_is_checked_too(checkpoint: Path, tmp_path: Path) -> None:
    """And where older versions keep the transformer: in a folder of its own."""
    load(checkpoint).save(tmp_path / "student")
    expected = load(tmp_path / "student")
    modules = read_json(tmp_path / "student" / "modules.json")
    inner = tmp_path / "student" / "0_Transformer"
    inner.mkdir()
    apart = {"modules.json", "config_sentence_transformers.json", "mta4dpr.json", "README.md"}
    for path in [path for path in (tmp_path / "student").iterdir() if path.is_file() and path.name not in apart]:
        shutil.move(path, inner)
    write_json(tmp_path / "student" / "modules.json", [{**modules[0], "path": "0_Transformer"}, *modules[1:]])
    np.testing.assert_array_equal(load(tmp_path / "student").encode_queries(TEXTS), expected.encode_queries(TEXTS))
    rewrite(inner, lambda name, tensor: None if ".layer.1." in name else (name, tensor))
    with pytest.raises(UserError, match=r"0_Transformer, found none for 16 of 103"):
        load(tmp_path / "student")
    write_json(inner / "config.json", {**read_json(inner / "config.json"), "intermediate_size": 32})
    with pytest.raises(UserError, match=r"of shape \(32,\) .* found \(24,\) in the weights of .*0_Transformer"):
        load(tmp_path / "student")


def test_a_pooler_that_the_files_lack_is_nothing_and_not_random(checkpoint: Path) -> None:
    """roberta-base has none. Vectors do not see it, but the bytes of an exported student would differ from run to run."""
    whole = load(checkpoint)
    rewrite(checkpoint, lambda name, tensor: None if name.startswith("pooler.") else (name, tensor))
    hashes = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        found = load(checkpoint)
        hashes.add(hash_of_weights(found.network))
    assert len(hashes) == 1
    assert not found.transformer.pooler.dense.weight.any()
    assert whole.transformer.pooler.dense.weight.any()  # one that is there stays
    np.testing.assert_array_equal(found.encode_queries(TEXTS), whole.encode_queries(TEXTS))


def test_a_checkpoint_without_tokenizer_files(checkpoint: Path) -> None:
    """transformers makes a tokenizer that knows special tokens alone: every text would be the same one."""
    for path in [checkpoint / name for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")]:
        path.unlink()
    with pytest.raises(UserError, match=r"expected a tokenizer .* found none that knows a word"):
        load(checkpoint)


def test_a_tokenizer_of_another_model(checkpoint: Path) -> None:
    """Its rarest word is beyond the embeddings: torch would fail when it comes up."""
    words = load_file(checkpoint / "model.safetensors")["embeddings.word_embeddings.weight"]
    rewrite(checkpoint, lambda name, tensor: (name, words[:-1] if "word_embeddings" in name else tensor))
    write_json(checkpoint / "config.json", {**read_json(checkpoint / "config.json"), "vocab_size": len(words) - 1})
    with pytest.raises(UserError, match=f"expected token ids below {len(words) - 1}, .* found {len(words) - 1} in the tokenizer"):
        load(checkpoint)
