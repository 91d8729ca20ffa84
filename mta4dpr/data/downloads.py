"""The files that ir_datasets downloads for a corpus and its query sets: lists them with size and place, and fetches them ahead.

What a dataset needs is read off ir_datasets' own objects: each handler of passages, queries and judgements holds the downloads
it reads from. A file that ir_datasets fetches anew every time has its place under `downloads/MD5`, where ir_datasets looks first.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any
from urllib.parse import urlsplit

from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.files import forget_parts, written_aside
from mta4dpr.machine.progress import bar

log = logging.getLogger(__name__)

PASSAGES, QUERIES, JUDGEMENTS = "docs", "queries", "qrels"  # ir_datasets' words
BLOCK = 1 << 20
MEGABYTE = 1_000_000


@dataclass
class Download:
    """A file that ir_datasets fetches. `place` is where it is kept, relative to ir_datasets' home."""

    place: Path
    url: str  # empty where it must be obtained by hand
    bytes: int | None  # as ir_datasets expects
    md5: str | None
    licence: str
    passages: bool  # whether the passages come from it
    home: Path
    unpacked: list[Path] = field(default_factory=list)  # what ir_datasets makes of it and then reads instead
    migrators: list[Any] = field(default_factory=list)  # ir_datasets' objects that delete files which an older version of it made
    read_directly: bool = False  # some part of the data set reads the download itself, not what is unpacked from it
    mirrors: Sequence[Any] = ()

    @property
    def name(self) -> str:
        """Its place, or the file's name at its source where the place is named by a hash."""
        return self.url.rsplit("/", 1)[-1] if self.place.parent.name == "downloads" and self.url else self.place.as_posix()

    @property
    def host(self) -> str:
        """The server that it is downloaded from, for a user to read."""
        return urlsplit(self.url).netloc or "to be obtained by hand"

    @property
    def path(self) -> Path | None:
        """Where the file is on this machine, if it is."""
        places = (self.home / self.place, self.home / "downloads" / (self.md5 or "?"))
        return next((place for place in places if place.is_file()), None)

    @property
    def is_unpacked(self) -> bool:
        """Whether ir_datasets no longer needs the file, because everything that it reads has been unpacked from it already."""
        current = all(Path(m._version_file).is_file() and m._read_version() == m._version for m in self.migrators)
        return bool(self.unpacked) and not self.read_directly and current and all(path.exists() for path in self.unpacked)

    @property
    def here(self) -> bool:
        """Whether nothing needs to be downloaded: the file is here, or all that is read of it has been unpacked."""
        return self.path is not None or self.is_unpacked


def downloads_of(wanted: Sequence[tuple[Any, Sequence[str]]]) -> list[Download]:
    """The downloads behind parts (PASSAGES, QUERIES, JUDGEMENTS) of datasets of ir_datasets, each file once. Fetches nothing.

    What a dataset computes from another one by name (msmarco-passage/dev/2 does) cannot be seen.
    """
    import ir_datasets

    home = Path(ir_datasets.util.home_path())
    found: dict[Path, Download] = {}
    for dataset, parts in wanted:
        for part in parts:
            for inner, unpacked, migrators in _walk(_handler(dataset, part), None, (), set()):
                download = _described(inner, dataset, home)
                download = found.setdefault(download.place, download)
                download.passages |= part == PASSAGES
                download.migrators += [m for m in migrators if m not in download.migrators]
                if unpacked is None:
                    download.read_directly = True
                elif unpacked not in download.unpacked:
                    download.unpacked.append(unpacked)
    return list(found.values())


def docs_path(dataset: Any) -> Path | None:
    """The file that the passages are in, there or not; None for those in an archive. Unlike `dataset.docs_path()`, migrates nothing."""
    handler = getattr(_handler(dataset, PASSAGES), "_wrapped", _handler(dataset, PASSAGES))
    try:
        return Path(handler.docs_path(force=False))
    except (AttributeError, TypeError):
        return None


def corpus_id(dataset_id: str) -> str:
    """The shortest id of ir_datasets over the same passages. Unlike its own `docs_parent_id`, migrates nothing."""
    import ir_datasets

    passages, parts = _handler(ir_datasets.load(dataset_id), PASSAGES), dataset_id.split("/")
    known = set(ir_datasets.registry)
    above = ["/".join(parts[:length]) for length in range(1, len(parts))]
    return next((name for name in above if name in known and _handler(ir_datasets.load(name), PASSAGES) is passages), dataset_id)


def _handler(dataset: Any, part: str) -> Any:
    """What gives that part of a dataset; None where it has none. (`dataset.docs_handler()` would start to migrate files.)"""
    from ir_datasets.datasets.base import Dataset

    for constituent in dataset._constituents:
        if hasattr(constituent, f"{part}_handler"):
            return _handler(constituent, part) if isinstance(constituent, Dataset) else constituent
    return None


def _walk(
    thing: Any, unpacked: Path | None, migrators: tuple[Any, ...], seen: set[tuple[int, Path | None]]
) -> Iterator[tuple[Any, Path | None, tuple[Any, ...]]]:
    """(ir_datasets' Download, the file that is unpacked from it and read instead, migrators over it) of all that `thing` holds."""
    from ir_datasets.util import Cache, Download, Lazy, Migrator

    if (id(thing), unpacked) in seen:
        return
    seen.add((id(thing), unpacked))
    inner: Any = ()
    if isinstance(thing, Download):
        yield thing, unpacked, migrators
        return
    if isinstance(thing, list | tuple):
        inner = thing
    elif isinstance(thing, Lazy):
        inner = (thing._fn,)
    elif isinstance(thing, MethodType):
        inner = (thing.__self__,)
    elif isinstance(thing, FunctionType):  # the ids that a filter reads; what it looks up by name in a dict may be anything
        inner = [cell.cell_contents for cell in thing.__closure__ or () if not isinstance(cell.cell_contents, dict)]
    elif type(thing).__module__.startswith(("ir_datasets.", "mta4dpr.")) and not isinstance(thing, type):
        if isinstance(thing, Cache):
            unpacked = Path(thing._path)
        if isinstance(thing, Migrator):
            migrators = (*migrators, thing)
        inner = vars(thing).values()
    for part in inner:
        yield from _walk(part, unpacked, migrators, seen)


def _described(download: Any, dataset: Any, home: Path) -> Download:
    urls = [mirror.url for mirror in download.mirrors if hasattr(mirror, "url")]
    place = Path("downloads") / (download.expected_md5 or hashlib.md5(str(urls).encode(), usedforsecurity=False).hexdigest())
    if download._cache_path is not None:
        kept = Path(download._cache_path)
        place = kept.relative_to(home) if kept.is_relative_to(home) else kept
    return Download(
        place=place,
        url=urls[0] if urls else "",
        bytes=download._size_hint,
        md5=download.expected_md5,
        licence=_licence(download, dataset),
        passages=False,
        home=home,
        mirrors=download.mirrors,
    )


def _licence(download: Any, dataset: Any) -> str:
    """What ir_datasets says of the terms: the agreement that it shows before a download, or its documentation."""
    text = download.dua or ""
    if not text and hasattr(dataset, "documentation"):
        described = str((dataset.documentation() or {}).get("desc", ""))
        sentences = re.split(r"(?<=[.!?])\s", re.sub(r"<[^>]+>", "", described))
        text = next((s for s in sentences if re.search(r"licen[cs]e|creative commons", s, re.IGNORECASE)), "")
    return " ".join(text.split()) or "not stated"


# --- bringing ------------------------------------------------------------------------------------------------------


def hashes_of(path: Path) -> tuple[str, str]:
    """(SHA-256, MD5) of a file, read once."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            md5.update(block)
    return sha256.hexdigest(), md5.hexdigest()


def bring(download: Download, home: Path, *, offline: bool) -> tuple[Path, str, str]:
    """Sees to it that the file is under `home` with the MD5 that ir_datasets expects: (path, SHA-256, what was done).

    A file that is there and right stays; one that is not is replaced, once another is there. What ir_datasets' own home has is
    copied; what was done is "was here", "copied" or "downloaded". EnvironmentLack where no source gives the right bytes.
    """
    target = home / download.place
    problem = ""
    for place in dict.fromkeys([target, *([download.path] if download.path and home == download.home else [])]):
        if place.is_file():
            sha256, md5 = hashes_of(place)
            if download.md5 in (None, md5):
                _declare_current(download, home)
                return place, sha256, "was here"
            problem = f"{place} is there, but its MD5 is {md5}, expected {download.md5}. "
    sha256, source = _copy(download, target, problem, offline=offline)
    _declare_current(download, home)
    return target, sha256, source


def _copy(download: Download, target: Path, problem: str, *, offline: bool) -> tuple[str, str]:
    """Writes the file to `target` from the first source that gives the right bytes; (SHA-256, 'copied' or 'downloaded')."""
    from ir_datasets.util import LocalDownload

    forget_parts(target)
    own = [LocalDownload(download.path, mkdir=False)] if download.path not in (None, target) else []
    reasons, advice = [], ""
    for mirror in [*own, *download.mirrors]:
        local = isinstance(mirror, LocalDownload)
        if local and not mirror.path(force=False).is_file():
            advice = " ".join((mirror._message or "").split()) if not download.url else ""
            continue
        if not local and offline:
            reasons.append("--offline forbids to download it")
            break
        try:
            return _stream(mirror, download, target), "copied" if local else "downloaded"
        except UserError:
            raise
        except (OSError, RuntimeError, EOFError) as error:  # requests' errors and a wrong hash are OSErrors
            reasons.append(f"{getattr(mirror, 'url', 'a local copy')}: {' '.join(str(error).split())[:160] or type(error).__name__}")
    why = "; ".join(reasons) or advice or "no source is known"
    raise EnvironmentLack(
        f"{problem}{download.name} could not be brought ({why}). Check the network and start again (what is complete stays), or put the "
        f"file yourself at {target}"
    )


def _stream(mirror: Any, download: Download, target: Path) -> str:
    """Copies one source to `target` through ir_datasets' hash check; the SHA-256."""
    from ir_datasets.util import HashStream
    from ir_datasets.util import download as theirs

    os.environ.setdefault("IR_DATASETS_DL_DISABLE_PBAR", "true")  # progress is shown here
    theirs._logger.logger().setLevel(logging.WARNING)
    sha256 = hashlib.sha256()
    total = -(-download.bytes // MEGABYTE) if download.bytes else None
    with written_aside(target, binary=True) as file, bar(total, download.name, "MB") as shown:
        with mirror.stream() as raw:
            stream, copied = HashStream(raw, download.md5), 0
            while block := stream.read(BLOCK):
                sha256.update(block)
                file.write(block)
                shown.advance((copied + len(block)) // MEGABYTE - copied // MEGABYTE)
                copied += len(block)
    return sha256.hexdigest()


def _declare_current(download: Download, home: Path) -> None:
    """Writes the version file that keeps ir_datasets from deleting this file as one that an older version of it had made."""
    for migrator in download.migrators:
        affected = {_under(home, path, download) for path in migrator._affected_files}
        word = _under(home, migrator._version_file, download)
        if home / download.place in affected and not word.exists() and not any(p.exists() for p in affected - {home / download.place}):
            with written_aside(word) as file:
                file.write(migrator._version)


def _under(home: Path, path: Path | str, download: Download) -> Path:
    return home / Path(path).relative_to(download.home)


def copy_unpacked(download: Download, home: Path) -> list[Path]:
    """Copies to `home` what was unpacked from a download that is itself gone from this machine; the paths of the copies."""
    words = [Path(migrator._version_file) for migrator in download.migrators]
    for path in [*words, *download.unpacked]:
        target = _under(home, path, download)
        if not target.exists():
            with written_aside(target, binary=True) as file, open(path, "rb") as source:
                shutil.copyfileobj(source, file)
    return [_under(home, path, download) for path in download.unpacked]
