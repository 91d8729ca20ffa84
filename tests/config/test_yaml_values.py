"""What YAML may say, what it means, and the line of what it may not."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from mta4dpr.config.yaml_files import benchmark_folder, load_benchmark, parse_settings
from mta4dpr.config.yaml_values import YamlMistake, parse_yaml
from mta4dpr.errors import UserError


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\nb: [x, 'y', \"z\\n\"]\nc: {d: null, e: ~, f: true, g: off}\n",
        "- 1_000\n- +5\n- -0x1F\n- 0b101\n- 9223372036854775807\n- 1.5\n- -.5e+3\n- 1_0.5\n",
        "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {y: 4, <<: *a}\nd: *a\n",
        "a: &a {xx: 1}\nb: &b {<<: *a, xx: 2, yy: 2}\nc: {zz: 3, <<: [*b, {uu: 1}], uu: 4}\nd: *b\n",
        "a: |\n  text\n  more\nb: >-\n  folded\n  text\n",
        "%YAML 1.1\n---\na: !!str 5\n...\n",
        "a: é\u00a0\U0001f600\n",
        '"1": a\n"yes": b\n! c: d\n',
        "09\n",
        "'2024-13-45'\n",
    ],
)
def test_values_are_those_of_yaml(text: str) -> None:
    for content in (text, text.encode(), b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16"), text.replace("\n", "\r\n")):
        found = parse_yaml(content)
        assert found == yaml.safe_load(text)
        assert repr(found) == repr(yaml.safe_load(text))  # 1 is no true, and keys keep their order


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("-2E+3", -2e3), ("2024-01-05", "2024-01-05"), ("2024-13-45", "2024-13-45")])
def test_what_yaml_1_1_reads_otherwise(text: str, value: Any) -> None:
    """A rate is a number; a date is text, as in JSON; one that is no date was a traceback."""
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1e999", "finite number"),
        ("-.inf", "finite number"),
        (".NaN", "finite number"),
        ("12:30:45", "leading zeros and colons"),
        ("190:20:30.15", "finite number in decimal digits"),
        ("017", "leading zeros and colons"),
        ("0x" + "f" * 99, "64 bits"),
        ("9223372036854775808", "64 bits"),
        ("9" * 5000, "64 bits"),
        ("0x_", "decimal digits"),
        ("!!int ''", "decimal digits"),
        ("!!int x", "decimal digits"),
        ("!!float ''", "finite number"),
        ("!!float x", "finite number"),
        ("!!bool x", "the tag !!bool of 'x'"),
        ("!!binary aGk=", "the tag !!binary"),
        ("!!python/object:os.system {}", "the tag !!python/object:os.system"),
        ("!!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system"),
        ("!!set {a, b}", "the tag !!set"),
        ("!!omap [a: 1]", "the tag !!omap"),
        ("!mine x", "the tag !mine"),
        ("!!map [1]", "the tag !!map"),
        ("=", "the tag !!value"),
        ("{1: a}", "text as a key, found 1"),
        ("{no: a}", "text as a key, found False"),
        ("{~: a}", "text as a key, found None"),
        ("{[a]: b}", "text as a key"),
        ("{a: 1, 'a': 2}", "key 'a' occurs twice"),
        ("{<<: 1}", "merges a mapping"),
        ("{<<: [{a: 1}, 2]}", "merges a mapping"),
        ("{<<: {a: 1}, <<: {b: 1}}", "<< stands once"),
        ("{<<: [{a: 1}, {a: 2}]}", "<< merges 'a' twice"),
        ("&a [*a]", "no end"),
        ("&a {b: {c: *a}}", "no end"),
        ("*a", "undefined alias"),
        ("[" * 10_000, "at most 100 levels"),
        ("[" * 101 + "]" * 101, "at most 100 levels"),
        ("{a: " * 10_000, "at most 100 levels"),
        ("- " * 10_000, "at most 100 levels"),
        ('"\\0"', "NUL"),
        ('"\\uD800"', "surrogates"),
        ('"\\UFFFFFFFF"', ""),
        ('"\\U00110000"', ""),
        ("a\0b", "character '\\x00'"),
        ("a\x1bb", "character '\\x1b'"),
        ("\ud800", "character '\\ud800'"),
        ("@a", "cannot start any token"),
        ("[a", "expected ',' or ']'"),
        ("'a", "while scanning a quoted scalar"),
        ("a: b: c", "mapping values are not allowed here"),
        ("\ta: b", "cannot start any token"),
    ],
)
def test_every_mistake_has_its_line(text: str, told: str) -> None:
    """Where it stands in a file: below a comment and a key."""
    with pytest.raises(YamlMistake, match="line [345]: ") as caught:
        parse_yaml(f"# a comment\nfirst: 1\nsecond:\n  {text}\n")
    assert told in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: 1\nb: \xff\n", "line 2: expected UTF-8"),
        ("a: 1\n".encode("utf-16") + b"\xd8", "line 2: expected UTF-16"),
        (b"a: 1\nb: 2\x00\n", "line 2: YAML takes no character"),
        (b"a: 1\n--- \nb: 2\n", "line 2: .*another document"),
        ("%YAML 1." + "1" * 5000 + "\n--- a\n", "line 1: "),
    ],
)
def test_what_is_no_document(content: bytes | str, told: str) -> None:
    with pytest.raises(YamlMistake, match=told):
        parse_yaml(content)


def test_a_few_lines_that_stand_for_more_than_any_memory_holds() -> None:
    nine = [f"[{', '.join([f'*a{n}'] * 9)}]" for n in range(29)]
    started = time.monotonic()
    with pytest.raises(YamlMistake, match=r"line 6: expected at most 100,000 values"):
        parse_yaml("\n".join(["a0: &a0 [lol]", *(f"a{n}: &a{n} {inner}" for n, inner in enumerate(nine, 1))]))
    chain = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000))])
    with pytest.raises(YamlMistake, match=r"line 100: expected at most 100 levels"):
        parse_yaml(chain)
    merges = "\n".join(["a0: &a0 {}", *(f"a{n}: &a{n} {{<<: {inner}}}" for n, inner in enumerate(nine, 1))])
    with pytest.raises(YamlMistake, match=r"expected at most 100,000 values"):
        parse_yaml(merges)
    assert time.monotonic() - started < 10


def test_a_mapping_of_many_keys_is_read_in_a_moment() -> None:
    """Each key was counted among all: 20,000 of them took 400 million comparisons."""
    assert len(parse_yaml("{" + ", ".join(f"k{n}: 1" for n in range(5000)) + "}")) == 5000


def test_an_alias_is_a_value_of_its_own() -> None:
    """What a benchmark changes in place, such as a path, must not change elsewhere."""
    found = parse_yaml("a: &a {x: [1]}\nb: *a\n")
    assert found["a"] == found["b"]
    assert found["a"] is not found["b"]
    assert found["a"]["x"] is not found["b"]["x"]


@pytest.mark.parametrize("value", ["1e999", "2024-13-45", "12:30", "[" * 10_000, "!!python/name:os", "a\0", "{1: 2}", "9" * 5000, "\ud800"])
def test_mistakes_of_set_and_of_a_benchmark_are_the_users(tmp_path: Any, value: str) -> None:
    text = (benchmark_folder() / "tiny.yaml").read_text().replace("lr: 1.0e-3", f"lr: {value}", 1)
    (tmp_path / "mine.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"mine.yaml"):
        load_benchmark(str(tmp_path / "mine.yaml"), {})
    with pytest.raises(UserError, match="lr"):
        load_benchmark("tiny", parse_settings([f"lr={value}"]))
