"""YAML as plain values: text, whole numbers, floats, truth values, null, lists, and mappings with text as keys, as JSON has them.

What YAML has beyond them, or reads in a way that nobody expects, is a mistake with its line: other tags, numbers that overflow, a key
twice, 017 and 12:30 (numbers of base 8 and 60 in YAML 1.1, of which 1.2 knows nothing), values in themselves. Dates are text; 1e-4 is a
number. Knows no benchmark and no option.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

MOST_VALUES, MOST_LEVELS = 100_000, 100
"""Of a document whose aliases are written out: a few lines of YAML can stand for more than any memory holds."""
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
INTEGER = re.compile(r"([-+]?)(?:0b([01_]+)|0x([0-9a-fA-F_]+)|((?:0|[1-9][0-9_]*)))")
TAG = "tag:yaml.org,2002:"
OTHER_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)  # PyYAML's, of scalars that are not as their tag


class YamlMistake(Exception):
    """What is wrong with a document, and the line, from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")


class _Loader(yaml.SafeLoader):
    """Composes nodes. YAML 1.1 reads 1e-4 as text; here it is a number."""


_Loader.add_implicit_resolver(f"{TAG}float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


def parse_yaml(content: bytes | str) -> Any:
    """The value of a document; None of an empty one. YamlMistake for all that cannot be read."""
    text = content if isinstance(content, str) else _decoded(content)
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measured(node, {})
        return _value(node, loader)
    except yaml.reader.ReaderError as error:
        shown = error.character if isinstance(error.character, str) else chr(error.character)
        raise YamlMistake(1 + text.count("\n", 0, error.position), f"YAML takes no character {shown!a}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise YamlMistake(mark.line + 1 if mark else 1, problem) from error
    except RecursionError as error:
        raise YamlMistake(_line_of(loader), f"expected at most {MOST_LEVELS} levels of lists and mappings, found more") from error
    except OTHER_ERRORS as error:  # an escape such as \UFFFFFFFF, a version of 5,000 digits
        raise YamlMistake(_line_of(loader), str(error)) from error


def _line_of(loader: _Loader | None) -> int:
    return 1 + (loader.line if loader else 0)


def _decoded(content: bytes) -> str:
    encoding = "utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise YamlMistake(line, f"expected {encoding.removesuffix('-sig').upper()}, found other bytes ({error.reason})") from error


def _measured(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """(values, levels) of a node with its aliases written out. `known` has None for those that are being measured."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise _mistake(node, "an alias stands for what it is in, so it has no end")
        return found
    known[id(node)] = None
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.CollectionNode):
        inner = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
    parts = [_measured(one, known) for one in inner]
    values, levels = 1 + sum(count for count, _ in parts), 1 + max((deep for _, deep in parts), default=0)
    if levels > MOST_LEVELS:
        raise _mistake(node, f"expected at most {MOST_LEVELS} levels of lists and mappings, found more")
    if values > MOST_VALUES:
        raise _mistake(node, f"expected at most {MOST_VALUES:,} values, found more (aliases count as what they stand for)")
    known[id(node)] = values, levels
    return values, levels


def _value(node: yaml.Node, loader: _Loader) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG}map":
        return _mapping(node, loader)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG}seq":
        return [_value(one, loader) for one in node.value]
    if isinstance(node, yaml.ScalarNode):
        text, kind = node.value, node.tag.removeprefix(TAG)
        if kind in ("str", "timestamp"):
            return _text(node)
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in loader.bool_values:
            return loader.bool_values[text.lower()]
        if kind == "int":
            return _integer(node)
        if kind == "float":
            return _float(node)
    found = f"found the tag {node.tag.replace(TAG, '!!')}" + (f" of {_shown(node.value)}" if isinstance(node, yaml.ScalarNode) else "")
    raise _mistake(node, f"expected text, numbers, true, false, null, lists and mappings alone, {found}")


def _mapping(node: yaml.MappingNode, loader: _Loader) -> dict[str, Any]:
    """Own keys win over those that << merges."""
    merged: dict[str, Any] = {}
    own: dict[str, Any] = {}
    merges = [(key, one) for key, one in node.value if key.tag == f"{TAG}merge"]
    for key, one in merges:
        for source in one.value if isinstance(one, yaml.SequenceNode) else [one]:
            if len(merges) > 1 or not isinstance(source, yaml.MappingNode):
                raise _mistake(key, "<< stands once in a mapping, and merges a mapping or a list of mappings")
            found = _mapping(source, loader)
            for name in merged.keys() & found.keys():
                raise _mistake(key, f"<< merges {name!r:.60} twice, and readers of YAML differ on which of them counts; write it out")
            merged |= found
    for key, one in node.value:
        if key.tag == f"{TAG}merge":
            continue
        name = _value(key, loader)
        if not isinstance(name, str):
            raise _mistake(key, f"expected text as a key, found {name!r:.60}; write it in quotes")
        if name in own:
            raise _mistake(key, f"key {name!r:.60} occurs twice")
        own[name] = _value(one, loader)
    return merged | own


def _text(node: yaml.ScalarNode) -> str:
    if "\0" in node.value or any("\ud800" <= letter <= "\udfff" for letter in node.value):
        raise _mistake(node, f"expected text without NUL and lone surrogates, found {_shown(node.value)}")
    return str(node.value)


def _integer(node: yaml.ScalarNode) -> int:
    form = INTEGER.fullmatch(node.value)
    sign, binary, hexadecimal, decimal = form.groups() if form else ("",) * 4
    digits = (binary or hexadecimal or decimal).replace("_", "")
    if not digits:
        found = f"found {_shown(node.value)}: leading zeros and colons make other numbers of it in YAML 1.1 than in 1.2"
        raise _mistake(node, f"expected a number in decimal digits, {found}; write it without them, or in quotes if it is text")
    value = int(sign + digits[:80], 2 if binary else 16 if hexadecimal else 10)
    if len(digits) > 80 or not -(2**63) <= value < 2**63:
        raise _mistake(node, f"expected a number of at most 64 bits, found {_shown(node.value)}")
    return value


def _float(node: yaml.ScalarNode) -> float:
    try:
        value = float(node.value.replace("_", ""))
    except ValueError:  # .inf and .nan, those of base 60, and what !!float stands before
        value = math.nan
    if not math.isfinite(value):
        raise _mistake(
            node, f"expected a finite number in decimal digits, found {_shown(node.value)}; write it out, or in quotes if it is text"
        )
    return value


def _mistake(node: yaml.Node, problem: str) -> YamlMistake:
    return YamlMistake(node.start_mark.line + 1, problem)


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:37] + "...")
