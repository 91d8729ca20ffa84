"""Code from outside the package: a name in a Python file (PATH.py:NAME) or of an installed package. Loaded only when it is named.

A package offers strategies, engines and folders of benchmarks by entry points:

    [project.entry-points."mta4dpr.strategies"]
    mine = "my_package.ideas:mine"
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from mta4dpr.errors import UserError, nearest

STRATEGIES, ENGINES, CRITERIA, BENCHMARKS = (f"mta4dpr.{what}" for what in ("strategies", "engines", "criteria", "benchmarks"))
REFERENCE = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)")
_modules: dict[Path, ModuleType] = {}
_files_of_packages: set[str] = set()


def is_reference(text: str) -> bool:
    """Whether it has the form PATH.py:NAME."""
    return REFERENCE.fullmatch(text) is not None


def is_outside(name: str, *groups: str) -> bool:
    """Whether that is PATH.py:NAME, or what an installed package offers under one of the groups of entry points. Nothing is loaded."""
    return is_reference(name) or any(name in offered(group) for group in groups)


def name_of(reference: str) -> str:
    """The NAME of PATH.py:NAME; the text itself for the name of an entry point."""
    found = REFERENCE.fullmatch(reference)
    return found["name"] if found else reference


def resolved(reference: str, folder: Path) -> str:
    """A reference with an absolute path; a relative one is meant from that folder, or else from the working directory."""
    found = REFERENCE.fullmatch(reference)
    if not found:
        return reference
    typed = Path(found["path"]).expanduser()
    path = folder / typed
    return f"{(path if path.is_file() else typed).resolve()}:{found['name']}"


def offered(group: str) -> dict[str, str]:
    """What installed packages offer under that group of entry points: names, and MODULE:NAME of each. Nothing of it is loaded."""
    return {point.name: point.value for point in sorted(importlib.metadata.entry_points(group=group), key=lambda point: point.name)}


def offered_folders(group: str) -> list[Path]:
    """Folders of files that installed packages offer under that group: entry points that name a package. None of them is imported."""
    folders = []
    for point in importlib.metadata.entry_points(group=group):
        top, *inner = point.module.split(".")
        spec = importlib.util.find_spec(top)
        folders += [Path(place, *inner) for place in (spec.submodule_search_locations if spec else None) or ()]
    return folders


def load[Wanted](reference: str, group: str, wanted: type[Wanted] | Callable[[Any], bool], noun: str) -> Wanted:
    """What a reference or the name of an entry point stands for. UserError when it is not there, fails, or is no `noun`."""
    found = _from_file(reference) if is_reference(reference) else _from_package(reference, group)
    fits = isinstance(found, wanted) if isinstance(wanted, type) else wanted(found)
    if not fits:
        raise UserError(f"expected {noun} in {reference}, found {type(found).__name__}; docs/your-own.md shows how one looks")
    return found  # type: ignore[no-any-return]


def module_of(reference: str, group: str) -> ModuleType:
    """The module that a reference or the name of an entry point leads to. UserError when it is not there or fails."""
    if is_reference(reference):
        return _module(Path(reference.rpartition(":")[0]).resolve(), reference)
    load(reference, group, lambda _: True, "anything")
    (point, *_) = (point for point in importlib.metadata.entry_points(group=group) if point.name == reference)
    return sys.modules[point.module]


def check_call(function: Any, positional: int, named: Iterable[str], expected: str) -> None:
    """UserError when something from outside can't be called with so many arguments and those options."""
    try:
        inspect.signature(function).bind(*[None] * positional, **dict.fromkeys(named))
    except TypeError as error:  # no function, or one with other parameters
        options = "".join(f", {name}" for name in named)
        raise UserError(f"{expected}{options}; found {getattr(function, '__name__', repr(function))}: {error}") from error
    except ValueError:  # some built-in functions do not say what they take
        return


def place_outside(error: BaseException) -> str:
    """The file and line of code from outside in which an exception was raised, or through which it passed; '' if there is none."""
    folders = {path.parent for path in _modules} | {Path(file).parent for file in _files_of_packages}
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if any(file.is_relative_to(folder) for folder in folders):
            place = f"{file}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _from_file(reference: str) -> Any:
    path, _, name = reference.rpartition(":")
    module = _module(Path(path).resolve(), reference)
    if not hasattr(module, name):
        valid = [one for one in vars(module) if not one.startswith("_")]
        raise UserError(f"{path} has no {name!r}{nearest(name, valid)}; it has: {', '.join(valid) or 'nothing'}")
    return getattr(module, name)


def _module(path: Path, reference: str) -> ModuleType:
    """The file as a module, run once a process. Files beside it can be imported by it."""
    if path not in _modules:
        if not path.is_file():
            raise UserError(f"{reference}: there is no file {path}; give the path of a Python file, then a colon and a name in it")
        spec = importlib.util.spec_from_file_location(f"mta4dpr_outside_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look for their module there
        sys.path.insert(0, str(path.parent))
        try:
            spec.loader.exec_module(module)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's file raises while it is loaded is the user's
            line = _line_of(error, path)
            raise UserError(f"{path}{line} cannot be loaded: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(str(path.parent))
        _modules[path] = module
    return _modules[path]


def _line_of(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno},"
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f", line {lines[-1]}," if lines else ""


def _from_package(name: str, group: str) -> Any:
    points = [point for point in importlib.metadata.entry_points(group=group) if point.name == name]
    if not points:
        raise UserError(f"no installed package offers {name!r} as {group}{nearest(name, [*offered(group)])}")
    if len({point.value for point in points}) > 1:
        raise UserError(f"several packages offer {name!r} as {group} ({', '.join(point.value for point in points)}); uninstall one of them")
    try:
        found = points[0].load()
        _files_of_packages.add(sys.modules[points[0].module].__file__ or "")
        return found
    except Exception as error:
        raise UserError(f"{points[0].value}, which a package offers as {name!r}, cannot be loaded: {error}") from error


# --- what code is, told by a hash ---------------------------------------------------------------------------------------


def hash_of_code(things: Iterable[FunctionType | ModuleType | str]) -> str:
    """A key of the source of functions and modules, and of texts: comments, docstrings and blank lines do not count.

    A function stands for itself and for the functions and constants of its module that it uses; a module of ours for its file; one
    from outside for its file and for those in the same folder, or below, that this imports.
    """
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, str):
            sources = [thing]
        elif isinstance(thing, ModuleType):
            file = Path(thing.__file__ or "")
            files = [file] if thing.__name__.startswith("mta4dpr.") else _with_neighbours(file, thing.__package__ or "")
            sources = [one.read_text(encoding="utf-8") for one in files]
        else:
            sources = _with_what_it_uses(thing)
        for source in sources:
            digest.update(_words(source))
    return digest.hexdigest()[:16]


def hash_of_class(found: type) -> str:
    """A key of the code of a class from outside the package; '' for one of ours."""
    return "" if found.__module__.startswith("mta4dpr.") else hash_of_code([sys.modules[found.__module__]])


def _with_what_it_uses(function: FunctionType) -> list[str]:
    """The sources of a function and of all functions and constants of its module that it reaches, by name."""
    found: dict[str, str] = {}
    waiting = [function]
    while waiting:
        one = waiting.pop()
        found[one.__name__] = inspect.getsource(one)
        for name in _names(one.__code__):
            value = one.__globals__.get(name)
            if isinstance(value, FunctionType) and value.__module__ == function.__module__ and name not in found:
                waiting.append(value)
            elif isinstance(value, int | float | str | tuple):
                found[name] = f"{name} = {value!r}"
    return [found[name] for name in sorted(found)]


def _names(code: CodeType) -> set[str]:
    """Every name that a function's code and that of the functions inside it looks up."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names}.union(*inner)


def _with_neighbours(file: Path, package: str) -> list[Path]:
    """A Python file and those in its folder or below that it imports, and that these import."""
    top = file.parents[package.count(".") + 1] if package else file.parent  # where absolute imports are looked for
    found, waiting = {file}, [file]
    while waiting:
        for stem in _imported(waiting.pop(), top):
            for other in (Path(f"{stem}.py"), stem / "__init__.py"):
                if other.is_relative_to(file.parent) and other.is_file() and other not in found:
                    found.add(other)
                    waiting.append(other)
    return sorted(found)


def _imported(file: Path, top: Path) -> Iterator[Path]:
    """Where the modules that a Python file names in its imports would lie, without the end of the name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (top.joinpath(*alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = (file.parents[node.level - 1] if node.level else top).joinpath(*(node.module or "").split("."))
            yield from (start, *(start / alias.name for alias in node.names))


def _words(source: str) -> bytes:
    """The tokens of a source that say what it does."""
    words: list[str] = []
    line: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(textwrap.dedent(source)).readline):
        if token.type in (tokenize.INDENT, tokenize.DEDENT):
            words.append("{" if token.type == tokenize.INDENT else "}")
        elif token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if not all(one.type == tokenize.STRING for one in line):  # a docstring is a line of its own
                words += [*(one.string for one in line), ";"]
            line = []
        elif token.type not in (tokenize.COMMENT, tokenize.NL):
            line.append(token)
    return "\0".join(words).encode()
