"""Cross-encoders: a network that scores pairs of query and passage. A teacher or an assistant; it cannot rank a corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mta4dpr.config.benchmark import Benchmark, ModelSpec
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.engines.dense_cost import DenseOptions, inference_memory, tokens_piece
from mta4dpr.engines.engine import Engine
from mta4dpr.engines.pairs import PairScores
from mta4dpr.engines.scorer import Queries, Scorer
from mta4dpr.errors import UserError
from mta4dpr.machine.places import CACHE
from mta4dpr.machine.work import Piece, Work, unknown
from mta4dpr.models.reranker import Reranker, load_reranker
from mta4dpr.models.sizes import ModelSize, size_of_model
from mta4dpr.retrieval.hits import Hits

PAIR_TOKENS = 15  # of a query and the special tokens in a pair, beside the passage's


class CrossEncoder(Engine):
    """A sequence classifier over pairs; each pair is scored once and kept."""

    noun = "a cross-encoder"
    needs_model = True
    ranks = False
    has_weights = True
    options: DenseOptions

    @classmethod
    def options_of(cls, bench: Benchmark, model: ModelSpec | None, own: Mapping[str, Any]) -> DenseOptions:
        """The model of its label and the section dense."""
        return DenseOptions.of(bench, model)

    @property
    def identity(self) -> Any:
        """The model, and what decides the shape of a batch."""
        return [self.place.model_identity(self.options.model), dict(self.options.settings.of_vectors())]

    @property
    def model_size(self) -> ModelSize:
        """From the files, or from what is known of the checkpoint."""
        return size_of_model(self.options.model)

    def token_pieces(self, texts: CorpusSize) -> Iterator[Piece]:
        """The corpus by its tokenizer; nothing for a model that is not known, which is said where its pairs are counted."""
        try:
            yield tokens_piece(self, self.options.model, self.model_size, texts)
        except UserError:
            return  # said where its pairs are counted

    def scoring_pieces(self, pairs: int, texts: CorpusSize, *, queries_memory: float) -> Iterator[Piece]:
        """Twelve bytes a pair on disk; operations of the network for every token of a pair."""
        name, model = f"score pairs with {self.label}", self.options.model
        try:
            size = self.model_size
        except UserError:
            yield unknown(name, model.model)
            return
        length = min(model.pair_length or 512, texts.tokens + PAIR_TOKENS)
        yield Piece(
            name,
            "to do",
            f"up to {pairs:,} pairs of the groups, and D_eval's candidates",
            {CACHE: 12.0 * pairs},
            inference_memory(size, self.options.settings.token_budget) + queries_memory + 36.0 * pairs,
            (Work("encode", size.operations * length * pairs, size.shape),),
        )

    def search(self, queries: Sequence[str], k: int) -> Iterator[Hits]:
        """UserError: it scores pairs alone."""
        raise UserError(f"{self.label} is {self.noun}, which cannot search a corpus; it can be a teacher or an assistant")

    def load(self) -> Reranker:
        """A fresh cross-encoder on the device."""
        place, model = self.place, self.options.model
        return load_reranker(self.label, model, device=place.device, offline=place.offline, texts=place.vocabulary(model))

    def scorer(self, queries: Queries) -> CrossEncoderScorer:
        """Kept scores of pairs of the training queries."""
        from mta4dpr.data.tokens import tokens_of_corpus

        reranker, place = self.load(), self.place
        passages = tokens_of_corpus(place.cache, place.corpus, reranker.tokenizer, prefix=reranker.reading.passage_prefix)
        return CrossEncoderScorer(
            PairScores(
                place.cache,
                reranker,
                reranker.pairs(reranker.query_tokens(queries.texts), passages),
                query_hashes=queries.text_hashes,
                text_hash=place.corpus.text_hash,
                token_budget=self.options.settings.token_budget,
            )
        )


class CrossEncoderScorer(Scorer):
    """Kept pair scores; a pair is scored when it is first asked for."""

    kind, ranks = "cross-encoder", False

    def __init__(self, pairs: PairScores) -> None:
        self.label, self.key, self._pairs = pairs.label, pairs.key, pairs

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Never asked: callers look at `ranks`."""
        raise AssertionError(f"{self.label} is a cross-encoder: it scores pairs and cannot rank the corpus; callers look at `ranks`")

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Scores of pairs, made when they are first asked for."""
        return self._pairs.scores(queries[:, None], passages)

    def score_along(self) -> None:
        """Scores what the main process of a launch waits for, with it."""
        self._pairs.score_along()
