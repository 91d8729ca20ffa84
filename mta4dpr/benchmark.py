"""What a benchmark is: the YAML's shape, its defaults, its errors. Knows no collection, model or library but pydantic.

Options that stem from the method carry its mark: [A] Algorithm 1 or abstract, [B] a summary of the paper,
[C] inferred from those, [D] our default. `options()` lists them, `docs/method.md` explains them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mta4dpr.errors import UserError, nearest

MODEL_LABEL = r"^[A-Za-z0-9._+-]+$"
NOTHING_MINES = (
    "all models that would mine passages are cross-encoders, which rank no corpus; add an assistant that does (a bi-encoder or bm25)"
)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def option(default: Any, mark: str, text: str, **limits: Any) -> Any:
    """A field of the method: its default, its mark (A, B, C or D) and its help text."""
    return Field(default, description=text, json_schema_extra={"mark": mark}, **limits)


class Expected(Section):
    """A published figure that a run is compared with."""

    system: str
    measure: str
    value: float
    tolerance: float = Field(ge=0)
    source: str


class EvalSet(Section):
    """Queries with judgements: an ir_datasets id, FOLDER/SPLIT, or BENCH/test for embedded data."""

    id: str
    measures: list[str] = Field(min_length=1)
    primary: str = ""
    expected: list[Expected] = []

    @model_validator(mode="after")
    def primary_is_a_measure(self) -> EvalSet:
        if self.primary and self.primary not in self.measures:
            raise ValueError(f"primary {self.primary!r} is not among the measures {self.measures}")
        if not self.primary:
            object.__setattr__(self, "primary", self.measures[0])
        return self


class Bm25(Section):
    k1: float = Field(0.9, ge=0, description="BM25's k1 (Anserini's default)")
    b: float = Field(0.4, ge=0, le=1, description="BM25's b (Anserini's default)")
    heap: str = Field("", pattern=r"^([0-9]+[mgMG])?$", description="Java heap, such as 2g; empty: a quarter of the memory, 1-8 GB")


class Dense(Section):
    dtype: Literal["float32", "float16"] = Field("float32", description="type of the kept passage vectors")
    token_budget: int = Field(8192, ge=64, description="tokens of one batch of passages when the corpus is encoded, padding included")
    pyserini_index: bool = Field(True, description="leave a FAISS index in Pyserini's layout (index + docid) beside each run")


class ModelSpec(Section):
    """A model: where its weights are and how it reads texts. Empty lengths and prefixes come from the model's own files."""

    kind: Literal["bi-encoder", "cross-encoder"] = Field(
        "bi-encoder", description="a cross-encoder scores pairs of query and passage: a teacher or an assistant, no system that searches"
    )
    model: str = Field("", description="local path, a folder under MTA4DPR_MODELS, a package's model, or a Hugging Face id")
    scores: str = Field("", description="instead of a model: a Parquet file with the columns query, passage, score")
    layers: list[int] | None = Field(None, description="keep only these layers, such as [0, 5]")
    query_length: int | None = Field(None, ge=4, description="tokens of a query, special ones included")
    passage_length: int | None = Field(None, ge=4, description="tokens of a passage, special ones included")
    pair_length: int | None = Field(None, ge=8, description="cross-encoders: tokens of query and passage together, special ones included")
    query_prefix: str | None = None
    passage_prefix: str | None = None
    pooling: Literal["mean", "cls"] | None = Field(None, description="only for models without sentence-transformers' files")
    normalize: bool | None = Field(None, description="only for models without sentence-transformers' files")
    untrained: dict[str, int] | None = Field(
        None, description="instead of a model: random BERT weights {layers, hidden, heads, vocabulary, seed}, for smoke tests"
    )

    @model_validator(mode="after")
    def one_source(self) -> ModelSpec:
        if sum(map(bool, (self.model, self.scores, self.untrained))) != 1:
            raise ValueError("give exactly one of model, scores and untrained")
        unknown = sorted(set(self.untrained or {}) - {"layers", "hidden", "heads", "vocabulary", "seed"})
        if unknown:
            raise ValueError(f"untrained has unknown keys {unknown}; valid: layers, hidden, heads, vocabulary, seed")
        return self

    @model_validator(mode="after")
    def settings_of_its_kind(self) -> ModelSpec:
        if self.kind == "bi-encoder":
            if self.pair_length is not None:
                raise ValueError("pair_length has no effect unless kind is cross-encoder; leave it out")
            return self
        if self.scores:
            raise ValueError("kind has no effect on a table of scores; leave it out")
        idle = [name for name in ("passage_length", "pooling", "normalize") if getattr(self, name) is not None]
        if idle:
            raise ValueError(
                f"kind cross-encoder reads query and passage together (pair_length), so {', '.join(idle)} has no effect; leave it out"
            )
        if self.pair_length is not None and self.query_length is not None and self.query_length >= self.pair_length:
            raise ValueError(f"query_length ({self.query_length}) must be less than pair_length ({self.pair_length})")
        return self


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
    select: Literal["kl", "footrule", "rbo", "random", "best"] = option(
        "kl", "B", "TASelect's criterion: nearness to the teacher by kl, footrule or rbo; random: any, best: the best on D_eval"
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
    dropout: float = option(0.0, "D", "dropout of the student", ge=0, lt=1)
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
        if self.steps < self.rounds:
            raise ValueError(f"steps ({self.steps}) are fewer than rounds ({self.rounds})")
        if isinstance(self.tau_teacher, str):
            match = re.fullmatch(r"entropy:(0?\.[0-9]+)", self.tau_teacher)
            if not match or not 0 < float(match[1]) < 1:
                raise ValueError(f"tau_teacher is a positive number or entropy:X with 0 < X < 1, found {self.tau_teacher!r}")
        elif self.tau_teacher <= 0:
            raise ValueError(f"tau_teacher is a positive number or entropy:X, found {self.tau_teacher!r}")
        idle = {"harder", "wrong_weight", "wrong_rule"} & self.model_fields_set
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


class Variant(Section):
    """A student of its own in the leaderboard: a strategy with other roles or options than the benchmark's."""

    strategy: str = Field(description="a name of `mta4dpr-bench list strategies`")
    teacher: str = Field("", description="another teacher")
    assistants: list[str] | None = Field(None, description="other assistants")
    student: str = Field("", description="another student")
    distill: dict[str, Any] = Field({}, description="the options that differ")


@dataclass(frozen=True)
class Recipe:
    """How one student is trained: strategy, roles, options."""

    strategy: str
    teacher: str
    assistants: tuple[str, ...]
    student: str
    distill: Distill


class Benchmark(Section):
    """A collection, what is evaluated on it, and which systems; one YAML in benchmarks/."""

    name: str = Field(pattern=MODEL_LABEL)
    title: str
    notes: list[str] = []
    corpus: str = Field(description="an ir_datasets id, a folder in BEIR's format, or docstrings")
    max_passages: int | None = Field(None, ge=10, description="docstrings only: passages drawn by hash")
    exclude_self: bool = Field(False, description="drop a passage whose id is the query's (BEIR's convention for arguana and quora)")
    train: str = Field("", description="training queries: an ir_datasets id, FOLDER/SPLIT, or NAME/train for docstrings")
    eval_sets: list[EvalSet] = Field(min_length=1)
    systems: list[str] = Field(min_length=1)
    depth: int = Field(1000, ge=1, description="passages of a query in a run file")
    bm25: Bm25 = Bm25()
    dense: Dense = Dense()
    models: dict[str, ModelSpec] = {}
    teacher: str = ""
    assistants: list[str] = []
    student: str = ""
    distill: Distill = Distill()
    variants: dict[str, Variant] = Field({}, description="more students: {LABEL: {strategy, and what differs}}")
    contrasts: list[tuple[str, str]] = Field([], description="planned contrasts [a, b]; empty: every system against kd and kd_ta")

    @model_validator(mode="after")
    def names_are_defined(self) -> Benchmark:
        problems = []
        roles = [("teacher", [self.teacher]), ("assistants", self.assistants), ("student", [self.student])]
        for name, variant in self.variants.items():
            own = (("teacher", [variant.teacher]), ("assistants", variant.assistants or []), ("student", [variant.student]))
            roles += [(f"variants.{name}.{role}", labels) for role, labels in own]
        for role, labels in roles:
            for label in filter(None, labels):
                if label not in self.models and not (label == "bm25" and not role.endswith("student")):
                    problems.append(f"{role} {label!r} is not among the models{nearest(label, [*self.models, 'bm25'])}")
        for what, names_given in (("a model", self.models), ("a variant", self.variants)):
            for label in names_given:
                if not re.fullmatch(MODEL_LABEL, label) or label == "bm25" or (label in self.models and label in self.variants):
                    problems.append(f"{what} cannot be called {label!r}")
        lists = [("assistants", self.assistants), ("systems", self.systems), ("eval_sets", [e.id for e in self.eval_sets])]
        lists += [(f"variants.{name}.assistants", variant.assistants or []) for name, variant in self.variants.items()]
        for what, names in lists:
            for twice in sorted({n for n in names if names.count(n) > 1}):
                problems.append(f"{what}: {twice!r} occurs twice")
        if self.teacher and not self.assistants and not self.distill.pool_teacher:
            problems.append("without assistants and with distill.pool_teacher: false, nothing mines passages")
        if self.teacher and self.teacher in self.assistants:
            problems.append(f"the teacher {self.teacher!r} cannot be an assistant too; give it a second label with other settings")
        if self.student and self.models.get(self.student) and self.models[self.student].scores:
            problems.append("the student needs weights, not a table of scores")
        for role, labels in roles:
            if role.endswith("student") and any(map(self.scores_pairs, labels)):
                problems.append(f"{role} {labels[0]!r} is a cross-encoder; a student is a bi-encoder")
        if self.teacher and self.nothing_mines(self.teacher, self.assistants, self.distill):
            problems.append(NOTHING_MINES)
        if "scored" in self.distill.model_fields_set and not any(self.scores_pairs(label) for _, labels in roles for label in labels):
            problems.append("distill.scored has no effect unless the teacher or an assistant is a cross-encoder; leave it out")
        if (self.teacher or self.student) and not (self.teacher and self.student and self.train):
            problems.append("distillation needs all of teacher, student and train")
        for name, variant in self.variants.items():
            try:
                self.recipe(variant)
            except ValueError as error:
                problems.append(f"variants.{name}: {error}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def recipe(self, variant: Variant) -> Recipe:
        """What a variant trains with: its own roles and options, the benchmark's for the rest. ValueError for options that do not fit."""
        given = {**self.distill.model_dump(exclude_unset=True), **variant.distill}
        idle = {"rbo_p"} if given.get("select") != "rbo" else set()  # the benchmark's options that what differs leaves without effect
        idle |= {"harder", "wrong_weight", "wrong_rule"} if given.get("regime") == "static" else set()
        try:
            distill = Distill.model_validate({name: value for name, value in given.items() if name in variant.distill or name not in idle})
        except ValidationError as error:
            raise ValueError("; ".join(_mistakes(error, "distill"))) from error
        assistants = tuple(self.assistants if variant.assistants is None else variant.assistants)
        recipe = Recipe(variant.strategy, variant.teacher or self.teacher, assistants, variant.student or self.student, distill)
        if recipe.teacher in assistants:
            raise ValueError(f"the teacher {recipe.teacher!r} cannot be an assistant too")
        if self.nothing_mines(recipe.teacher, assistants, distill):
            raise ValueError(NOTHING_MINES)
        return recipe

    def scores_pairs(self, label: str) -> bool:
        """Whether that model only scores pairs and cannot rank the corpus."""
        return label in self.models and self.models[label].kind == "cross-encoder"

    def nothing_mines(self, teacher: str, assistants: Sequence[str], distill: Distill) -> bool:
        """Whether all whose lists would make the pool are cross-encoders."""
        miners = [*assistants, *([teacher] if distill.pool_teacher else [])]
        return bool(miners) and all(map(self.scores_pairs, miners))


def options() -> Iterator[tuple[str, str, str, str]]:
    """(name, default, mark, help) of every option of the method."""
    for name, field in Distill.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        yield f"distill.{name}", str(field.default), str(extra["mark"]), field.description or ""


def settings() -> Iterator[tuple[str, str, str, str]]:
    """(name, default, '', help) of the settings of the machinery that --set takes too."""
    for section, model in (("bm25", Bm25), ("dense", Dense)):
        for name, field in model.model_fields.items():
            yield f"{section}.{name}", str(field.default), "", field.description or ""
    yield "depth", str(Benchmark.model_fields["depth"].default), "", Benchmark.model_fields["depth"].description or ""


def benchmark_folder() -> Path:
    """benchmarks/ of the checkout, or the copy that the wheel carries."""
    package = Path(__file__).parent
    carried = package / "benchmarks"
    return carried if carried.is_dir() else package.parent / "benchmarks"


def benchmark_names() -> list[str]:
    return sorted(path.stem for path in benchmark_folder().glob("*.yaml"))


class _Loader(yaml.SafeLoader):
    """YAML allows a key twice and keeps the last, and YAML 1.1 reads 1e-4 as text; here the first is an error, the second a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: key {sorted(twice)} occurs twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of settings (name, title, corpus, ...), found {type(document).__name__}")
    return document


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """['distill.steps=10', 'lr=1e-4'] as nested keys; a bare name must be unique among all options."""
    known = [name for name, *_ in [*options(), *settings()]]
    nested: dict[str, Any] = {}
    problems = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        candidates = [name] if name in known else [k for k in known if k.endswith("." + name)]
        if not equals or len(candidates) != 1:
            problems.append(
                f"--set takes key=value, found {pair!r}"
                if not equals
                else f"unknown option {name!r}{nearest(name, [*known, *(k.rsplit('.', 1)[-1] for k in known)])}; "
                "`mta4dpr-bench list options` shows all"
            )
            continue
        try:
            value = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
        except yaml.YAMLError as error:
            problems.append(f"--set {name}: {text!r} is not a YAML value ({' '.join(str(error).split())})")
            continue
        place = nested
        *sections, last = candidates[0].split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    if problems:
        raise UserError("\n".join(problems))
    return nested


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return merged


def parse_benchmark(document: dict[str, Any], source: str) -> Benchmark:
    """Validates; raises one UserError that names every mistake and the nearest valid key."""
    try:
        return Benchmark.model_validate(document)
    except ValidationError as error:
        head = f"{source} has {error.error_count()} mistake{'s' if error.error_count() > 1 else ''}:"
        raise UserError("\n  ".join([head, *_mistakes(error)])) from error


def _mistakes(error: ValidationError, *within: str) -> list[str]:
    """One line a mistake: where it is, what was expected, what was found."""
    lines = []
    for one in error.errors():
        loc = (*within, *one["loc"])
        place = ".".join(str(part) for part in loc) or "the benchmark"
        if one["type"] == "extra_forbidden":
            valid = list(_section_at(loc[:-1]).model_fields)
            lines.append(f"unknown key {place}{nearest(str(loc[-1]), valid)}; valid keys here: {', '.join(valid)}")
        elif one["type"] == "missing":
            lines.append(f"{place} is missing")
        else:
            lines.append(f"{place}: {one['msg'].removeprefix('Value error, ')} (found {_short(one['input'])})")
    return lines


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _section_at(loc: tuple[int | str, ...]) -> type[Section]:
    """The model class at an error's place, to know its valid keys."""
    inner: dict[str, type[Section]] = {
        "bm25": Bm25,
        "dense": Dense,
        "distill": Distill,
        "eval_sets": EvalSet,
        "expected": Expected,
        "models": ModelSpec,
        "variants": Variant,
    }
    found: type[Section] = Benchmark
    for part in loc:
        if found not in (ModelSpec, Variant):  # below them are labels, which may be called like a section
            found = inner.get(str(part), found)
    return found


def load_benchmark(name: str, overrides: dict[str, Any]) -> Benchmark | None:
    """The benchmark of that name in benchmarks/, or the YAML at that path; None when `name` is neither."""
    path = benchmark_folder() / f"{name}.yaml"
    if name not in benchmark_names():
        path = Path(name)
        if path.suffix not in (".yaml", ".yml"):
            return None
        if not path.is_file():
            raise UserError(f"there is no benchmark file {name}; `mta4dpr-bench list benchmarks` names the ones that exist")
    document = merge(read_yaml(path), overrides)
    models = document.get("models")
    places = [(document, "corpus"), (document, "train")]
    places += [
        (spec, key)
        for spec in (models.values() if isinstance(models, dict) else ())
        if isinstance(spec, dict)
        for key in ("model", "scores")
    ]
    for section, key in places:  # paths that start with a dot are meant relative to the YAML that names them
        if str(section.get(key, "")).startswith("."):
            section[key] = os.path.abspath(path.parent / str(section[key]))
    return parse_benchmark(document, str(path) if path.parent != benchmark_folder() else f"benchmark {name}")
