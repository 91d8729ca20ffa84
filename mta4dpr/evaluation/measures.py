"""Measures: ir-measures computes them, this module sees to it that all providers see one ranking of one set of queries.

The queries are those with at least one qrels line (trec_eval -c); one that the run lacks scores 0. Providers inside ir-measures
break ties in different ways, so they get ranks as strictly decreasing scores. Knows nothing of systems, datasets or tables.
"""

from __future__ import annotations

import math
import re
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mta4dpr.data.records import HIGHEST_GRADE
from mta4dpr.errors import UserError, nearest
from mta4dpr.evaluation.trecrun import Run

if TYPE_CHECKING:
    from ir_measures import Measure

Qrels = dict[str, dict[str, int]]
"""{query id: {document id: relevance}}"""

PARSER_ERRORS = (ValueError, TypeError, AssertionError, LookupError, AttributeError, RecursionError)
PROVIDER_ERRORS = (*PARSER_ERRORS, ArithmeticError, RuntimeError, OSError, subprocess.SubprocessError)

NEEDS_SUBTOPICS = {"AP_IA", "ERR_IA", "NRBP", "P_IA", "StRecall", "alpha_DCG", "alpha_nDCG", "nERR_IA", "nNRBP"}
HIGHEST_OF_GDEVAL = 4
HIGHEST_CUTOFF = 2**31 - 1
DEPENDS_ON_TOP_ONLY = {"AP", "Judged", "P", "R", "RR", "Success", "nDCG"}
"""With a cutoff k and without judged_only, these are functions of the first k hits and the qrels."""
BLIND_TO_UNJUDGED_TAIL = {"AP", "Bpref", "P", "R", "RR", "Rprec", "Success", "nDCG"}
"""Hits below a query's last judged hit do not change these: they count as non-relevant and nothing comes after them."""


@dataclass(frozen=True)
class Evaluation:
    """What a run scores: `values[str(measure)]` is (queries,) float64, in the order of `query_ids` (those of the qrels).

    missing_queries   judged queries without a hit in the run: they score 0
    ignored_queries   queries of the run without qrels: they count for nothing
    excluded          hits dropped because their document's id is their query's (exclude_self)
    """

    query_ids: list[str]
    values: dict[str, np.ndarray]
    missing_queries: int
    ignored_queries: int
    excluded: int

    def mean(self, measure: str) -> float:
        """Correctly rounded, so the same whatever the order of the queries."""
        return math.fsum(self.values[measure]) / len(self.query_ids)


def parse_measures(text: str | Sequence[str]) -> list[Measure]:
    """Measures in ir-measures' notation, separated by white space outside of brackets: 'nDCG@10 AP(rel=2)@1000'. Doubles are dropped.

    UserError for what is unknown, malformed or cannot be computed as a mean over the judged queries; so nothing fails later.
    """
    words = [word for part in ([text] if isinstance(text, str) else text) for word in _split(part)]
    if not words:
        raise UserError("expected at least one measure, found none; for example: nDCG@10 RR@10 R@1000")
    return list({str(measure): measure for measure in map(_parsed, words)}.values())


def evaluate(run: Run, qrels: Qrels, measures: Sequence[Measure], *, exclude_self: bool = False) -> Evaluation:
    """Per-query values of `measures` for a run.

    `exclude_self` drops a hit whose document id is its query's id (BEIR's convention for arguana and quora); lower hits move up.
    UserError: not one query of the run is judged; a measure that cannot be computed for these qrels.
    """
    import ir_measures

    query_ids = [query_id for query_id, judged in qrels.items() if judged]
    judged_positions = {query_id: run.positions[query_id] for query_id in query_ids if query_id in run.positions}
    if not judged_positions:
        raise UserError(
            f"expected a run for the queries of these qrels, found none of its {len(run.query_ids)} queries judged; "
            f"query ids of the run: {_examples(run.query_ids)}; of the qrels: {_examples(query_ids)}; "
            "choose the qrels that belong to the run"
        )
    check_grades(qrels, measures)
    rankings, excluded = _rankings(run, judged_positions, qrels, measures, exclude_self=exclude_self)
    values = {str(measure): np.full(len(query_ids), np.nan) for measure in measures}
    position = {query_id: i for i, query_id in enumerate(query_ids)}
    for query_id in query_ids:
        if query_id not in rankings:
            for column in values.values():
                column[position[query_id]] = 0.0
    try:  # with numbers as query ids: gdeval (ERR, nDCG with exp-log2) takes no words, and reads PLAIN-2 and DOC-2 as one query
        judged = {str(position[query_id]): _for_providers(qrels[query_id]) for query_id in rankings}
        numbered = {str(position[query_id]): ranking for query_id, ranking in rankings.items()}
        for metric in ir_measures.iter_calc(list(measures), judged, numbered) if judged else ():
            values[str(metric.measure)][int(metric.query_id)] = metric.value
    except PROVIDER_ERRORS as error:  # whose fault it is cannot be told from the type
        names = " ".join(values)
        raise UserError(f"ir-measures cannot compute {names} for this run and these qrels ({type(error).__name__}: {error})") from error
    for name, column in values.items():
        if not np.isfinite(column).all():
            query_id = query_ids[int(np.flatnonzero(~np.isfinite(column))[0])]
            raise UserError(f"expected a value of {name} for every judged query, found none for {query_id!r}; leave {name} out")
    return Evaluation(query_ids, values, len(query_ids) - len(judged_positions), len(run.query_ids) - len(judged_positions), excluded)


def check_grades(qrels: Qrels, measures: Sequence[Measure], where: str = "") -> None:
    """UserError for grades that a measure cannot take: gdeval, which computes ERR and nDCG with exp-log2, knows 0 to 4."""
    by_gdeval = [str(measure) for measure in measures if measure.NAME == "ERR" or measure.params.get("dcg") == "exp-log2"]
    if not by_gdeval:
        return
    for query_id, judged in qrels.items():
        for document, relevance in judged.items():
            if relevance > HIGHEST_OF_GDEVAL:
                raise UserError(
                    f"{where}{' and '.join(by_gdeval)}: expected grades up to {HIGHEST_OF_GDEVAL}, the highest that gdeval knows, found "
                    f"{relevance} for query {query_id!r}, document {document!r}; choose nDCG@k, or map the grades to smaller ones"
                )


def _for_providers(judged: dict[str, int]) -> dict[str, int]:
    """Grades below -1 as -1, and all as 0 where none is 0 or more: all say that a passage is not relevant.

    trec_eval keeps a count for each grade from 0 to the highest. Where that is -1 it reads memory that is not its own, and may never end.
    """
    highest, lowest = max(judged.values()), min(judged.values())
    if highest < 0:
        return dict.fromkeys(judged, 0)
    return {document: max(relevance, -1) for document, relevance in judged.items()} if lowest < -1 else judged


def _rankings(
    run: Run, judged_positions: dict[str, int], qrels: Qrels, measures: Sequence[Measure], *, exclude_self: bool
) -> tuple[dict[str, dict[str, float]], int]:
    """{query id: {document id: a score that falls by 1 a rank}} of the judged queries, as deep as the measures can see; hits excluded."""
    depths = _depths(run, qrels, measures, spare=1 if exclude_self else 0)
    falling = [float(score) for score in range(int(depths.max(initial=0)), 0, -1)]
    rankings: dict[str, dict[str, float]] = {}
    excluded = 0
    for query_id, position in judged_positions.items():
        start = run.offsets[position]
        ranking = dict(zip(run.documents[start : start + depths[position]].to_pylist(), falling, strict=False))
        if exclude_self and ranking.pop(query_id, None) is not None:
            excluded += 1
        if ranking:
            rankings[query_id] = ranking
    return rankings, excluded


def _depths(run: Run, qrels: Qrels, measures: Sequence[Measure], *, spare: int) -> np.ndarray:
    """(queries,) int64: how many hits of each query are enough for all measures. `spare` hits may be dropped afterwards."""
    lengths = np.diff(run.offsets)
    if all(_has_plain_cutoff(measure) and measure.NAME in DEPENDS_ON_TOP_ONLY for measure in measures):
        lengths = np.minimum(lengths, max(measure["cutoff"] for measure in measures) + spare)
    if spare or not all(measure.NAME in BLIND_TO_UNJUDGED_TAIL and not measure.params.get("judged_only") for measure in measures):
        return lengths
    return np.minimum(lengths, _judged_depths(run, qrels))


def _judged_depths(run: Run, qrels: Qrels) -> np.ndarray:
    """(queries,): hits down to the last one that is judged for its query, at least 1."""
    import pyarrow
    import pyarrow.compute as pc

    judged_ids = pyarrow.array(list({document for judged in qrels.values() for document in judged}), pyarrow.large_string())
    judged_for_some = pc.is_in(run.documents, value_set=judged_ids).to_numpy(zero_copy_only=False)
    candidates = np.flatnonzero(judged_for_some)  # few: only these are looked up for their own query
    queries = np.searchsorted(run.offsets, candidates, side="right") - 1
    documents = run.documents.take(candidates).to_pylist()
    depths = np.ones(len(run.query_ids), np.int64)
    for hit, query, document in zip(candidates.tolist(), queries.tolist(), documents, strict=True):
        if document in qrels.get(run.query_ids[query], ()):
            depths[query] = hit + 1 - run.offsets[query]
    return depths


def _has_plain_cutoff(measure: Measure) -> bool:
    return isinstance(measure.params.get("cutoff"), int) and not measure.params.get("judged_only")


def _split(text: str) -> list[str]:
    """Words of `text`; white space inside brackets or quotes belongs to a word."""
    words, word, depth, quote = [], "", 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter.isspace() and depth <= 0 and not quote:
            words.append(word)
            word = ""
        else:
            word += letter
    return [word for word in [*words, word] if word]


def _parsed(word: str) -> Measure:
    import ir_measures

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # ir-measures 0.4.3 parses with ast.Num
            measure = ir_measures.parse_measure(word)
        measure.validate_params()
    except NameError:
        raise UserError(f"expected a measure in ir-measures' notation, found {word!r}{_hint(word)}; `list measures` shows all") from None
    except (*PARSER_ERRORS, MemoryError) as error:  # MemoryError: Python's parser, for too many signs in a row
        raise UserError(
            f"expected a measure as NAME, NAME@k or NAME(key=value)@k, separated by spaces; found {word!r} ({_cause(error)}); "
            "for example: nDCG@10 AP(rel=2)@1000"
        ) from None
    reason = _why_not(measure)
    if reason:
        raise UserError(f"the measure {word!r} cannot be reported: {reason}")
    return measure


def _cause(error: Exception) -> str:
    """ir-measures shows a parameter that is required and not given as '<object object at ...>'."""
    text, object_, _ = str(error).partition("=<object object")
    return text.replace("invalid param", "it requires the parameter") if object_ else text


def _why_not(measure: Measure) -> str:
    """Why a well-formed measure cannot be reported as a mean over the judged queries; '' when it can."""
    import ir_measures

    cutoff = measure.params.get("cutoff", 1)
    if isinstance(cutoff, bool) or not 1 <= cutoff <= HIGHEST_CUTOFF:
        return f"expected a cutoff of at least 1 and at most {HIGHEST_CUTOFF:,}, found {cutoff}"
    relevant = measure.params.get("rel", 1)
    if isinstance(relevant, bool) or not 1 <= relevant <= HIGHEST_GRADE:
        return f"expected the lowest grade that counts as relevant (rel) from 1 to {HIGHEST_GRADE}, found {relevant}"
    gains = measure.params.get("gains") or {}
    if any(type(grade) is not int for grade in gains) or any(type(g) is not int or not 0 <= g <= HIGHEST_GRADE for g in gains.values()):
        return f"expected gains as {{grade: gain}}, whole numbers and each gain from 0 to {HIGHEST_GRADE}, found {gains}"
    if infinite := [name for name, value in measure.params.items() if isinstance(value, float) and not math.isfinite(value)]:
        return f"expected a finite number as {infinite[0]}, found {measure.params[infinite[0]]}"
    if reason := why_no_mean(measure):
        return reason
    if measure.NAME == "IPrec" and round(measure["recall"], 2) != measure["recall"]:
        return "trec_eval knows recall levels of two decimals only; for example IPrec@0.1"
    if not ir_measures.DefaultPipeline.supports(measure):
        return f"no installed provider of ir-measures computes it with these parameters{_installable(measure)}"
    return ""


def why_no_mean(measure: Measure) -> str:
    """Why a measure is no mean over the judged queries, whatever its parameters; '' when it is one."""
    from ir_measures.measures.base import MeanAgg

    if not isinstance(measure.aggregator(), MeanAgg):
        return "it is a sum over queries, not a mean; choose a measure such as P@10 or R@1000"
    if measure.NAME == "Accuracy":
        return "it is undefined for queries without a relevant hit, so it is no mean over the same queries; choose RR or AP"
    if measure.NAME in NEEDS_SUBTOPICS:
        return "it needs judgments by subtopic, which qrels here do not hold; choose a measure such as nDCG@10"
    return ""


def _installable(measure: Measure) -> str:
    import ir_measures

    able = [p for p in ir_measures.DefaultPipeline.providers if not p.is_available() and p.supports(measure)]
    ways = [p.install_instructions() or p.NAME for p in able]
    if ways:
        return f"; to have it: {' or '.join(ways)}"
    taken = []
    for provider in ir_measures.DefaultPipeline.providers:
        forms = sorted({_as_typed(str(m)) for m in provider.SUPPORTED_MEASURES if measure.NAME == m.NAME})
        lacking = "" if provider.is_available() else f" ({provider.install_instructions() or provider.NAME})"
        taken += [f"{', '.join(forms)}{lacking}"] if forms else []
    return f"; what its providers take: {'; '.join(dict.fromkeys(taken))}" if taken else ""


def _as_typed(form: str) -> str:
    """RBP(rel=REQUIRED,p=ANY)@NOT_PROVIDED, as providers say what they take, as a user types it: RBP(rel=...,p=...)."""
    form = re.sub(r"@NOT_PROVIDED|,?\w+=NOT_PROVIDED", "", form)
    return re.sub(r"=(REQUIRED|ANY)", "=...", re.sub(r"@(REQUIRED|ANY)", "@k", form))


def _hint(word: str) -> str:
    """' (did you mean X?)': the name in other letters' case, trec_eval's name of a measure, or the nearest."""
    import ir_measures

    name = word.replace("(", "@").split("@")[0]
    names = sorted(ir_measures.measures.registry)
    for valid in names:
        if valid.lower() == name.lower():
            return f" (did you mean {word.replace(name, str(ir_measures.measures.registry[valid]), 1)!r}?)"
    try:
        (measure,) = ir_measures.parse_trec_measure(word)
    except PARSER_ERRORS:  # not one of trec_eval's names, or one for several measures
        return nearest(name, names)
    return f" (did you mean {str(measure)!r}?)"


def _examples(query_ids: Sequence[str]) -> str:
    return ", ".join(map(repr, query_ids[:3])) + (", ..." if len(query_ids) > 3 else "")
