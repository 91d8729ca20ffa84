"""What students are trained with is opened once for all of them, and bound to the right queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mta4dpr.engines.dense import Dense
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.stages.teaching import open_scorer, open_training_queries, training_bench


@pytest.fixture
def experiment(with_students: Callable[..., Experiment]) -> Experiment:
    return with_students("kd", "mta4dpr")


def test_students_share_queries_and_scorers(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher of gigabytes must not be loaded for each student; other options of the split are other queries."""
    loaded: list[str] = []
    plain = Dense.scorer

    def scorer(self: Dense, queries: Any) -> Any:
        loaded.append(self.label)
        return plain(self, queries)

    monkeypatch.setattr(Dense, "scorer", scorer)
    (_, kd), (_, mta4dpr) = experiment.students
    first, second = training_bench(experiment, kd), training_bench(experiment, mta4dpr)
    assert first.queries is second.queries
    assert first.scorer("teacher") is second.scorer("teacher")
    assert loaded == ["teacher"]
    fewer = open_training_queries(experiment, kd.distill.model_copy(update={"eval_fraction": 0.5}))
    assert fewer is not first.queries
    assert open_scorer(experiment, "teacher", fewer) is not first.scorer("teacher")
    assert loaded == ["teacher", "teacher"]


def test_a_student_is_trained_with_its_own_roles_and_the_runs_seed(with_students: Callable[..., Experiment]) -> None:
    experiment = with_students("takd", seed=7)
    ((_, recipe),) = experiment.students
    bench = training_bench(experiment, recipe)
    assert (bench.teacher, list(bench.assistants), list(bench.trainable), bench.seed) == (
        "teacher",
        ["bm25", "assistant"],
        ["assistant"],
        7,
    )
    assert bench.options is recipe.distill


def test_no_query_of_an_eval_set_is_trained_on(experiment: Experiment) -> None:
    """Whatever eval sets this command asks for."""
    ((_, recipe), _) = experiment.students
    queries = open_training_queries(experiment, recipe.distill)
    asked = {text for query_set in experiment.protected for text in query_set.texts.values()}
    assert asked
    assert not asked & set(queries.texts)


def test_a_frozen_student_keeps_its_vectors_where_it_is_told(experiment: Experiment, tmp_path: Any) -> None:
    """Those of a round go with the round's folder; the cache would keep each student of each round for ever."""
    ((_, recipe), _) = experiment.students
    bench = training_bench(experiment, recipe)
    experiment.engine_of_role("student").load().save(tmp_path / "model")
    frozen = bench.freeze("student-round-0", tmp_path / "model", tmp_path / "round-0")
    assert frozen.label == "student-round-0"
    assert list((tmp_path / "round-0").glob("vectors/*/vectors.json"))
