"""`verify`: whether others get from a model's folder the vectors that we get, by the same texts through each library.

The texts are read as queries and as passages: short and empty ones, longer ones than are read, and other scripts than Latin.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.errors import UserError

if TYPE_CHECKING:
    from mta4dpr.models.encoder import Encoder

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of the largest number of the vectors, or of 1 where that is more
TEXTS = (
    *("", " ", "a", "?", "1905", "\n\t", "...", "http://example.org/a?b=c#d", "<b>bold</b> & more"),
    *("how to read a file", "What is the capital of France?", "WHO WROTE IT", "it's the end-of-line, isn't it?"),
    *(
        "Zürich and Málaga",
        "naïve café",
        "Страна и город",
        "北京是中国的首都",
        "東京の天気",
        "서울의 봄",
        "مدينة القاهرة",
        "תל אביב",
        "ประเทศไทย",
    ),
    *("Ελλάδα", "भारत", "\u200bzero\u200bwidth", "ﬁne ﬂuid", "🙂 smile 🙂", "x" * 300, "e = mc^2; \\alpha \\leq 3"),
    "The file is opened, read line by line, and closed when the block ends, whatever happened inside it.",
    "A passage of some length about rivers, stones and the winters in which they freeze. " * 9,
    "word " * 1200,
)


def verify(target: str, *, pyserini: bool, offline: bool) -> dict[str, Any]:
    """What `verify` says of a model: {"model", "folder", "texts", "tolerance", "rows", "differ"}.

    Rows are {"library", "queries", "passages"}: the largest difference of a number of a vector, None where the library has no such
    vectors. `differ` names libraries beyond the tolerance.
    """
    from mta4dpr.config.benchmark import ModelSpec
    from mta4dpr.models.encoder import load_encoder
    from mta4dpr.models.files import find_model

    folder, _ = find_model(target, offline=offline)
    encoder = load_encoder(target, ModelSpec(model=target), device="cpu", offline=offline)
    return {"model": target, "folder": str(folder), **verify_model(encoder, folder, pyserini=pyserini)}


def verify_model(encoder: Encoder, folder: Path, *, pyserini: bool = False) -> dict[str, Any]:
    """The comparison of an encoder with what the libraries make of its folder; {"texts", "tolerance", "rows", "differ"}."""
    from mta4dpr.models import libraries, onnx
    from mta4dpr.models.settings import MODULE_LIST
    from mta4dpr.report.card import transformers_code

    pooling, normalized = libraries.pooling_elsewhere(encoder), libraries.is_normalized(encoder)
    made = {}
    if (folder / MODULE_LIST).exists():
        made["sentence-transformers"] = lambda: libraries.by_sentence_transformers(folder)
    if pooling:
        code = transformers_code(str(folder), pooling=pooling, normalized=normalized)
        made["transformers"] = lambda: libraries.by_code(code, encoder)
    if (folder / onnx.FILE).exists():
        onnx.check_packages()
        made["onnxruntime"] = lambda: libraries.by_onnx(folder, encoder)
    if pyserini and pooling:
        from mta4dpr.retrieval import java

        java.start()
        made["Pyserini"] = lambda: libraries.by_pyserini(folder, encoder, pooling=pooling, normalized=normalized)
    elif pyserini:
        log.warning("%s: Pyserini's AutoQueryEncoder has no pooling like this model's, so it is not compared", encoder.label)
    texts = _with_tokens(encoder)
    ours = {queries: libraries.by_us(encoder)(texts, queries) for queries in (True, False)}
    rows, differ = [], []
    for library, make in made.items():
        encode = make()
        found = {
            queries: _difference(ours[queries], encode(texts, queries)) for queries in ((True,) if library == "Pyserini" else (True, False))
        }
        rows.append({"library": library, "queries": found[True], "passages": found.get(False)})
        largest = max(1.0, *(float(np.abs(vectors).max()) for vectors in ours.values()))
        if not all(difference <= TOLERANCE * largest for difference in found.values()):
            differ.append(library)
    return {"texts": len(texts), "tolerance": TOLERANCE, "rows": rows, "differ": differ}


def check_verified(document: dict[str, Any], label: str) -> None:
    """UserError where a library gives other vectors."""
    if document["differ"]:
        worst = max(max(row["queries"], row["passages"] or 0.0) for row in document["rows"] if row["library"] in document["differ"])
        raise UserError(
            f"{label}: expected the vectors of every library to equal ours to {document['tolerance']}, found differences of up to "
            f"{worst:.2g} by {', '.join(document['differ'])}; use it through the others, or through mta4dpr"
        )


def _with_tokens(encoder: Encoder) -> list[str]:
    """The texts of which the tokenizer keeps something: of others, libraries have no vector or any."""
    lengths = encoder.tokens(TEXTS, "").lengths(encoder.reading.passage_length)
    return [text for text, length in zip(TEXTS, lengths, strict=True) if length]


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
