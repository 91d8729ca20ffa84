"""`run --from-manifest`: everything a folder holds is made again, with nothing but its manifest; what cannot be is one clear error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.commands.repeat import repeat
from mta4dpr.commands.run import run
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.machine.kept import SEAL
from mta4dpr.models.encoder import Encoder

PASSAGES = [("d1", "Foxes", "the red fox runs"), ("d2", "", "a blue whale sings"), ("d3", "", "the dog sleeps"), ("d4", "", "red dog")]


def document(folder: Path) -> dict[str, Any]:
    """A benchmark over a folder beside the YAML, with variants, a typed contrast and options that only some strategies take."""
    sizes = {"layers": 1, "hidden": 16, "heads": 2, "vocabulary": 50}
    model = {"untrained": sizes, "query_length": 12, "passage_length": 16}
    return {
        "name": "mine",
        "title": "Mine",
        "corpus": "./mini",
        "train": "mini/train",
        "systems": ["bm25", "contrastive"],
        "eval_sets": [{"id": f"mini/{split}", "measures": ["RR@10"]} for split in ("test", "dev")],
        "models": {"teacher": model, "assistant": {"model": "./model"}, "student": {**model, "untrained": {**sizes, "seed": 2}}},
        "teacher": "teacher",
        "assistants": ["assistant"],
        "student": "student",
        "contrasts": [["rbo", "takd"]],
        "distill": {"rounds": 1, "steps": 2, "batch_queries": 2, "group": 2, "depth": 3},
        "variants": {"rbo": {"strategy": "mta4dpr", "distill": {"select": "rbo", "rbo_p": 0.5, "steps": 3}}},
    }


@pytest.fixture(scope="module")
def original(beir_folder: Callable[..., Path], encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three commands: systems on one eval set, others on both, a model by its path; then the YAML changes."""
    root = tmp_path_factory.mktemp("original")
    queries = {f"q{n}": f"red fox number {n}" for n in range(12)} | {"q12": "whale song", "q13": "the dog"}
    judged = [(query, f"d{1 + n % 4}", 1) for n, query in enumerate(queries)]
    beir_folder(root / "mini", PASSAGES, queries, {"test": judged[:2], "dev": judged[2:5], "train": judged[5:]})
    encoder.save(root / "model")
    yaml = root / "mine.yaml"
    yaml.write_text(json.dumps(document(root)))
    common = {"output": root / "run", "seed": 3, "limit": 2, "settings": ("k1=1.2", "lr=0.01", "soft_tau=3")}
    run(Request(str(yaml), systems=("bm25", "takd"), eval_sets=("mini/test",), **common))
    run(Request(str(yaml), systems=("rbo", f"given={root / 'model'}"), **common))
    run(Request(str(yaml), systems=("bm25",), eval_sets=("mini/dev",), **common))
    yaml.write_text(json.dumps({**document(root), "variants": {}, "depth": 7, "title": "Changed"}))
    return root


def run_files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in (folder / "runs").rglob("*") if path.is_file()}


def test_every_run_file_comes_out_the_same(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another directory, with an empty cache and a changed YAML: several commands, variants, a path, --set, --limit, --seed."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in (original / "run").rglob("*") if path.is_file()}
    found = repeat(original / "run" / "manifest.json", Request(""))
    assert {path: path.read_bytes() for path in (original / "run").rglob("*") if path.is_file()} == before
    assert Path(found["output"]) == Path("runs") / "mine-repeat"
    assert [(row["system"], row["eval_set"]) for row in found["run_files"]] == [
        ("bm25", "mini/test"),
        ("takd", "mini/test"),
        ("given", "mini/test"),
        ("given", "mini/dev"),
        ("rbo", "mini/test"),
        ("rbo", "mini/dev"),
        ("bm25", "mini/dev"),
    ]
    assert all(row["same"] for row in found["run_files"])
    assert found["differences"] == {}
    again = Path(found["output"])
    assert run_files(again) == run_files(original / "run"), "the metadata beside the run files too"
    ours, theirs = read_json(original / "run" / "leaderboard.json"), read_json(again / "leaderboard.json")
    key = lambda row: (row["eval_set"], row["system"], row["measure"])  # noqa: E731
    assert sorted(ours["rows"], key=key) == sorted(theirs["rows"], key=key)
    assert ours["title"] == theirs["title"] == "Mine"
    assert read_json(again / "repeat.json") == found
    before = {path: path.stat().st_mtime_ns for path in (again / "runs").rglob("*")}
    assert repeat(original / "run" / "manifest.json", Request("")) == found, "the same command again continues"
    assert {path: path.stat().st_mtime_ns for path in (again / "runs").rglob("*")} == before


def test_what_differs_is_named(original: Path, tmp_path: Path) -> None:
    """Another version and another result: each run file says how it differs, and the causes are listed."""
    run = tmp_path / "run"
    shutil.copytree(original / "run", run)
    manifest = read_json(run / "manifest.json")
    keep = {name: about for name, about in manifest["run_files"].items() if about["system"] == "bm25"}
    changed = run / "runs" / "mini-test" / "bm25.trec"
    lines = changed.read_text().splitlines()
    columns = lines[0].split()
    columns[4] = str(float(columns[4]) + 0.5)
    changed.write_text("\n".join([" ".join(columns), *lines[1:]]) + "\n")
    from mta4dpr.machine.files import sha256_of_file

    keep["runs/mini-test/bm25.trec"]["sha256"] = sha256_of_file(changed)
    manifest["run_files"] = keep
    manifest["runs"][0]["versions"]["torch"] = "1.0"
    manifest["runs"][0]["threads"] = 64
    del manifest[SEAL]
    write_json(run / "manifest.json", manifest)
    found = repeat(run / "manifest.json", Request("", output=tmp_path / "again"))
    same = {row["eval_set"]: row for row in found["run_files"]}
    assert same["mini/dev"]["same"]
    assert not same["mini/test"]["same"]
    assert "0 of 2 queries have other passages" in same["mini/test"]["how"]
    assert "at most 0.5" in same["mini/test"]["how"]
    assert set(found["differences"]) == {"versions.torch", "threads"}
    assert found["differences"]["versions.torch"][0] == "1.0"
    assert found["differences"]["threads"] == [64, 1]


def damaged(original: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    manifest = read_json(original / "run" / "manifest.json")
    change(manifest)
    del manifest[SEAL]
    path = tmp_path / "manifest.json"
    write_json(path, manifest)
    return path


def test_what_cannot_be_repeated_is_named_before_anything_is_written(original: Path, tmp_path: Path) -> None:
    """Every model, corpus and query set that is not as it was, in one error; no folder is made."""
    again = Request("", output=tmp_path / "again")

    def other_hashes(manifest: dict[str, Any]) -> None:
        manifest["recipes"]["given"]["models"]["given"] = "0" * 16
        manifest["recipes"]["rbo"]["models"]["assistant"] = "1" * 16
        manifest["settings"]["text_hash"] = "2" * 64

    with pytest.raises(UserError) as caught:
        repeat(damaged(original, tmp_path, other_hashes), again)
    message = str(caught.value)
    for words in ("model 'given'", str(original / "model"), "model 'assistant'", "corpus", str(original / "mini"), "2" * 16):
        assert words in message
    assert caught.value.exit_status == 2

    def gone(manifest: dict[str, Any]) -> None:
        manifest["recipes"]["given"]["spec"]["model"] = "nowhere/at-all"

    with pytest.raises(EnvironmentLack, match="model 'given' .*nowhere/at-all"):
        repeat(damaged(original, tmp_path, gone), Request("", output=tmp_path / "again", offline=True))

    def other_queries(manifest: dict[str, Any]) -> None:
        manifest["eval_sets"]["mini/dev"]["hash"] = "3" * 16
        manifest["recipes"]["takd"]["training_data"] = "4" * 16

    with pytest.raises(UserError, match=r"(?s)eval set mini/dev .*training data of takd"):
        repeat(damaged(original, tmp_path, other_queries), again)

    def unknown(manifest: dict[str, Any]) -> None:
        manifest["recipes"]["takd"]["recipe"]["strategy"] = "magic"

    with pytest.raises(UserError, match="'magic'"):
        repeat(damaged(original, tmp_path, unknown), again)
    assert not (tmp_path / "again").exists()


def test_manifests_that_are_none_and_folders_that_are_taken(original: Path, tmp_path: Path) -> None:
    path = original / "run" / "manifest.json"
    with pytest.raises(UserError, match="folder of the run that is to be repeated"):
        repeat(path, Request("", output=original / "run"))
    with pytest.raises(UserError, match=r"give .*manifest\.json"):
        repeat(path.parent, Request(""))
    with pytest.raises(UserError, match="is no manifest"):
        repeat(path.parent / "ledger.json", Request(""))
    with pytest.raises(UserError, match="no file"):
        repeat(tmp_path / "none.json", Request(""))
    (tmp_path / "hollow.json").write_text('{"settings": {}, "systems": {}}')
    with pytest.raises(UserError, match="is no manifest"):
        repeat(tmp_path / "hollow.json", Request(""))
    shutil.copytree(original / "run", tmp_path / "other")
    with pytest.raises(UserError, match="no repeat of"):
        repeat(path, Request("", output=tmp_path / "other"))

    def older(manifest: dict[str, Any]) -> None:
        del manifest["run_files"], manifest["recipes"]

    with pytest.raises(UserError, match="earlier version, which did not note recipes, run_files; repeat it by its command"):
        repeat(damaged(original, tmp_path, older), Request("", output=tmp_path / "again"))


@pytest.mark.parametrize("relative", [True, False])
def test_a_folder_without_a_yaml_is_repeated(beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: Any, relative: bool) -> None:
    """An ad-hoc benchmark has no file that names it: the folder is found again from another working directory."""
    folder = beir_folder(tmp_path / "mini", PASSAGES, {"q1": "red fox", "q2": "dog"}, {"test": [("q1", "d1", 1), ("q2", "d3", 1)]})
    monkeypatch.chdir(tmp_path)
    run(Request("mini" if relative else str(folder), output=Path("run"), settings=("k1=0.5",)))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = repeat(tmp_path / "run" / "manifest.json", Request("", output=Path("again")))
    assert [row["same"] for row in found["run_files"]] == [True]
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="mini"):
        repeat(tmp_path / "run" / "manifest.json", Request("", output=tmp_path / "third"))
    assert not (tmp_path / "third").exists()
