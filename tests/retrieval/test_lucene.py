"""BM25 through Anserini: figures by hand, ties, and Pyserini's own reader on the same index."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock, Timeout

from mta4dpr.config.options import LANGUAGES, Bm25Settings
from mta4dpr.data.collection import BeirFolder
from mta4dpr.data.corpus import Corpus, open_corpus
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.files import key_of
from mta4dpr.retrieval import java, lucene
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
    return LuceneIndex(build_index(cache, corpus, Bm25Settings(heap=HEAP), threads=2), corpus, Bm25Settings(), 2)


@pytest.fixture(scope="module")
def retriever(cache: Path, corpus: Corpus) -> LuceneIndex:
    return LuceneIndex(build_index(cache, corpus, Bm25Settings(heap=HEAP), threads=2), corpus, Bm25Settings(), 2)


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


@pytest.mark.parametrize("text", ["", "   ", "the", "the of", '? : " * ~ \\', "zebra", "日本", "\ud800"])
def test_a_query_that_matches_nothing_has_an_empty_list(small: LuceneIndex, text: str) -> None:
    """Stop words, Lucene's own syntax, unknown words: an empty list, no error; the query then scores 0."""
    assert ranking(small, text, 10) == []
    assert small.score(text, np.arange(7)).tolist() == [0.0] * 7


@pytest.fixture(scope="module")
def many_terms(cache: Path, tmp_path_factory: pytest.TempPathFactory, beir_folder: Callable[..., Path]) -> LuceneIndex:
    """400 passages over 6,000 words, of which each passage has 30 of its own choice, some of them twice."""
    draw = np.random.default_rng(3)
    texts = [(f"p{n}", "", " ".join(f"w{word}x" for word in draw.integers(0, 6000, 30))) for n in range(400)]
    corpus = open_corpus(cache, BeirFolder(beir_folder(tmp_path_factory.mktemp("many") / "terms", texts)))
    settings = Bm25Settings(heap=HEAP)
    return LuceneIndex(build_index(cache, corpus, settings, threads=2), corpus, settings, 2)


def sums_by_hand(index: LuceneIndex, weights: dict[str, int]) -> np.ndarray:
    """Lucene's BM25 of each passage for a query of those terms, in float64, out of the texts alone. (Below 40 terms, lengths are exact.)"""
    passages = [passage.text.split() for passage in index.corpus]
    df = Counter(term for words in passages for term in set(words))
    mean = sum(map(len, passages)) / len(passages)
    scores = np.zeros(len(passages))
    for row, words in enumerate(passages):
        for term, tf in Counter(words).items():
            idf = math.log(1 + (len(passages) - df[term] + 0.5) / (df[term] + 0.5))
            scores[row] += weights.get(term, 0) * idf * tf / (tf + 0.9 * (1 - 0.4 + 0.4 * len(words) / mean))
    return scores


@pytest.mark.parametrize("terms", [3, 1024, 1025, 5000])
def test_a_query_of_any_number_of_terms_has_its_exact_ranking(many_terms: LuceneIndex, terms: int) -> None:
    """Lucene refuses more than 1,024 terms, and ended the whole search; among others in a block, and as scores of given passages."""
    words = [f"w{n}x" for n in range(terms)]
    scores = sums_by_hand(many_terms, dict.fromkeys(words, 1))
    hits = next(iter(many_terms.search(["w1x", " ".join(words), "w2x"], 400)))
    found = hits.passages[1] >= 0
    assert sorted(hits.passages[1][found].tolist()) == np.flatnonzero(scores).tolist()
    np.testing.assert_allclose(hits.scores[1][found], scores[hits.passages[1][found]], rtol=1e-4)
    assert (np.diff(scores[hits.passages[1][found]]) < 1e-3).all()
    np.testing.assert_allclose(many_terms.score(" ".join(words), np.arange(400)), scores, rtol=1e-4)


def test_a_term_that_is_repeated_counts_each_time(many_terms: LuceneIndex) -> None:
    found = ranking(many_terms, "w7x " * 100_000, 400)
    scores = sums_by_hand(many_terms, {"w7x": 100_000})
    assert dict(found) == pytest.approx({f"p{n}": scores[n] for n in np.flatnonzero(scores)}, rel=1e-4)


@pytest.mark.slow
def test_a_query_of_100_000_terms(many_terms: LuceneIndex) -> None:
    """94,000 of them are in no passage."""
    words = [f"w{n}x" for n in range(100_000)]
    scores = sums_by_hand(many_terms, dict.fromkeys(words, 1))
    found = ranking(many_terms, " ".join(words), 400)
    assert dict(found) == pytest.approx({f"p{n}": scores[n] for n in range(400)}, rel=1e-4)


def test_queries_that_fail_together_are_searched_one_by_one(small: LuceneIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anserini says of a block only that some query failed. Alone each is answered, or says why."""
    import jnius

    class Failing:
        def __init__(self, searcher: Any, failure: str) -> None:
            self._searcher, self._failure = searcher, failure

        def batch_search(self, *_: Any) -> None:
            raise jnius.JavaException("queryCount = 2 is not equal to completedTaskCount = 0", "java.lang.RuntimeException", "", [])

        def search(self, text: str, k: int) -> Any:
            if self._failure:
                raise jnius.JavaException(self._failure, self._failure, "", [])
            return self._searcher.search(text, k)

    together = next(iter(small.search(["whale", "red fox"], 3)))
    monkeypatch.setattr(small, "_searcher", Failing(small._searcher, ""))
    alone = next(iter(small.search(["whale", "red fox"], 3)))
    np.testing.assert_array_equal(alone.passages, together.passages)
    np.testing.assert_array_equal(alone.scores, together.scores)
    monkeypatch.setattr(small, "_searcher", Failing(None, "java.lang.OutOfMemoryError: Java heap space"))
    with pytest.raises(EnvironmentLack, match="Java ran out of memory.*set bm25.heap to more"):
        list(small.search(["whale", "red fox"], 3))


TEXTS = {
    "de": ["Die Häuser der alten Städte", "Ein altes Haus am Fluß", "Sie kauften neue Bücher"],
    "fr": ["L'histoire des chevaux blancs", "Un cheval blanc dans les montagnes", "Les livres d'histoires"],
    "ar": ["الكتب القديمة في المكتبة", "كتاب قديم عن التاريخ", "المدينة الكبيرة"],
    "zh": ["我喜欢阅读历史书", "历史悠久的城市", "城市里的图书馆"],
    "ja": ["東京の古い図書館", "図書館で歴史の本を読む", "古い街の歴史"],
    "no": ["De gamle husene i byen", "Et gammelt hus ved elven", "Nye bøker"],
    "sw": ["vitabu vya zamani", "kitabu cha historia", "mji mkubwa"],
    "en": ["Running horses of old cities", "a horse runs in the city", "new books"],
}


@pytest.mark.parametrize("language", TEXTS)
def test_other_languages_are_searched_as_pyserini_does(language: str, tmp_path: Path, beir_folder: Callable[..., Path]) -> None:
    """An index made by Anserini's own command with -language, searched by what Pyserini's LuceneSearcher calls, after set_language."""
    texts = [(f"d{n}", "", text) for n, text in enumerate(TEXTS[language])]
    corpus = open_corpus(tmp_path, BeirFolder(beir_folder(tmp_path / "texts", texts)))
    settings = Bm25Settings(language=language, heap=HEAP)
    ours = LuceneIndex(build_index(tmp_path, corpus, settings, threads=1), corpus, settings, 1)
    (tmp_path / "collection").mkdir()
    lines = [json.dumps({"id": name, "contents": text}) for name, _, text in texts]
    (tmp_path / "collection" / "docs.jsonl").write_text("\n".join(lines))
    arguments = java.java_class("io.anserini.index.IndexCollection$Args")()
    arguments.collectionClass, arguments.input, arguments.index = "JsonCollection", str(tmp_path / "collection"), str(tmp_path / "theirs")
    arguments.language, arguments.quiet = language, True
    java.java_class("io.anserini.index.IndexCollection")(arguments).run()
    searcher = java.java_class("io.anserini.search.SimpleSearcher")(str(tmp_path / "theirs"))
    searcher.set_bm25(0.9, 0.4)
    if language != "en":
        searcher.set_language(language)
    found = 0
    for query in [*TEXTS[language], *" ".join(TEXTS[language]).split()]:
        theirs = [(hit.docid, hit.score) for hit in searcher.search(query, 3)]
        assert ranking(ours, query, 3) == theirs
        found += len(theirs)
    assert found > 5


def test_every_language_has_an_analyzer_and_anserini_has_no_other() -> None:
    java.start(HEAP)
    known = java.java_class("io.anserini.analysis.AnalyzerMap").analyzerMap.keySet().toArray()
    assert {*LANGUAGES} == {*map(str, known), "en", "sw"}
    for language in LANGUAGES:
        assert lucene.analyzer_of(Bm25Settings(language=language)) is not None


@pytest.mark.parametrize(
    ("given", "query", "found"),
    [
        ({}, "runs", ["a"]),
        ({"stemmer": "none"}, "runs", []),
        ({"stemmer": "krovetz"}, "ran", []),
        ({"stopwords": False}, "the", ["b"]),
        ({}, "the", []),
        ({"analyzer": "whitespace"}, "Fox,", ["b"]),
        ({"analyzer": "whitespace"}, "fox", []),
    ],
)
def test_english_is_analysed_as_asked(
    given: dict[str, Any], query: str, found: list[str], cache: Path, tmp_path: Path, beir_folder: Callable[..., Path]
) -> None:
    """Passages and queries alike, and each in an index of its own."""
    texts = [("a", "", "running dog"), ("b", "", "the Fox, old")]
    corpus = open_corpus(cache, BeirFolder(beir_folder(tmp_path / "texts", texts)))
    settings = Bm25Settings(heap=HEAP, **given)
    index = LuceneIndex(build_index(cache, corpus, settings, threads=1), corpus, settings, 1)
    assert [name for name, _ in ranking(index, query, 2)] == found


def test_the_usual_analyzer_leaves_folders_named_as_they_were(corpus: Corpus, tmp_path: Path) -> None:
    """An index of before there was a choice is found again; any other choice has a folder of its own."""
    before = key_of([corpus.text_hash, importlib.metadata.version("pyserini"), "title newline text"])
    assert lucene.index_folder(tmp_path, corpus, Bm25Settings()).name.endswith(before)
    assert lucene.index_folder(tmp_path, corpus, Bm25Settings(k1=2, heap="1g")).name.endswith(before)
    others = [
        Bm25Settings(**given) for given in ({"language": "de"}, {"stemmer": "none"}, {"stopwords": False}, {"analyzer": "whitespace"})
    ]
    assert len({lucene.index_folder(tmp_path, corpus, settings) for settings in [*others, Bm25Settings()]}) == 5


def test_an_index_that_is_damaged_is_told(cache: Path, corpus: Corpus, tmp_path: Path) -> None:
    """A copy that stopped in the middle is no bug of ours; what to delete is said."""
    folder = shutil.copytree(build_index(cache, corpus, Bm25Settings(heap="512m"), threads=1), tmp_path / "index")
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many bytes; skips where that is not permitted."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={max(16, size // 1024)}k", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small disk cannot be mounted here; it takes root on Linux")
        return place

    yield mount
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.99])
def test_a_disk_that_fills_is_the_machines_lack_wherever_lucene_is(
    many_terms: LuceneIndex, small_disk: Callable[[int], Path], share: float
) -> None:
    """Also in its commit, whose failure Anserini writes to a log; nothing is left that could be taken for an index."""
    size = sum(path.stat().st_size for path in many_terms.folder.iterdir())
    disk = small_disk(int(size * share))
    with pytest.raises(EnvironmentLack, match="no space left on the disk while writing .*/bm25/"):
        build_index(disk, many_terms.corpus, Bm25Settings(heap=HEAP), threads=2)
    assert not lucene.is_built(disk, many_terms.corpus, Bm25Settings())
    assert not any(path.is_dir() for path in (disk / "bm25").iterdir())


def test_a_file_that_may_not_grow_is_the_machines_lack(many_terms: LuceneIndex, tmp_path: Path) -> None:
    """`ulimit -f`, in a process of its own."""
    code = f"""
import resource, sys
from pathlib import Path
from mta4dpr.config.options import Bm25Settings
from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.retrieval import java
from mta4dpr.retrieval.lucene import build_index
java.start({HEAP!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    build_index(Path({str(tmp_path)!r}), Corpus(Path({str(many_terms.corpus.folder)!r})), Bm25Settings(), threads=2)
except EnvironmentLack as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search("/bm25/.* would be larger than a file may be here; raise the limit", done.stdout), done.stderr


def test_what_lucene_does_not_take_is_told(tmp_path: Path, beir_folder: Callable[..., Path]) -> None:
    """Anserini drops such a passage without a word, and the others would be ranked as if it did not exist."""
    passages = [("a", "", "red fox"), ("b", "", "x" * 20_000_001)]
    corpus = open_corpus(tmp_path, BeirFolder(beir_folder(tmp_path / "texts", passages)))
    with pytest.raises(UserError, match="does not take all of the passages 1 to 2; the longest of them, 'b', has 20,000,001 characters"):
        build_index(tmp_path, corpus, Bm25Settings(heap=HEAP), threads=1)
    assert not lucene.is_built(tmp_path, corpus, Bm25Settings())


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\x00\x1f"])
def test_blank_passages_are_left_out_and_all_others_are_counted(text: str, tmp_path: Path, beir_folder: Callable[..., Path]) -> None:
    """What is blank is what Anserini calls so; a no-break space is a text, though it has no term."""
    passages = [("a", "", "red fox"), ("b", "", text), ("c", "", "\u00a0")]
    corpus = open_corpus(tmp_path, BeirFolder(beir_folder(tmp_path / "texts", passages)))
    assert LuceneIndex(build_index(tmp_path, corpus, Bm25Settings(heap=HEAP), threads=1), corpus, Bm25Settings(), 1).not_indexed == 1


def test_the_index_is_built_once(small: LuceneIndex, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lucene, "_write", lambda *_: pytest.fail("indexed again"))
    assert build_index(cache, small.corpus, Bm25Settings(heap=HEAP), threads=1) == small.folder


def test_an_index_is_built_again_under_the_builders_lock(
    tmp_path: Path, beir_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--redo index` while another run builds: two builders at once would each replace the other's folder. The earlier one stays."""
    corpus = open_corpus(tmp_path, BeirFolder(beir_folder(tmp_path / "small", PASSAGES)))
    folder = build_index(tmp_path, corpus, Bm25Settings(heap=HEAP), threads=1)
    before, held = (folder / lucene.ABOUT).stat().st_mtime_ns, []
    plain = lucene.sealed_folder

    @contextmanager
    def written(path: Path) -> Iterator[Path]:
        with plain(path) as aside:
            try:
                FileLock(str(folder) + ".lock").acquire(timeout=0)
            except Timeout:
                held.append(path)
            yield aside
            assert (folder / lucene.ABOUT).exists(), "others must find an index until the new one is whole"

    monkeypatch.setattr(lucene, "sealed_folder", written)
    opened = LuceneIndex(folder, corpus, Bm25Settings(), 1)
    assert build_index(tmp_path, corpus, Bm25Settings(heap=HEAP), threads=1, again=True) == folder
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
