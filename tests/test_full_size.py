"""`run msmarco` and `run nq` as they are, on small files in the collections' own formats: through ir_datasets' loaders, with training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr.config.yaml_files import load_benchmark
from mta4dpr.data.corpus import Corpus
from mta4dpr.machine.files import file_name, read_json

from . import miniatures

pytestmark = pytest.mark.slow

BEIR = ("beir/nfcorpus/test", "beir/scifact/test")
STEPS = 8
SMALL = {"rounds": 2, "steps": STEPS, "warmup": 2, "batch_queries": 4, "group": 4, "scored": 6, "depth": 20, "checkpoint_every": 100}
"""What a laptop changes of the full-size settings; everything else is as the benchmark's YAML says."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniatures")
    miniatures.msmarco(folder / "irds")
    miniatures.dpr(folder / "irds")
    miniatures.beir(folder / "irds", "nfcorpus", "scifact")
    miniatures.models(folder / "models")
    return folder


def command(place: Path, *arguments: str, cache: str = "cache", processes: int = 1) -> subprocess.CompletedProcess[str]:
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"] if processes > 1 else []
    settings = {"IR_DATASETS_HOME": "irds", "MTA4DPR_MODELS": "models", "MTA4DPR_CACHE": cache}
    environment = {**os.environ, **{name: str(place / folder) for name, folder in settings.items()}}
    return subprocess.run(
        [sys.executable, "-m", *launcher, "mta4dpr", *arguments], cwd=place, env=environment, capture_output=True, text=True, timeout=900
    )


def run(place: Path, name: str, *more: str, processes: int = 1) -> str:
    """Runs a benchmark, with all its systems unless `more` says otherwise; returns what it said."""
    settings = [argument for key, value in SMALL.items() for argument in ("--set", f"{key}={value}")]
    done = command(place, "run", name, "--offline", "--output", name, *settings, *more, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def values(board: dict[str, Any], eval_set: str) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    for row in board["rows"]:
        if row["eval_set"] == eval_set:
            rows.setdefault(row["system"], {})[row["measure"]] = row["value"]
    return rows


def check_everything_is_there(place: Path, name: str) -> dict[str, Any]:
    bench = load_benchmark(name, {})
    assert bench is not None
    board: dict[str, Any] = read_json(place / name / "leaderboard.json")
    wanted = {(e.id, s, m) for e in bench.eval_sets for s in bench.systems for m in e.measures}
    assert {(row["eval_set"], row["system"], row["measure"]) for row in board["rows"]} == wanted
    assert all(row["queries"] > 0 for row in board["rows"])
    for student in ("contrastive", "kd", "kd_ta", "mta4dpr"):
        assert len((place / name / "training" / student / "steps.jsonl").read_text().splitlines()) == STEPS
        assert (place / name / "models" / student / "model.safetensors").is_file()
    return board


def test_msmarco_from_its_own_files_to_a_leaderboard(place: Path) -> None:
    """Eval sets, training queries and the collection's repaired encoding come from ir_datasets; figures are those of ir_measures alone."""
    import ir_measures

    said = run(place, "msmarco")
    board = check_everything_is_there(place, "msmarco")
    assert "1 dropped because they occur in an eval set" in said  # the same words in capitals, under another id
    assert "msmarco-passage/train/judged: 119 training queries" in said
    (store,) = (place / "cache" / "corpora").glob("msmarco-passage-*/")
    assert Corpus(store).passage(0).text.startswith(miniatures.REPAIRED)
    assert board["expected"] == []  # 300 passages are not the collection that published figures are of
    assert any("300 passages of 8,841,823" in note for note in board["notes"])
    bm25 = values(board, "msmarco-passage/dev/small")["bm25"]
    assert (bm25["R@1000"], bm25["Success@50"]) == (1, 1)
    assert bm25["RR@10"] > 0.7  # the queries are words of their passages
    for eval_set, qrels in {
        "trec-dl-2019/judged": "trec-dl-2019",
        "trec-dl-2020/judged": "trec-dl-2020",
        "trec-dl-hard": "trec-dl-hard",
    }.items():
        judged = list(ir_measures.read_trec_qrels(str(place / "irds" / "msmarco-passage" / qrels / "qrels")))
        path = place / "msmarco" / "runs" / file_name(f"msmarco-passage/{eval_set}") / "bm25.trec"
        found = values(board, f"msmarco-passage/{eval_set}")["bm25"]
        measures = [ir_measures.parse_measure(name) for name in found]
        expected = ir_measures.calc_aggregate(measures, judged, list(ir_measures.read_trec_run(str(path))))
        assert found == {str(measure): pytest.approx(value, abs=1e-12) for measure, value in expected.items()}
        assert found["nDCG@10"] > 0.3
    check_suite(place, board)


def check_suite(place: Path, before: dict[str, Any]) -> None:
    """`--eval-sets beir` adds the mean over the two collections that are here, of a trained student too; other rows stay as they are.

    In two processes, of which the main one works on the collections alone; one process then finds everything done.
    """
    arguments = ["--systems", "bm25,mta4dpr", "--eval-sets", "beir"]
    assert "beir: 2 of 13 collections are here; not beir/trec-covid" in run(place, "msmarco", *arguments, processes=2)
    board = read_json(place / "msmarco" / "leaderboard.json")
    assert [row for row in board["rows"] if row["eval_set"] != "beir"] == before["rows"]
    rows = {row["system"]: row for row in board["rows"] if row["eval_set"] == "beir"}
    assert list(rows) == ["bm25", "mta4dpr"]
    for system, row in rows.items():
        runs = [place / "msmarco" / "suites" / "beir" / f"beir-{name}-test" for name in ("nfcorpus", "scifact")]
        alone = [values(read_json(one / "leaderboard.json"), eval_set)[system]["nDCG@10"] for one, eval_set in zip(runs, BEIR, strict=True)]
        assert (row["value"], row["queries"], row["titled"]) == (pytest.approx(np.mean(alone)), 2, True)
        assert (place / "msmarco" / "per_query" / "beir" / f"{system}.csv").read_text().splitlines()[1] == f"{BEIR[0]},{alone[0]!r}"
    assert rows["bm25"]["value"] > 0.7
    assert any("over 2 of 13 collections, each weighing the same" in note for note in board["notes"])
    assert "everything is done already" in run(place, "msmarco", *arguments)


def test_natural_questions_by_answers_is_what_pyserini_computes(place: Path) -> None:
    """Success@k of every system's run file, by Pyserini's own matching of answers in the texts; a title's answer counts for nothing."""
    from pyserini.eval.evaluate_dpr_retrieval import SimpleTokenizer, has_answers

    said = run(place, "nq")
    board = check_everything_is_there(place, "nq")
    assert "dpr-w100/natural-questions/train: 89 training queries" in said  # the ids of all 90 are ids in nq/test's file or nq/dev's too
    assert "1 dropped because they occur in an eval set" in said
    (store,) = (place / "cache" / "corpora").glob("dpr-w100-*/")
    corpus, tokenizer = Corpus(store), SimpleTokenizer()
    assert '"Z' in corpus.passage(0).text  # read as the CSV that it is
    assert '""' not in corpus.passage(0).text
    in_title_only = 0
    for eval_set, questions in {
        "nq/test": miniatures.questions(place / "irds", "test"),
        "nq/dev": miniatures.questions(place / "irds", "dev"),
    }.items():
        for system, found in values(board, eval_set).items():
            first = {query: 10**9 for query in questions}
            hits: dict[str, int] = {}
            for line in (place / "nq" / "runs" / file_name(eval_set) / f"{system}.trec").read_text().splitlines():
                query, _, passage, *_ = line.split()
                hits[query] = rank = hits.get(query, 0) + 1
                about = corpus.passage(int(corpus.numbers([passage])[0]))
                if has_answers(about.text, questions[query], tokenizer):
                    first[query] = min(first[query], rank)
                else:
                    in_title_only += has_answers(about.title, questions[query], tokenizer)
            assert found == {f"Success@{k}": pytest.approx(np.mean([rank <= k for rank in first.values()])) for k in (5, 20, 100)}
    assert in_title_only > 0
    shown = read_json(place / "nq" / "texts.json")["hits"]["nq/test"]["bm25"]
    assert {relevance for found in shown.values() for _, relevance in found} == {0, 1}  # the page says which passages have an answer
    assert values(board, "nq/test")["bm25"]["Success@5"] > 0.7
    assert values(board, "dpr-w100/natural-questions/dev")["bm25"]["R(rel=2)@100"] == 1
    check_evaluate(place, board)


def check_evaluate(place: Path, board: dict[str, Any]) -> None:
    """`evaluate --dataset nq/test` on that run file: the same figures; without the texts, what is lacking."""
    arguments = ["evaluate", "nq/runs/nq-test/bm25.trec", "--dataset", "nq/test", "--json"]
    document = json.loads(command(place, *arguments).stdout)
    assert {row["measure"]: row["value"] for row in document["rows"]} == values(board, "nq/test")["bm25"]
    refused = command(place, *arguments, cache="nowhere")
    assert refused.returncode == 3
    assert "texts of retrieved passages, and those of dpr-w100 are not in" in refused.stderr
    refused = command(place, *arguments, "--measures", "nDCG@10")
    assert refused.returncode == 2
    assert "choose from Success, RR, P" in refused.stderr
