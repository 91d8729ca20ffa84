"""`compare`: run files against each other, by paired tests over the judged queries, and the queries on which they differ most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta4dpr.commands.documents import Compared
from mta4dpr.commands.evaluate import Judgements, judgements
from mta4dpr.data.corpus import open_corpus, stored_corpus
from mta4dpr.data.records import Passage
from mta4dpr.errors import UserError
from mta4dpr.evaluation import significance
from mta4dpr.evaluation.significance import ALPHA, most_different
from mta4dpr.machine import environment

if TYPE_CHECKING:
    from mta4dpr.data.corpus import Corpus
    from mta4dpr.evaluation.measures import Evaluation
    from mta4dpr.evaluation.significance import Comparison
    from mta4dpr.evaluation.trecrun import Run

RUN_SUFFIXES = (".gz", ".trec", ".run", ".txt", ".tsv", ".res")
SHOWN_PASSAGES = 3  # of each side
READ_AT_ONCE = 1_000_000  # passages: a larger collection is not read for the sake of a few texts
PASSAGE_BYTES = 1000  # of a passage in a file, where the number of passages is not known


def compare(runfiles: Sequence[Path], *, dataset: str, qrels: Path | None, measures: str, all_pairs: bool, queries: int | None) -> Compared:
    """{"eval_set", "rows", "comparisons", "queries", "notes"}: every run against the first, or all pairs of them.

    Holm's correction is over the contrasts of one measure. `queries` that differ most, by the first measure, are listed for each
    contrast; by default 10 for two runs and none for more.
    """
    if len(runfiles) < 2:
        raise UserError(f"compare takes two run files or more, found {len(runfiles)}; `mta4dpr-bench evaluate` scores a single one")
    if queries is not None and queries < 0:
        raise UserError(f"--queries takes a number of queries of at least 0, found {queries}")
    labels = _labels(runfiles)
    judged = judgements("compare", dataset=dataset, qrels=qrels, measures=measures)
    runs, found, rows = {}, {}, []
    for label, path in zip(labels, runfiles, strict=True):
        runs[label], found[label] = judged.score(path)
        rows += [{"label": label, **row} for row in judged.rows(path, found[label])]
    contrasts = [(b, a) for a, b in combinations(labels, 2)] if all_pairs else [(label, labels[0]) for label in labels[1:]]
    family = "exploratory" if all_pairs and len(labels) > 2 else "planned"
    comparisons: dict[str, list[Comparison]] = {
        str(measure): significance.compare({label: one.values[str(measure)] for label, one in found.items()}, contrasts, family=family)
        for measure in judged.measures
    }
    shown = queries if queries is not None else 10 if len(labels) == 2 else 0
    return {
        "eval_set": judged.eval_set,
        "rows": rows,
        "comparisons": [
            {"eval_set": judged.eval_set, "measure": measure, **asdict(one)} for measure, ones in comparisons.items() for one in ones
        ],
        "queries": list(_most_different(judged, contrasts, runs, found, shown)) if shown else [],
        "notes": judged.notes,
    }


def verdict(comparison: Mapping[str, Any]) -> str:
    """Of the first run of a contrast: better, worse, cannot tell, or the same on every query."""
    if comparison["p_holm"] >= ALPHA:
        return "cannot tell" if comparison["wins"] or comparison["losses"] else "the same on every query"
    return "better" if comparison["difference"] > 0 else "worse"


def _labels(paths: Sequence[Path]) -> list[str]:
    """The files' names without the endings of run files; where two are the same, all paths in full."""
    twice = [str(path) for n, path in enumerate(paths) if path.resolve() in [other.resolve() for other in paths[:n]]]
    if twice:
        raise UserError(f"compare takes different run files, found {twice[0]} twice; leave one out")
    names = []
    for path in paths:
        name = path.name
        while Path(name).suffix in RUN_SUFFIXES:
            name = Path(name).stem
        names.append(name)
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _most_different(
    judged: Judgements, contrasts: Sequence[tuple[str, str]], runs: dict[str, Run], found: dict[str, Evaluation], shown: int
) -> Iterator[dict[str, Any]]:
    """The queries of each contrast with the largest difference of the first measure, in the qrels' order where they are equal."""
    measure = str(judged.measures[0])
    corpus = _corpus(judged)
    texts = dict(judged.source.queries(judged.query_set)) if judged.source else {}
    for a, b in contrasts:
        values_a, values_b, query_ids = found[a].values[measure], found[b].values[measure], found[a].query_ids
        for n in most_different(values_a, values_b)[:shown]:
            query_id = query_ids[n]
            yield {
                **{"a": a, "b": b, "measure": measure, "query_id": query_id, "query": texts.get(query_id)},
                **{"value_a": float(values_a[n]), "value_b": float(values_b[n])},
                "first_a": _first(judged, runs[a], query_id, corpus),
                "first_b": _first(judged, runs[b], query_id, corpus),
            }


def _first(judged: Judgements, run: Run, query_id: str, corpus: Corpus | None) -> list[dict[str, Any]]:
    """The first passages of a query: id, relevance (None where it is not judged), and the text where it is at hand."""
    excluded = query_id if judged.source is not None and judged.source.exclude_self else None
    ids = [passage_id for passage_id in run.ranking(query_id)[0][: SHOWN_PASSAGES + 1] if passage_id != excluded][:SHOWN_PASSAGES]
    numbers = corpus.numbers(ids).tolist() if corpus else [-1] * len(ids)
    passages: list[Passage | None] = [corpus.passage(number) if corpus and number >= 0 else None for number in numbers]
    return [
        {
            **{"id": passage_id, "relevance": judged.qrels[query_id].get(passage_id)},
            **{"title": passage.title if passage else None, "text": passage.text if passage else None},
        }
        for passage_id, passage in zip(ids, passages, strict=True)
    ]


def _corpus(judged: Judgements) -> Corpus | None:
    """The collection's texts, where an earlier command has stored them or they are read in a moment."""
    source, cache = judged.source, environment.cache_folder()
    if source is None:
        judged.notes.append("passages and queries are shown by their ids; with --dataset their texts are shown too")
        return None
    stored = stored_corpus(cache, source)
    passages = source.expected_passages() or sum(size for _, size, _ in source.files()) // PASSAGE_BYTES
    if stored or 0 < passages <= READ_AT_ONCE:
        return stored or open_corpus(cache, source)
    judged.notes.append(f"the passages of {judged.eval_set} are not stored here yet, so they are shown by their ids")
    return None
