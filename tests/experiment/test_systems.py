"""Students that a request names: variants, ablations, what their strategies need, and options that would do nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.config.benchmark import Recipe
from mta4dpr.config.yaml_files import benchmark_folder, read_yaml
from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment.experiment import Experiment, open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.experiment.systems import differences
from mta4dpr.machine.files import write_json

CE = {"kind": "cross-encoder", "untrained": {"layers": 1, "hidden": 32, "heads": 2, "seed": 4}, "pair_length": 48}


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    """A YAML of tiny with other settings; distill's are added to tiny's own."""

    def write(**changes: Any) -> Path:
        document = read_yaml(benchmark_folder() / "tiny.yaml")
        document["distill"] |= changes.pop("distill", {})
        document["models"] |= changes.pop("models", {})
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**document, **changes}))
        return path

    return write


def opened(path: Path | str, *systems: str, settings: tuple[str, ...] = (), output: Path | None = None) -> Experiment:
    return open_experiment(Request(str(path), systems=systems, settings=settings, output=output))


def recipe(path: Path | str, system: str, *settings: str) -> Recipe:
    found = opened(path, system, settings=settings).systems[0].recipe
    assert found is not None
    return found


def refusal(path: Path | str, *systems: str, settings: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as caught:
        opened(path, *systems, settings=settings)
    assert caught.value.exit_status == 2
    return str(caught.value)


# --- what a name stands for ---


def test_a_variant_differs_in_what_it_names_alone(tiny: Callable[..., Path]) -> None:
    """Roles and options that it does not name are the benchmark's."""
    variant = {"strategy": "kd", "teacher": "assistant", "assistants": ["bm25", "teacher"], "distill": {"steps": 6}}
    path = tiny(variants={"mine": variant}, distill={"wrong_weight": 3.0})
    mine, kd = recipe(path, "mine"), recipe(path, "kd")
    assert (mine.strategy, mine.teacher, mine.assistants, mine.student) == ("kd", "assistant", ("bm25", "teacher"), "student")
    assert mine.distill == kd.distill.model_copy(update={"steps": 6})
    assert kd.distill.wrong_weight == 3.0
    assert differences(mine, opened(path, "mine").bench) == {"teacher": "assistant", "assistants": ("bm25", "teacher"), "steps": 6}
    assert differences(kd, opened(path, "kd").bench) == {}


def test_a_variant_keeps_what_makes_its_strategy_what_it_is(tiny: Callable[..., Path]) -> None:
    path = tiny(variants={"mine": {"strategy": "random_ta", "distill": {"steps": 6}}}, distill={"select": "rbo", "rbo_p": 0.8})
    found = recipe(path, "mine").distill
    assert (found.select, found.replace, found.steps) == ("random", False, 6)
    assert recipe(path, "mta4dpr").distill.rbo_p == 0.8


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_mta4dpr_but_for_its_options(name: str) -> None:
    """Also those of --set: an ablation is compared with mta4dpr under the same settings."""
    about, changes = ABLATIONS[name]
    whole, part = recipe("tiny", "mta4dpr", "lr=0.01"), recipe("tiny", name, "lr=0.01")
    assert part == Recipe(whole.strategy, whole.teacher, whole.assistants, whole.student, whole.distill.model_copy(update=changes))
    assert part.distill != whole.distill
    assert differences(part, opened("tiny", name).bench).items() >= {k: v for k, v in changes.items()}.items()
    assert about


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_can_be_asked_for_by_name(name: str) -> None:
    found = recipe("tiny", name)
    assert found.strategy == name
    assert {option: getattr(found.distill, option) for option in STRATEGIES[name].overrides} == STRATEGIES[name].overrides
    assert found.distill.steps == 12


def test_prod_has_a_round_for_each_teacher(tiny: Callable[..., Path]) -> None:
    """And the same number of steps as the others."""
    assert recipe("tiny", "prod").distill.rounds == 3
    path = tiny(variants={"short": {"strategy": "prod", "assistants": ["bm25"]}})
    assert recipe(path, "short").distill.rounds == 2
    assert "steps (2) are fewer than rounds (3)" in refusal("tiny", "prod", settings=("steps=2", "rounds=1"))


def test_options_of_the_benchmark_that_a_student_has_no_use_for_do_not_stop_it(tiny: Callable[..., Path]) -> None:
    """rbo_p of a benchmark that selects by rbo, for students that select otherwise; the rules of rounds, for one that is static."""
    path = tiny(
        distill={"select": "rbo", "rbo_p": 0.8, "wrong_weight": 3.0}, variants={"s": {"strategy": "kd", "distill": {"regime": "static"}}}
    )
    for name in ("random_ta", "best_ta", "mta4dpr-no-selection"):
        assert recipe(path, name).distill.select != "rbo"
    assert recipe(path, "s").distill.regime == "static"
    assert "rbo_p has no effect" in refusal(tiny(variants={"x": {"strategy": "mta4dpr", "distill": {"rbo_p": 0.8}}}), "x")


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


def test_two_students_that_would_write_the_same_files(tiny: Callable[..., Path]) -> None:
    path = tiny(variants={"a+b": {"strategy": "kd"}, "a-b": {"strategy": "kd"}})
    assert "two systems would write the files of 'a-b'" in refusal(path, "a+b", "a-b")


def test_a_cross_encoder_searches_no_corpus(tiny: Callable[..., Path]) -> None:
    assert "which cannot search a corpus; it can be a teacher or an assistant" in refusal(tiny(models={"ce": CE}), "ce")
    assert "is a cross-encoder; a student is a bi-encoder" in refusal(tiny(models={"ce": CE}, student="ce"), "kd")


def test_no_harder_data_means_nothing_where_data_are_static(tiny: Callable[..., Path]) -> None:
    """The row would be mta4dpr's own under another name."""
    assert "mta4dpr-no-harder cannot be trained with these settings" in refusal("tiny", "mta4dpr-no-harder", settings=("regime=static",))


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
    write_json(tmp_path / "manifest.json", {"settings": {"distill": taken}})
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
