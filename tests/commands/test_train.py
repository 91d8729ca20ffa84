"""`train`, and students by other strategies than their names say: variants and ablations, from the YAML to the leaderboard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.commands.run import run
from mta4dpr.commands.train import train
from mta4dpr.config.yaml_files import benchmark_folder, read_yaml
from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.ledger import Ledger
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import read_json, sha256_of_file, write_json
from mta4dpr.stages import pipeline, training
from mta4dpr.stages.pipeline import stages_of, work_along

SHORT = ("steps=4", "batch_queries=4", "rounds=2")


def weights(folder: Path) -> dict[str, str]:
    return {path.parent.name: sha256_of_file(path) for path in folder.glob("models/*/model.safetensors")}


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".lock")}


def trained(folder: Path, *students: str, bench: str = "tiny", redo: str | None = None, **more: Any) -> dict[str, Any]:
    return train(Request(bench, systems=students, output=folder, settings=SHORT, redo=redo, **more))


def no_training(*_: Any) -> Any:
    raise AssertionError("a student was trained")


@pytest.fixture(scope="module")
def two_students(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("train") / "run"
    return folder, trained(folder, "kd", "prod")


def test_train_says_what_it_made(two_students: tuple[Path, dict[str, Any]]) -> None:
    """Where each student is, what it is worth on D_eval, how many steps and rounds it had (prod has a round a teacher)."""
    folder, document = two_students
    kd, prod = document["students"]
    assert (kd["system"], kd["strategy"], kd["steps"], kd["rounds"], kd["measure"]) == ("kd", "kd", 4, 2, "RR@10")
    assert (prod["steps"], prod["rounds"]) == (4, 3)
    assert Path(kd["model"], "model.safetensors").exists()
    lines = (folder / "training" / "kd" / "rounds.jsonl").read_text().splitlines()
    assert kd["d_eval"] == json.loads(lines[-1])["student"]
    assert kd["seconds"] > 0
    assert json.loads(json.dumps(document)) == document
    assert not (folder / "leaderboard.json").exists()


def test_train_again_does_nothing(two_students: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, document = two_students
    before = times(folder)
    monkeypatch.setattr(training, "distil_student", no_training)
    assert trained(folder, "kd", "prod") == document
    assert times(folder) == before


def test_run_goes_on_from_what_was_trained(
    two_students: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train` on the big machine, `run` wherever: one folder, the students as they are, and the bytes of a `run` alone."""
    folder, _ = two_students
    request = Request("tiny", systems=("kd", "prod"), output=folder, settings=SHORT)
    before = weights(folder)
    with monkeypatch.context() as patch:
        patch.setattr(training, "distil_student", no_training)
        run(request)
    assert weights(folder) == before
    assert {row["system"] for row in read_json(folder / "leaderboard.json")["rows"]} == {"kd", "prod"}
    alone = run(Request("tiny", systems=("kd", "prod"), output=tmp_path / "run", settings=SHORT))
    assert weights(alone) == before
    assert (alone / "leaderboard.json").read_bytes() == (folder / "leaderboard.json").read_bytes()


def test_what_a_training_left_may_be_deleted(two_students: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """The model is what counts; without the rest, `train` has no value on D_eval to show, and a deleted log is no error."""
    folder = Path(shutil.copytree(two_students[0], tmp_path / "run"))
    shutil.rmtree(folder / "training" / "kd")
    assert trained(folder, "kd")["students"][0]["d_eval"] is None
    (folder / "training" / "prod" / "steps.jsonl").unlink()
    (folder / "models" / "prod" / "model.safetensors").unlink()
    trained(folder, "prod")
    assert weights(folder) == weights(two_students[0])


def test_redo_trains_again_to_the_same_bytes(two_students: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = two_students
    before, times_before = weights(folder), times(folder)
    trained(folder, "kd", redo="train")
    assert weights(folder) == before
    changed = {path for path, time in times(folder).items() if times_before.get(path) != time}
    assert any("training/kd" in str(path) for path in changed)
    assert not any("prod" in str(path) for path in changed)


@pytest.mark.parametrize("name", ["bm25", "teacher", "student-init"])
def test_train_refuses_what_is_no_student(tmp_path: Path, name: str) -> None:
    """And leaves no folder behind."""
    with pytest.raises(UserError, match=f"{name} cannot be trained.*list strategies"):
        trained(tmp_path / "run", "kd", name)
    assert not (tmp_path / "run").exists()


def test_train_needs_a_student(tmp_path: Path, tiny_yaml: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="no student to train; name one with --strategy"):
        trained(tmp_path / "run", bench=str(tiny_yaml(systems=["bm25", "teacher"])))


def test_train_takes_the_benchmarks_students(tmp_path: Path, tiny_yaml: Callable[..., Path]) -> None:
    """Without --strategy: those of its systems that are trained."""
    document = trained(tmp_path / "run", bench=str(tiny_yaml(systems=["bm25", "student-init", "kd"])))
    assert [student["system"] for student in document["students"]] == ["kd"]


def test_training_for_tensorboard_has_the_same_weights(two_students: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Curves beside steps.jsonl; they decide nothing."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed; `uv sync` brings it")
    trained(tmp_path / "run", "kd", tensorboard=True)
    assert list((tmp_path / "run" / "training" / "kd").rglob("events.out.tfevents*"))
    assert weights(tmp_path / "run")["kd"] == weights(two_students[0])["kd"]


@pytest.mark.parametrize("note", ["absent", "empty", "other"])
def test_a_half_done_training_with_other_inputs_starts_over(two_students: tuple[Path, dict[str, Any]], tmp_path: Path, note: str) -> None:
    """Without a note of its inputs too: its removal was interrupted, and what is left must not be gone on with."""
    stranger = tmp_path / "run" / "training" / "kd"
    trained(tmp_path / "other", "kd", seed=1)
    (tmp_path / "run" / "training").mkdir(parents=True)
    (tmp_path / "other" / "training" / "kd").rename(stranger)
    (stranger / "inputs.json").unlink()
    if note == "empty":
        (stranger / "inputs.json").touch()
    if note == "other":
        write_json(stranger / "inputs.json", {"key": "0" * 16})
    trained(tmp_path / "run", "kd")
    assert weights(tmp_path / "run")["kd"] == weights(two_students[0])["kd"]


def test_a_second_process_does_not_go_along_with_what_a_killed_run_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would read checkpoints that the main process is about to remove. It waits until the main one of its own launch begins."""
    experiment = open_experiment(Request("tiny", systems=("kd",), output=tmp_path, settings=SHORT))
    experiment.__dict__["launch"] = "now"
    stage, log = stages_of(experiment)[0], []
    with pytest.raises(KeyboardInterrupt), Ledger(tmp_path).stage(stage.name, stage.inputs(), code=stage.code, by="before"):
        raise KeyboardInterrupt
    main_process = Ledger(tmp_path).stage(stage.name, stage.inputs(), code=stage.code, by="now")

    def begin(seconds: float) -> None:
        log.append("waits")
        main_process.__enter__()

    monkeypatch.setattr(pipeline.time, "sleep", begin)
    monkeypatch.setattr(training, "distil_student", lambda *_: log.append("trains"))
    work_along(experiment, [stage])
    assert log == ["waits", "trains"]
    main_process.__exit__(None, None, None)
    work_along(experiment, [stage])
    assert log == ["waits", "trains"], "what is done is not trained again"


# --- variants and ablations ---


@pytest.fixture
def tiny_yaml(tmp_path: Path) -> Callable[..., Path]:
    """A YAML of tiny with other settings."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**read_yaml(benchmark_folder() / "tiny.yaml"), **changes}))
        return path

    return write


def test_variants_and_ablations_are_rows_of_their_own(tmp_path: Path, tiny_yaml: Callable[..., Path]) -> None:
    """Each says in what it differs from the benchmark; its files have its label; steps are a row's own."""
    variants = {
        "kd-short": {"strategy": "kd", "distill": {"steps": 2}},
        "kd+assistant": {"strategy": "kd", "teacher": "assistant", "assistants": ["bm25"]},
    }
    path = tiny_yaml(variants=variants)
    names = ("kd", "kd-short", "kd+assistant", "mta4dpr-no-fused")
    folder = run(Request(str(path), systems=names, output=tmp_path / "run", settings=SHORT))
    described = {system["system"]: system for system in read_json(folder / "leaderboard.json")["systems"]}
    assert {name: described[name]["note"] for name in names} == {
        "kd": None,
        "kd-short": "steps 2",
        "kd+assistant": "teacher assistant; assistants bm25",
        "mta4dpr-no-fused": "fused none",
    }
    assert {name: described[name]["steps"] for name in names} == {"kd": 4, "kd-short": 2, "kd+assistant": 4, "mta4dpr-no-fused": 4}
    assert {system["regime"] for system in described.values()} == {"rounds"}
    files = ("kd", "kd-short", "kd-assistant", "mta4dpr-no-fused")
    assert set(weights(folder)) == set(files)
    assert len(set(weights(folder).values())) == 4
    for name in files:
        assert (folder / "runs" / "tiny-test" / f"{name}.trec").exists()
        assert (folder / "training" / name / "steps.jsonl").exists()
    lines = [json.loads(line) for line in (folder / "training" / "mta4dpr-no-fused" / "steps.jsonl").read_text().splitlines()]
    assert {line["assistant"] for line in lines} <= {"bm25", "assistant"} | {f"student-round-{n}" for n in (0, 1)}


def test_a_variant_that_is_added_or_changed_leaves_the_other_rows_alone(tmp_path: Path, tiny_yaml: Callable[..., Path]) -> None:
    """A new idea is a new row of the table that is there; a changed one is trained again."""
    folder = tmp_path / "run"
    run(Request(str(tiny_yaml()), systems=("kd",), output=folder, settings=SHORT))
    first = weights(folder)
    found = []
    for steps in (2, 3):
        path = tiny_yaml(variants={"mine": {"strategy": "kd", "distill": {"steps": steps}}})
        run(Request(str(path), systems=("mine",), output=folder, settings=SHORT))
        found.append(weights(folder))
        described = {system["system"]: system for system in read_json(folder / "leaderboard.json")["systems"]}
        assert (described["kd"]["note"], described["mine"]["note"]) == (None, f"steps {steps}")
    assert found[0]["kd"] == found[1]["kd"] == first["kd"]
    assert found[0]["mine"] != found[1]["mine"]
