"""manifest.json: what several commands of a folder leave together, and what is no manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from mta4dpr.config.benchmark import with_defaults
from mta4dpr.errors import UserError
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.manifest import Manifest, ManifestWriter, engine_of, read_manifest
from mta4dpr.machine.files import read_json, write_json


def asked(*labels: str, eval_sets: tuple[str, ...] = ("a",), **more: Any) -> Manifest:
    """What a command says of itself."""
    document = {
        "title": "T",
        "notes": ["of this command"],
        "settings": with_defaults({"name": "mine", "seed": 0}),
        "recipes": {label: {"kind": "encoder"} for label in labels},
        "eval_sets": {name: {"measures": ["RR@10"]} for name in eval_sets},
        "paths": {f"./{label}": f"/home/{label}" for label in labels},
        **more,
    }
    return cast(Manifest, document)


def begun(folder: Path, manifest: Manifest) -> ManifestWriter:
    writer = ManifestWriter(Folder(folder))
    writer.begin(manifest)
    return writer


def test_commands_add_to_what_is_there(tmp_path: Path) -> None:
    """Rows of earlier commands stay in the table, so what they were made from must stay too; all else is of the last command."""
    first = begun(tmp_path, asked("kd"))
    with first.of_command({"command": ["run", "one"]}):
        first.note_system("kd", {"kind": "student"})
        first.note_run_file(tmp_path / "runs" / "a" / "kd.trec", cast(Any, {"system": "kd", "eval_set": "a", "sha256": "0"}))
    second = begun(tmp_path, asked("simlm", eval_sets=("b",), title="Other", notes=["of the second"]))
    with second.of_command({"command": ["run", "two"]}):
        second.note_system("simlm", {"kind": "encoder"})
    found = read_json(tmp_path / "manifest.json")
    assert list(found["systems"]) == list(found["recipes"]) == ["kd", "simlm"]
    assert list(found["eval_sets"]) == ["a", "b"]
    assert found["run_files"] == {"runs/a/kd.trec": {"system": "kd", "eval_set": "a", "sha256": "0"}}
    assert found["paths"] == {"./kd": "/home/kd", "./simlm": "/home/simlm"}
    assert (found["title"], found["notes"]) == ("Other", ["of the second"])
    assert [run["command"] for run in found["runs"]] == [["run", "one"], ["run", "two"]]


def test_beginning_writes_nothing(tmp_path: Path) -> None:
    """A command that finds everything done must leave the folder as it is."""
    writer = begun(tmp_path / "run", asked("kd"))
    assert writer.document["title"] == "T"
    assert not (tmp_path / "run").exists()


def test_what_is_said_again_takes_the_place_of_what_was(tmp_path: Path) -> None:
    """A model that was trained anew, judgements that changed: the manifest must not hold yesterday's hashes."""
    with begun(tmp_path, asked("kd")).of_command({}):
        pass
    writer = begun(tmp_path, asked(recipes={"kd": {"kind": "encoder", "models": {"x": "new"}}}, eval_sets=("a",)))
    assert writer.document["recipes"]["kd"]["models"] == {"x": "new"}


def test_a_command_that_dies_is_told_from_one_that_finished(tmp_path: Path) -> None:
    writer = begun(tmp_path, asked("kd"))
    with pytest.raises(RuntimeError), writer.of_command({"command": ["run"]}):
        assert read_json(tmp_path / "manifest.json")["runs"][0]["finished"] is None, "it is written before the work begins"
        raise RuntimeError
    assert read_json(tmp_path / "manifest.json")["runs"][0]["finished"] is None


def test_notes_of_suites_stand_beside_the_commands_own(tmp_path: Path) -> None:
    """Also when a later command does not evaluate the suite: its rows are still in the table."""
    suite = {"beir": {"measures": ["nDCG@10"], "note": "a mean of 3 of 13"}}
    with begun(tmp_path, cast(Manifest, {**asked("kd"), "eval_sets": suite})).of_command({}):
        pass
    assert begun(tmp_path, asked("kd")).document["notes"] == ["of this command", "a mean of 3 of 13"]


def test_other_settings_are_refused_and_change_nothing(tmp_path: Path) -> None:
    with begun(tmp_path, asked("kd")).of_command({}):
        pass
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="seed: 0 there, 1 now"):
        begun(tmp_path, asked("kd", settings=with_defaults({"name": "mine", "seed": 1})))
    assert (tmp_path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("label", ["a+b", "A-B"])
def test_a_system_whose_files_are_anothers_is_refused(tmp_path: Path, label: str) -> None:
    """Two labels may be one file name, also on file systems that do not tell capitals."""
    writer = begun(tmp_path, asked("a-b"))
    with writer.of_command({}):
        writer.note_system("a-b", {"kind": "encoder"})
    with pytest.raises(UserError, match="has a system 'a-b', whose files"):
        begun(tmp_path, asked(label))
    begun(tmp_path, asked("a-b", "ab"))


# --- reading ---


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is not what was written there .*give the manifest.json"),
        ("{", "is not what was written there .*give the manifest.json"),
        ("[]", "a JSON object was expected, found list"),
        ('{"settings": {}, "systems": {}}', "is no manifest of a run"),
        ('{"settings": {"name": "x"}}', "is no manifest of a run"),
    ],
)
def test_what_is_no_manifest_is_told(tmp_path: Path, content: str, told: str) -> None:
    """A user may give any JSON file of the folder, or half a download."""
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=told):
        read_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"systems": []}, "systems: Input should be a valid dictionary; delete it"),
        ({"systems": {"kd": {}}}, "systems.kd has no kind; delete it"),
        ({"eval_sets": {"a": {}}}, "eval_sets.a has no measures"),
        ({"runs": {}}, "runs: Input should be a valid list"),
        ({"run_files": {"runs/a/kd.trec": {"system": "kd"}}}, "has no eval_set"),
        ({"settings": {}}, "settings has no name"),
    ],
)
def test_a_manifest_with_other_types_is_refused_where_it_is_worked_on(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    """It has no checksum any more when somebody has changed it on purpose."""
    with begun(tmp_path, asked("kd")).of_command({"command": []}):
        pass
    document = read_json(tmp_path / "manifest.json")
    del document["seal"]
    write_json(tmp_path / "manifest.json", {**document, **change})
    with pytest.raises(UserError, match=f"manifest.json .*{told.replace(';', '.*;')}"):
        begun(tmp_path, asked("kd"))


def test_a_path_that_is_not_one_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read_manifest(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match=str(tmp_path / "manifest.json")):
        read_manifest(tmp_path)


def test_one_that_lacks_what_came_later_is_read(tmp_path: Path) -> None:
    """Folders of earlier versions can still be shown, exported and added to."""
    old = {"settings": {"name": "x"}, "systems": {"bm25": {"kind": "lexical"}, "simlm": {"kind": "encoder"}}}
    write_json(tmp_path / "manifest.json", old)
    assert read_manifest(tmp_path / "manifest.json") == old
    with pytest.raises(UserError, match="manifest.json is no manifest of a run: it has no source; give"):
        read_manifest(tmp_path / "manifest.json", needs=("source",))


def test_the_engine_of_a_system_also_where_an_earlier_version_did_not_say() -> None:
    """There were two: Lucene for what is lexical, vectors for the rest."""
    old = cast(Manifest, {"systems": {"bm25": {"kind": "lexical"}, "kd": {"kind": "student"}}, "recipes": {"kd": {"kind": "student"}}})
    assert [engine_of(old, label) for label in ("bm25", "kd")] == ["bm25", "bi-encoder"]
    new = cast(Manifest, {"systems": {"x": {"kind": "other"}}, "recipes": {"x": {"kind": "other", "engine": "a.py:Mine"}}})
    assert engine_of(new, "x") == "a.py:Mine"
