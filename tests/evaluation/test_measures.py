"""Measures over tiny runs that a reader checks by hand, and parity with ir-measures."""

from __future__ import annotations

import shutil
import warnings
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta4dpr.errors import UserError
from mta4dpr.evaluation import measures as measures_module
from mta4dpr.evaluation.measures import Qrels, _for_providers, evaluate, parse_measures
from mta4dpr.evaluation.trecrun import run_of

EVERYDAY = "RR@10 RR nDCG@10 nDCG AP AP(rel=2)@1000 R@2 R(rel=2)@1000 Judged@10 Success@20 Success@1 P@10 Bpref Rprec"
SHALLOW = "RR@3 P@4 nDCG@3 R@5 AP@4 Success@2"
RARE = "Judged infAP Compat SetP SetR SetF SetAP IPrec@0.1 P(judged_only=True)@2 nDCG(gains={1:3})@5 AP(rel=2)"


def by_ir_measures(text: str, qrels: Qrels, run: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """{measure: {query id: value}} by plain ir-measures."""
    import ir_measures

    values: dict[str, dict[str, float]] = defaultdict(dict)
    for metric in ir_measures.iter_calc(parse_measures(text), qrels, run):
        values[str(metric.measure)][metric.query_id] = metric.value
    return values


# parse_measures


def test_notation() -> None:
    """White space inside brackets belongs to the measure; what is printed is ir-measures' own string; doubles and aliases are one."""
    names = [str(m) for m in parse_measures("  nDCG@10\tAP(rel=2)@1000 nDCG(gains={0:0, 1:5})@10\nMRR@10 RR@10 nDCG(dcg='exp-log2')@5 ")]
    assert names == ["nDCG@10", "AP(rel=2)@1000", "nDCG(gains={1:5})@10", "RR@10", "nDCG(dcg='exp-log2')@5"]


def test_a_list_is_as_good_as_a_text() -> None:
    assert parse_measures(["RR@10 P@5", "R@1000"]) == parse_measures("RR@10 P@5 R@1000")


@pytest.mark.parametrize("name", (EVERYDAY + " " + RARE).split())
def test_a_measures_string_reads_back(name: str) -> None:
    (measure,) = parse_measures(name)
    assert parse_measures(str(measure)) == [measure]


def test_parsing_is_silent() -> None:
    """ir-measures 0.4.3 parses with ast.Num, deprecated since Python 3.8."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_measures("AP(rel=2)@1000 nDCG(gains={1:5})@10")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one measure"),
        ("ndcg@10", "did you mean 'nDCG@10'"),
        ("Sucess@5", "did you mean 'Success'"),
        ("recip_rank", "did you mean 'RR'"),  # trec_eval's name
        ("ndcg_cut_10", "did you mean 'nDCG@10'"),
        ("nDCG@10,RR@10", "separated by spaces"),
        ("AP(rel=2@10", "never closed"),
        ("AP(foo=1)", "foo"),
        ("R", "requires the parameter cutoff"),
        ("RR@0", "cutoff of at least 1"),
        ("RR@1.5", "cutoff"),
        ("NumQ", "sum over queries"),
        ("NumRet", "sum over queries"),
        ("Accuracy", "undefined for queries without a relevant hit"),
        ("alpha_nDCG@10", "subtopic"),
        ("IPrec@0.125", "two decimals"),
        ("P@99999999999999999999", "at most 2,147,483,647"),
        ("AP(rel=3000000000)", "rel. from 1 to 127"),
        ("RR(rel=0)@10", "rel. from 1 to 127"),  # of two providers one would count what is not judged
        ("nDCG(gains={1:3000000000})@10", "gain from 0 to 127"),
        ("nDCG(gains={1:2.5})@10", "whole numbers"),
        ("nDCG(gains={'1':5})@10", "whole numbers"),  # had no effect, and was shown as if it had
        ("SetF(beta=1e999)", "finite number as beta"),
        ("Compat(p=1e999)", "finite number as p"),
        ("-" * 50_000 + "1", "separated by spaces"),  # more than Python's parser takes
    ],
)
def test_what_cannot_be_reported(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse_measures(text)


def test_a_measure_without_a_provider_names_what_to_install() -> None:
    """RBP is computed by cwl_eval alone, and only with rel."""
    try:
        import cwl  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="cwl_eval"):
            parse_measures("RBP(rel=1,p=0.8)")
    else:
        assert parse_measures("RBP(rel=1,p=0.8)")
    with pytest.raises(UserError, match=r"take: RBP\(rel=...,p=...\)") as told:  # what lacks is named, in words a reader can type
        parse_measures("RBP(p=0.8)")
    assert "REQUIRED" not in str(told.value)
    assert "NOT_PROVIDED" not in str(told.value)


# evaluate


def test_by_hand() -> None:
    """Relevant: a (2) at rank 2, b (1) at rank 4 of q1; nothing found for q2. DCG = 2/log2(3) + 1/log2(5), ideal = 2 + 1/log2(3)."""
    qrels = {"q1": {"a": 2, "b": 1, "x": 0}, "q2": {"c": 1}}
    run = run_of({"q1": {"x": 9, "a": 8, "y": 7, "b": 6}, "q2": {"z": 1}})
    evaluation = evaluate(run, qrels, parse_measures("RR@10 RR(rel=2)@1 nDCG@10 AP R@3 P@2 Judged@10 Success@2"))
    values = {name: column.tolist() for name, column in evaluation.values.items()}
    dcg, ideal = 2 / np.log2(3) + 1 / np.log2(5), 2 + 1 / np.log2(3)
    assert values["RR@10"] == [0.5, 0]
    assert values["RR(rel=2)@1"] == [0, 0]
    assert values["nDCG@10"] == pytest.approx([dcg / ideal, 0], abs=1e-12)
    assert values["AP"] == [(1 / 2 + 2 / 4) / 2, 0]
    assert values["R@3"] == [0.5, 0]
    assert values["P@2"] == [0.5, 0]
    assert values["Judged@10"] == [3 / 4, 0]
    assert values["Success@2"] == [1, 0]
    assert evaluation.query_ids == ["q1", "q2"]
    assert evaluation.mean("AP") == 0.25


def test_one_ranking_for_all_providers() -> None:
    """A tied pair, the relevant document with the smaller id: second by trec_eval's rule.

    Plain ir-measures says RR=0.5 (pytrec_eval) and RR@10=1.0 (its MS MARCO provider) in one call: if this ever changes upstream, the first
    half of this test tells.
    """
    qrels, hits = {"q": {"a": 1}}, {"q": {"a": 1.0, "b": 1.0}}
    plain = by_ir_measures("RR RR@10", qrels, hits)
    assert (plain["RR"]["q"], plain["RR@10"]["q"]) == (0.5, 1.0)
    ours = evaluate(run_of(hits), qrels, parse_measures("RR RR@10 Judged@1 Success@1 nDCG@1 Compat P@1"))
    assert (ours.values["RR"][0], ours.values["RR@10"][0]) == (0.5, 0.5)
    assert (ours.values["Judged@1"][0], ours.values["Success@1"][0], ours.values["nDCG@1"][0], ours.values["P@1"][0]) == (0, 0, 0, 0)


def test_a_tie_as_float32_is_a_tie() -> None:
    """1 + 1e-9 is 1 as float32, so a falls behind b."""
    assert evaluate(run_of({"q": {"a": 1 + 1e-9, "b": 1.0}}), {"q": {"a": 1}}, parse_measures("RR@10")).values["RR@10"][0] == 0.5


def test_which_queries_count() -> None:
    """The qrels decide: q2 is missing and scores 0, 'other' is ignored; 'unjudged' has no qrels line and is no query."""
    qrels: Qrels = {"q2": {"a": 1}, "q1": {"a": 1}, "unjudged": {}}
    evaluation = evaluate(run_of({"q1": {"a": 1}, "other": {"a": 1}, "more": {"a": 1}}), qrels, parse_measures("RR@10 AP"))
    assert evaluation.query_ids == ["q2", "q1"]
    assert evaluation.values["RR@10"].tolist() == evaluation.values["AP"].tolist() == [0, 1]
    assert (evaluation.missing_queries, evaluation.ignored_queries, evaluation.excluded) == (1, 2, 0)


def test_a_run_for_other_queries_is_an_error() -> None:
    with pytest.raises(UserError, match=r"'r1'.*'q1'"):
        evaluate(run_of({"r1": {"a": 1}}), {"q1": {"a": 1}}, parse_measures("RR"))


def test_a_query_with_nothing_but_negative_grades() -> None:
    """trec_eval crashes the process, or never ends, where a query has no other; BRIGHT has -100 for passages that must not be found."""
    for grade in (-1, -2, -127):
        assert max(_for_providers({"a": grade, "b": -1}).values()) == 0
    run = run_of({"q1": {"a": 2, "b": 1}, "q2": {"a": 2, "b": 1}, "q3": {"a": 2, "b": 1}})
    qrels = {"q1": {"a": -2, "b": -100}, "q2": {"a": -1, "c": -127}, "q3": {"a": -100, "b": 1}}
    evaluation = evaluate(run, qrels, parse_measures("nDCG@10 nDCG AP RR RR@10 P@2 R@2 Bpref infAP Rprec Judged@2"))
    judged = evaluation.values.pop("Judged@2")
    assert judged.tolist() == [1, 0.5, 1]
    assert all(column[:2].tolist() == [0, 0] for column in evaluation.values.values())
    assert (evaluation.values["RR"][2], evaluation.values["R@2"][2]) == (0.5, 1)


@pytest.mark.parametrize("measure", ["ERR@10", "nDCG(dcg='exp-log2')@10"])
def test_grades_that_gdeval_does_not_know(measure: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Its script died with a line of Perl on the terminal; other measures take the grade."""
    run = run_of({"q": {"a": 1.0}})
    if shutil.which("perl"):
        assert evaluate(run, {"q": {"a": 4}}, parse_measures(measure)).values[measure][0] > 0
    with pytest.raises(UserError, match=r"expected grades up to 4.*found 5 for query 'q', document 'a'; choose nDCG@k"):
        evaluate(run, {"q": {"a": 5}}, parse_measures(f"RR@10 {measure}"))
    assert evaluate(run, {"q": {"a": 127}}, parse_measures("nDCG@10")).values["nDCG@10"].tolist() == [1]
    assert capfd.readouterr().err == ""


def test_exclude_self() -> None:
    """arguana: the query is itself a document and always comes first. At a cutoff the next hit moves up."""
    run = run_of({"q1": {"q1": 9, "a": 8, "b": 7}, "q2": {"q2": 1}, "q3": {"q1": 5, "a": 4}})
    qrels = {query_id: {"a": 1} for query_id in ("q1", "q2", "q3")}
    with_self = evaluate(run, qrels, parse_measures("RR@1 RR@10"))
    without = evaluate(run, qrels, parse_measures("RR@1 RR@10"), exclude_self=True)
    assert with_self.values["RR@10"].tolist() == [0.5, 0, 0.5]
    assert without.values["RR@10"].tolist() == [1, 0, 0.5]
    assert without.values["RR@1"].tolist() == [1, 0, 0]
    assert (with_self.excluded, without.excluded) == (0, 2)


def test_exclude_self_of_the_only_hit_of_the_run() -> None:
    evaluation = evaluate(run_of({"q": {"q": 1}}), {"q": {"a": 1}}, parse_measures("RR Judged@5"), exclude_self=True)
    assert [column.tolist() for column in evaluation.values.values()] == [[0], [0]]


documents = st.sampled_from([f"d{i}" for i in range(15)])
rankings = st.lists(documents, min_size=1, max_size=12, unique=True).map(lambda ids: {d: 20.0 - i for i, d in enumerate(ids)})
untied = st.dictionaries(st.sampled_from(["q1", "q2", "q3", "9"]), rankings, min_size=1)
judgments = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3", "q4"]), st.dictionaries(documents, st.integers(-1, 3), min_size=1), min_size=1
)


@settings(max_examples=80, deadline=None)
@given(untied, judgments, st.sampled_from([SHALLOW, "P(judged_only=True)@2 R@5", "Judged@3 P@2", EVERYDAY, RARE]))
def test_same_values_as_ir_measures_without_ties(run: dict[str, dict[str, float]], qrels: Qrels, text: str) -> None:
    """Also the proof that cutting rankings (at the deepest cutoff, below the last judged hit) changes nothing."""
    if not run.keys() & qrels.keys():
        return
    evaluation = evaluate(run_of(run), qrels, parse_measures(text))
    expected = by_ir_measures(text, qrels, run)
    for name, column in evaluation.values.items():
        assert column.tolist() == pytest.approx([expected[name][query_id] for query_id in evaluation.query_ids], abs=1e-12), name


def test_rankings_are_cut_only_where_it_cannot_matter() -> None:
    """Depths by hand: the last judged hit of q is the second of four; any document judged for another query does not count."""
    run, qrels = run_of({"q": {"x": 4, "a": 3, "b": 2, "y": 1}, "r": {"a": 1}}), {"q": {"a": 1}, "r": {"b": 1}}

    def depths(text: str, spare: int = 0) -> list[int]:
        return measures_module._depths(run, qrels, parse_measures(text), spare=spare).tolist()

    assert depths("AP R@1000") == [2, 1]
    assert depths("RR@1 P@1") == [1, 1]
    assert depths("Judged@3") == [3, 1]
    assert depths("RR@2", spare=1) == [3, 1]
    assert depths("SetP RR@1") == depths("P(judged_only=True)@1") == [4, 1]


@pytest.mark.parametrize(("name", "first", "second"), [("ERR@5", 7 / 16, 1 / 16), ("nDCG(dcg='exp-log2')@5", 1, 1)])
def test_a_provider_that_mangles_query_ids_sees_numbers(name: str, first: float, second: float) -> None:
    """gdeval (Perl) takes whole numbers alone as query ids and strips all before their last dash: a-2, b-2 and 2 would be one query."""
    import shutil

    if not shutil.which("perl"):
        pytest.skip("there is no perl on this machine, and gdeval is a Perl script; `apt-get install perl` brings it")
    qrels = {"a-2": {"x": 3}, "b-2": {"x": 0, "y": 1}, "2": {"z": 1}, "word": {"x": 3}}
    run = run_of({"word": {"x": 1}, "b-2": {"y": 1}, "a-2": {"x": 1}})
    assert evaluate(run, qrels, parse_measures(name)).values[name] == pytest.approx([first, second, 0, first], abs=5e-6)
