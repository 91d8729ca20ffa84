"""What a stage is: one step of a run that the ledger knows, said once for all who ask about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr.experiment.ledger import StageName
from mta4dpr.machine.work import Piece, StageKind
from mta4dpr.planning.sizes import Sizes


def nothing() -> None:
    """For a stage that leaves nothing behind that it would go on from."""


def no_pieces(_: Sizes) -> Iterator[Piece]:
    """For a stage that takes nothing to speak of."""
    return iter(())


@dataclass(frozen=True)
class Stage:
    """One step. `run`, `train`, `plan`, `--redo`, processes that work along and "is everything done" are loops over these.

    name     kind, system and eval set; the ledger's key
    inputs   a JSON document of all that decides what comes out; asked for when the stage's turn has come
    do       does it; appends the files that it made
    needs    the stages it follows from: when one of these is done again, so is it
    along    what a process beside the main one does of it; None where that one works alone
    pieces   what it takes, for `plan` and the check of the disk
    forget   removes what it would go on from, before it is done again
    code     a hash of the code that decides what comes out, where that is not our release alone
    is_done  where the ledger does not know it: whether it is done
    begin    brings back what a kill or other settings left, before any process may look at it
    """

    name: StageName
    inputs: Callable[[], Any]
    do: Callable[[list[Path]], None]
    needs: tuple[StageName, ...] = ()
    along: Callable[[], None] | None = None
    pieces: Callable[[Sizes], Iterator[Piece]] = no_pieces
    forget: Callable[[], None] = nothing
    code: str = ""
    is_done: Callable[[], bool] | None = None
    begin: Callable[[], None] = nothing

    @property
    def kind(self) -> StageKind:
        """What kind of step it is."""
        return self.name.kind
