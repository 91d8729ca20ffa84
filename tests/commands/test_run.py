"""`run` on the benchmark tiny: the files of the contract, resume, and what a folder refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mta4dpr.commands.run import run
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment.efficiency import read_efficiency, write_efficiency
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.machine.kept import SEAL

STRATEGIES = ("contrastive", "kd", "mta4dpr")
SYSTEMS = ("bm25", "teacher", "assistant", "student-init", *STRATEGIES)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(Request("tiny", output=tmp_path_factory.mktemp("tiny") / "run"))


def reproducible(folder: Path) -> dict[str, str]:
    """Hashes of what the contract calls byte-identical for one seed."""
    patterns = ("runs/*/*.trec", "per_query/*/*.csv", "models/*/model.safetensors", "leaderboard.json", "leaderboard.csv", "leaderboard.md")
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in patterns
        for path in folder.glob(pattern)
    }


def test_the_files_of_the_contract(tiny: Path) -> None:
    """Other tools read these names."""
    for name in (
        "manifest.json",
        "ledger.json",
        "leaderboard.json",
        "leaderboard.csv",
        "leaderboard.md",
        "leaderboard.tex",
        "leaderboard.html",
        "efficiency.json",
        "efficiency.md",
        "texts.json",
    ):
        assert (tiny / name).stat().st_size > 0, name
    for system in SYSTEMS:
        lines = (tiny / "runs" / "tiny-test" / f"{system}.trec").read_text().splitlines()
        assert lines
        assert all(len(line.split()) == 6 for line in lines)
        assert (tiny / "per_query" / "tiny-test" / f"{system}.csv").exists()
    for strategy in STRATEGIES:
        steps = [json.loads(line) for line in (tiny / "training" / strategy / "steps.jsonl").read_text().splitlines()]
        assert [step["step"] for step in steps] == list(range(12))
        rounds = [json.loads(line) for line in (tiny / "training" / strategy / "rounds.jsonl").read_text().splitlines()]
        assert [one["round"] for one in rounds] == [0, 1]
    assert {step["assistant"] is not None for step in steps} == {True}, "mta4dpr names the assistant that TASelect chose at every step"
    assert list((tiny / "plots").glob("*.svg"))


def test_the_leaderboard_has_a_row_for_every_system_and_measure(tiny: Path) -> None:
    board = read_json(tiny / "leaderboard.json")
    assert {(row["system"], row["measure"]) for row in board["rows"]} == {(s, m) for s in SYSTEMS for m in ("RR@10", "nDCG@10", "R@100")}
    assert [system["system"] for system in board["systems"]] == list(SYSTEMS)
    assert set(board["rows"][0]) >= {"system", "eval_set", "measure", "value", "queries", "missing_queries", "ci95", "significant_over"}
    assert {(c["a"], c["b"]) for c in board["comparisons"]} == {(s, "kd") for s in SYSTEMS if s != "kd"}
    assert all(row["ci95"][0] <= row["value"] <= row["ci95"][1] for row in board["rows"])


def test_the_values_are_those_of_ir_measures_on_the_run_files(tiny: Path) -> None:
    """The leaderboard says what anyone gets from the run files it comes with."""
    from ir_measures import RR, R, calc_aggregate, nDCG, read_trec_run

    from mta4dpr.data.docstrings import Docstrings

    qrels = {line.query_id: {line.passage_id: 1} for line in Docstrings("tiny", 200).qrels("tiny/test")}
    board = read_json(tiny / "leaderboard.json")
    found = {
        str(m): v
        for m, v in calc_aggregate(
            [RR @ 10, nDCG @ 10, R @ 100], qrels, read_trec_run(str(tiny / "runs" / "tiny-test" / "bm25.trec"))
        ).items()
    }
    rows = {row["measure"]: row["value"] for row in board["rows"] if row["system"] == "bm25"}
    assert rows == pytest.approx(found, abs=1e-12)


def test_the_same_command_again_writes_nothing(tiny: Path) -> None:
    """A finished run only prints its result."""
    before = {path: path.stat().st_mtime_ns for path in tiny.rglob("*") if path.is_file()}
    run(Request("tiny", output=tiny))
    assert {path: path.stat().st_mtime_ns for path in tiny.rglob("*") if path.is_file()} == before


def test_two_runs_with_one_seed_are_byte_identical(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the seed decides: another folder, an empty cache, the same bytes."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    again = run(Request("tiny", output=tmp_path / "run"))
    assert reproducible(again) == reproducible(tiny)
    assert len(reproducible(again)) == 7 + 7 + 3 + 3


def test_another_seed_trains_other_students(tiny: Path, tmp_path: Path) -> None:
    other = run(Request("tiny", output=tmp_path / "run", seed=1, systems=("bm25", "kd")))
    ours, theirs = reproducible(tiny), reproducible(other)
    assert ours["models/kd/model.safetensors"] != theirs["models/kd/model.safetensors"]
    assert ours["runs/tiny-test/bm25.trec"] == theirs["runs/tiny-test/bm25.trec"]


def test_a_lost_or_changed_run_file_is_made_again(tiny: Path, tmp_path: Path) -> None:
    """The ledger trusts bytes, not names."""
    copy = tmp_path / "run"
    shutil.copytree(tiny, copy)
    (copy / "runs" / "tiny-test" / "kd.trec").unlink()
    with (copy / "runs" / "tiny-test" / "teacher.trec").open("a") as file:
        file.write("q Q0 d 1 1 x\n")
    run(Request("tiny", output=copy))
    assert reproducible(copy) == reproducible(tiny)


def test_other_systems_add_rows(tmp_path: Path) -> None:
    folder = run(Request("tiny", output=tmp_path / "run", systems=("bm25",)))
    assert {row["system"] for row in read_json(folder / "leaderboard.json")["rows"]} == {"bm25"}
    run(Request("tiny", output=folder, systems=("teacher",)))
    assert {row["system"] for row in read_json(folder / "leaderboard.json")["rows"]} == {"bm25", "teacher"}


def test_an_approximate_index_says_on_the_row_what_it_finds(tmp_path: Path) -> None:
    """Recall against exact search, and whether it can be repeated; Pyserini gets the very index that was searched."""
    import faiss

    settings = ("dense.index=hnsw", "dense.hnsw_m=4", "dense.hnsw_ef_construction=4", "dense.deterministic=false")
    folder = run(Request("tiny", output=tmp_path / "run", systems=("bm25", "teacher"), settings=settings))
    systems = {system["system"]: system for system in read_json(folder / "leaderboard.json")["systems"]}
    index = systems["teacher"]["index"]
    assert 0.5 < index["recall"] <= 1
    assert (index["hnsw_m"], index["recall_depth"], index["reproducible"]) == (4, 100, False)
    assert systems["teacher"]["note"] == f"HNSW: recall@100 against exact search {index['recall']:.3f} (59 queries); not bit-reproducible"
    assert "recall@100 against exact search" in (folder / "leaderboard.md").read_text()
    assert "index" not in systems["bm25"]
    written = faiss.read_index(str(folder / "indexes" / "teacher" / "index"))
    assert (type(written).__name__, written.ntotal, written.metric_type) == ("IndexHNSWFlat", 200, faiss.METRIC_INNER_PRODUCT)


def test_other_settings_in_the_same_folder_are_refused(tiny: Path) -> None:
    """Rows of one table must be comparable; the message names the keys."""
    with pytest.raises(UserError, match="distill.lr") as caught:
        run(Request("tiny", output=tiny, settings=("lr=0.5",), seed=3))
    assert "seed: 0 there, 3 now" in str(caught.value)
    with pytest.raises(UserError, match="limit"):
        run(Request("tiny", output=tiny, limit=3))


def test_the_texts_of_the_page_are_those_of_the_run_files(tiny: Path) -> None:
    """The passages kept for a query are the first of the run file, with the corpus's text: the page shows what was found."""
    texts = read_json(tiny / "texts.json")
    for system, hits in texts["hits"]["tiny/test"].items():
        found: dict[str, list[str]] = {}
        for line in (tiny / "runs" / "tiny-test" / f"{system}.trec").read_text().splitlines():
            query_id, _, passage_id, *_ = line.split()
            found.setdefault(query_id, []).append(passage_id)
        assert hits
        assert all([passage_id for passage_id, _ in first] == found.get(query_id, [])[:3] for query_id, first in hits.items())
    assert len(texts["queries"]["tiny/test"]) == read_json(tiny / "leaderboard.json")["eval_sets"][0]["queries"]
    assert all(text for _, text in texts["passages"].values())
    assert any(relevance for hits in texts["hits"]["tiny/test"].values() for first in hits.values() for _, relevance in first)


def test_options_that_came_later_do_not_close_a_folder(tiny: Path, tmp_path: Path) -> None:
    """A run of an earlier version knows no dense.index; it was flat then, so rows may be added."""
    copy = shutil.copytree(tiny, tmp_path / "run")
    manifest = read_json(copy / "manifest.json")
    for name in ("index", "precision", "search_memory", "hnsw_m"):
        del manifest["settings"]["dense"][name]
    del manifest[SEAL]
    write_json(copy / "manifest.json", manifest)
    run(Request("tiny", output=copy, systems=("bm25",)))
    with pytest.raises(UserError, match=r"dense.index"):
        run(Request("tiny", output=copy, systems=("bm25",), settings=("dense.index=hnsw",)))


def test_limit_takes_the_first_queries_with_unchanged_scores(tiny: Path, tmp_path: Path) -> None:
    """A score must not depend on how many queries are asked; every table says that the set was cut."""
    folder = run(Request("tiny", output=tmp_path / "run", limit=5, systems=("bm25", "teacher", "kd")))
    for system in ("bm25", "teacher", "kd"):
        cut = (folder / "runs" / "tiny-test" / f"{system}.trec").read_text()
        whole = (tiny / "runs" / "tiny-test" / f"{system}.trec").read_text()
        assert cut
        assert whole.startswith(cut), system
    assert read_json(folder / "leaderboard.json")["rows"][0]["queries"] == 5
    for name in ("leaderboard.md", "leaderboard.tex", "leaderboard.html", "leaderboard.csv"):
        assert "5" in (folder / name).read_text()
    assert "limit" in (folder / "leaderboard.md").read_text()


def test_redo_search_gives_the_same(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(tiny, copy)
    for stage in ("data", "index", "encode", "search", "evaluate"):
        run(Request("tiny", output=copy, systems=("bm25", "teacher"), redo=stage))
        assert reproducible(copy) == reproducible(tiny), stage


def test_redo_latency_times_the_asked_systems_again_and_shows_it(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(tiny, copy)
    document, page = read_efficiency(Folder(copy)), (copy / "leaderboard.html").read_bytes()
    for entry in document["systems"].values():
        entry["query_ms"]["p50"] = 123456.0
    write_efficiency(Folder(copy), document)
    run(Request("tiny", output=copy, systems=("teacher",), redo="latency"))
    times = {system: entry["query_ms"]["p50"] for system, entry in read_json(copy / "efficiency.json")["systems"].items()}
    assert times["teacher"] < 10_000 and times["bm25"] == 123456.0
    assert (copy / "leaderboard.html").read_bytes() != page
    assert reproducible(copy) == reproducible(tiny)


def test_a_trained_student_loads_in_sentence_transformers(tiny: Path) -> None:
    """models/ is what an engineer takes away: the same vectors there, lengths and prefixes with it."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from mta4dpr.config.benchmark import ModelSpec
    from mta4dpr.models.encoder import load_encoder

    folder = tiny / "models" / "mta4dpr"
    texts = ["Return a list of names.", "open the file", "x " * 100]
    theirs = SentenceTransformer(str(folder), device="cpu")
    ours = load_encoder("mta4dpr", ModelSpec(model=str(folder)), device="cpu")
    assert (ours.reading.query_length, ours.reading.passage_length) == (16, 32)
    assert theirs.max_seq_length == 32
    tokens = ours.query_tokens(texts)
    np.testing.assert_allclose(ours.encode(tokens, np.arange(3), longest=32, token_budget=4096), theirs.encode(texts), atol=1e-5)


def test_nothing_opens_a_socket_offline(tmp_path: Path) -> None:
    """After fetch, a run needs no network: any connection but the loopback's fails the process."""
    script = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from pathlib import Path\nfrom mta4dpr.commands.run import run\n"
        "from mta4dpr.experiment.request import Request\n"
        f"run(Request('tiny', output=Path({str(tmp_path / 'run')!r}), systems=('bm25', 'teacher', 'kd'), offline=True))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


# --- collections that are not as they should be --------------------------------------------------------------------

PASSAGES = [("d1", "Foxes", "the red fox runs"), ("d2", "", "a blue whale sings"), ("d3", "", "the dog sleeps")]
QUERIES = {"q1": "red fox", "q2": "whale song", "q3": "unjudged"}


def test_a_folder_evaluates_test_and_counts_what_is_odd(
    beir_folder: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Judgements of absent passages are no reason to stop; a judged query without text scores 0 and is counted."""
    qrels = {"test": [("q1", "d1", 1), ("q2", "d2", 1), ("q1", "gone", 1), ("q9", "d3", 1)], "train": [("q3", "d3", 1)]}
    source = beir_folder(tmp_path / "mini", PASSAGES, QUERIES, qrels)
    with caplog.at_level("INFO"):
        folder = run(Request(str(source), output=tmp_path / "run"))
    rows = {row["measure"]: row for row in read_json(folder / "leaderboard.json")["rows"]}
    assert rows["RR@10"]["eval_set"] == "mini/test"
    assert rows["RR@10"]["value"] == pytest.approx(2 / 3)
    assert (rows["RR@10"]["queries"], rows["RR@10"]["missing_queries"]) == (3, 1)
    assert rows["R@100"]["value"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert "1 judged queries have no text" in caplog.text
    assert "1 judgements name passages that are not in the corpus" in caplog.text


def test_splits_of_a_folder(beir_folder: Callable[..., Path], tmp_path: Path) -> None:
    """test, or the only split, else a choice must be made; train is never evaluated."""
    one = beir_folder(tmp_path / "one", PASSAGES, QUERIES, {"dev": [("q1", "d1", 1)], "train": [("q2", "d2", 1)]})
    folder = run(Request(str(one), output=tmp_path / "run"))
    assert read_json(folder / "leaderboard.json")["rows"][0]["eval_set"] == "one/dev"
    two = beir_folder(tmp_path / "two", PASSAGES, QUERIES, {"dev": [("q1", "d1", 1)], "eval": [("q2", "d2", 1)]})
    with pytest.raises(UserError, match="--eval-sets from: dev, eval"):
        run(Request(str(two), output=tmp_path / "none"))
    with pytest.raises(UserError, match="train is never evaluated"):
        run(Request(str(one), output=tmp_path / "none", eval_sets=("train",)))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("passages", "queries", "qrels", "message"),
    [
        ([], QUERIES, {"test": [("q1", "d1", 1)]}, "no passages"),
        (PASSAGES, QUERIES, {}, "no qrels"),
        (PASSAGES, QUERIES, {"test": []}, "expected at least one judgment"),
        (PASSAGES, QUERIES, {"test": [("other", "d1", 1)]}, "none of its 3 queries is judged"),
        ([*PASSAGES, ("d1", "", "again")], QUERIES, {"test": [("q1", "d1", 1)]}, "'d1' occurs twice"),
        ([("d 1", "", "x")], QUERIES, {"test": [("q1", "d1", 1)]}, "white space, which separates"),
    ],
)
def test_bad_collections_give_one_sentence_and_leave_nothing(
    beir_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    passages: list[tuple[str, str, str]],
    queries: dict[str, str],
    qrels: dict[str, list[tuple[str, str, int]]],
    message: str,
) -> None:
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    source = beir_folder(tmp_path / "bad", passages, queries, qrels)
    with pytest.raises(UserError, match=message) as caught:
        run(Request(str(source), output=tmp_path / "run"))
    assert caught.value.exit_status == 2
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("leaderboard*"))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def test_a_full_disk_stops_with_one_sentence_and_the_run_goes_on_later(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space may be made and the same command given again: nothing is lost, nothing half-written counts."""
    import errno

    from mta4dpr.evaluation import trecrun

    original = trecrun.RunWriter.write

    def full(self: trecrun.RunWriter, query_id: str, *rest: object) -> None:
        if self.path.name == "teacher.trec":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, query_id, *rest)  # type: ignore[arg-type]

    request = Request("tiny", output=tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(trecrun.RunWriter, "write", full)
        with pytest.raises(EnvironmentLack, match="no space left"):
            run(request)
    assert (tmp_path / "run" / "runs" / "tiny-test" / "bm25.trec").exists()
    assert not list((tmp_path / "run" / "runs").rglob("*teacher*"))
    assert reproducible(run(request)) == reproducible(tiny)


def small_yaml(folder: Path, corpus: str, **more: object) -> Path:
    """A benchmark over a folder beside the YAML, with untrained encoders and very short training."""
    model = {"untrained": {"layers": 1, "hidden": 16, "heads": 2, "vocabulary": 50}, "query_length": 16, "passage_length": 16}
    document = {
        "name": "mine",
        "title": "Mine",
        "corpus": f"./{corpus}",
        "train": f"{corpus}/train",
        "systems": ["bm25", "contrastive"],
        "eval_sets": [{"id": f"{corpus}/{split}", "measures": ["RR@10"]} for split in ("test", "dev")],
        "models": {"teacher": model, "student": {**model, "untrained": {**model["untrained"], "seed": 2}}},  # type: ignore[dict-item]
        "teacher": "teacher",
        "student": "student",
        "distill": {"rounds": 1, "steps": 2, "batch_queries": 2, "group": 2, "depth": 2},
        **more,
    }
    path = folder / "mine.yaml"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def read_only_cache(tmp_path: Path, cache_of_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The session's cache, at a place where nothing can be written; skips where that cannot be arranged."""
    place = tmp_path / "cache"
    place.mkdir()
    mounts = [["mount", "--bind", str(cache_of_runs), str(place)], ["mount", "-o", "remount,ro,bind", str(place)]]
    if shutil.which("mount") is None or any(subprocess.run(mount, capture_output=True).returncode for mount in mounts):
        subprocess.run(["umount", "-l", str(place)], capture_output=True)
        pytest.skip("a folder cannot be mounted read-only here; it takes root on Linux")
    monkeypatch.setenv("MTA4DPR_CACHE", str(place))
    yield place
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


def test_a_complete_cache_may_be_read_only(tiny: Path, read_only_cache: Path, tmp_path: Path) -> None:
    """No lock, note or temporary file is needed there; what it lacks is refused by one sentence."""
    with pytest.raises(OSError, match="Read-only"):
        (read_only_cache / "x").touch()
    folder = run(Request("tiny", systems=("bm25", "teacher"), output=tmp_path / "run"))
    for system in ("bm25", "teacher"):
        name = f"runs/tiny-test/{system}.trec"
        assert (folder / name).read_bytes() == (tiny / name).read_bytes()
    with pytest.raises(EnvironmentLack, match="/cache/bm25/.* cannot be written .Read-only file system.; choose another place"):
        run(Request("tiny", systems=("bm25",), settings=("bm25.language=de",), output=tmp_path / "other"))


@pytest.fixture
def mine(beir_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """Six queries, of which two are in dev as well as in train."""
    queries = {f"q{n}": f"red fox number {n}" for n in range(6)}
    judged = [(f"q{n}", f"d{1 + n % 3}", 1) for n in range(6)]
    beir_folder(tmp_path / "mini", PASSAGES, queries, {"test": judged[:1], "dev": judged[1:3], "train": judged[1:]})
    return small_yaml(tmp_path, "mini")


def test_training_avoids_every_eval_set_also_those_not_chosen(mine: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows of eval sets that are added later must not come from students that were trained on their queries."""
    with caplog.at_level("INFO"):
        run(Request(str(mine), eval_sets=("mini/test",), output=tmp_path / "run"))
    assert "2 dropped because they occur in an eval set" in caplog.text


def test_changed_judgements_are_scored_and_trained_on_again(mine: Path, tmp_path: Path) -> None:
    request = Request(str(mine), output=tmp_path / "run")
    run(request)
    before = reproducible(tmp_path / "run")
    qrels = tmp_path / "mini" / "qrels"
    (qrels / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td3\t1\n")
    (qrels / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{1 + (n + 1) % 3}\t1\n" for n in range(1, 6)))
    run(request)
    after = reproducible(tmp_path / "run")
    assert before["runs/mini-test/bm25.trec"] == after["runs/mini-test/bm25.trec"]
    assert before["per_query/mini-test/bm25.csv"] != after["per_query/mini-test/bm25.csv"]
    assert before["models/contrastive/model.safetensors"] != after["models/contrastive/model.safetensors"]


def test_a_changed_corpus_is_refused_in_the_same_folder(mine: Path, tmp_path: Path) -> None:
    """Old and new rows of one table must come from one corpus."""
    request = Request(str(mine), systems=("bm25",), output=tmp_path / "run")
    run(request)
    corpus = tmp_path / "mini" / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("whale", "walrus"))
    with pytest.raises(UserError, match="text_hash"):
        run(request)


@pytest.mark.parametrize("label", ["..", "my model", "kd", ".hidden"])
def test_labels_that_would_hurt_are_refused(tiny: Path, tmp_path: Path, label: str) -> None:
    """A label becomes a file name: it must not leave the folder, nor take another system's place."""
    model = str(tiny / "models" / "kd")
    with pytest.raises(UserError, match="cannot be called"):
        run(Request("tiny", systems=(f"{label}={model}",), output=tmp_path / "run"))
    with pytest.raises(UserError, match="two systems"):
        run(Request("tiny", systems=(f"a+b={model}", f"a-b={model}"), output=tmp_path / "run"))


def test_training_data_from_another_folder_is_refused(mine: Path, tmp_path: Path) -> None:
    """A corpus comes with its queries; reading another split of the same name in silence would train on the wrong ones."""
    document = json.loads(mine.read_text())
    mine.write_text(json.dumps({**document, "train": "other/train"}))
    with pytest.raises(UserError, match="not in the corpus's folder"):
        run(Request(str(mine), output=tmp_path / "run"))
