"""Files that are never half-written: everything is written aside and renamed. Also hashes and file names."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mta4dpr.errors import UserError
from mta4dpr.machine.system_errors import lack_of_disk, system_error_of


@contextmanager
def written_aside(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Opens a file next to `path`; renames it to `path` when the block ends well, removes it otherwise.

    EnvironmentLack when the disk takes no more, UserError for what the block cannot read.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") if binary else open(aside, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except Exception as error:
        _raise_lack(error, path)
        raise
    finally:
        with suppress(OSError):  # what stopped the writing is what is told
            aside.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(path: Path) -> Iterator[Path]:
    """Like `written_aside`, for a folder; an existing folder at `path` is replaced. Nobody else may write it at the same time."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    forget_parts(path)
    try:
        aside.mkdir(parents=True)
        yield aside
        _reach_the_disk(aside)
        if path.exists():
            shutil.rmtree(path)
        os.replace(aside, path)
    except Exception as error:
        _raise_lack(error, path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _raise_lack(error: Exception, path: Path) -> None:
    """Raises what the system's error means. That of safetensors and torch on a full disk is no OSError: the one behind it is looked for."""
    behind = error if isinstance(error, OSError) else system_error_of(error)
    if behind is None or isinstance(error, UserError):
        return
    lack = lack_of_disk(behind, path)
    if isinstance(lack, UserError):
        raise lack from error


def _reach_the_disk(folder: Path) -> None:
    """A power cut after the renaming would leave files of zeros otherwise."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def forget_parts(path: Path) -> None:
    """Removes what killed processes have left of writing `path` aside, which nobody else may be writing now."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def copy_folder(source: Path, target: Path, *, leave_out: tuple[str, ...] = ()) -> None:
    """Copies the files of a folder, without those names. OSError as the system gives it, unlike shutil.copytree's list of texts."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name not in leave_out:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def write_json(path: Path, document: Any) -> None:
    """Stable bytes: insertion order, two spaces, shortest floats that read back equal, no NaN."""
    with written_aside(path) as file:
        json.dump(document, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """The document in a JSON file. OSError and ValueError as Python raises them."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(document: Any) -> str:
    """A 16-digit key of anything JSON can hold; equal documents have equal keys."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_name(name: str) -> str:
    """`name` as a file name: every character outside [A-Za-z0-9._-] becomes '-'."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)
