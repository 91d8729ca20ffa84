"""The options of the method, of BM25 and of dense retrieval: defaults, limits, help.

Those that stem from the method carry its mark: [A] Algorithm 1 or abstract, [B] a summary of the paper,
[C] inferred from those, [D] our default. docs/method.md explains them.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from mta4dpr.config import plugins
from mta4dpr.errors import nearest

PREBUILT = r"^(prebuilt:\S+)?$"
LANGUAGES = {  # those of Anserini's -language
    **{"en": "English", "ar": "Arabic", "bn": "Bengali", "da": "Danish", "de": "German", "es": "Spanish", "fa": "Persian", "fi": "Finnish"},
    **{"fr": "French", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean"},
    **{"nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "sv": "Swedish", "sw": "Swahili"},
    **{"te": "Telugu", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "zh": "Chinese"},
}
ANALYSIS = {"language": tuple(LANGUAGES), "analyzer": ("language", "whitespace"), "stemmer": ("porter", "krovetz", "none")}


class Section(BaseModel):
    """A section of the YAML: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def option(default: Any, mark: str, text: str, **limits: Any) -> Any:
    """A field of the method: its default, its mark (A, B, C or D) and its help text."""
    return Field(default, description=text, json_schema_extra={"mark": mark}, **limits)


class Bm25Settings(Section):
    """BM25's parameters, how texts become terms, and the index it searches."""

    k1: float = Field(0.9, ge=0, description="BM25's k1 (Anserini's default)")
    b: float = Field(0.4, ge=0, le=1, description="BM25's b (Anserini's default)")
    language: str = Field("en", description="whose analyzer makes terms of passages and queries: " + ", ".join(LANGUAGES))
    analyzer: str = Field(
        "language", description="language: the language's own; whitespace: texts are terms between white space already (-pretokenized)"
    )
    stemmer: str = Field("porter", description="of English: porter, krovetz or none")
    stopwords: bool = Field(True, description="English stop words are left out; false keeps them")
    index: str = Field(
        "", pattern=PREBUILT, description="prebuilt:NAME searches Pyserini's prebuilt Lucene index of this corpus; empty: our own is built"
    )
    heap: str = Field("", pattern=r"^([0-9]+[mgMG])?$", description="Java heap, such as 2g; empty: a quarter of the memory, 1-8 GB")

    @field_validator(*ANALYSIS, mode="before")
    @classmethod
    def is_a_known_name(cls, given: Any, info: ValidationInfo) -> Any:
        """YAML reads a bare `no`, the code of Norwegian, as false."""
        valid = ANALYSIS[str(info.field_name)]
        if given is False and "no" in valid:
            raise ValueError("YAML reads a bare no as false; for Norwegian write it in quotes, on the command line 'bm25.language=\"no\"'")
        if given not in valid:
            word = str(given).lower()
            code = next((code for code, language in LANGUAGES.items() if language.lower() == word), word)
            raise ValueError(f"expected one of {', '.join(valid)}{nearest(code, list(valid))}")
        return given

    @model_validator(mode="after")
    def no_idle_analysis(self) -> Bm25Settings:
        """An option of another analyzer than the chosen one is a mistake."""
        english = {} if self.language == "en" and self.analyzer == "language" else {"stemmer": self.stemmer, "stopwords": self.stopwords}
        given = {"language": self.language, **english} if self.analyzer == "whitespace" else english
        idle = [name for name, value in given.items() if value != type(self).model_fields[name].default]
        if idle:
            of = f"analyzer {self.analyzer}" if self.analyzer == "whitespace" else f"language {self.language}"
            raise ValueError(f"{', '.join(idle)} has no effect with {of}; leave it out")
        return self

    def of_terms(self) -> dict[str, Any]:
        """What decides the terms, where it is not the usual: what was made before there was a choice keeps its name."""
        return self.model_dump(include={*ANALYSIS, "stopwords"}, exclude_defaults=True)

    def of_hits(self) -> dict[str, Any]:
        """What decides hits."""
        return {"k1": self.k1, "b": self.b, "index": self.index, **self.of_terms()}


class DenseSettings(Section):
    """How passages are encoded, kept and searched by dense systems."""

    dtype: Literal["float32", "float16"] = Field("float32", description="type of the kept passage vectors")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="what passages are encoded in; a 16-bit type is several times as fast on a GPU"
    )
    token_budget: int = Field(8192, ge=64, description="tokens of one batch of passages when the corpus is encoded, padding included")
    search_memory: str = Field(
        "1g", pattern=r"^[0-9]+[mg]$", description="memory for exact search: decides how many queries go through the corpus together"
    )
    index: Literal["flat", "hnsw", "ivfpq"] = Field(
        "flat", description="how systems are searched: exactly, or by FAISS's HNSW or IVF-PQ (by inner product too); mining is always exact"
    )
    hnsw_m: int = Field(32, ge=2, description="hnsw: neighbours of a passage in the graph")
    hnsw_ef_construction: int = Field(200, ge=1, description="hnsw: candidates looked at when a passage is added")
    hnsw_ef_search: int = Field(256, ge=1, description="hnsw: candidates looked at for a query, at least as many as hits are wanted")
    ivf_lists: int = Field(0, ge=0, description="ivfpq: lists the passages are put into; 0: four times the root of their number")
    ivf_probes: int = Field(64, ge=1, description="ivfpq: lists looked at for a query")
    pq_bytes: int = Field(0, ge=0, description="ivfpq: bytes of a passage's code, a divisor of the dimensions; 0: about a quarter of them")
    deterministic: bool | None = Field(
        None, description="build hnsw or ivfpq with one thread, so that it can be repeated bit for bit; by default up to 1,000,000 vectors"
    )
    engine: Literal["own", "pyserini"] = Field(
        "own", description="pyserini: systems are searched by Pyserini's FaissSearcher, to compare; slow to start, the index in memory"
    )
    pyserini_index: bool = Field(True, description="leave a FAISS index in Pyserini's layout (index + docid) beside each run")

    @model_validator(mode="after")
    def no_idle_option(self) -> DenseSettings:
        """An option of another index than the chosen one is a mistake."""
        of = {"hnsw": ("hnsw_m", "hnsw_ef_construction", "hnsw_ef_search"), "ivfpq": ("ivf_lists", "ivf_probes", "pq_bytes")}
        others = [name for index, names in of.items() if index != self.index for name in names]
        others += ["deterministic"] if self.index == "flat" else []
        idle = [name for name in others if getattr(self, name) != type(self).model_fields[name].default]
        if idle:
            raise ValueError(f"{', '.join(idle)} has no effect with index {self.index}; leave it out")
        return self

    def of_vectors(self) -> dict[str, Any]:
        """What decides the vectors; the usual precision is left out, as it was before there were others."""
        usual = {"precision"} if self.precision == "float32" else set()
        return self.model_dump(include={"dtype", "token_budget", "precision"} - usual)

    def of_search(self) -> dict[str, Any]:
        """What decides hits, beside the vectors: nothing where search is exact and ours."""
        engine = {} if self.engine == "own" else {"engine": self.engine}
        if self.index == "flat":
            return engine
        prefix = ("hnsw_",) if self.index == "hnsw" else ("ivf_", "pq_")
        return {name: value for name, value in self.model_dump().items() if name.startswith((*prefix, "index", "deterministic"))} | engine

    @property
    def search_bytes(self) -> int:
        """`search_memory` as a number."""
        return int(self.search_memory[:-1]) * {"m": 10**6, "g": 10**9}[self.search_memory[-1]]

    @property
    def is_shared(self) -> bool:
        """Whether processes of a launch search together."""
        return self.index == "flat" and self.engine == "own"


SELECTIONS = ("kl", "footrule", "rbo", "random", "best")  # the criteria of TASelect that are ours
LATER_ROUNDS = {"harder", "wrong_weight", "wrong_rule"}  # options of rounds after the first


class Distill(Section):
    """Every choice of the method, for every strategy of the benchmark alike."""

    # schedule
    rounds: int = option(3, "B", "rounds of Algorithm 1; more rounds help", ge=1)
    steps: int = option(300, "A", "optimiser steps in all, the same for every strategy, split evenly over the rounds", ge=1)
    regime: Literal["rounds", "static"] = option(
        "rounds", "D", "rounds: every strategy mines with its own student each round; static: all share round 0's groups"
    )
    batch_queries: int = option(8, "D", "queries of a step", ge=1)
    group: int = option(8, "D", "passages of a query: 1 positive and group-1 negatives", ge=2)
    # GenDataset
    depth: int = option(200, "D", "passages of each model's list that enter the pool", ge=1)
    rrf_k: int = option(60, "C", "constant of reciprocal rank fusion", ge=0)
    pool_teacher: bool = option(True, "C", "the teacher's own list joins the pool")
    positive_rel: int = option(1, "D", "a passage of at least this relevance is a positive", ge=1)
    harder: bool = option(True, "D", "round r draws from the top depth / 2^r of the pool, and the student's list joins it")
    wrong_weight: float = option(2.0, "D", "queries the student got wrong are drawn this many times as often", ge=1)
    wrong_rule: Literal["first", "prod"] = option(
        "first", "D", "wrong: a positive is not first (first), or at rank 2-15 while the teacher has it first (prod)"
    )
    false_negatives: Literal["keep", "drop", "relabel"] = option(
        "keep", "D", "a negative that the teacher scores above the positive: keep, drop from the group, or count as positive in CE"
    )
    scored: int = option(
        48, "D", "with a pair-scoring teacher or assistant: candidates of a query that are drawn once a round; epochs draw from these", ge=1
    )
    # D_eval
    eval_fraction: float = option(0.1, "D", "share of the training queries set aside as D_eval", gt=0, lt=1)
    eval_max: int = option(1000, "D", "most queries of D_eval", ge=1)
    # assistants
    calibration: Literal["none", "zscore", "temperature"] = option(
        "temperature", "C", "how assistants' scores are brought to the teacher's scale"
    )
    fused: Literal["all", "none"] | list[list[str]] = option(
        "all", "D", "fused assistants: all subsets of two or more, none, or a list of lists"
    )
    select: str = option(
        "kl",
        "B",
        "TASelect's criterion: nearness to the teacher by kl, footrule or rbo; random: any, best: the best on D_eval; "
        "PATH.py:NAME: one of your own",
    )
    rbo_p: float = option(0.9, "D", "persistence of rank-biased overlap", gt=0, lt=1)
    granularity: Literal["batch", "query"] = option("batch", "C", "one assistant for a batch, or one for each query")
    replace: bool = option(True, "A", "replace the worst assistant by the student when Compare says so")
    compare: Literal["retrieve", "rerank"] = option("retrieve", "D", "Compare over the whole corpus, or over the stored candidates (cheap)")
    compare_measure: str = option("RR@10", "D", "Compare's measure")
    # loss
    ce_weight: float = option(0.2, "D", "a: weight of the contrastive term of the distilling strategies", ge=0)
    teacher_weight: float = option(
        0.5, "D", "b of mta4dpr: weight of KL(teacher || student); strategies without assistants put b + c here", ge=0
    )
    assistant_weight: float = option(0.5, "D", "c of mta4dpr: weight of KL(assistant || student)", ge=0)
    tau_student: float = option(0.02, "D", "temperature of the student's scores (cosine 0.02, raw dot product 1)", gt=0)
    ta: str = option("best", "D", "kd_ta: the assistant in the teacher's place: best (on D_eval) or its label")
    soft_weight: float = option(0.5, "D", "takd, dgkd: l of (1 - l) * CE + l * tau^2 * KL", ge=0, le=1)
    soft_tau: float = option(4.0, "D", "takd, dgkd, prod: tau, by which both sides are softened further (4 in PROD)", gt=0)
    joint_kl: Literal["forward", "reverse"] = option(
        "forward", "D", "rocketqav2: KL(teacher || student), as in its code, or reverse, as in the paper's equation"
    )
    tau_teacher: float | str = option(0.05, "D", "temperature of the teacher's scores, or entropy:X: mean entropy X * ln(group) on round 0")
    # optimiser
    lr: float = option(3e-5, "D", "peak learning rate of AdamW", gt=0)
    warmup: int = option(0, "D", "steps of linear warm-up; linear decay to 0 follows", ge=0)
    weight_decay: float = option(0.01, "D", "AdamW's weight decay", ge=0)
    clip: float = option(1.0, "D", "gradient norm is clipped to this; 0: never", ge=0)
    dropout: float = option(0.0, "D", "dropout of what is trained", ge=0, lt=1)
    freeze_embeddings: bool = option(False, "D", "keep the word embeddings of what is trained as they are")
    teacher_lr: float = option(1e-5, "D", "rocketqav2, lead: peak learning rate of the teacher, which is trained too", gt=0)
    policy_lr: float = option(1e-2, "D", "rl_ta: learning rate of the policy", gt=0)
    precision: Literal["float32", "bfloat16", "float16"] = option("float32", "D", "what training computes in; weights stay float32")
    micro_batch_tokens: int = option(2048, "D", "tokens of a micro-batch of texts of similar length, padding included", ge=16)
    gradient_cache: bool = option(
        False, "D", "encode each micro-batch twice instead of keeping all of them: groups of any size in the memory of one micro-batch"
    )
    checkpoint: Literal["last", "best_eval"] = option("last", "D", "export the last step, or the round that is best on D_eval")
    checkpoint_every: int = option(50, "D", "steps between checkpoints", ge=1)
    keep_checkpoints: int = option(1, "D", "how many of the last checkpoints stay", ge=1)

    @model_validator(mode="after")
    def consistent(self) -> Distill:
        """Options that contradict one another, or have no effect beside others, are mistakes."""
        if self.select not in SELECTIONS and not plugins.is_outside(self.select, plugins.CRITERIA):
            ours = ", ".join(SELECTIONS)
            raise ValueError(f"select is one of {ours}, or PATH.py:NAME, found {self.select!r}{nearest(self.select, list(SELECTIONS))}")
        if self.steps < self.rounds:
            raise ValueError(f"steps ({self.steps}) are fewer than rounds ({self.rounds})")
        if isinstance(self.tau_teacher, str):
            match = re.fullmatch(r"entropy:(0?\.[0-9]+)", self.tau_teacher)
            if not match or not 0 < float(match[1]) < 1:
                raise ValueError(f"tau_teacher is a positive number or entropy:X with 0 < X < 1, found {self.tau_teacher!r}")
        elif self.tau_teacher <= 0:
            raise ValueError(f"tau_teacher is a positive number or entropy:X, found {self.tau_teacher!r}")
        idle = LATER_ROUNDS & self.model_fields_set
        if self.regime == "static" and idle:
            raise ValueError(f"regime static shares round 0's groups, so {', '.join(sorted(idle))} has no effect; leave it out")
        if self.warmup >= self.steps:
            raise ValueError(f"warmup ({self.warmup}) must be less than steps ({self.steps})")
        if "scored" in self.model_fields_set and self.scored < self.group - 1:
            raise ValueError(f"scored ({self.scored}) is less than the {self.group - 1} negatives of a group")
        if "rbo_p" in self.model_fields_set and self.select != "rbo":
            raise ValueError("rbo_p has no effect unless select is rbo; leave it out")
        if self.ce_weight + self.teacher_weight + self.assistant_weight == 0:
            raise ValueError("ce_weight, teacher_weight and assistant_weight are all 0, so there is no loss")
        return self
