"""What stages take, added up: pieces that make one thing are counted once, and those of one name are one row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mta4dpr.machine.work import Piece, Work


def rows_of(pieces: Iterable[tuple[Piece, bool]]) -> list[Piece]:
    """One piece a name, in the order of their last; each comes with whether the stage that wants it is done.

    A thing that several stages want is done when all of them are. Disk and work of different things are added, memory is the largest.
    """
    wanted: dict[tuple[object, ...], list[tuple[Piece, bool]]] = {}
    for piece, done in pieces:
        wanted.setdefault(piece.thing, []).append((piece, done))
    rows: dict[str, list[Piece]] = {}
    for same in wanted.values():
        thing = _thing(same)
        rows[thing.name] = [*rows.pop(thing.name, []), thing]  # where the last of its things is made
    return [_row(things) for things in rows.values()]


def _thing(same: Sequence[tuple[Piece, bool]]) -> Piece:
    """One thing, as the stages that want it see it."""
    first, subjects = same[0][0], list(dict.fromkeys(piece.subject for piece, _ in same if piece.subject))
    name = f"{first.name} {', '.join(subjects)}" if subjects else first.name
    state = "done" if first.state in ("to do", "cached") and all(done for _, done in same) else first.state
    return replace(first, name=name, state=state)


def _row(things: Sequence[Piece]) -> Piece:
    """Things of one name as one piece."""
    if len(things) == 1 and not things[0].unit:
        return things[0]
    disk: dict[str, float] = {}
    work: dict[tuple[str, str], float] = {}
    for thing in things:
        for place, count in thing.disk.items():
            disk[place] = disk.get(place, 0.0) + count
        for one in thing.work:
            work[one.kind, one.shape] = work.get((one.kind, one.shape), 0.0) + one.amount
    notes = list(dict.fromkeys(thing.note for thing in things if thing.note))
    counted = [f"{len(things)} {things[0].unit}"] if things[0].unit else []
    return replace(
        things[0],
        state=min((thing.state for thing in things), key=("lacking", "download", "to do", "prebuilt", "cached", "done").index),
        note=", ".join(counted + notes),
        disk=disk,
        memory=max(thing.memory for thing in things),
        work=tuple(Work(kind, amount, shape) for (kind, shape), amount in work.items()),
    )


def disk_of(pieces: Iterable[Piece]) -> dict[str, float]:
    """Bytes that the pieces still need, by place."""
    total: dict[str, float] = {}
    for piece in pieces:
        for place, count in piece.disk.items():
            total[place] = total.get(place, 0) + count
    return total
