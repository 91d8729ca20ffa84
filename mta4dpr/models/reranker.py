"""Cross-encoders: (query, passage) pairs in, one score a pair out. Loading and scoring pairs out of two token stores.

The network is a transformers sequence-classification model. Float32 results depend on the shape of the batch (its padding,
its number of pairs), though hardly; so `score` only makes batches whose shape is decided by each pair's own length, and a
pair has one score to the bit whatever is scored with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.tokens import MOST_TOKENS, TokenPairs, TokenStore
from mta4dpr.errors import UserError
from mta4dpr.machine.files import key_of
from mta4dpr.models.agreement import check_scores
from mta4dpr.models.completeness import check_vocabulary, check_weights, loading
from mta4dpr.models.encoder import batches_by_length
from mta4dpr.models.files import find_model
from mta4dpr.models.hashes import hash_of_weights, transformers_version, weights_key
from mta4dpr.models.layers import keep_layers, positions_of
from mta4dpr.models.network import Network
from mta4dpr.models.settings import check_cross_encoder

log = logging.getLogger(__name__)

WIDTH_STEP = 8  # batches are padded to the next greater multiple of this
MOST_PAIRS = 32  # of a batch: more are no faster on a CPU, and more would be computed in vain to fill the last one


@dataclass(frozen=True)
class PairReading:
    """How pairs become tokens; lengths as in TokenPairs."""

    query_length: int | None
    pair_length: int
    query_prefix: str
    passage_prefix: str


class Reranker(Network[PairReading]):
    """A cross-encoder of one label (a score) or two (not relevant, relevant)."""

    def __init__(self, label: str, network: Any, tokenizer: Any, reading: PairReading, weights_hash: str) -> None:
        from inspect import signature

        super().__init__(label, network, tokenizer, reading, weights_hash)
        # what transformers' own tokenizer would pass on: RoBERTa and its kin have no token types
        self._typed = "token_type_ids" in tokenizer.model_input_names and "token_type_ids" in signature(network.forward).parameters

    @property
    def key(self) -> str:
        """Names what decides a score: weights, kept layers, tokenizer, reading, shapes of batches, library versions."""
        import torch

        parts = [self.weights_hash, self.tokenizer.hash, self._typed, asdict(self.reading), WIDTH_STEP, MOST_PAIRS]
        return key_of([*parts, torch.__version__, transformers_version()])

    def pairs(self, queries: TokenStore, passages: TokenStore) -> TokenPairs:
        """The pairs of two stores, cut as this model reads them. The stores are of its tokenizer and hold its prefixes."""
        assert queries.tokenizer.hash == passages.tokenizer.hash == self.tokenizer.hash
        return TokenPairs(queries, passages, self.reading.query_length, self.reading.pair_length)

    def forward(self, ids: Any, mask: Any, types: Any) -> Any:
        """Scores of padded pairs, (pairs, length) each -> (pairs,), with gradients if they are enabled.

        The logit of the only label, or that of label 1 (relevant) minus that of label 0.
        """
        typed = {"token_type_ids": types} if self._typed else {}
        logits = self.network(input_ids=ids, attention_mask=mask, **typed).logits
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]

    def score(self, pairs: TokenPairs, queries: np.ndarray, passages: np.ndarray, *, token_budget: int) -> np.ndarray:
        """Scores of pairs of query and passage numbers, (pairs,) float32, in batches within the budget, padding included.

        All batches of one width have the same number of pairs (the last is filled up with some that it already holds). Pairs
        of full length go apart: a batch without padding is computed without a mask. Bits depend on nothing else.
        """
        import torch

        scores = np.empty(len(queries), np.float32)
        lengths = pairs.lengths(queries, passages)
        widths = np.minimum((lengths // WIDTH_STEP + 1) * WIDTH_STEP, pairs.pair_length)
        shapes = 2 * widths + (lengths == widths)
        self.network.eval()
        with torch.inference_mode():
            for shape in np.unique(shapes)[::-1]:
                alike = np.flatnonzero(shapes == shape)
                width = int(shape) // 2
                size = _pairs_of_a_batch(width, token_budget)
                for places in batches_by_length(widths[alike], size * width):
                    rows = alike[places]
                    filled = np.resize(rows, size)
                    batch = pairs.batch(queries[filled], passages[filled], width=width)
                    ids, mask, types = (torch.from_numpy(array).to(self.device) for array in batch)
                    scores[rows] = self.forward(ids, mask, types)[: len(rows)].float().cpu().numpy()
        return scores


def _pairs_of_a_batch(width: int, token_budget: int) -> int:
    """As many as the budget takes of 8, 16, 24 and 32, else 4 or 1: with 2, 3 or 5 pairs, say, bits depend on a pair's place among them."""
    most = min(token_budget // width, MOST_PAIRS)
    return most // 8 * 8 or (4 if most >= 4 else 1)


def load_reranker(label: str, spec: ModelSpec, *, device: str, offline: bool = False, texts: Sequence[str] = ()) -> Reranker:
    """The reranker of a spec, in float32 on `device`. `texts` give an untrained one its vocabulary.

    EnvironmentLack when the model is nowhere to be found; UserError when its files are damaged or are no cross-encoder, or when the
    spec does not go with them.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if spec.untrained is not None:
        from mta4dpr.models.untrained import untrained_classifier

        folder = None
        network, tokenizer = untrained_classifier(spec.untrained, texts)
    else:
        folder, where = find_model(spec.model, offline=offline)
        log.info("model %s: %s", label, where)
        check_cross_encoder(label, folder)
        with loading(label, folder) as options:
            network, found = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, **options
            )
            _check_head(label, network, found["missing_keys"], folder)
            check_weights(label, network, folder)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            check_vocabulary(label, network, tokenizer, folder)
    if spec.layers is not None:
        keep_layers(network.base_model, spec.layers, label)
    network = network.to(torch.float32).eval()
    reranker = Reranker(label, network, tokenizer, _reading(label, spec, network, tokenizer), "")
    reranker.weights_hash = weights_key(folder, spec.layers) if folder else hash_of_weights(network)
    if folder:
        with loading(label, folder):
            check_scores(reranker, tokenizer)
    network.to(device)
    return reranker


def _check_head(label: str, network: Any, missing: Sequence[str], folder: Path) -> None:
    """A head that is not in the files would be drawn at random, and its scores with it."""
    labels = int(network.config.num_labels)
    lacking = sorted(name for name in missing if not name.startswith(f"{network.base_model_prefix}."))
    if lacking:
        raise UserError(
            f"model {label!r}: expected a cross-encoder with a trained classification head in {folder}, found no weights for "
            f"{', '.join(lacking)}; choose a reranker, or leave out kind: cross-encoder if this is a bi-encoder"
        )
    if labels > 2:
        raise UserError(
            f"model {label!r}: expected a cross-encoder with 1 label (a score) or 2 (not relevant, relevant), found {labels} in {folder}; "
            "choose a reranker"
        )


def _reading(label: str, spec: ModelSpec, network: Any, tokenizer: Any) -> PairReading:
    """What the spec says, else as many tokens as tokenizer, positions and token stores allow."""
    positions = positions_of(network.base_model)
    most = min(positions, MOST_TOKENS)
    length = spec.pair_length or int(min(tokenizer.model_max_length, most))
    if length > most:
        raise UserError(
            f"model {label!r}: pair_length {length} is more than {most} tokens (the model has {positions} positions, a token store keeps "
            f"{MOST_TOKENS} tokens of a text)"
        )
    if spec.query_length is not None and spec.query_length >= length:
        raise UserError(f"model {label!r}: query_length {spec.query_length} leaves no room for a passage in pairs of {length} tokens")
    return PairReading(spec.query_length, length, spec.query_prefix or "", spec.passage_prefix or "")
