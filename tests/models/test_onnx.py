"""The ONNX file of a bi-encoder is compared with torch before anybody uses it. (A real export is tested in test_export.py.)"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.models import onnx
from mta4dpr.models.encoder import Encoder

from .checkpoints import bert, load, saved_with, t5


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(onnx.importlib.util, "find_spec", lambda name: None if name in ("onnx", "onnxscript") else real("json"))
    with pytest.raises(EnvironmentLack, match=r"onnx, onnxscript is not installed: `pip install 'mta4dpr\[onnx\]'`"):
        onnx.check_packages()


def test_prefixes_that_are_left_out_of_pooling_have_no_onnx(tmp_path: Path) -> None:
    found = load(saved_with(bert(tmp_path / "bert"), include_prompt=False, prompts={"query": "red "}))
    with pytest.raises(UserError, match=r"m leaves its prefixes out of pooling \(include_prompt .* leave out --onnx"):
        onnx.write_onnx(found, tmp_path)


def test_a_network_that_the_exporter_cannot_write_is_one_sentence(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It raises errors of its own, of many lines; plain attention is tried before that, and is not left in the network."""
    tried = []

    def fail(*_: Any, **__: Any) -> None:
        tried.append(encoder.transformer.config._attn_implementation)
        raise RuntimeError("colours\nand advice") from ValueError("no such operation\nat line 7")

    before = encoder.transformer.config._attn_implementation
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UserError, match=r"has no ONNX for BertModel \(no such operation\); leave out --onnx$"):
        onnx.write_onnx(encoder, tmp_path)
    assert tried == [before, "eager"]
    assert encoder.transformer.config._attn_implementation == before


@pytest.mark.slow
def test_t5_is_written_with_plain_attention(tmp_path: Path) -> None:
    found = load(t5(tmp_path / "t5"))
    onnx.write_onnx(found, tmp_path)
    assert (tmp_path / onnx.FILE).stat().st_size > 1000


@pytest.mark.parametrize("shape", onnx.SHAPES)
def test_a_batch_has_words_where_its_mask_is_and_padding_behind(encoder: Encoder, shape: tuple[int, int]) -> None:
    """Cut to what the model reads; the first text fills its row, each has a token."""
    ids, mask = onnx._batch(encoder, *shape)
    longest = min(shape[1], max(encoder.reading.query_length, encoder.reading.passage_length))
    assert ids.shape == mask.shape == (shape[0], longest)
    assert mask[0].all()
    assert (mask[:, 0] == 1).all()
    assert (mask.diff(dim=1) <= 0).all()  # nothing after the end of a text
    assert (ids[mask == 0] == encoder.network.tokenizer.pad_token_id).all()
    again = onnx._batch(encoder, *shape)
    assert torch.equal(again[0], ids) and torch.equal(again[1], mask)


@pytest.mark.parametrize(("off", "refused"), [(0.0, False), (0.5e-4, False), (2e-4, True), (float("nan"), True)])
def test_vectors_that_differ_from_torchs_are_refused(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, off: float, refused: bool
) -> None:
    """An exported student with other vectors would have other results than its card says; NaN is no agreement."""

    class Session:
        def __init__(self, path: str, providers: list[str]) -> None:
            assert path == str(tmp_path / "model.onnx")

        def run(self, outputs: tuple[str, ...], inputs: dict[str, np.ndarray]) -> list[Any]:
            with torch.inference_mode():
                vectors = encoder.forward(*(torch.from_numpy(inputs[name]) for name in onnx.INPUTS)).numpy()
            return [vectors + np.float32(off)]

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    if refused:
        with pytest.raises(UserError, match=r"expected vectors from ONNX that equal torch's to 0.0001, found .* leave out --onnx"):
            onnx._compare(encoder, tmp_path / "model.onnx")
    else:
        onnx._compare(encoder, tmp_path / "model.onnx")
