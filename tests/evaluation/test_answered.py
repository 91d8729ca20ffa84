"""Judgements by answers: of what was retrieved, to the depth that is measured, one dummy line for questions without any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mta4dpr.data.collection import BeirFolder
from mta4dpr.data.corpus import Corpus, open_corpus
from mta4dpr.errors import UserError
from mta4dpr.evaluation.answered import NO_PASSAGE, check_measures, judge
from mta4dpr.evaluation.measures import evaluate, parse_measures
from mta4dpr.evaluation.trecrun import run_of

PASSAGES = [("1", "Cyrus", "nobody is named"), ("2", "", "king Cyrus spoke"), ("3", "", "CYRUS, again"), ("4", "", "the sea")]
RUN = {"q1": {"1": 9.0, "4": 8.0, "2": 7.0, "3": 6.0}, "q2": {"2": 1.0}, "not asked": {"2": 1.0}}
ANSWERS = {"q1": ("Cyrus",), "q2": ("Darius", "Xerxes"), "q3": ("Cyrus",)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, beir_folder: Callable[..., Path]) -> Corpus:
    folder = tmp_path_factory.mktemp("answered")
    return open_corpus(folder / "cache", BeirFolder(beir_folder(folder / "mini", PASSAGES)))


def test_every_question_is_judged_and_measured_by_hand(corpus: Corpus) -> None:
    """q1 finds its answer at rank 3 (the title of rank 1 does not count), q2 never, q3 has no hits: all three are in the mean."""
    run, measures = run_of(RUN), parse_measures("Success@2 Success@3 RR@10 P@4")
    qrels, unknown = judge(run, ANSWERS, corpus, measures)
    assert qrels == {"q1": {"2": 1, "3": 1}, "q2": {NO_PASSAGE: 0}, "q3": {NO_PASSAGE: 0}}
    found = evaluate(run, qrels, measures)
    assert (found.query_ids, found.missing_queries, found.ignored_queries, unknown) == (["q1", "q2", "q3"], 1, 1, 0)
    assert {name: found.mean(name) for name in found.values} == pytest.approx(
        {"Success@2": 0, "Success@3": 1 / 3, "RR@10": 1 / 9, "P@4": 1 / 6}
    )


def test_passages_below_the_deepest_cutoff_are_not_looked_at(corpus: Corpus) -> None:
    """DPR's files have 1,000 hits a question and are measured to 100; a measure without a cutoff sees all."""
    assert judge(run_of(RUN), ANSWERS, corpus, parse_measures("Success@1 Success@3"))[0]["q1"] == {"2": 1}
    assert judge(run_of(RUN), ANSWERS, corpus, parse_measures("RR"))[0]["q1"] == {"2": 1, "3": 1}


def test_passages_of_another_collection_are_counted_or_refused(corpus: Corpus) -> None:
    some = run_of({"q1": {"2": 2.0, "wiki:7": 1.0}})
    assert judge(some, ANSWERS, corpus, parse_measures("Success@5"))[1] == 1
    with pytest.raises(UserError, match=r"none of the run's passages .such as 'wiki:7'. is in the corpus, whose ids are like '1'"):
        judge(run_of({"q1": {"wiki:7": 1.0}}), ANSWERS, corpus, parse_measures("Success@5"))


@pytest.mark.parametrize("measure", ["nDCG@10", "R@100", "AP", "Judged@10", "Success(rel=2)@5", "Success(judged_only=True)@5"])
def test_measures_that_need_every_relevant_passage_are_refused(measure: str) -> None:
    """Recall over what the run itself found would be 1; grades and unjudged passages do not exist here."""
    assert len(check_measures(["Success@20", measure, "RR@10", "P@5"], "nq/test")) == 1
