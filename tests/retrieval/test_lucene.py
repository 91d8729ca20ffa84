"""BM25 through Anserini: figures by hand, ties, and Pyserini's own reader on the same index."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

from mta4dpr.config.options import Bm25Settings
from mta4dpr.data.collection import BeirFolder
from mta4dpr.data.corpus import Corpus, open_corpus
from mta4dpr.errors import EnvironmentLack
from mta4dpr.retrieval import lucene
from mta4dpr.retrieval.lucene import LuceneIndex, build_index

HEAP = "512m"
PASSAGES = [
    ("d1", "", "red fox"),
    ("d2", "", "red fox"),
    ("d10", "", "red fox"),
    ("d3", "Fox", "a red dog"),
    ("d4", "", ""),
    ("é", "", "the of"),
    ("d5", "", "blue whale blue whale"),
]


@pytest.fixture(scope="module")
def small(cache: Path, tmp_path_factory: pytest.TempPathFactory, beir_folder: Callable[..., Path]) -> LuceneIndex:
    corpus = open_corpus(cache, BeirFolder(beir_folder(tmp_path_factory.mktemp("bm25") / "small", PASSAGES)))
    return LuceneIndex(build_index(cache, corpus, heap=HEAP, threads=2), corpus, Bm25Settings(), 2)


@pytest.fixture(scope="module")
def retriever(cache: Path, corpus: Corpus) -> LuceneIndex:
    return LuceneIndex(build_index(cache, corpus, heap=HEAP, threads=2), corpus, Bm25Settings(), 2)


def ranking(retriever: LuceneIndex, text: str, k: int) -> list[tuple[str, float]]:
    (hits,) = retriever.search([text], k)
    found = zip(hits.passages[0].tolist(), hits.scores[0].tolist(), strict=True)
    return [(retriever.corpus.id(passage), score) for passage, score in found if passage >= 0]


def by_hand(*, df: int, tf: int, length: int) -> float:
    """Lucene's BM25 of one term over PASSAGES: 5 of them have terms, 13 in all (a, the, of are stop words)."""
    idf = math.log(1 + (5 - df + 0.5) / (df + 0.5))
    return idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * length / (13 / 5)))


def test_scores_are_bm25_by_hand(small: LuceneIndex) -> None:
    """k1 0.9, b 0.4, Lucene's idf, the title counted: what Anserini's regressions for BEIR rest on."""
    found = dict(ranking(small, "red foxes", 10))
    two = 2 * by_hand(df=4, tf=1, length=2)
    assert found == pytest.approx({"d1": two, "d2": two, "d10": two, "d3": 2 * by_hand(df=4, tf=1, length=3)}, abs=1e-4)
    assert dict(ranking(small, "whale", 10)) == pytest.approx({"d5": by_hand(df=1, tf=2, length=4)}, abs=1e-4)


def test_ties_are_ranked_as_anserini_ranks_them(small: LuceneIndex) -> None:
    """Anserini parts equal scores by 1e-6, the smaller id first; the run keeps these scores, so trec_eval sees that same order."""
    found = ranking(small, "red fox", 10)
    assert [name for name, _ in found] == ["d1", "d10", "d2", "d3"]
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[0] - scores[2] < 1e-5
    assert [name for name, _ in ranking(small, "red fox", 2)] == ["d1", "d10"]


@pytest.mark.parametrize("text", ["", "   ", "the", "the of", '? : " * ~ \\', "zebra", "日本"])
def test_a_query_that_matches_nothing_has_an_empty_list(small: LuceneIndex, text: str) -> None:
    """Stop words, Lucene's own syntax, unknown words: an empty list, no error; the query then scores 0."""
    assert ranking(small, text, 10) == []
    assert small.score(text, np.arange(7)).tolist() == [0.0] * 7


def test_an_index_that_is_damaged_is_told(cache: Path, corpus: Corpus, tmp_path: Path) -> None:
    """A copy that stopped in the middle is no bug of ours; what to delete is said."""
    folder = shutil.copytree(build_index(cache, corpus, heap="512m", threads=1), tmp_path / "index")
    for path in folder.glob("segments_*"):
        os.truncate(path, 20)
    with pytest.raises(EnvironmentLack, match="cannot be read .*; delete that folder"):
        LuceneIndex(folder, corpus, Bm25Settings(), 1)


def test_an_empty_query_between_others_shifts_nothing(small: LuceneIndex) -> None:
    """Rows are queries; one that matches nothing must not take another's hits."""
    (hits,) = small.search(["whale", "", "red dog"], 3)
    assert [small.corpus.id(row[0]) if row[0] >= 0 else None for row in hits.passages.tolist()] == ["d5", None, "d3"]


def test_blocks_of_queries_are_one_list(retriever: LuceneIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is written block by block; where a block ends must not be seen."""
    texts = ["red fox", "ocean", "", "winter song of iron", "dog"]
    (whole,) = retriever.search(texts, 20)
    monkeypatch.setattr(lucene, "SEARCH_BLOCK", 2)
    blocks = list(retriever.search(texts, 20))
    assert [len(block.passages) for block in blocks] == [2, 2, 1]
    np.testing.assert_array_equal(np.vstack([block.passages for block in blocks]), whole.passages)
    np.testing.assert_array_equal(np.vstack([block.scores for block in blocks]), whole.scores)


@pytest.mark.parametrize("text", ["red fox", "winter song of iron marble", "lantern lantern copper"])
def test_scores_of_given_passages_are_those_of_the_search(retriever: LuceneIndex, text: str) -> None:
    """BM25 as teacher or assistant scores the groups' passages; 0 where no term matches. 1e-4: Anserini parts ties."""
    every = len(retriever.corpus)
    found = dict(ranking(retriever, text, every))
    asked = np.random.default_rng(0).permutation(every)
    scores = retriever.score(text, asked)
    expected = [found.get(name, 0.0) for name in retriever.corpus.ids(asked)]
    assert 0 < len(found) < every
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert ((scores > 0) == (np.array(expected) > 0)).all()


def test_scores_of_few_passages_do_not_depend_on_the_others(retriever: LuceneIndex) -> None:
    """Document frequencies are the corpus's, not those of the passages asked for."""
    whole = retriever.score("red fox", np.arange(60))
    np.testing.assert_allclose(retriever.score("red fox", np.array([41, 3])), whole[[41, 3]], atol=1e-4)
    assert retriever.score("red fox", np.array([], np.int64)).shape == (0,)


def test_settings_are_used(small: LuceneIndex) -> None:
    """b = 0 takes no notice of length: then d3 ties with d1."""
    other = LuceneIndex(small.folder, small.corpus, Bm25Settings(k1=0.9, b=0), 1)
    scores = dict(ranking(other, "red fox", 10))
    assert scores["d3"] == pytest.approx(scores["d1"], abs=1e-5)


def test_passages_without_text_are_counted(small: LuceneIndex, retriever: LuceneIndex) -> None:
    """d4 is empty: Lucene leaves it out, and the run says so. ("the of" is indexed, though no query finds it.)"""
    assert small.not_indexed == 1
    assert retriever.not_indexed == 0


def test_the_index_is_built_once(small: LuceneIndex, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lucene, "_call", lambda *_: pytest.fail("indexed again"))
    assert build_index(cache, small.corpus, heap=HEAP, threads=1) == small.folder


def test_an_index_is_built_again_under_the_builders_lock(
    tmp_path: Path, beir_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--redo index` while another run builds: two builders at once would each replace the other's folder. The earlier one stays."""
    corpus = open_corpus(tmp_path, BeirFolder(beir_folder(tmp_path / "small", PASSAGES)))
    folder = build_index(tmp_path, corpus, heap=HEAP, threads=1)
    before, held = (folder / lucene.ABOUT).stat().st_mtime_ns, []
    plain = lucene.folder_written_aside

    @contextmanager
    def written(path: Path) -> Iterator[Path]:
        with plain(path) as aside:
            try:
                FileLock(str(folder) + ".lock").acquire(timeout=0)
            except Timeout:
                held.append(path)
            yield aside
            assert (folder / lucene.ABOUT).exists(), "others must find an index until the new one is whole"

    monkeypatch.setattr(lucene, "folder_written_aside", written)
    opened = LuceneIndex(folder, corpus, Bm25Settings(), 1)
    assert build_index(tmp_path, corpus, heap=HEAP, threads=1, again=True) == folder
    assert held == [folder]
    assert (folder / lucene.ABOUT).stat().st_mtime_ns != before
    assert len(ranking(opened, "red fox", 7)) == len(ranking(LuceneIndex(folder, corpus, Bm25Settings(), 1), "red fox", 7)) == 4


@pytest.mark.slow
def test_pyserini_reads_the_index_and_ranks_alike(retriever: LuceneIndex) -> None:
    """The promise to Pyserini's users: their LuceneSearcher opens what `export --index` leaves, same passages, same scores."""
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(str(retriever.folder))
    searcher.set_bm25(0.9, 0.4)
    for text in ("red fox", "winter song of iron marble", "lantern"):
        theirs = [(hit.docid, hit.score) for hit in searcher.search(text, 30)]
        ours = ranking(retriever, text, 30)
        assert [name for name, _ in ours] == [name for name, _ in theirs]
        np.testing.assert_allclose([score for _, score in ours], [score for _, score in theirs], rtol=1e-6)
