"""The FAISS index that Pyserini reads: its bytes, its ids, its ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mta4dpr.data.corpus import Corpus
from mta4dpr.data.tokens import tokens_of_corpus
from mta4dpr.machine.kept import STAMPS, SUMS
from mta4dpr.models.encoder import Encoder
from mta4dpr.retrieval import faiss_files
from mta4dpr.retrieval.exact import ExactIndex
from mta4dpr.retrieval.faiss_files import write_faiss_index
from mta4dpr.retrieval.hits import Hits
from mta4dpr.retrieval.vectors import Encoding, Vectors, encode

QUERIES = ["red fox", "winter song", "velvet", "the ocean and a stone", "dog dog dog"]


@pytest.fixture(scope="module")
def vectors(cache: Path, corpus: Corpus, encoder: Encoder) -> Vectors:
    tokens = tokens_of_corpus(cache, corpus, encoder.tokenizer, prefix="")
    how = Encoding(dtype="float32", token_budget=1024, threads=2)
    return encode(cache, encoder, tokens, longest=encoder.reading.passage_length, how=how)


def searched(vectors: Vectors, encoder: Encoder, corpus: Corpus, queries: Sequence[str] = QUERIES) -> Iterator[Hits]:
    """Our own exact search for the top 20."""
    return ExactIndex(vectors, corpus, encoder.device).search(encoder.encode_queries(queries), 20)


def test_the_flat_file_is_what_faiss_itself_writes(tmp_path: Path, vectors: Vectors, encoder: Encoder, corpus: Corpus) -> None:
    """It is written through without FAISS; every byte must be the same, or Pyserini would read something else."""
    import faiss

    write_faiss_index(tmp_path / "ours", vectors, corpus)
    index = faiss.IndexFlatIP(vectors.dimensions)
    index.add(np.array(vectors.array))
    faiss.write_index(index, str(tmp_path / "theirs"))
    assert (tmp_path / "ours" / "index").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_faiss_reads_the_index(tmp_path: Path, vectors: Vectors, encoder: Encoder, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pyserini's layout: `index`, an inner-product index, and `docid`, a line for each of its rows."""
    import faiss

    monkeypatch.setattr(faiss_files, "PASSAGE_BLOCK", 50)
    write_faiss_index(tmp_path / "faiss", vectors, corpus)
    assert sorted(path.name for path in (tmp_path / "faiss").iterdir()) == [STAMPS, SUMS, "docid", "index"]
    index = faiss.read_index(str(tmp_path / "faiss" / "index"))
    assert (index.ntotal, index.d, index.metric_type) == (len(corpus), 32, faiss.METRIC_INNER_PRODUCT)
    np.testing.assert_array_equal(index.reconstruct_n(0, index.ntotal), vectors.array)
    ids = (tmp_path / "faiss" / "docid").read_text(encoding="utf-8").splitlines()
    assert ids == corpus.ids(range(len(corpus)))
    scores, _ = index.search(encoder.encode_queries(QUERIES), 20)
    np.testing.assert_allclose(scores, np.vstack([hits.scores for hits in searched(vectors, encoder, corpus)]), atol=1e-6)


@pytest.mark.slow
def test_pyserini_searches_the_index_with_the_saved_student(tmp_path: Path, vectors: Vectors, encoder: Encoder, corpus: Corpus) -> None:
    """The promise to Pyserini's users: exported student and index, FaissSearcher and AutoQueryEncoder, our ranking."""
    from mta4dpr.retrieval import java

    java.start("512m")
    from pyserini.encode import AutoQueryEncoder
    from pyserini.search.faiss import FaissSearcher

    encoder.save(tmp_path / "student")
    write_faiss_index(tmp_path / "faiss", vectors, corpus)
    query_encoder = AutoQueryEncoder(encoder_dir=str(tmp_path / "student"), pooling="mean", l2_norm=True)
    searcher = FaissSearcher(str(tmp_path / "faiss"), query_encoder)
    for text, hits in zip(QUERIES, [next(iter(searched(vectors, encoder, corpus, [text]))) for text in QUERIES], strict=True):
        theirs = {hit.docid: hit.score for hit in searcher.search(text, 20)}
        ours = dict(zip(corpus.ids(hits.passages[0]), hits.scores[0].tolist(), strict=True))
        parted = {name for name in ours.keys() ^ theirs.keys() if abs({**ours, **theirs}[name] - hits.scores[0, -1]) > 1e-5}
        assert parted == set()
        assert {name: theirs[name] for name in ours.keys() & theirs.keys()} == pytest.approx(
            {name: ours[name] for name in ours.keys() & theirs.keys()}, abs=1e-5
        )
        assert len(ours.keys() & theirs.keys()) >= 18
