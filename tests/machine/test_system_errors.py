"""What the operating system's errors mean: written or read, whose place, which exit status."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.files import folder_written_aside, write_json, written_aside
from mta4dpr.machine.system_errors import explained, lack_of_disk, system_error_of, unreadable


def error_of(number: int, *paths: Path) -> OSError:
    return OSError(number, os.strerror(number), *map(str, paths))


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "no space left on the disk while writing /c/index; free some space"),
        (errno.EDQUOT, "no space left .* .your quota is used up."),
        (errno.EFBIG, "/c/index would be larger than a file may be here; raise the limit .ulimit -f."),
        (errno.EROFS, "/c/index cannot be written .Read-only file system.; choose another place"),
        (errno.EACCES, "/c/index cannot be written .Permission denied."),
        (errno.EPERM, "/c/index cannot be written"),
        (errno.ENOTDIR, "/c/index cannot be written .Not a directory."),
        (errno.EISDIR, "/c/index cannot be written"),
        (errno.ENAMETOOLONG, "/c/index cannot be written .File name too long."),
        (errno.ELOOP, "/c/index cannot be written"),
        (errno.EMFILE, "Too many open files while /c/index was written; raise the limit .ulimit -n."),
        (errno.EIO, "while /c/index was written: the disk or network does not answer"),
        (errno.ESTALE, "the disk or network does not answer"),
    ],
)
def test_what_stops_the_writing_is_the_machines_lack(number: int, told: str) -> None:
    """One sentence each, exit status 3, with the place under the name that it will have, not that of the file aside."""
    for place in ("/c/index", "/c/.index.123.part"):
        for named in ((), ("/c/.index.123.part/x",), ("/c",), ("/c/index",)):
            lack = lack_of_disk(error_of(number, *map(Path, named)), Path(place))
            assert isinstance(lack, EnvironmentLack), named
            with pytest.raises(EnvironmentLack, match=told):
                raise lack


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG])
def test_what_is_read_meanwhile_is_not_called_unwritable(number: int) -> None:
    """A block that writes the store reads the corpus: of a corpus without permission a user must not be told to choose another output."""
    for named in ("/data/corpus.jsonl", "/c/other", "/c/index-b/x"):
        with pytest.raises(UserError, match=f"^{named} cannot be read") as caught:
            raise lack_of_disk(error_of(number, Path(named)), Path("/c/index"))
        assert caught.value.exit_status == 2
    with pytest.raises(EnvironmentLack, match="Input/output error while /data/corpus.jsonl was read"):
        raise lack_of_disk(error_of(errno.EIO, Path("/data/corpus.jsonl")), Path("/c/index"))


def test_a_copy_that_fills_the_disk_names_its_source_in_the_error() -> None:
    """shutil.copyfile's error has the source first: that the disk takes no more is about the target nevertheless."""
    lack = lack_of_disk(error_of(errno.ENOSPC, Path("/models/a"), Path("/c/index/a")), Path("/c/index"))
    assert str(lack).startswith("no space left on the disk while writing /c/index")


def test_other_errors_stay_what_they_are() -> None:
    """A wrong call of ours is no lack of the machine."""
    for error in (OSError(errno.EINVAL, "Invalid argument"), OSError("no number"), BlockingIOError(errno.EAGAIN, "again")):
        assert lack_of_disk(error, Path("a")) is error
        assert unreadable(error, Path("a")) is error
        assert explained(error) is error


def test_an_error_of_which_nothing_else_is_known_is_told_by_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "x"
    assert str(explained(error_of(errno.ENOTDIR, path))).startswith(f"{path} cannot be used (Not a directory)")
    assert str(explained(error_of(errno.ENOENT, tmp_path / "gone"))).startswith(f"{tmp_path / 'gone'} cannot be read")
    assert str(explained(error_of(errno.EACCES, tmp_path / "new"))).startswith(f"{tmp_path / 'new'} cannot be written")
    assert str(explained(error_of(errno.EMFILE))).startswith("Too many open files while a file was read or written")
    assert "TMPDIR" in str(explained(error_of(errno.ENOSPC)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; run the tests as another user")
def test_a_file_without_permission_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").touch(0o000)
    with pytest.raises(PermissionError) as caught:
        (tmp_path / "a").read_text()
    assert str(explained(caught.value)).startswith(f"{tmp_path / 'a'} cannot be read (Permission denied)")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("I/O error: File too large (os error 27)", errno.EFBIG),
        ("could not open index for writing: No space left on device", errno.ENOSPC),
        ("cannot open shared object file: Too many open files", errno.EMFILE),
    ],
)
def test_a_librarys_own_error_quotes_the_systems(text: str, number: int) -> None:
    """safetensors, FAISS and the loader of libraries raise types of their own."""
    found = system_error_of(RuntimeError(text))
    assert found is not None
    assert found.errno == number
    assert system_error_of(RuntimeError("shapes do not match")) is None


def test_a_mistake_in_code_is_no_error_of_the_system() -> None:
    """A KeyError while the absence of a file is handled is a bug, and says so."""
    for mistake, is_one in ((KeyError("a"), True), (RuntimeError("writer failed"), False)):
        mistake.__context__ = error_of(errno.ENOENT, Path("a"))
        assert (system_error_of(mistake) is None) is is_one


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, a disk that is always full, on this machine; Linux has it")
def test_arrays_on_a_full_disk_are_the_machines_lack(tmp_path: Path) -> None:
    """numpy writes a large array past Python, and its error has no number."""
    with pytest.raises(EnvironmentLack, match="no space left on the disk while writing .*store"), folder_written_aside(tmp_path / "store"):
        with open("/dev/full", "wb") as file:
            np.save(file, np.zeros(200_000))


def test_a_place_below_a_file_or_with_too_long_a_name_is_told(tmp_path: Path) -> None:
    """What is removed at the end is not there either; that must not hide the reason."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.json", tmp_path / ("n" * 300)):
        with pytest.raises(EnvironmentLack, match=r"cannot be written \((Not a directory|File name too long)\)"):
            write_json(path, {})
        with pytest.raises(EnvironmentLack, match="cannot be written"), folder_written_aside(path):
            pass


def test_a_users_error_passes_through_a_block_that_writes(tmp_path: Path) -> None:
    """A mistake in a line of the corpus, told while an OSError is handled, is not the disk's."""
    with pytest.raises(UserError, match="^line 3$"), written_aside(tmp_path / "a"):
        try:
            raise error_of(errno.ENOSPC)
        except OSError as error:
            raise UserError("line 3") from error
