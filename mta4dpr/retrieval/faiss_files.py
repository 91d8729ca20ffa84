"""FAISS files in Pyserini's layout, which its FaissSearcher opens: `index` (FAISS) and `docid` (one id a line)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import EnvironmentLack
from mta4dpr.machine.kept import sealed_folder
from mta4dpr.retrieval.exact import PASSAGE_BLOCK
from mta4dpr.retrieval.vectors import Vectors


def write_faiss_index(folder: Path, vectors: Vectors, corpus: Corpus, *, approximate: Path | None = None) -> None:
    """An inner-product index that Pyserini's FaissSearcher opens: `index` (FAISS) and `docid` (one id a line).

    A flat one of the vectors, which are copied through and never all in memory; or that FAISS file.
    """
    with sealed_folder(folder) as aside:
        if approximate is None:
            _write_flat(aside / "index", vectors)
        else:
            try:
                os.link(approximate, aside / "index")
            except OSError:  # another file system
                shutil.copyfile(approximate, aside / "index")
        with open(aside / "docid", "w", encoding="utf-8", newline="\n") as file:
            for number in range(len(corpus)):
                file.write(corpus.id(number) + "\n")


def _write_flat(path: Path, vectors: Vectors) -> None:
    """FAISS's IndexFlatIP as its own writer would leave it: a head with the number of vectors, the number of floats, the floats.

    FAISS can only write what it holds, so it gives the head of an empty index, which gets the true numbers. Two vectors show
    first that its files are laid out so.
    """
    import faiss

    two = faiss.IndexFlatIP(vectors.dimensions)
    two.add(np.ones((2, vectors.dimensions), np.float32))
    if faiss.serialize_index(two).tobytes() != _flat_head(2, vectors.dimensions) + b"\0\0\x80\x3f" * 2 * vectors.dimensions:
        raise EnvironmentLack(f"FAISS {faiss.__version__} has another file format than the one known here; set dense.pyserini_index=false")
    with open(path, "wb") as file:
        file.write(_flat_head(len(vectors), vectors.dimensions))
        for _, block in vectors.blocks(PASSAGE_BLOCK):
            file.write(np.ascontiguousarray(block, "<f4").data)


def _flat_head(count: int, dimensions: int) -> bytes:
    import faiss

    empty = faiss.serialize_index(faiss.IndexFlatIP(dimensions)).tobytes()  # four letters, dimensions, count ... number of floats
    return empty[:8] + count.to_bytes(8, "little") + empty[16:-8] + (count * dimensions).to_bytes(8, "little")
