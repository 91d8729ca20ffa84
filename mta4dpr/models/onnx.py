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
    check_packages()
    if not encoder.includes_prompts:
        raise UserError(
            f"{encoder.label} leaves its prefixes out of pooling (include_prompt in the settings of Pooling), which the ONNX file cannot: "
            "leave out --onnx"
        )
    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    transformer = encoder.transformer
    attention = transformer.config._attn_implementation
    try:
        try:
            program = _program(encoder)
        except Exception:  # torch's fused attention has no ONNX in some architectures (T5), the plain one has
            transformer.set_attn_implementation("eager")
            program = _program(encoder)
    except Exception as error:  # the exporter raises anything for a network that it cannot write
        import torch

        raise UserError(
            f"{encoder.label}: torch {torch.__version__} has no ONNX for {type(transformer).__name__} ({_first_line(error)}); "
            "leave out --onnx"
        ) from error
    finally:
        transformer.set_attn_implementation(attention)
    program.save(str(path), external_data=False)
    _compare(encoder, path)
    return path


def _program(encoder: Encoder) -> Any:
    """The network as torch's exporter writes it, for any number of texts and tokens."""
    import torch

    network = encoder.network.to("cpu").eval()

    class EncoderGraph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.network({"input_ids": input_ids, "attention_mask": attention_mask})
            return found["token_embeddings"], found["sentence_embedding"]

    texts, tokens = torch.export.Dim("texts"), torch.export.Dim("tokens")
    with _quiet():
        return torch.onnx.export(
            EncoderGraph().eval(),
            tuple(_batch(encoder, 2, 9)),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes={name: {0: texts, 1: tokens} for name in INPUTS},
            dynamo=True,
            verbose=False,
        )


def _first_line(error: Exception) -> str:
    """What went wrong at the bottom, without the exporter's colours and advice."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


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
