"""The least that an engine can be: what it is and how it searches. A whole run with it, as a system, an assistant and a teacher."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mta4dpr.commands.export import export
from mta4dpr.commands.plan import plan
from mta4dpr.commands.run import run
from mta4dpr.data.corpus import Corpus
from mta4dpr.engines import registry
from mta4dpr.engines.engine import Engine, SearchScorer
from mta4dpr.engines.workplace import Workplace
from mta4dpr.errors import UserError
from mta4dpr.experiment.ledger import Ledger, StageName
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import read_json
from mta4dpr.retrieval.hits import Hits, best

from ..distill.tiny_distill import ListSource

PASSAGES = [("d1", "", "red fox"), ("d2", "", "red fox red dog"), ("d3", "", "blue whale"), ("d4", "", "a dog")]
QUERIES = {"q0": "red fox", "q1": "dog", "q2": "grey"} | {f"t{n}": f"{text} {n}" for n, (*_, text) in enumerate(PASSAGES * 3)}
JUDGED = {"test": [("q0", "d1", 1), ("q1", "d4", 1), ("q2", "d3", 1)], "train": [(f"t{n}", f"d{1 + n % 4}", 1) for n in range(12)]}


class Words(Engine):
    """How many of the query's words a passage has. Nothing but the two methods that an engine must have."""

    @property
    def identity(self) -> Any:
        return ["words", dict(self.options)]

    def search(self, queries: Sequence[str], k: int) -> Iterator[Hits]:
        corpus, weight = self.place.corpus, self.options.get("weight", 1.0)
        for block in batched(queries, 5):
            scores = np.array([[weight * len(set(q.split()) & set(p.text.split())) for p in corpus] for q in block], np.float32)
            rows, passages = np.nonzero(scores)
            yield best(rows, passages, scores[rows, passages], queries=len(block), k=k, id_rank=corpus.id_rank)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine under its name, as if it were one of ours."""
    monkeypatch.setitem(registry.ENGINES, "words", Words)


@pytest.fixture
def benchmark(words: None, beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Request]:
    """Asks for a run with the engine under the label `mine`: a system, an assistant and, of the student `from_mine`, the teacher."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    beir_folder(tmp_path / "mini", PASSAGES, QUERIES, JUDGED)

    def ask(options: Mapping[str, Any] | None = None, **asked: Any) -> Request:
        sizes = {"layers": 1, "hidden": 16, "heads": 2, "vocabulary": 50}
        document = {
            "name": "mine",
            "title": "Mine",
            "corpus": "./mini",
            "train": "mini/train",
            "eval_sets": [{"id": "mini/test", "measures": ["RR@10"]}],
            "systems": ["mine", "mta4dpr", "from_mine"],
            "engines": {"mine": {"use": "words", "options": dict(options or {})}},
            "models": {label: {"untrained": {**sizes, "seed": n}, "query_length": 8} for n, label in enumerate(("teacher", "student"))},
            "teacher": "teacher",
            "assistants": ["mine"],
            "student": "student",
            "distill": {"rounds": 1, "steps": 2, "batch_queries": 4, "group": 2, "depth": 3},
            "variants": {"from_mine": {"strategy": "kd", "teacher": "mine", "assistants": ["teacher"]}},
        }
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
        return Request(str(tmp_path / "mine.yaml"), output=tmp_path / "run", **asked)

    return ask


def test_a_run_with_it_from_data_to_leaderboard(benchmark: Callable[..., Request]) -> None:
    """Its hits are the run file's; it mines and scores for students; and nothing of it is done twice."""
    folder = run(benchmark())
    lines = [line.split()[:5] for line in (folder / "runs" / "mini-test" / "mine.trec").read_text().splitlines()]
    assert [[query, passage, float(score)] for query, _, passage, _, score in lines] == [
        ["q0", "d2", 2.0],
        ["q0", "d1", 2.0],
        ["q1", "d4", 1.0],
        ["q1", "d2", 1.0],
    ]
    board = read_json(folder / "leaderboard.json")
    (row,) = (row for row in board["rows"] if row["system"] == "mine")
    assert row["value"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    (system,) = (system for system in board["systems"] if system["system"] == "mine")
    assert (system["kind"], system["parameters"]) == ("other", None)
    steps = [json.loads(line) for line in (folder / "training" / "mta4dpr" / "steps.jsonl").read_text().splitlines()]
    assert {step["assistant"] for step in steps} == {"mine"}
    assert (folder / "models" / "from_mine" / "model.safetensors").exists()
    metadata = yaml.safe_load((folder / "runs" / "mini-test" / "mine.ir_metadata.yml").read_text())
    assert metadata["method"]["retrieval"] == [{"name": "mine", "method": "Words", "depth": 1000}]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    run(benchmark())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"} == before


def test_its_options_are_part_of_what_it_is(benchmark: Callable[..., Request]) -> None:
    """A row must not outlive the options that it was made with."""
    folder = run(benchmark(systems=("mine",)))
    first = (folder / "runs" / "mini-test" / "mine.trec").read_text()
    run(benchmark({"weight": 0.5}, systems=("mine",)))
    second = (folder / "runs" / "mini-test" / "mine.trec").read_text()
    assert [line.split()[:4] for line in first.splitlines()] == [line.split()[:4] for line in second.splitlines()]
    assert [float(line.split()[4]) for line in second.splitlines()] == [1.0, 1.0, 0.5, 0.5]


def test_a_plan_and_a_ledger_know_it(benchmark: Callable[..., Request]) -> None:
    """It takes nothing that could be counted, and is searched all the same."""
    document = plan(benchmark(systems=("mine",)))
    assert [row["stage"] for row in document["stages"]] == ["read the corpus", "search", "time queries", "evaluate and report"]
    assert document["lacking"] == []
    folder = run(benchmark(systems=("mine",)))
    assert [name for name in Ledger(folder).stages if name.system] == [
        StageName("index", "mine"),
        StageName("search", "mine", "mini/test"),
        StageName("latency", "mine"),
    ]


def test_it_has_no_index_to_export(benchmark: Callable[..., Request], tmp_path: Path) -> None:
    folder = run(benchmark(systems=("mine",)))
    assert not (folder / "indexes").exists()
    with pytest.raises(UserError, match="mine has no index that Pyserini opens"):
        export(folder, "mine", student=None, runs=None, index=tmp_path / "index", onnx=False)
    assert not (tmp_path / "index").exists()


def test_it_cannot_be_a_student(benchmark: Callable[..., Request]) -> None:
    """It has no weights: said before anything starts."""
    request = benchmark()
    document = yaml.safe_load(Path(request.benchmark).read_text())
    Path(request.benchmark).write_text(yaml.safe_dump({**document, "student": "mine"}))
    with pytest.raises(UserError, match="student 'mine' is not among the models"):
        run(request)


class Given(ListSource):
    """The corpus fixture's passages again."""


def test_as_a_scorer_it_looks_pairs_up_among_its_hits(corpus: Corpus, cache: Path) -> None:
    """A pair that is not among a query's hits gets the lowest of their scores, and 0 where there is no hit."""
    place = Workplace(Given(list(corpus)), cache)  # type: ignore[arg-type]
    first, second = corpus.passage(3).text.split()[:2]
    queries = type("Queries", (), {"ids": ["a", "b"], "texts": [f"{first} {second}", "nowhere"]})()
    scorer = Words("mine", {}, place).scorer(queries)
    assert isinstance(scorer, SearchScorer)
    everything = np.tile(np.arange(len(corpus)), (3, 1))
    (hits,) = scorer.rank(np.array([1, 0, 1]), len(corpus))
    found = dict(zip(hits.passages[1].tolist(), hits.scores[1].tolist(), strict=True))
    lowest = min(score for passage, score in found.items() if passage >= 0)
    assert 0 < lowest < found[3] == 2.0
    scores = scorer.score(np.array([1, 0, 1]), everything)
    assert scores.dtype == np.float32
    assert scores[1].tolist() == [found.get(passage, lowest) for passage in range(len(corpus))]
    assert (scores[[0, 2]] == 0).all()


def test_a_scorers_key_is_that_of_its_options_and_corpus(corpus: Corpus, cache: Path, tmp_path: Path) -> None:
    """Mined lists are kept by it: another engine of the same label must not find them."""
    queries = type("Queries", (), {"ids": ["a"], "texts": ["red"]})()
    place, other = Workplace(Given(list(corpus)), cache), Workplace(Given(list(corpus)[:20]), tmp_path)  # type: ignore[arg-type]
    keys = [Words("mine", options, where).scorer(queries).key for options, where in (({}, place), ({"weight": 2.0}, place), ({}, other))]
    assert len(set(keys)) == 3
    assert Words("other label", {}, place).scorer(queries).key == keys[0]


def test_what_an_engine_does_not_say_of_itself_is_nothing(corpus: Corpus, cache: Path) -> None:
    """The defaults that a simple engine keeps: no weights to train, no part of a shared search."""
    engine = Words("mine", {}, Workplace(Given(list(corpus)), cache))  # type: ignore[arg-type]
    assert (engine.ranks, engine.encodes, engine.has_weights, engine.is_shared, engine.is_encoded_together) == (True, *[False] * 4)
    assert (engine.lacks(), engine.prebuilt, engine.model_size, engine.bytes, engine.passages_per_second) == ("", "", None, 0, None)
    assert next(iter(engine.search_first(["red", "blue"], 1, 3))).passages.shape[0] == 1
    with pytest.raises(NotImplementedError, match="mine has no weights"):
        engine.load()
    with pytest.raises(NotImplementedError, match="searched by one process"):
        engine.search_part(["red"], 1, 3, cache, part=0, parts=2)
