"""What a benchmark is: the YAML's shape, its defaults, its errors. Knows no collection, model or library but pydantic."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from mta4dpr.config.options import PREBUILT, Bm25Settings, DenseSettings, Distill, Section
from mta4dpr.errors import UserError, nearest

PAIR_KINDS = ("cross-encoder",)
MODEL_LABEL = r"^\.*[A-Za-z0-9_+-][A-Za-z0-9._+-]*$"  # folders are called so: . and .. are others
NOTHING_MINES = (
    "all models that would mine passages are cross-encoders, which rank no corpus; add an assistant that does (a bi-encoder or bm25)"
)


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
    expected: list[Expected] = Field([])

    @model_validator(mode="after")
    def primary_is_a_measure(self) -> EvalSet:
        """The primary measure is one of the measures; by default the first."""
        if self.primary and self.primary not in self.measures:
            raise ValueError(f"primary {self.primary!r} is not among the measures {self.measures}")
        if not self.primary:
            object.__setattr__(self, "primary", self.measures[0])
        return self


class Suite(Section):
    """Collections of their own and the measure whose mean over them is reported, each weighing the same; only when --eval-sets names it."""

    measure: str
    sets: list[str] = Field(min_length=1, description="ir_datasets ids with docs, queries and qrels; those that are here are evaluated")


class ModelSpec(Section):
    """A model: where its weights are and how it reads texts. Empty lengths and prefixes come from the model's own files."""

    kind: Literal["bi-encoder", "cross-encoder"] = Field(
        "bi-encoder", description="a cross-encoder scores pairs of query and passage: a teacher or an assistant, no system that searches"
    )
    model: str = Field("", description="local path, a folder under MTA4DPR_MODELS, a package's model, or a Hugging Face id")
    scores: str = Field("", description="instead of a model: a Parquet file with the columns query, passage, score")
    index: str = Field(
        "",
        pattern=PREBUILT,
        description="prebuilt:NAME takes this model's passage vectors out of Pyserini's prebuilt flat FAISS index; empty: they are encoded",
    )
    layers: list[int] | None = Field(None, description="keep only these layers, such as [0, 5]")
    query_length: int | None = Field(None, ge=4, description="tokens of a query, special ones included")
    passage_length: int | None = Field(None, ge=4, description="tokens of a passage, special ones included")
    pair_length: int | None = Field(None, ge=8, description="cross-encoders: tokens of query and passage together, special ones included")
    query_prefix: str | None = None
    passage_prefix: str | None = None
    pooling: Literal["mean", "cls"] | None = Field(None, description="only for models without sentence-transformers' files")
    normalize: bool | None = Field(
        None, description="vectors of length 1, so that inner products are cosines; empty: as the model's files say (docs/models.md)"
    )
    untrained: dict[str, int] | None = Field(
        None, description="instead of a model: random BERT weights {layers, hidden, heads, vocabulary, seed}, for smoke tests"
    )

    @property
    def engine(self) -> str:
        """The engine that uses it: its kind, or that of stored scores."""
        return "scores" if self.scores else self.kind

    @property
    def only_scores_pairs(self) -> bool:
        """Whether it reads query and passage together and so cannot rank a corpus."""
        return self.kind in PAIR_KINDS

    @model_validator(mode="after")
    def one_source(self) -> ModelSpec:
        """A model is files, a table of scores, or random weights: exactly one of them."""
        if sum(map(bool, (self.model, self.scores, self.untrained))) != 1:
            raise ValueError("give exactly one of model, scores and untrained")
        unknown = sorted(set(self.untrained or {}) - {"layers", "hidden", "heads", "vocabulary", "seed"})
        if self.index and not self.model:
            raise ValueError("index has no effect without model, whose vectors it holds; leave it out")
        if unknown:
            raise ValueError(f"untrained has unknown keys {unknown}; valid: layers, hidden, heads, vocabulary, seed")
        return self

    @model_validator(mode="after")
    def settings_of_its_kind(self) -> ModelSpec:
        """Settings that its kind does not read are mistakes."""
        if not self.only_scores_pairs:
            if self.pair_length is not None:
                raise ValueError("pair_length has no effect unless kind is cross-encoder; leave it out")
            return self
        if self.scores:
            raise ValueError("kind has no effect on a table of scores; leave it out")
        idle = [name for name in ("passage_length", "pooling", "normalize") if getattr(self, name) is not None]
        idle += ["index"] if self.index else []
        if idle:
            raise ValueError(
                f"kind cross-encoder reads query and passage together (pair_length), so {', '.join(idle)} has no effect; leave it out"
            )
        if self.pair_length is not None and self.query_length is not None and self.query_length >= self.pair_length:
            raise ValueError(f"query_length ({self.query_length}) must be less than pair_length ({self.pair_length})")
        return self


class EngineSpec(Section):
    """An engine of one's own, with the options that it takes."""

    use: str = Field(description="PATH.py:NAME, or a name that an installed package offers")
    options: dict[str, Any] = Field({}, description="what the engine's class gets as its options")

    @model_validator(mode="before")
    @classmethod
    def a_word_alone(cls, given: Any) -> Any:
        """`mine: my_engine.py:Mine` stands for `mine: {use: my_engine.py:Mine}`."""
        return {"use": given} if isinstance(given, str) else given


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
    notes: list[str] = Field([])
    corpus: str = Field(description="an ir_datasets id, a folder in BEIR's format, or docstrings")
    max_passages: int | None = Field(None, ge=10, description="docstrings only: passages drawn by hash")
    exclude_self: bool = Field(False, description="drop a passage whose id is the query's (BEIR's convention for arguana and quora)")
    train: str = Field("", description="training queries: an ir_datasets id, FOLDER/SPLIT, or NAME/train for docstrings")
    eval_sets: list[EvalSet] = Field(min_length=1)
    suites: dict[str, Suite] = Field({}, description="optional: more collections, {NAME: {measure, sets}}; --eval-sets NAME evaluates them")
    systems: list[str] = Field(min_length=1)
    depth: int = Field(1000, ge=1, description="passages of a query in a run file")
    bm25: Bm25Settings = Bm25Settings()
    dense: DenseSettings = DenseSettings()
    models: dict[str, ModelSpec] = Field({})
    teacher: str = ""
    assistants: list[str] = Field([])
    student: str = ""
    distill: Distill = Distill()
    variants: dict[str, Variant] = Field({}, description="more students: {LABEL: {strategy, and what differs}}")
    strategies: dict[str, str] = Field({}, description="students by strategies of one's own: {LABEL: PATH.py:NAME}")
    engines: dict[str, EngineSpec] = Field({}, description="systems by engines of one's own: {LABEL: PATH.py:NAME, or {use, options}}")
    contrasts: list[tuple[str, str]] = Field([], description="planned contrasts [a, b]; empty: every system against kd and kd_ta")

    @model_validator(mode="after")
    def names_are_defined(self) -> Benchmark:
        """Every label that is used is defined, once; all mistakes in one error."""
        problems = []
        roles = [("teacher", [self.teacher]), ("assistants", self.assistants), ("student", [self.student])]
        for name, variant in self.variants.items():
            own = (("teacher", [variant.teacher]), ("assistants", variant.assistants or []), ("student", [variant.student]))
            roles += [(f"variants.{name}.{role}", labels) for role, labels in own]
        for role, labels in roles:
            for label in filter(None, labels):
                if label not in self.models and not (label in ("bm25", *self.engines) and not role.endswith("student")):
                    problems.append(f"{role} {label!r} is not among the models{nearest(label, [*self.models, *self.engines, 'bm25'])}")
        sections: dict[str, Mapping[str, Any]] = {"a model": self.models, "a variant": self.variants}
        sections |= {"a strategy": self.strategies, "an engine": self.engines}
        given = Counter(label for section in sections.values() for label in section)
        for what, section in sections.items():
            for label in section:
                if not re.fullmatch(MODEL_LABEL, label) or label == "bm25" or given[label] > 1:
                    problems.append(f"{what} cannot be called {label!r}")
        lists = [("assistants", self.assistants), ("systems", self.systems), ("eval_sets", [e.id for e in self.eval_sets])]
        lists += [(f"suites.{name}.sets", suite.sets) for name, suite in self.suites.items()]
        taken = [eval_set.id for eval_set in self.eval_sets]
        problems += [f"a suite cannot be called {name!r}" for name in self.suites if not re.fullmatch(MODEL_LABEL, name) or name in taken]
        lists += [(f"variants.{name}.assistants", variant.assistants or []) for name, variant in self.variants.items()]
        for what, names in lists:
            for twice in sorted(name for name, count in Counter(names).items() if count > 1):
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
        return label in self.models and self.models[label].only_scores_pairs

    def nothing_mines(self, teacher: str, assistants: Sequence[str], distill: Distill) -> bool:
        """Whether all whose lists would make the pool are cross-encoders."""
        miners = [*assistants, *([teacher] if distill.pool_teacher else [])]
        return bool(miners) and all(map(self.scores_pairs, miners))


def with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a manifest, which an earlier version may have written: an option that came later had its default then."""
    made = {"bm25": Bm25Settings(), "dense": DenseSettings(), "distill": Distill()}
    sections = {name: {**usual.model_dump(mode="json"), **settings.get(name, {})} for name, usual in made.items()}
    usual = ModelSpec.model_construct().model_dump(mode="json")
    return {**settings, **sections, "models": {label: {**usual, **spec} for label, spec in settings.get("models", {}).items()}}


def options() -> Iterator[tuple[str, str, str, str]]:
    """(name, default, mark, help) of every option of the method."""
    for name, field in Distill.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        yield f"distill.{name}", str(field.default), str(extra["mark"]), field.description or ""


def settings() -> Iterator[tuple[str, str, str, str]]:
    """(name, default, '', help) of the settings of the machinery that --set takes too."""
    for section, model in (("bm25", Bm25Settings), ("dense", DenseSettings)):
        for name, field in model.model_fields.items():
            yield f"{section}.{name}", str(field.default), "", field.description or ""
    yield "depth", str(Benchmark.model_fields["depth"].default), "", Benchmark.model_fields["depth"].description or ""


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
        "bm25": Bm25Settings,
        "dense": DenseSettings,
        "distill": Distill,
        "eval_sets": EvalSet,
        "expected": Expected,
        "models": ModelSpec,
        "suites": Suite,
        "variants": Variant,
        "engines": EngineSpec,
    }
    found: type[Section] = Benchmark
    for part in loc:
        if found not in (ModelSpec, Suite, Variant, EngineSpec):  # below them are labels, which may be called like a section
            found = inner.get(str(part), found)
    return found
