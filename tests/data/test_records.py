"""Records of a collection."""

from __future__ import annotations

import pytest

from mta4dpr.data.records import WHITE, normalised, why_no_id


def test_texts_count_as_the_same_when_only_their_form_differs() -> None:
    """Leakage is looked for in this form: NFKC, lower case, single spaces."""
    assert normalised(" The\u00a0ﬁrst\n  QUERY ") == "the first query"
    assert normalised("a b") != normalised("ab")


@pytest.mark.parametrize("text", ["d", "d\u00a01", "d\u2028", "d\x1c", "#", '"', "é", "\U0001f600", "\ufeff", "d" * 1000])
def test_what_an_id_may_be(text: str) -> None:
    """A no-break space is part of it, as it is for trec_eval; str.split() would cut there."""
    assert why_no_id(text) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty"), ("d\0", "NUL"), ("\ud800", "valid Unicode"), ("d" * 1001, "1,001 letters"), *((f"d{w}", "white") for w in WHITE)],
)
def test_what_no_id_is(text: str, reason: str) -> None:
    assert reason in why_no_id(text)
