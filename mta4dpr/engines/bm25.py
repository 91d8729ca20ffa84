"""BM25 by Lucene, through Anserini in Pyserini's JVM, over an index of our own or one that Pyserini has prebuilt."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.benchmark import Benchmark, ModelSpec
from mta4dpr.config.options import Bm25Settings
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.engines.engine import Engine
from mta4dpr.engines.scorer import Queries, Scorer
from mta4dpr.errors import EnvironmentLack
from mta4dpr.machine.files import copy_folder, key_of
from mta4dpr.machine.kept import STAMPS, SUMS
from mta4dpr.machine.places import CACHE
from mta4dpr.machine.work import ID_COLUMNS, PYTHON, Piece, StageKind, Work
from mta4dpr.retrieval.hits import Hits
from mta4dpr.retrieval.java import find_java, heap_bytes, heap_size
from mta4dpr.retrieval.lucene import ABOUT, LuceneIndex, build_index, is_built

log = logging.getLogger(__name__)

LUCENE_SHARE = 0.75  # bytes of a Lucene index for a byte of text


def terms_of(settings: Bm25Settings) -> dict[str, Any]:
    """How ir_metadata says what makes terms of texts; None where a step is left out."""
    lucene = "org.apache.lucene.analysis"
    if settings.analyzer == "whitespace" or settings.language == "sw":
        return {"tokenizer": f"{lucene}.core.WhitespaceTokenizer"}
    if settings.language != "en":
        return {"analyzer": f"Anserini's for the language {settings.language} (io.anserini.analysis.AnalyzerMap)"}
    stemmer = {"porter": f"{lucene}.en.PorterStemFilter", "krovetz": f"{lucene}.en.KStemFilter"}.get(settings.stemmer)
    return {
        "tokenizer": f"{lucene}.standard.StandardTokenizer",
        "stemmer": stemmer,
        "stopwords": f"{lucene}.en.EnglishAnalyzer.ENGLISH_STOP_WORDS_SET" if settings.stopwords else None,
    }


class Bm25(Engine):
    """BM25 with the benchmark's k1 and b (Robertson and Zaragoza 2009, as Lucene computes it)."""

    kind = "lexical"
    about = ("Lucene's BM25 through Pyserini", "Anserini")
    options: Bm25Settings
    _index: LuceneIndex | None = None

    @classmethod
    def options_of(cls, bench: Benchmark, model: ModelSpec | None, own: Mapping[str, Any]) -> Bm25Settings:
        """The section bm25 of the benchmark."""
        return bench.bm25

    @property
    def identity(self) -> Any:
        """k1, b, the prebuilt index where there is one, and how texts become terms where that is not the usual way."""
        return ["bm25", self.options.k1, self.options.b, *filter(None, [self.options.index, self.options.of_terms()])]

    def lacks(self) -> str:
        """Java 21, and how to get it."""
        try:
            find_java()
        except EnvironmentLack as error:
            return str(error)
        return ""

    @property
    def prebuilt(self) -> str:
        """`bm25.index` of the benchmark."""
        return self.options.index

    def pieces(self, texts: CorpusSize) -> Iterator[Piece]:
        """Lucene's index: its bytes are a share of the text's, its memory the JVM's heap."""
        if self.lacks():
            return
        name, java = "index for BM25", find_java()
        corpus = self.place.stored_corpus
        own = Piece(
            name,
            "cached" if not self.prebuilt and corpus and is_built(self.place.cache, corpus, self.options) else "to do",
            f"Java {java.version}",
            {CACHE: LUCENE_SHARE * texts.bytes},
            0.3e9 + self.held_memory,
            (Work("index", texts.passages),),
        )
        spared = f"Pyserini's {self.prebuilt.partition(':')[2]}"
        yield Piece(name, "prebuilt", spared, instead_of=own) if self.prebuilt else own

    def search_work(self, queries: int, texts: CorpusSize) -> tuple[Work, ...]:
        """Proportional to queries times passages."""
        return (Work("bm25", queries * texts.passages),)

    def search_memory(self, queries: int, k: int, texts: CorpusSize) -> float:
        """Lucene takes a few queries at a time; the heap is counted as held."""
        return PYTHON + ID_COLUMNS * texts.passages  # Lucene takes a few queries at a time

    @property
    def held_memory(self) -> float:
        """The JVM's largest heap."""
        return float(heap_bytes(heap_size(self.options.heap)))

    def open(self) -> None:
        """Opens the index; builds it, or brings the prebuilt one, on first use."""
        self._opened()

    def _opened(self) -> LuceneIndex:
        if self._index is None:
            self._index = self._prebuilt_index() if self.prebuilt else self._own_index()
            if self._index.not_indexed:
                log.info("bm25: %d of %d passages are empty; Lucene leaves them out", self._index.not_indexed, len(self.place.corpus))
        return self._index

    def _own_index(self) -> LuceneIndex:
        place = self.place
        known, started = is_built(place.cache, place.corpus, self.options), time.perf_counter()
        again = place.must_remake(place.cache / "bm25", StageKind.INDEX)
        folder = build_index(place.cache, place.corpus, self.options, threads=place.threads, again=again)
        if again or not known:
            place.rates.note("index", len(place.corpus), time.perf_counter() - started)
        return LuceneIndex(folder, place.corpus, self.options, place.threads)

    def _prebuilt_index(self) -> LuceneIndex:
        from mta4dpr.retrieval.prebuilt import bring, check_lucene, check_terms, find

        prebuilt = find(self.prebuilt, dense=False, heap=self.options.heap)
        folder = bring(prebuilt, self.place.cache, offline=self.place.offline)
        index = LuceneIndex(folder, self.place.corpus, self.options, self.place.threads)
        check_lucene(prebuilt, self.place.corpus, not_indexed=index.not_indexed)
        check_terms(prebuilt, index, self.options)
        return index

    def close(self) -> None:
        """Lets the searcher go; the JVM stays."""
        self._index = None

    def search(self, queries: Sequence[str], k: int) -> Iterator[Hits]:
        """Lucene's hits in the one order, at most SEARCH_BLOCK queries at a time."""
        return self._opened().search(queries, k)

    def note_search(self, queries: int, seconds: float) -> None:
        """Keeps the rate of the search."""
        self.place.rates.note("bm25", queries * len(self.place.corpus), seconds)

    @property
    def bytes(self) -> int:
        """Bytes of Lucene's files."""
        return self._opened().bytes

    def write_index(self, folder: Path) -> None:
        """Copies Lucene's files, which Pyserini's LuceneSearcher opens."""
        copy_folder(self._opened().folder, folder, leave_out=(ABOUT, "write.lock", SUMS, STAMPS))

    @classmethod
    def metadata(cls, label: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Lucene's analysis chain and similarity, k1 and b."""
        settings = Bm25Settings.model_validate(manifest["settings"]["bm25"])
        return {
            "automatic": True,
            "score ties": "Anserini: 1e-6 is subtracted for each tie, the smaller document id first",
            "indexing": terms_of(settings),
            "retrieval": [
                {
                    "name": label,
                    "method": "org.apache.lucene.search.similarities.BM25Similarity",
                    "k1": settings.k1,
                    "b": settings.b,
                    "index": settings.index or None,
                    "depth": manifest["settings"]["depth"],
                }
            ],
        }

    def scorer(self, queries: Queries) -> Bm25Scorer:
        """BM25 bound to the training queries."""
        key = key_of(["bm25", self.place.corpus.text_hash, *self.identity[1:]])
        return Bm25Scorer(self._opened(), queries.texts, key)


class Bm25Scorer(Scorer):
    """BM25 as a teacher or an assistant; 0 where a passage shares no term with the query."""

    label, kind, ranks = "bm25", "bm25", True

    def __init__(self, index: LuceneIndex, texts: Sequence[str], key: str) -> None:
        self.key, self._index, self._texts = key, index, texts

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Lucene's search."""
        return self._index.search([self._texts[n] for n in queries], k)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """BM25 of each pair, also of those that a search would not return."""
        return np.stack([self._index.score(self._texts[int(q)], row) for q, row in zip(queries, passages, strict=True)])
