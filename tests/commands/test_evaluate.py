"""`evaluate`: where judgements and measures come from, and what a reader is told of a run file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mta4dpr.commands.evaluate import evaluate, judgements
from mta4dpr.errors import UserError

from ..config.smallest import document

RUN = "q1 Q0 d2 1 3.0 x\nq1 Q0 d1 2 2.0 x\nq9 Q0 d1 1 1.0 x\n"


@pytest.fixture
def mini(beir_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """q1 is answered by d1, q2 by d2; and a run that has d1 second for q1, nothing for q2, and a query that nobody judged."""
    (tmp_path / "a.trec").write_text(RUN)
    passages = [("d1", "", "red fox"), ("d2", "", "dog")]
    return beir_folder(tmp_path / "mini", passages, {"q1": "fox", "q2": "dog"}, {"test": [("q1", "d1", 1), ("q2", "d2", 1)]})


def test_a_folder_and_its_qrels_file_give_the_same(mini: Path, tmp_path: Path) -> None:
    """The file has a head in BEIR's format; both know q2, which the run lacks, and leave q9 out."""
    (tmp_path / "qrels").write_text("q1 0 d1 1\nq2 0 d2 1\n")
    by_folder = evaluate([tmp_path / "a.trec"], dataset=f"{mini}/test", qrels=None, measures="RR@10 R@1", per_query=False)
    by_file = evaluate([tmp_path / "a.trec"], dataset="", qrels=tmp_path / "qrels", measures="RR@10 R@1", per_query=False)
    assert [(row["measure"], row["value"], row["missing_queries"]) for row in by_folder["rows"]] == [("RR@10", 0.25, 1), ("R@1", 0.0, 1)]
    assert [row["value"] for row in by_file["rows"]] == [row["value"] for row in by_folder["rows"]]
    assert any("1 queries of the run have no judgements" in note for note in by_folder["notes"])
    assert any("judged queries that are not in the run: 1" in note for note in by_folder["notes"])
    assert "per_query" not in by_folder


def test_values_of_each_query_where_they_are_wanted(mini: Path, tmp_path: Path) -> None:
    found = evaluate([tmp_path / "a.trec"], dataset=f"{mini}/test", qrels=None, measures="RR@10", per_query=True)
    assert [(row["query_id"], row["measure"], row["value"]) for row in found["per_query"]] == [("q1", "RR@10", 0.5), ("q2", "RR@10", 0.0)]


def test_judgements_come_from_one_place(tmp_path: Path) -> None:
    """Two would be a question; none, a mistake."""
    for dataset, qrels in (("", None), ("x/test", tmp_path / "qrels")):
        with pytest.raises(UserError, match="compare needs judgements: give either --dataset"):
            judgements("compare", dataset=dataset, qrels=qrels, measures="")


def test_measures_are_those_that_a_benchmark_reports(mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run from elsewhere can be put beside its table; the usual ones for what is in none. What is asked for goes before both."""

    def measures(asked: str = "") -> list[str]:
        return [str(measure) for measure in judgements("evaluate", dataset=f"{mini}/test", qrels=None, measures=asked).measures]

    assert measures() == ["nDCG@10", "RR@10", "R@100", "R@1000"]
    assert measures("P@5") == ["P@5"]
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "mine.yaml").write_text(
        yaml.safe_dump(document(eval_sets=[{"id": f"{mini}/test", "measures": ["RR@3", "P@1"]}]))
    )
    monkeypatch.setenv("MTA4DPR_BENCHMARKS", str(tmp_path / "benchmarks"))
    assert measures() == ["RR@3", "P@1"]
    assert measures("P@5") == ["P@5"]
