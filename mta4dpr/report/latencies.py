"""Times of queries as a report may show them: what systems of the same work have in common, and which times compare at all.

Times compare when they were taken in turns, in one session. Earlier versions timed one system after the other, so what the machine did
meanwhile is in the figures: these are pooled by what the leaderboard knows of a system, and rank nothing. Measures nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mta4dpr.report.leaderboard import Leaderboard


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one query. `low` and `high` are the range of its median; `same` are the systems that share the figures."""

    p50: float
    p95: float | None
    p99: float | None
    low: float
    high: float
    same: tuple[str, ...]
    session: str  # empty where systems were timed one after the other

    def is_apart_from(self, other: Latency) -> bool:
        """Whether the two were timed in turns and their ranges do not meet."""
        return bool(self.session) and self.session == other.session and (self.high < other.low or other.high < self.low)


def latencies(board: Leaderboard, efficiency: Mapping[str, Any]) -> dict[str, Latency]:
    """The times of each system that has some."""
    measured = {name: found for name, found in (efficiency.get("systems") or {}).items() if _p50(found) is not None}
    groups: dict[Any, list[str]] = {}
    for name, found in measured.items():
        groups.setdefault(_same(board, name, found), []).append(name)
    pooled = {name: group for group in groups.values() for name in group}
    return {name: _latency(pooled[name], measured) for name in measured}


def sessions(found: Mapping[str, Latency]) -> dict[str, list[str]]:
    """The systems that were timed together, by session; those that were timed one after the other are the session ''."""
    together: dict[str, list[str]] = {}
    for name, latency in found.items():
        together.setdefault(latency.session, []).append(name)
    return together


def compare(found: Mapping[str, Latency]) -> bool:
    """Whether all of these were timed in turns, in one session."""
    return len(sessions(found)) == 1 and "" not in sessions(found)


def why_busy(efficiency: Mapping[str, Any], found: Mapping[str, Latency]) -> list[str]:
    """What disturbed the sessions in which these systems were timed, as parts of a sentence."""
    about = efficiency.get("sessions") or {}
    return list(dict.fromkeys(why for session in sessions(found) for why in (about.get(session) or {}).get("busy") or ()))


def _p50(found: Mapping[str, Any] | None) -> float | None:
    p50 = ((found or {}).get("query_ms") or {}).get("p50")
    return p50 if p50 is not None and p50 > 0 else None


def _same(board: Leaderboard, name: str, found: Mapping[str, Any]) -> Any:
    """Equal for systems whose times are one measurement: of the same work; of an earlier version, networks and indexes of one size."""
    query, about = found["query_ms"], next((system for system in board.systems if system.system == name), None)
    if query.get("session"):
        return query.get("work", name)
    return (about.parameters, about.dimensions, found.get("index_bytes")) if about and about.parameters is not None else name


def _latency(group: Sequence[str], measured: Mapping[str, Any]) -> Latency:
    """Of systems of the same work that were timed in several sessions, the fastest counts: what slowed the others is not theirs."""
    members = [measured[other]["query_ms"] for other in group]
    if members[0].get("session"):
        query = min(members, key=lambda one: float(one["p50"]))
        low, high = (query.get(bound) or query["p50"] for bound in ("low", "high"))
        return Latency(query["p50"], query.get("p95"), query.get("p99"), low, high, tuple(group), query["session"])
    middle = {p: statistics.median([one[p] for one in members if one.get(p) is not None] or [0.0]) or None for p in ("p50", "p95", "p99")}
    medians = [one["p50"] for one in members]
    assert middle["p50"] is not None
    return Latency(middle["p50"], middle["p95"], middle["p99"], min(medians), max(medians), tuple(group), "")
