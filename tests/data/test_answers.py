"""DPR's rule of which passage contains an answer, by hand and against Pyserini's copy of DPR's code."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyserini.eval.evaluate_dpr_retrieval import SimpleTokenizer, has_answers

from mta4dpr.data.answers import Answers

NQ = Path(__file__).parents[3] / "shared" / "data" / "nq"


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        ("May 18 , 2018", "It came out on May 18, 2018.", True),
        ("Röntgen", "Wilhelm Conrad RO\u0308NTGEN won", True),  # NFC and NFD, capitals
        ("Cyrus", "the Cyruses of Persia", False),  # tokens, not letters
        ("New York", "a new, York", False),  # the comma is a token between
        ("O'Connor", "o'connor", True),
        ("1,000", "of 21,000 men", False),
        ("£5", "it cost £5.", True),
        ("a b", "a\u00a0b", True),  # a no-break space is no token
        ("", "any text", True),  # as DPR has it
    ],
)
def test_an_answer_is_there_when_its_tokens_follow_one_another(answer: str, text: str, found: bool) -> None:
    assert Answers([answer]).are_in(text) is found
    assert has_answers(text, [answer], SimpleTokenizer()) is found


def test_one_of_several_answers_is_enough() -> None:
    assert Answers(["Dai Yongge", "Xiu Li Dai"]).are_in("owned by Xiu Li Dai since")
    assert not Answers(["Dai Yongge", "Xiu Li Dai"]).are_in("owned by Xiu Dai Li since")


# few letters, so that answers are found by chance; capitals, accents in both forms, final sigma, a dotted capital I, control characters
TEXTS = st.text(alphabet="abAB1 ,.'\"é\u0301ΣσİıẞÅ²½\u00a0\u200d\n\t한字", max_size=12)


@settings(deadline=None)
@given(text=TEXTS, answers=st.lists(TEXTS, min_size=1, max_size=3))
def test_any_text_is_judged_as_pyserini_judges_it(text: str, answers: list[str]) -> None:
    assert Answers(answers).are_in(text) == has_answers(text, answers, SimpleTokenizer())


@pytest.mark.needs_collection
def test_real_passages_and_answers_are_judged_as_pyserini_judges_them() -> None:
    """2,655 questions with the passage that holds their answer, and with one that was drawn."""
    if not NQ.exists():
        pytest.skip(
            f"{NQ} is not here: gold passages of NQ, which are Wikipedia's text; put psgs_gold.tsv.gz (in DPR's passage format) and "
            "gold.jsonl (question, answers, passage) there. ir_datasets has such pairs in dpr-w100 alone, 5 GB to download"
        )
    with gzip.open(NQ / "psgs_gold.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        texts = {passage: text for passage, text, _ in csv.reader(file, delimiter="\t")}
    gold = [json.loads(line) for line in (NQ / "gold.jsonl").read_text(encoding="utf-8").splitlines()]
    drawn, tokenizer, ids = random.Random(0), SimpleTokenizer(), list(texts)
    for passage_of in (lambda line: line["passage"], lambda line: drawn.choice(ids)):
        pairs = [(texts[passage_of(line)], line["answers"]) for line in gold]
        ours = [Answers(answers).are_in(text) for text, answers in pairs]
        assert ours == [has_answers(text, answers, tokenizer) for text, answers in pairs]
        assert sum(ours) == len(gold) or 0 < sum(ours) < 100
