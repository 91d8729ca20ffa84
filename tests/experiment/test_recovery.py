"""An experiment out of its manifest alone: names mean what they meant, and what is no longer there is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.errors import UserError
from mta4dpr.experiment.description import describe
from mta4dpr.experiment.experiment import Experiment, open_experiment
from mta4dpr.experiment.manifest import Manifest
from mta4dpr.experiment.recovery import NEEDED, check_unchanged, recover
from mta4dpr.experiment.request import Request

from .asking import opened

PATH = Path("run") / "manifest.json"


def manifest_of(experiment: Experiment) -> Manifest:
    """As the experiment's run would leave it."""
    systems: Any = {system.label: {"kind": system.kind} for system in experiment.systems}
    return {**describe(experiment), "systems": systems, "run_files": {}}


def recovered(manifest: Manifest, systems: dict[str, list[str]], **asked: Any) -> list[Experiment]:
    return recover(manifest, PATH, Request("", **asked), Path("again"), systems=systems, repeats="hash")


def test_an_experiment_comes_back_as_it_was(tiny: Callable[..., Path]) -> None:
    """Settings of the command line, a variant and an ablation, after the YAML that said what they are has gone."""
    variant = {"strategy": "kd", "teacher": "assistant", "assistants": ["teacher"], "distill": {"steps": 6}}
    path = tiny(variants={"mine": variant})
    before = opened(path, "bm25", "teacher", "mine", "mta4dpr-no-fused", settings=("lr=0.01", "k1=1.2"))
    manifest = manifest_of(before)
    path.unlink()
    labels = ["bm25", "teacher", "mine", "mta4dpr-no-fused"]
    (after,) = recovered(manifest, {label: ["tiny/test"] for label in labels}, device="cpu")
    assert after.systems == before.systems
    assert (after.bench.distill, after.bench.bm25, after.bench.models) == (before.bench.distill, before.bench.bm25, before.bench.models)
    assert [eval_set.id for eval_set in after.bench.eval_sets] == ["tiny/test"]
    assert (after.request.settings, after.request.device, after.repeats) == (("lr=0.01", "k1=1.2"), "cpu", "hash")
    assert after.training_inputs(after.students[0][1]) == before.training_inputs(before.students[0][1])
    assert manifest_of(after)["settings"] == manifest["settings"]


def test_systems_of_other_eval_sets_are_experiments_of_their_own(tiny: Callable[..., Path]) -> None:
    """Nothing is searched that the run did not search."""
    manifest = manifest_of(opened(tiny(), "bm25", "teacher", "assistant"))
    found = recovered(manifest, {"bm25": ["tiny/test"], "teacher": [], "assistant": ["tiny/test"]})
    assert [([s.label for s in e.systems], [x.id for x in e.bench.eval_sets]) for e in found] == [
        (["bm25", "assistant"], ["tiny/test"]),
        (["teacher"], []),
    ]


@pytest.mark.parametrize("key", NEEDED)
def test_a_manifest_of_an_earlier_version_says_what_it_lacks(tiny: Callable[..., Path], key: str) -> None:
    """And the command by which that run can be repeated all the same."""
    manifest: Any = {**manifest_of(opened(tiny(), "bm25")), "runs": [{"command": ["run", "tiny", "--seed", "3"]}]}
    del manifest[key]
    with pytest.raises(UserError, match=f"did not note {key}; repeat it by its command: mta4dpr-bench run tiny --seed 3"):
        recovered(manifest, {"bm25": []})


def test_a_system_that_was_noted_before_there_were_recipes(tiny: Callable[..., Path]) -> None:
    manifest = manifest_of(opened(tiny(), "bm25"))
    manifest["systems"]["older"] = {"kind": "encoder"}
    with pytest.raises(UserError, match="does not say how older is made"):
        recovered(manifest, {"older": []})


@pytest.fixture
def small(beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A collection of one's own, from whose parent a run was started."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return beir_folder(tmp_path / "mini", [("d1", "", "red fox")], {"q1": "red"}, {"test": [("q1", "d1", 1)]})


def test_a_folder_is_found_from_elsewhere(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was typed as a relative path, which may mean another folder now."""
    manifest = manifest_of(open_experiment(Request("mini")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (found,) = recovered(manifest, {"bm25": ["mini/test"]})
    assert found.bench.corpus == str(small)
    check_unchanged([found], manifest, PATH, training=True)
    monkeypatch.chdir(tmp_path)
    (found,) = recovered(manifest, {"bm25": ["mini/test"]})
    assert found.bench.corpus == "mini", "as it was typed, where it still means the same"


def test_what_has_changed_is_told(small: Path) -> None:
    """A repetition with other judgements would be another experiment."""
    manifest = manifest_of(open_experiment(Request("mini")))
    (small / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\n")
    (found,) = recovered(manifest, {"bm25": ["mini/test"]})
    with pytest.raises(UserError, match="eval set mini/test is not what it was: hash .*bring back its queries and judgements"):
        check_unchanged([found], manifest, PATH, training=True)
    corpus = small / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("fox", "dog"))
    (found,) = recovered(manifest, {"bm25": ["mini/test"]})
    with pytest.raises(UserError, match="corpus mini is not what it was: hash"):
        check_unchanged([found], manifest, PATH, training=True)


def test_what_has_gone_is_told(small: Path) -> None:
    manifest = manifest_of(open_experiment(Request("mini")))
    shutil.rmtree(small)
    with pytest.raises(UserError, match="mini"):
        recovered(manifest, {"bm25": ["mini/test"]})


def test_students_are_taken_as_they_are_where_nothing_is_trained(tiny: Callable[..., Path]) -> None:
    """An index of a student can be exported long after its teacher has gone."""
    manifest = manifest_of(opened(tiny(), "kd"))
    manifest["recipes"]["kd"]["models"]["teacher"] = "0" * 16
    (found,) = recovered(manifest, {"kd": []})
    check_unchanged([found], manifest, PATH, training=False)
    with pytest.raises(UserError, match="model 'teacher' .* is not what it was"):
        check_unchanged([found], manifest, PATH, training=True)
