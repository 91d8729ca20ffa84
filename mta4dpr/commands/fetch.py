"""`fetch`: the data and models of a benchmark ahead, with their hashes and licences; or a folder of them for a machine without a network.

What is needed stands in planning/needs.py. Without a folder, files go where `run` looks for them: ir_datasets' home and the hub's
cache. With one, it holds all of them, also what this machine had already, and says what to set:

    DIR/ir_datasets/        a home of ir_datasets       (IR_DATASETS_HOME)
    DIR/models/NAME/        a folder a model            (MTA4DPR_MODELS)
    DIR/pyserini/           prebuilt indexes, if any    (PYSERINI_CACHE)
    DIR/fetched.json        files, bytes, hashes, licences
    DIR/README.txt          what to set and run
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mta4dpr.data.downloads import Download, bring, copy_unpacked, hashes_of
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.machine import environment
from mta4dpr.machine.files import folder_written_aside, lack_of_disk, read_json, write_json, written_aside
from mta4dpr.machine.places import DATA, INDEXES, MODELS, SETTINGS, data_home, disk_lack, indexes_home, models_home
from mta4dpr.models.files import find_model, snapshot
from mta4dpr.models.registry import UNSTATED, checkpoint_of, hub_of, package_of
from mta4dpr.planning.needs import Needs

if TYPE_CHECKING:
    from mta4dpr.retrieval.prebuilt import Prebuilt

log = logging.getLogger(__name__)

CARD = "README.md"
HUB = "the Hugging Face hub"
VARIABLES = {
    "IR_DATASETS_HOME": "ir_datasets",
    "IR_DATASETS_SMALL_FILE_SIZE": "0",
    "MTA4DPR_MODELS": "models",
    "PYSERINI_CACHE": "pyserini",
}
LEFT_OUT = (".cache", ".git")  # folders of tools beside a model's files


@dataclass(frozen=True)
class File:
    """A file that is there and right, as far as anyone says what is right (`checked_by`, empty where nobody does)."""

    path: str
    bytes: int
    sha256: str
    md5: str | None  # where the source gives one, and it is this file's
    checked_by: str
    of: str
    source: str
    licence: str
    state: str  # was here, copied, downloaded


def fetch(request: Request, *, to: Path | None) -> dict[str, Any]:
    """{"benchmark", "folder", "environment", "files", "notes", "summary"}. EnvironmentLack for what cannot be brought."""
    experiment = open_experiment(request)
    needs = Needs(experiment)
    to = to.resolve() if to else None
    home, models = (to / "ir_datasets", to / "models") if to else (data_home(), None)
    if home == data_home().resolve():
        home = data_home()
    known = _known_files(to) if to else {}
    _check_disk(needs, to, home, models)
    files, notes = [], _local_inputs(needs)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(str(home / ".mta4dpr-fetch.lock")):
        for download in needs.sizes.downloads:
            files += _bring_data(download, home, offline=request.offline)
        for name in sorted({spec.model for spec in needs.models().values()}):
            files += _bring_model(name, models, known, offline=request.offline)
        for prebuilt in needs.indexes:
            files += _bring_index(prebuilt, to / "pyserini" if to else None, known, offline=request.offline)
    files = [_relative(file, to) for file in files]
    variables = {name: str(to / value) if value != "0" else value for name, value in VARIABLES.items()} if to and files else {}
    document = {
        "benchmark": experiment.bench.name,
        "folder": str(to) if to else None,
        "environment": variables,
        "files": [asdict(file) for file in files],
        "notes": notes,
        "summary": _summary(files, experiment.bench.name, to),
    }
    if to and files:
        _write_about(to, document, known)
    return document


def _check_disk(needs: Needs, to: Path | None, home: Path, models: Path | None) -> None:
    """Room for what is not in its place yet."""
    data = sum(d.bytes or 0 for d in needs.sizes.downloads if not (home / d.place).exists() and (to or not d.here))
    rows = [
        row
        for row in needs.model_downloads()
        if (not (models / _folder_name(row["what"])).exists() if models else row["state"] == "download")
    ]
    there = (to or Path()) / "pyserini" / "indexes"
    missing = [p for p in needs.indexes if (not list(there.glob(f"*.{p.md5}")) if to else p.folder is None)]
    needed = {DATA: data, MODELS: sum(row["bytes"] or 0 for row in rows), INDEXES: 2 * sum(p.bytes for p in missing)}
    places = {DATA: home, MODELS: models or models_home(), INDEXES: there if to else indexes_home()}
    lacking = disk_lack(needed, places, settings=dict.fromkeys(needed, "--to") if to else SETTINGS)
    if lacking:
        raise EnvironmentLack("; ".join(lacking) + ". Free some space, or fetch to another disk with --to DIR")


def _local_inputs(needs: Needs) -> list[str]:
    """What a run reads from this machine's own folders, which nobody else has."""
    bench, source = needs.experiment.bench, needs.experiment.source
    notes = [f"the corpus is the folder {Path(source.identity['folder'])}: take it along yourself"] if "folder" in source.identity else []
    tables = sorted({spec.scores for spec in bench.models.values() if spec.scores})
    return notes + [f"the scores {table} are a local file: take it along yourself" for table in tables]


# --- data ----------------------------------------------------------------------------------------------------------


def _bring_data(download: Download, home: Path, *, offline: bool) -> list[File]:
    of = download.unpacked[0].relative_to(download.home).parts[0] if download.unpacked else download.place.parts[0]
    source, licence = download.url or "by hand", download.licence
    if download.path is None and download.is_unpacked:
        paths = download.unpacked if home == download.home else copy_unpacked(download, home)
        state = "was here" if home == download.home else "copied"
        return [File(str(p), p.stat().st_size, hashes_of(p)[0], None, "", of, f"unpacked from {source}", licence, state) for p in paths]
    path, sha256, state = bring(download, home, offline=offline)
    checked_by = "its source" if download.md5 else ""
    return [File(str(path), path.stat().st_size, sha256, download.md5, checked_by, of, source, licence, state)]


# --- models --------------------------------------------------------------------------------------------------------


class BrokenFile(EnvironmentLack):
    """A file of a model whose bytes are not those that it should have."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


def _folder_name(name: str) -> str:
    """Where find_model looks for it under MTA4DPR_MODELS; a path is known by its last part."""
    return Path(name).name if Path(name).is_absolute() or name.startswith(".") else name


def _bring_model(name: str, models: Path | None, known: dict[str, dict[str, Any]], *, offline: bool) -> list[File]:
    """The files of one model: in the hub's cache, or copied or downloaded to its folder under `models`. A broken one is brought again."""
    try:
        return _model_files(name, models, known, offline=offline)
    except BrokenFile as broken:
        log.warning("%s; bringing it again", broken)
        for path in {broken.path, broken.path.resolve()}:
            path.unlink(missing_ok=True)
        return _model_files(name, models, known, offline=offline)


def _model_files(name: str, models: Path | None, known: dict[str, dict[str, Any]], *, offline: bool) -> list[File]:
    try:
        folder, where = find_model(name, offline=True)
    except UserError:
        folder, where = None, HUB
    if models is not None:
        target = models / _folder_name(name)
        noted = [path for path in known if Path(path).is_relative_to(target)]
        if noted and all(Path(path).is_file() for path in noted):
            return _files_of(target, name, "was here", known)
        if folder is not None and folder.resolve() != target.resolve():
            _files_of(folder, name, "", {})  # what is broken here is not worth copying
            with folder_written_aside(target) as aside:
                shutil.copytree(folder, aside, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
            return _files_of(target, name, "copied", {}, where)
        if folder is None or (folder / ".cache" / "huggingface").is_dir():  # the latter may have been cut off
            return _files_of(_from_hub(name, target, offline=offline), name, "downloaded", {}, HUB)
    elif folder is None:
        return _files_of(_from_hub(name, None, offline=offline), name, "downloaded", {}, HUB)
    elif where == HUB and not offline:
        folder = _from_hub(name, None, offline=False)  # what a download that was cut off lacks, and the card
    return _files_of(folder, name, "was here", {}, where)


def _from_hub(name: str, target: Path | None, *, offline: bool) -> Path:
    """From the hub, at the known revision; goes on with what is there already."""
    if offline:
        raise EnvironmentLack(
            f"the model {name!r} is not on this machine, and --offline forbids to download it; fetch it where there is a network"
        )
    hub = hub_of(name)
    try:
        return snapshot(hub, offline=False, folder=target, also=[CARD])
    except OSError as error:
        if error.errno is not None:
            raise lack_of_disk(error, target or models_home()) from error
        raise _no_answer(name, hub, error) from error
    except Exception as error:
        raise _no_answer(name, hub, error) from error


def _no_answer(name: str, hub: str, error: Exception) -> EnvironmentLack:
    reason = " ".join(str(error).split())[:200]
    return EnvironmentLack(
        f"the Hugging Face hub did not give {hub!r} ({reason}). Check the network (HF_ENDPOINT names a mirror) and start again: what "
        f"is complete stays; or put the model as a folder {_folder_name(name)} into MTA4DPR_MODELS"
    )


def _files_of(folder: Path, name: str, state: str, known: dict[str, dict[str, Any]], where: str = "") -> list[File]:
    """Every file of a model with its hash, compared with what the hub, the package or an earlier fetch says of it."""
    licence, source = _licence(folder, name), f"{hub_of(name)}, from {where}" if where and where != HUB else hub_of(name)
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not set(LEFT_OUT) & set(path.relative_to(folder).parts)):
        sha256 = hashes_of(path)[0]
        expected, by = _expected(path, folder, name, where, known)
        if expected and expected != sha256:
            raise BrokenFile(path, f"{path} is broken: its SHA-256 is {sha256}, expected {expected} ({by})")
        files.append(File(str(path), path.stat().st_size, sha256, None, by, name, source, licence, state))
    return files


def _expected(path: Path, folder: Path, name: str, where: str, known: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """(SHA-256, who says so) of a model's file; the hub names its large files by it."""
    if str(path) in known:
        return str(known[str(path)]["sha256"]), "an earlier fetch"
    package = package_of(name)
    if package and where == f"the package {package.name}" and path.name == "model.safetensors":
        return package.sha256, "the published hash"
    etag = path.resolve().name if path.is_symlink() else ""  # the hub's cache
    note = folder / ".cache" / "huggingface" / "download" / f"{path.relative_to(folder)}.metadata"
    if note.is_file():  # commit, ETag, time
        etag = [*note.read_text().splitlines(), "", ""][1]
    return (etag, "the hub") if re.fullmatch(r"[0-9a-f]{64}", etag) else ("", "")


def _licence(folder: Path, name: str) -> str:
    """As the model's card says, else as it is known."""
    card = folder / CARD
    head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL) if card.is_file() else None
    found = re.search(r"^license:\s*(\S.*)$", head[1], re.MULTILINE) if head else None
    if found:
        return found[1].strip(" \"'")
    checkpoint = checkpoint_of(name)
    return checkpoint.licence if checkpoint else UNSTATED


# --- prebuilt indexes ----------------------------------------------------------------------------------------------


def _bring_index(prebuilt: Prebuilt, cache: Path | None, known: dict[str, dict[str, Any]], *, offline: bool) -> list[File]:
    """The files of a prebuilt index, in Pyserini's own cache or in one under --to. Pyserini compares its archive's MD5."""
    from mta4dpr.retrieval.prebuilt import bring

    here = prebuilt.folder
    folder, state = here, "was here"
    if cache is not None:
        folder = next((cache / "indexes").glob(f"*.{prebuilt.md5}"), None)
        if folder is None and here is not None:
            folder, state = cache / "indexes" / here.name, "copied"
            with folder_written_aside(folder) as aside:
                shutil.copytree(here, aside, dirs_exist_ok=True)
    if folder is None:
        with _pyserini_cache(cache):
            folder, state = bring(prebuilt, environment.cache_folder(), offline=offline), "downloaded"
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sha256, noted = hashes_of(path)[0], known.get(str(path))
        if noted and noted["sha256"] != sha256:
            raise EnvironmentLack(f"{path} is broken: its SHA-256 is {sha256}, expected {noted['sha256']}; delete {folder} and fetch again")
        checked_by = "an earlier fetch" if noted else f"its archive's md5 {prebuilt.md5}" if state == "downloaded" else ""
        files.append(File(str(path), path.stat().st_size, sha256, None, checked_by, prebuilt.name, "Pyserini", "not stated", state))
    return files


@contextmanager
def _pyserini_cache(cache: Path | None) -> Iterator[None]:
    """Pyserini reads its variable whenever it looks for its cache."""
    before = os.environ.get("PYSERINI_CACHE")
    if cache is not None:
        os.environ["PYSERINI_CACHE"] = str(cache)
    try:
        yield
    finally:
        os.environ.pop("PYSERINI_CACHE", None)
        if before is not None:
            os.environ["PYSERINI_CACHE"] = before


# --- the folder ----------------------------------------------------------------------------------------------------


def _known_files(to: Path) -> dict[str, dict[str, Any]]:
    """{absolute path: what an earlier fetch noted of it}."""
    path = to / "fetched.json"
    if to.exists() and not to.is_dir():
        raise UserError(f"{to} is a file; --to takes a folder")
    files = read_json(path)["files"] if path.is_file() else []
    return {str(to / file["path"]): file for file in files}


def _relative(file: File, to: Path | None) -> File:
    return replace(file, path=Path(file.path).relative_to(to).as_posix()) if to and Path(file.path).is_relative_to(to) else file


def _write_about(to: Path, document: dict[str, Any], known: dict[str, dict[str, Any]]) -> None:
    """fetched.json and README.txt; files of benchmarks that were fetched to the same folder before stay listed."""
    path = to / "fetched.json"
    earlier = read_json(path)["benchmarks"] if path.is_file() else []
    files = {file["path"]: file for file in [*known.values(), *document["files"]]}
    benchmarks = list(dict.fromkeys([*earlier, document["benchmark"]]))
    write_json(
        path,
        {"benchmarks": benchmarks, "environment": VARIABLES, "mta4dpr": environment.versions()["mta4dpr"], "files": list(files.values())},
    )
    with written_aside(to / "README.txt") as file:
        file.write(_README.format(commands="\n".join(f"    mta4dpr-bench run {name} --offline" for name in benchmarks)))


_README = """Data and models for mta4dpr, fetched ahead for a machine without a network. Copy this folder there, change into it, and set

    export IR_DATASETS_HOME="$PWD/ir_datasets" IR_DATASETS_SMALL_FILE_SIZE=0
    export MTA4DPR_MODELS="$PWD/models" PYSERINI_CACHE="$PWD/pyserini"

Then, with mta4dpr installed there:

{commands}

fetched.json lists every file with bytes, SHA-256, source and licence; `mta4dpr-bench fetch BENCH --to . --offline` verifies them.
"""


def _summary(files: Sequence[File], benchmark: str, to: Path | None) -> str:
    if not files:
        return f"{benchmark} needs no download"
    brought = sum(file.state != "was here" for file in files)
    total = environment.gigabytes(sum(file.bytes for file in files))
    place = f" in {to}" if to else ""
    unchecked = sum(not file.checked_by for file in files)
    verified = f"{len(files) - unchecked} verified by a hash" + (f", {unchecked} without one to compare with" if unchecked else "")
    return f"{len(files)} file{'s' * (len(files) > 1)}, {total}{place}: {brought} brought now; {verified}"
