"""Makes leaderboard.json from per-query values: means, intervals, tests. The same values and seed give the same bytes on any machine.

What depends on the machine (times, memory, energy) is kept out of it, in efficiency.json. Reads and writes no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mta4dpr.evaluation.measures import Evaluation
from mta4dpr.evaluation.significance import Comparison, compare, intervals

ALPHA = 0.05
BASELINES = ("kd", "kd_ta")
KINDS = ("lexical", "teacher", "assistant", "encoder", "student")  # the order of a leaderboard; other kinds stand before the students


def leaderboard(
    manifest: Mapping[str, Any], evaluations: Mapping[str, Mapping[str, Evaluation]], *, titled: Mapping[str, bool], teacher: str
) -> dict[str, Any]:
    """The content of leaderboard.json.

    manifest      what the run wrote of itself (manifest.json)
    evaluations   {eval set: {system: its per-query values}}
    titled        {eval set: whether its passages have titles}
    teacher       the system whose primary measure students are shown as a share of
    """
    seed, sets = manifest["settings"]["seed"], manifest["eval_sets"]
    rows: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    described, expected = [], []
    for eval_set, systems in evaluations.items():
        about = sets[eval_set]
        contrasts = planned_contrasts(manifest["contrasts"], list(systems))
        compared = {}
        for measure in about["measures"]:
            values = {system: found.values[measure] for system, found in systems.items()}
            compared[measure] = compare(values, contrasts, family="planned", seed=seed) if contrasts else []
            comparisons += [{"eval_set": eval_set, "measure": measure, **asdict(c)} for c in compared[measure]]
        columns = [(system, measure) for system in systems for measure in about["measures"]]
        bounds = intervals(np.stack([systems[system].values[measure] for system, measure in columns]), seed=seed)
        for (system, measure), (low, high) in zip(columns, bounds.tolist(), strict=True):
            rows.append(
                {
                    "system": system,
                    "eval_set": eval_set,
                    **measure_row(systems[system], measure, [low, high]),
                    "significant_over": significant_over(system, compared[measure]),
                    "titled": titled[eval_set],
                }
            )
        described.append(
            {
                "id": eval_set,
                "primary": about["primary"],
                "measures": about["measures"],
                "queries": max(len(found.query_ids) for found in systems.values()),
                "titled": titled[eval_set],
            }
        )
        expected += [
            {**_verdict(systems[e["system"]].mean(e["measure"]), e), "eval_set": eval_set}
            for e in about["expected"]
            if e["system"] in systems and manifest["settings"]["limit"] is None
        ]
    return {
        "benchmark": manifest["benchmark"],
        "title": manifest["title"],
        "notes": manifest["notes"],
        "seed": seed,
        "limit": manifest["settings"]["limit"],
        "eval_sets": described,
        "rows": rows,
        "systems": _systems(manifest, rows, described, teacher),
        "comparisons": comparisons,
        "expected": expected,
    }


def measure_row(found: Evaluation, measure: str, ci95: list[float]) -> dict[str, Any]:
    """The fields that every row has of a measure: its mean, of how many queries, and its 95 % interval [low, high]."""
    return {
        "measure": measure,
        "value": found.mean(measure),
        "queries": len(found.query_ids),
        "missing_queries": found.missing_queries,
        "ci95": ci95,
    }


def planned_contrasts(named: Sequence[Sequence[str]], systems: Sequence[str]) -> list[tuple[str, str]]:
    """The benchmark's contrasts; without any, every system against kd and kd_ta, or against the first system when neither is there."""
    if named:
        return [(a, b) for a, b in named if a in systems and b in systems]
    baselines = [b for b in BASELINES if b in systems] or list(systems[:1])
    pairs = [(system, baseline) for baseline in baselines for system in systems if system != baseline]
    return [pair for n, pair in enumerate(pairs) if (pair[1], pair[0]) not in pairs[:n]]


def place_of_kind(kind: str) -> float:
    """Where systems of that kind stand among the others; equal for equal kinds."""
    return KINDS.index(kind) if kind in KINDS else len(KINDS) - 1.5


def significant_over(system: str, compared: Sequence[Comparison]) -> list[str]:
    """The systems over which this one is better in a planned contrast with p_holm < ALPHA."""
    better = [c.b for c in compared if c.a == system and c.p_holm < ALPHA and c.difference > 0]
    return better + [c.a for c in compared if c.b == system and c.p_holm < ALPHA and c.difference < 0]


def _verdict(value: float, expected: Mapping[str, Any]) -> dict[str, Any]:
    inside = abs(value - expected["value"]) <= expected["tolerance"] + 1e-9
    return {
        "system": expected["system"],
        "measure": expected["measure"],
        "value": value,
        "published": expected["value"],
        "tolerance": expected["tolerance"],
        "source": expected["source"],
        "verdict": "reproduced" if inside else "off",
    }


def _systems(
    manifest: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], described: Sequence[Mapping[str, Any]], teacher: str
) -> list[dict[str, Any]]:
    """One entry a system: lexical first, then teacher, assistants, other encoders, students."""
    first = described[0]
    primary = {row["system"]: row["value"] for row in rows if row["eval_set"] == first["id"] and row["measure"] == first["primary"]}
    found = []
    shown = {row["system"] for row in rows}
    for name, about in sorted(manifest["systems"].items(), key=lambda item: place_of_kind(item[1]["kind"])):
        if name not in shown:
            continue
        share = primary[name] / primary[teacher] if name in primary and primary.get(teacher) else None
        found.append(
            {
                "system": name,
                "kind": about["kind"],
                "parameters": about["parameters"],
                "dimensions": about["dimensions"],
                "share_of_teacher": share,
                "note": _note(about),
                "regime": about["regime"],
                "steps": about["steps"],
                **({"index": about["index"]} if about.get("index") else {}),
            }
        )
    return found


def _note(about: Mapping[str, Any]) -> str | None:
    """What a reader must know of a row: an untrained student, settings of its own, an index that is not exact."""
    untrained = about["kind"] == "student" and about["strategy"] is None
    words = ["before training" if untrained else _differs(about["differs"] or {}), _index(about.get("index"))]
    return "; ".join(filter(None, words)) or None


def _index(about: Mapping[str, Any] | None) -> str | None:
    """HNSW: recall@1000 against exact search 0.983 (100 queries); not bit-reproducible."""
    if not about:
        return None
    name = {"hnsw": "HNSW", "ivfpq": "IVF-PQ"}[about["index"]]
    found = f"{name}: recall@{about['recall_depth']} against exact search {about['recall']:.3f} ({about['recall_queries']} queries)"
    return found if about["reproducible"] else f"{found}; not bit-reproducible"


def _differs(differs: Mapping[str, Any]) -> str | None:
    """What a trained row has otherwise than the benchmark says, in words: teacher minilm; steps 100."""
    words = [f"{name} {', '.join(value) if isinstance(value, list | tuple) else value}" for name, value in differs.items()]
    return "; ".join(words) or None
