"""A bi-encoder as one ONNX file: token ids and mask in, vectors out, pooling and normalisation inside.

torch's own exporter makes it: Hugging Face's library for that, optimum-onnx, does not go with transformers 5 yet. The file has the name and
the output that sentence-transformers' onnx backend looks for, and one more output with the finished vectors, for onnxruntime alone.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.errors import EnvironmentLack, UserError

if TYPE_CHECKING:
    from mta4dpr.models.encoder import Encoder

FILE = "onnx/model.onnx"  # where sentence-transformers looks for it
INPUTS, OUTPUTS = ("input_ids", "attention_mask"), ("last_hidden_state", "sentence_embedding")
TOLERANCE = 1e-4
SHAPES = ((1, 3), (2, 8), (5, 17), (16, 12), (3, 10_000))  # (texts, tokens) that are compared; as long as the model reads at most


def check_packages() -> None:
    """EnvironmentLack when the packages of the extra `onnx` are not installed."""
    missing = [package for package in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(package) is None]
    if missing:
        raise EnvironmentLack(f"--onnx needs the extra onnx; {', '.join(missing)} is not installed: `pip install 'mta4dpr[onnx]'`")


def write_onnx(encoder: Encoder, folder: Path) -> Path:
    """Writes `folder`/onnx/model.onnx and compares its vectors with torch's; UserError when they differ by more than TOLERANCE."""
    import torch

    check_packages()
    network = encoder.network.to("cpu").eval()

    class EncoderGraph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.network({"input_ids": input_ids, "attention_mask": attention_mask})
            return found["token_embeddings"], found["sentence_embedding"]

    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    texts, tokens = torch.export.Dim("texts"), torch.export.Dim("tokens")
    with _quiet():
        program = torch.onnx.export(
            EncoderGraph().eval(),
            tuple(_batch(encoder, 2, 9)),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes={name: {0: texts, 1: tokens} for name in INPUTS},
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)
    _compare(encoder, path)
    return path


def _batch(encoder: Encoder, texts: int, tokens: int) -> tuple[Any, Any]:
    """Random token ids and a mask, (texts, tokens) int64; the first text fills its row, the others end somewhere."""
    import torch

    draw = torch.Generator().manual_seed(texts * 1000 + tokens)
    tokens = min(tokens, max(encoder.reading.query_length, encoder.reading.passage_length))
    ids = torch.randint(encoder.transformer.get_input_embeddings().num_embeddings, (texts, tokens), generator=draw)
    ends = torch.randint(1, tokens + 1, (texts, 1), generator=draw)
    ends[0] = tokens
    mask = (torch.arange(tokens) < ends).long()
    padding = encoder.network.tokenizer.pad_token_id or 0
    return torch.where(mask.bool(), ids, padding), mask


def _compare(encoder: Encoder, path: Path) -> None:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for texts, tokens in SHAPES:
        ids, mask = _batch(encoder, texts, tokens)
        with torch.inference_mode():
            ours = encoder.forward(ids, mask).numpy()
        (theirs,) = session.run(OUTPUTS[1:], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        off = float(np.abs(ours - theirs).max())
        if not off <= TOLERANCE:
            raise UserError(
                f"expected vectors from ONNX that equal torch's to {TOLERANCE}, found a difference of {off:.2g} for {texts} texts of "
                f"{ids.shape[1]} tokens; {type(encoder.transformer).__name__} cannot be exported: leave out --onnx"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of axes' names, of libraries that it could use, of each rewritten node; a user can do nothing about them."""
    loggers = {logger: logger.level for logger in map(logging.getLogger, ("torch.onnx", "onnxscript", "onnx_ir"))}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)
