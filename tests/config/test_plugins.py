"""Code from outside the package: found, loaded once and only when it is named, and told by a hash."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from mta4dpr.config import plugins
from mta4dpr.errors import UserError

IDEA = """
from helper import WEIGHT

def loss(step):
    return WEIGHT
"""


def _hash(path: Path) -> str:
    """The hash of a file's code as another process would find it."""
    plugins._modules.clear()
    for name in ("helper", "inner", "inner.deep"):
        sys.modules.pop(name, None)
    return plugins.hash_of_code([plugins.module_of(f"{path}:loss", plugins.STRATEGIES)])


@pytest.fixture
def idea(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("WEIGHT = 0.7\n")
    (tmp_path / "other.py").write_text("unused = 1\n")
    (tmp_path / "idea.py").write_text(IDEA)
    return tmp_path / "idea.py"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that offers a strategy, with its metadata as an installer writes them."""
    folder = tmp_path / "offering"
    (folder / "sub").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "sub" / "__init__.py").write_text("")
    (folder / "sub" / "weights.py").write_text("WEIGHT = 0.7\n")
    (folder / "ideas.py").write_text("from .sub import weights\n\nmine = 5\n")
    metadata = tmp_path / "offering-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: offering\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[mta4dpr.strategies]\nidea = offering.ideas:mine\nbroken = offering.nowhere:mine\n[mta4dpr.benchmarks]\nall = offering.sub\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [one for one in sys.modules if one.split(".")[0] == "offering"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def test_a_reference_is_a_path_a_colon_and_a_name() -> None:
    """Model folders, hub ids and LABEL=PATH are not taken for code."""
    assert plugins.is_reference("a/my idea.py:mine")
    for other in ("mine", "intfloat/e5", "x=folder", "my_idea.py", "my_idea.py:", "my_idea.py:a-b", "my_idea.txt:mine"):
        assert not plugins.is_reference(other), other
    assert plugins.name_of("a/b.py:mine") == "mine"
    assert plugins.name_of("mine") == "mine"


def test_a_relative_path_is_of_the_given_folder_or_else_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A YAML and its code move together; what is typed is meant from where it is typed."""
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml" / "one.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert plugins.resolved("one.py:x", tmp_path / "yaml") == f"{tmp_path / 'yaml' / 'one.py'}:x"
    assert plugins.resolved("two.py:x", tmp_path / "yaml") == f"{tmp_path / 'two.py'}:x"
    assert plugins.resolved("kd", tmp_path) == "kd"


def test_code_is_run_once_and_only_when_it_is_named(tmp_path: Path) -> None:
    log = tmp_path / "log"
    file = tmp_path / "logs.py"
    file.write_text(f"open({str(log)!r}, 'a').write('loaded ')\none, two = 1, 2\n")
    assert plugins.is_outside(f"{file}:one", plugins.STRATEGIES)
    assert not log.exists()
    assert [plugins.load(f"{file}:{name}", plugins.STRATEGIES, int, "a number") for name in ("one", "two")] == [1, 2]
    assert log.read_text() == "loaded "


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        (None, "mine", "there is no file"),
        ("mine = 1\n", "mien", "has no 'mien' (did you mean 'mine'?)"),
        ("x = 1\ny = x / 0\n", "y", "line 2, cannot be loaded: ZeroDivisionError"),
        ("x = 1\nif\n", "x", "line 2, cannot be loaded: SyntaxError"),
        ("mine = 'text'\n", "mine", "expected a number in"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path: Path, source: str | None, name: str, said: str) -> None:
    file = tmp_path / "wrong.py"
    if source is not None:
        file.write_text(source)
    plugins._modules.clear()
    with pytest.raises(UserError) as error:
        plugins.load(f"{file}:{name}", plugins.STRATEGIES, int, "a number")
    assert said in str(error.value)


def test_comments_and_docstrings_are_no_code(idea: Path) -> None:
    """A better sentence must not cost another training."""
    before = _hash(idea)
    idea.write_text('"""What it is about."""\n' + IDEA.replace("def loss(step):", 'def loss(step):\n    """Docs."""\n\n    # why'))
    assert _hash(idea) == before
    idea.write_text(IDEA.replace("return WEIGHT", "return WEIGHT + 1"))
    assert _hash(idea) != before


def test_a_constant_in_a_file_beside_it_is_code_and_a_file_that_is_not_imported_is_not(idea: Path) -> None:
    """`from helper import WEIGHT` leaves a number, which does not say where it is from."""
    before = _hash(idea)
    (idea.parent / "other.py").write_text("unused = 2\n")
    assert _hash(idea) == before
    (idea.parent / "helper.py").write_text("WEIGHT = 0.8\n")
    assert _hash(idea) != before


def test_imports_are_followed_into_folders_and_functions(idea: Path) -> None:
    inner = idea.parent / "inner"
    inner.mkdir()
    (inner / "__init__.py").write_text("")
    (inner / "deep.py").write_text("x = 1\n")
    idea.write_text(IDEA.replace("    return", "    from inner.deep import x\n    return"))
    before = _hash(idea)
    (inner / "deep.py").write_text("x = 2\n")
    assert _hash(idea) != before


def test_an_object_that_no_def_made_is_told_by_its_file(tmp_path: Path) -> None:
    """functools.partial and callable objects belong to another module than the idea."""
    file = tmp_path / "partial.py"
    file.write_text("from functools import partial\n\nloss = partial(pow, 2)\n")
    before = _hash(file)
    file.write_text("from functools import partial\n\nloss = partial(pow, 3)\n")
    assert _hash(file) != before


def _module(source: str, file: Path) -> ModuleType:
    import linecache

    file.write_text(source)
    linecache.clearcache()
    module = ModuleType(file.stem)
    exec(compile(source, file, "exec"), vars(module))
    for value in vars(module).values():
        if callable(value) and getattr(value, "__module__", None) is None:
            value.__module__ = module.__name__
    return module


def test_a_function_stands_for_the_helpers_and_constants_that_it_reaches(tmp_path: Path) -> None:
    """A strategy of ours is a few lines on top of others: changed ones there train anew, unrelated ones do not."""
    source = (
        "W = 1\nUNUSED = 1\n"
        "def other(x):\n    return x * 3\n"
        "def helper(x):\n    return [W * one for one in x]\n"
        "def loss(x):\n    return (lambda y: helper(y))(x)\n"
    )
    file = tmp_path / "strategies.py"

    def of(text: str) -> str:
        return plugins.hash_of_code([_module(text, file).loss])

    before = of(source)
    assert of(source.replace("UNUSED = 1", "UNUSED = 2").replace("x * 3", "x * 4")) == before
    assert of(source.replace("W = 1", "W = 2")) != before
    assert of(source.replace("W * one", "W + one")) != before


def test_packages_offer_names_without_being_loaded(package: Path) -> None:
    assert plugins.offered(plugins.STRATEGIES)["idea"] == "offering.ideas:mine"
    assert plugins.is_outside("idea", plugins.STRATEGIES)
    assert not plugins.is_outside("idea", plugins.ENGINES)
    assert package / "sub" in plugins.offered_folders(plugins.BENCHMARKS)
    assert "offering" not in sys.modules


def test_what_a_package_offers_is_loaded_by_its_name_and_told_by_the_files_that_it_imports(package: Path) -> None:
    assert plugins.load("idea", plugins.STRATEGIES, int, "a number") == 5
    module = plugins.module_of("idea", plugins.STRATEGIES)
    before = plugins.hash_of_code([module])
    (package / "sub" / "weights.py").write_text("WEIGHT = 0.8\n")
    assert plugins.hash_of_code([module]) != before


def test_what_no_package_offers_and_what_cannot_be_imported_are_said(package: Path) -> None:
    with pytest.raises(UserError, match="no installed package offers 'ideas'"):
        plugins.load("ideas", plugins.STRATEGIES, int, "a number")
    with pytest.raises(UserError, match="offering.nowhere:mine, which a package offers as 'broken', cannot be loaded"):
        plugins.load("broken", plugins.STRATEGIES, int, "a number")
