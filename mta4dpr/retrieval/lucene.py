"""BM25 through Anserini in Pyserini's JVM: build, search, and score given pairs.

The index is one that Pyserini's LuceneSearcher opens. Title and text are joined by a newline, as in Anserini's
regressions for BEIR. The texts themselves stay in the corpus store.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mta4dpr.config.options import Bm25Settings
from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.files import folder_written_aside, key_of, write_json
from mta4dpr.machine.progress import track
from mta4dpr.retrieval import java
from mta4dpr.retrieval.hits import Hits, best

INDEX_BLOCK = 2000  # passages handed to Lucene at once
SEARCH_BLOCK = 64  # queries handed to Lucene at once
ABOUT = "mta4dpr.json"  # written last: the index is whole


def index_folder(cache: Path, corpus: Corpus) -> Path:
    """Where the index of that corpus is, or would be."""
    key = key_of([corpus.text_hash, importlib.metadata.version("pyserini"), "title newline text"])
    return cache / "bm25" / f"{corpus.folder.name.rsplit('-', 1)[0]}-{key}"


def is_built(cache: Path, corpus: Corpus) -> bool:
    """Whether the cache holds a finished index of that corpus."""
    return (index_folder(cache, corpus) / ABOUT).exists()


def build_index(cache: Path, corpus: Corpus, *, heap: str, threads: int, again: bool = False) -> Path:
    """The Lucene index of the corpus, built on first use (or `again`) by all threads; returns its folder.

    One process builds at a time. An index that others search is replaced as a whole; what they have open stays readable.
    """
    folder = index_folder(cache, corpus)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if (folder / ABOUT).exists() and not again:
            return folder
        java.start(heap)
        with folder_written_aside(folder) as aside:
            indexer = _call(java.java_class("io.anserini.index.SimpleIndexer"), str(aside), False, threads)
            for block in batched(track(range(len(corpus)), "index for BM25", "passages"), INDEX_BLOCK):
                documents = [json.dumps({"id": corpus.id(n), "contents": corpus.joined(n, "\n")}) for n in block]
                _call(indexer.addRawDocuments, documents)
            _call(indexer.close)
            searcher = java.java_class("io.anserini.search.SimpleSearcher")(str(aside))
            indexed = searcher.get_total_num_docs()
            searcher.close()
            write_json(aside / ABOUT, {"text_hash": corpus.text_hash, "passages": len(corpus), "indexed": indexed})
    return folder


def _opened(folder: Path) -> Any:
    """Anserini's searcher. EnvironmentLack for an index that Lucene cannot read."""
    import jnius

    try:
        return java.java_class("io.anserini.search.SimpleSearcher")(str(folder))
    except jnius.JavaException as error:
        raise EnvironmentLack(
            f"the Lucene index in {folder} cannot be read ({' '.join(str(error).split())[:200]}); delete that folder, and it is made again"
        ) from error


def _call(method: Any, *arguments: Any) -> Any:
    """A call into Java whose failure for lack of disk or memory is the environment's."""
    import jnius

    try:
        return method(*arguments)
    except jnius.JavaException as error:
        text = " ".join(str(error).split())
        if "No space left" in text:
            raise EnvironmentLack(
                "no space left on the disk while writing the Lucene index; free some space or set MTA4DPR_CACHE"
            ) from error
        if "OutOfMemory" in text or "heap space" in text:
            raise EnvironmentLack(f"Java ran out of memory with a heap of {java.heap_size('')}; set bm25.heap to more") from error
        raise


class LuceneIndex:
    """An open index, searched by BM25; `corpus` names its passages by number."""

    def __init__(self, folder: Path, corpus: Corpus, settings: Bm25Settings, threads: int) -> None:
        java.start(settings.heap)
        self.folder, self.corpus, self.threads = folder, corpus, threads
        self._searcher = _opened(folder)
        self._searcher.set_bm25(settings.k1, settings.b)
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

    def search(self, texts: Sequence[str], k: int) -> Iterator[Hits]:
        """Hits of at most SEARCH_BLOCK queries at a time; Lucene's own documents at the cut, our order."""
        for block in batched(texts, SEARCH_BLOCK):
            names = [str(row) for row in range(len(block))]
            found = _call(self._searcher.batch_search, _java_list(block), _java_list(names), k, self.threads)
            rows, ids, scores = [], [], []
            for row, name in enumerate(names):
                for hit in found.get(name):
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

    def score(self, text: str, passages: np.ndarray) -> np.ndarray:
        """BM25 of one query for given passages, (passages,) float32; 0 where no term matches."""
        query = self._generator.buildQuery("contents", self._searcher.get_analyzer(), text)
        scores = np.zeros(len(passages), np.float32)
        if query is None or not len(passages):
            return scores
        occur = java.java_class("org.apache.lucene.search.BooleanClause$Occur")
        bytes_ref = java.java_class("org.apache.lucene.util.BytesRef")
        among = _java_list([bytes_ref(passage_id.encode()) for passage_id in self.corpus.ids(passages)])
        builder = java.java_class("org.apache.lucene.search.BooleanQuery$Builder")()
        builder.add(query, occur.MUST)
        builder.add(java.java_class("org.apache.lucene.search.TermInSetQuery")("id", among), occur.FILTER)
        found = {hit.docid: hit.score for hit in self._searcher.search(builder.build(), len(passages))}
        for place, passage_id in enumerate(self.corpus.ids(passages)):
            scores[place] = found.get(passage_id, 0.0)
        return scores


def _java_list(items: Sequence[Any]) -> Any:
    made = java.java_class("java.util.ArrayList")()
    for item in items:
        made.add(item)
    return made
