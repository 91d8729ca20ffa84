"""Public systems on TREC DL 2019 and 2020 with NIST's judgements: `evaluate` prints what was published, in every clone.

What the files in data/ are, and where they come from, is said in its README.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import ir_measures
import pytest
import yaml
from ir_datasets.util import DownloadConfig

from mta4dpr.commands import evaluate as command_evaluate
from mta4dpr.data.judgements import read_qrels
from mta4dpr.evaluation.measures import evaluate, parse_measures
from mta4dpr.evaluation.trecrun import read_run

DATA = Path(__file__).parent / "data"
QUERIES = {"dl19": 43, "dl20": 54}
SYSTEMS = {"bm25", "bm25rm3", "tasb", "spladeppED", "repllama"}

PUBLISHED = {
    ("dl19", "bm25", "nDCG@10"): "0.5058",
    ("dl19", "bm25rm3", "nDCG@10"): "0.5216",
    ("dl19", "tasb", "nDCG@10"): "0.7210",
    ("dl19", "spladeppED", "nDCG@10"): "0.7308",
    ("dl19", "repllama", "nDCG@10"): "0.7384",
    ("dl19", "bm25", "R(rel=2)@100"): "0.4910",
    ("dl20", "bm25", "nDCG@10"): "0.4796",
    ("dl20", "bm25rm3", "nDCG@10"): "0.4896",
    ("dl20", "tasb", "nDCG@10"): "0.6854",
    ("dl20", "spladeppED", "nDCG@10"): "0.7197",
    ("dl20", "repllama", "nDCG@10"): "0.7195",
    ("dl20", "bm25", "R(rel=2)@100"): "0.5599",
}
"""Over all judged queries, with the four decimals that trec_eval prints: Anserini, Pyserini, and RankLLM for RepLLaMA."""

PYSERINIS = {
    "bm25": "bm25-default",
    "bm25rm3": "bm25-rm3-default",
    "tasb": "distilbert-kd-tasb-pytorch",
    "spladeppED": "splade-pp-ed-pytorch",
}
"""What Pyserini's reproduction matrix calls them."""


def run_file(track: str, system: str) -> Path:
    return DATA / f"{track}.{system}.trec.gz"


def qrels_file(track: str) -> Path:
    return DATA / f"{track}.qrels.gz"


@pytest.mark.parametrize(("track", "system", "measure"), PUBLISHED)
def test_evaluate_gives_the_published_figure(command: Any, track: str, system: str, measure: str) -> None:
    """The command line, with a run and a qrels file as a user has them."""
    arguments = [str(run_file(track, system)), "--qrels", str(qrels_file(track)), "--measures", measure, "--json"]
    status, out, _ = command("evaluate", *arguments)
    assert status == 0
    (row,) = json.loads(out)["rows"]
    assert f"{row['value']:.4f}" == PUBLISHED[track, system, measure]
    assert (row["queries"], row["missing_queries"]) == (QUERIES[track], 0)


@pytest.mark.parametrize("track", QUERIES)
def test_the_function_gives_the_published_figures(track: str) -> None:
    """All systems of a track in one call, as a script has them."""
    names = {str(run_file(track, system)): system for system in sorted(SYSTEMS)}
    measures = " ".join(dict.fromkeys(measure for *_, measure in PUBLISHED))
    document = command_evaluate.evaluate(list(map(Path, names)), dataset="", qrels=qrels_file(track), measures=measures, per_query=False)
    found = {(track, names[row["run"]], row["measure"]): f"{row['value']:.4f}" for row in document["rows"]}
    expected = {key: figure for key, figure in PUBLISHED.items() if key[0] == track}
    assert {key: found[key] for key in expected} == expected
    assert document["notes"] == []


@pytest.mark.parametrize(
    "track",
    [
        pytest.param(track, marks=pytest.mark.needs_collection(f"msmarco-passage/trec-dl-20{track[2:]}/judged", parts=("queries", "qrels")))
        for track in QUERIES
    ],
)
def test_judgements_through_ir_datasets_give_the_same(command: Any, track: str) -> None:
    """`--dataset` where the other tests say `--qrels`; queries and judgements are all that it reads."""
    dataset = f"msmarco-passage/trec-dl-20{track[2:]}/judged"
    status, out, _ = command("evaluate", str(run_file(track, "tasb")), "--dataset", dataset, "--measures", "nDCG@10", "--json")
    assert status == 0
    (row,) = json.loads(out)["rows"]
    assert (f"{row['value']:.4f}", row["queries"]) == (PUBLISHED[track, "tasb", "nDCG@10"], QUERIES[track])


@pytest.mark.parametrize("system", PYSERINIS)
@pytest.mark.parametrize("track", QUERIES)
def test_the_figures_are_those_that_pyserini_prints(track: str, system: str) -> None:
    """Its reproduction matrix comes with the package: a figure mistyped here is seen."""
    (package,) = importlib.util.find_spec("pyserini").submodule_search_locations
    conditions = yaml.safe_load((Path(package) / "2cr" / "msmarco-v1-passage.yaml").read_text(encoding="utf-8"))["conditions"]
    (condition,) = (c for c in conditions if c["name"] == PYSERINIS[system])
    (topics,) = (t for t in condition["topics"] if t["eval_key"] == f"{track}-passage")
    (scores,) = topics["scores"]
    assert f"{scores['nDCG@10']:.4f}" == PUBLISHED[track, system, "nDCG@10"]


@pytest.mark.parametrize("system", sorted(SYSTEMS))
@pytest.mark.parametrize("track", QUERIES)
def test_ir_measures_own_reading_and_calculation_agree(track: str, system: str) -> None:
    """ir-measures reads the same files itself. Every query to 12 digits; both sides break RepLLaMA's ties by trec_eval's rule."""
    measures = parse_measures("nDCG@10 R(rel=2)@100 AP(rel=2)@100 P@10")
    ours = evaluate(read_run(run_file(track, system)), read_qrels(qrels_file(track)), measures)
    with gzip.open(run_file(track, system), "rt") as run, gzip.open(qrels_file(track), "rt") as qrels:
        theirs = ir_measures.calc(measures, list(ir_measures.read_trec_qrels(qrels)), list(ir_measures.read_trec_run(run)))
    expected = {(m.query_id, str(m.measure)): m.value for m in theirs.per_query}
    assert len(expected) == len(measures) * QUERIES[track]
    for measure in map(str, measures):
        column = [expected[query_id, measure] for query_id in ours.query_ids]
        assert ours.values[measure].tolist() == pytest.approx(column, abs=1e-12)
        if (track, system, measure) in PUBLISHED:
            assert f"{sum(column) / len(column):.4f}" == PUBLISHED[track, system, measure]


@pytest.mark.parametrize("system", sorted(SYSTEMS))
@pytest.mark.parametrize("track", QUERIES)
def test_measures_of_other_providers_agree_where_there_are_no_ties(track: str, system: str) -> None:
    """Providers break ties in different ways, so these are broken before both sides."""
    measures = parse_measures("RR@10 Judged@10 Bpref Rprec AP(rel=2)@1000 Success@1")
    run, qrels = read_run(run_file(track, system)), read_qrels(qrels_file(track))
    untied = {query_id: {d: 1000.0 - i for i, d in enumerate(run.ranking(query_id)[0])} for query_id in run.query_ids}
    ours = evaluate(run, qrels, measures)
    expected = {(m.query_id, str(m.measure)): m.value for m in ir_measures.iter_calc(measures, qrels, untied)}
    for name, column in ours.values.items():
        assert column.tolist() == pytest.approx([expected[query_id, name] for query_id in ours.query_ids], abs=1e-12), name


@pytest.mark.parametrize(("track", "system", "measure"), PUBLISHED)
def test_one_changed_score_is_seen(tmp_path: Path, track: str, system: str, measure: str) -> None:
    """A relevant first hit of a query that has few others gets the lowest score, and another figure is printed."""
    qrels = read_qrels(qrels_file(track))
    lines = [line.split() for line in gzip.decompress(run_file(track, system).read_bytes()).decode().splitlines()]
    first = [line for line in lines if line[3] == "1" and qrels[line[0]].get(line[2], 0) >= 2]
    changed = min(first, key=lambda line: sum(grade >= 2 for grade in qrels[line[0]].values()))
    changed[4] = "-1"
    if measure == "R(rel=2)@100":  # which passage is last among 100 does not matter, so one more comes before it
        lines.append([changed[0], "Q0", "not-judged", "1", "0", system])
    (tmp_path / "changed").write_text("".join(" ".join(line) + "\n" for line in lines))
    document = command_evaluate.evaluate([tmp_path / "changed"], dataset="", qrels=qrels_file(track), measures=measure, per_query=False)
    assert f"{document['rows'][0]['value']:.4f}" != PUBLISHED[track, system, measure]


# the files


@pytest.mark.parametrize(("track", "year", "lines"), [("dl19", 2019, 9260), ("dl20", 2020, 11386)])
def test_the_judgements_are_nists_to_the_byte(track: str, year: int, lines: int) -> None:
    """ir_datasets declares the hash of what NIST serves."""
    content = gzip.decompress(qrels_file(track).read_bytes())
    expected = DownloadConfig.contents()["msmarco-passage"][f"trec-dl-{year}/qrels"]
    assert hashlib.md5(content).hexdigest() == expected["expected_md5"]
    assert len(content.splitlines()) == lines
    assert len(read_qrels(qrels_file(track))) == QUERIES[track]


@pytest.mark.parametrize("system", sorted(SYSTEMS))
@pytest.mark.parametrize("track", QUERIES)
def test_a_run_has_every_judged_query_and_no_text(track: str, system: str) -> None:
    lines = gzip.decompress(run_file(track, system).read_bytes()).decode().splitlines()
    assert all(re.fullmatch(rf"\d+ Q0 \d+ \d+ -?\d+(\.\d+)? {system}", line) for line in lines)
    depth = 200 if (track, system) == ("dl19", "repllama") else 100
    assert Counter(line.split()[0] for line in lines) == dict.fromkeys(read_qrels(qrels_file(track)), depth)


def test_the_files_are_few_small_and_reproducible() -> None:
    """Every clone carries them. Neither a name nor a time is in the gzip header."""
    files = sorted(DATA.glob("*.gz"))
    assert {file.name for file in files} == {run_file(t, s).name for t in QUERIES for s in SYSTEMS} | {qrels_file(t).name for t in QUERIES}
    assert sum(file.stat().st_size for file in files) < 600_000
    assert {file.read_bytes()[3:8] for file in files} == {bytes(5)}
