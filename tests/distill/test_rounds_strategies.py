"""What single strategies ask of Algorithm 1: standings, a chain, stages, a teacher that is trained, assistants that nobody scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from mta4dpr.distill.compare import compare
from mta4dpr.distill.groups import PREVIOUS
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.machine.files import read_json, write_json

from .tiny_distill import HELD_OUT
from .tiny_rounds import BAD, GOOD, MIDDLE, Setting

TAKD = {"trainable": ("a", "wide"), "assistants": {"a": MIDDLE, "wide": MIDDLE, "bm": BAD}, "dropout": 0.1}


# --- standing: Compare before training ---


@pytest.mark.parametrize("strategy", ["kd_ta", "best_ta", "prod"])
def test_the_standing_is_compares_measure_of_teacher_and_assistants(setting: Setting, strategy: str) -> None:
    """Measured once, before any step, and kept; kd_ta and best_ta then listen to the best at every step."""
    bench = setting.bench(student=[MIDDLE] * 4)
    setting.run(bench, strategy=strategy)
    expected = compare([bench.scorer(label) for label in ("teacher", "a", "bad", "good")], bench)
    assert read_json(setting.root / "run" / "standing.json") == expected
    if strategy != "prod":
        assert {step["assistant"] for step in setting.steps()} == {"good"}


@pytest.mark.parametrize("strategy", ["kd_ta", "best_ta"])
def test_the_best_assistant_is_read_from_standing_json(setting: Setting, strategy: str) -> None:
    """A training that goes on must not change its mind: what the file says counts, even where it is wrong."""
    write_json(setting.root / "run" / "standing.json", {"teacher": 1.0, "a": 0.1, "bad": 0.9, "good": 0.5})
    setting.run(setting.bench(student=[MIDDLE] * 2), strategy=strategy)
    assert {step["assistant"] for step in setting.steps()} == {"bad"}


def test_kd_ta_takes_a_named_assistant(setting: Setting) -> None:
    setting.run(setting.bench(student=[MIDDLE] * 2, ta="a"), strategy="kd_ta")
    assert {step["assistant"] for step in setting.steps()} == {"a"}
    assert {step["kl_teacher"] for step in setting.steps()} == {None}


@pytest.mark.parametrize("strategy", ["kd", "mta4dpr", "contrastive"])
def test_others_measure_nothing_before_training(setting: Setting, strategy: str) -> None:
    """Compare over a large corpus is not free."""
    setting.run(setting.bench(student=[MIDDLE] * 2), strategy=strategy)
    assert not (setting.root / "run" / "standing.json").exists()


# --- takd: a chain ---


def test_takd_teaches_each_assistant_by_the_one_before_it(setting: Setting) -> None:
    """Largest first: the teacher teaches `wide`, `wide` teaches `a`, `a` teaches the student; bm25, which has no weights, has no link."""
    setting.run(setting.bench(**TAKD), strategy="takd")
    chain = {"run/chain/wide": "teacher", "run/chain/a": "wide-taught", "run": "a-taught"}
    assert sorted(path.name for path in (setting.root / "run" / "chain").iterdir()) == ["a", "wide"]
    for name, by in chain.items():
        assert {step["assistant"] for step in setting.steps(name)} == {by}, name
        assert setting.groups(0, name).about["assistants"] == ([] if by == "teacher" else [by])
        assert [step["step"] for step in setting.steps(name)] == list(range(4)), "every model of the chain makes all steps"
    assert [len(setting.rounds(name)) for name in chain] == [1, 1, 2]


def test_takd_stores_the_scores_of_the_model_that_was_just_taught(setting: Setting, tmp_path: Path) -> None:
    """Not those of the assistant as it was before: its frozen folder is scored again here."""
    setting.run(setting.bench(**TAKD), strategy="takd")
    for name, link in (("run/chain/a", "wide"), ("run", "a")):
        folder = setting.root / "run" / "chain" / link / "round-0" / "student"
        taught, groups = setting.freeze("x", folder, tmp_path / "again"), setting.groups(0, name)
        assert (groups.scores[f"{link}-taught"] == taught.score(groups.queries, groups.passages)).all()
        before, after = setting.network(link).network.state_dict(), load_file(folder / "model.safetensors")
        moved = [key for key, tensor in after.items() if (before["0.model." + key] != tensor).any()]
        assert len(moved) > 5


def test_a_taught_assistants_corpus_is_encoded_once(setting: Setting) -> None:
    """Compare has made its vectors already; over a large corpus they are most of a link's cost."""
    setting.run(setting.bench(**TAKD), strategy="takd")
    assert [len(list((setting.root / "run" / "chain" / link).rglob("vectors.json"))) for link in ("a", "wide")] == [
        2,
        2,
    ]  # passages, queries


# --- prod: stages ---


def test_prod_goes_through_the_teachers_from_weak_to_strong(setting: Setting) -> None:
    """A round for each, in the order of their standing, be they called teacher or assistant."""
    setting.run(setting.bench(student=[MIDDLE] * 4, steps=8), strategy="prod")
    by_round = [{step["assistant"] for step in setting.steps() if step["round"] == number} for number in range(4)]
    assert by_round == [{"bad"}, {"a"}, {"teacher"}, {"good"}]


def test_prod_stores_the_scores_of_the_student_before_the_round(setting: Setting) -> None:
    """Its last term holds the student back where it was when the round began; in the first round there is nothing to hold to."""
    setting.run(setting.bench(student=[BAD, MIDDLE, GOOD, BAD], steps=8), strategy="prod")
    assert PREVIOUS not in setting.groups(0).scores
    for number, strength in ((1, BAD), (2, MIDDLE), (3, GOOD)):
        groups = setting.groups(number)
        expected = setting.scorer("x", strength, seed=77).score(groups.queries, groups.passages)
        assert (groups.scores[PREVIOUS] == expected).all()
    held = [step.get("kl_previous") is not None for step in setting.steps()]
    assert held == [step["round"] > 0 for step in setting.steps()]


def test_prods_last_round_draws_confusing_queries_only(setting: Setting) -> None:
    """Those that the student got wrong; the rounds before draw the others too."""
    setting.run(setting.bench(student=[MIDDLE] * 4, steps=60), strategy="prod")
    student = setting.scorer("x", MIDDLE, seed=77).matrix
    wrong = {n for n in setting.queries.train.tolist() if int(student[n].argmax()) not in setting.queries.positives[n]}
    assert 0 < len(wrong) < len(setting.queries.train)
    assert set(setting.groups(3).queries.tolist()) == wrong
    assert set(setting.groups(2).queries.tolist()) > wrong


def test_prods_last_round_takes_all_queries_where_none_is_confusing(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    """A student that has everything right leaves no confusing query; a round without groups would never end. It is said."""
    setting.run(setting.bench(student=[GOOD] * 4, steps=60), strategy="prod")
    assert len(set(setting.groups(3).queries.tolist())) > 1
    assert sum("its last round is of all queries" in record.message for record in caplog.records) == 1


# --- rocketqav2 and lead train the teacher ---


@pytest.mark.parametrize("strategy", ["rocketqav2", "lead"])
def test_the_teacher_moves_and_is_not_exported(setting: Setting, strategy: str) -> None:
    """Its weights are in the checkpoint, as training must go on with them, and nowhere else."""
    place = setting.run(setting.bench(), strategy=strategy)
    kept = load_file(sorted((setting.root / "run" / "checkpoint").iterdir())[-1] / "teacher.safetensors")
    trained, fresh = setting.networks["teacher"].network.state_dict(), setting.network("teacher").network.state_dict()
    moved = [key for key in kept if (kept[key] != fresh[key]).any()]
    assert len(moved) > 10
    assert all((kept[key] == trained[key]).all() for key in kept)
    assert sorted(path.parent.parent.name for path in (setting.root / "run").rglob("teacher.safetensors")) == ["checkpoint"]
    assert not any("teacher" in path.name for path in place.rglob("*"))
    assert sum(step["ce_teacher"] > 0 for step in setting.steps()) == 4


@pytest.mark.parametrize(
    "strategy", [name for name, one in STRATEGIES.items() if not {Requirement.TEACHER_TRAINING, Requirement.CHAIN} & one.requires]
)
def test_the_others_open_no_network_but_the_student(setting: Setting, strategy: str) -> None:
    """A teacher's weights beside the student's would need memory for nothing."""
    setting.run(setting.bench(student=[MIDDLE] * 4), strategy=strategy)
    assert setting.networks == {}
    assert not list((setting.root / "run").rglob("teacher.safetensors"))


# --- what is not needed is not scored ---


@pytest.mark.parametrize("strategy", [name for name, one in STRATEGIES.items() if Requirement.ASSISTANTS not in one.requires])
@pytest.mark.parametrize("pair_scorers", [(), ("good",)])
def test_strategies_without_assistants_score_none_and_see_the_same_groups(
    setting: Setting, strategy: str, pair_scorers: tuple[str, ...]
) -> None:
    """The rows of a table differ in the strategy alone, also where an assistant is a cross-encoder, which mta4dpr gives fewer
    candidates to score: the others draw from the same few."""
    changes: dict[str, Any] = {"pair_scorers": pair_scorers, "scored": 5, "steps": 32, "batch_queries": 6}
    setting.run(setting.bench(student=[MIDDLE] * 2, **changes))
    bench = setting.bench(student=[MIDDLE] * 2, **changes)
    held_out = set(setting.queries.held_out.tolist())
    for label in bench.assistants:
        scorer: Any = bench.scorer(label)
        score = scorer.score

        def only_compare(queries: np.ndarray, passages: np.ndarray, score: Any = score) -> np.ndarray:
            assert set(queries.tolist()) <= held_out, "an assistant was asked for the scores of groups"
            return np.asarray(score(queries, passages))

        scorer.score = only_compare
    setting.run(bench, strategy=strategy, name="other")
    for name in ("queries", "passages"):
        files = [setting.root / run / "round-0" / "groups" / f"{name}.npy" for run in ("run", "other")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert setting.groups(0, "other").about["assistants"] == []
    candidates = {n: set[int]() for n in setting.queries.train.tolist()}
    for n, passages in zip(setting.groups(0).queries.tolist(), setting.groups(0).passages, strict=True):
        candidates[n] |= set(passages[1:].tolist())
    assert (max(map(len, candidates.values())) > 5) == (not pair_scorers)


def test_a_scorer_that_cannot_rank_is_compared_by_reranking(setting: Setting) -> None:
    """A cross-encoder beside bi-encoders: it has the candidates that `rerank` would have, the others the whole corpus."""
    bench = setting.bench(student=[1.0], pair_scorers=("a",), depth=3)
    both = [bench.scorer("a"), bench.scorer("bad")]
    found = compare(both, bench)
    reranked = compare(both, setting.bench(student=[1.0], pair_scorers=("a",), depth=3, compare="rerank"))
    assert found["a"] == reranked["a"] > 0
    assert found["bad"] < reranked["bad"]
    both[0].ranks = True
    assert compare(both, bench)["a"] != found["a"]


def test_a_scorer_that_cannot_rank_takes_part_in_algorithm_1(setting: Setting) -> None:
    """It scores groups, it may be replaced, and it never mines."""
    setting.run(setting.bench(student=[GOOD, GOOD], pair_scorers=("bad", "teacher")))
    assert setting.rounds()[0]["replaced"] == "bad"
    assert list(setting.groups(0).scores) == ["teacher", "a", "bad", "good"]
    assert setting.rounds()[0]["queries"] == HELD_OUT


# --- the score report ---


def test_each_round_leaves_its_score_report(setting: Setting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A teacher that teaches nothing shows in no loss curve; the file says it, for the scorers that the strategy asks. Said once,
    also where the training is killed in the round's first step and goes on."""
    with caplog.at_level("INFO"):
        setting.killed_run(monkeypatch, "step", 3, {"student": [MIDDLE] * 2, "teacher": BAD})
    reports = [read_json(setting.root / "killed" / f"round-{number}" / "scores.json") for number in (0, 1)]
    assert [list(report) for report in reports] == [["teacher", "a", "bad", "good"], ["teacher", "a", "student-round-0", "good"]]
    assert reports[0]["good"]["positive_first"] > 0.9 > 0.1 > reports[0]["bad"]["positive_first"]
    assert caplog.text.count("positive first") == caplog.text.count("it teaches the opposite of the judgments") == 2


# --- killed and continued ---


@pytest.mark.parametrize(
    ("strategy", "where", "at"),
    [
        ("takd", "step", 3),  # in the first link
        ("takd", "append", 1),
        ("takd", "freeze", 2),  # `wide`, taught
        ("takd", "step", 7),  # in the second link
        ("takd", "generate", 3),
        ("takd", "step", 10),  # in the student
        ("takd", "compare", 4),
        ("prod", "step", 4),
        ("prod", "generate", 4),
        ("prod", "compare", 1),  # the standing
        ("prod", "compare", 3),
        ("rocketqav2", "step", 3),
        ("rocketqav2", "compare", 1),
        ("lead", "step", 4),
        ("rl_ta", "step", 2),
        ("rl_ta", "step", 4),
        ("best_ta", "compare", 1),
    ],
)
def test_killed_anywhere_ends_bit_for_bit_alike(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, strategy: str, where: str, at: int
) -> None:
    """With dropout and a checkpoint every second step: weights of student and teacher, the policy, the chain, groups and logs."""
    changes = {**(TAKD if strategy == "takd" else {"dropout": 0.1}), "checkpoint_every": 2}
    setting.run(setting.bench(**changes), strategy=strategy, name="whole")
    setting.killed_run(monkeypatch, where, at, changes, strategy)
    setting.assert_alike("whole", "killed")
    policies = list((setting.root / "killed").rglob("policy.safetensors"))
    assert bool(policies) == (Requirement.POLICY in STRATEGIES[strategy].requires)
