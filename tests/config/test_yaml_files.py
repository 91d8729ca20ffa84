"""Benchmarks as files: where they are found, what a YAML may not say, and what --set takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.config.benchmark import Benchmark, options, parse_benchmark, settings
from mta4dpr.config.yaml_files import benchmark_file, benchmark_names, load_benchmark, merge, parse_settings, read_yaml
from mta4dpr.errors import UserError

from .smallest import document


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\nseed: 1\nname: b\n", "line 3: key 'name' occurs twice"),
        ("name: a\ndistill:\n  lr: 1\n  lr: 2\n", "line 4: key 'lr' occurs twice"),
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


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two folders of benchmarks of one's own."""
    made = [tmp_path / "one", tmp_path / "two"]
    for folder in made:
        folder.mkdir()
    monkeypatch.setenv("MTA4DPR_BENCHMARKS", os.pathsep.join(map(str, made)))
    return made


def test_benchmarks_of_ones_own_are_found_by_their_names(folders: list[Path]) -> None:
    """Beside ours, from any working directory; what is no YAML is passed over."""
    (folders[1] / "mine.yaml").write_text(yaml.safe_dump(document(name="mine")))
    (folders[1] / "notes.txt").touch()
    assert {"mine", "tiny", "quickstart"} <= set(benchmark_names())
    assert "notes" not in benchmark_names()
    assert benchmark_file("mine") == folders[1] / "mine.yaml"
    found = load_benchmark("mine", {})
    assert found is not None
    assert found.name == "mine"


def test_a_name_that_two_files_have_is_told_when_it_is_asked_for(folders: list[Path]) -> None:
    """Which of the two is meant nobody can say; other names must not suffer from it."""
    for folder in folders:
        (folder / "mine.yaml").write_text(yaml.safe_dump(document(name="mine")))
    assert "mine" in benchmark_names()
    assert load_benchmark("tiny", {})
    with pytest.raises(UserError, match="several benchmarks 'mine'") as caught:
        load_benchmark("mine", {})
    assert all(str(folder / "mine.yaml") in str(caught.value) for folder in folders)


def test_a_folder_of_benchmarks_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a typing error in the variable would look as if the benchmark had gone."""
    monkeypatch.setenv("MTA4DPR_BENCHMARKS", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="found no folder .*gone"):
        benchmark_names()
    monkeypatch.setenv("MTA4DPR_BENCHMARKS", "")
    assert "tiny" in benchmark_names()


def test_code_that_a_yaml_names_is_meant_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strategies, engines with and without options, variants and the criterion; a file of the working directory is found too."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "ideas.py").touch()
    (tmp_path / "elsewhere.py").touch()
    models = {label: {"untrained": {"layers": 1, "seed": n}} for n, label in enumerate(("t", "s"))}
    path = tmp_path / "bench" / "mine.yaml"
    path.write_text(
        yaml.safe_dump(
            document(
                **{"models": models, "teacher": "t", "student": "s", "train": "x"},
                strategies={"a": "ideas.py:a"},
                engines={"b": "elsewhere.py:b", "c": {"use": "ideas.py:c", "options": {"k": 1}}},
                variants={"d": {"strategy": "ideas.py:d", "distill": {"select": "ideas.py:e"}}},
                distill={"select": "ideas.py:f"},
            )
        )
    )
    monkeypatch.chdir(tmp_path)
    found = load_benchmark(str(path), {})
    assert found is not None
    ideas, elsewhere = tmp_path / "bench" / "ideas.py", tmp_path / "elsewhere.py"
    assert found.strategies == {"a": f"{ideas}:a"}
    assert {label: engine.use for label, engine in found.engines.items()} == {"b": f"{elsewhere}:b", "c": f"{ideas}:c"}
    assert found.engines["c"].options == {"k": 1}
    assert (found.variants["d"].strategy, found.variants["d"].distill["select"]) == (f"{ideas}:d", f"{ideas}:e")
    assert found.distill.select == f"{ideas}:f"
