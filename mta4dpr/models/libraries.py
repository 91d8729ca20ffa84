"""The vectors that other libraries make of texts with a model's folder, for comparison with our own.

Each function takes the texts without their prefix and reads them as that library's users do. Knows no card and no benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import batched
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.models.onnx import FILE, OUTPUTS
from mta4dpr.models.settings import COSINE

if TYPE_CHECKING:
    from mta4dpr.models.encoder import Encoder

BATCH = 4  # texts at once, of like length: padding would cost more than the batch brings
Encode = Callable[[Sequence[str], bool], np.ndarray]  # (texts, whether they are queries) -> (texts, dimensions)


def by_us(encoder: Encoder) -> Encode:
    """Our own."""
    reading = encoder.reading

    def encode(texts: Sequence[str], queries: bool) -> np.ndarray:
        prefix, longest = _read(encoder, queries)
        tokens = encoder.tokens(texts, prefix)
        return encoder.encode(tokens, np.arange(len(texts)), longest=longest, token_budget=BATCH * max(reading.passage_length, longest))

    return encode


def by_sentence_transformers(folder: Path) -> Encode:
    """encode_query and encode_document of the folder as it is; brought to length 1 where it compares by cosine."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def encode(texts: Sequence[str], queries: bool) -> np.ndarray:
        how = model.encode_query if queries else model.encode_document
        unit = model.similarity_fn_name == COSINE
        return np.asarray(how(list(texts), batch_size=BATCH, show_progress_bar=False, normalize_embeddings=unit))

    return encode


def by_code(code: str, encoder: Encoder) -> Encode:
    """A function `encode(texts, longest)` that Python code defines, which loads the folder by itself."""
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 (our own template, with the folder's name as a string in it)

    def encode(texts: Sequence[str], queries: bool) -> np.ndarray:
        prefix, longest = _read(encoder, queries)
        return _in_batches(texts, lambda some: np.asarray(names["encode"]([prefix + text for text in some], longest)))

    return encode


def by_onnx(folder: Path, encoder: Encoder) -> Encode:
    """The folder's ONNX file by onnxruntime, with its tokenizer.json."""
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()

    def encode(texts: Sequence[str], queries: bool) -> np.ndarray:
        prefix, longest = _read(encoder, queries)
        tokenizer.enable_truncation(longest)

        def vectors(some: Sequence[str]) -> np.ndarray:
            batch = tokenizer.encode_batch([prefix + text for text in some])
            arrays = {"input_ids": [text.ids for text in batch], "attention_mask": [text.attention_mask for text in batch]}
            return np.asarray(session.run(OUTPUTS[1:], {name: np.array(ids, np.int64) for name, ids in arrays.items()})[0])

        return _in_batches(texts, vectors)

    return encode


def by_pyserini(folder: Path, encoder: Encoder, *, pooling: str, normalized: bool) -> Encode:
    """AutoQueryEncoder, which encodes queries alone and one at a time. Importing it takes half a minute, and Java."""
    from pyserini.encode import AutoQueryEncoder

    theirs = AutoQueryEncoder(str(folder), pooling=pooling, l2_norm=normalized)

    def encode(texts: Sequence[str], queries: bool) -> np.ndarray:
        prefix, longest = _read(encoder, queries)
        theirs.tokenizer.model_max_length = longest
        # its normalisation wants a matrix, which it gives of one text
        return np.stack([np.asarray(theirs.encode(prefix + text)).ravel() for text in texts])

    return encode


def _read(encoder: Encoder, queries: bool) -> tuple[str, int]:
    """(prefix, tokens) of queries or passages."""
    reading = encoder.reading
    return (reading.query_prefix, reading.query_length) if queries else (reading.passage_prefix, reading.passage_length)


def _in_batches(texts: Sequence[str], vectors: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    def parts() -> Iterator[np.ndarray]:
        for some in batched(order, BATCH):
            yield vectors([texts[n] for n in some])

    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    found = np.concatenate(list(parts()))
    sorted_back = np.empty_like(found)
    sorted_back[order] = found
    return sorted_back


def pooling_elsewhere(encoder: Encoder) -> str:
    """mean or cls where AutoModel with that pooling, and at most a normalisation after it, gives the encoder's vectors; else empty."""
    from transformers import MODEL_MAPPING

    network, kinds = encoder.network, [type(module).__name__ for module in encoder.network if type(module).__name__ != "Dropout"]
    mode = network[1].pooling_mode
    same_class = MODEL_MAPPING.get(type(encoder.transformer.config), None) is type(
        encoder.transformer
    )  # of T5, AutoModel is more than an encoder
    as_read = encoder.includes_prompts and not network[0].do_lower_case
    plain = kinds in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) and mode in ("mean", "cls")
    return str(mode) if plain and same_class and as_read else ""


def is_normalized(encoder: Encoder) -> bool:
    """Whether vectors leave the network with length 1."""
    return [type(module).__name__ for module in encoder.network if type(module).__name__ != "Dropout"][-1] == "Normalize"
