"""What is timed, in which turns, what counts as one measurement, and that times of other systems stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.machine.work import PYTHON
from mta4dpr.planning.needs import Needs
from mta4dpr.stages import latency as module
from mta4dpr.stages.costs import rows_of
from mta4dpr.stages.latency import latencies
from mta4dpr.stages.pipeline import perform

from .given import Given

RED, WHALE = ["red fox"], ["whale song"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 3)
    monkeypatch.setattr(module, "WARMUP", 1)


def timed(experiment: Experiment) -> dict[str, Any]:
    stages = latencies(experiment, needs={})
    for stage in stages:
        perform(experiment, stage, stages)
    return dict(read_json(experiment.folder.efficiency))


@pytest.fixture
def asked(begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(label, query) of each search, in their order."""
    found: list[tuple[str, str]] = []

    def search(self: Given, queries: list[str], k: int) -> Iterator[Any]:
        found.extend((self.label, query) for query in queries)
        return iter(())

    monkeypatch.setattr(Given, "search", search)
    return found


def two(begun: Callable[..., Experiment]) -> Experiment:
    """An experiment of the engine `given` under two labels."""
    experiment = begun()
    one = experiment.systems[0]
    return replace(experiment, systems=(replace(one, label="a"), replace(one, label="b")))


def test_queries_are_timed_one_by_one_after_a_warm_up(begun: Callable[..., Experiment]) -> None:
    """A batch would hide what a single query waits for; the first ones load what later ones find loaded."""
    entry = timed(begun())["systems"]["given"]
    queries = [queries for queries, _ in Given.asked]
    assert queries[:2] == [RED, RED], "how long a query takes, to know how many there is time for"
    assert queries[2:] == [RED, RED, WHALE] * 3, "one warms up in each round"
    assert (entry["query_ms"]["calls"], len(entry["query_ms"]["rounds"])) == (4, 3), "of the two quieter rounds"
    assert entry["query_ms"]["low"] <= entry["query_ms"]["p50"] <= entry["query_ms"]["high"]
    assert (entry["index_bytes"], entry["encode_passages_per_second"], entry["training_seconds"]) == (123, None, None)


def test_systems_are_timed_in_turns(begun: Callable[..., Experiment], asked: list[tuple[str, str]]) -> None:
    """What disturbs the machine for a while disturbs all of them; every other round goes the other way."""
    document = timed(two(begun))
    order = [label for label, _ in asked[4:]]
    assert order == [label for label in "abbaab" for _ in range(3)]
    entries = document["systems"]
    assert entries["a"]["query_ms"]["session"] == entries["b"]["query_ms"]["session"]
    [about] = document["sessions"].values()
    assert (about["queries"], about["rounds"], about["side_by_side"]) == (2, 3, True)
    assert {"cores", "own_cores", "other_cores", "busy"} <= about.keys()


def test_systems_of_the_same_work_are_one_measurement(
    begun: Callable[..., Experiment], asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share the queries of each round, each has others in the next, and their figures are the same."""
    monkeypatch.setattr(Given, "work_of_a_query", ["2 layers"], raising=False)
    entries = timed(two(begun))["systems"]
    assert entries["a"]["query_ms"] == entries["b"]["query_ms"]
    assert entries["a"]["query_ms"]["same_work"] == ["a", "b"]
    rounds = [asked[4 + 4 * n : 8 + 4 * n] for n in range(3)]
    assert [one[1::2] for one in rounds] == [
        [("a", "red fox"), ("b", "whale song")],
        [("b", "red fox"), ("a", "whale song")],
        [("a", "red fox"), ("b", "whale song")],
    ]


def test_what_is_not_known_to_do_the_same_is_timed_apart(begun: Callable[..., Experiment], asked: list[tuple[str, str]]) -> None:
    entries = timed(two(begun))["systems"]
    assert [entries[name]["query_ms"]["work"] for name in "ab"] == ["of a", "of b"]
    assert [entries[name]["query_ms"]["same_work"] for name in "ab"] == [["a"], ["b"]]


def test_more_systems_of_one_work_than_queries(begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without a query of its own in a round is left out of that round, and has the figures of all."""
    monkeypatch.setattr(Given, "work_of_a_query", ["2 layers"], raising=False)
    experiment = begun()
    many = tuple(replace(experiment.systems[0], label=label) for label in "abc")
    entries = timed(replace(experiment, systems=many))["systems"]
    assert {entries[name]["query_ms"]["calls"] for name in "abc"} == {4}


def test_systems_that_memory_does_not_hold_are_opened_in_turn(begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """Never two at once, and it is said."""
    monkeypatch.setattr(module.Session, "_has_room", lambda self, system: False)
    open_now: set[str] = set()
    monkeypatch.setattr(Given, "open", lambda self: open_now.add(self.label))
    monkeypatch.setattr(Given, "close", lambda self: open_now.discard(self.label))

    def search(self: Given, queries: list[str], k: int) -> Iterator[Any]:
        assert open_now == {self.label}
        return iter(())

    monkeypatch.setattr(Given, "search", search)
    [about] = timed(two(begun))["sessions"].values()
    assert about["side_by_side"] is False


def test_room_is_what_networks_and_vectors_take(begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 100 parameters and 3 passages of 10 dimensions are 520 bytes; of 1,000 bytes, 600 may be held."""
    experiment = two(begun)
    for name in "ab":
        experiment.manifest.note_system(name, {"parameters": 100, "dimensions": 10})
    session = module.Session(experiment)
    a, b = experiment.systems
    session.__dict__["_memory"] = 1000
    monkeypatch.setattr(module, "available_memory_bytes", lambda: 10_000)
    assert session._has_room(a)
    session._open["a"] = experiment.engine(a)
    assert not session._has_room(b)
    session._open.clear()
    monkeypatch.setattr(module, "available_memory_bytes", lambda: 700)
    assert not session._has_room(b)


def test_many_queries_are_sampled_evenly(begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones of a file may all be short; 6,980 of them would take longer than the search itself."""
    experiment = begun()
    query_set = experiment.eval_sets["mini/test"]
    query_set.texts.clear()
    query_set.texts.update({f"q{n}": f"text {n}" for n in range(25)})
    for name, value in (("QUERIES", 10), ("LEAST", 2), ("ROUNDS", 1)):
        monkeypatch.setattr(module, name, value)
    timed(experiment)
    assert [queries for queries, _ in Given.asked][3:] == [[f"text {n}"] for n in range(0, 20, 2)]
    Given.asked.clear()
    monkeypatch.setattr(module, "SECONDS", 0.0)
    experiment.ledger.forget(list(experiment.ledger.stages))
    timed(experiment)
    assert [queries for queries, _ in Given.asked][3:] == [["text 0"], ["text 12"]], "slow queries: as few as are of use"


def test_what_was_measured_of_other_systems_stays(begun: Callable[..., Experiment]) -> None:
    """Each command adds its systems to the table of costs. A session without any system left is forgotten."""
    experiment = begun()
    entries = {"bm25": {"index_bytes": 5, "query_ms": {"session": "then"}}, "given": {"query_ms": {"session": "gone"}}}
    write_json(experiment.folder.efficiency, {"systems": entries, "threads": 7, "sessions": {"then": {"queries": 3}, "gone": {}}})
    document = timed(experiment)
    assert document["systems"]["bm25"] == entries["bm25"]
    assert document["threads"] == 7
    assert set(document["sessions"]) == {"then", document["systems"]["given"]["query_ms"]["session"]}


def test_all_are_timed_again_when_one_is(begun: Callable[..., Experiment]) -> None:
    """Times of two sessions would not compare."""
    experiment = two(begun)
    before = timed(experiment)["systems"]
    [first, *_] = list(experiment.ledger.stages)
    experiment.ledger.forget([first])
    after = timed(experiment)["systems"]
    assert len({after[name]["query_ms"]["session"] for name in "ab"}) == 1
    assert after["b"]["query_ms"]["session"] != before["b"]["query_ms"]["session"]


def test_a_busy_machine_is_said(
    begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def loaded() -> Iterator[dict[str, Any]]:
        yield {"cores": 2, "other_cores": 1.5}

    monkeypatch.setattr(module, "load_seen", loaded)
    [about] = timed(begun())["sessions"].values()
    assert about["busy"][0] == "other programs used 1.5 of 2 cores"
    assert "times of queries are uncertain" in caplog.text


def test_a_table_of_costs_that_cannot_be_read_is_the_users(begun: Callable[..., Experiment]) -> None:
    experiment = begun()
    write_json(experiment.folder.efficiency, {})
    experiment.folder.efficiency.write_text("{")
    with pytest.raises(UserError, match="efficiency.json"):
        timed(experiment)


def test_a_plan_counts_what_is_held_side_by_side(begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two systems of 1 GB each beside the interpreter; where memory does not hold both, a share of it."""
    experiment = two(begun)
    monkeypatch.setattr(Given, "search_memory", lambda *given: PYTHON + 1e9)
    sizes = Needs(experiment).sizes
    for memory, wanted in ((64e9, PYTHON + 2e9), (4e9, 2.4e9), (1e9, PYTHON + 1e9)):
        monkeypatch.setattr(module, "memory_bytes", lambda memory=memory: memory)
        [piece] = rows_of([(piece, False) for stage in latencies(experiment, needs={}) for piece in stage.pieces(sizes)])
        assert (piece.name, piece.memory) == ("time queries", wanted)


def test_energy_is_that_of_one_query(begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """Warming up is inside what the counters see: nine calls here, with three joules a round. Of a training it is what that has noted."""

    @contextmanager
    def counted() -> Iterator[dict[str, float]]:
        yield {"cpu": 3.0}

    monkeypatch.setattr(module, "energy_used", counted)
    experiment = begun()
    write_json(experiment.folder.energy("given"), {"gpu": 5.0})
    entry = timed(experiment)["systems"]["given"]
    assert (entry["query_joules"], entry["training_joules"]) == ({"cpu": 1.0}, {"gpu": 5.0})
