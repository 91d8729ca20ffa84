"""Where engines work: the corpus they rank, the cache, and what they may use of the machine. Knows no run and no benchmark."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.collection import Source
from mta4dpr.data.corpus import Corpus, open_corpus, stored_corpus
from mta4dpr.machine import environment
from mta4dpr.machine.files import key_of
from mta4dpr.machine.locks import lock_beside
from mta4dpr.machine.rates import Rates

log = logging.getLogger(__name__)

VOCABULARY_TEXTS = 2000  # passages whose words become the vocabulary of an untrained model


@dataclass(frozen=True)
class Workplace:
    """The corpus, the cache and the machine; each is opened or chosen when it is first asked for, and then the same for all engines.

    `again` is what --redo wants made again: data, index or encode; empty for nothing.
    """

    source: Source
    cache: Path
    wanted_device: str | None = None
    offline: bool = False
    again: str = ""
    _remade: set[Path] = field(default_factory=set)
    _identities: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus store, read from its source when the cache does not have it."""
        known, started = stored_corpus(self.cache, self.source), time.perf_counter()
        with self.reading():
            corpus = open_corpus(self.cache, self.source, verify=self.again == "data")
        if known is None:
            self.rates.note("read", (corpus.folder / "texts.bin").stat().st_size, time.perf_counter() - started)
        return corpus

    @property
    def stored_corpus(self) -> Corpus | None:
        """The corpus store if the cache has it; reads and makes nothing."""
        return stored_corpus(self.cache, self.source)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One process of a launch at a time reads the source: ir_datasets downloads on first use, and all to the same place."""
        if environment.process_count() == 1:
            yield
            return
        with lock_beside(self.cache / f".source-{key_of(self.source.identity)}"):
            yield

    @cached_property
    def device(self) -> str:
        """The torch device; the choice is logged with its reason."""
        device, reason = environment.choose_device(self.wanted_device)
        environment.set_threads(self.threads)
        log.info("device %s (%s), %d threads", device, reason, self.threads)
        return device

    @property
    def device_in_use(self) -> str | None:
        """The device, if anything has asked for it; None while nothing but BM25 ran."""
        return self.__dict__.get("device")

    @cached_property
    def threads(self) -> int:
        """Threads of torch, FAISS and Lucene."""
        return environment.choose_threads()[0]

    @cached_property
    def rates(self) -> Rates:
        """What earlier runs on this machine took, and where this one notes what it takes."""
        return Rates(self.cache, device=lambda: self.device, threads=self.threads)

    def vocabulary(self, spec: ModelSpec) -> Sequence[str]:
        """Texts that give an untrained model its words; none for one that has weights."""
        return [passage.text for passage in islice(self.corpus, VOCABULARY_TEXTS)] if spec.untrained else []

    def must_remake(self, folder: Path, *kinds: str) -> bool:
        """Whether --redo asks for what is in that folder and has not been given it by this process yet."""
        if self.again not in kinds or folder in self._remade:
            return False
        self._remade.add(folder)
        return True

    def model_identity(self, spec: ModelSpec) -> Any:
        """What names a model's weights and how it reads texts: its settings and a hash of its files, which are hashed once a process."""
        from mta4dpr.models.identity import model_identity

        key = spec.model_dump_json()
        if key not in self._identities:
            self._identities[key] = model_identity(spec, offline=self.offline)
        return self._identities[key]
