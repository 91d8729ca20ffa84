"""Compare of Algorithm 1: how good the student and the assistants are on D_eval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mta4dpr.distill.bench import Bench
from mta4dpr.distill.draws import negative_pool
from mta4dpr.distill.mining import rankings
from mta4dpr.distill.queries import PassageLists, TrainingQueries
from mta4dpr.engines.scorer import Scorer
from mta4dpr.evaluation.measures import evaluate, parse_measures
from mta4dpr.evaluation.trecrun import run_of


def compare(scorers: Sequence[Scorer], bench: Bench) -> dict[str, float]:
    """Compare's measure of each scorer on D_eval, by label: over the whole corpus, or over the stored candidates.

    A scorer that cannot rank a corpus (a cross-encoder) reranks the candidates in either case. Lists are as long as the measure looks.
    """
    queries, options, corpus = bench.queries, bench.options, bench.corpus
    measures, qrels = parse_measures(options.compare_measure), queries.qrels_held_out(corpus)
    reranks = {s.label: options.compare == "rerank" or not s.ranks for s in scorers}
    depth = max(options.depth, measures[0].params.get("cutoff", 0)) + int(bench.exclude_self)
    candidates = held_out_candidates(bench) if any(reranks.values()) else []
    values = {}
    for scorer in scorers:
        run: dict[str, dict[str, float]] = {}  # score of each passage that is ranked, by query and passage id
        if not reranks[scorer.label]:
            numbers = iter(queries.held_out)
            for hits in scorer.rank(queries.held_out, depth):
                for passages, scores in zip(hits.passages, hits.scores, strict=True):
                    real = passages >= 0
                    run[queries.ids[next(numbers)]] = dict(zip(corpus.ids(passages[real]), scores[real].tolist(), strict=True))
        else:
            longest = max(len(passages) for passages in candidates)
            scored = scorer.score(queries.held_out, np.stack([np.resize(passages, longest) for passages in candidates]))
            for n, passages, row in zip(queries.held_out, candidates, scored, strict=True):
                run[queries.ids[n]] = dict(zip(corpus.ids(passages), row[: len(passages)].tolist(), strict=True))
        if bench.exclude_self:
            run = {query_id: {p: s for p, s in ranking.items() if p != query_id} for query_id, ranking in run.items()}
        empty = not any(run.values())  # a scorer that finds nothing at all is worth 0, not an error
        values[scorer.label] = 0.0 if empty else evaluate(run_of(run), qrels, measures).mean(str(measures[0]))
    return values


def held_out_candidates(bench: Bench) -> list[np.ndarray]:
    """For `rerank`: passages of each D_eval query, the positives and the fused candidates of the original models.

    They are the same in every round, so that rounds compare.
    """
    held_out, queries, depth = bench.queries.held_out, bench.queries, bench.options.depth
    scorers = [bench.scorer(label) for label in (*bench.assistants, bench.teacher)]
    lists = {s.label: rankings(s, held_out, depth, bench.mining, bench) for s in scorers if s.ranks}
    view = TrainingQueries(
        [queries.ids[n] for n in held_out],
        [queries.texts[n] for n in held_out],
        PassageLists.of([queries.positives[n] for n in held_out]),
        PassageLists.of([queries.relevant[n] for n in held_out]),
        len(held_out),
        [],
    )
    pool = negative_pool(lists, view, bench.corpus, depth=depth, rrf_k=bench.options.rrf_k)
    return [np.concatenate([positives, row[row >= 0]]) for positives, row in zip(view.positives, pool, strict=True)]
