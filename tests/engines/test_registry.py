"""Engines by name: ours, one of a file, and what is told where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta4dpr.engines.engine import Engine
from mta4dpr.engines.registry import ENGINES, code_of, engine_named, is_engine
from mta4dpr.errors import UserError

FILE = """
from mta4dpr.engines.engine import Engine
WEIGHT = {weight}
class Mine(Engine):
    identity = "mine"
    def search(self, queries, k):
        return iter(())
def other():
    pass
"""


def written(path: Path, weight: int = 1) -> str:
    path.write_text(FILE.format(weight=weight))
    return f"{path}:Mine"


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_of_ours_says_what_it_is(name: str) -> None:
    """An error names it by its noun; one that cannot rank must not be offered as a system."""
    engine = engine_named(name)
    assert issubclass(engine, Engine)
    assert engine.prepares in ("index", "encode")
    assert engine.ranks == (name in ("bm25", "bi-encoder"))
    assert engine.ranks or engine.noun != Engine.noun
    assert code_of(name) == "", "our own code is known by its version"


def test_an_engine_of_a_file(tmp_path: Path) -> None:
    reference = written(tmp_path / "mine.py")
    assert engine_named(reference).__name__ == "Mine"
    assert is_engine(reference)
    assert not is_engine(f"{tmp_path / 'mine.py'}:other")
    with pytest.raises(UserError, match=r"subclass of mta4dpr\.Engine"):
        engine_named(f"{tmp_path / 'mine.py'}:other")


def test_an_engines_code_is_the_whole_of_its_file(tmp_path: Path) -> None:
    """A constant decides its hits as much as a method does; a comment decides nothing."""
    first, other, commented = (tmp_path / name for name in ("first.py", "other.py", "commented.py"))
    references = [written(first), written(other, weight=2), written(commented)]
    commented.write_text(commented.read_text() + "\n# a remark\n")
    code = [code_of(reference) for reference in references]
    assert code[0] == code[2] != code[1]


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(UserError, match="'colbert'"):
        engine_named("colbert")
