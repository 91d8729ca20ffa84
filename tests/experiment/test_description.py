"""What the manifest says of an experiment: the command that makes one run file, and hashes of what goes in."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mta4dpr.data.collection import QuerySet
from mta4dpr.experiment.description import absent_passages, command_for, describe, fingerprint, recipe_entry, system_entry
from mta4dpr.experiment.experiment import Experiment, open_experiment
from mta4dpr.experiment.request import Request


def command_of(label: str, **asked: object) -> list[str]:
    """Of the run file of that system, in a run of the benchmark tiny; without the threads at its head."""
    experiment = open_experiment(Request("tiny", **asked))  # type: ignore[arg-type]
    (system,) = (system for system in experiment.systems if system.label == label)
    threads, *words = shlex.split(command_for(experiment, system, experiment.bench.eval_sets[0]))
    assert threads == f"OMP_NUM_THREADS={experiment.threads}"
    return words


def words(*more: str) -> list[str]:
    return ["mta4dpr-bench", "run", "tiny", *more, "--seed", "0"]


def test_the_command_of_a_run_file_names_nothing_that_does_not_decide_it() -> None:
    """Two people who asked for different tables made the same run file: the text beside it must be the same."""
    alone = words("--systems", "bm25", "--eval-sets", "tiny/test")
    assert command_of("bm25") == command_of("bm25", systems=("bm25", "kd"), output=Path("x"), device="cpu") == alone
    assert command_of("bm25", systems=("bm25", "kd"), settings=("lr=0.01", "k1=1.2")) == words(
        "--systems", "bm25", "--eval-sets", "tiny/test", "--set", "k1=1.2"
    )
    assert "--set" in command_of("kd", systems=("bm25", "kd"), settings=("lr=0.01",))
    assert "--set" not in command_of("kd", systems=("takd", "kd"), settings=("soft_tau=2",)), "an option of takd"


def test_limit_and_seed_decide_a_run_file() -> None:
    assert command_of("kd", seed=3, limit=5)[-4:] == ["--limit", "5", "--seed", "3"]


def test_a_model_from_elsewhere_is_named_with_its_place(tmp_path: Path) -> None:
    """Its label alone would be somebody else's model."""
    (tmp_path / "model").mkdir()
    place = str(tmp_path / "model")
    assert command_of("mine", systems=(f"mine={place}",))[4] == f"mine={place}"
    assert command_of("model", systems=(place,))[4] == f"model={place}"


def test_a_query_set_is_known_by_all_that_is_judged() -> None:
    """Queries, judgements and answers: each decides a score."""
    query_set = QuerySet("x", {"q": "red fox"}, {"q": {"d1": 1}})
    others = [
        replace(query_set, texts={"q": "red"}),
        replace(query_set, qrels={"q": {"d1": 2}}),
        replace(query_set, answers={"q": ("fox",)}),
    ]
    assert len({fingerprint(one) for one in (query_set, *others)}) == 4
    assert fingerprint(replace(query_set, id="other name")) == fingerprint(query_set)


@pytest.fixture
def small(beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """BM25 on a folder, of whose judgements one names a passage that is not there."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    judged = [("q1", "d1", 1), ("q1", "gone", 1), ("q1", "lost", 0)]
    source = beir_folder(tmp_path / "mini", [("d1", "", "red fox")], {"q1": "red"}, {"test": judged, "dev": judged})
    return open_experiment(Request(str(source), eval_sets=("test",), output=tmp_path / "run", seed=4, limit=7))


def test_judgements_of_absent_passages_are_counted(small: Experiment) -> None:
    """They lower every system's recall alike, and look like a weak system."""
    assert absent_passages(small, small.eval_sets["mini/test"]) == ["mini/test: 2 judgements name passages that are not in the corpus"]
    whole = replace(small.eval_sets["mini/test"], qrels={"q1": {"d1": 1}})
    assert absent_passages(small, whole) == []


def test_an_experiment_is_described_by_what_decides_its_rows(small: Experiment) -> None:
    found = describe(small)
    assert {key: found["settings"][key] for key in ("limit", "seed", "text_hash")} == {
        "limit": 7,
        "seed": 4,
        "text_hash": small.corpus.text_hash,
    }
    assert not {"systems", "eval_sets", "variants", "strategies", "engines", "contrasts"} & found["settings"].keys()
    assert found["eval_sets"]["mini/test"]["hash"] == fingerprint(small.eval_sets["mini/test"])
    assert found["passages"] == 1
    assert found["paths"] == {}
    assert list(found["recipes"]) == ["bm25"]


def test_a_student_is_described_by_how_it_is_trained() -> None:
    """Roles and options in full, whatever a name meant; what the row shows is only what is not usual."""
    experiment = open_experiment(Request("tiny", systems=("kd", "teacher"), settings=("lr=0.01",)))
    teacher, kd = experiment.systems
    made = recipe_entry(experiment, kd)
    assert (made["recipe"]["teacher"], made["recipe"]["student"]) == ("teacher", "student")
    assert made["recipe"]["distill"]["lr"] == 0.01
    assert set(made["models"]) == {"teacher", "assistant", "student"}
    shown = system_entry(experiment, kd, {"parameters": 5})
    assert (shown["kind"], shown["strategy"], shown["steps"], shown["differs"], shown["parameters"]) == ("student", "kd", 12, {}, 5)
    assert recipe_entry(experiment, teacher)["recipe"] is None
    assert system_entry(experiment, teacher, {})["strategy"] is None
