"""What published models are, beside how they read texts (zoo.py): parameters, layers, dimensions, bytes, revision, licence.

So that `plan` knows a model that is not here, and `fetch` brings the one that was meant. Knows no network and no file.
Sources: [f] the file itself; [m] the registry of mteb 2.26 (parameters, revision, licence); [s] the table of parameter counts in
safetensors' repository; [a] computed from the architecture that its card or paper names (BERT-base without its pooler has
108,891,648 parameters, with it 109,482,240, with a head of one label 109,483,009; DistilBERT 66,362,880;
XLM-RoBERTa-base without its pooler 277,453,056, with a classification head of one label 278,044,417). Where the bytes of the
weights are not known from a file they are four times the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LAYER_PARAMETERS = 12  # times hidden size squared: a transformer layer
TOKENIZER_BYTES = 1_000_000  # vocabulary, configurations, card


@dataclass(frozen=True)
class Published:
    """A model of the hub. `revision` pins the commit that is fetched; empty: the newest."""

    parameters: int
    layers: int
    dimensions: int
    tokenizer: str  # models with equal ones share a token store
    licence: str  # as its card says; not stated: fetch reads the card
    source: str
    revision: str = ""
    weights: int = 0  # bytes of the file of weights, where it is known

    @property
    def bytes(self) -> int:
        return (self.weights or 4 * self.parameters) + TOKENIZER_BYTES


def operations_of(layers: int, hidden: int) -> int:
    """Operations of a transformer for a token, forwards; word embeddings cost nothing to speak of."""
    return 2 * LAYER_PARAMETERS * hidden**2 * layers


def shape_of(layers: int, hidden: int) -> str:
    """By which measured rates of networks are told apart."""
    return f"{layers} layers, {hidden} wide"


def size_of(config: Any) -> tuple[int, int]:
    """(layers, hidden size) by a model's configuration, whose names for them differ."""
    layers = next((getattr(config, name) for name in ("num_hidden_layers", "n_layers", "num_layers") if getattr(config, name, None)), 12)
    hidden = next((getattr(config, name) for name in ("hidden_size", "dim", "d_model") if getattr(config, name, None)), 768)
    return int(layers), int(hidden)


BERT = "bert-base-uncased"
UNSTATED = "not stated"
PUBLISHED: dict[str, Published] = {
    "sentence-transformers/all-MiniLM-L6-v2": Published(
        22_713_216, 6, 384, BERT, "apache-2.0", "[f] [m]", "8b3219a92973c328a8e22fadcfa821b5dc75636a", 90_868_376
    ),
    "sentence-transformers/all-mpnet-base-v2": Published(
        109_486_464, 12, 768, "mpnet-base", "apache-2.0", "[f] [m]", "9a3225965996d404b775526de6dbfe85d3368642", 437_971_872
    ),
    "intfloat/e5-base-v2": Published(109_482_240, 12, 768, BERT, "mit", "[a] [m]", "1c644c92ad3ba1efdad3f1451a637716616a20e8"),
    "BAAI/bge-base-en-v1.5": Published(109_482_240, 12, 768, BERT, "mit", "[a] [m]", "a5beb1e3e68b9ab74eb54cfd186867f64f240e1a"),
    "facebook/contriever-msmarco": Published(109_482_240, 12, 768, BERT, UNSTATED, "[m]", "abe8c1493371369031bcb1e02acb754cf4e162fa"),
    "sentence-transformers/msmarco-distilbert-base-tas-b": Published(66_362_880, 6, 768, BERT, UNSTATED, "[a]"),
    "intfloat/simlm-base-msmarco-finetuned": Published(109_482_240, 12, 768, BERT, UNSTATED, "[a]"),
    "intfloat/simlm-base-msmarco": Published(109_482_240, 12, 768, BERT, UNSTATED, "[a]"),
    "intfloat/simlm-base-wiki100w": Published(109_482_240, 12, 768, BERT, UNSTATED, "[a]"),
    "intfloat/simlm-msmarco-reranker": Published(109_483_009, 12, 768, BERT, UNSTATED, "[a]"),
    "BAAI/bge-reranker-base": Published(278_044_417, 12, 768, "xlm-roberta-base", UNSTATED, "[a]"),
    "Luyu/co-condenser-marco-retriever": Published(109_482_240, 12, 768, BERT, UNSTATED, "[a]"),
    "Luyu/co-condenser-marco": Published(109_482_240, 12, 768, BERT, UNSTATED, "[a]"),
    "Luyu/co-condenser-wiki": Published(109_482_240, 12, 768, BERT, UNSTATED, "[a]"),
    "Shitao/RetroMAE_MSMARCO_distill": Published(109_482_240, 12, 768, BERT, UNSTATED, "[a]"),
    "distilbert-base-uncased": Published(66_985_530, 6, 768, BERT, UNSTATED, "[s], with its language-model head"),
    "bert-base-uncased": Published(110_106_428, 12, 768, BERT, UNSTATED, "[s], with its language-model head"),
    "cross-encoder/ms-marco-MiniLM-L-6-v2": Published(22_713_601, 6, 384, BERT, UNSTATED, "[m]"),
    "cross-encoder/ms-marco-MiniLM-L6-v2": Published(22_713_601, 6, 384, BERT, UNSTATED, "[m]", "c5ee24cb16019beea0893ab7796b1df96625c6b8"),
    "cross-encoder/ms-marco-MiniLM-L12-v2": Published(
        33_360_385, 12, 384, BERT, UNSTATED, "[m]", "7b0235231ca2674cb8ca8f022859a6eba2b1c968"
    ),
}
ALIASES = {"distilbert/distilbert-base-uncased": "distilbert-base-uncased", "google-bert/bert-base-uncased": "bert-base-uncased"}


def published(hub: str) -> Published | None:
    """What is known of the model of that hub id."""
    return PUBLISHED.get(ALIASES.get(hub, hub))
