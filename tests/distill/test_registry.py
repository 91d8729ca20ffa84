"""Strategies and criteria by name: ours, and those of a file, with what these get without asking and the hash of their code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mta4dpr.distill.registry import code_of, criterion_named, is_strategy, strategy_named, takers_of, takes
from mta4dpr.distill.selection import CRITERIA, Criterion
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.errors import UserError

FILE = """
import mta4dpr
WEIGHT = {weight}

def loss(step):
    return {{"ce": (WEIGHT, step.cross_entropy())}}

plain = mta4dpr.Strategy(source="mine", about="x", loss=loss)
asking = mta4dpr.Strategy(source="mine", about="x", loss=loss, requires={{mta4dpr.Requirement.STANDING}})
judged = mta4dpr.Strategy(source="mine", about="x", loss=loss, requires={{mta4dpr.Requirement.JUDGEMENTS_ALONE}})

def nearest(a, b):
    return (a.exp() - b.exp()).abs().sum(-1)

number = 3
"""

WRONG = """
import mta4dpr

def no_step():
    return {}

no_step_strategy = mta4dpr.Strategy(source="mine", about="x", loss=no_step)

def scalar(a, b):
    return (a - b).sum()

def matrix(a, b):
    return a - b

def nan(a, b):
    return (a - b).sum(-1) / 0

def one_argument(a):
    return a

unknown = mta4dpr.Criterion(matrix, options=("nope",))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(weight=0.2))
    return path


def test_a_strategy_of_a_file_gets_assistants_unless_it_reads_judgements_alone(file: Path) -> None:
    """Ten lines that read `step.assistants` must work, whatever else they require."""
    assert strategy_named(f"{file}:plain").requires == {Requirement.OFFERED_ASSISTANTS}
    assert strategy_named(f"{file}:asking").requires == {Requirement.STANDING, Requirement.OFFERED_ASSISTANTS}
    assert strategy_named(f"{file}:judged").requires == {Requirement.JUDGEMENTS_ALONE}
    assert strategy_named("kd") is STRATEGIES["kd"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_step", "a loss takes a step; found no_step"),
        ("scalar", r"expected a distance for each query, \[2\]; found \[\]"),
        ("matrix", r"expected a distance for each query, \[2\]; found \[2, 2\]"),
        ("nan", "finite distances"),
        ("one_argument", "a criterion takes two log distributions"),
        ("unknown", "'nope' is no option of distillation"),
    ],
)
def test_what_would_choose_wrongly_or_fail_within_is_told(tmp_path: Path, name: str, told: str) -> None:
    """argmin of a flattened matrix, or of NaN, is an assistant too."""
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    teacher = torch.full((2, 2), 0.5).log()
    with pytest.raises(UserError, match=told):
        if name == "no_step":
            strategy_named(f"{path}:{name}_strategy")
        else:
            function = criterion_named(f"{path}:{name}").function
            assert function is not None
            function(teacher, teacher)


def test_what_is_no_strategy_is_told(file: Path, tmp_path: Path) -> None:
    """Exit status 2 with what is there, no traceback of ours."""
    assert is_strategy("kd")
    assert is_strategy(f"{file}:plain")
    assert not is_strategy("kdd")
    for name, told in ((f"{file}:number", "mta4dpr.Strategy"), (f"{file}:gone", "gone"), (f"{tmp_path / 'no.py'}:x", "no.py")):
        with pytest.raises(UserError, match=told):
            strategy_named(name)


def test_a_criterion_may_be_a_plain_function(file: Path) -> None:
    found = criterion_named(f"{file}:nearest")
    assert isinstance(found, Criterion)
    a, b = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert found.function is not None
    assert found.function(a, b).tolist() == pytest.approx([0.5])
    assert criterion_named("kl") is CRITERIA["kl"]
    with pytest.raises(UserError, match=r"a function or a mta4dpr\.Criterion"):
        criterion_named(f"{file}:number")


def test_what_a_strategy_from_outside_reads_is_not_known(file: Path) -> None:
    """An option of ours that it may read must not be refused; of our own strategies each is known."""
    assert takes(f"{file}:plain", "soft_tau")
    assert takes("takd", "soft_tau")
    assert not takes("kd", "soft_tau")
    assert takers_of("soft_tau") == ["takd", "dgkd", "prod"]
    assert takers_of("lr") == [], "every strategy takes it"


def test_the_code_of_a_student_is_that_of_strategy_and_criterion(file: Path, tmp_path: Path) -> None:
    """Whatever changes it has the student trained again; what changes nothing must not cost a training."""
    other, remarked = tmp_path / "other.py", tmp_path / "remarked.py"
    other.write_text(FILE.format(weight=0.3))
    remarked.write_text("# a remark\n" + FILE.format(weight=0.2))
    usual = code_of(f"{file}:plain", "kl")
    assert code_of(f"{remarked}:plain", "kl") == usual
    assert len({usual, code_of(f"{other}:plain", "kl"), code_of("kd", "kl"), code_of(f"{file}:plain", f"{file}:nearest")}) == 4
    assert code_of("kd", "kl") == code_of("kd", "rbo") != code_of("mean_ta", "kl"), "criteria of ours are one module"
