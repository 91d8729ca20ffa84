"""The collection that needs no download: docstrings of the running Python's standard library.

A passage is a docstring's body, a query its summary line (known-item search). Sources are parsed with ast and
never imported. Which docstrings there are depends on the Python version, so the identity names it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import platform
import sysconfig
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mta4dpr.data.records import Passage, Qrel, normalised
from mta4dpr.errors import UserError

LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__", "lib-dynload"}
SUMMARY_WORDS, BODY_WORDS = 3, 8  # shorter ones say too little to be searched or found
TRAIN_SHARE = 0.7


class Docstring(NamedTuple):
    """The docstring of a module, class or function: qualified name, first line, and what follows it."""

    name: str
    summary: str
    body: str


class Docstrings:
    """Passage and query of one docstring carry its qualified name as id, such as json.decoder.JSONDecoder.decode."""

    exclude_self = False

    def __init__(self, benchmark: str, max_passages: int | None) -> None:
        self.benchmark = benchmark
        self.max_passages = max_passages
        self.notes = [f"Made from the standard library of Python {platform.python_version()}."]
        self.identity = {"docstrings": platform.python_version(), "max_passages": max_passages}

    def files(self) -> list[list[object]]:
        """Empty: the passages are in no file of their own. The identity names the Python version instead."""
        return []

    @cached_property
    def _chosen(self) -> list[Docstring]:
        found = list(standard_library_docstrings())
        summaries = Counter(normalised(d.summary) for d in found)
        bodies: set[str] = set()
        unique = []
        for docstring in found:
            body = normalised(docstring.body)
            if summaries[normalised(docstring.summary)] == 1 and body not in bodies:
                bodies.add(body)
                unique.append(docstring)
        if not unique:
            raise UserError(
                f"the standard library at {sysconfig.get_path('stdlib')} has no source files with docstrings; "
                "use a Python that carries its sources"
            )
        drawn = sorted(unique, key=lambda d: _hash(d.name))[: self.max_passages]
        return sorted(drawn, key=lambda d: d.name)

    def expected_passages(self) -> int | None:
        """The most that were asked for; the library may have fewer."""
        return self.max_passages

    def passages(self) -> Iterator[Passage]:
        """The bodies, in ascending order of the names. UserError for a Python without its sources."""
        for docstring in self._chosen:
            yield Passage(docstring.name, "", docstring.body)

    def _split(self, query_set: str) -> list[Docstring]:
        split = query_set.removeprefix(f"{self.benchmark}/")
        if split not in ("train", "test"):
            raise UserError(f"docstrings have the query sets {self.benchmark}/train and {self.benchmark}/test, found {query_set!r}")
        return [d for d in self._chosen if (_hash("split " + d.name) < TRAIN_SHARE * 2**64) == (split == "train")]

    def queries(self, query_set: str) -> Iterator[tuple[str, str]]:
        """(name, summary line) of BENCHMARK/train or BENCHMARK/test: 70 % and 30 %, by a hash of the name. UserError for another set."""
        for docstring in self._split(query_set):
            yield docstring.name, docstring.summary

    def qrels(self, query_set: str) -> Iterator[Qrel]:
        """Each summary's only relevant passage is the body of the same docstring."""
        for docstring in self._split(query_set):
            yield Qrel(docstring.name, docstring.name, 1)


def standard_library_docstrings() -> Iterator[Docstring]:
    """Every docstring with a summary line and a body, in the order of file paths, each name once."""
    root = Path(sysconfig.get_path("stdlib"))
    names = set()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if LEFT_OUT.intersection(parts):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        try:
            found = list(_docstrings(ast.parse(path.read_bytes()), module))
        except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):  # the last two: brackets or classes without end
            continue
        for name, text in found:
            summary, _, body = inspect.cleandoc(text).partition("\n")
            body = inspect.cleandoc(body)
            if name not in names and len(summary.split()) >= SUMMARY_WORDS and len(body.split()) >= BODY_WORDS:
                names.add(name)
                yield Docstring(name, summary.strip(), body)


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node, clean=False)
        if text:
            yield name, text
    for child in ast.iter_child_nodes(node):
        inner = getattr(child, "name", None)
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{name}.{inner}")
        elif isinstance(child, ast.If | ast.Try):
            yield from _docstrings(child, name)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
