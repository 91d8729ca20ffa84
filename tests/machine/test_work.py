"""Pieces of a plan: only what is left to do takes anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mta4dpr.machine.places import CACHE
from mta4dpr.machine.work import Piece, Work, unknown

LEFT = Piece("encode", disk={CACHE: 5.0}, memory=6.0, work=(Work("encode", 7.0),))


@pytest.mark.parametrize(
    ("state", "takes"), [("to do", True), ("download", True), ("done", False), ("cached", False), ("prebuilt", False), ("lacking", False)]
)
def test_what_is_there_or_cannot_be_had_takes_nothing(state: str, takes: bool) -> None:
    """A finished run on a full disk must not be refused for the space that it has taken already."""
    for piece in (replace(LEFT, state=state), Piece("encode", state, disk=LEFT.disk, memory=LEFT.memory, work=LEFT.work)):
        found = (piece.disk, piece.memory, piece.work)
        assert found == (({CACHE: 5.0}, 6.0, LEFT.work) if takes else ({}, 0.0, ()))


def test_a_prebuilt_index_still_says_what_it_spares() -> None:
    spared = Piece("index", "prebuilt", instead_of=LEFT).instead_of
    assert spared is not None
    assert spared.disk == {CACHE: 5.0}


def test_a_piece_is_its_own_thing_unless_it_says_which() -> None:
    """Pieces of one thing are counted once: two that only happen to share no `thing` must not become one."""
    assert Piece("read").thing == ("read",)
    assert Piece("read").thing != Piece("index").thing
    assert Piece("tokenise for", thing=("tokens", "x")).thing == ("tokens", "x")


def test_what_is_not_known_says_so_and_counts_nothing() -> None:
    piece = unknown("encode with x", "some/model")
    assert (piece.state, piece.disk, piece.work) == ("to do", {}, ())
    assert "some/model is not known here" in piece.note
