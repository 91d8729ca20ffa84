"""Where the files of a run are: names that others rely on, and nothing outside the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta4dpr.experiment.folder import Folder

ODD = "../../a b/ü"


def test_the_names_that_other_tools_read() -> None:
    """docs/commands.md promises them, and folders of earlier versions have them."""
    folder = Folder(Path("run"))
    assert folder.manifest == Path("run/manifest.json")
    assert folder.leaderboard == Path("run/leaderboard.json")
    assert folder.run_file("kd", "beir/nfcorpus/test") == Path("run/runs/beir-nfcorpus-test/kd.trec")
    assert folder.per_query("kd", "beir/nfcorpus/test") == Path("run/per_query/beir-nfcorpus-test/kd.csv")
    assert folder.model("kd") == Path("run/models/kd")
    assert folder.index("kd") == Path("run/indexes/kd")
    assert folder.training("kd") == Path("run/training/kd")
    assert folder.energy("kd") == Path("run/training/kd/energy.json")
    assert folder.collection("beir-13", "beir/scifact/test") == Path("run/suites/beir-13/beir-scifact-test")


@pytest.mark.parametrize(
    "path",
    [
        Folder(Path("run")).run_file(ODD, ODD),
        Folder(Path("run")).per_query(ODD, ODD),
        Folder(Path("run")).model(ODD),
        Folder(Path("run")).index(ODD),
        Folder(Path("run")).training(ODD),
        Folder(Path("run")).collection(ODD, ODD),
        Folder(Path("run")).parts("x", ODD),
    ],
)
def test_no_label_or_id_leads_out_of_the_folder(path: Path) -> None:
    """A label may be anything that a user types, also a path."""
    assert ".." not in path.parts
    assert path.resolve().is_relative_to(Path("run").resolve())
    assert path.name.isascii() and " " not in path.name


def test_parts_of_every_launch_are_found(tmp_path: Path) -> None:
    """Those of a launch that was killed too: they are large, and nobody else would remove them."""
    folder = Folder(tmp_path)
    for launch in ("one", "two"):
        folder.parts(launch, "kd dev").mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    assert sorted(path.name for path in folder.all_parts()) == [".parts-one", ".parts-two"]


def test_a_file_is_named_from_the_folder() -> None:
    """A folder can be moved: ledger and manifest must not hold where it was."""
    folder = Folder(Path("/somewhere/run"))
    assert folder.relative(folder.run_file("kd", "x/test")) == "runs/x-test/kd.trec"
