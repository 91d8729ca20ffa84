"""The records that every source of texts yields, one at a time: passages and judgements. What an id may be. Knows no source."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

WHITE = " \t\n\r\v\f"
"""What separates columns in TREC files: C's isspace(). A no-break space does not."""
UNFIT = re.compile(rf"[{WHITE}\0\ud800-\udfff]")  # at the end: lone surrogates
MOST_LETTERS = 1000
"""Of an id: a store looks ids up in an array that is as wide as the longest."""
LEAST_GRADE, HIGHEST_GRADE = -127, 127
"""trec_eval's bounds of a relevance. It counts the passages of each grade in an array, so a high one costs memory and time."""


class Passage(NamedTuple):
    """A passage of a collection. `title` is empty where the collection has no titles; both are plain text."""

    id: str  # one that `why_no_id` has nothing to say about
    title: str
    text: str


class Qrel(NamedTuple):
    """One judgement, as a line of a qrels file has it. `relevance` 0 is not relevant; higher grades are more relevant."""

    query_id: str
    passage_id: str
    relevance: int


def why_no_id(text: str) -> str:
    """Why that text cannot be an id, a column of a TREC file; '' when it can."""
    if not text:
        return "it is empty"
    if len(text) > MOST_LETTERS:
        return f"it has {len(text):,} letters, and {MOST_LETTERS:,} are the most"
    unfit = UNFIT.search(text)
    if not unfit:
        return ""
    if unfit[0] in WHITE:
        return "it has white space, which separates the columns of TREC files"
    return "it has a NUL, which ends it for trec_eval" if unfit[0] == "\0" else "it is no valid Unicode, so it cannot be written as UTF-8"


def normalised(text: str) -> str:
    """The form in which two queries count as the same: NFKC, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())
