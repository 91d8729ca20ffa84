"""Files are whole or not there at all."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from mta4dpr.errors import EnvironmentLack
from mta4dpr.machine import files
from mta4dpr.machine.files import (
    file_name,
    folder_written_aside,
    forget_parts,
    key_of,
    read_json,
    sha256_of_file,
    write_json,
    written_aside,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_utf8_with_plain_newlines_and_parents_are_made(tmp_path: Path) -> None:
    """Bytes of the outputs must not depend on the platform's encoding or line ends."""
    path = tmp_path / "a" / "b.txt"
    with written_aside(path) as file:
        file.write("é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert names(path.parent) == ["b.txt"]


def test_an_exception_leaves_the_old_file_and_nothing_aside(tmp_path: Path) -> None:
    """A stage that dies must not leave half a leaderboard, nor litter beside it."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="died"), written_aside(path) as file:
        file.write("new")
        raise RuntimeError("died")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_file_is_not_visible_before_it_is_whole(tmp_path: Path) -> None:
    """A reader (or a resumed run) takes existence for completeness."""
    path = tmp_path / "a.txt"
    with written_aside(path, binary=True) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"


def test_a_folder_replaces_the_earlier_one_whole(tmp_path: Path) -> None:
    """Files of the earlier folder must not survive beside the new ones."""
    path = tmp_path / "store"
    path.mkdir()
    (path / "stale").touch()
    with folder_written_aside(path) as aside:
        (aside / "fresh").touch()
        assert names(path) == ["stale"]
    assert names(path) == ["fresh"]
    assert names(tmp_path) == ["store"]


def test_what_killed_processes_have_left_aside_is_removed(tmp_path: Path) -> None:
    """Each kill while a Lucene index is built would otherwise cost its gigabytes for ever."""
    for name in (".index.1.part", ".index.2.part", ".index-b.3.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "large").write_text("x")
    with folder_written_aside(tmp_path / "index"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"index", ".index-b.3.part"}
    (tmp_path / ".[a].trec.7.part").write_text("x")
    (tmp_path / ".a.trec.7.part").write_text("x")
    forget_parts(tmp_path / "[a].trec")
    assert {path.name for path in tmp_path.iterdir()} == {"index", ".index-b.3.part", ".a.trec.7.part"}


def test_an_exception_leaves_the_old_folder_and_nothing_aside(tmp_path: Path) -> None:
    """An index build that fails must not cost the index that was there."""
    path = tmp_path / "store"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(RuntimeError), folder_written_aside(path) as aside:
        (aside / "new").touch()
        raise RuntimeError
    assert names(path) == ["old"]
    assert names(tmp_path) == ["store"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_disk_that_is_full_or_read_only_is_the_environments_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """Exit status 3 and a message that names the file, at whichever call the disk gives out."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(EnvironmentLack, match="a.txt") as caught, written_aside(tmp_path / "a.txt") as file:
        file.write("x")
    assert caught.value.exit_status == 3
    assert names(tmp_path) == []


def test_a_folder_on_a_full_disk_is_the_environments_lack(tmp_path: Path) -> None:
    """Index and store builders write into the folder by themselves; their OSError passes through the block."""
    with pytest.raises(EnvironmentLack, match="no space left"), folder_written_aside(tmp_path / "store") as aside:
        (aside / "half").touch()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_other_errors_of_the_system_are_not_dressed_up(tmp_path: Path) -> None:
    """A bad disk (EIO) is no lack of space; saying so would send the user the wrong way. A wrong call is a bug."""
    with pytest.raises(EnvironmentLack, match="Input/output error .*does not answer"), written_aside(tmp_path / "a.txt"):
        raise OSError(errno.EIO, "I/O error")
    with pytest.raises(OSError, match="Invalid"), written_aside(tmp_path / "a.txt"):
        raise OSError(errno.EINVAL, "Invalid argument")


def test_json_reads_back_equal_and_its_bytes_are_stable(tmp_path: Path) -> None:
    """leaderboard.json is promised byte-identical: insertion order, shortest floats that read back equal."""
    document = {"b": 0.1 + 0.2, "a": ["é", None, True], "c": {}}
    write_json(tmp_path / "a.json", document)
    assert read_json(tmp_path / "a.json") == document
    assert (tmp_path / "a.json").read_text(encoding="utf-8").startswith('{\n  "b": 0.30000000000000004,\n  "a": [\n    "é"')


def test_nan_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    """NaN is no JSON; other readers of the file would fail on it."""
    path = tmp_path / "a.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": float("nan")})
    assert read_json(path) == {"value": 1}
    assert names(tmp_path) == ["a.json"]


def test_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_keys_ignore_order_and_see_every_value() -> None:
    """Cache keys: the same settings typed in another order are the same; any other value is another key."""
    assert key_of({"a": 1, "b": [2, 3]}) == key_of({"b": [2, 3], "a": 1})
    others = [{"a": 1, "b": [3, 2]}, {"a": 1, "b": [2]}, {"a": "1", "b": [2, 3]}, {"a": 1.5, "b": [2, 3]}, {"a": 1}]
    assert len({key_of(document) for document in [{"a": 1, "b": [2, 3]}, *others]}) == 6
    assert len(key_of(None)) == 16


@pytest.mark.parametrize(
    ("name", "expected"),
    [("beir/nfcorpus/test", "beir-nfcorpus-test"), ("AP(rel=2)@1000", "AP-rel-2--1000"), ("a.b_c-D9", "a.b_c-D9"), ("é ü", "---")],
)
def test_file_names_follow_the_contract(name: str, expected: str) -> None:
    """Section 3: every character outside [A-Za-z0-9._-] becomes '-'."""
    assert file_name(name) == expected


def test_a_disk_that_fills_under_safetensors_is_the_environments_lack(tmp_path: Path) -> None:
    """safetensors' error is no OSError: a checkpoint on a full disk would look like a bug of ours. The text is a real one."""
    from safetensors import SafetensorError

    with pytest.raises(EnvironmentLack, match="no space left on the disk"), folder_written_aside(tmp_path / "model"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError, match="invalid header"), folder_written_aside(tmp_path / "model"):
        raise SafetensorError("Error while deserializing header: invalid header")
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, a disk that is always full, on this machine; Linux has it")
def test_a_disk_that_fills_under_torch_is_the_environments_lack(tmp_path: Path) -> None:
    """torch.save raises a RuntimeError of its own over the system's."""
    import torch

    with pytest.raises(EnvironmentLack, match="no space left on the disk"), folder_written_aside(tmp_path / "model"):
        with open("/dev/full", "wb") as file:
            torch.save({"a": torch.zeros(200_000)}, file)
    assert names(tmp_path) == []
