"""Judgements of questions that come with answers: a retrieved passage is relevant when its text has one of them (DPR's rule).

Judgements depend on what a run retrieved, so every run gets its own, down to the deepest cutoff of its measures; ir-measures computes
from them as from any others. Which passages a run missed is not known, so recall and nDCG have no meaning here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mta4dpr.data.answers import Answers
from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import UserError
from mta4dpr.evaluation.measures import Qrels, parse_measures
from mta4dpr.evaluation.trecrun import Run
from mta4dpr.machine.progress import track

if TYPE_CHECKING:
    from ir_measures import Measure

MEASURES = ("Success", "RR", "P")
"""The measures that depend on the retrieved passages alone, not on how many relevant ones the corpus holds."""
USUAL = ["Success@5", "Success@20", "Success@100"]
"""What papers report on Natural Questions, there called top-k accuracy."""
NO_PASSAGE = "no passage has an answer"
"""The document of a question's dummy line; it has white space, so no passage has it as its id."""


def judge(run: Run, answers: Mapping[str, Sequence[str]], corpus: Corpus, measures: Sequence[Measure]) -> tuple[Qrels, int]:
    """Qrels of all questions, and how many of the hits looked at are no passages of the corpus.

    UserError when none is: the run is of another collection.
    """
    cutoffs = [measure.params.get("cutoff") for measure in measures]
    depth = None if None in cutoffs else max(map(int, cutoffs))
    qrels: Qrels = {}
    seen = unknown = 0
    for question, wanted in track(answers.items(), "look for answers", "questions", total=len(answers)):
        hits = run.ranking(question)[0][:depth]
        numbers = corpus.numbers(hits)
        seen, unknown = seen + len(hits), unknown + int((numbers < 0).sum())
        of_question = Answers(wanted)
        found = [hit for hit, n in zip(hits, numbers.tolist(), strict=True) if n >= 0 and of_question.are_in(corpus.passage(n).text)]
        qrels[question] = dict.fromkeys(found, 1) or {NO_PASSAGE: 0}
    if seen and unknown == seen:
        example = next(hits[0] for hits, _ in (run.ranking(question) for question in answers) if hits)
        raise UserError(
            f"none of the run's passages (such as {example!r}) is in the corpus, whose ids are like {corpus.id(0)!r}; answers are looked "
            "for in its texts, so give a run over that collection"
        )
    return qrels, unknown


def check_measures(measures: Sequence[str], query_set: str) -> list[str]:
    """A sentence for each measure that needs judgements which questions with answers do not have."""
    return [
        f"{query_set}: {measure} needs to know of every relevant passage, and this set is judged by the answers in the passages that "
        f"were retrieved; choose from {', '.join(MEASURES)}, such as {' '.join(USUAL)}"
        for measure in measures
        if any(parsed.NAME not in MEASURES or set(parsed.params) - {"cutoff"} for parsed in parse_measures(measure))
    ]
