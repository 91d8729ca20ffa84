"""Prebuilt indexes through Pyserini's own registry, download and cache: small ones, registered and packed here."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from mta4dpr.config.options import Bm25Settings
from mta4dpr.data.collection import BeirFolder
from mta4dpr.data.corpus import Corpus, open_corpus
from mta4dpr.data.tokens import TokenStore, tokens_of_corpus
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.models.encoder import Encoder
from mta4dpr.retrieval import java
from mta4dpr.retrieval.lucene import LuceneIndex, build_index
from mta4dpr.retrieval.prebuilt import bring, check_lucene, check_terms, find, vectors_of
from mta4dpr.retrieval.vectors import Encoding, Vectors, encode

HOW = Encoding("float32", 512, 1)
NAME = "mini-v1"


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Packs a folder, registers it in Pyserini's lists under NAME, and gives the option's value. Pyserini's cache is empty before."""
    java.start("512m")
    from pyserini import prebuilt_index_info as info

    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path / "pyserini"))

    def register(folder: Path, *, dense: bool, md5: str = "") -> str:
        archive = tmp_path / f"{NAME}.20261125.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, arcname=NAME)
        about = {"description": "a small index", "filename": archive.name, "urls": [archive.as_uri()], "size": archive.stat().st_size}
        about |= {"md5": md5 or hashlib.md5(archive.read_bytes()).hexdigest(), "documents": 40, "texts": "mini"}
        monkeypatch.setitem(info.FAISS_INDEX_INFO if dense else info.TF_INDEX_INFO, NAME, about)
        return f"prebuilt:{NAME}"

    return register


@pytest.fixture
def tokens(cache: Path, corpus: Corpus, encoder: Encoder) -> TokenStore:
    return tokens_of_corpus(cache, corpus, encoder.tokenizer, prefix="")


@pytest.fixture
def own(cache: Path, encoder: Encoder, tokens: TokenStore) -> Vectors:
    return encode(cache, encoder, tokens, longest=encoder.reading.passage_length, how=HOW)


def flat_index(folder: Path, vectors: np.ndarray, ids: list[str], kind: Any = faiss.IndexFlatIP) -> Path:
    folder.mkdir()
    index = kind(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    faiss.write_index(index, str(folder / "index"))
    (folder / "docid").write_text("".join(f"{one}\n" for one in ids))
    return folder


def ids_of(corpus: Corpus) -> list[str]:
    return [corpus.id(n) for n in range(len(corpus))]


def test_bm25_over_a_prebuilt_index(cache: Path, corpus: Corpus, registered: Callable[..., str]) -> None:
    """Hits and pair scores are those of our own index; nothing is printed on stdout, where commands print JSON."""
    folder = build_index(cache, corpus, Bm25Settings(heap="512m"), threads=1)
    prebuilt = find(registered(folder, dense=False), dense=False, heap="512m")
    assert prebuilt.folder is None
    place = bring(prebuilt, cache, offline=False)
    assert prebuilt.folder == place
    assert bring(prebuilt, cache, offline=True) == place
    ours, theirs = (LuceneIndex(where, corpus, Bm25Settings(), 1) for where in (folder, place))
    for a, b in zip(ours.search(["red fox", "river"], 5), theirs.search(["red fox", "river"], 5), strict=True):
        np.testing.assert_array_equal(a.passages, b.passages)
        np.testing.assert_array_equal(a.scores, b.scores)
    some = np.arange(10)
    np.testing.assert_array_equal(ours.score("red fox", some), theirs.score("red fox", some))
    assert theirs.not_indexed == ours.not_indexed


def test_a_lucene_index_of_other_passages_is_refused(
    cache: Path, corpus: Corpus, tmp_path: Path, beir_folder: Callable[..., Path], registered: Callable[..., str]
) -> None:
    """Larger than the corpus: refused when it is opened. Other ids: when one of them is found."""
    strangers = [(f"x{n}", "", "red fox") for n in range(len(corpus))]
    for extra, told in ((1, "found"), (0, "is an index of other passages: 'x")):
        passages = [*strangers, *[("more", "", "red fox")] * extra]
        other = open_corpus(cache, BeirFolder(beir_folder(tmp_path / f"other-{extra}", passages)))
        index = registered(build_index(cache, other, Bm25Settings(heap="512m"), threads=1), dense=False)
        with pytest.raises(UserError, match=told):
            place = bring(find(index, dense=False, heap="512m"), cache, offline=False)
            list(LuceneIndex(place, corpus, Bm25Settings(), 1).search(["red fox"], 3))


def test_a_lucene_index_of_a_part_of_the_corpus_is_refused(
    cache: Path, corpus: Corpus, tmp_path: Path, beir_folder: Callable[..., Path], registered: Callable[..., str]
) -> None:
    """Its ids are the corpus's, so only the count tells. Passages without a text may be lacking: Lucene leaves them out."""
    texts = [("a", "", "red fox"), ("b", "", ""), ("c", "t", ""), ("d", "", "")]
    whole = open_corpus(cache, BeirFolder(beir_folder(tmp_path / "whole", texts)))
    assert whole.empty == 2
    for kept, told in ((texts, ""), (texts[:2], "lacks 1 of those that have a text")):
        part = open_corpus(cache, BeirFolder(beir_folder(tmp_path / f"part-{len(kept)}", kept)))
        prebuilt = find(registered(build_index(cache, part, Bm25Settings(heap="512m"), threads=1), dense=False), dense=False, heap="512m")
        retriever = LuceneIndex(bring(prebuilt, cache, offline=False), whole, Bm25Settings(), 1)
        with pytest.raises(UserError, match=told) if told else nullcontext():
            check_lucene(prebuilt, whole, not_indexed=retriever.not_indexed)


@pytest.mark.parametrize(
    ("made", "asked", "told"),
    [
        ({}, {}, ""),
        ({"language": "de"}, {"language": "de"}, ""),
        ({"language": "de"}, {}, "made by another analyzer than bm25.language en: .* found .*%; set bm25.language"),
        ({}, {"analyzer": "whitespace"}, "made by another analyzer than bm25.analyzer whitespace"),
        ({"stemmer": "krovetz"}, {"stemmer": "none"}, "made by another analyzer than bm25.stemmer none"),
    ],
)
def test_a_lucene_index_of_another_analyzer_is_refused(
    cache: Path,
    tmp_path: Path,
    beir_folder: Callable[..., Path],
    registered: Callable[..., str],
    made: dict[str, str],
    asked: dict[str, str],
    told: str,
) -> None:
    """The rows would be those of a BM25 that finds few of the terms, and nothing would say so."""
    texts = [("a", "", "Running houses, flying ponies"), ("b", "Cities", "rivers' bridges are being crossed"), ("c", "", "")]
    corpus = open_corpus(cache, BeirFolder(beir_folder(tmp_path / "texts", texts)))
    folder = build_index(cache, corpus, Bm25Settings(heap="512m", **made), threads=1)
    prebuilt, settings = find(registered(folder, dense=False), dense=False, heap="512m"), Bm25Settings(**asked)
    index = LuceneIndex(bring(prebuilt, cache, offline=False), corpus, settings, 1)
    with pytest.raises(UserError, match=told) if told else nullcontext():
        check_terms(prebuilt, index, settings)


def test_downloading_prints_nothing_on_stdout(
    tmp_path: Path, registered: Callable[..., str], own: Vectors, corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    index = registered(flat_index(tmp_path / "flat", own.array, ids_of(corpus)), dense=True)
    bring(find(index, dense=True, heap="512m"), tmp_path / "cache", offline=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_of_a_flat_index_are_the_encoders(
    tmp_path: Path, corpus: Corpus, encoder: Encoder, tokens: TokenStore, own: Vectors, registered: Callable[..., str], dtype: str
) -> None:
    """Whatever the order of the index, row n is passage n; the second time nothing is read."""
    order = np.random.default_rng(1).permutation(len(corpus))
    folder = flat_index(tmp_path / "flat", own.array[order], [corpus.id(int(n)) for n in order])
    prebuilt = find(registered(folder, dense=True), dense=True, heap="512m")
    place = bring(prebuilt, tmp_path / "cache", offline=False)
    how = Encoding(dtype, 512, 1)
    found = vectors_of(tmp_path / "cache", prebuilt, place, corpus=corpus, encoder=encoder, tokens=tokens, how=how)
    np.testing.assert_array_equal(found.array, own.array.astype(dtype))
    (place / "index").unlink()
    again = vectors_of(tmp_path / "cache", prebuilt, place, corpus=corpus, encoder=encoder, tokens=tokens, how=how)
    np.testing.assert_array_equal(again.array, found.array)


def test_a_few_passages_that_the_index_lacks_are_encoded(
    tmp_path: Path,
    corpus: Corpus,
    encoder: Encoder,
    tokens: TokenStore,
    own: Vectors,
    registered: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in DPR's Wikipedia indexes, which lack 4 of 21,015,324; many lacking ones are a mistake, and nothing is left of it."""
    folder = flat_index(tmp_path / "flat", own.array[2:], ids_of(corpus)[2:])
    prebuilt = find(registered(folder, dense=True), dense=True, heap="512m")
    arguments: dict[str, Any] = {"corpus": corpus, "encoder": encoder, "tokens": tokens, "how": HOW}
    place = bring(prebuilt, tmp_path / "cache", offline=False)
    with pytest.raises(UserError, match="2 passages without one"):
        vectors_of(tmp_path / "cache", prebuilt, place, **arguments)
    assert not list((tmp_path / "cache").rglob("*vectors*.npy")) + list((tmp_path / "cache").rglob("*.part"))
    monkeypatch.setattr("mta4dpr.retrieval.prebuilt.MOST_LACKING", 0.1)
    found = vectors_of(tmp_path / "cache", prebuilt, place, **arguments)
    np.testing.assert_allclose(found.array, own.array, atol=1e-6)


def test_indexes_that_do_not_fit(
    tmp_path: Path, corpus: Corpus, encoder: Encoder, tokens: TokenStore, own: Vectors, registered: Callable[..., str]
) -> None:
    """Another model's vectors, other passages, another metric, other dimensions: each is named, and nothing is kept."""
    draw = np.random.default_rng(2)
    cases = {
        "expected vectors as long as those of tiny, found them 3 times": (3 * own.array, ids_of(corpus), faiss.IndexFlatIP),
        "does not hold the vectors of tiny": (draw.normal(size=own.array.shape), ids_of(corpus), faiss.IndexFlatIP),
        "index of other passages: 'x0'": (own.array, [f"x{n}" for n in range(len(corpus))], faiss.IndexFlatIP),
        "flat index of inner products, found IndexFlatL2": (own.array, ids_of(corpus), faiss.IndexFlatL2),
        "expected vectors of 32 dimensions for tiny, found 8": (own.array[:, :8], ids_of(corpus), faiss.IndexFlatIP),
        "vectors and 39 ids": (own.array, ids_of(corpus)[:-1], faiss.IndexFlatIP),
        "vectors and more ids": (own.array[:-1], ids_of(corpus), faiss.IndexFlatIP),
        "holds vectors that are NaN": (np.full_like(own.array, np.nan), ids_of(corpus), faiss.IndexFlatIP),
    }
    for n, (told, (array, ids, kind)) in enumerate(cases.items()):
        folder = flat_index(tmp_path / f"flat-{n}", array, ids, kind)
        prebuilt = find(registered(folder, dense=True), dense=True, heap="512m")
        with pytest.raises(UserError, match=told.replace("39", str(len(corpus) - 1))):
            vectors_of(tmp_path / "cache", prebuilt, folder, corpus=corpus, encoder=encoder, tokens=tokens, how=HOW)
    prebuilt = find(registered(flat_index(tmp_path / "alone", own.array, ids_of(corpus)), dense=True), dense=True, heap="512m")
    (tmp_path / "alone" / "docid").unlink()
    with pytest.raises(UserError, match="found no docid"):
        vectors_of(tmp_path / "cache", prebuilt, tmp_path / "alone", corpus=corpus, encoder=encoder, tokens=tokens, how=HOW)
    assert not list((tmp_path / "cache").rglob("vectors.npy"))


def test_names_and_damage_are_told(tmp_path: Path, corpus: Corpus, own: Vectors, registered: Callable[..., str]) -> None:
    folder = flat_index(tmp_path / "flat", own.array, ids_of(corpus))
    index = registered(folder, dense=True, md5="0" * 32)
    with pytest.raises(EnvironmentLack, match="does not match checksum"):
        bring(find(index, dense=True, heap="512m"), tmp_path / "cache", offline=False)
    with pytest.raises(EnvironmentLack, match="--offline is given"):
        bring(find(index, dense=True, heap="512m"), tmp_path / "cache", offline=True)
    with pytest.raises(UserError, match="one of the other kind: 'mini-v1'"):
        find(index, dense=False, heap="512m")
    with pytest.raises(UserError, match="did you mean 'mini-v1'"):
        find("prebuilt:mini-v2", dense=True, heap="512m")
