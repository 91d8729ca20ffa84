"""Every strategy on hand-made scores, without a model: against a slow second writing of the method, and what must never change it."""

from __future__ import annotations

import contextlib
import copy
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mta4dpr.config.options import Distill
from mta4dpr.distill import strategies as strategies_module
from mta4dpr.distill.losses import curriculum_labels
from mta4dpr.distill.policy import Policy
from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES, headings_of_terms
from mta4dpr.distill.strategy import Requirement
from mta4dpr.distill.terms import TERMS

from .slow_reference import LABELS, OPTIONS, REFERENCES, Plain, hand_made, reordered, shifted, step_of, total

CASES = {
    "plain": {},
    "two passages": {"group": 2},
    "dropped": {"drop": True},
    "two passages, dropped": {"group": 2, "drop": True},
    "relabelled": {"relabel": True},
    "dropped and relabelled": {"drop": True, "relabel": True, "queries": 4},
    "one query": {"queries": 1},
}
SHARED_FORM = ["kd", "kd_ta", "mean_ta", "random_ta", "best_ta", "weighted_ta", "rl_ta", "mta4dpr"]  # a * CE + KL terms that sum to b + c
TRAIN_TEACHER = ["rocketqav2", "lead"]
ONE_TEACHER = ["contrastive", "kd", "margin_mse", "cl_drd", *TRAIN_TEACHER]


class ScriptedPolicy:
    """Answers what it is told and keeps what it was asked."""

    def __init__(self, chosen: list[list[float]]) -> None:
        self.chosen = torch.tensor(chosen, dtype=torch.float64)
        self.asked: dict[str, torch.Tensor] = {}

    def __call__(self, features: torch.Tensor, uniform: torch.Tensor, reward: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked = {"features": features, "uniform": uniform, "reward": reward}
        return self.chosen, torch.tensor(0.5, dtype=torch.float64)


def make(name: str, seed: int = 0, **changes: Any) -> Plain:
    """A hand-made step with the options that make the strategy what it is, and answers for rl_ta's policy."""
    plain = hand_made(seed, **{**STRATEGIES[name].overrides, **changes})
    generator = np.random.default_rng(seed + 1)
    chosen = generator.integers(0, 2, (len(LABELS), len(plain.place)))
    chosen[0] |= chosen.sum(axis=0) == 0
    plain.chosen = chosen.astype(float).tolist()
    return plain


def found_by(name: str, plain: Plain, policy: Any = None) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor]]:
    """(terms, notes, leaves) of the strategy under test."""
    step, leaves = step_of(plain, policy or (ScriptedPolicy(plain.chosen) if plain.chosen else None))
    return STRATEGIES[name].loss(step), step.notes, leaves


def values_of(terms: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {name: (weight, value.item()) for name, (weight, value) in terms.items()}


def assert_alike(found: dict[str, tuple[float, float]], expected: dict[str, tuple[float, float]]) -> None:
    assert found.keys() == expected.keys()
    for name, (weight, value) in expected.items():
        assert found[name] == (pytest.approx(weight), pytest.approx(value, rel=1e-9, abs=1e-12)), name


# --- values ---------------------------------------------------------------------------------------------------------


def test_every_strategy_has_a_reference() -> None:
    """A strategy that is added without a second writing of its loss fails here."""
    assert list(REFERENCES) == list(STRATEGIES)


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_the_terms_are_those_of_the_slow_reference(name: str, case: str) -> None:
    """Value and weight of each term, to nine digits, with groups of every shape that GenDataset makes."""
    for seed in range(3):
        plain = make(name, seed, **CASES[case])
        terms, notes, _ = found_by(name, plain)
        assert_alike(values_of(terms), REFERENCES[name](plain, notes))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kd_ta", {"ta": "c"}),
        ("rocketqav2", {"joint_kl": "reverse"}),
        ("mta4dpr", {"granularity": "query"}),
        ("mta4dpr", {"fused": "none"}),
        ("random_ta", {"fused": "none"}),
        ("takd", {"soft_weight": 0.9, "soft_tau": 1.0}),
        ("dgkd", {"soft_weight": 1.0, "soft_tau": 4.0}),
        ("prod", {"soft_tau": 4.0}),
    ],
)
def test_options_mean_what_the_method_says(name: str, options: dict[str, Any]) -> None:
    """Each option of a strategy against the same reference."""
    for seed in range(4):
        plain = make(name, seed, **options)
        terms, notes, _ = found_by(name, plain)
        assert_alike(values_of(terms), REFERENCES[name](plain, notes))


def test_takd_without_a_chain_is_taught_by_the_teacher() -> None:
    """The first of the chain has no model before it but the teacher."""
    plain = make("takd")
    plain.scores = {"teacher": plain.scores["teacher"]}
    terms, notes, _ = found_by("takd", plain)
    assert_alike(values_of(terms), REFERENCES["takd"](plain, notes))
    assert "kl_teacher" in terms


def test_without_assistants_mta4dpr_is_kd() -> None:
    """The ablation b = 1, c = 0 has kd's very loss: the assistant's term weighs nothing."""
    plain = make("mta4dpr", teacher_weight=1.0, assistant_weight=0.0, drop=True)
    mta4dpr, kd = (values_of(found_by(name, plain)[0]) for name in ("mta4dpr", "kd"))
    assert mta4dpr["kl_assistant"][0] == 0
    assert {name: term for name, term in mta4dpr.items() if term[0]} == kd


@pytest.mark.parametrize("name", SHARED_FORM)
def test_the_kl_weights_sum_to_the_same(name: str) -> None:
    """Otherwise a row of the leaderboard would differ in the amount of distillation, not in its target."""
    terms = values_of(found_by(name, make(name))[0])
    assert terms["ce"][0] == OPTIONS["ce_weight"]
    of_kl = [weight for term, (weight, _) in terms.items() if term.startswith("kl_")]
    assert sum(of_kl) == OPTIONS["teacher_weight"] + OPTIONS["assistant_weight"]


@pytest.mark.parametrize("name", ["takd", "dgkd"])
def test_soft_targets_and_ce_share_one(name: str) -> None:
    """(1 - l) * CE + l * KL (Mirzadeh, Son)."""
    assert sum(weight for weight, _ in values_of(found_by(name, make(name))[0]).values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("group", "number", "parts"),
    [
        (30, 0, (5, 12, 13)),
        (30, 1, (10, 10, 10)),
        (30, 2, (20, 5, 5)),
        (8, 0, (1, 4, 3)),
        (8, 1, (3, 2, 3)),
        (8, 2, (5, 2, 1)),
        (4, 0, (1, 1, 2)),
        (4, 1, (1, 2, 1)),
        (4, 2, (3, 0, 1)),
        (2, 0, (1, 0, 1)),
        (2, 1, (1, 0, 1)),
        (2, 2, (1, 1, 0)),
    ],
)
def test_curriculum_labels_by_hand(group: int, number: int, parts: tuple[int, int, int]) -> None:
    """CL-DRD's parts of 30, and the nearest shares of smaller groups: 1/rank, then 0, then -1, in the teacher's order."""
    first, second, third = parts
    expected = [*(1 / (n + 1) for n in range(first)), *[0.0] * second, *[-1.0] * third]
    teacher = torch.arange(group, 0, -1, dtype=torch.float64)[None].log_softmax(dim=-1)
    order = torch.from_numpy(np.random.default_rng(group).permutation(group))
    found = curriculum_labels(teacher[:, order], strategies_module.CURRICULUM[number])[0]
    assert found.tolist() == pytest.approx([expected[n] for n in order])


@pytest.mark.parametrize(("steps", "firsts"), [(30, (0, 10, 20)), (10, (0, 4, 7)), (3, (0, 1, 2))])
def test_cl_drd_has_three_stages_by_step(monkeypatch: pytest.MonkeyPatch, steps: int, firsts: tuple[int, ...]) -> None:
    """Thirds of all steps, whatever the rounds are: the labels grow finer at these steps alone."""
    seen = []
    monkeypatch.setattr(strategies_module.losses, "curriculum_labels", lambda t, sizes: seen.append(sizes) or curriculum_labels(t, sizes))
    step, _ = step_of(make("cl_drd", steps=steps))
    for number in range(steps):
        STRATEGIES["cl_drd"].loss(replace(step, number=number))
    changes = [n for n in range(steps) if n == 0 or seen[n] != seen[n - 1]]
    assert changes == list(firsts)
    assert [seen[n] for n in firsts] == [(5, 12, 13), (10, 10, 10), (20, 5, 5)]


def test_prod_goes_from_weak_to_strong() -> None:
    """A round for each on D_eval's order, the teacher wherever it stands; the last one stays; no step back in the first round."""
    names = []
    for number in range(6):
        plain = make("prod")
        plain.round = number
        names.append(found_by("prod", plain)[1]["assistant"])
    assert names == ["a", "c", "b", "teacher", "teacher", "teacher"]
    weak = make("prod")
    weak.standing["teacher"] = 0.1
    assert found_by("prod", weak)[1]["assistant"] == "teacher"
    step, _ = step_of(make("prod"))
    assert list(STRATEGIES["prod"].loss(replace(step, previous=None))) == ["ce", "kl_teacher"]


@pytest.mark.parametrize("name", ["best_ta", "kd_ta"])
def test_the_best_on_d_eval_follows_the_standing(name: str) -> None:
    """Never the teacher, though it stands higher."""
    for best in ("a", "b", "c"):
        plain = make(name)
        plain.standing[best] = 0.8
        assert found_by(name, plain)[1]["assistant"] == best


# --- what must never change a loss ----------------------------------------------------------------------------------


def new_policy(plain: Plain) -> Policy:
    """With weights that are not 0, so that features decide."""
    policy = Policy(len(LABELS), len(plain.place)).double()
    with torch.no_grad():
        policy.weight.copy_(torch.linspace(-1, 1, 12).reshape(4, 3))
    return policy


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(1, 5)), constants=st.lists(st.floats(-20, 20), min_size=6, max_size=6))
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_group_order_and_constants_never_matter(name: str, seed: int, order: list[int], constants: list[float]) -> None:
    """A model's scores have no zero and a group's negatives no order: no strategy sees either, nor do its random choices."""
    plain = make(name, seed, drop=bool(seed % 2), relabel=bool(seed % 3))
    plain.number, plain.round = seed % 30, seed % 4
    names = ("student", "previous", *LABELS)
    offsets = {label: [c, -c, c / 3] for label, c in zip(names, constants, strict=True)}
    policy = new_policy(plain)
    terms, notes, _ = found_by(name, plain, copy.deepcopy(policy))
    for other in (reordered(plain, [0, *order]), shifted(plain, offsets)):
        again, notes_again, _ = found_by(name, other, copy.deepcopy(policy))
        assert notes_again == notes
        for term, (weight, value) in values_of(terms).items():
            assert values_of(again)[term] == (weight, pytest.approx(value, rel=1e-7, abs=1e-9)), term


# --- gradients ------------------------------------------------------------------------------------------------------


def slopes(name: str, plain: Plain, rows: Any, notes: dict[str, Any], size: float = 1e-5) -> list[list[float]]:
    """Central differences of the slow reference with respect to each of `rows`, a part of `plain`."""
    found = []
    for row in rows:
        found.append([])
        for n, value in enumerate(row):
            both = []
            for moved in (value + size, value - size):
                row[n] = moved
                both.append(total(REFERENCES[name](plain, notes)))
            row[n] = value
            found[-1].append((both[0] - both[1]) / (2 * size))
    return found


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_gradients_are_the_slow_references_slopes(name: str) -> None:
    """The student's for every strategy, the teacher's where it is trained: to the digits of a difference quotient, dropped passages too.

    Without them a wrong detach would go unseen, and so would a NaN from the -inf of a dropped passage.
    """
    plain = make(name, 5, drop=True, relabel=True, group=4)
    terms, notes, leaves = found_by(name, plain)
    sum(weight * value for weight, value in terms.values()).backward()
    student = leaves["student"].grad
    assert student is not None
    np.testing.assert_allclose(student.numpy(), slopes(name, plain, plain.logits, notes), atol=1e-7)
    assert float(student.abs().max()) > 1e-3
    if name in TRAIN_TEACHER:
        teacher = leaves["teacher"].grad
        assert teacher is not None
        np.testing.assert_allclose(teacher.numpy(), slopes(name, plain, plain.scores["teacher"], notes), atol=1e-7)
        assert float(teacher.abs().max()) > 1e-3


def test_lead_pulls_at_the_students_layers_alone() -> None:
    """Method: the teacher's layers are not pulled, though the teacher itself is."""
    plain = make("lead", drop=True)
    terms, notes, leaves = found_by("lead", plain)
    sum(weight * value for weight, value in terms.values()).backward()
    for n, layer in enumerate(plain.student_layers):
        found = leaves[f"student layer {n}"].grad
        assert found is not None
        np.testing.assert_allclose(found.numpy(), slopes("lead", plain, layer, notes), atol=1e-7)
    assert all(leaves[f"teacher layer {n}"].grad is None for n in range(len(plain.teacher_layers)))


def test_a_teacher_with_fewer_layers_than_the_student_gives_all_it_has() -> None:
    """Every pair is made once, in order of depth; the student's deepest layers have no partner."""
    plain = make("lead")
    plain.teacher_layers = plain.teacher_layers[:1]
    terms, notes, _ = found_by("lead", plain)
    assert notes["layers"] == [0]
    assert_alike(values_of(terms), REFERENCES["lead"](plain, notes))


def test_the_policy_is_asked_what_the_method_says() -> None:
    """Features of each teacher on each query: CE of the positive, KL from T, entropy; reward: minus the student's CE, no gradient."""
    from .slow_reference import distributions, entropy, gold_nll, kl, mean

    plain = make("rl_ta", drop=True)
    policy = ScriptedPolicy(plain.chosen)
    found_by("rl_ta", plain, policy)
    each = [distributions(plain, rows) for rows in plain.scores.values()]
    expected = [[[gold_nll(plain, p)[q], kl(each[0][q], p[q]), entropy(p[q])] for q in range(3)] for p in each]
    np.testing.assert_allclose(policy.asked["features"].detach().numpy(), expected, atol=1e-12)
    assert float(policy.asked["reward"]) == pytest.approx(-mean(gold_nll(plain, distributions(plain, plain.student))))
    assert not policy.asked["reward"].requires_grad
    assert policy.asked["uniform"].shape == (4, 3)


# --- random choices -------------------------------------------------------------------------------------------------

CHOOSERS = {"random_ta": ("assistant", {"fused": "none"}), "dgkd": ("dropped", {}), "lead": ("layers", {}), "rl_ta": ("uniform", {})}


def choices(name: str, steps: int, seed: int = 3) -> list[Any]:
    """What a strategy draws at each step."""
    note, options = CHOOSERS[name]
    plain = make(name, queries=2, group=2, steps=steps, **options)
    policy = ScriptedPolicy(plain.chosen)
    step, _ = step_of(plain, policy)
    found = []
    for number in range(steps):
        now = replace(step, number=number, seed=seed, notes={})
        STRATEGIES[name].loss(now)
        found.append(policy.asked["uniform"].flatten().tolist() if note == "uniform" else now.notes[note])
    return found


@pytest.mark.parametrize("name", list(CHOOSERS))
def test_choices_are_a_pure_function_of_seed_and_step(name: str) -> None:
    """Torch's and numpy's streams play no part, another seed gives another sequence, and so does another step."""
    torch.manual_seed(1)
    first = choices(name, 40)
    torch.manual_seed(2)
    np.random.seed(2)
    assert choices(name, 40) == first
    assert choices(name, 40, seed=4) != first
    assert len({str(one) for one in first}) > 1
    assert first[:20] != first[20:]


@pytest.mark.parametrize("name", list(CHOOSERS))
def test_choices_cover_all_members_in_equal_shares(name: str) -> None:
    """600 steps: each member within four standard deviations of its share."""
    steps = 600
    drawn = choices(name, steps)
    if name == "rl_ta":
        uniform = np.array(drawn)
        assert ((uniform >= 0) & (uniform < 1)).all()
        assert abs(uniform.mean(axis=0) - 0.5).max() < 4 * math.sqrt(1 / 12 / steps)
        alike = np.corrcoef(uniform.T) - np.eye(uniform.shape[1])
        assert abs(alike).max() < 4 / math.sqrt(steps)  # each query and teacher draws for itself
        return
    counts = Counter(str(one) for one in drawn)
    members = {"random_ta": ["a", "b", "c"], "dgkd": list(LABELS), "lead": [str([i, j]) for j in range(4) for i in range(j)]}[name]
    assert set(counts) == set(members)
    share = 1 / len(members)
    assert all(abs(n - steps * share) < 4 * math.sqrt(steps * share * (1 - share)) for n in counts.values())


def test_random_ta_draws_fused_assistants_too_and_each_query_for_itself() -> None:
    """As mta4dpr: the same assistants are offered, and `granularity: query` gives each query a draw of its own."""
    step, _ = step_of(make("random_ta", granularity="query"))
    found = []
    for number in range(150):
        now = replace(step, number=number, notes={})
        STRATEGIES["random_ta"].loss(now)
        found.append(now.notes["assistant"])
    assert {label for row in found for label in row} == {"a", "b", "c", "a+b", "a+c", "b+c", "a+b+c"}
    assert any(len(set(row)) > 1 for row in found)


# --- the registry ---------------------------------------------------------------------------------------------------


def test_the_registry_holds_the_methods_strategies() -> None:
    """Method, section 8: a name that users type is a contract."""
    assert set(STRATEGIES) == {
        "contrastive", "kd", "kd_ta", "margin_mse", "mean_ta", "random_ta", "best_ta", "weighted_ta", "takd", "dgkd", "rl_ta", "cl_drd",
        "prod", "rocketqav2", "lead", "mta4dpr",
    }  # fmt: skip
    assert set(ABLATIONS) == {f"mta4dpr-{what}" for what in ("no-fused", "no-selection", "no-replacement", "no-harder", "one-round")}
    assert all(strategy.source and strategy.about for strategy in STRATEGIES.values())


@pytest.mark.parametrize("name", [*STRATEGIES, *ABLATIONS])
def test_options_and_overrides_exist(name: str) -> None:
    """A misspelt option would be refused or ignored only when a user asks for it."""
    overrides = STRATEGIES[name].overrides if name in STRATEGIES else ABLATIONS[name][1]
    assert set(overrides) <= set(Distill.model_fields)
    checked = Distill.model_validate(overrides).model_dump()
    assert {option: checked[option] for option in overrides} == overrides
    assert all(checked[option] != Distill.model_fields[option].default for option in overrides)  # an override changes something
    if name in STRATEGIES:
        assert set(STRATEGIES[name].options) <= set(Distill.model_fields)
        assert not set(STRATEGIES[name].options) & set(overrides)


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_requirements_say_what_the_loss_reads(name: str) -> None:
    """What a strategy does not ask for is not there when it runs; what it asks for it reads, else it would be computed in vain."""
    strategy, plain = STRATEGIES[name], make(name)
    step, _ = step_of(plain, ScriptedPolicy(plain.chosen))
    requires = strategy.requires
    less = replace(
        step,
        assistants=step.assistants if Requirement.ASSISTANTS in requires else {},
        standing=step.standing if Requirement.STANDING in requires else {},
        previous=step.previous if Requirement.PREVIOUS_STUDENT in requires else None,
        student_layers=step.student_layers if Requirement.LAYERS in requires else [],
        teacher_layers=step.teacher_layers if Requirement.LAYERS in requires else [],
        policy=step.policy if Requirement.POLICY in requires else None,
        teacher=step.teacher if Requirement.JUDGEMENTS_ALONE not in requires else torch.full_like(step.teacher, math.nan),
    )
    terms, again = STRATEGIES[name].loss(step), STRATEGIES[name].loss(less)
    assert values_of(terms) == values_of(again)
    lacking: dict[Requirement, dict[str, Any]] = {
        Requirement.ASSISTANTS: {"assistants": {}},
        Requirement.STANDING: {"standing": {}},
        Requirement.PREVIOUS_STUDENT: {"previous": None},
        Requirement.LAYERS: {"student_layers": [], "teacher_layers": []},
        Requirement.POLICY: {"policy": None},
    }
    for requirement, without in lacking.items():
        if requirement in requires:
            found = None
            with contextlib.suppress(KeyError, TypeError, ValueError, IndexError, RuntimeError):  # it asks for what is not there
                found = values_of(STRATEGIES[name].loss(replace(step, notes={}, **without)))
            assert found != values_of(terms), requirement
    assert (Requirement.TEACHER_TRAINING in requires) == (name in TRAIN_TEACHER)
    assert (Requirement.ASSISTANTS in requires) == (name not in ONE_TEACHER)


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_term_has_a_title(name: str) -> None:
    """A plot would show the name that the code has for it."""
    for case in CASES.values():
        terms, _, _ = found_by(name, make(name, **case))
        assert set(terms) <= {*TERMS, *STRATEGIES[name].terms}


def test_headings_of_a_strategys_own_terms_follow_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy from outside names its terms; a variant of it is trained under another name and still finds them."""
    own = replace(STRATEGIES["kd"], terms={"hubness": "hubness of the batch", "kl_teacher": "KL to the oracle"})
    monkeypatch.setitem(STRATEGIES, "mine", own)
    usual = {name: term.heading for name, term in TERMS.items()}
    assert headings_of_terms("kd") == headings_of_terms("mine-with-more-steps") == {**usual, "hubness": "hubness of the batch"}
    assert headings_of_terms("mine") == {**usual, "hubness": "hubness of the batch", "kl_teacher": "KL to the oracle"}
    assert list(headings_of_terms("mine")) == [*TERMS, "hubness"]


def test_only_mta4dpr_replaces_assistants() -> None:
    """Section 8; its controls must not, and cannot be told to."""
    assert [name for name, strategy in STRATEGIES.items() if Requirement.REPLACEMENT in strategy.requires] == ["mta4dpr"]
    assert [name for name, strategy in STRATEGIES.items() if "replace" in strategy.options] == ["mta4dpr"]


OTHER_VALUES = {
    "ce_weight": 0.7,
    "teacher_weight": 0.9,
    "assistant_weight": 0.9,
    "ta": "c",
    "soft_weight": 0.7,
    "soft_tau": 1.5,
    "joint_kl": "reverse",
    "select": "footrule",
    "fused": "none",
    "granularity": "query",
}  # what is listed besides these is read elsewhere


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_an_option_is_a_strategys_own_where_it_changes_the_loss(name: str) -> None:
    """One that is not listed would be refused as idle, or one that is listed would be taken and ignored."""
    strategy = STRATEGIES[name]
    for option in sorted(set(OTHER_VALUES) - set(strategy.overrides)):
        changed = False
        for seed in range(6):
            plain = make(name, seed)
            before = values_of(found_by(name, plain)[0])
            plain.options = plain.options.model_copy(update={option: OTHER_VALUES[option]})
            changed |= values_of(found_by(name, plain)[0]) != before
        assert changed == (option in strategy.options), option
