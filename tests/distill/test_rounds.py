"""Algorithm 1 with scorers whose quality a test chooses, and with a real student that is killed and goes on."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr.benchmark import ModelSpec
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill import rounds as rounds_module
from mta4dpr.distill.groups import Groups
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.rounds import _first_of, best_round, compare, rankings, wrong_queries
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.trainer import Batch, Texts, Trainer
from mta4dpr.models.encoder import Encoder, hash_of_weights, load_encoder

from .tiny_distill import HELD_OUT, PASSAGES, TRAIN, MatrixScorer, knowing_matrix, make_queries, random_matrix, small_options
from .tiny_rounds import BAD, GOOD, MIDDLE, Killed, Setting


@pytest.fixture
def setting(
    tmp_path: Path,
    corpus: Corpus,
    queries: TrainingQueries,
    new_student: Callable[[], Encoder],
    texts_for: Callable[[Encoder, TrainingQueries], Texts],
) -> Setting:
    return Setting(tmp_path, corpus, queries, new_student, texts_for)


# --- Compare and Worst ---


def test_a_better_student_replaces_exactly_the_worst_assistant(setting: Setting) -> None:
    """One outcome of Compare: `bad` goes, in its place comes the student; |TA| and the others stay."""
    setting.run(setting.bench(student=[MIDDLE + 2, MIDDLE + 2]))
    first, second = setting.rounds()
    assert (first["worst"], first["replaced"], first["by"]) == ("bad", "bad", "student-round-0")
    assert first["student"] > first["assistants"]["bad"]
    assert list(first["assistants"]) == ["a", "bad", "good"]
    assert setting.groups(0).about["assistants"] == ["a", "bad", "good"]
    assert setting.groups(1).about["assistants"] == ["a", "student-round-0", "good"]
    assert list(second["assistants"]) == ["a", "student-round-0", "good"]
    assert first["queries"] == HELD_OUT
    assert first["measure"] == "RR@10"


def test_the_new_assistants_scores_are_the_frozen_students(setting: Setting) -> None:
    """What is stored beside round 1's groups under its label is what the frozen copy gives."""
    bench = setting.bench(student=[MIDDLE + 2, BAD])
    setting.run(bench)
    groups = setting.groups(1)
    expected = setting.scorer("student-round-0", MIDDLE + 2, seed=77).score(groups.queries, groups.passages)
    assert (groups.scores["student-round-0"] == expected).all()


def test_a_worse_student_replaces_nothing(setting: Setting) -> None:
    """The other outcome: worse than every assistant."""
    setting.run(setting.bench(student=[BAD, BAD], assistants={"a": MIDDLE, "good": GOOD}))
    assert [(one["worst"], one["replaced"]) for one in setting.rounds()] == [("a", None)] * 2
    assert setting.groups(1).about["assistants"] == ["a", "good"]


def test_an_equal_student_replaces_nothing(setting: Setting) -> None:
    """Strictly better is asked for: all three have RR 1."""
    setting.run(setting.bench(student=[GOOD, GOOD], assistants={"a": GOOD, "good": GOOD}))
    assert setting.rounds()[0]["student"] == setting.rounds()[0]["assistants"]["a"] == 1.0
    assert [one["replaced"] for one in setting.rounds()] == [None, None]


def test_better_than_one_is_enough_even_when_worse_than_the_others(setting: Setting) -> None:
    """The rule is Worst(TA), not the mean of TA or its best."""
    setting.run(setting.bench(student=[MIDDLE, BAD], assistants={"x": GOOD, "good": GOOD, "bad": BAD}))
    first = setting.rounds()[0]
    assert first["student"] < first["assistants"]["x"]
    assert first["replaced"] == "bad"
    assert setting.groups(1).about["assistants"] == ["x", "good", "student-round-0"]


def test_a_replaced_student_may_be_replaced_by_its_better_self(setting: Setting) -> None:
    """Round 1's student against round 0's: the worst is the old student, and the new one takes its place."""
    setting.run(setting.bench(student=[MIDDLE, GOOD, BAD], assistants={"bad": BAD, "good": GOOD}, rounds=3, steps=3))
    assert [(one["replaced"], one["by"]) for one in setting.rounds()] == [
        ("bad", "student-round-0"),
        ("student-round-0", "student-round-1"),
        (None, "student-round-2"),
    ]
    assert setting.groups(2).about["assistants"] == ["student-round-1", "good"]


@pytest.mark.parametrize("compare_by", ["retrieve", "rerank"])
def test_replace_false_compares_and_replaces_nothing(setting: Setting, compare_by: str) -> None:
    """The ablation without replacement still logs the comparison."""
    setting.run(setting.bench(student=[GOOD, GOOD], replace=False, compare=compare_by))
    assert [one["replaced"] for one in setting.rounds()] == [None, None]
    assert setting.rounds()[0]["student"] > setting.rounds()[0]["assistants"]["bad"]


@pytest.mark.parametrize("strategy", [name for name, strategy in STRATEGIES.items() if not strategy.replaces and not strategy.chain])
def test_only_mta4dpr_replaces(setting: Setting, strategy: str) -> None:
    """The others mine with the same assistants in all rounds, however good the student becomes."""
    setting.run(setting.bench(student=[GOOD] * 4), strategy=strategy)
    assert {one["replaced"] for one in setting.rounds()} == {None}
    assert {tuple(one["assistants"]) for one in setting.rounds()} == {("a", "bad", "good")}


def test_fused_assistants_are_chosen_but_never_compared_or_replaced(setting: Setting) -> None:
    """A fused one is virtual: Worst() sees originals only, and after a replacement the fused ones are of the present members."""
    assistants = {"bad": BAD, "a": 4.0, "bb": 4.0}
    setting.run(setting.bench(student=[4.0, 4.0], assistants=assistants, steps=12, granularity="query", tau_teacher=1.0))
    assert all("+" not in label for one in setting.rounds() for label in [*one["assistants"], one["worst"], one["replaced"] or ""])
    lines = [json.loads(line) for line in (setting.root / "run" / "steps.jsonl").read_text().splitlines()]
    chosen = [{label for line in lines if line["round"] == number for label in line["assistant"]} for number in (0, 1)]
    assert any("+" in label for label in chosen[0])
    assert setting.rounds()[0]["replaced"] == "bad"
    assert not any("bad" in label for label in chosen[1])
    assert any("student-round-0+" in label for label in chosen[1])


def test_compare_over_the_whole_corpus_by_hand(setting: Setting) -> None:
    """RR@10 of D_eval by a plain loop over the matrix."""
    bench = setting.bench(student=[1.0])
    scorer = setting.scorer("x", 1.0)
    total = 0.0
    for n in setting.queries.held_out:
        order = np.argsort(-scorer.matrix[n])
        rank = int(np.flatnonzero(np.isin(order, setting.queries.positives[n]))[0]) + 1
        total += 1 / rank if rank <= 10 else 0.0
    values = compare([scorer, setting.scorer("good", GOOD)], bench)
    assert values == {"x": pytest.approx(total / HELD_OUT), "good": 1.0}
    assert 0.1 < values["x"] < 0.9


@pytest.mark.parametrize("measure", ["RR@10", "nDCG@20"])
def test_compare_looks_as_deep_as_its_measure(setting: Setting, measure: str) -> None:
    """`depth` says how long the lists are that mine; a shorter one would make another measure of it under the same name."""
    shallow, deep = (setting.bench(student=[1.0], compare_measure=measure, depth=depth) for depth in (3, 30))
    scorer = setting.scorer("x", 1.0)
    assert compare([scorer], shallow) == compare([scorer], deep)


def test_an_assistant_called_student_keeps_its_list(setting: Setting) -> None:
    """The student before training may be an assistant, under its own name: its list must stand beside the trained student's."""
    bench = setting.bench(assistants={"student": MIDDLE, "good": GOOD})
    frozen = setting.scorer("student-round-0", 1.0, seed=77)
    assistants = [bench.scorer(label) for label in bench.assistants]
    lists, of_student = rounds_module._mined(1, assistants, frozen, bench, setting.root / "run")
    assert of_student is not None
    assert len(lists) == 4  # two assistants, the teacher, the student
    assert not np.array_equal(lists["student"], of_student)


def test_compare_reranks_the_same_candidates_for_all(setting: Setting) -> None:
    """rerank: positives and the originals' fused candidates, so every scorer has a chance; by hand for one scorer."""
    bench = setting.bench(student=[1.0], compare="rerank", depth=4)
    scorer, candidates = setting.scorer("x", 1.0), rounds_module._held_out_candidates(bench)
    total = 0.0
    for n, found in zip(setting.queries.held_out, candidates, strict=True):
        assert set(setting.queries.positives[n]) <= set(found)
        assert len(set(found)) == len(found)
        order = found[np.argsort(-scorer.matrix[n][found])]
        total += 1 / (int(np.flatnonzero(np.isin(order, setting.queries.positives[n]))[0]) + 1)
    values = compare([scorer, setting.scorer("bad", BAD)], bench)
    assert values["x"] == pytest.approx(total / HELD_OUT)
    assert 0 < values["bad"] < values["x"]


def test_rerank_replaces_the_worst_too(setting: Setting) -> None:
    """The whole of Algorithm 1 with the cheap Compare."""
    setting.run(setting.bench(student=[GOOD, GOOD], compare="rerank"))
    assert setting.rounds()[0]["replaced"] == "bad"


def test_a_scorer_that_finds_nothing_is_worth_nothing(setting: Setting) -> None:
    """BM25 may share no term with any query of D_eval, or with some: 0 for those, not an error."""

    class Mute(MatrixScorer):
        def rank(self, queries: np.ndarray, k: int) -> Any:
            for hits in super().rank(queries, k):
                silent = np.isin(queries[: len(hits.passages)], self.mute) if len(queries) <= 7 else np.zeros(len(hits.passages), bool)
                hits.passages[silent], hits.scores[silent] = -1, -np.inf
                yield hits

    mute = Mute("x", knowing_matrix(1, setting.queries, GOOD), setting.corpus)
    bench = setting.bench(student=[1.0])
    mute.mute = setting.queries.held_out[:2]
    assert compare([mute], bench)["x"] == pytest.approx((HELD_OUT - 2) / HELD_OUT)
    mute.mute = setting.queries.held_out
    assert compare([mute], bench)["x"] == 0.0


# --- GenDataset over rounds ---


def test_wrong_queries_by_hand() -> None:
    """Positives 0 and 1; 3; 4: right when any positive is first. PROD: at rank 2-15 of the student, first of the teacher."""
    queries = make_queries([0, 3, 4], train=3, held_out=0, positives=lambda n: {0: [0, 1], 3: [3], 4: [4]}[n])
    student = np.array([[1, 9, 0], [9, 3, 8], [9, 8, 7]])
    assert wrong_queries(student, queries).tolist() == [False, True, True]
    teacher = np.array([[0, 9, 8], [3, 9, 8], [4, 9, 8]])
    assert wrong_queries(student, queries, lambda n: teacher[n, 0]).tolist() == [False, True, False]  # the third is at no rank of the list
    assert wrong_queries(student, queries, lambda n: np.array([0, 9, 4])[n]).tolist() == [False, False, False]


@pytest.mark.parametrize(("rank", "expected"), [(1, False), (2, True), (15, True), (16, False), (21, False)])
def test_prods_ranks(rank: int, expected: bool) -> None:
    """2 and 15 belong to it, 1 and 16 do not, nor a gold passage below the list's end."""
    queries = make_queries([4], train=1, held_out=0, positives=lambda n: [4])
    student = np.array([[p for p in range(5, 25)]])
    if rank <= 20:
        student[0, rank - 1] = 4
    assert wrong_queries(student, queries, lambda n: np.array([4])[n]).tolist() == [expected]


def test_a_short_list_with_padding_has_no_gold_passage() -> None:
    """-1 fills lists that end early; it is no passage."""
    queries = make_queries([4], train=1, held_out=0, positives=lambda n: [4])
    assert wrong_queries(np.array([[-1, -1]]), queries).tolist() == [True]
    assert wrong_queries(np.array([[9, 4]]), queries, lambda n: np.array([-1])[n]).tolist() == [False]


@pytest.mark.parametrize(("strength", "wrong"), [(GOOD, 0), (BAD, TRAIN)])
def test_round_1_knows_the_wrong_queries_of_round_0(setting: Setting, strength: float, wrong: int) -> None:
    """A student that has everything right leaves none; one that has nothing right leaves all."""
    setting.run(setting.bench(student=[strength, BAD]))
    assert [one["wrong_queries"] for one in setting.rounds()] == [0, wrong]


def test_prod_rule_runs(setting: Setting) -> None:
    """Teacher and student (strength 2) both fail on some: PROD's rule takes only those that the teacher can teach."""
    found = {}
    for rule in ("first", "prod"):
        setting.run(setting.bench(student=[MIDDLE, BAD], teacher=MIDDLE, wrong_rule=rule, depth=20), name=rule)
        found[rule] = setting.rounds(rule)[1]["wrong_queries"]
    assert 0 < found["prod"] < found["first"] <= TRAIN


def test_prods_rule_with_a_teacher_that_only_scores_pairs(setting: Setting) -> None:
    """It reranks the student's first 15: where the student's best positive is among them, its first passage of those is asked for."""
    mined = (-setting.scorer("student", BAD, seed=77).matrix[setting.queries.train]).argsort(axis=1)[:, :20]
    mined[:, 3] = setting.queries.positives.flat[setting.queries.positives.starts[:TRAIN]]
    bench = setting.bench(pair_scorers=["teacher"], teacher=MIDDLE, depth=20)
    teacher = bench.scorer("teacher")
    by_hand = [row[setting.scorer("teacher", MIDDLE).matrix[n, row].argmax()] for n, row in enumerate(mined[:, :15])]
    assert _first_of(teacher, mined, bench, setting.queries.train).tolist() == by_hand
    wrong = wrong_queries(mined, setting.queries, partial(_first_of, teacher, mined, bench))
    assert 0 < wrong.sum() < TRAIN
    short = np.full_like(mined, -1)
    short[:, :2] = [[7, 3]]
    assert set(_first_of(teacher, short, bench, setting.queries.train).tolist()) <= {7, 3}
    folder = setting.run(
        setting.bench(student=[MIDDLE, MIDDLE], pair_scorers=["teacher"], teacher=GOOD, wrong_rule="prod", depth=20), name="pairs"
    )
    assert folder.is_dir()
    assert setting.rounds("pairs")[1]["wrong_queries"] > 0


def test_harder_halves_the_depth_each_round_and_adds_the_students_list(setting: Setting) -> None:
    """Round 1's negatives of a fully deep pool come from the top of a fusion that the student's list is part of."""
    seen: list[tuple[int, list[str]]] = []
    real = rounds_module.generate

    def spying(*arguments: Any, **more: Any) -> Groups:
        seen.append((more["round_number"], list(more["lists"])))
        return real(*arguments, **more)

    rounds_module.generate = spying
    try:
        setting.run(setting.bench(student=[BAD, BAD], assistants={"a": MIDDLE}, depth=12))
        setting.run(setting.bench(student=[BAD, BAD], assistants={"a": MIDDLE}, depth=12, pool_teacher=False, harder=False), name="plain")
    finally:
        rounds_module.generate = real
    assert seen == [(0, ["a", "teacher"]), (1, ["a", "teacher", "the student"]), (0, ["a"]), (1, ["a"])]
    assert [one["depth"] for one in setting.rounds()] == [12, 6]
    assert [one["depth"] for one in setting.rounds("plain")] == [12, 12]


def test_rankings_are_made_once_and_told_apart(setting: Setting) -> None:
    """Kept lists are looked up by scorer, queries and depth; another scorer of the same label must not find them."""
    bench = setting.bench(student=[1.0])
    scorer = setting.scorer("x", 1.0)
    first = rankings(scorer, setting.queries.train, 10, setting.root / "m", bench)
    assert first.shape == (TRAIN, 10)
    assert (first == np.argsort(-scorer.matrix[:TRAIN], axis=1)[:, :10]).all()

    def fail(*_: Any) -> Any:
        raise AssertionError("ranked again")

    kept = scorer.rank
    scorer.rank = fail  # type: ignore[method-assign]
    assert (rankings(scorer, setting.queries.train, 10, setting.root / "m", bench) == first).all()
    scorer.rank = kept  # type: ignore[method-assign]
    other = MatrixScorer("x", random_matrix(99), setting.corpus)
    assert (rankings(other, setting.queries.train, 10, setting.root / "m", bench) != first).any()
    assert rankings(scorer, setting.queries.train, 4, setting.root / "m", bench).shape == (TRAIN, 4)
    other_texts = copy.copy(setting.corpus)
    other_texts.text_hash = "other"
    scorer.matrix = random_matrix(98)  # the same model over other texts
    again = rankings(scorer, setting.queries.train, 10, setting.root / "m", replace(bench, corpus=other_texts))
    assert (again != first).any()


def test_mining_goes_on_at_the_next_piece(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a million queries take hours: a kill costs a piece, and nobody can tell afterwards."""
    bench, scorer = setting.bench(), setting.scorer("a", MIDDLE)
    whole = np.array(rankings(scorer, setting.queries.train, 10, setting.root / "whole", bench))
    monkeypatch.setattr(rounds_module, "MINING_PIECE", 7)
    real, asked = scorer.rank, []

    def dying(queries: np.ndarray, k: int) -> Any:
        asked.append(queries.tolist())
        if len(asked) == 3:
            raise Killed
        return real(queries, k)

    scorer.rank = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        rankings(scorer, setting.queries.train, 10, setting.root / "cut", bench)
    assert list((setting.root / "cut").glob("*.npy")) == []
    found = rankings(scorer, setting.queries.train, 10, setting.root / "cut", bench)
    assert found.tolist() == whole.tolist()
    assert [one[0] for one in asked] == [0, 7, 14, 14, 21]
    assert [path.suffix for path in (setting.root / "cut").iterdir()] == [".npy"]  # neither pieces nor locks


def test_entropy_x_is_fitted_in_round_0_and_kept(setting: Setting) -> None:
    """One temperature for all rounds, though round 1's groups are others."""
    setting.run(setting.bench(student=[MIDDLE, MIDDLE], tau_teacher="entropy:0.5"))
    first, second = setting.rounds()
    assert first["temperatures"]["teacher"] == second["temperatures"]["teacher"]
    assert first["teacher_entropy"] == pytest.approx(0.5 * np.log(4), abs=1e-4)
    assert second["teacher_entropy"] != pytest.approx(first["teacher_entropy"], abs=1e-4)


def test_the_static_regime_gives_every_strategy_the_same_groups(setting: Setting) -> None:
    """Section 8: the same groups in the same order, also for mta4dpr after it has replaced an assistant, and in every round."""
    names = [name for name, strategy in STRATEGIES.items() if not strategy.stages]
    for strategy in names:
        setting.run(setting.bench(student=[GOOD, GOOD], regime="static"), strategy=strategy, name=strategy)
    assert setting.rounds("mta4dpr")[0]["replaced"] == "bad"
    for number in (0, 1):
        for name in names:
            assert files_of_groups(setting, number, name) == files_of_groups(setting, number, "kd"), name
    assert setting.rounds("mta4dpr")[1]["wrong_queries"] == 0


def test_the_static_regime_is_one_dataset_that_the_rounds_go_through(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Round 1 goes on where round 0 stopped; it does not show round 0's groups again."""
    seen: list[list[int]] = []
    real = Trainer.loss

    def spying(self: Trainer, batch: Batch, *rest: Any) -> Any:
        seen.extend(batch.distinct[batch.place].tolist())
        return real(self, batch, *rest)

    monkeypatch.setattr(Trainer, "loss", spying)
    setting.run(setting.bench(student=[MIDDLE, MIDDLE], regime="static"))
    first, both = setting.groups(0).passages.tolist(), setting.groups(1).passages.tolist()
    assert seen == both
    assert both[: len(first)] == first
    assert len(both) == 2 * len(first) == 8


def test_the_rounds_regime_gives_every_strategy_the_same_first_round(setting: Setting) -> None:
    """All mine alike until their students differ."""
    for strategy in STRATEGIES:
        setting.run(setting.bench(student=[MIDDLE] * 4), strategy=strategy, name=strategy)
        alike = files_of_groups(setting, 0, strategy), files_of_groups(setting, 0, "contrastive")
        if STRATEGIES[strategy].stages:  # its rounds are shorter: the same groups up to there
            assert (
                setting.groups(0, strategy).passages.tolist()
                == setting.groups(0, "contrastive").passages.tolist()[: len(setting.groups(0, strategy).passages)]
            )
        else:
            assert alike[0] == alike[1], strategy
    assert (setting.groups(1, "kd").passages != setting.groups(0, "kd").passages).any()


@pytest.mark.parametrize(("steps", "rounds", "expected"), [(7, 3, [2, 3, 2]), (6, 3, [2, 2, 2]), (2, 2, [1, 1])])
def test_all_steps_are_made_whatever_the_rounds(setting: Setting, steps: int, rounds: int, expected: list[int]) -> None:
    """Strategies are compared at one number of steps, so none may be lost in rounding."""
    setting.run(setting.bench(student=[MIDDLE] * rounds, steps=steps, rounds=rounds))
    lines = [json.loads(line) for line in (setting.root / "run" / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(steps))
    assert [sum(line["round"] == number for line in lines) for number in range(rounds)] == expected
    assert [len(setting.groups(number).queries) for number in range(rounds)] == [2 * n for n in expected]


def files_of_groups(setting: Setting, number: int, name: str) -> tuple[bytes, bytes]:
    folder = setting.root / name / f"round-{number}" / "groups"
    return (folder / "queries.npy").read_bytes(), (folder / "passages.npy").read_bytes()


# --- what is exported ---


@pytest.mark.parametrize(("values", "best"), [([0.1, 0.5, 0.3], 1), ([0.5, 0.1, 0.5], 0), ([0.1, 0.2, 0.3], 2)])
def test_best_eval_is_the_earliest_of_the_best(tmp_path: Path, values: list[float], best: int) -> None:
    """`last` is the default and looks at nothing."""
    lines = [json.dumps({"round": n, "student": value}) + "\n" for n, value in enumerate(values)]
    (tmp_path / "rounds.jsonl").write_text("".join(lines))
    options = small_options(rounds=3)
    assert best_round(tmp_path, options) == 2
    assert best_round(tmp_path, options.model_copy(update={"checkpoint": "best_eval"})) == best


def test_best_eval_exports_that_rounds_student(setting: Setting) -> None:
    """Round 0's student is the better one, so its folder is returned, and its weights are those of round 0's last step."""
    place = setting.run(setting.bench(student=[GOOD, BAD], checkpoint="best_eval"))
    last = setting.run(setting.bench(student=[GOOD, BAD]), name="last")
    assert place == setting.root / "run" / "round-0" / "student"
    assert last == setting.root / "last" / "round-1" / "student"
    weights = [
        hash_of_weights(load_encoder("x", ModelSpec(model=str(folder)), device="cpu").network)
        for folder in (place, last, setting.root / "last" / "round-0" / "student")
    ]
    assert weights[0] == weights[2] != weights[1]


def test_the_student_is_not_reset_between_rounds(setting: Setting) -> None:
    """[A]: the exported student is the one that has seen all steps: two rounds of 2 end elsewhere than one round of 2."""
    place = setting.run(setting.bench(student=[BAD, BAD]))
    checkpoint = sorted((setting.root / "run" / "checkpoint").iterdir())[-1]
    student = setting.new_student()
    trainer = Trainer(
        student,
        STRATEGIES["mta4dpr"],
        small_options(steps=4),
        setting.queries,
        setting.texts_for(student, setting.queries),
        setting.root / "run",
        5,
    )
    trainer.restore()
    assert (checkpoint.name, trainer.step) == (f"{4:08}", 4)
    assert hash_of_weights(load_encoder("x", ModelSpec(model=str(place)), device="cpu").network) == hash_of_weights(student.network)


def test_vectors_that_nobody_needs_are_removed(setting: Setting) -> None:
    """A corpus of vectors for every round of every strategy would fill the disk; assistants' and the last student's stay."""
    setting.run(setting.bench(rounds=3, steps=3, replace=False))
    assert [(setting.root / "run" / f"round-{n}" / "vectors").exists() for n in range(3)] == [False, False, True]


# --- killed and continued ---


@pytest.mark.parametrize(
    ("where", "at"),
    [
        ("step", 1),
        ("step", 3),
        ("step", 5),
        ("step", 6),
        ("step", 8),
        ("generate", 2),
        ("freeze", 1),
        ("compare", 1),
        ("compare", 2),
        ("append", 1),
        ("append", 2),
    ],
)
def test_killed_anywhere_ends_bit_for_bit_alike(setting: Setting, monkeypatch: pytest.MonkeyPatch, where: str, at: int) -> None:
    """Two rounds of 4 steps, a checkpoint every 3, a real student that mines and may become an assistant, with dropout: whatever the
    moment of death, final weights, groups and logs are those of an uninterrupted run."""
    changes = {"steps": 8, "batch_queries": 4, "dropout": 0.1, "assistants": {"bad": BAD, "a": MIDDLE}}
    whole = setting.run(setting.bench(**changes), name="whole")
    assert setting.rounds("whole")[0]["replaced"] == "bad"
    killed = setting.killed_run(monkeypatch, where, at, changes)
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    setting.assert_alike("whole", "killed")


def test_a_finished_run_is_not_trained_again(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call again returns the same folder and makes no step."""
    bench = setting.bench(student=[MIDDLE, MIDDLE])
    place = setting.run(bench)
    before = (setting.root / "run" / "steps.jsonl").read_bytes(), (place / "model.safetensors").read_bytes()

    def fail(*_: Any) -> Any:
        raise AssertionError("a step was made")

    monkeypatch.setattr(Trainer, "_train_step", fail)
    assert setting.run(bench) == place
    assert ((setting.root / "run" / "steps.jsonl").read_bytes(), (place / "model.safetensors").read_bytes()) == before


def test_assistants_need_not_exist_for_kd(setting: Setting) -> None:
    """kd with a teacher alone: the pool is the teacher's, Compare has nobody to replace."""
    setting.run(setting.bench(student=[MIDDLE, MIDDLE], assistants={}), strategy="kd")
    assert [(one["worst"], one["replaced"], one["assistants"]) for one in setting.rounds()] == [(None, None, {})] * 2
    assert setting.groups(0).passages.shape == (4, 4)
    assert setting.groups(0).passages.max() < PASSAGES


def test_reading_what_is_finished_writes_nothing(setting: Setting) -> None:
    """Several processes read rounds.jsonl while one appends; a reader that wrote it anew could drop the newest line."""
    bench = setting.bench(student=[MIDDLE, MIDDLE])
    setting.run(bench)
    path = setting.root / "run" / "rounds.jsonl"
    before = path.stat().st_ino, path.stat().st_mtime_ns
    setting.run(bench)
    assert rounds_module._finished_rounds(setting.root / "run")[-1]["round"] == 1
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before


def test_without_records_the_last_round_is_the_best_one_known(tmp_path: Path) -> None:
    """training/ may be deleted to save space; models/ still searches."""
    assert best_round(tmp_path, small_options(rounds=3, checkpoint="best_eval")) == 2
