"""What an engine is: one way to rank a corpus for queries, or at least to score pairs of query and passage.

A class in a file of this folder and an entry in ENGINES make one; so does a class in a file of a researcher's own, named
PATH.py:NAME. An engine takes options and a workplace (corpus, cache, machine), never a run. Only `identity` and `search` must be
written; all else has a default that a simple engine can keep. The same class serves the leaderboard, where it searches, and the
distiller, where a teacher or an assistant is an engine bound to the training queries (`scorer`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mta4dpr.config import plugins
from mta4dpr.config.benchmark import Benchmark, ModelSpec
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.engines.scorer import Queries, Scorer
from mta4dpr.engines.workplace import Workplace
from mta4dpr.errors import UserError
from mta4dpr.machine.work import ID_COLUMNS, PYTHON, Piece, StageKind, Work
from mta4dpr.models.sizes import ModelSize
from mta4dpr.retrieval.hits import Hits, checked


class Engine(ABC):
    """One way to rank a corpus. `label` names it in tables; `options` are what `options_of` has made of the benchmark's settings.

    What it is (class attributes):

        kind        its word in the leaderboard's column `kind`, unless it is a teacher, an assistant or a student there
        noun        what it is, in an error
        about       what it is, for `list systems`, and whose it is
        needs_model whether it is one with a model of the benchmark, rather than a system by its own name
        prepares    the kind of the stage that makes it ready, which `--redo` takes: index or encode
        ranks       whether it can rank the corpus; one that cannot (a cross-encoder, a table) is a teacher or an assistant alone
        encodes     whether it is a bi-encoder, which makes a vector of a text: it can be a student, and a link of a chain of students
        has_weights whether it has a network that can be trained
    """

    kind: ClassVar[str] = "other"
    noun: ClassVar[str] = "an engine"
    about: ClassVar[tuple[str, str]] = ("", "")
    needs_model: ClassVar[bool] = False
    prepares: ClassVar[StageKind] = StageKind.INDEX
    ranks: ClassVar[bool] = True
    encodes: ClassVar[bool] = False
    has_weights: ClassVar[bool] = False

    def __init__(self, label: str, options: Any, place: Workplace, *, root: Path | None = None) -> None:
        """`root` is where what it makes is kept: the cache, or for a student the folder of its training."""
        self.label, self.options, self.place = label, options, place
        self.is_student, self.root = root is not None, root or place.cache

    @classmethod
    def options_of(cls, bench: Benchmark, model: ModelSpec | None, own: Mapping[str, Any]) -> Any:
        """Its options out of a benchmark's settings, the model of its label, if there is one, and what the YAML gives it of its own."""
        return own

    # --- said without opening anything ---------------------------------------------------------------------------------

    @property
    @abstractmethod
    def identity(self) -> Any:
        """A JSON document of everything that decides its hits, beside the corpus: name, options, hashes of its files.

        Work is done again when it changes, and only then.
        """

    @property
    def settings(self) -> Mapping[str, Any]:
        """The part of `identity` that is not the model's: what decides hits of a student beside its weights."""
        return {}

    def lacks(self) -> str:
        """What it needs and does not find installed, and how to get that, in one sentence; '' when nothing is lacking."""
        return ""

    @property
    def prebuilt(self) -> str:
        """The prebuilt index of Pyserini that it takes instead of making its own; '' for none."""
        return ""

    @property
    def model_size(self) -> ModelSize | None:
        """How large its network is; None where it has none. UserError for a model that is neither here nor known."""
        return None

    def token_pieces(self, texts: CorpusSize) -> Iterator[Piece]:
        """What reading the corpus with its network's tokenizer takes, for a corpus of that size."""
        return iter(())

    def pieces(self, texts: CorpusSize) -> Iterator[Piece]:
        """What making it ready to rank or score takes: tokens, vectors, an index."""
        return self.token_pieces(texts)

    def search_pieces(self, texts: CorpusSize) -> Iterator[Piece]:
        """What is built beyond that for the leaderboard's search, such as an approximate index."""
        return iter(())

    def index_pieces(self, texts: CorpusSize, *, one_disk: bool) -> Iterator[Piece]:
        """What leaving its index beside the run takes; `one_disk`: cache and output are on one file system, so files can be linked."""
        return iter(())

    def search_work(self, queries: int, texts: CorpusSize) -> tuple[Work, ...]:
        """What searching for so many queries takes; nothing where it looks at few passages."""
        return ()

    def search_memory(self, queries: int, k: int, texts: CorpusSize) -> float:
        """Bytes of the process at the peak of such a search, without what `held_memory` says."""
        return PYTHON + ID_COLUMNS * texts.passages

    def mining_work(self, queries: int, texts: CorpusSize) -> tuple[Work, ...]:
        """What ranking the corpus for so many training queries takes."""
        return self.search_work(queries, texts)

    def mining_memory(self, queries: int, k: int) -> float:
        """Bytes that it holds while it does so."""
        return self.held_memory

    def scoring_pieces(self, pairs: int, texts: CorpusSize, *, queries_memory: float) -> Iterator[Piece]:
        """What scoring so many pairs takes, where it is more than a look at what is kept; `queries_memory`: bytes of the queries."""
        return iter(())

    @property
    def held_memory(self) -> float:
        """Bytes that it keeps for as long as the process lives, such as a JVM's heap."""
        return 0.0

    # --- at work -------------------------------------------------------------------------------------------------------

    def open(self) -> None:  # noqa: B027 (an engine without an index has nothing to open)
        """Makes or loads what it searches, and keeps it open; nothing when it is open already."""

    def close(self) -> None:  # noqa: B027
        """Lets go of what `open` holds in memory."""

    @abstractmethod
    def search(self, queries: Sequence[str], k: int) -> Iterator[Hits]:
        """The k best passages for each query text, a block of queries at a time, in their order."""

    def search_first(self, queries: Sequence[str], first: int, k: int) -> Iterator[Hits]:
        """Hits of the first so many queries, with the scores that all of them together would get."""
        return self.search(queries[:first], k)

    @property
    def is_shared(self) -> bool:
        """Whether the processes of a launch search together, each a part of the passages (`search_part`, `merged_parts`)."""
        return False

    @property
    def is_encoded_together(self) -> bool:
        """Whether the processes of a launch make it ready together, so that each of them opens it."""
        return False

    def search_part(self, queries: Sequence[str], first: int, k: int, folder: Path, *, part: int, parts: int) -> None:
        """Searches one of so many parts of the passages into files of that folder."""
        raise NotImplementedError(f"{self.label} is searched by one process")

    def merged_parts(self, first: int, k: int, folder: Path, *, parts: int) -> Iterator[Hits]:
        """The hits that `search_first` would give, out of the files of all parts; waits for those that are not there yet."""
        raise NotImplementedError(f"{self.label} is searched by one process")

    def note_search(self, queries: int, seconds: float) -> None:  # noqa: B027
        """Keeps what a search by one process took, for the next plan."""

    @property
    def bytes(self) -> int:
        """Bytes of what it searches, on disk."""
        return 0

    @property
    def passages_per_second(self) -> float | None:
        """The rate at which its passages were encoded; None where nothing is."""
        return None

    @property
    def work_of_a_query(self) -> Any:
        """A JSON document of what decides how long a query takes, beside its text: of systems where it is equal, times differ by chance.

        None: nobody else does the same. Asked while it is open.
        """
        return None

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says of it once it is open: parameters, dimensions and a hash of the weights, None where there are none."""
        return {"parameters": None, "dimensions": None, "weights": None}

    def quality(self, queries: Sequence[str], k: int) -> dict[str, Any]:
        """What the row should say of an index that does not find all: how it was built, its recall on some of the queries."""
        return {}

    @property
    def leaves_index(self) -> bool:
        """Whether a run leaves its index beside the run files, in a layout that Pyserini opens."""
        return False

    def write_index(self, folder: Path) -> None:
        """Writes its index as Pyserini opens it. UserError for an engine whose index Pyserini does not know."""
        raise UserError(f"{self.label} has no index that Pyserini opens; --index takes BM25 and dense systems")

    @classmethod
    def metadata(cls, label: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """The section `method` of a run file's ir_metadata (https://www.ir-metadata.org), out of the run's manifest alone."""
        return {"automatic": True, "retrieval": [{"name": label, "method": cls.__name__, "depth": manifest["settings"]["depth"]}]}

    # --- for the distiller ---------------------------------------------------------------------------------------------

    def load(self) -> Any:
        """A fresh network of its model, to be trained. Only where it has weights."""
        raise NotImplementedError(f"{self.label} has no weights that could be trained")

    def scorer(self, queries: Queries) -> Scorer:
        """The engine bound to the training queries: a teacher or an assistant."""
        return SearchScorer(self, queries)


class SearchScorer(Scorer):
    """An engine that can search and not score pairs: a pair that is not among a query's hits gets the lowest score of these."""

    DEPTH = 1000  # hits of a query among which pairs are looked up

    ranks = True

    def __init__(self, engine: Engine, queries: Queries) -> None:
        from mta4dpr.machine.files import key_of

        self.label, self.kind = engine.label, engine.kind
        name, code = type(engine).__qualname__, plugins.hash_of_class(type(engine))
        self.key = key_of([*([name, code] if code else []), engine.identity, engine.place.corpus.text_hash])
        self._engine, self._texts = engine, queries.texts
        engine.open()

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """The engine's own search."""
        found = self._engine.search([self._texts[n] for n in queries], k)
        return checked(found, queries=len(queries), passages=len(self._engine.place.corpus), label=self.label)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Scores out of the top DEPTH of each query."""
        scores = np.zeros(passages.shape, np.float32)
        row = 0
        for hits in self.rank(queries, self.DEPTH):
            for found, values in zip(hits.passages, hits.scores, strict=True):
                known = dict(zip(found[found >= 0].tolist(), values[found >= 0].tolist(), strict=True))
                lowest = min(known.values(), default=0.0)
                scores[row] = [known.get(passage, lowest) for passage in passages[row].tolist()]
                row += 1
        return scores
