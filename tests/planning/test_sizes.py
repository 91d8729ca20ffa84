"""How large inputs are before they are read: counted where they are stored, else as their source says, else guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.engines.engine import Engine
from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import Experiment, open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.planning.sizes import JUDGEMENT, PASSAGE_BYTES, QUERY, Sizes

PASSAGES = [(f"d{n}", "", "red fox " * 20) for n in range(30)]
DEV = "msmarco-passage/dev/small"
JUDGED = [("q1", "d1", 1), ("q1", "d2", 0), ("q2", "d2", 2)]


@pytest.fixture
def opened(beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Experiment]:
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    source = beir_folder(tmp_path / "mini", PASSAGES, {"q1": "red", "q2": "fox"}, {"test": JUDGED})
    return lambda **asked: open_experiment(Request(str(source), output=tmp_path / "run", **asked))


def test_passages_of_a_folder_are_guessed_from_its_bytes_until_they_are_stored(opened: Callable[..., Experiment]) -> None:
    """A plan reads no collection through."""
    experiment = opened()
    before = Sizes(experiment)
    size = sum(size for _, size, _ in experiment.source.files())
    assert (before.texts.passages, before.texts.bytes) == (size // PASSAGE_BYTES, size)
    assert not before.texts_are_counted
    assert experiment.place.stored_corpus is None
    assert len(experiment.corpus) == 30
    after = Sizes(opened())
    assert (after.texts.passages, after.texts_are_counted) == (30, True)
    assert after.texts.bytes == 30 * len("red fox " * 20)


def test_queries_of_a_folder_are_counted_and_limited(opened: Callable[..., Experiment]) -> None:
    assert Sizes(opened()).queries("mini/test") == (2, 3)
    assert Sizes(opened()).eval_queries("mini/test") == 2
    assert Sizes(opened(limit=1)).eval_queries("mini/test") == 1
    assert Sizes(opened(limit=9)).eval_queries("mini/test") == 2


def test_the_training_queries_memory_follows_from_their_number() -> None:
    experiment = open_experiment(Request("tiny", systems=("kd",)))
    sizes = Sizes(experiment)
    queries, judgements = sizes.train_queries
    assert queries == len(experiment.train_set.texts) > 10
    assert sizes.train_memory() == QUERY * queries + JUDGEMENT * judgements


def test_training_queries_are_brought_for_students_alone() -> None:
    """MS MARCO's are half a gigabyte; and with them come all eval sets, whose queries must not be trained on."""
    bm25, trained = (
        {download.name for download in Sizes(open_experiment(Request("msmarco", systems=(system,), eval_sets=(DEV,)))).downloads}
        for system in ("bm25", "mta4dpr")
    )
    assert bm25 < trained
    assert {name for name in trained - bm25 if "train" in name}
    assert {name for name in trained - bm25 if "trec-dl" in name}, "of eval sets that this command leaves out"
    assert Sizes(open_experiment(Request("tiny", systems=("kd",)))).downloads == [], "docstrings are in the library"


def test_a_network_whose_size_nobody_knows(opened: Callable[..., Experiment]) -> None:
    class Made(Engine):
        identity = "made"
        size: Any = None

        def search(self, queries: Any, k: int) -> Any:
            return iter(())

        @property
        def model_size(self) -> Any:
            if isinstance(self.size, UserError):
                raise self.size
            return self.size

    experiment = opened()
    engine = Made("made", {}, experiment.place)
    assert not Sizes(experiment).is_known(engine), "it has none"
    engine.size = UserError("nowhere")
    assert not Sizes(experiment).is_known(engine)
    engine.size = object()
    assert Sizes(experiment).is_known(engine)


def test_bytes_go_where_the_run_would_put_them(opened: Callable[..., Experiment], tmp_path: Path) -> None:
    places = Sizes(opened()).places()
    assert (places[CACHE], places[OUTPUT]) == (tmp_path / "cache", tmp_path / "run")
