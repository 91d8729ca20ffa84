"""texts.json: the text of queries, and the first passages that systems found for the queries on which they differ most.

Written by `run` while the corpus is at hand, so that `report` can show texts later and elsewhere. Bounded: texts are cut to
`LETTERS`, all query texts together to `QUERY_LETTERS`, all passages to `PASSAGE_LETTERS`. Must not know how they are shown.

    {"queries": {eval set: {query id: text}},
     "hits": {eval set: {system: {query id: [[passage id, relevance or null], ...]}}},
     "passages": {passage id: [title, text]}}
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.data.answers import Answers
from mta4dpr.evaluation.per_query import read_per_query
from mta4dpr.evaluation.significance import most_different
from mta4dpr.experiment.folder import Folder
from mta4dpr.machine.files import write_json
from mta4dpr.report.leaderboard import EvalSetRow, Leaderboard, load
from mta4dpr.report.training import load_document

if TYPE_CHECKING:
    from mta4dpr.data.collection import QuerySet
    from mta4dpr.data.corpus import Corpus

log = logging.getLogger(__name__)

DIFFER, EACH_WAY = 10, 5  # queries a pair of systems: those that differ most, and those that each of them wins by most
PASSAGES = 3  # of each system, for each of these queries
LETTERS = 300
QUERY_LETTERS, PASSAGE_LETTERS = 1_500_000, 1_000_000


def write_texts(folder: Path, corpus: Corpus, query_sets: Mapping[str, QuerySet], runs: Mapping[tuple[str, str], Path]) -> Path:
    """Writes `folder`/texts.json. `runs` are {(system, eval set): run file}; needs leaderboard.json and per_query/."""
    from mta4dpr.evaluation.trecrun import read_run

    board = load(folder)
    queries: dict[str, dict[str, str]] = {}
    hits: dict[str, dict[str, dict[str, list[list[Any]]]]] = {}
    in_order: list[str] = []  # passages, those of planned contrasts first
    left = QUERY_LETTERS
    for eval_set in board.eval_sets:
        query_set = query_sets[eval_set.id]
        queries[eval_set.id] = {}
        for query_id, text in query_set.texts.items():
            if (left := left - min(len(text), LETTERS)) < 0:
                break
            queries[eval_set.id][query_id] = _cut(text)
        wanted = _wanted(folder, board, eval_set)
        for system in dict.fromkeys(system for system, _ in wanted):
            path = runs.get((system, eval_set.id))
            if path is None or path.stat().st_size == 0:
                continue
            run = read_run(path)
            for query_id in (query_id for of, query_id in wanted if of == system):
                found = run.ranking(query_id)[0][:PASSAGES]
                judged = _judged(query_set, query_id, found, corpus)
                hits.setdefault(eval_set.id, {}).setdefault(system, {})[query_id] = [[p, judged.get(p)] for p in found]
            del run
        found_here = hits.get(eval_set.id, {})
        in_order += [p for system, query_id in wanted for p, _ in found_here.get(system, {}).get(query_id, [])]
    path = folder / "texts.json"
    write_json(path, {"queries": queries, "hits": hits, "passages": _passages(corpus, list(dict.fromkeys(in_order)))})
    return path


def load_texts(folder: Path) -> dict[str, Any]:
    """texts.json, or {} without it."""
    return load_document(folder / "texts.json")


def worth_keeping(a: np.ndarray, b: np.ndarray) -> list[int]:
    """Positions of the queries whose passages are kept for a pair of systems: those on which they differ most, and those that each of
    them wins by most. page.js shows queries in the same order.

    `a` and `b` are the two systems' values, (queries,).
    """
    difference, ranked = a - b, most_different(a, b)
    ways = (ranked[:DIFFER], ranked[difference[ranked] > 0][:EACH_WAY], ranked[difference[ranked] < 0][:EACH_WAY])
    return list(dict.fromkeys(int(position) for way in ways for position in way))


def _wanted(folder: Path, board: Leaderboard, eval_set: EvalSetRow) -> list[tuple[str, str]]:
    """(system, query id) whose passages are to be kept: both sides of each pair by the primary measure, planned contrasts first."""
    known = {}
    for system in board.systems:
        path = Folder(folder).per_query(system.system, eval_set.id)
        if board.row(system.system, eval_set.id, eval_set.primary) is not None and path.exists():
            known[system.system] = read_per_query(path)
    wanted: dict[tuple[str, str], None] = {}
    for a, b in _pairs(board, eval_set, list(known)):
        query_ids, values = known[a]
        if known[b][0] == query_ids:
            for position in worth_keeping(values[eval_set.primary], known[b][1][eval_set.primary]):
                wanted |= {(a, query_ids[position]): None, (b, query_ids[position]): None}
    return list(wanted)


def _pairs(board: Leaderboard, eval_set: EvalSetRow, systems: Sequence[str]) -> Iterator[tuple[str, str]]:
    planned = [(c.a, c.b) for c in board.comparisons if c.eval_set == eval_set.id and c.family != "exploratory"]
    seen: set[frozenset[str]] = set()
    for pair in [*planned, *combinations(systems, 2)]:
        if frozenset(pair) not in seen and set(pair) <= set(systems):
            seen.add(frozenset(pair))
            yield pair


def _judged(query_set: QuerySet, query_id: str, found: Sequence[str], corpus: Corpus) -> Mapping[str, int]:
    """Judgements of a query; of a question with answers, whether they are in the passages that were found."""
    if query_id not in query_set.answers:
        return query_set.qrels.get(query_id, {})
    answers, numbers = Answers(query_set.answers[query_id]), corpus.numbers(found).tolist()
    return {p: int(answers.are_in(corpus.passage(n).text)) for p, n in zip(found, numbers, strict=True) if n >= 0}


def _passages(corpus: Corpus, ids: Sequence[str]) -> dict[str, list[str]]:
    passages: dict[str, list[str]] = {}
    left = PASSAGE_LETTERS
    for passage_id, number in zip(ids, corpus.numbers(ids).tolist(), strict=True):
        if number < 0:
            continue
        _, title, text = corpus.passage(number)
        passages[passage_id] = [_cut(title), _cut(text)]
        if (left := left - sum(map(len, passages[passage_id]))) < 0:
            log.info("texts.json: the text of %s of %s passages is kept", f"{len(passages):,}", f"{len(ids):,}")
            break
    return passages


def _cut(text: str) -> str:
    """On one line, at most LETTERS long, without what UTF-8 cannot hold."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    return text if len(text) <= LETTERS else text[: LETTERS - 1].rstrip() + "…"
