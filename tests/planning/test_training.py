"""What training takes, by hand: groups, pairs, tokens of a step, operations; and what students share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.config.yaml_files import benchmark_folder, read_yaml
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.experiment.experiment import Experiment, open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.machine import environment
from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.machine.work import Piece
from mta4dpr.planning.sizes import Sizes
from mta4dpr.planning.training import asks_assistants, groups_of, step_tokens, trained_beside, training_operations, training_pieces

TEXTS = CorpusSize(1000, 450_000)  # 100 tokens a passage
CE = {"kind": "cross-encoder", "untrained": {"layers": 1, "hidden": 32, "heads": 2, "seed": 4}}
LAYER = 12  # parameters of a layer, by the square of its width; two operations each


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Experiment]:
    """tiny's students over a corpus of 1000 passages and 50 training queries: 12 steps of 8 queries with 4 passages each."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Sizes, "texts", TEXTS)
    monkeypatch.setattr(Sizes, "train_queries", (50, 60))

    def make(*students: str, settings: tuple[str, ...] = (), **changes: Any) -> Experiment:
        document = read_yaml(benchmark_folder() / "tiny.yaml")
        document["models"]["ce"] = CE
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**document, **changes}))
        return open_experiment(Request(str(tmp_path / "mine.yaml"), systems=students, settings=settings))

    return make


def pieces(experiment: Experiment) -> dict[str, Piece]:
    """Of the first student."""
    system, recipe = experiment.students[0]
    return {piece.name: piece for piece in training_pieces(experiment, system, recipe, Sizes(experiment))}


def test_a_list_of_candidates_is_four_bytes_a_passage(opened: Callable[..., Experiment]) -> None:
    """One list a query for each model that ranks; as deep as the student who looks deepest."""
    deep = {"deep": {"strategy": "kd", "distill": {"depth": 30}}}
    found = pieces(opened("kd", "deep", variants=deep))
    assert found["mine with teacher"].disk == found["mine with bm25"].disk == {CACHE: 4.0 * 50 * 30}
    assert found["mine with teacher"].note == "top 30 of 50 training queries"
    assert [work.kind for work in found["mine with bm25"].work] == ["bm25"]


def test_pairs_are_counted_for_students_that_ask(opened: Callable[..., Experiment]) -> None:
    """kd asks no assistant; mta4dpr and mean_ta ask each of them for every group."""
    roles = {"assistants": ["ce", "bm25"]}
    for students, asking in ((("kd",), 0), (("kd", "mta4dpr"), 1), (("mta4dpr", "mean_ta"), 2)):
        assert f"up to {asking * 12 * 8 * 4:,} pairs" in pieces(opened(*students, **roles))["score pairs with ce"].note, students
    assert "mine with ce" not in pieces(opened("kd", **roles)), "it ranks no corpus"


def test_processes_train_on_groups_of_their_own(opened: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = opened("kd")
    ((_, recipe),) = experiment.students
    one = training_operations(experiment, recipe, Sizes(experiment))
    assert groups_of(recipe) == 12 * 8
    monkeypatch.setattr(environment, "process_count", lambda: 3)
    assert groups_of(recipe) == 3 * 12 * 8
    assert training_operations(experiment, recipe, Sizes(experiment)) == 3 * one


def test_tokens_and_operations_of_the_steps(opened: Callable[..., Experiment]) -> None:
    """Queries of 12 tokens, passages cut to 32; a forward pass and twice as much backwards, gradient caching goes forwards twice."""
    experiment = opened("kd")
    ((_, recipe),) = experiment.students
    tokens = step_tokens(experiment, recipe, TEXTS)
    assert tokens == 8 * (12 + 4 * 32)
    usual = training_operations(experiment, recipe, Sizes(experiment))
    assert usual == pytest.approx(3 * 12 * tokens * 2 * LAYER * 32**2, rel=0.05)
    cached = opened("kd", settings=("gradient_cache=true",))
    assert training_operations(cached, cached.students[0][1], Sizes(cached)) == pytest.approx(4 / 3 * usual)


@pytest.mark.parametrize(
    ("student", "beside", "asks"),
    [
        ("kd", [], False),
        ("mta4dpr", [], True),
        ("takd", ["assistant"], True),
        ("rocketqav2", ["teacher"], False),
        ("lead", ["teacher"], False),
    ],
)
def test_what_is_trained_beside_a_student_costs_too(opened: Callable[..., Experiment], student: str, beside: list[str], asks: bool) -> None:
    experiment = opened(student)
    ((_, recipe),) = experiment.students
    assert trained_beside(experiment, recipe) == beside
    assert asks_assistants(recipe) is asks
    note = pieces(experiment)[f"train {student}"].note
    assert note == "12 steps, 2 rounds" + (f"; trains {beside[0]} too" if beside else "")
    alone = opened("kd")
    more = training_operations(experiment, recipe, Sizes(experiment)) - training_operations(alone, alone.students[0][1], Sizes(alone))
    assert (more > 0) is bool(beside)


def test_checkpoints_and_vectors_lie_in_the_output(opened: Callable[..., Experiment]) -> None:
    """Each checkpoint that is kept has weights and both moments; half as many bytes for vectors of 16 bits."""
    usual, more = opened("kd"), opened("kd", settings=("keep_checkpoints=3",))
    parameters = usual.engine_of_role("student").model_size.parameters  # type: ignore[union-attr]
    disk = [pieces(experiment)["train kd"].disk[OUTPUT] for experiment in (usual, more, opened("kd", settings=("dtype=float16",)))]
    assert disk[1] - disk[0] == 2 * 12 * parameters
    assert disk[0] - disk[2] == pytest.approx(2 * 1000 * 32 * 2), "of the students of two rounds"


def test_a_student_that_nobody_knows_is_said_to_be_left_out(opened: Callable[..., Experiment]) -> None:
    document = read_yaml(benchmark_folder() / "tiny.yaml")
    models = {**document["models"], "student": {"model": "some/model"}}
    found = pieces(opened("kd", models=models))["train kd"]
    assert (found.disk, found.work) == ({}, ())
    assert "some/model is not known here" in found.note
