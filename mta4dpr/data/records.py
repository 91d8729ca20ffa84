"""The records that every source of texts yields, one at a time: passages and judgements. Knows no source."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple


class Passage(NamedTuple):
    """A passage of a collection. `title` is empty where the collection has no titles; both are plain text."""

    id: str  # non-empty and without white space: TREC run files need that, and corpus.py checks it
    title: str
    text: str


class Qrel(NamedTuple):
    """One judgement, as a line of a qrels file has it. `relevance` 0 is not relevant; higher grades are more relevant."""

    query_id: str
    passage_id: str
    relevance: int


def normalised(text: str) -> str:
    """The form in which two queries count as the same: NFKC, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())
