"""Ugly files, drawn by hypothesis: mostly as they should be, here and there not. Were every line odd, the first would tell of all."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

Texts = st.SearchStrategy[str]


def words(text: str, *more: str) -> Texts:
    return st.sampled_from([*text.split(" "), *more])


def mostly(usual: Texts, *odd: Texts, of: int = 12) -> Texts:
    return st.integers(0, of).flatmap(lambda n: usual if n < of else st.one_of(*odd))


USUAL_IDS = words("q1 q2 1 d1 d2 MED-10 doc_7")
ODD_IDS = words('d\u2028 \u0661 "d1" "d1 d"1 #d NA null d,1 \ufeffd d\x1c \x85 d\x7f é e\u0301 \U0001f600 0 -', "q\u00a01", "d" * 1000)
BAD_IDS = words("d\0 \r Q0", "", "d 1", "d" * 1001)
IDS = mostly(USUAL_IDS, ODD_IDS, BAD_IDS)
ENDINGS = st.sampled_from(["", "", "a", "b", "c", "7"])  # of document ids, so that few are twice in a query
SCORES = mostly(
    st.floats(-1e6, 1e6).map(lambda value: f"{value:.6g}"),
    words("1e-3 +.5 5. -0.0 0 1e-400 3.4e38 3.5e38 1e400 inf -Infinity nan 1_0 0x1p3 \u0661 1,5 1.5f --1 1d5 1e \u066b5", "", "9" * 400),
)
GRADES = mostly(
    words("0 1 2 3 -1"),
    words("+1 007 -0 127 -127 128 -128 3000000000 1.0 1e3 1_0 \u0661 \uff11 x 0x1 \u22121", "", " 1 ", "1" + "0" * 20, "9" * 5000),
)
TAGS = mostly(st.just("tag"), st.sampled_from(["my run", "x 2 of 3", "t Q0 u", "1.5 x", "é", ""]))
SPACES = mostly(st.just(" "), st.sampled_from(["\t", "  ", " \t", "\v", "\f", " \r "]), of=30)
TABS = mostly(st.just("\t"), st.sampled_from([" ", "\t\t", "\t \t", "\v"]), of=30)
ENDS = mostly(st.just("\n"), st.sampled_from(["\r\n", "\n\n", " \n", "\r", "\n \t\n", ""]))


def line(columns: Sequence[Texts], separators: Texts, quote: str = "") -> Texts:
    def joined(drawn: tuple[tuple[str, ...], list[str], str]) -> str:
        words, between, end = drawn
        return "".join(f"{quote}{word}{quote}{space}" for word, space in zip(words, [*between, end], strict=True))

    return st.tuples(st.tuples(*columns), st.lists(separators, min_size=len(columns) - 1, max_size=len(columns) - 1), ENDS).map(joined)


DOCUMENTS = st.tuples(IDS, ENDINGS).map("".join)
RUN_LINES = line([IDS, st.just("Q0"), DOCUMENTS, mostly(words("1 2 30"), ODD_IDS), SCORES, TAGS], SPACES)
TREC_LINES = line([IDS, mostly(st.just("0"), ODD_IDS), DOCUMENTS, GRADES], SPACES)
BEIR_LINES = mostly(line([IDS, DOCUMENTS, GRADES], TABS), line([IDS, DOCUMENTS, GRADES], TABS, quote='"'))


def files(lines: Texts) -> st.SearchStrategy[bytes]:
    """Some lines with a mark or none, zipped or not, and now and then with a byte changed, or cut, or in UTF-16."""

    def wrapped(drawn: tuple[list[str], int, int, int]) -> bytes:
        text, wrapping, place, byte = drawn
        content = "".join(text).encode("utf-8", "surrogatepass")
        place %= max(1, len(content))
        ways = [
            b"\xef\xbb\xbf" + content,
            content[:place] + bytes([byte]) + content[place + 1 :],
            gzip.compress(content),
            gzip.compress(content)[: -1 - place % 12],
            content.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass"),
        ]
        return ways[wrapping] if wrapping < len(ways) else content

    return st.tuples(st.lists(lines, min_size=1, max_size=6), st.integers(0, 24), st.integers(0, 10_000), st.integers(0, 255)).map(wrapped)


# --- JSON lines --------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)
ODD_RECORDS = ['{"_id": "a", "text": "x", "text": "y"}', "[]", "1", "{", '{"_id": "\\ud800", "text": ""}', '{"a": ' + "[" * 99_999]
ODD_RECORDS += ['{"_id": ' + "9" * 5000 + ', "text": ""}']


@st.composite
def json_lines(draw: Any, ids: list[str]) -> str:
    record: dict[str, Any] = {"_id": draw(st.sampled_from(ids)), "title": draw(st.text(max_size=5)), "text": draw(st.text(max_size=20))}
    way = draw(st.integers(0, 40))
    if way == 0:
        record["_id"] = draw(mostly(ODD_IDS, BAD_IDS, of=4))
    elif way == 1:
        record[draw(words("_id text title metadata"))] = draw(VALUES)
    elif way == 2:
        del record[draw(words("_id text title"))]
    elif way == 3:
        record["metadata"] = {"text": 1, "_id": [math.nan]}
    written = draw(st.sampled_from(ODD_RECORDS)) if way == 4 else json.dumps(record, ensure_ascii=draw(st.booleans()))
    return written + draw(mostly(st.just("\n"), st.sampled_from(["\r\n", "\n\n", "\r", " \t\n"])))


# --- YAML --------------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.text(max_size=6),
    words(
        "1 0.5 text true null 'x' \"x\" *a <<", "[1, 2]", "{a: 1}", "&a 1", "&a [*a]", "&b {<<: *a}", "<<: *a", "? x", "|\n   x", ">\n y"
    ),
    words("1e999 1e-4 -.inf .nan 0x1F 0x_ 017 0o17 12:30:45 1_0 2024-01-05 2024-13-45 = ~ no", "9" * 50, "9" * 5000),
    st.sampled_from(
        ["!!int ''", "!!int x", "!!float ''", "!!bool x", "!!binary é", "!!timestamp x", "!!set {a}", "!!python/object:a.b {}"]
    ),
    st.sampled_from(["!x y", "!!str 5", "!!null x", "!!map []", '"\\0"', '"\\ud800"', '"\\UFFFFFFFF"', "[" * 2000, "{a: " * 2000, "--- x"]),
    words("\0 \x1b \ud800 \t ' @ % ... #"),
)
KEYS = words("a b lr << 1 no null [a] 'b' é models distill", "? c\n")
SENTENCES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
    st.tuples(KEYS, SCALARS).map(lambda pair: f"{{{pair[0]}: {pair[1]}}}"),
)
YAML_LINES = st.one_of(
    st.tuples(words("   \t", "  "), KEYS, SENTENCES).map(lambda parts: f"{parts[0]}{parts[1]}: {parts[2]}\n"),
    SENTENCES.map(lambda text: f"- {text}\n"),
    SENTENCES.map(lambda text: f"{text}\n"),
)
MAPPINGS = st.lists(st.tuples(words("a b c d e"), SENTENCES), min_size=1, max_size=3, unique_by=lambda pair: pair[0]).map(
    lambda pairs: "".join(f"{key}: {text}\n" for key, text in pairs)
)
YAML = MAPPINGS | st.lists(YAML_LINES, max_size=4).map("".join)
PLAIN_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
PLAIN_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | PLAIN_TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PLAIN_TEXTS, inner, max_size=4),
    max_leaves=12,
)
"""What JSON can hold: PyYAML writes it, and we must read it."""
