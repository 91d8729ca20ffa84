"""What stages take, added up: a thing that several of them want costs once."""

from __future__ import annotations

import pytest

from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.machine.work import Piece, Work
from mta4dpr.stages.costs import disk_of, rows_of


def rows(*pieces: Piece, done: bool = False) -> list[Piece]:
    return rows_of((piece, done) for piece in pieces)


def vectors(**more: object) -> Piece:
    return Piece("encode with teacher", disk={CACHE: 100.0}, memory=7.0, work=(Work("encode", 5.0, "small"),), **more)  # type: ignore[arg-type]


def test_a_thing_that_two_stages_want_is_counted_once() -> None:
    """Two students share their teacher's vectors: a plan that counts them twice refuses a disk that is large enough."""
    assert rows(vectors(), Piece("search"), vectors()) == [vectors(), Piece("search")]


def test_different_things_of_one_name_are_added() -> None:
    """Run files are one row of the plan: bytes and work together, the largest memory, and how many they are."""
    first = Piece("search", disk={OUTPUT: 10.0}, memory=3.0, work=(Work("bm25", 4.0),), thing=("run", "a"), unit="run files")
    second = Piece("search", disk={OUTPUT: 1.0, CACHE: 2.0}, memory=5.0, work=(Work("bm25", 1.0),), thing=("run", "b"), unit="run files")
    (row,) = rows(first, second)
    assert row.disk == {OUTPUT: 11.0, CACHE: 2.0}
    assert row.memory == 5.0
    assert row.work == (Work("bm25", 5.0),)
    assert row.note == "2 run files"


def test_work_on_networks_of_two_shapes_stays_apart() -> None:
    """A small network's operations take longer than a large one's, so one sum would be timed by the wrong rate."""
    works = [Work("encode", 1.0, "small"), Work("encode", 2.0, "large"), Work("encode", 4.0, "small")]
    (row,) = rows(*(Piece("encode", work=(work,), thing=(n,)) for n, work in enumerate(works)))
    assert row.work == (Work("encode", 5.0, "small"), Work("encode", 2.0, "large"))


def test_a_shared_thing_is_done_when_all_who_want_it_are() -> None:
    """What one student has used may have been deleted since; another that is not trained yet needs it all the same."""
    assert [row.state for row in rows_of([(vectors(), True), (vectors(), False)])] == ["to do"]
    (row,) = rows_of([(vectors(), True), (vectors(), True)])
    assert (row.state, row.disk, row.memory, row.work) == ("done", {}, 0.0, ())


@pytest.mark.parametrize("state", ["lacking", "download", "prebuilt"])
def test_only_what_is_made_can_be_done(state: str) -> None:
    """A model that is not on the machine is lacking, whatever an earlier run has made with it."""
    assert [row.state for row in rows(vectors(state=state), done=True)] == [state]


@pytest.mark.parametrize(
    ("states", "shown"), [(("done", "to do"), "to do"), (("cached", "done"), "cached"), (("to do", "lacking"), "lacking")]
)
def test_a_row_shows_the_state_that_asks_for_most(states: tuple[str, str], shown: str) -> None:
    """One run file of ten that is left to do is work; one that is lacking stops the run."""
    (row,) = rows(*(Piece("search", state, thing=(n,), unit="run files") for n, state in enumerate(states)))
    assert row.state == shown


def test_a_name_says_for_whom_a_shared_thing_is() -> None:
    """Models with one tokenizer share the tokens; the plan names them all, each once."""
    shared = [Piece("tokenise for", thing=("tokens", "bert"), subject=label) for label in ("teacher", "student", "teacher")]
    other = Piece("tokenise for", thing=("tokens", "roberta"), subject="simlm")
    assert [row.name for row in rows(*shared, other)] == ["tokenise for teacher, student", "tokenise for simlm"]


def test_rows_come_in_the_order_in_which_they_are_first_needed() -> None:
    """The plan is read from top to bottom as the run goes."""
    names = ["read", "index", "search", "index", "evaluate", "read"]
    assert [row.name for row in rows(*map(Piece, names))] == ["read", "index", "search", "evaluate"]


def test_the_disk_is_a_sum_by_place() -> None:
    """Cache and output may lie on two disks; what is done or cached takes nothing more."""
    pieces = [vectors(), Piece("search", disk={OUTPUT: 3.0, CACHE: 1.0}), vectors(state="cached"), vectors(state="done")]
    assert disk_of(pieces) == {CACHE: 101.0, OUTPUT: 3.0}
