"""`verify DIR` and `verify --cache`: whether all that a run's folder or the cache keeps is what was written.

Reads every byte and mends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.ledger import Ledger
from mta4dpr.machine import environment
from mta4dpr.machine.kept import SUMS, changed, files_of, is_whole, read_sealed
from mta4dpr.machine.places import indexes_home
from mta4dpr.machine.progress import track
from mta4dpr.retrieval.vectors import damage

VECTORS = "vectors.json"  # marks a folder of vectors, which has checksums of its own
AGAIN = {
    "corpora": "read again from its source",
    "tokens": "tokenised again",
    "bm25": "indexed again",
    "mining": "mined again",
    "pairs": "scored again",
    "vectors": "encoded again",
    "prebuilt": "refused; delete Pyserini's folder, and it is downloaded again",
}


class Kept(TypedDict):
    """A thing that is kept: its files, what is broken of it, and what the next run that needs it does about that."""

    what: str
    files: int
    bytes: int
    broken: list[str]
    again: str


class Verified(TypedDict):
    """What `verify` says of a folder."""

    path: str
    rows: list[Kept]
    unknown: list[str]  # files that nothing vouches for


@dataclass(frozen=True)
class _Thing:
    """A folder that has checksums, or a stage's files."""

    what: str
    files: list[Path]
    broken: list[str]
    again: str


def is_run(folder: Path) -> bool:
    """Whether that is the folder of a run; a model has no ledger."""
    return Folder(folder).ledger.is_file()


def verify_run(folder: Path) -> Verified:
    """Compares every file of a run's folder with the ledger, or with the checksums beside it. UserError for no run's folder."""
    if not is_run(folder):
        raise UserError(f"expected the folder of a run, found no ledger.json in {folder}; give the folder that `mta4dpr-bench run` wrote")
    things = [*_documents(Folder(folder)), *_stages(folder), *_folders(folder, {})]
    return _verified(folder, things)


def verify_cache() -> Verified:
    """Compares every file of the cache with the checksums that it was kept with."""
    cache = environment.cache_folder()
    if not cache.is_dir():
        raise UserError(f"there is no cache at {cache}; MTA4DPR_CACHE says where it is")
    return _verified(cache, list(_folders(cache, AGAIN)))


def check_kept(kept: Verified) -> None:
    """EnvironmentLack where something is not what was written."""
    broken = [row["what"] for row in kept["rows"] if row["broken"]]
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise EnvironmentLack(
            f"{len(broken)} of the {len(kept['rows'])} things kept in {kept['path']} are not what was written there: "
            f"{', '.join(broken[:3])}{more}; the next run that needs one makes it again or says what to delete"
        )


def _verified(folder: Path, things: list[_Thing]) -> Verified:
    rows: list[Kept] = [
        {
            "what": thing.what,
            "files": len(thing.files),
            "bytes": sum(path.stat().st_size for path in thing.files if path.exists()),
            "broken": thing.broken,
            "again": thing.again if thing.broken else "",
        }
        for thing in things
    ]
    known = {path for thing in things for path in thing.files}
    return {"path": str(folder), "rows": rows, "unknown": sorted(_unknown(folder, known))}


def _documents(folder: Folder) -> Iterator[_Thing]:
    """Those that have a checksum of their own."""
    again = {
        folder.manifest: "refused, with what to delete",
        folder.ledger: "refused, with what to delete",
        folder.efficiency: "taken again",
    }
    for path in again:
        try:
            read_sealed(path, otherwise="")
            broken = []
        except (UserError, FileNotFoundError):
            broken = [path.name]
        yield _Thing(path.name, [path], broken, again[path])


def _stages(folder: Path) -> Iterator[_Thing]:
    ledger = Ledger(folder)
    for stage, record in track(ledger.stages.items(), f"verify {folder}", "stages"):
        outputs = [folder / name for name in record.get("outputs", {})]
        if outputs:
            broken = [path.relative_to(folder).as_posix() for path in ledger.changed(stage, by_content=True)]
            yield _Thing(str(stage), outputs, broken, "done again, with what follows from it")
        logs = [folder / name for name in record.get("logs", {})]
        if logs:
            broken = [path.relative_to(folder).as_posix() for path in ledger.changed_logs(stage, by_content=True)]
            yield _Thing(f"logs of {stage}", [path for path in logs if path.exists()], broken, "removed, as no result rests on them")


def _folders(root: Path, again: dict[str, str]) -> Iterator[_Thing]:
    """Sealed folders and vectors, wherever they are below `root`."""
    places = sorted({path.parent for name in (SUMS, VECTORS) for path in root.rglob(name)})
    for place in track(places, f"verify {root}", "folders"):
        name = place.relative_to(root).as_posix()
        what = again.get(name.split("/")[0], "made again")
        if (place / VECTORS).exists():
            files = [place / VECTORS, place / "vectors.npy", *sorted((place / "shards").glob("*.json"))]
            yield _Thing(name, files, damage(place), what)
        elif name.startswith("prebuilt/"):
            theirs = next((indexes_home() / "indexes").glob(f"*.{place.name}"), None)
            broken = changed(theirs, by_content=True, sums=place) if theirs else []
            yield _Thing(name, [place / SUMS], broken, what)
        else:
            whole = is_whole(place, by_content=True)
            broken = [] if whole else changed(place, by_content=True) or ["a file that was not written there"]
            yield _Thing(name, [place / SUMS, *(place / file for file in files_of(place))], broken, what)


def _unknown(folder: Path, known: set[Path]) -> Iterator[str]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and path not in known and not hidden and path.suffix != ".lock":
            yield path.relative_to(folder).as_posix()
