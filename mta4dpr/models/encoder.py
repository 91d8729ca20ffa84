"""Bi-encoders: texts in, vectors out. Loading, cutting layers, encoding a token store, saving.

The network is a sentence-transformers model, so that pooling, normalisation and extra layers are that library's and a
saved student loads there as it is. How texts are read (lengths, prefixes) stands in that library's own files.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.tokens import TokenStore
from mta4dpr.errors import UserError
from mta4dpr.machine.files import folder_written_aside, key_of, read_json
from mta4dpr.models.agreement import check_agreement
from mta4dpr.models.completeness import check_vocabulary, check_weights, loading
from mta4dpr.models.files import find_model
from mta4dpr.models.hashes import hash_of_weights, transformers_version, weights_key
from mta4dpr.models.layers import keep_layers, layer_list
from mta4dpr.models.network import Network
from mta4dpr.models.reading import Reading, is_normalized, reading_of
from mta4dpr.models.registry import checkpoint_of
from mta4dpr.models.settings import DOT, MODULE_LIST, TEXT, Settings, read_settings
from mta4dpr.models.transformer import size_of

log = logging.getLogger(__name__)


class Encoder(Network[Reading]):
    """A bi-encoder: one network encodes queries and passages. Vectors are compared by dot product."""

    def __init__(self, label: str, network: Any, reading: Reading, weights_hash: str) -> None:
        super().__init__(label, network, network.tokenizer, reading, weights_hash)

    @property
    def key(self) -> str:
        """Names what decides a vector: weights, kept layers, tokenizer, reading, modules after the transformer, library versions.

        Equal keys give equal vectors, so stores of vectors are kept under it.
        """
        import torch

        parts = [str(module) for module in list(self.network)[1:]]
        if not self.includes_prompts:
            parts.append("without prompts")  # earlier versions pooled them
        return key_of([self.weights_hash, self.tokenizer.hash, asdict(self.reading), parts, torch.__version__, transformers_version()])

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.network.get_embedding_dimension())

    @cached_property
    def transformer(self) -> Any:
        """The Hugging Face model inside."""
        return self.network[0].model

    def forward(self, ids: Any, mask: Any, *, prefix: str = "") -> Any:
        """Vectors of padded token ids, (texts, length) -> (texts, dimensions), with gradients if they are enabled.

        `prefix` is what the texts begin with: some models leave it out of pooling.
        """
        return self.network({"input_ids": ids, "attention_mask": mask, **self._left_out(prefix)})["sentence_embedding"]

    @property
    def includes_prompts(self) -> bool:
        """Whether a prefix's tokens are pooled as the text's are, or there is no prefix."""
        return not any(map(self._left_out, (self.reading.query_prefix, self.reading.passage_prefix)))

    def _left_out(self, prefix: str) -> dict[str, int]:
        """For pooling that leaves the prefix out: how many tokens that are, counted as sentence-transformers does."""
        if not prefix or self.network[1].include_prompt:
            return {}
        ((*_, last),), mask = self.tokens([prefix], "").batch(np.zeros(1, np.int64), self.reading.passage_length)
        return {"prompt_length": int(mask.sum()) - (last in self.network.tokenizer.all_special_ids)}

    @property
    def hidden_size(self) -> int:
        """Width of the transformer's layers; a dense layer after pooling may make `dimensions` another number."""
        return int(self.transformer.config.hidden_size)

    @property
    def size(self) -> tuple[int, int]:
        """(transformer layers, hidden size), of any architecture."""
        return size_of(self.transformer.config)

    @property
    def layers(self) -> int:
        """Transformer layers."""
        return len(self._layer_modules())

    def _layer_modules(self) -> Any:
        return getattr(*layer_list(self.transformer, self.label))

    def forward_layers(self, ids: Any, mask: Any, *, prefix: str = "") -> tuple[Any, Any]:
        """Vectors as `forward` gives them, and those of each layer, pooled and normalised, (texts, layers, hidden size)."""
        import torch

        states: list[Any] = []
        keep: Any = lambda _module, _inputs, output: states.append(output[0] if isinstance(output, tuple) else output)  # noqa: E731
        hooks = [layer.register_forward_hook(keep) for layer in self._layer_modules()]
        try:
            vectors = self.forward(ids, mask, prefix=prefix)
        finally:
            for hook in hooks:
                hook.remove()
        pooling, known = self.network[1], {"attention_mask": mask, **self._left_out(prefix)}
        pooled = [pooling({"token_embeddings": state, **known})["sentence_embedding"] for state in states]
        return vectors, torch.nn.functional.normalize(torch.stack(pooled, dim=1), dim=-1)

    def encode(self, tokens: TokenStore, numbers: np.ndarray, *, longest: int, token_budget: int, precision: str = "float32") -> np.ndarray:
        """Vectors of those texts, (texts, dimensions) float32, in batches of similar length within the budget.

        `precision` is what matrices are multiplied in: float32, bfloat16 or float16.
        """
        import torch

        vectors = np.empty((len(numbers), self.dimensions), np.float32)
        self.network.eval()
        lower = torch.autocast(self.device.type, getattr(torch, precision), enabled=precision != "float32")
        lengths = tokens.lengths(longest, numbers)
        with torch.inference_mode(), lower:
            for rows in batches_by_length(lengths, token_budget):
                ids, mask = (torch.from_numpy(a).to(self.device) for a in tokens.batch(numbers[rows], longest))
                vectors[rows] = self.forward(ids, mask, prefix=tokens.prefix).float().cpu().numpy()
        left_out = self._left_out(tokens.prefix).get("prompt_length", 0)
        undefined = np.flatnonzero((lengths <= left_out) & ~np.isfinite(vectors).all(axis=1))
        if len(undefined):
            raise UserError(
                f"{self.label}: expected texts of which its tokenizer keeps a token, found {len(undefined)} of {len(numbers)} without, "
                f"such as number {int(numbers[undefined[0]])} (from 0); its pooling has no vector for them: leave them out"
            )
        return vectors

    def encode_queries(self, texts: Sequence[str], *, token_budget: int = 8192) -> np.ndarray:
        """Vectors of query texts, (queries, dimensions) float32."""
        tokens = self.query_tokens(texts)
        return self.encode(tokens, np.arange(len(texts)), longest=self.reading.query_length, token_budget=token_budget)

    def save(self, folder: Path) -> None:
        """Writes a folder that sentence-transformers loads, and whose encode_query and encode_document read texts as this encoder does."""
        self.tell_network()
        self.network.tokenizer.padding_side = "right"  # as here: other libraries take the first vector for [CLS]'s
        with folder_written_aside(folder) as aside:
            self.network.save(str(aside), create_model_card=False)

    def tell_network(self) -> None:
        """Gives sentence-transformers' object this encoder's lengths, prefixes and comparison, which it then follows and saves."""
        reading, network = self.reading, self.network
        network.max_seq_length = reading.passage_length  # for whoever knows one length
        network[0].query_length, network[0].document_length = reading.query_length, reading.passage_length
        network.prompts, network.default_prompt_name = {"query": reading.query_prefix, "document": reading.passage_prefix}, None
        network.similarity_fn_name = DOT  # what a student is trained and searched with
        if network[0].do_lower_case:  # else read, but not saved
            network[0].config_keys = [*type(network[0]).config_keys, "do_lower_case"]


def batches_by_length(lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Positions in batches of similar length, at most `token_budget` tokens each with padding; longest first."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, token_budget // max(1, int(lengths[order[start]])))  # a text may have no token
        batches.append(order[start : start + size])
        start += size
    return batches


def load_encoder(label: str, spec: ModelSpec, *, device: str, offline: bool = False, texts: Sequence[str] = ()) -> Encoder:
    """The encoder of a spec, in float32 on `device`. `texts` give an untrained one its vocabulary.

    EnvironmentLack when the model is nowhere to be found; UserError when its files are damaged, are no bi-encoder, or have a setting that
    is not supported, or when the spec does not go with them (lengths beyond the model's positions, layers that it does not have, pooling
    that its own files decide).
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # loading takes a moment; our own bars show the long work
    if spec.untrained is not None:
        from mta4dpr.models.untrained import untrained_network

        network = untrained_network(spec.untrained, texts).to(torch.float32)
        encoder = Encoder(label, network, reading_of(label, spec, None, None, None, network), hash_of_weights(network))
        encoder.network.to(device)
        return encoder
    folder, where = find_model(spec.model, offline=offline)
    log.info("model %s: %s", label, where)
    said, known = read_settings(label, folder), checkpoint_of(spec.model)
    if said is not None and spec.pooling:
        raise UserError(f"model {label!r} at {spec.model} says itself how it pools ({MODULE_LIST}); leave out pooling")
    normalized = is_normalized(label, spec, said, known)
    with loading(label, folder) as options:
        network = _network(label, spec, folder, said, options).to(torch.float32)
        if normalized and not (said and said.normalized):
            _append_normalize(network)
        _check(label, network, folder)
        if spec.layers is not None:
            keep_layers(network[0].model, spec.layers, label)
        reading = reading_of(label, spec, said, known, folder, network)
        encoder = Encoder(label, network, reading, weights_key(folder, spec.layers))
        encoder.tell_network()
        check_agreement(encoder)
    if said is not None and said.similarity is None and spec.normalize is None and not said.normalized:
        how = "cosine, as sentence-transformers does" if normalized else "inner product, as is known of it"
        log.info("model %s: its files name no similarity_fn_name; vectors are compared by %s", label, how)
    encoder.network.to(device)
    return encoder


def _network(label: str, spec: ModelSpec, folder: Path, said: Settings | None, options: dict[str, Any]) -> Any:
    """The modules that the files name; for a plain checkpoint, its transformer and a pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    if said is not None:
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=options)
    known = checkpoint_of(spec.model)
    pooling = spec.pooling or (known.pooling if known else None)
    if not pooling:
        assumed = "mean pooling, no normalisation are" if spec.normalize is None else "mean pooling is"
        log.warning("model %s has no sentence-transformers files: %s assumed", label, assumed)
    # as texts, also where a chat template would make messages of them
    transformer = Transformer(str(folder), model_kwargs=options, modality_config=TEXT, module_output_name="token_embeddings")
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling or "mean")]
    return SentenceTransformer(modules=modules, device="cpu")


def _append_normalize(network: Any) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    network.add_module(str(max((int(name) for name in network._modules if name.isdecimal()), default=-1) + 1), Normalize())


def _check(label: str, network: Any, folder: Path) -> None:
    """The transformer must be whole; its pooler has no part in a vector, and most published checkpoints lack it."""
    place = folder / (read_json(folder / MODULE_LIST)[0]["path"] if (folder / MODULE_LIST).exists() else "")
    check_weights(label, network[0].model, place, unused=("pooler.",))
    check_vocabulary(label, network[0].model, network.tokenizer, place)
