"""Algorithm 1 with scorers whose quality a test chooses, and with a real student that is killed and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.distill import rounds as rounds_module
from mta4dpr.distill.groups import Groups, RoundData
from mta4dpr.distill.rounds import best_round
from mta4dpr.distill.selection import rank_biased_overlap
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.distill.trainer import Batch, Trainer, TrainerSetup
from mta4dpr.machine.files import read_json
from mta4dpr.models.encoder import load_encoder
from mta4dpr.models.hashes import hash_of_weights

from .tiny_distill import HELD_OUT, PASSAGES, TRAIN, small_options
from .tiny_rounds import BAD, GOOD, MIDDLE, Setting

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


@pytest.mark.parametrize(
    "strategy", [name for name, strategy in STRATEGIES.items() if not {Requirement.REPLACEMENT, Requirement.CHAIN} & strategy.requires]
)
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


def test_rerank_replaces_the_worst_too(setting: Setting) -> None:
    """The whole of Algorithm 1 with the cheap Compare."""
    setting.run(setting.bench(student=[GOOD, GOOD], compare="rerank"))
    assert setting.rounds()[0]["replaced"] == "bad"


# --- GenDataset over rounds ---


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


def test_harder_halves_the_depth_each_round_and_adds_the_students_list(setting: Setting) -> None:
    """Round 1's negatives of a fully deep pool come from the top of a fusion that the student's list is part of."""
    seen: list[tuple[int, list[str]]] = []
    real = rounds_module.generate

    def spying(folder: Path, data: RoundData, **more: Any) -> Groups:
        seen.append((data.number, list(data.rankings)))
        return real(folder, data, **more)

    rounds_module.generate = spying
    try:
        setting.run(setting.bench(student=[BAD, BAD], assistants={"a": MIDDLE}, depth=12))
        setting.run(setting.bench(student=[BAD, BAD], assistants={"a": MIDDLE}, depth=12, pool_teacher=False, harder=False), name="plain")
    finally:
        rounds_module.generate = real
    assert seen == [(0, ["a", "teacher"]), (1, ["a", "teacher", "the student"]), (0, ["a"]), (1, ["a"])]
    assert [one["depth"] for one in setting.rounds()] == [12, 6]
    assert [one["depth"] for one in setting.rounds("plain")] == [12, 12]


def test_entropy_x_is_fitted_in_round_0_and_kept(setting: Setting) -> None:
    """One temperature for all rounds, though round 1's groups are others."""
    setting.run(setting.bench(student=[MIDDLE, MIDDLE], tau_teacher="entropy:0.5"))
    first, second = setting.rounds()
    assert first["temperatures"]["teacher"] == second["temperatures"]["teacher"]
    assert first["teacher_entropy"] == pytest.approx(0.5 * np.log(4), abs=1e-4)
    assert second["teacher_entropy"] != pytest.approx(first["teacher_entropy"], abs=1e-4)


def test_the_static_regime_gives_every_strategy_the_same_groups(setting: Setting) -> None:
    """Section 8: the same groups in the same order, also for mta4dpr after it has replaced an assistant, and in every round."""
    names = [name for name, strategy in STRATEGIES.items() if Requirement.STAGES not in strategy.requires]
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
        if Requirement.STAGES in STRATEGIES[strategy].requires:  # its rounds are shorter: the same groups up to there
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
        TrainerSetup(
            options=small_options(steps=4),
            queries=setting.queries,
            texts=setting.texts_for(student, setting.queries),
            folder=setting.root / "run",
            seed=5,
        ),
    )
    trainer.restore()
    assert (checkpoint.name, trainer.step) == (f"{4:08}", 4)
    assert hash_of_weights(load_encoder("x", ModelSpec(model=str(place)), device="cpu").network) == hash_of_weights(student.network)


def test_vectors_that_nobody_needs_are_removed(setting: Setting) -> None:
    """A corpus of vectors for every round of every strategy would fill the disk; assistants' and the last student's stay."""
    setting.run(setting.bench(rounds=3, steps=3, replace=False))
    assert [(setting.root / "run" / f"round-{n}" / "vectors").exists() for n in range(3)] == [False, False, True]


def test_the_score_report_has_the_persistence_of_the_run(setting: Setting) -> None:
    """TASelect's overlap and the reported one are the same number; 0.9 is no more than the default of `rbo_p`."""
    setting.run(setting.bench(student=[BAD, BAD], select="rbo", rbo_p=0.5))
    report, groups = read_json(setting.root / "run" / "round-1" / "scores.json"), setting.groups(1)
    teacher, assistants, _ = groups.log_distributions(slice(None), "cpu")
    for label, log_p in assistants.items():
        overlaps = [rank_biased_overlap(teacher, log_p, p).mean().item() for p in (0.5, 0.9)]
        assert overlaps[0] != pytest.approx(overlaps[1], rel=1e-2)
        assert report[label]["rbo"] == pytest.approx(overlaps[0], rel=1e-5)


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
    assert rounds_module.finished_rounds(setting.root / "run")[-1]["round"] == 1
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before


def test_without_records_the_last_round_is_the_best_one_known(tmp_path: Path) -> None:
    """training/ may be deleted to save space; models/ still searches."""
    assert best_round(tmp_path, small_options(rounds=3, checkpoint="best_eval")) == 2
