from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import TypedDict

import pytest

from mta4dpr.errors import UserError
from mta4dpr.machine import kept
from mta4dpr.machine.kept import (
    STAMPS,
    SUMS,
    changed,
    checksum,
    is_same,
    is_whole,
    read_sealed,
    seal,
    sealed_folder,
    stamp,
    unseal,
    write_sealed,
)

from ..damage import DAMAGES, flip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder with a file in a folder of it."""
    place = tmp_path / "folder"
    with sealed_folder(place) as aside:
        (aside / "inner").mkdir()
        (aside / "inner" / "a").write_text("some text that is long enough\n" * 3)
        (aside / "b").write_text("other text, also long enough\n" * 3)
    kept._read.clear()
    return place


def test_a_folder_is_whole_when_every_file_is_what_was_written(folder: Path, tmp_path: Path) -> None:
    assert is_whole(folder)
    assert is_whole(folder, by_content=True)
    assert not is_whole(tmp_path / "nothing")
    (tmp_path / "plain").mkdir()
    assert not is_whole(tmp_path / "plain")


def test_the_sums_are_those_of_sha256sum(folder: Path) -> None:
    """Anyone can check a folder without us."""
    assert shutil.which("sha256sum")
    assert os.system(f"cd '{folder}' && sha256sum --quiet --strict -c {SUMS}") == 0


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["inner/a", "b"])
def test_damage_is_seen_though_the_time_of_the_change_is_put_back(folder: Path, name: str, damage: str) -> None:
    DAMAGES[damage](folder / name)
    assert not is_whole(folder)
    assert changed(folder) == [name]


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_stamps_content_decides(folder: Path, damage: str) -> None:
    """They are of this machine: a copy has others, and a damaged note of them is as good as none."""
    DAMAGES[damage](folder / STAMPS)
    assert is_whole(folder)
    flip(folder / "b")
    assert not is_whole(folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checksums_vouch_for_nothing(folder: Path, damage: str) -> None:
    """Half of them would leave half of the files unlooked at."""
    DAMAGES[damage](folder / SUMS)
    assert not is_whole(folder, by_content=True)


def test_a_file_that_nobody_wrote_there_is_seen(folder: Path) -> None:
    """Lucene would open the segments of a later commit; what a file manager or a lock leaves is nobody's."""
    (folder / ".DS_Store").write_text("x")
    (folder / "write.lock").write_text("")
    assert is_whole(folder)
    (folder / "segments_2").write_text("x")
    assert not is_whole(folder)


def test_a_copy_is_read_once_and_then_known_by_its_stamps(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    read: list[Path] = []
    real = kept.sha256_of_file
    monkeypatch.setattr(kept, "sha256_of_file", lambda path: (read.append(path), real(path))[1])
    assert is_whole(copy)
    assert sorted(read) == [copy / "b", copy / "inner" / "a"]
    kept._read.clear()  # another process
    assert is_whole(copy)
    assert len(read) == 2


def test_by_content_reads_once_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a disk loses by itself changes no stamp; a round opens the same ranking several times."""
    read: list[Path] = []
    real = kept.sha256_of_file
    monkeypatch.setattr(kept, "sha256_of_file", lambda path: (read.append(path), real(path))[1])
    assert is_whole(folder)
    assert read == []
    assert is_whole(folder, by_content=True)
    assert is_whole(folder, by_content=True)
    assert len(read) == 2


def test_a_folder_that_cannot_be_written_is_compared_all_the_same(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared cache may be read-only."""

    def refuse(path: Path, document: object) -> None:
        raise PermissionError

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    monkeypatch.setattr(kept, "write_json", refuse)
    assert is_whole(copy)
    flip(copy / "b")
    assert not is_whole(copy)


def test_sums_may_lie_elsewhere(tmp_path: Path) -> None:
    """Nothing is written into a folder of Pyserini's."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    (theirs / "index").write_text("x" * 50)
    seal(theirs, into=ours)
    assert [path.name for path in theirs.iterdir()] == ["index"]
    assert is_whole(theirs, sums=ours)
    flip(theirs / "index")
    assert not is_whole(theirs, sums=ours)


def test_a_warning_says_why_and_what_is_done(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert is_whole(folder, otherwise="it is made again")
        assert caplog.text == ""
        flip(folder / "b")
        assert not is_whole(folder, otherwise="it is made again")
        assert "is not what was written there (b); it is made again" in caplog.text
        unseal(folder)
        assert not is_whole(folder, otherwise="it is made again")
    assert "was kept without checksums, as earlier versions did; it is made again" in caplog.text


def test_the_checksum_of_a_file_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a" * 40)
    first, noted = checksum(path), stamp(path)
    assert is_same(path, first, noted)
    flip(path)
    assert checksum(path) != first
    assert not is_same(path, first, noted)
    flip(path)
    assert is_same(path, first, noted)
    path.unlink()
    assert not is_same(path, first, noted)


@pytest.mark.parametrize("damage", ["flip", "cut", "zero", "empty"])
def test_a_sealed_document_is_read_as_it_was_written_or_refused(tmp_path: Path, damage: str) -> None:
    """A flipped digit is still JSON, and would be printed."""
    path = tmp_path / "manifest.json"
    document = {"systems": {"a": {"parameters": 22713216, "ok": True}}, "values": [0.1, None, "ä"], "n": {1: 2}}
    write_sealed(path, document)
    assert read_sealed(path, otherwise="delete it") == {**document, "n": {"1": 2}}
    DAMAGES[damage](path)
    with pytest.raises(UserError, match=r"manifest.json is not what was written there \(.*\); delete it"):
        read_sealed(path, otherwise="delete it")


@pytest.mark.parametrize("content", ["[]", "1", '"x"', "null", "[" * 100_000])
def test_a_document_is_an_object(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(UserError, match="delete it"):
        read_sealed(tmp_path / "x", otherwise="delete it")


def test_a_document_without_a_checksum_is_of_an_earlier_version(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"a": 1}')
    assert read_sealed(tmp_path / "x", otherwise="") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"n": {"a": "1"}}', "n.a: Input should be a valid integer"),
        ('{"n": []}', "n: Input should be a valid dictionary"),
        ("{}", "n: Field required"),
        ('{"n": {"a": 1}, "more": NaN}', "not JSON compliant"),
    ],
)
def test_a_document_without_a_checksum_is_held_to_its_shape(tmp_path: Path, content: str, told: str) -> None:
    """Who changes a manifest on purpose may slip; a text where a number belongs would end in a traceback much later."""

    class Shape(TypedDict):
        n: dict[str, int]

    (tmp_path / "x").write_text(content)
    with pytest.raises(UserError, match=f"x is not what was written there .*{told}.*; delete it"):
        read_sealed(tmp_path / "x", otherwise="delete it", shape=Shape)
    (tmp_path / "x").write_text('{"n": {"a": 1}, "more": 0.5}')
    assert read_sealed(tmp_path / "x", otherwise="", shape=Shape) == {"n": {"a": 1}, "more": 0.5}
