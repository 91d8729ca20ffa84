"""manifest.json of an experiment's folder: its shape, and the one place that writes it.

It names everything that another run needs to make the same files (`recovery` reads it): the settings, how each system
is made, hashes of corpus, queries, judgements and models, and of each run file its SHA-256 and the command that made it.
`description` says what of an experiment goes in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, cast

from mta4dpr.config.benchmark import with_defaults
from mta4dpr.errors import UserError
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.settings import refuse_other_settings
from mta4dpr.machine.files import file_name
from mta4dpr.machine.kept import read_sealed, write_sealed

TO_REPEAT = ("title", "eval_sets", "contrasts", "variants", "source", "threads", "runs")  # what a run is made from again


class RunFile(TypedDict, total=False):
    """Where one run file is from. Folders of earlier versions lack some of the keys."""

    system: str
    eval_set: str
    sha256: str
    device: str | None  # None: nothing but Lucene ran
    gpu: dict[str, Any] | None
    made_by: int  # the command, by its place among `runs`
    command: str  # the shortest one that makes this file


class Manifest(TypedDict, total=False):
    """manifest.json. Folders of earlier versions lack some of the keys."""

    benchmark: str
    title: str
    notes: list[str]  # what stands beside every table
    own_notes: list[str]  # those of the benchmark's YAML
    contrasts: list[list[str]]
    settings: dict[str, Any]  # all that decides rows, with limit, seed and the corpus's text hash
    variants: dict[str, Any]
    strategies: dict[str, str]
    engines: dict[str, Any]
    protected: list[str]  # eval sets that training avoids
    request: dict[str, Any]  # the benchmark as it was typed, and its --set
    systems: dict[str, dict[str, Any]]  # what the leaderboard says of each
    recipes: dict[str, dict[str, Any]]  # how each is made
    eval_sets: dict[str, dict[str, Any]]  # measures, and a hash of queries and judgements; a suite has its collections
    run_files: dict[str, RunFile]
    paths: dict[str, str]  # paths as typed, and where they were
    runs: list[dict[str, Any]]  # one entry a command
    versions: dict[str, str]
    hardware: dict[str, Any]
    git_commit: str | None
    threads: int
    source: dict[str, Any]
    passages: int
    repeats: str | None


def read_manifest(path: Path, *, needs: Sequence[str] = ()) -> Manifest:
    """The manifest at `path`; UserError when it is none, or lacks a key that the caller needs."""
    try:
        otherwise = "give the manifest.json of a run's folder, as the run left it (or without its `seal`, if you changed it on purpose)"
        return _checked(path, otherwise, needs=needs)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; give the manifest.json of a run's folder") from None
    except IsADirectoryError:
        raise UserError(f"expected a manifest, found a folder at {path}; give {path / 'manifest.json'}") from None


def known_manifest(folder: Folder) -> Manifest | None:
    """The manifest of a folder that is being worked on; None where there is none. UserError says what to delete where it is damaged."""
    if not folder.manifest.exists():
        return None
    return _checked(folder.manifest, "delete it: the next run makes all rows again but those of other commands, and goes on with trainings")


def _checked(path: Path, otherwise: str, *, needs: Sequence[str] = ()) -> Manifest:
    document = read_sealed(path, otherwise=otherwise, shape=Manifest)
    needed: list[tuple[str, Any, Sequence[str]]] = [("it", document, ("settings", "systems", *needs))]
    needed += [("settings", document.get("settings", {}), ("name",))]
    for section, keys in (("systems", ("kind",)), ("eval_sets", ("measures",)), ("run_files", ("system", "eval_set", "sha256"))):
        needed += [(f"{section}.{name}", about, keys) for name, about in document.get(section, {}).items()]
    lacking = [f"{place} has no {key}" for place, about, keys in needed for key in keys if key not in about]
    if lacking:
        raise UserError(f"{path} is no manifest of a run: {', '.join(lacking[:3])}; {otherwise}")
    return cast(Manifest, document)


class ManifestWriter:
    """The manifest of a folder that is being worked on: read by `begin`, changed in memory, written as a whole."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.document: Manifest = {"systems": {}, "eval_sets": {}, "runs": []}

    def begin(self, asked: Manifest) -> None:
        """Reads what earlier commands left, and adds what this one asks for; writes nothing. UserError for other settings.

        Systems, eval sets, recipes and paths are added to those that are there; all else that `asked` says takes its place.
        """
        self.document = {**self.document, **(known_manifest(self._folder) or {})}
        if "settings" in self.document:
            refuse_other_settings(self._folder.path, asked["settings"], with_defaults(self.document["settings"]))
        self._refuse_same_files(list(asked["recipes"]))
        added: Manifest = {
            "systems": self.document["systems"],
            "runs": self.document["runs"],
            "run_files": self.document.get("run_files", {}),
            "eval_sets": {**self.document["eval_sets"], **asked["eval_sets"]},
            "recipes": {**self.document.get("recipes", {}), **asked["recipes"]},
            "paths": {**self.document.get("paths", {}), **asked["paths"]},
        }
        self.document = {**self.document, **asked, **added}
        self.document["notes"] = asked["notes"] + [about["note"] for about in self.document["eval_sets"].values() if "note" in about]

    def _refuse_same_files(self, labels: list[str]) -> None:
        for label in labels:
            for other in self.document["systems"]:
                if other != label and file_name(other).casefold() == file_name(label).casefold():
                    raise UserError(
                        f"{self._folder.path} has a system {other!r}, whose files {label!r} would overwrite; name one as LABEL=PATH"
                    )

    @contextmanager
    def of_command(self, note: dict[str, Any]) -> Iterator[None]:
        """Writes that a command works in the folder, with what `note` says of it, and when it has finished."""
        note = {**note, "started": _now(), "finished": None}
        self.document["runs"].append(note)
        self._write()
        yield
        note["finished"] = _now()
        self._write()

    def note_system(self, label: str, about: dict[str, Any]) -> None:
        """Writes what the leaderboard says of a system."""
        self.document["systems"][label] = about
        self._write()

    def note_run_file(self, path: Path, record: RunFile) -> None:
        """Writes where a run file is from."""
        self.document["run_files"][self._folder.relative(path)] = record
        self._write()

    def _write(self) -> None:
        write_sealed(self._folder.manifest, self.document)


def engine_of(manifest: Manifest, label: str) -> str:
    """The engine of a system in a manifest; earlier versions, which had two, did not say it."""
    made = manifest.get("recipes", {}).get(label) or manifest["systems"][label]
    return str(made.get("engine") or ("bm25" if made["kind"] == "lexical" else "bi-encoder"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
