"""The embedded collection: safe to read, the same every time, and fair to evaluate on."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mta4dpr.data import docstrings
from mta4dpr.data.collection import load_query_set
from mta4dpr.data.docstrings import Docstrings, standard_library_docstrings
from mta4dpr.data.records import normalised
from mta4dpr.errors import UserError


@pytest.fixture(scope="module")
def source() -> Docstrings:
    return Docstrings("quickstart", 1400)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A standard library of our own: {path without .py: source}."""

    def build(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        monkeypatch.setattr(docstrings.sysconfig, "get_path", lambda _: str(tmp_path))
        return tmp_path

    return build


def text(summary: str, body: str = "one two three four five six seven eight") -> str:
    return f'"""{summary}\n\n{body}\n"""\n'


def test_sources_are_never_imported(library: Callable[..., Path], tmp_path: Path) -> None:
    """`import this` prints, `import antigravity` opens a browser; others start servers."""
    library({"evil": text("A module with effects.") + f"open({str(tmp_path / 'touched')!r}, 'w')\nraise SystemExit\n"})
    assert [d.name for d in standard_library_docstrings()] == ["evil"]
    assert not (tmp_path / "touched").exists()


ELSEWHERE = """
import hashlib, json, sys
from mta4dpr.data.docstrings import Docstrings
before = set(sys.modules)
source = Docstrings("quickstart", 1400)
records = repr([list(source.passages()), list(source.queries("quickstart/test"))])
print(json.dumps({"records": hashlib.sha256(records.encode()).hexdigest(), "imported": sorted(set(sys.modules) - before)}))
"""


def test_a_fresh_process_draws_the_same_and_imports_nothing(source: Docstrings) -> None:
    """Hash randomisation and directory order must not decide which passages there are; and what is parsed is not run."""
    run = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"})
    found = json.loads(run.stdout)
    here = repr([list(source.passages()), list(source.queries("quickstart/test"))])
    assert found["records"] == hashlib.sha256(here.encode()).hexdigest()
    assert not {"this", "antigravity", "tkinter", "turtle", "asyncio", "http.server"}.intersection(found["imported"])


def test_splits_are_disjoint_complete_and_seven_tenths(source: Docstrings) -> None:
    """A training query must never be evaluated."""
    train = {query_id for query_id, _ in source.queries("quickstart/train")}
    test = {query_id for query_id, _ in source.queries("quickstart/test")}
    assert train.isdisjoint(test)
    assert train | test == {passage.id for passage in source.passages()}
    assert len(train) + len(test) == 1400
    assert 0.66 < len(train) / 1400 < 0.74


def test_every_query_finds_its_own_passage(source: Docstrings) -> None:
    """Known-item search: one relevant passage a query, and it is in the corpus."""
    found = load_query_set(source, "quickstart/test")
    assert found.qrels == {query_id: {query_id: 1} for query_id in found.texts}
    assert found.counts == []


def test_no_summary_or_body_occurs_twice(source: Docstrings) -> None:
    """With a copy of the body under another name, half of the right answers would count as wrong."""
    bodies = [normalised(passage.text) for passage in source.passages()]
    summaries = [normalised(query) for split in ("train", "test") for _, query in source.queries(f"quickstart/{split}")]
    assert len(set(bodies)) == len(bodies) == 1400
    assert len(set(summaries)) == len(summaries) == 1400


def test_a_query_is_not_inside_its_passage(library: Callable[..., Path]) -> None:
    """The summary is the query and the rest the passage; the task would be trivial with both in one."""
    library({"mod": text("Reads one big file.", "Body line one is\n\n    indented and has more words.")})
    assert list(standard_library_docstrings()) == [("mod", "Reads one big file.", "Body line one is\n\n    indented and has more words.")]


def test_what_is_left_out(library: Callable[..., Path]) -> None:
    """Tests, idlelib and installed packages; docstrings that say too little; files that do not parse; later homonyms."""
    good = text("A good long summary.")
    classes = [text(f"{which} of two classes.").replace("\n", "\n        ") for which in ("First", "Second")]
    library(
        {
            "json/decoder": good,
            "test/test_x": good,
            "idlelib/main": good,
            "site-packages/other": good,
            "json/tests/t": good,
            "short": text("Two words."),
            "thin": text("A good long summary.", "only five words in here"),
            "bad": "def (:\n" + good,
            "deep": good + "x = " + "-" * 100_000 + "1\n",
            "nul": good + "\0",
            "twice": "if 1:\n    class C:\n        {}\nelse:\n    class C:\n        {}\n".format(*classes),
        }
    )
    assert [(d.name, d.summary) for d in standard_library_docstrings()] == [
        ("json.decoder", "A good long summary."),
        ("twice.C", "First of two classes."),
    ]


def test_names_are_qualified(library: Callable[..., Path]) -> None:
    """Ids must be unique over the library and readable in a run file."""
    body = text("Does a certain thing.").replace("\n", "\n        ")
    library({"pkg/__init__": "class C:\n    async def m(self):\n        " + body + "\n"})
    assert [d.name for d in standard_library_docstrings()] == ["pkg.C.m"]


def test_shared_summaries_and_copied_bodies_are_dropped(library: Callable[..., Path]) -> None:
    """A shared summary has no single right answer: all of it goes. Of copied bodies the first stays."""
    other = "eight seven six five four three two one"
    library(
        {
            "a": text("The very same summary.", other),
            "b": text("the  very same SUMMARY."),
            "c": text("One more summary here."),
            "d": text("Copied body down here."),
        }
    )
    assert [passage.id for passage in Docstrings("x", None).passages()] == ["c"]


def test_fewer_passages_are_a_part_of_more(library: Callable[..., Path]) -> None:
    """Drawn by hash of the name: a smaller collection is a sample of the larger one, spread over the library."""
    words = "zero one two three four five six seven eight nine".split()  # noqa: SIM905
    names = {f"m{n}": f"{words[n // 10]} {words[n % 10]}" for n in range(60)}
    library({module: text(f"Module number {name}.", f"{name} " * 5) for module, name in names.items()})
    few, many = ([passage.id for passage in Docstrings("x", size).passages()] for size in (10, 30))
    assert (len(few), len(many)) == (10, 30)
    assert set(few) < set(many)
    assert few == sorted(few)
    assert many != sorted(names)[:30]
    assert Docstrings("x", 10).identity != Docstrings("x", 30).identity


def test_a_python_without_sources_and_a_split_that_is_none(library: Callable[..., Path], source: Docstrings) -> None:
    with pytest.raises(UserError, match="found 'quickstart/dev'"):
        list(source.queries("quickstart/dev"))
    library({})
    with pytest.raises(UserError, match="has no source files with docstrings"):
        list(Docstrings("x", None).passages())
