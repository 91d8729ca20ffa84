"""Measures what the machine decides of each system, for efficiency.json: bytes, rates, and the time of single queries.

All systems of a command are timed in turns, in one process: what disturbs the machine disturbs all of them. Those that do the same work
(`Engine.work_of_a_query`) are one measurement, which stands in the entry of each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.engines.engine import Engine
from mta4dpr.evaluation.efficiency import available_memory_bytes, energy_used, load_seen, time_calls, timing_of, turns, why_busy
from mta4dpr.experiment.efficiency import read_efficiency, write_efficiency
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.ledger import StageName
from mta4dpr.experiment.systems import System
from mta4dpr.machine.environment import memory_bytes, processor
from mta4dpr.machine.files import key_of, read_json
from mta4dpr.machine.work import PYTHON, Piece, StageKind
from mta4dpr.planning.sizes import Sizes
from mta4dpr.stages import indexing
from mta4dpr.stages.stage import Stage

log = logging.getLogger(__name__)

QUERIES, LEAST = 100, 20  # so that the 99th percentile is not the slowest of a few; where a query takes seconds, fewer
ROUNDS, WARMUP = 5, 3
SECONDS = 30  # a system, beyond which fewer queries are timed
SHARE_OF_MEMORY = 0.6  # that networks and indexes may take which are open side by side


def latencies(experiment: Experiment, *, needs: Mapping[str, tuple[StageName, ...]]) -> list[Stage]:
    """A stage for each system, over queries of the first eval set. The first that is left to do times all of them; `needs` by label."""
    session = Session(experiment)
    return [
        Stage(
            StageName(StageKind.LATENCY, system.label),
            partial(indexing.inputs, experiment, system),
            session.measure,
            needs.get(system.label, ()),
            pieces=partial(_pieces, experiment),
        )
        for system in experiment.systems
    ]


@dataclass
class Session:
    """One measurement of all systems that a command names, made once. Systems of earlier commands keep what they have."""

    experiment: Experiment
    _measured: bool = False
    _open: dict[str, Engine] = field(default_factory=dict)
    _side_by_side: bool = True

    def measure(self, outputs: list[Path]) -> None:
        """Times the systems and writes their entries; nothing when that is done."""
        if self._measured:
            return
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        systems = {system.label: system for system in self.experiment.systems}
        texts, seconds, entries, work = self._texts(), 0.0, {}, {}
        for label, system in systems.items():
            seconds += float(np.median(time_calls(self._ready(system), _spread(texts, WARMUP), warmup=1))) / 1e9
            entries[label], work[label] = self._entry(system), self._work(system)
        groups = {label: [other for other in systems if work[other] == work[label]] for label in systems}
        sample = _spread(texts, max(LEAST, min(QUERIES, int(SECONDS * len(systems) / (ROUNDS * max(seconds, 1e-9))))))
        with load_seen() as load:
            blocks, joules = self._rounds(systems, groups, sample)
        timings = {label: timing_of(np.stack([np.concatenate(parts) for parts in blocks[groups[label][0]]])) for label in systems}
        for label, timing in timings.items():
            entries[label]["query_ms"] = {**asdict(timing), "same_work": groups[label], "work": work[label], "session": started}
            if used := joules[groups[label][0]]:
                asked = ROUNDS * (len(sample) + WARMUP * min(len(groups[label]), len(sample)))
                entries[label]["query_joules"] = {part: value / asked for part, value in used.items()}
        busy = why_busy(load, list(timings.values()))
        about = {"queries": len(sample), "rounds": ROUNDS, "side_by_side": self._side_by_side, **load, "busy": busy}
        if busy:
            log.warning("times of queries are uncertain, as the machine was busy: %s; `--redo latency` takes them again", "; ".join(busy))
        self._write(entries, started, about)
        self._measured = True

    def _rounds(
        self, systems: Mapping[str, System], groups: Mapping[str, Sequence[str]], sample: Sequence[str]
    ) -> tuple[dict[str, list[list[np.ndarray]]], dict[str, dict[str, float]]]:
        """By the first of each group: nanoseconds of its calls, a list a round with an array a member; and joules.

        Those of a group share the queries, each of them others every round, so that all of a group is as much work as one system.
        """
        blocks: dict[str, list[list[np.ndarray]]] = {group[0]: [[] for _ in range(ROUNDS)] for group in groups.values()}
        joules: dict[str, dict[str, float]] = {first: {} for first in blocks}
        for place, label in enumerate(turns(list(systems), ROUNDS)):
            number, group = place // len(systems), groups[label]
            own = sample[(group.index(label) + number) % len(group) :: len(group)]
            if not own:
                continue
            search = self._ready(systems[label])
            with energy_used() as used:
                blocks[group[0]][number].append(time_calls(search, own, warmup=WARMUP))
            for part, value in used.items():
                joules[group[0]][part] = joules[group[0]].get(part, 0.0) + value
        return blocks, joules

    def _entry(self, system: System) -> dict[str, Any]:
        """What is not a time of queries. Asked while the engine is open."""
        engine, experiment = self._open[system.label], self.experiment
        trained = experiment.ledger.seconds(StageName(StageKind.TRAIN, system.label)) if system.recipe else None
        entry: dict[str, Any] = {
            "index_bytes": engine.bytes,
            "encode_passages_per_second": engine.passages_per_second,
            "training_seconds": trained,
        }
        if experiment.folder.energy(system.label).exists():
            entry["training_joules"] = read_json(experiment.folder.energy(system.label))
        return entry

    def _work(self, system: System) -> str:
        """Equal for systems that do the same for a query on one kind of machine; a system's own label where nothing is known of that."""
        work, place = self._open[system.label].work_of_a_query, self.experiment.place
        return f"of {system.label}" if work is None else key_of([work, processor(), place.threads, place.device_in_use])

    def _texts(self) -> list[str]:
        """The queries of the first eval set."""
        experiment = self.experiment
        return list(experiment.limited(experiment.eval_sets[experiment.bench.eval_sets[0].id]).texts.values())

    def _ready(self, system: System) -> Callable[[str], Any]:
        """A search by that system, which is open. Others are closed first when memory does not hold it beside them."""
        if system.label not in self._open:
            if self._open and not self._has_room(system):
                if self._side_by_side:
                    log.info("systems are opened in turn to be timed, as memory does not hold all of them")
                self._side_by_side = False
                self._open.clear()
            engine = self.experiment.open_engine(system, beside=self._open)
            self._open[system.label] = engine
        engine, depth = self._open[system.label], self.experiment.bench.depth
        return lambda text: list(engine.search([text], depth))

    def _has_room(self, system: System) -> bool:
        wanted = self._held(system.label)
        held, spare = sum(self._held(label) for label in self._open), (1 - SHARE_OF_MEMORY) / 2 * self._memory
        return held + wanted <= SHARE_OF_MEMORY * self._memory and available_memory_bytes() - wanted > spare

    def _held(self, label: str) -> float:
        """Bytes of a system's network and of its vectors, in single precision; an index of another kind is about as large."""
        about = self.experiment.manifest.document["systems"].get(label, {})
        return 4.0 * ((about.get("parameters") or 0) + (about.get("dimensions") or 0) * len(self.experiment.corpus))

    @cached_property
    def _memory(self) -> int:
        """Of the machine, or of its GPU where that is less."""
        device = self.experiment.place.device_in_use or "cpu"
        if not device.startswith("cuda"):
            return memory_bytes()
        import torch

        return min(memory_bytes(), int(torch.cuda.mem_get_info(device)[1]))

    def _write(self, entries: Mapping[str, Any], session: str, about: Mapping[str, Any]) -> None:
        """Into the table of costs; what is known of sessions of which no entry is left goes."""
        folder = self.experiment.folder
        document = read_efficiency(folder)
        document["systems"] |= entries
        kept = {((entry or {}).get("query_ms") or {}).get("session") for entry in document["systems"].values()}
        sessions = {**document.get("sessions", {}), session: about}
        document["sessions"] = {name: one for name, one in sessions.items() if name in kept}
        write_efficiency(folder, document)


def _pieces(experiment: Experiment, sizes: Sizes) -> Iterator[Piece]:
    """All stages make one thing: a row of a plan, with the memory of all systems side by side."""
    engines = [experiment.planned_engine(system) for system in experiment.systems]
    alone = [engine.search_memory(1, experiment.bench.depth, sizes.texts) for engine in engines]
    held = sum({type(engine): engine.held_memory for engine in engines}.values())
    together = PYTHON + sum(memory - PYTHON for memory in alone)
    yield Piece("time queries", memory=min(together, max(SHARE_OF_MEMORY * memory_bytes(), *alone)) + held, thing=("query times",))


def _spread(texts: Sequence[str], most: int) -> list[str]:
    """At most so many of the texts, evenly from the first on: the first ones of a file may all be short."""
    return list(texts[:: max(1, len(texts) // most)][:most])
