"""efficiency.json of an experiment's folder: what the machine decides of each system.

Several stages add to it, so that no stage of the ledger can vouch for it: it has a checksum of its own.
"""

from __future__ import annotations

from typing import Any, TypedDict

from mta4dpr.errors import UserError
from mta4dpr.experiment.folder import Folder
from mta4dpr.machine.kept import read_sealed, write_sealed

AGAIN = "delete it: the next run takes the times again"


class Document(TypedDict, total=False):
    """What is in it: what each system costs, how busy the machine was, what each kind of stage took."""

    systems: dict[str, dict[str, Any]]
    sessions: dict[str, dict[str, Any]]
    stages: list[dict[str, Any]]
    peak_memory_bytes: float
    threads: int
    device: str | None


def read_efficiency(folder: Folder) -> dict[str, Any]:
    """The document; {"systems": {}} where there is none. UserError for one that is not what was written."""
    if not folder.efficiency.exists():
        return {"systems": {}}
    return {"systems": {}, **read_sealed(folder.efficiency, otherwise=AGAIN, shape=Document)}


def write_efficiency(folder: Folder, document: dict[str, Any]) -> None:
    """Replaces the document."""
    write_sealed(folder.efficiency, document)


def forget_damaged_efficiency(folder: Folder) -> bool:
    """Removes a document that is not what was written; whether there is none now."""
    try:
        read_efficiency(folder)
    except UserError:
        folder.efficiency.unlink()
    return not folder.efficiency.exists()
