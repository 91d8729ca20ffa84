"""The documents that commands return, and print with --json."""

from __future__ import annotations

from typing import Any, TypedDict


class BoardRow(TypedDict):
    """A value of the leaderboard: an unrounded fraction with its 95 % interval."""

    system: str
    eval_set: str
    measure: str
    value: float
    queries: int
    missing_queries: int
    ci95: list[float]
    significant_over: list[str]


class BoardComparison(TypedDict):
    """A planned contrast: how far a is above b."""

    eval_set: str
    measure: str
    a: str
    b: str
    difference: float
    ci95: list[float]
    p: float
    p_holm: float
    family: str


class Board(TypedDict):
    """leaderboard.json, and the folder that it lies in."""

    folder: str
    benchmark: str
    rows: list[BoardRow]
    systems: list[dict[str, Any]]
    comparisons: list[BoardComparison]


class Student(TypedDict):
    """A student that was trained, and what it is worth on D_eval by `measure`."""

    system: str
    strategy: str
    model: str
    steps: int
    rounds: int
    measure: str
    d_eval: float | None
    seconds: float | None


class Trained(TypedDict):
    """What `train` says."""

    students: list[Student]


class RunRow(TypedDict):
    """A run file's value of one measure."""

    run: str
    eval_set: str
    measure: str
    value: float
    queries: int
    missing_queries: int
    ci95: list[float]


class Evaluated(TypedDict, total=False):
    """What `evaluate` says; per_query where it was asked for."""

    eval_set: str
    rows: list[RunRow]
    notes: list[str]
    per_query: list[dict[str, Any]]


class Compared(TypedDict):
    """What `compare` says: rows of each run, contrasts, and the queries that differ most."""

    eval_set: str
    rows: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    queries: list[dict[str, Any]]
    notes: list[str]


class Hit(TypedDict):
    """A passage that was found."""

    rank: int
    score: float
    id: str
    title: str
    text: str


class Found(TypedDict):
    """What `search` says."""

    query: str
    system: str
    hits: list[Hit]
