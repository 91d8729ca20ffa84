"""`search`: the passages that a run file would name, with their texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mta4dpr.commands.run import run
from mta4dpr.commands.search import search
from mta4dpr.errors import UserError
from mta4dpr.experiment.request import Request

PASSAGES = [("d1", "Foxes", "the red fox runs"), ("d2", "", "a blue whale sings"), ("d3", "", "a red dog sleeps")]


@pytest.fixture
def mini(beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return str(beir_folder(tmp_path / "mini", PASSAGES, {"q1": "red fox"}, {"test": [("q1", "d1", 1)]}))


def test_the_hits_are_those_of_the_run_file_with_their_texts(mini: str, tmp_path: Path) -> None:
    """What a reader looks at must be what was evaluated; fewer hits than asked for are no empty lines."""
    found = search(Request(mini, systems=("bm25",)), "red fox", 5)
    assert (found["query"], found["system"]) == ("red fox", "bm25")
    assert [(hit["rank"], hit["id"], hit["title"], hit["text"]) for hit in found["hits"]] == [
        (1, "d1", "Foxes", "the red fox runs"),
        (2, "d3", "", "a red dog sleeps"),
    ]
    lines = [line.split() for line in (run(Request(mini)) / "runs" / "mini-test" / "bm25.trec").read_text().splitlines()]
    assert [(passage, float(score)) for _, _, passage, _, score, _ in lines] == [
        (hit["id"], pytest.approx(hit["score"], abs=1e-5)) for hit in found["hits"]
    ]


def test_it_leaves_no_run(mini: str, tmp_path: Path) -> None:
    """Looking at a collection must not begin a folder that a later run would find."""
    search(Request(mini, systems=("bm25",)), "whale", 1)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("systems", "query", "hits", "told"),
    [
        (("bm25",), " ", 5, "--query is empty"),
        (("bm25",), "a\udcff", 5, "expected --query in UTF-8"),  # bytes of another encoding, as the command line hands them on
        (("bm25",), "fox", 0, "--hits takes a number of at least 1, found 0"),
        (("bm25", "teacher"), "fox", 5, "search takes one system, found bm25, teacher"),
        (("kd",), "fox", 5, "kd is not trained in .* yet"),
    ],
)
def test_what_cannot_be_searched(mini: str, systems: tuple[str, ...], query: str, hits: int, told: str) -> None:
    with pytest.raises(UserError, match=told):
        search(Request("tiny", systems=systems), query, hits)
