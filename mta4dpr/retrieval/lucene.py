"""BM25 through Anserini in Pyserini's JVM: build, search, and score given pairs.

The index is one that Pyserini's LuceneSearcher opens. Title and text are joined by a newline, as in Anserini's
regressions for BEIR. The texts themselves stay in the corpus store. Anserini swallows what fails while it indexes or
searches on several threads, so documents and queries are counted, and the writer is asked for what ended it.
"""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.options import Bm25Settings
from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.files import key_of, lack_of_disk, write_json
from mta4dpr.machine.kept import is_whole, sealed_folder
from mta4dpr.machine.locks import lock_beside
from mta4dpr.machine.progress import track
from mta4dpr.retrieval import java
from mta4dpr.retrieval.hits import Hits, best

INDEX_BLOCK = 2000  # passages handed to Lucene at once
SEARCH_BLOCK = 64  # queries handed to Lucene at once
ABOUT = "mta4dpr.json"
BLANK = "".join(map(chr, range(33)))  # what Java's String.trim() takes away; Anserini leaves out a document that is nothing else
OF_THE_DISK = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENAMETOOLONG,
    errno.EIO,
)


def index_folder(cache: Path, corpus: Corpus, settings: Bm25Settings) -> Path:
    """Where the index of that corpus is, or would be. What makes terms of texts names it, unless it is the usual."""
    parts = [corpus.text_hash, importlib.metadata.version("pyserini"), "title newline text", *filter(None, [settings.of_terms()])]
    return cache / "bm25" / f"{corpus.folder.name.rsplit('-', 1)[0]}-{key_of(parts)}"


def is_built(cache: Path, corpus: Corpus, settings: Bm25Settings) -> bool:
    """Whether the cache holds a finished index of that corpus."""
    return is_whole(index_folder(cache, corpus, settings))


def build_index(cache: Path, corpus: Corpus, settings: Bm25Settings, *, threads: int, again: bool = False) -> Path:
    """The Lucene index of the corpus, built on first use (or `again`) by all threads; returns its folder.

    One process builds at a time. An index that others search is replaced as a whole; what they have open stays readable.
    """
    folder = index_folder(cache, corpus, settings)
    with lock_beside(folder):
        if is_whole(folder, otherwise="it is built again") and not again:
            return folder
        java.start(settings.heap)
        with sealed_folder(folder) as aside:
            with _failures_of(f"write its index in {folder.parent}", folder):
                indexed = _write(aside, corpus, settings, threads)
            write_json(aside / ABOUT, {"text_hash": corpus.text_hash, "passages": len(corpus), "indexed": indexed, **settings.of_terms()})
    return folder


def _write(folder: Path, corpus: Corpus, settings: Bm25Settings, threads: int) -> int:
    """Indexes every passage that has a text; returns their number."""
    arguments = java.java_class("io.anserini.index.IndexCollection$Args")()
    arguments.index, arguments.threads = str(folder), threads
    arguments.language, arguments.pretokenized = settings.language, settings.analyzer == "whitespace"
    arguments.stemmer, arguments.keepStopwords = settings.stemmer, not settings.stopwords
    indexer = java.java_class("io.anserini.index.SimpleIndexer")(arguments)
    # its own close() logs what fails and goes on
    writer = java.java_class("org.apache.commons.lang3.reflect.FieldUtils").readField(indexer, "writer", True)
    expected = 0
    try:
        for block in batched(track(range(len(corpus)), "index for BM25", "passages"), INDEX_BLOCK):
            texts = [corpus.joined(n, "\n") for n in block]
            documents = [json.dumps({"id": corpus.id(n), "contents": text}) for n, text in zip(block, texts, strict=True)]
            with_text = [n for n, text in zip(block, texts, strict=True) if text.strip(BLANK)]
            if indexer.addRawDocuments(documents) != len(with_text):
                raise _refusal(writer, corpus, with_text, folder)
            expected += len(with_text)
        writer.commit()
        writer.close()
    finally:
        if writer.isOpen():
            with suppress(Exception):  # what ended it is what is told
                writer.rollback()
    searcher = java.java_class("io.anserini.search.SimpleSearcher")(str(folder))
    indexed = int(searcher.get_total_num_docs())
    searcher.close()
    if indexed != expected:
        raise EnvironmentLack(
            f"expected {expected:,} passages in the Lucene index in {folder.parent}, found {indexed:,}; run the same command again"
        )
    return indexed


def _refusal(writer: Any, corpus: Corpus, passages: Sequence[int], folder: Path) -> Exception:
    """Why Lucene did not take some of those passages."""
    ended = writer.getTragicException()
    if ended is not None:
        text = str(ended.toString())
        return _lack(text, folder) or EnvironmentLack(f"Lucene could not write its index in {folder.parent} ({text})")
    longest = max(passages, key=lambda number: len(corpus.joined(number, "\n")))
    return UserError(
        f"Lucene does not take all of the passages {passages[0] + 1:,} to {passages[-1] + 1:,}; the longest of them, "
        f"{corpus.id(longest)!r}, has {len(corpus.joined(longest, ' ')):,} characters; split or shorten such passages"
    )


@contextmanager
def _failures_of(doing: str, folder: Path) -> Iterator[None]:
    """A call into Java that fails for lack of disk, files or memory is the environment's."""
    import jnius

    try:
        yield
    except jnius.JavaException as error:
        text = " ".join(str(error).split())
        lack = _lack(text, folder)
        if lack is None and any(name in text.split("\tat")[0] for name in ("java.io.", "java.nio.", "AlreadyClosed", "CorruptIndex")):
            lack = EnvironmentLack(f"Lucene could not {doing} ({text.removeprefix('JVM exception occurred: ')[:200]})")
        if lack is None:
            raise
        raise lack from error


def _lack(text: str, folder: Path) -> Exception | None:
    """What the machine lacks, by what Java says: it quotes the system's message for an error's number."""
    if "OutOfMemory" in text or "heap space" in text:
        heap = java.heap_in_use()
        return EnvironmentLack(f"Java ran out of memory{f' with a heap of {heap}' if heap else ''}; set bm25.heap to more")
    if "AccessDenied" in text or "ReadOnlyFileSystem" in text:
        return lack_of_disk(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), folder)
    number = next((number for number in OF_THE_DISK if os.strerror(number) in text), None)
    return lack_of_disk(OSError(number, os.strerror(number)), folder) if number else None


def _opened(folder: Path) -> Any:
    """Anserini's searcher. EnvironmentLack for an index that Lucene cannot read."""
    import jnius

    try:
        return java.java_class("io.anserini.search.SimpleSearcher")(str(folder))
    except jnius.JavaException as error:
        raise EnvironmentLack(
            f"the Lucene index in {folder} cannot be read ({' '.join(str(error).split())[:200]}); delete that folder, and it is made again"
        ) from error


def analyzer_of(settings: Bm25Settings) -> Any:
    """Lucene's analyzer, in the running JVM: the same that Anserini's indexer takes for these settings."""
    if settings.analyzer == "whitespace" or settings.language == "sw":
        return java.java_class("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
    if settings.language == "en":
        english = java.java_class("io.anserini.analysis.DefaultEnglishAnalyzer")
        return english.fromArguments(settings.stemmer, not settings.stopwords, None)
    return java.java_class("io.anserini.analysis.AnalyzerMap").getLanguageSpecificAnalyzer(settings.language)


class LuceneIndex:
    """An open index, searched by BM25; `corpus` names its passages by number."""

    def __init__(self, folder: Path, corpus: Corpus, settings: Bm25Settings, threads: int) -> None:
        java.start(settings.heap)
        self.folder, self.corpus, self.threads = folder, corpus, threads
        self._searcher = _opened(folder)
        self._searcher.set_bm25(settings.k1, settings.b)
        self._searcher.set_analyzer(analyzer_of(settings))
        if self.not_indexed < 0:
            found = self._searcher.get_total_num_docs()
            raise UserError(
                f"expected a Lucene index of this corpus's {len(corpus):,} passages, found {found:,} in {folder}; choose another"
            )
        self._generator = java.java_class("io.anserini.search.query.BagOfWordsQueryGenerator")()

    @property
    def bytes(self) -> int:
        """Bytes of the index's files."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    @property
    def not_indexed(self) -> int:
        """Passages without a single term, which Lucene leaves out."""
        return len(self.corpus) - int(self._searcher.get_total_num_docs())

    def known_terms(self, passages: Sequence[int]) -> float:
        """Share of the terms of those passages that the index has: about 1 where it was made by the same analyzer."""
        fields = java.java_class("org.apache.commons.lang3.reflect.FieldUtils")
        reader, analyze = fields.readField(self._searcher, "reader", True), java.java_class("io.anserini.analysis.AnalyzerUtils").analyze
        texts = [self.corpus.joined(n, "\n") for n in passages]
        terms = {str(term) for text in texts for term in analyze(self._searcher.get_analyzer(), text).toArray()}
        term_of = java.java_class("org.apache.lucene.index.Term")
        return sum(reader.docFreq(term_of("contents", term)) > 0 for term in terms) / len(terms) if terms else 1.0

    def search(self, texts: Sequence[str], k: int) -> Iterator[Hits]:
        """Hits of at most SEARCH_BLOCK queries at a time; Lucene's own documents at the cut, our order."""
        for block in batched(texts, SEARCH_BLOCK):
            rows, ids, scores = [], [], []
            for row, found in enumerate(self._found(block, k)):
                for hit in found:
                    rows.append(row)
                    ids.append(hit.docid)
                    scores.append(hit.score)
            numbers = self.corpus.numbers(ids)
            if (numbers < 0).any():
                stranger = ids[int(np.flatnonzero(numbers < 0)[0])]
                raise UserError(f"{self.folder} is an index of other passages: {stranger!r} is not in this corpus; choose another index")
            yield best(
                np.array(rows, np.int64), numbers, np.array(scores, np.float32), queries=len(block), k=k, id_rank=self.corpus.id_rank
            )

    def _found(self, texts: Sequence[str], k: int) -> list[Any]:
        """Anserini's hits of each query: of all together, or one after the other where that fails, since it does not say why."""
        import jnius

        texts, names = [_as_java(text) for text in texts], [str(row) for row in range(len(texts))]
        with _failures_of(f"search its index in {self.folder}", self.folder):
            try:
                found = self._searcher.batch_search(_java_list(texts), _java_list(names), k, self.threads)
                return [found.get(name) for name in names]
            except jnius.JavaException:
                return [self._searcher.search(text, k) for text in texts]

    def score(self, text: str, passages: np.ndarray) -> np.ndarray:
        """BM25 of one query for given passages, (passages,) float32; 0 where no term matches."""
        query = self._generator.buildQuery("contents", self._searcher.get_analyzer(), _as_java(text))
        scores = np.zeros(len(passages), np.float32)
        if query is None or not len(passages):
            return scores
        occur = java.java_class("org.apache.lucene.search.BooleanClause$Occur")
        bytes_ref = java.java_class("org.apache.lucene.util.BytesRef")
        among = _java_list([bytes_ref(passage_id.encode()) for passage_id in self.corpus.ids(passages)])
        builder = java.java_class("org.apache.lucene.search.BooleanQuery$Builder")()
        builder.add(query, occur.MUST)
        builder.add(java.java_class("org.apache.lucene.search.TermInSetQuery")("id", among), occur.FILTER)
        with _failures_of(f"search its index in {self.folder}", self.folder):
            found = {hit.docid: hit.score for hit in self._searcher.search(builder.build(), len(passages))}
        for place, passage_id in enumerate(self.corpus.ids(passages)):
            scores[place] = found.get(passage_id, 0.0)
        return scores


def _as_java(text: str) -> str:
    """Half a pair of surrogates is no character; the corpus store keeps it as a question mark, too."""
    return text.encode("utf-8", "replace").decode()


def _java_list(items: Sequence[Any]) -> Any:
    made = java.java_class("java.util.ArrayList")()
    for item in items:
        made.add(item)
    return made
