"""The words in which a plan is made: work, whose time the rates know, and pieces, which say what a stage takes.

Disk is exact where it follows from counts (vectors, indexes of FAISS, run files, groups, checkpoints), else a usual ratio. Memory is
a process's peak as the code of the stage takes it; a network's part is on the GPU where there is one. Knows no rate: how long work
takes is for the plan to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

PYTHON = 1.1e9  # bytes of a process that has torch and sentence-transformers loaded
ID_COLUMNS = 24  # bytes in memory for a passage whose id is looked up: rank, order, padded id
ID_BYTES = 8  # bytes of a passage's id in a file


class StageKind(StrEnum):
    """The kinds of stages, as the ledger and the command line write them."""

    TRAIN = "train"
    INDEX = "index"
    ENCODE = "encode"
    SEARCH = "search"
    LATENCY = "latency"
    COLLECTIONS = "collections"
    EVALUATE = "evaluate"
    REPORT = "report"


@dataclass(frozen=True)
class Work:
    """What takes time: an amount of a kind of work (rates.py names the units), on a network of that shape."""

    kind: str
    amount: float
    shape: str = ""


@dataclass(frozen=True)
class Piece:
    """One thing that a stage makes, or needs and may find in the cache, and what it takes to make it.

    `thing` names what is made: pieces of several stages that make the same thing are one. Pieces of several things that share a
    `name` are one row of a plan, in which `unit` says what is counted. `state` is done, cached, prebuilt, to do, download or lacking;
    only what is to do or to download takes anything.
    """

    name: str
    state: str = "to do"
    note: str = ""
    disk: dict[str, float] = field(default_factory=dict)  # bytes by place
    memory: float = 0.0  # bytes at the peak
    work: tuple[Work, ...] = ()
    thing: tuple[object, ...] = ()  # by default the name
    subject: str = ""  # what the name speaks of, where several things may share the piece: "tokenise for SUBJECT, SUBJECT"
    unit: str = ""
    instead_of: Piece | None = None  # what a prebuilt index spares

    def __post_init__(self) -> None:
        if self.state in ("done", "cached", "prebuilt", "lacking"):
            for name, nothing in (("disk", {}), ("memory", 0.0), ("work", ())):
                object.__setattr__(self, name, nothing)
        if not self.thing:
            object.__setattr__(self, "thing", (self.name,))


def unknown(name: str, model: str) -> Piece:
    """A piece of a model that is neither here nor known."""
    return Piece(name, note=f"the size of {model} is not known here: disk, memory and time are not counted")
