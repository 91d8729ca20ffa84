"""What a benchmark file may say, and what its errors tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.config.benchmark import Benchmark, Distill, ModelSpec, options, parse_benchmark, settings
from mta4dpr.config.yaml_files import load_benchmark, merge, parse_settings, read_yaml
from mta4dpr.errors import UserError


def document(**over: Any) -> dict[str, Any]:
    found = {
        "name": "mini",
        "title": "Mini",
        "corpus": "beir/nfcorpus",
        "eval_sets": [{"id": "beir/nfcorpus/test", "measures": ["nDCG@10", "R@100"]}],
        "systems": ["bm25"],
    }
    return {**found, **over}


def mistakes(**over: Any) -> str:
    with pytest.raises(UserError) as caught:
        parse_benchmark(document(**over), "mini.yaml")
    return str(caught.value)


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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\nseed: 1\nname: b\n", "line 1: key ['name'] occurs twice"),
        ("name: a\ndistill:\n  lr: 1\n  lr: 2\n", "line 3: key ['lr'] occurs twice"),
        ("- a\n- b\n", "expected a mapping of settings"),
        ("name: [a\n", "not valid YAML"),
        ("", "found NoneType"),
    ],
)
def test_yaml_that_says_a_thing_twice_or_nothing_at_all(tmp_path: Path, text: str, told: str) -> None:
    """YAML itself keeps the last of two equal keys, in silence."""
    path = tmp_path / "mini.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("distill.steps=10", {"distill": {"steps": 10}}),
        ("steps=10", {"distill": {"steps": 10}}),
        ("lr=1e-4", {"distill": {"lr": 1e-4}}),
        ("lr=3.5E-5", {"distill": {"lr": 3.5e-5}}),
        ("k1=0.82", {"bm25": {"k1": 0.82}}),
        ("fused=[[a, b], [a, c]]", {"distill": {"fused": [["a", "b"], ["a", "c"]]}}),
        ("tau_teacher=entropy:0.5", {"distill": {"tau_teacher": "entropy:0.5"}}),
        ("replace=false", {"distill": {"replace": False}}),
        ("heap=2g", {"bm25": {"heap": "2g"}}),
        ("depth=50", {"depth": 50}),
        ("distill.depth=50", {"distill": {"depth": 50}}),
    ],
)
def test_set_takes_bare_and_dotted_names(pair: str, expected: dict[str, Any]) -> None:
    """1e-4 is a string in YAML 1.1; `depth` is an option of its own and one of distill."""
    assert parse_settings([pair]) == expected


def test_every_listed_name_can_be_set_as_it_is_listed() -> None:
    """What `list options` shows is what --set takes."""
    for name, *_ in [*options(), *settings()]:
        nested: Any = parse_settings([f"{name}=1"])
        for part in name.split("."):
            nested = nested[part]
        assert nested == 1


def test_a_bare_name_that_two_options_have_is_told_both() -> None:
    """It was called unknown, with itself as what may be meant."""
    with pytest.raises(UserError) as caught:
        parse_settings(["precision=bfloat16"])
    assert str(caught.value) == "--set precision=bfloat16: there are several options precision; write distill.precision or dense.precision"


def test_set_lists_all_its_mistakes() -> None:
    with pytest.raises(UserError) as caught:
        parse_settings(["step=1", "lr", "lr=[1", "name=x", "steps=5"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "unknown option 'step' (did you mean 'steps'?)" in lines[0]
    assert "key=value, found 'lr'" in lines[1]
    assert "'[1' is not a YAML value" in lines[2]
    assert "unknown option 'name'" in lines[3]


def test_settings_reach_the_benchmark_and_spare_their_neighbours() -> None:
    base = document(distill={"steps": 100, "rounds": 2})
    found = parse_benchmark(merge(base, parse_settings(["lr=1e-4", "steps=50"])), "mini.yaml")
    assert (found.distill.lr, found.distill.steps, found.distill.rounds) == (1e-4, 50, 2)
    assert base["distill"] == {"steps": 100, "rounds": 2}


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


def test_every_option_of_the_method_has_a_mark_and_a_help_text() -> None:
    """docs/method.md and `list options` promise where each choice comes from."""
    listed = {name: (mark, text) for name, _, mark, text in options()}
    assert set(listed) == {f"distill.{name}" for name in Distill.model_fields}
    assert {name: found for name, found in listed.items() if found[0] not in set("ABCD") or len(found[1]) < 10} == {}
    assert all(text for *_, text in settings())


@pytest.mark.parametrize("label", ["bm25", "a b", "a/b", "é", ""])
def test_labels_that_would_not_be_file_names(label: str) -> None:
    """A label is part of paths and a column of run files; bm25 is taken."""
    assert f"a model cannot be called {label!r}" in mistakes(models={label: {"model": "m"}})


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


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"steps": 2, "rounds": 3}, "steps (2) are fewer than rounds (3)"),
        ({"tau_teacher": 0}, "tau_teacher is a positive number"),
        ({"tau_teacher": "entropy:1.5"}, "entropy:X with 0 < X < 1"),
        ({"tau_teacher": "entropy:0.0"}, "entropy:X with 0 < X < 1"),
        ({"regime": "static", "harder": True}, "harder has no effect"),
        ({"group": 8, "scored": 6}, "scored (6) is less than the 7 negatives of a group"),
        ({"scored": 20}, "distill.scored has no effect unless the teacher or an assistant is a cross-encoder"),
        ({"lr": 0}, "distill.lr"),
        ({"group": 1}, "distill.group"),
    ],
)
def test_choices_that_contradict_each_other(settings: dict[str, Any], told: str) -> None:
    """Nothing is ignored in silence: an option without effect is an error."""
    assert told in mistakes(distill=settings)


def test_a_primary_measure_is_one_of_the_measures() -> None:
    assert "primary 'RR@10' is not among" in mistakes(eval_sets=[{"id": "a", "measures": ["R@5"], "primary": "RR@10"}])
    chosen = parse_benchmark(document(eval_sets=[{"id": "a", "measures": ["R@5", "RR@10"], "primary": "RR@10"}]), "mini.yaml")
    assert chosen.eval_sets[0].primary == "RR@10"


def test_a_benchmark_file_names_folders_relative_to_itself(tmp_path: Path) -> None:
    """The same YAML works from any working directory; ids of ir_datasets stay as they are."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document(corpus="./data", train="beir/nfcorpus/train")))
    found = load_benchmark(str(path), {"depth": 7})
    assert isinstance(found, Benchmark)
    assert (found.corpus, found.train, found.depth) == (str(tmp_path / "data"), "beir/nfcorpus/train", 7)


def test_a_name_that_is_no_benchmark(tmp_path: Path) -> None:
    """Any other word may be an ir_datasets id or a folder; a YAML that is not there is a mistake."""
    assert load_benchmark("beir/nfcorpus/test", {}) is None
    with pytest.raises(UserError, match="no benchmark file"):
        load_benchmark(str(tmp_path / "gone.yaml"), {})


def test_paths_in_a_yaml_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark file may be run from anywhere; a hub id or an ir_datasets id is left as it is."""
    document = {
        "name": "mine",
        "title": "Mine",
        "corpus": "./data",
        "train": "./data/train",
        "systems": ["bm25"],
        "eval_sets": [{"id": "data/test", "measures": ["RR@10"]}],
        "teacher": "t",
        "student": "s",
        "models": {"t": {"scores": "./t.parquet"}, "s": {"model": "../s"}, "hub": {"model": "org/name"}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.chdir("/")
    bench = load_benchmark(str(tmp_path / "mine.yaml"), {})
    assert bench is not None
    assert bench.corpus == str(tmp_path / "data")
    assert bench.train == str(tmp_path / "data" / "train")
    assert bench.models["t"].scores == str(tmp_path / "t.parquet")
    assert bench.models["s"].model == str(tmp_path.parent / "s")
    assert bench.models["hub"].model == "org/name"
