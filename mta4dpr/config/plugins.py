"""Code from outside the package: a name in a Python file (PATH.py:NAME) or of an installed package. Loaded only when it is named.

A package offers strategies, engines and folders of benchmarks by entry points:

    [project.entry-points."mta4dpr.strategies"]
    mine = "my_package.ideas:mine"
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from mta4dpr.errors import UserError, nearest

STRATEGIES, ENGINES, CRITERIA, BENCHMARKS = (f"mta4dpr.{what}" for what in ("strategies", "engines", "criteria", "benchmarks"))
REFERENCE = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)")
_modules: dict[Path, ModuleType] = {}


def is_reference(text: str) -> bool:
    """Whether it has the form PATH.py:NAME."""
    return REFERENCE.fullmatch(text) is not None


def name_of(reference: str) -> str:
    """The NAME of PATH.py:NAME; the text itself for the name of an entry point."""
    found = REFERENCE.fullmatch(reference)
    return found["name"] if found else reference


def resolved(reference: str, folder: Path) -> str:
    """A reference with an absolute path; a relative one is meant from that folder, or else from the working directory."""
    found = REFERENCE.fullmatch(reference)
    if not found:
        return reference
    path = folder / found["path"]
    return f"{(path if path.is_file() else Path(found['path'])).resolve()}:{found['name']}"


def offered(group: str) -> list[str]:
    """What installed packages offer under that group of entry points; nothing of it is loaded."""
    return sorted({point.name for point in importlib.metadata.entry_points(group=group)})


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
        except Exception as error:  # whatever a user's file raises while it is loaded is the user's
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
        raise UserError(f"no installed package offers {name!r} as {group}{nearest(name, offered(group))}")
    if len({point.value for point in points}) > 1:
        raise UserError(f"several packages offer {name!r} as {group} ({', '.join(point.value for point in points)}); uninstall one of them")
    try:
        return points[0].load()
    except Exception as error:
        raise UserError(f"{points[0].value}, which a package offers as {name!r}, cannot be loaded: {error}") from error


# --- what code is, told by a hash ---------------------------------------------------------------------------------------


def hash_of_code(things: Iterable[Any]) -> str:
    """A key of the source of functions, classes, modules and other objects: comments, docstrings and blank lines do not count.

    Something defined outside the package stands for the whole of its file, since it may use anything there, and for the files in
    the same folder that this imports.
    """
    digest = hashlib.sha256()
    for thing in things:
        defined = thing if inspect.ismodule(thing) or hasattr(thing, "__code__") or inspect.isclass(thing) else type(thing)
        module = inspect.getmodule(defined)
        if module is None or module.__name__.startswith("mta4dpr."):
            digest.update(_words(inspect.getsource(defined)))
        else:
            for one in _with_neighbours(module):
                digest.update(_words(inspect.getsource(one)))
    return digest.hexdigest()[:16]


def _with_neighbours(module: ModuleType) -> list[ModuleType]:
    """A module and those of its folder that it imports, whole or in part, by name."""
    folder, known, waiting = Path(module.__file__ or "").parent, {module.__name__: module}, [module]
    while waiting:
        for value in vars(waiting.pop()).values():
            other = value if inspect.ismodule(value) else inspect.getmodule(value)
            if other is not None and other.__name__ not in known and Path(getattr(other, "__file__", None) or "/").parent == folder:
                known[other.__name__] = other
                waiting.append(other)
    return [known[name] for name in sorted(known)]


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
