"""`compare` on runs that a reader checks by hand, and on a folder in BEIR's format whose texts it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from mta4dpr.commands.compare import compare
from mta4dpr.errors import UserError

QUERIES = 12


def run_file(path: Path, ranks: list[int]) -> Path:
    """A run in which the one relevant passage of query n, named good-n, has rank ranks[n] among the others."""
    lines = []
    for n, rank in enumerate(ranks):
        passages = [f"bad-{i}" for i in range(1, 6)]
        passages.insert(rank - 1, f"good-{n}")
        lines += [f"q{n} Q0 {passage} {place} {10 - place} test\n" for place, passage in enumerate(passages, start=1)]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In BEIR's format; each query has one relevant passage."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "collection"
    (place / "qrels").mkdir(parents=True)
    passages = [f"good-{n}" for n in range(QUERIES)] + [f"bad-{i}" for i in range(1, 6)]
    (place / "corpus.jsonl").write_text("".join(json.dumps({"_id": p, "title": "", "text": f"text of {p} <b>"}) + "\n" for p in passages))
    (place / "queries.jsonl").write_text("".join(json.dumps({"_id": f"q{n}", "text": f"question {n}"}) + "\n" for n in range(QUERIES)))
    qrels = "".join(f"q{n}\tgood-{n}\t1\n" for n in range(QUERIES))
    (place / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return place


def compared(folder: Path, *files: Path, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"dataset": f"{folder}/test", "qrels": None, "measures": "RR@10", "all_pairs": False, "queries": None}
    return compare(files, **{**arguments, **changes})


def test_two_runs_by_hand(folder: Path, tmp_path: Path) -> None:
    first, second = [1] * 6 + [2] * 6, [1] * 5 + [4] + [1] * 5 + [2]
    files = run_file(tmp_path / "one.trec", first), run_file(tmp_path / "two.run", second)
    found = compared(folder, *files)
    values = [1 / np.array(ranks) for ranks in (first, second)]
    (only,) = found["comparisons"]
    assert (only["a"], only["b"], only["family"]) == ("two", "one", "planned")  # the first file is the baseline
    assert only["difference"] == pytest.approx((5 * 0.5 - 0.75) / QUERIES)
    assert only["p"] == only["p_holm"] == pytest.approx(ttest_rel(values[1], values[0]).pvalue)
    assert (only["wins"], only["ties"], only["losses"]) == (5, 6, 1)
    assert [row["value"] for row in found["rows"]] == [pytest.approx(one.mean()) for one in values]


def test_the_queries_that_differ_most_come_with_texts(folder: Path, tmp_path: Path) -> None:
    """Largest difference first, equal ones in the qrels' order, none without a difference; passages with text and grade."""
    files = run_file(tmp_path / "one.trec", [1] * 6 + [2] * 6), run_file(tmp_path / "two.trec", [1] * 5 + [4] + [1] * 5 + [2])
    queries = compared(folder, *files)["queries"]
    assert [one["query_id"] for one in queries] == ["q5", "q6", "q7", "q8", "q9", "q10"]
    assert (queries[0]["query"], queries[0]["value_a"], queries[0]["value_b"]) == ("question 5", 0.25, 1.0)
    assert [(p["id"], p["relevance"], p["text"]) for p in queries[1]["first_a"]] == [
        ("good-6", 1, "text of good-6 <b>"),
        ("bad-1", None, "text of bad-1 <b>"),
        ("bad-2", None, "text of bad-2 <b>"),
    ]
    assert [p["id"] for p in queries[1]["first_b"]] == ["bad-1", "good-6", "bad-2"]
    assert len(compared(folder, *files, queries=2)["queries"]) == 2
    assert compared(folder, *files, queries=0)["queries"] == []


def test_holm_is_over_the_contrasts_of_a_measure(folder: Path, tmp_path: Path) -> None:
    """Three runs: two planned contrasts, or three exploratory ones, which correct more; more runs list queries only when asked."""
    ranks = {"a": [3] * 12, "b": [1] * 8 + [3] * 4, "c": [1] * 5 + [3] * 7}
    files = [run_file(tmp_path / f"{name}.trec", of) for name, of in ranks.items()]
    planned, every = compared(folder, *files), compared(folder, *files, all_pairs=True)
    assert [(one["a"], one["b"], one["family"]) for one in planned["comparisons"]] == [("b", "a", "planned"), ("c", "a", "planned")]
    assert [(one["a"], one["b"]) for one in every["comparisons"]] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert {one["family"] for one in every["comparisons"]} == {"exploratory"}
    smallest = min(one["p"] for one in planned["comparisons"])
    assert planned["comparisons"][0]["p_holm"] == pytest.approx(2 * smallest)
    assert every["comparisons"][0]["p_holm"] == pytest.approx(3 * smallest)
    assert planned["queries"] == []
    assert {(one["a"], one["b"]) for one in compared(folder, *files, queries=1)["queries"]} == {("b", "a"), ("c", "a")}


def test_with_qrels_alone_ids_are_shown(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("".join(f"q{n} 0 good-{n} 1\n" for n in range(QUERIES)))
    files = run_file(tmp_path / "one.trec", [1] * 12), run_file(tmp_path / "two.trec", [2] * 12)
    found = compared(folder, *files, dataset="", qrels=tmp_path / "qrels")
    assert found["queries"][0]["query"] is None
    assert [(p["id"], p["text"]) for p in found["queries"][0]["first_b"]] == [("good-0", None), ("bad-1", None), ("bad-2", None)]
    assert any("--dataset" in note for note in found["notes"])


def test_equal_runs_are_told_as_such(folder: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    """One file under two names, the commonest mistake: "cannot tell" would hide it."""
    files = run_file(tmp_path / "one.trec", [1, 2] * 6), run_file(tmp_path / "copy.trec", [1, 2] * 6)
    status, out, _ = command("compare", *map(str, files), "--dataset", f"{folder}/test", "--measures", "RR@10")
    assert status == 0
    assert "the same on" in out
    assert "cannot tell" not in out


def test_files_of_one_name_are_named_in_full(folder: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    files = run_file(tmp_path / "a" / "x.trec", [1] * 12), run_file(tmp_path / "b" / "x.trec", [2] * 12)
    assert [row["label"] for row in compared(folder, *files)["rows"]] == [str(path) for path in files]


@pytest.mark.parametrize(
    ("names", "changes", "told"),
    [
        (["one"], {}, "two run files or more, found 1"),
        (["one", "one"], {}, "twice"),
        (["one", "two"], {"queries": -1}, "--queries"),
        (["one", "two"], {"dataset": ""}, "compare needs judgements"),
        (["one", "nowhere"], {}, "found nothing at"),
    ],
)
def test_what_cannot_be_compared(folder: Path, tmp_path: Path, names: list[str], changes: dict[str, Any], told: str) -> None:
    for name in ("one", "two"):
        run_file(tmp_path / f"{name}.trec", [1] * 12)
    with pytest.raises(UserError, match=told):
        compared(folder, *[tmp_path / f"{name}.trec" for name in names], **changes)


def test_the_command_prints_tables_and_one_json_document(folder: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    files = run_file(tmp_path / "one.trec", [2] * 12), run_file(tmp_path / "two.trec", [1] * 11 + [2])
    arguments = ["compare", *map(str, files), "--dataset", f"{folder}/test", "--measures", "RR@10 R@1"]
    status, out, _ = command(*arguments)
    assert status == 0
    assert "RR@10: planned contrasts" in out
    assert "two - one" in out
    assert "+0.4583" in out
    assert "better" in out
    assert "text of good-0 <b>" in out
    status, out, _ = command(*arguments, "--json")
    assert [one["measure"] for one in json.loads(out)["comparisons"]] == ["RR@10", "R@1"]
