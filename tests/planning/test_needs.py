"""What a run needs, at full size and without any of it: figures that a reader can check by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.commands.plan import plan
from mta4dpr.commands.run import run
from mta4dpr.commands.train import train
from mta4dpr.errors import EnvironmentLack
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.machine import environment
from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.machine.work import Piece
from mta4dpr.planning.needs import Needs
from mta4dpr.stages.pipeline import pieces_of

MSMARCO, DPR = 8_841_823, 21_015_324


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a benchmark over a collection that is not here, and plans in an empty cache."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MTA4DPR_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("mta4dpr.data.collection.docs_path", lambda _: tmp_path / "absent")  # other tests may have made a part of it
    monkeypatch.chdir(tmp_path)

    def write(corpus: str = "msmarco-passage", eval_set: str = "msmarco-passage/dev/small", **changed: Any) -> Request:
        document = {
            "name": "mine",
            "title": "t",
            "corpus": corpus,
            "eval_sets": [{"id": eval_set, "measures": ["RR@10"]}],
            "train": f"{corpus}/train/judged" if corpus == "msmarco-passage" else f"{corpus}/natural-questions/train",
            "systems": ["bm25", "simlm", "mta4dpr"],
            "dense": {"dtype": "float16"},
            "models": {
                "reranker": {"model": "intfloat/simlm-msmarco-reranker", "kind": "cross-encoder", "pair_length": 192},
                "simlm": {"model": "simlm"},
                "student": {"model": "distilbert-base-uncased", "query_length": 32, "passage_length": 144},
            },
            "teacher": "reranker",
            "assistants": ["simlm", "bm25"],
            "student": "student",
            "distill": {"steps": 1000, "batch_queries": 16, "group": 24, "depth": 200, "rounds": 3},
        }
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**document, **changed}))
        return Request("mine.yaml")

    return write


def stages(request: Request) -> dict[str, Piece]:
    experiment = open_experiment(request)
    return {piece.name: piece for piece in pieces_of(experiment, Needs(experiment))}


def test_figures_at_full_size(written: Any) -> None:
    """Vectors, run files, mined lists and indexes follow from counts."""
    found = stages(written())
    assert found["read the corpus"].note == "8,841,823 passages"
    assert found["encode with simlm"].disk == {CACHE: MSMARCO * 768 * 2}
    assert found["mine with simlm"].disk == {CACHE: 502_939 * 200 * 4}
    assert found["write FAISS indexes"].disk == {OUTPUT: 2 * MSMARCO * (768 * 4 + 8)}
    assert found["write FAISS indexes"].memory < 2e9, "vectors go through, no index is held"
    assert found["search"].note == "3 run files, top 1000 of 6,980 queries"
    assert found["search"].disk[OUTPUT] == pytest.approx(3 * 6_980 * 1000 * 48)
    assert found["score pairs with reranker"].note.startswith(f"up to {1000 * 16 * 24:,} pairs")
    assert 2.5e9 < found["read the corpus"].disk[CACHE] < 4e9, "the texts of MS MARCO are 3.06 GB"
    others = stages(written("dpr-w100", "dpr-w100/natural-questions/dev"))
    assert others["encode with simlm"].disk == {CACHE: DPR * 768 * 2}
    assert others["mine with bm25"].note == "top 200 of 58,880 training queries"


def test_float32_and_no_index_change_what_is_needed(written: Any) -> None:
    found = stages(written(dense={"dtype": "float32", "pyserini_index": False}))
    assert found["encode with simlm"].disk == {CACHE: MSMARCO * 768 * 4}
    assert "write FAISS indexes" not in found


def test_mining_holds_a_piece_of_the_queries(written: Any) -> None:
    """Half a million queries with 200 candidates would be 0.8 GB of hits alone; what a search may take is an option."""
    found = {memory: stages(written(dense={"search_memory": memory}))["mine with simlm"].memory for memory in ("460m", "9g")}
    hits = 32 * 200 * 16_384  # bytes of a hit, candidates, queries
    assert hits / 2 < found["9g"] - found["460m"] < hits
    assert found["9g"] < 3e9


@pytest.mark.parametrize(("index", "least", "most"), [("hnsw", 1536 + 8 * 32, 1536 + 10 * 32), ("ivfpq", 192 + 8, 192 + 16)])
def test_an_approximate_index_is_counted(written: Any, index: str, least: int, most: int) -> None:
    """Bytes a passage, on disk and in memory. Beside the run it is linked to, not copied."""
    found = stages(written(dense={"dtype": "float16", "index": index}))
    for system, place in (("simlm", CACHE), ("mta4dpr", OUTPUT)):
        assert least < found[f"build {index} for {system}"].disk[place] / MSMARCO < most
    assert found[f"build {index} for simlm"].work[0].amount > 1e9
    assert found["search"].memory > least * MSMARCO
    assert [work.kind for work in found["search"].work] == ["bm25"], "what looks at few passages takes next to no time"
    assert found["write FAISS indexes"].disk == {OUTPUT: 2 * MSMARCO * 8}


def test_what_pyserini_searches_is_counted(written: Any) -> None:
    found = stages(written(dense={"dtype": "float16", "engine": "pyserini"}))
    assert found["write simlm for Pyserini"].disk == {CACHE: MSMARCO * (4 * 768 + 8)}
    assert found["write mta4dpr for Pyserini"].disk == {OUTPUT: MSMARCO * (4 * 768 + 8)}
    assert found["search"].memory > MSMARCO * 4 * 768
    assert not [name for name in stages(written()) if name.startswith("build") or name.endswith("for Pyserini")]


def test_a_run_takes_the_disk_that_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that follow from counts, to the byte or nearly; an unreadable note in the cache stops no plan."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(cache := tmp_path / "cache"))
    request = Request("tiny", systems=("bm25", "teacher"), settings=("dense.index=hnsw",), output=tmp_path / "run")
    planned = stages(request)
    run(request)
    for name, pattern in (("encode with teacher", "vectors/*/vectors.npy"), ("build hnsw for teacher", "vectors/*/hnsw-*/index")):
        (path,) = cache.glob(pattern)
        assert path.stat().st_size == pytest.approx(planned[name].disk[CACHE], rel=0.03)
    runs = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*.trec"))
    assert 0.5 < planned["search"].disk[OUTPUT] / runs < 2
    for pattern in ("vectors/*/vectors.json", "tokens/*/tokens.json"):
        (about,) = cache.glob(pattern)
        broken = about.parent.with_name("broken")
        broken.mkdir()
        (broken / about.name).write_text("{}")
        (broken.with_name("cut") / about.name).parent.mkdir()
        (broken.with_name("cut") / about.name).write_text("")
    elsewhere = stages(Request("tiny", systems=("teacher",), settings=("dense.index=hnsw",), output=tmp_path / "other"))
    assert elsewhere["build hnsw for teacher"].state == "to do", "an untrained encoder's vectors are known by nothing"


def test_every_download_has_its_size(written: Any) -> None:
    """Files of ir_datasets and models of the hub, none of them here."""
    document = plan(written())
    sizes = {row["what"]: row["bytes"] for row in document["downloads"]}
    assert sizes["msmarco-passage/collectionandqueries.tar.gz"] == 1_057_717_952
    assert sizes["msmarco-passage/train/qrels"] == 10_589_532
    assert {"simlm", "distilbert-base-uncased", "intfloat/simlm-msmarco-reranker"} < sizes.keys()
    assert all(size > 100_000 for size in sizes.values())
    assert {row["state"] for row in document["downloads"]} == {"download"}
    assert document["seconds"] > 3600
    assert json.dumps(document)


def test_a_model_that_nobody_knows_is_said_to_be_left_out(written: Any) -> None:
    found = stages(written(models={"x": {"model": "some/model"}}, systems=["x"], teacher="", assistants=[], student="", distill={}))
    assert "some/model is not known here" in found["bring the models"].note
    assert found["encode with x"].disk == {}
    assert "not counted" in found["encode with x"].note


def test_a_run_is_refused_before_it_starts(written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a byte is downloaded or written: two days later would be too late to learn it."""
    monkeypatch.setattr(environment, "free_disk_bytes", lambda _: 20_000_000_000)
    before = {path for path in tmp_path.rglob("*")}
    with pytest.raises(EnvironmentLack, match=r"20.0 GB free, about .* are needed: .*set what is in brackets to a larger disk"):
        run(written())
    assert {path.name for path in set(tmp_path.rglob("*")) - before} == {"mine.yaml"}
    monkeypatch.setattr(environment, "free_disk_bytes", lambda _: 10_000)
    with pytest.raises(EnvironmentLack, match="10.0 kB free"):
        train(Request("tiny", output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_files_that_stand_in_for_a_collection_are_taken_for_what_they_are(
    written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of MS MARCO under its name must not be refused for the disk that all of it would take."""
    opened = open_experiment(written())
    monkeypatch.setattr(opened.source, "files", lambda: [["collection.tsv", 3_000_000, 0]])
    sizes = Needs(opened).sizes
    assert 5_000 < sizes.texts.passages < 20_000
    assert not sizes.texts_are_counted


def test_what_is_done_needs_nothing(tmp_path: Path) -> None:
    folder = run(Request("tiny", systems=("bm25", "teacher"), output=tmp_path / "run"))
    document = plan(Request("tiny", systems=("bm25", "teacher"), output=folder))
    assert document["disk"] == []
    assert {row["state"] for row in document["stages"]} <= {"done", "cached"}
    assert document["summary"].startswith("everything is done or cached")
