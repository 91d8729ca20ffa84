"""What a benchmark may say, and what its errors tell."""

from __future__ import annotations

from typing import Any

import pytest

from mta4dpr.config.benchmark import ModelSpec, parse_benchmark
from mta4dpr.errors import UserError

from .smallest import document, mistakes


def test_the_smallest_benchmark() -> None:
    """Everything else has a default; the first measure is the primary one."""
    found = parse_benchmark(document(), "mini.yaml")
    assert (found.depth, found.bm25.k1, found.bm25.b) == (1000, 0.9, 0.4)
    assert found.eval_sets[0].primary == "nDCG@10"


def test_every_mistake_is_listed_at_once_with_the_nearest_key() -> None:
    """Whoever mends a YAML one error at a time runs the command eight times."""
    wrong = document(
        titel="x",
        bm25={"k": 1, "b": 2},
        distill={"stepz": 3, "lr": "fast", "regime": "rouns"},
        eval_sets=[{"id": "a", "measure": ["x"], "measures": ["x"]}],
        models={"dense": {"model": "m", "layer": [1]}},
    )
    del wrong["title"]
    with pytest.raises(UserError) as caught:
        parse_benchmark(wrong, "mini.yaml")
    text = str(caught.value)
    assert text.startswith("mini.yaml has 9 mistakes:\n")
    assert len(text.splitlines()) == 10
    for line in (
        "unknown key titel (did you mean 'title'?)",
        "title is missing",
        "unknown key bm25.k (did you mean 'k1'?)",
        "bm25.b: ",
        "unknown key distill.stepz (did you mean 'steps'?)",
        "distill.lr: ",
        "distill.regime: ",
        "unknown key eval_sets.0.measure (did you mean 'measures'?)",
        "unknown key models.dense.layer (did you mean 'layers'?)",
    ):
        assert f"\n  {line}" in text
    assert "(found 'fast')" in text


@pytest.mark.parametrize("sources", [{}, {"model": "a", "scores": "b"}, {"model": "a", "untrained": {"layers": 1}}])
def test_a_model_has_one_source(sources: dict[str, Any]) -> None:
    """With two, one would be ignored in silence."""
    assert "exactly one of model, scores and untrained" in mistakes(models={"m": sources})


@pytest.mark.parametrize("source", [{"model": "a"}, {"scores": "b"}, {"untrained": {"layers": 1, "seed": 0}}])
def test_each_source_alone_is_enough(source: dict[str, Any]) -> None:
    assert ModelSpec.model_validate(source)


def test_untrained_takes_no_unknown_size() -> None:
    """A plain dict in pydantic's eyes, so a misspelt size would be a default in silence."""
    assert "unknown keys ['layer']" in mistakes(models={"m": {"untrained": {"layer": 1}}})


@pytest.mark.parametrize("label", ["bm25", "a b", "a/b", "é", "", ".", "..", "..."])
def test_labels_that_would_not_be_file_names(label: str) -> None:
    """A label is part of paths and a column of run files; bm25 is taken."""
    assert f"a model cannot be called {label!r}" in mistakes(models={label: {"model": "m"}})


@pytest.mark.parametrize("name", [".", "..", "a/b", "a\n"])
def test_a_benchmarks_name_is_that_of_its_folder(name: str) -> None:
    """runs/.. is not below runs/."""
    assert "name: " in mistakes(name=name)
    assert parse_benchmark(document(name=".mini"), "mini.yaml").name == ".mini"


def test_names_that_are_not_defined_are_told_together() -> None:
    text = mistakes(
        teacher="minilm",
        assistants=["mpnet", "mpnet"],
        student="bm25",
        train="t",
        systems=["bm25", "bm25"],
        models={"miniLM": {"model": "m"}},
    )
    for told in (
        "teacher 'minilm' is not among the models (did you mean 'miniLM'?)",
        "assistants 'mpnet' is not",
        "student 'bm25' is not",
        "assistants: 'mpnet' occurs twice",
        "systems: 'bm25' occurs twice",
    ):
        assert told in text


@pytest.mark.parametrize("missing", ["teacher", "student", "train"])
def test_distillation_needs_teacher_student_and_queries(missing: str) -> None:
    """Found when the YAML is read, not after an hour of encoding."""
    models = {"big": {"model": "b"}, "small": {"model": "s"}}
    whole = {"teacher": "big", "student": "small", "train": "beir/nfcorpus/train", "models": models}
    assert parse_benchmark(document(**whole), "mini.yaml").teacher == "big"
    without = {name: value for name, value in whole.items() if name != missing}
    assert "distillation needs all of teacher, student and train" in mistakes(**without)


def test_a_student_is_no_table_of_scores() -> None:
    models = {"big": {"model": "b"}, "small": {"scores": "s.parquet"}}
    assert "the student needs weights" in mistakes(teacher="big", student="small", train="t", models=models)


CROSS = {"kind": "cross-encoder", "model": "c"}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"model": "m", "pair_length": 64}, "pair_length has no effect unless kind is cross-encoder; leave it out"),
        ({**CROSS, "passage_length": 64}, "so passage_length has no effect; leave it out"),
        ({**CROSS, "pooling": "cls", "normalize": False}, "so pooling, normalize has no effect; leave it out"),
        ({**CROSS, "pair_length": 32, "query_length": 32}, "query_length (32) must be less than pair_length (32)"),
        ({**CROSS, "pair_length": 7}, "pair_length"),
        ({"kind": "cross-encoder", "scores": "s.parquet"}, "kind has no effect on a table of scores"),
        ({"kind": "crossencoder", "model": "m"}, "models.m.kind"),
    ],
)
def test_settings_that_are_not_of_a_models_kind(spec: dict[str, Any], told: str) -> None:
    """A bi-encoder has two lengths, a cross-encoder one of the pair; nothing is ignored in silence."""
    assert told in mistakes(models={"m": spec})


def test_a_cross_encoder_has_lengths_prefixes_and_layers() -> None:
    spec = ModelSpec(kind="cross-encoder", model="c", pair_length=192, query_length=32, query_prefix="q: ", layers=[0, 5])
    assert (spec.pair_length, spec.query_length) == (192, 32)
    assert ModelSpec(model="m").kind == "bi-encoder"


def test_who_may_be_a_cross_encoder() -> None:
    """A teacher and assistants, while somebody else mines; no student. `scored` has an effect then."""
    whole: dict[str, Any] = {
        "teacher": "ce",
        "assistants": ["ce2", "big"],
        "student": "small",
        "train": "t",
        "models": {"ce": CROSS, "ce2": CROSS, "big": {"model": "b"}, "small": {"model": "s"}},
        "distill": {"scored": 20},
    }
    assert parse_benchmark(document(**whole), "mini.yaml").distill.scored == 20
    lexical = {**whole, "assistants": ["ce2", "bm25"]}
    assert parse_benchmark(document(**lexical), "mini.yaml").assistants == ["ce2", "bm25"]
    assert "student 'ce2' is a cross-encoder" in mistakes(**{**whole, "student": "ce2", "assistants": ["big"]})
    variants = {"other": {"strategy": "kd", "student": "ce2"}}
    assert "variants.other.student 'ce2' is a cross-encoder" in mistakes(**whole, variants=variants)


@pytest.mark.parametrize(
    ("roles", "pool_teacher", "mines"),
    [
        (("ce", []), True, False),
        (("ce", ["ce2"]), True, False),
        (("big", ["ce2"]), True, True),
        (("big", ["ce2"]), False, False),
        (("ce", ["ce2", "big"]), False, True),
    ],
)
def test_somebody_must_mine(roles: tuple[str, list[str]], pool_teacher: bool, mines: bool) -> None:
    """A cross-encoder ranks no corpus: with nobody else in the pool there would be no candidates. Variants alike."""
    models = {"ce": CROSS, "ce2": CROSS, "big": {"model": "b"}, "small": {"model": "s"}}
    common = {"student": "small", "train": "t", "models": models}
    own = {"teacher": roles[0], "assistants": roles[1]}
    whole = document(**common, **own, distill={"pool_teacher": pool_teacher})
    variant = document(**common, teacher="big", variants={"other": {"strategy": "kd", **own, "distill": {"pool_teacher": pool_teacher}}})
    if mines:
        assert parse_benchmark(whole, "mini.yaml")
        assert parse_benchmark(variant, "mini.yaml")
        return
    for made, place in ((whole, ""), (variant, "variants.other: ")):
        with pytest.raises(UserError, match=f"{place}all models that would mine passages are cross-encoders"):
            parse_benchmark(made, "mini.yaml")


def test_a_primary_measure_is_one_of_the_measures() -> None:
    assert "primary 'RR@10' is not among" in mistakes(eval_sets=[{"id": "a", "measures": ["R@5"], "primary": "RR@10"}])
    chosen = parse_benchmark(document(eval_sets=[{"id": "a", "measures": ["R@5", "RR@10"], "primary": "RR@10"}]), "mini.yaml")
    assert chosen.eval_sets[0].primary == "RR@10"
