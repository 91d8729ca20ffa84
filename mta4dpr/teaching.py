"""What the students of a run are trained with: the training queries, and teacher and assistants that score them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta4dpr.benchmark import ModelSpec, Recipe
from mta4dpr.files import key_of
from mta4dpr.identities import bm25_key, model_identity
from mta4dpr.opened import Run
from mta4dpr.request import trainable
from mta4dpr.retrievers import bm25_retriever, dense_retriever, encoding_of

if TYPE_CHECKING:
    from mta4dpr.distill.bench import Bench
    from mta4dpr.distill.queries import TrainingQueries
    from mta4dpr.distill.scorers import Scorer
    from mta4dpr.models.encoder import Encoder

log = logging.getLogger(__name__)


def open_training_queries(opened: Run, positive_rel: int, eval_fraction: float, eval_max: int) -> TrainingQueries:
    """D_train and D_eval under those options; kept, as most students of a run share them."""
    from mta4dpr.distill.queries import training_queries

    key = (positive_rel, eval_fraction, eval_max)
    if key not in opened.queries:
        queries = training_queries(
            opened.train_set,
            opened.protected,
            opened.corpus,
            positive_rel=positive_rel,
            eval_fraction=eval_fraction,
            eval_max=eval_max,
            exclude_self=opened.exclude_self,
        )
        for line in queries.counts:
            log.info(line)
        opened.queries[key] = queries
    return opened.queries[key]


def open_scorer(opened: Run, label: str, queries: TrainingQueries) -> Scorer:
    """The teacher or assistant of that label, bound to those queries; kept."""
    key = (label, queries.key)
    if key not in opened.scorers:
        opened.scorers[key] = _open_scorer(opened, label, queries)
    return opened.scorers[key]


def _open_scorer(opened: Run, label: str, queries: TrainingQueries) -> Scorer:
    from mta4dpr.data.tokens import tokens_of_corpus
    from mta4dpr.distill.pairs import PairScores
    from mta4dpr.distill.scorers import Bm25Scorer, CrossEncoderScorer, TableScorer

    bench, corpus = opened.bench, opened.corpus
    if label == "bm25":
        return Bm25Scorer(bm25_retriever(opened), queries.texts, bm25_key(bench, corpus))
    spec = bench.models[label]
    if spec.scores:
        return TableScorer(label, Path(spec.scores), queries.ids, corpus, key_of(model_identity(opened, spec)))
    network: Any = opened.network(label)
    if spec.kind == "bi-encoder":
        return _bi_encoder(opened, network, queries, opened.cache, index=spec.index)
    passages = tokens_of_corpus(opened.cache, corpus, network.tokenizer, prefix=network.reading.passage_prefix)
    pairs = PairScores(
        opened.cache,
        network,
        network.pairs(network.query_tokens(queries.texts), passages),
        query_hashes=queries.text_hashes,
        text_hash=corpus.text_hash,
        token_budget=opened.bench.dense.token_budget,
    )
    return CrossEncoderScorer(pairs)


def training_bench(opened: Run, recipe: Recipe) -> Bench:
    """What a student is trained with: the training queries, and how scorers and networks are opened."""
    from mta4dpr.data.tokens import tokens_of_corpus
    from mta4dpr.distill.bench import Bench
    from mta4dpr.distill.trainer import Texts

    corpus, options = opened.corpus, recipe.distill
    queries = open_training_queries(opened, options.positive_rel, options.eval_fraction, options.eval_max)

    def texts(network: Any) -> Texts:
        passages = tokens_of_corpus(opened.cache, corpus, network.tokenizer, prefix=network.reading.passage_prefix)
        return Texts(network.query_tokens(queries.texts), passages)

    def freeze(label: str, model: Path, root: Path) -> Scorer:
        return _bi_encoder(opened, opened.load_encoder(label, ModelSpec(model=str(model))), queries, root)

    return Bench(
        corpus=corpus,
        queries=queries,
        teacher=recipe.teacher,
        assistants=recipe.assistants,
        trainable=trainable(opened.bench, recipe.assistants),
        scorer=lambda label: open_scorer(opened, label, queries),
        network=opened.network,
        mining=opened.cache / "mining",
        freeze=freeze,
        texts=texts,
        options=options,
        seed=opened.request.seed,
        exclude_self=opened.exclude_self,
        accelerator=opened.accelerator,
        tensorboard=opened.request.tensorboard,
    )


def _bi_encoder(opened: Run, encoder: Encoder, queries: TrainingQueries, root: Path, *, index: str = "") -> Scorer:
    from mta4dpr.distill.scorers import BiEncoderScorer
    from mta4dpr.retrieval.vectors import encode

    tokens = encoder.query_tokens(queries.texts)
    vectors = encode(root, encoder, tokens, longest=encoder.reading.query_length, how=encoding_of(opened))
    retriever = dense_retriever(opened, encoder, root, index=index)
    key = key_of([encoder.key, encoding_of(opened).parts, opened.device, *filter(None, [index])])
    return BiEncoderScorer(encoder.label, retriever.index, vectors.array, key)
