"""Whether what a user asked for fits together: what strategies need, names that are taken, options that would do nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import write_json

from .asking import CE, opened, refusal

# --- what cannot be ---


@pytest.mark.parametrize(
    ("label", "variant", "told"),
    [
        ("x", {"strategy": "mta4dp"}, "variants.x: there is no strategy 'mta4dp' (did you mean 'mta4dpr'?)"),
        ("x", {"strategy": "kd", "distill": {"stepz": 3}}, "unknown key distill.stepz (did you mean 'steps'?)"),
        ("x", {"strategy": "kd", "distill": {"lr": -1}}, "variants.x: distill.lr: "),
        ("x", {"strategi": "kd"}, "unknown key variants.x.strategi (did you mean 'strategy'?)"),
        ("x", {"strategy": "kd", "student": "studnet"}, "variants.x.student 'studnet' is not among the models (did you mean 'student'?)"),
        ("x", {"strategy": "kd", "teacher": "assistant"}, "variants.x: the teacher 'assistant' cannot be an assistant too"),
        ("x", {"strategy": "mean_ta", "assistants": ["bm25", "bm25"]}, "variants.x.assistants: 'bm25' occurs twice"),
        ("x", {"strategy": "mean_ta", "assistants": []}, "mean_ta needs assistants"),
        (
            "x",
            {"strategy": "prod", "distill": {"regime": "static"}},
            "prod changes its data from stage to stage, so it needs regime rounds",
        ),
        ("x", {"strategy": "prod", "distill": {"rounds": 5}}, "prod makes a round for each teacher, so distill.rounds has no effect"),
        ("x", {"strategy": "takd", "assistants": ["bm25", "ce"]}, "none of bm25, ce is a bi-encoder"),
        ("x", {"strategy": "kd_ta", "distill": {"ta": "asistant"}}, "found 'asistant' (did you mean 'assistant'?)"),
        ("x", {"strategy": "kd_ta", "assistants": ["bm25"], "distill": {"ta": "assistant"}}, "distill.ta is best or an assistant (bm25)"),
        ("x", {"strategy": "kd", "student": "ce"}, "'ce' is a cross-encoder; a student is a bi-encoder"),
        ("x", {"strategy": "kd", "student": "bm25"}, "variants.x.student 'bm25' is not among the models"),
        ("x", {"strategy": "lead", "teacher": "ce"}, "lead aligns layers of two bi-encoders, and 'ce' is a cross-encoder"),
        ("x", {"strategy": "rocketqav2", "teacher": "bm25", "assistants": ["assistant"]}, "'bm25' has no weights"),
        ("x", {"strategy": "kd", "teacher": "ce", "assistants": []}, "rank no corpus"),
        ("x", {"strategy": "mta4dpr", "distill": {"select": "best"}}, "is the strategy best_ta"),
        ("x", {"strategy": "mta4dpr", "assistants": ["bm25"], "distill": {"fused": [["bm25", "assistant"]]}}, "distill.fused: "),
        ("x", {"strategy": "mta4dpr", "distill": {"compare_measure": "RR@10 R@5"}}, "distill.compare_measure takes one measure"),
        ("x", {"strategy": "kd", "distill": {"soft_tau": 2.0}}, "kd does not take distill.soft_tau, an option of takd, dgkd, prod"),
        ("x", {"strategy": "random_ta", "distill": {"select": "kl"}}, "random_ta does not take distill.select, an option of mta4dpr"),
        ("kd", {"strategy": "kd"}, "variants: 'kd' is the name of a system already"),
        ("mta4dpr-no-fused", {"strategy": "kd"}, "variants: 'mta4dpr-no-fused' is the name of a system already"),
        ("student-init", {"strategy": "kd"}, "variants: 'student-init' is the name of a system already"),
        ("bm25", {"strategy": "kd"}, "a variant cannot be called 'bm25'"),
        ("teacher", {"strategy": "kd"}, "a variant cannot be called 'teacher'"),
        ("a b", {"strategy": "kd"}, "a variant cannot be called 'a b'"),
    ],
)
def test_variants_that_cannot_be_trained(tiny: Callable[..., Path], label: str, variant: dict[str, Any], told: str) -> None:
    """Told before anything starts, with what to do; none of them is a bug of ours (exit status 1)."""
    path = tiny(variants={label: variant}, models={"ce": CE})
    assert told in refusal(path, label)


def test_a_model_is_not_called_like_a_fused_assistant(tiny: Callable[..., Path]) -> None:
    assert "models: 'bm25+assistant' has a +" in refusal(tiny(models={"bm25+assistant": CE}), "kd")


# --- options that would do nothing ---


@pytest.mark.parametrize(
    ("systems", "settings", "told"),
    [
        (("kd",), ("soft_tau=2",), "distill.soft_tau is an option of takd, dgkd, prod; asked for: kd, so it has no effect"),
        (("kd", "contrastive"), ("distill.policy_lr=1", "steps=6"), "distill.policy_lr is an option of rl_ta"),
        (("kd",), ("ta=assistant",), "distill.ta is an option of kd_ta"),
        (("bm25",), ("replace=false",), "no student is asked for"),
        (("random_ta", "best_ta"), ("select=rbo",), "distill.select is an option of mta4dpr; asked for: random_ta, best_ta"),
        (("mta4dpr-no-selection",), ("select=rbo",), "distill.select is an option of mta4dpr; asked for: mta4dpr-no-selection"),
        (("prod",), ("rounds=4",), "distill.rounds has no effect: prod has a value of its own"),
        (("mta4dpr-one-round",), ("rounds=4",), "distill.rounds has no effect: mta4dpr-one-round has a value of its own"),
        (
            ("mta4dpr-one-round",),
            ("harder=false",),
            "distill.harder says how later rounds differ from the first; asked for: mta4dpr-one-round",
        ),
        (("kd", "mta4dpr"), ("rounds=1", "wrong_weight=3"), "distill.wrong_weight says how later rounds differ from the first"),
        (("contrastive",), ("ce_weight=1",), "distill.ce_weight is an option of kd, kd_ta, "),
        (("takd", "lead"), ("assistant_weight=1",), "asked for: takd, lead, so it has no effect"),
        (("contrastive", "cl_drd"), ("tau_teacher=1",), "asked for: contrastive, cl_drd, so it has no effect"),
        (("kd", "rocketqav2"), ("calibration=none",), "asked for: kd, rocketqav2, so it has no effect"),
        ((), ("joint_kl=reverse",), "distill.joint_kl is an option of rocketqav2; asked for: contrastive, kd, mta4dpr"),
    ],
)
def test_an_option_that_no_student_asked_for_takes_is_refused(systems: tuple[str, ...], settings: tuple[str, ...], told: str) -> None:
    """Whoever sets it believes that it changes the figures."""
    assert told in refusal("tiny", *systems, settings=settings)


@pytest.mark.parametrize(
    ("systems", "settings"),
    [
        (("kd", "takd"), ("soft_tau=2",)),
        (("kd", "mta4dpr-no-fused"), ("select=rbo",)),
        (("prod", "kd"), ("rounds=4",)),
        (("kd", "mta4dpr-one-round"), ("wrong_rule=prod", "rounds=3")),
        (("bm25",), ("lr=0.1",)),
        (("lead",), ("teacher_lr=0.1",)),
        ((), ("select=rbo", "rbo_p=0.5", "granularity=query")),
    ],
)
def test_an_option_that_one_of_them_takes_is_not(systems: tuple[str, ...], settings: tuple[str, ...]) -> None:
    assert opened("tiny", *systems, settings=settings).systems


def test_a_folder_with_that_option_takes_rows_of_other_systems(tmp_path: Path) -> None:
    """One folder, one configuration: takd's option must be given again when kd joins it, or the folder would refuse the command."""
    settings = ("soft_tau=2",)
    taken = opened("tiny", "takd", settings=settings).bench.distill.model_dump(mode="json")
    write_json(tmp_path / "manifest.json", {"settings": {"name": "tiny", "distill": taken}, "systems": {}})
    assert opened("tiny", "kd", settings=settings, output=tmp_path).systems
    with pytest.raises(UserError, match="soft_tau"):
        opened("tiny", "kd", settings=("soft_tau=3",), output=tmp_path)


def test_tensorboard_is_asked_for_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after an hour, when the first step is logged."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "tensorboard" else find(name, *rest))
    with pytest.raises(EnvironmentLack, match="tensorboard") as caught:
        open_experiment(Request("tiny", systems=("kd",), tensorboard=True))
    assert caught.value.exit_status == 3
    assert open_experiment(Request("tiny", systems=("kd",))).systems


# --- the command line's own ---


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"seed": -1}, "--seed takes a whole number from 0 to 2147483647, found -1"),
        ({"seed": 2**31}, "found 2147483648"),
        ({"limit": 0}, "--limit takes a number of queries of at least 1, found 0"),
        ({"redo": "serch"}, "found 'serch' (did you mean 'search'?)"),
    ],
)
def test_options_of_the_command_line_that_are_wrong_by_themselves(asked: dict[str, Any], told: str) -> None:
    """From Python they come unchecked by any command line."""
    with pytest.raises(UserError) as caught:
        open_experiment(Request("tiny", systems=("bm25",), **asked))
    assert told in str(caught.value)


# --- measures, contrasts and published figures ---


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"measures": ["RR@10", "nDCG10"]}, "tiny/test: "),
        ({"measures": ["RR@10 nDCG@10"]}, "write the measure 'RR@10 nDCG@10' as"),
        ({"measures": ["MRR@10"]}, "write the measure 'MRR@10' as 'RR@10'"),
        (
            {"expected": [{"system": "bm25", "measure": "R@5", "value": 0.5, "tolerance": 0.1, "source": "x"}]},
            "tiny/test: expected names 'R@5', which is not among its measures",
        ),
        (
            {"expected": [{"system": "bm52", "measure": "RR@10", "value": 0.5, "tolerance": 0.1, "source": "x"}]},
            "tiny/test: expected: there is no system 'bm52' (did you mean 'bm25'?)",
        ),
    ],
)
def test_an_eval_set_names_measures_and_systems_that_there_are(tiny: Callable[..., Path], changed: dict[str, Any], told: str) -> None:
    """A table's heading is the measure as it was written, so there is one way to write it."""
    path = tiny(eval_sets=[{"id": "tiny/test", "measures": ["RR@10"], **changed}])
    assert told in refusal(path, "bm25")


def test_a_contrast_names_systems_that_there_are(tiny: Callable[..., Path]) -> None:
    """Also such as are run by another command; a typing error would be a test that is never made."""
    assert "contrasts: there is no system 'kdd' (did you mean 'kd'?)" in refusal(tiny(contrasts=[["mta4dpr", "kdd"]]), "bm25")
    assert opened(tiny(contrasts=[["takd", "student-init"]]), "bm25").systems


def test_all_mistakes_come_at_once(tiny: Callable[..., Path]) -> None:
    """Not one after each correction."""
    path = tiny(
        contrasts=[["a", "kd"]], eval_sets=[{"id": "tiny/test", "measures": ["nonsense"]}], distill={"compare_measure": "RR@10 R@5"}
    )
    told = refusal(path, "kd")
    for mistake in ("no system 'a'", "nonsense", "distill.compare_measure takes one measure"):
        assert mistake in told


def test_two_eval_sets_with_one_folder_are_refused(tiny: Callable[..., Path]) -> None:
    """Their run files would be the same."""
    path = tiny(eval_sets=[{"id": name, "measures": ["RR@10"]} for name in ("tiny/test", "tiny-Test")])
    assert "two eval sets would write the folder 'tiny-test'" in refusal(path, "bm25")
