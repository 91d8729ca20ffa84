"""BM25 over whole collections: Anserini's published figures, and Pyserini's own indexer and searcher."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ir_datasets
import ir_measures
import pytest

from mta4dpr.commands.run import run
from mta4dpr.evaluation.trecrun import Run, read_run
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import read_json


@pytest.mark.needs_collection("beir/nfcorpus/test")
def test_nfcorpus_has_anserinis_figures(tmp_path: Path) -> None:
    """nDCG@10 0.3218 and R@100 0.2457, to four digits, through ir_datasets' own loader and our own index."""
    folder = run(Request("nfcorpus", systems=("bm25",), output=tmp_path / "run"))
    board = read_json(folder / "leaderboard.json")
    values = {row["measure"]: f"{row['value']:.4f}" for row in board["rows"]}
    assert (values["nDCG@10"], values["R@100"]) == ("0.3218", "0.2457")
    assert [line["verdict"] for line in board["expected"]] == ["reproduced", "reproduced"]


@pytest.fixture
def by_pyserini(tmp_path: Path) -> Callable[[str, int], dict[str, dict[str, float]]]:
    """Hits of Pyserini's searcher (k1 0.9, b 0.4) in an index that Pyserini's indexer made of ir_datasets' texts."""

    def search(dataset_id: str, k: int) -> dict[str, dict[str, float]]:
        from pyserini.index.lucene import LuceneIndexer
        from pyserini.search.lucene import LuceneSearcher

        dataset = ir_datasets.load(dataset_id)
        indexer = LuceneIndexer(str(tmp_path / "index"), threads=1)
        for passage in dataset.docs_iter():
            indexer.add_doc_raw(json.dumps({"id": passage.doc_id, "contents": passage.default_text()}))
        indexer.close()
        searcher = LuceneSearcher(str(tmp_path / "index"))
        searcher.set_bm25(0.9, 0.4)
        return {query.query_id: {h.docid: h.score for h in searcher.search(query.default_text(), k)} for query in dataset.queries_iter()}

    return search


@pytest.mark.slow
@pytest.mark.needs_collection("vaswani")
def test_vaswani_is_ranked_as_pyserini_ranks_it(tmp_path: Path, by_pyserini: Callable[..., dict[str, dict[str, float]]]) -> None:
    """93 queries, 11,429 passages, the top 1,000: same passages in the same order, and the figure that ir-measures gives Pyserini's run."""
    folder = run(Request("vaswani", systems=("bm25",), output=tmp_path / "run"))
    ours, theirs = read_run(folder / "runs" / "vaswani" / "bm25.trec"), by_pyserini("vaswani", 1000)
    assert len(theirs) == 93
    assert rankings(ours) == {query_id: list(hits) for query_id, hits in theirs.items() if hits}
    (reference,) = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], ir_datasets.load("vaswani").qrels_iter(), theirs).values()
    values = {row["measure"]: row["value"] for row in read_json(folder / "leaderboard.json")["rows"]}
    assert values["nDCG@10"] == pytest.approx(reference, abs=1e-12)
    assert f"{reference:.4f}" == "0.4368"


def rankings(run: Run) -> dict[str, list[str]]:
    return {query_id: run.ranking(query_id)[0] for query_id in run.query_ids}
