"""Sizes that are said before a model is loaded are those of the loaded model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.errors import UserError
from mta4dpr.models.encoder import load_encoder
from mta4dpr.models.registry import CHECKPOINTS
from mta4dpr.models.sizes import size_of_model, tokenizer_key


def _parameters(spec: ModelSpec) -> int:
    network = load_encoder("m", spec, device="cpu", texts=["red fox"], offline=True).network
    return sum(one.numel() for one in network.parameters())


def test_a_folder_is_measured_by_its_files(checkpoint: Path) -> None:
    """The file has a head beside the weights, and the network is small: a model of usual size is met more closely."""
    size = size_of_model(ModelSpec(model=str(checkpoint)))
    assert size.parameters == pytest.approx(_parameters(ModelSpec(model=str(checkpoint))), rel=0.25)
    assert size.place == checkpoint
    assert size.bytes == sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())


def test_layers_that_are_left_out_are_not_counted(checkpoint: Path) -> None:
    every = size_of_model(ModelSpec(model=str(checkpoint)))
    spec = ModelSpec(model=str(checkpoint), layers=[0])
    first = size_of_model(spec)
    assert (first.layers, first.hidden) == (1, every.hidden)
    assert every.layers > 1
    assert first.parameters < every.parameters
    assert first.operations * every.layers == every.operations
    assert first.shape != every.shape


def test_an_untrained_model_has_no_files() -> None:
    spec = ModelSpec(untrained={"layers": 2, "hidden": 64, "heads": 2, "vocabulary": 500, "seed": 1})
    size = size_of_model(spec)
    assert (size.layers, size.hidden, size.bytes, size.place) == (2, 64, 0, None)
    assert size.parameters == pytest.approx(_parameters(spec), rel=0.5)  # no position embeddings in the rough figure


@pytest.mark.parametrize("hub", ["intfloat/e5-base-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_a_published_model_that_is_not_here_is_known(hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plan` says what a download will bring."""

    def absent(*_: object, **__: object) -> None:
        raise UserError("not here")

    monkeypatch.setattr("mta4dpr.models.sizes.find_model", absent)
    about, size = CHECKPOINTS[hub], size_of_model(ModelSpec(model=hub))
    assert (size.parameters, size.layers, size.hidden, size.bytes) == (about.parameters, about.layers, about.dimensions, about.bytes)
    assert size.place is None
    half = size_of_model(ModelSpec(model=hub, layers=list(range(about.layers // 2))))
    assert about.parameters / 4 < half.parameters < about.parameters


def test_a_model_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(UserError, match="nobody/nothing"):
        size_of_model(ModelSpec(model="nobody/nothing"))


def test_one_tokenizer_has_one_key_wherever_it_lies(checkpoint: Path, tmp_path: Path) -> None:
    """Token stores are shared by it. A folder without tokenizer.json shares with none."""
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    assert tokenizer_key(moved) == tokenizer_key(checkpoint)
    (moved / "tokenizer.json").unlink(missing_ok=True)
    assert tokenizer_key(moved) == str(moved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"model_type": "bert", "num_hidden_layers": "six"}', "expected whole numbers of layers and hidden size in"),
        (b'{"hidden_size": [1]}', "expected whole numbers"),
        (b"\xff", "cannot be read as JSON"),
        (b"{", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1]", "expected an object"),
    ],
)
def test_a_configuration_that_is_none_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    """`plan` asks for the size before anything else looks at the model."""
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        size_of_model(ModelSpec(model=str(tmp_path)))
