"""What the page needs to compare two systems query by query: values of every query, exact where that is possible, and texts.

Reads per_query/ and texts.json, computes no measure and no test. Values become a list of the distinct ones and a number a
query, in base64: 6,980 queries x 20 systems x 4 measures take about 1.5 MB.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.evaluation.per_query import read_per_query
from mta4dpr.experiment.folder import Folder
from mta4dpr.report.leaderboard import EvalSetRow, Leaderboard
from mta4dpr.report.tables import interval_text, p_text, signed, significant, verdict
from mta4dpr.report.texts import load_texts

LEVELS = 10_000  # distinct values of a measure up to which they are kept unrounded
VALUES = 1_500_000  # on the page: 4 MB in base64


def by_query(board: Leaderboard, folder: Path) -> dict[str, Any] | None:
    """The page's data, for JSON; None when no eval set has the values of two systems."""
    texts = load_texts(folder)
    read = {eval_set.id: _read(board, eval_set, folder) for eval_set in board.eval_sets}
    everything = sum(ids_of(systems)[1] * len(systems) * len(e.measures) for e in board.eval_sets if (systems := read[e.id]))
    primaries = sum(ids_of(systems)[1] * len(systems) for systems in read.values() if systems)
    only_primary = everything > VALUES
    share = min(1.0, VALUES / primaries) if primaries else 1.0
    passages: dict[str, int] = {}
    found = []
    for eval_set in board.eval_sets:
        if len(read[eval_set.id]) >= 2:
            measures = [eval_set.primary] if only_primary else list(dict.fromkeys([eval_set.primary, *eval_set.measures]))
            found.append(_eval_set(board, eval_set, measures, read[eval_set.id], texts, passages, share))
    if not found:
        return None
    kept = texts.get("passages") or {}
    return {
        "systems": [system.system for system in board.systems],
        "kinds": [system.kind for system in board.systems],
        "evalSets": found,
        "passages": [[passage_id, *kept.get(passage_id, ())] for passage_id in passages],
        "hasTexts": bool(texts),
        "note": texts.get("note"),
    }


PerQuery = dict[str, tuple[list[str], dict[str, np.ndarray]]]  # of each system: query ids, values of each measure


def _read(board: Leaderboard, eval_set: EvalSetRow, folder: Path) -> PerQuery:
    """The systems whose values are there, and for the same queries as most of them."""
    found: PerQuery = {}
    for system in board.systems:
        path = Folder(folder).per_query(system.system, eval_set.id)
        if board.row(system.system, eval_set.id, eval_set.primary) is not None and path.exists():
            query_ids, values = read_per_query(path)
            if eval_set.primary in values and query_ids:
                found[system.system] = (query_ids, values)
    usual = Counter(tuple(query_ids) for query_ids, _ in found.values()).most_common(1)
    return {system: entry for system, entry in found.items() if tuple(entry[0]) == usual[0][0]}


def ids_of(systems: PerQuery) -> tuple[list[str], int]:
    """The query ids that all these systems share, and how many there are."""
    query_ids = next(iter(systems.values()))[0]
    return query_ids, len(query_ids)


def _eval_set(
    board: Leaderboard,
    eval_set: EvalSetRow,
    measures: list[str],
    systems: PerQuery,
    texts: Mapping[str, Any],
    passages: dict[str, int],
    share: float,
) -> dict[str, Any]:
    query_ids, total = ids_of(systems)
    primary = np.stack([values[eval_set.primary] for _, values in systems.values()])
    kept = np.arange(total)
    if share < 1:
        spread = np.argsort(-np.ptp(primary, axis=0), kind="stable")
        kept = np.sort(spread[: max(1, int(total * share))])
    chosen = [query_ids[position] for position in kept]
    encoded = {}
    for measure in measures:
        if all(measure in values for _, values in systems.values()):
            encoded[measure] = pack(np.stack([values[measure][kept] for _, values in systems.values()]))
    words = (texts.get("queries") or {}).get(eval_set.id) or {}
    hits = (texts.get("hits") or {}).get(eval_set.id) or {}
    position_of = {query_id: position for position, query_id in enumerate(chosen)}
    first: dict[str, dict[int, list[list[Any]]]] = {}
    for system in systems:
        for query_id, passage_ids in (hits.get(system) or {}).items():
            if query_id in position_of:
                numbered = [[passages.setdefault(passage_id, len(passages)), relevance] for passage_id, relevance in passage_ids]
                first.setdefault(system, {})[position_of[query_id]] = numbered
    return {
        "id": eval_set.id,
        "systems": list(systems),
        "total": total,
        "queries": chosen,
        "texts": [words.get(query_id) for query_id in chosen] if words else None,
        "values": encoded,
        "leftOut": [m for m in eval_set.measures if m not in encoded],
        "rows": _rows(board, eval_set, encoded, systems),
        "contrasts": _contrasts(board, eval_set),
        "hits": first,
    }


def pack(values: np.ndarray) -> dict[str, Any]:
    """(systems, queries) as {"levels": distinct values, "bytes": of a code, "codes": base64 a system, "rounded": digits or None}."""
    digits = None
    levels, codes = np.unique(values, return_inverse=True)
    while len(levels) > LEVELS:
        digits = 4 if digits is None else digits - 1
        levels, codes = np.unique(np.round(values, digits), return_inverse=True)
    width = 1 if len(levels) <= 256 else 2
    flat = codes.reshape(values.shape).astype("u1" if width == 1 else "<u2")
    coded = [base64.b64encode(row.tobytes()).decode("ascii") for row in flat]
    return {"levels": levels.tolist(), "bytes": width, "codes": coded, "rounded": digits}


def _rows(board: Leaderboard, eval_set: EvalSetRow, measures: Mapping[str, Any], systems: PerQuery) -> dict[str, dict[str, float]]:
    """{measure: {system: value}} of the leaderboard, over all queries."""
    found: dict[str, dict[str, float]] = {}
    for measure in measures:
        rows = {system: board.row(system, eval_set.id, measure) for system in systems}
        found[measure] = {system: row.value for system, row in rows.items() if row is not None and math.isfinite(row.value)}
    return found


def _contrasts(board: Leaderboard, eval_set: EvalSetRow) -> list[dict[str, Any]]:
    """The tests that were made, as the tables say them."""
    return [
        {
            "a": c.a,
            "b": c.b,
            "measure": c.measure,
            "difference": signed(c.difference),
            "ci95": interval_text(c.ci95, sign=True),
            "p": p_text(c.p_holm),
            "verdict": verdict(c),
            "significant": significant(c),
            "planned": c.family != "exploratory",
            "counts": None if None in (c.wins, c.ties, c.losses) else [c.wins, c.ties, c.losses],
        }
        for c in board.comparisons
        if c.eval_set == eval_set.id
    ]
