"""What is timed, and that times of other systems stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mta4dpr.experiment.experiment import Experiment
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.stages import latency as module
from mta4dpr.stages.latency import latency
from mta4dpr.stages.pipeline import perform

from .given import Given


def timed(experiment: Experiment) -> dict[str, object]:
    stage = latency(experiment, experiment.systems[0], needs=())
    perform(experiment, stage, [stage])
    return dict(read_json(experiment.folder.efficiency)["systems"]["given"])


def test_queries_are_timed_one_by_one_after_a_warm_up(begun: Callable[..., Experiment]) -> None:
    """A batch would hide what a single query waits for; the first ones load what later ones find loaded."""
    entry = timed(begun())
    assert [queries for queries, _ in Given.asked] == [["red fox"], ["whale song"], ["red fox"], ["whale song"]], "two warm up"
    assert entry["query_ms"]["calls"] == 2  # type: ignore[index]
    assert (entry["index_bytes"], entry["encode_passages_per_second"], entry["training_seconds"]) == (123, None, None)


def test_many_queries_are_sampled_evenly(begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones of a file may all be short; 6,980 of them would take longer than the search itself."""
    experiment = begun()
    query_set = experiment.eval_sets["mini/test"]
    query_set.texts.clear()
    query_set.texts.update({f"q{n}": f"text {n}" for n in range(25)})
    monkeypatch.setattr(module, "QUERIES", 10)
    monkeypatch.setattr(module, "WARMUP", 0)
    timed(experiment)
    assert [queries for queries, _ in Given.asked] == [[f"text {n}"] for n in range(0, 20, 2)]


def test_what_was_measured_of_other_systems_stays(begun: Callable[..., Experiment]) -> None:
    """Each command adds its systems to the table of costs."""
    experiment = begun()
    write_json(experiment.folder.efficiency, {"systems": {"bm25": {"index_bytes": 5}}, "threads": 7})
    timed(experiment)
    document = read_json(experiment.folder.efficiency)
    assert document["systems"]["bm25"] == {"index_bytes": 5}
    assert document["threads"] == 7


def test_energy_is_that_of_one_query(begun: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """Warming up is inside what the counters see. Of a training it is what that has noted."""

    @contextmanager
    def counted() -> Iterator[dict[str, float]]:
        yield {"cpu": 8.0}

    monkeypatch.setattr(module, "energy_used", counted)
    experiment = begun()
    write_json(experiment.folder.energy("given"), {"gpu": 5.0})
    entry = timed(experiment)
    assert (entry["query_joules"], entry["training_joules"]) == ({"cpu": 2.0}, {"gpu": 5.0})
