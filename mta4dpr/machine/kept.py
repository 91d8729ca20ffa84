"""Whether what is kept on disk is still what was written: one way for stores, tokens, rankings, indexes, models and run folders.

A sealed folder has the checksums of its files beside them, and the stamps that the files had when they were last compared:

    SHA256SUMS          in sha256sum's format: `sha256sum -c SHA256SUMS` says the same
    .stamps.json        {file: [bytes, mtime, ctime, inode]}; of this machine, made again where it is gone

A file whose stamp is the noted one is taken for unchanged, as the system sets ctime anew for whatever writes to it, also where the
time of the change is put back. Any other is read and its checksum compared, once a process. `by_content` reads in any case: that also
finds what a disk has lost by itself. Knows nothing of what the files are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mta4dpr.errors import UserError
from mta4dpr.machine.files import folder_written_aside, key_of, read_json, sha256_of_file, write_json

log = logging.getLogger(__name__)

SUMS, STAMPS = "SHA256SUMS", ".stamps.json"
OF_NOBODY = (SUMS, "README.md")  # a card is for people, who may change it
SEAL = "seal"  # the key of a document's own checksum
_read: dict[Path, tuple[list[int], str]] = {}  # what this process has read: stamp and checksum


def stamp(path: Path) -> list[int]:
    """Bytes, time of change, time of the inode's change (both in ns) and inode of a file."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def checksum(path: Path) -> str:
    """SHA-256 of a file, which is read once a process, or again when its stamp has changed."""
    now = stamp(path)
    known = _read.get(path)
    if known is None or known[0] != now:
        _read[path] = known = (now, sha256_of_file(path))
    return known[1]


def is_same(path: Path, sha256: str, noted: list[int] | None, *, by_content: bool = False) -> bool:
    """Whether a file has that checksum: by its stamp where it is the noted one, else by its content. False for one that is gone."""
    try:
        return (noted == stamp(path) and not by_content) or checksum(path) == sha256
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


@contextmanager
def sealed_folder(path: Path) -> Iterator[Path]:
    """Like `folder_written_aside`; the folder is sealed when the block ends."""
    with folder_written_aside(path) as aside:
        yield aside
        seal(aside)


def seal(folder: Path, *, into: Path | None = None, stamps: bool = True) -> None:
    """Notes checksums of a folder's files, in the folder or in another one, `into`, where it is somebody else's.

    Without `stamps` those are left out, for a folder that goes to other machines.
    """
    names = files_of(folder)
    place = into or folder
    place.mkdir(parents=True, exist_ok=True)
    (place / SUMS).write_text("".join(f"{checksum(folder / name)}  {name}\n" for name in names), encoding="utf-8")
    if stamps:
        write_json(place / STAMPS, {name: stamp(folder / name) for name in names})


def is_whole(folder: Path, *, by_content: bool = False, sums: Path | None = None, otherwise: str = "") -> bool:
    """Whether a sealed folder has exactly the files that were sealed, as they were; False for any other folder.

    `sums` is the folder that `seal` was given as `into`. `otherwise` is what the caller does about a folder that is not whole: a
    warning says why, and that.
    """
    if not folder.is_dir():
        return False
    if not is_sealed(sums or folder):
        why = "was kept without checksums, as earlier versions did"
    else:
        broken = changed(folder, by_content=by_content, sums=sums) or sorted(set(_sums(sums or folder)) ^ set(files_of(folder)))
        why = f"is not what was written there ({', '.join(broken[:3])})" if broken else ""
    if why and otherwise:
        log.warning("%s %s; %s", folder, why, otherwise)
    return not why


def changed(folder: Path, *, by_content: bool = False, sums: Path | None = None) -> list[str]:
    """Sealed files of a folder that are gone or not as they were; SHA256SUMS itself where the folder has none that can be read."""
    place = sums or folder
    try:
        of_files, noted = _sums(place), _stamps(place)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return [SUMS]
    broken = [name for name, sha256 in of_files.items() if not is_same(folder / name, sha256, noted.get(name), by_content=by_content)]
    if not broken:
        now = {name: stamp(folder / name) for name in of_files}
        if now != noted:
            with suppress(Exception):  # a cache that cannot be written is read again by each process
                write_json(place / STAMPS, now)
    return broken if of_files else [SUMS]


def files_of(folder: Path) -> list[str]:
    """Names of all files of a folder, without SHA256SUMS, README.md, locks and what begins with a point."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in OF_NOBODY and path.suffix != ".lock"]
    names = [path.relative_to(folder) for path in files]
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def write_sealed(path: Path, document: Mapping[str, Any]) -> None:
    """Writes a JSON document with a checksum of all else in it, for a file that is rewritten too often for a ledger."""
    plain = json.loads(json.dumps(document))
    write_json(path, {**plain, SEAL: key_of(plain)})


def read_sealed(path: Path, *, otherwise: str, shape: Any = None) -> dict[str, Any]:
    """Such a document without the checksum. UserError with `otherwise`, what can be done, for one that is not what was written.

    Earlier versions wrote none; theirs is taken as it is, if it is a JSON object, and has the types of `shape` (a TypedDict).
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        document = read_json(path)
        if not isinstance(document, dict):
            raise ValueError(f"a JSON object was expected, found {type(document).__name__}")
        seal = document.pop(SEAL, None)
        if seal is not None and seal != key_of(document):
            raise ValueError(f"its content does not go with its {SEAL}")
        if shape is not None:
            json.dumps(document, allow_nan=False)
            TypeAdapter(shape).validate_python(document, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{path} is not what was written there ({why}); {otherwise}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not what was written there ({error}); {otherwise}") from error
    return document


def is_sealed(folder: Path) -> bool:
    """Whether a folder has checksums of its files."""
    return (folder / SUMS).exists()


def unseal(folder: Path) -> None:
    """Makes a folder one that is not whole, whatever is in it, for all processes that look from now on."""
    (folder / SUMS).unlink(missing_ok=True)


def _sums(place: Path) -> dict[str, str]:
    lines = [line.partition("  ") for line in (place / SUMS).read_text(encoding="utf-8").splitlines()]
    return {name: sha256 for sha256, _, name in lines}


def _stamps(place: Path) -> Mapping[str, list[int]]:
    try:
        document = read_json(place / STAMPS)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
