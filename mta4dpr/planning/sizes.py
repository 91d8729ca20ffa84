"""How large the inputs of an experiment are, before they are read: passages and queries. Reads no collection through.

What has been read already is counted; what has not comes from ir_datasets' metadata, and from the sizes of downloads.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from mta4dpr.data.collection import IrDataset
from mta4dpr.data.downloads import Download, downloads_of
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.engines.engine import Engine
from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.machine.places import CACHE, DATA, INDEXES, MODELS, OUTPUT, data_home, indexes_home, models_home

UNPACKED = 2.9  # bytes of text for a byte of archive: MS MARCO's 3.06 GB from 1.06, DPR's 13.8 from 4.7
PASSAGE_BYTES = 400  # where nothing at all is known
QUERY, JUDGEMENT = 1300, 110  # bytes in memory of a training query and of a judgement


class Sizes:
    """The sizes of one experiment's inputs, each looked up once."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._stands_in = False  # whether the files here are of another size than the collection's

    @cached_property
    def downloads(self) -> list[Download]:
        """What ir_datasets fetches for the passages, the eval sets and, where there are students, the training queries."""
        experiment = self._experiment
        if not isinstance(experiment.source, IrDataset):
            return []
        chosen = [eval_set.id for eval_set in experiment.bench.eval_sets]
        every = [*experiment.every_eval_set, experiment.bench.train]  # training avoids all eval sets
        sets = dict.fromkeys(every if experiment.students else chosen)
        return downloads_of([*experiment.source.parts(), *(part for name in sets for part in experiment.source.parts(name))])

    @cached_property
    def texts(self) -> CorpusSize:
        """The passages: counted, where the corpus store is there, else as their source says, else guessed from its files."""
        corpus, source = self._experiment.place.stored_corpus, self._experiment.source
        if corpus:
            return CorpusSize(len(corpus), (corpus.folder / "texts.bin").stat().st_size)
        count, expected = source.expected_passages() or 0, sum(d.bytes or 0 for d in self.downloads if d.passages) * UNPACKED
        kept = sum(size * (UNPACKED if str(path).endswith(".gz") else 1) for path, size, _ in source.files())
        kept = kept or sum(d.path.stat().st_size if d.path else d.bytes or 0 for d in self.downloads if d.passages) * UNPACKED
        if count and expected and not 0.8 < kept / expected < 1.25:  # a part of the collection, or another that stands in for it
            count = max(1, int(count * kept / expected))
            self._stands_in = True
        count = count or int(kept / PASSAGE_BYTES)
        return CorpusSize(count, int(kept or count * PASSAGE_BYTES))

    @property
    def texts_are_counted(self) -> bool:
        """Whether the number of passages is known rather than guessed."""
        experiment = self._experiment
        return experiment.place.stored_corpus is not None or (bool(experiment.source.expected_passages()) and not self._stands_in)

    def queries(self, query_set: str) -> tuple[int, int]:
        """(queries, judgements that are positive) of an eval set or of the training set; (0, 0) where only reading them tells."""
        experiment = self._experiment
        if isinstance(experiment.source, IrDataset):
            return experiment.source.expected_queries(query_set)
        read = experiment.train_set if query_set == experiment.bench.train else experiment.eval_sets[query_set]
        return len(read.texts), sum(map(len, read.qrels.values()))

    def eval_queries(self, eval_set: str) -> int:
        """Queries of an eval set that are searched."""
        count, limit = self.queries(eval_set)[0], self._experiment.request.limit
        return min(count, limit) if limit else count

    @cached_property
    def train_queries(self) -> tuple[int, int]:
        """(queries, positive judgements) of the training set."""
        return self.queries(self._experiment.bench.train)

    def train_memory(self) -> float:
        """Bytes of the training queries in memory."""
        queries, judgements = self.train_queries
        return float(QUERY * queries + JUDGEMENT * judgements)

    def is_known(self, engine: Engine) -> bool:
        """Whether it is known how large an engine's network is."""
        try:
            return engine.model_size is not None
        except UserError:
            return False

    def places(self) -> dict[str, Path]:
        """Where each kind of bytes goes on this machine."""
        experiment = self._experiment
        return {
            DATA: data_home(),
            MODELS: models_home(),
            INDEXES: indexes_home(),
            CACHE: experiment.cache,
            OUTPUT: experiment.folder.path.absolute(),
        }
