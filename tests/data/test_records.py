"""Records of a collection."""

from __future__ import annotations

from mta4dpr.data.records import normalised


def test_texts_count_as_the_same_when_only_their_form_differs() -> None:
    """Leakage is looked for in this form: NFKC, lower case, single spaces."""
    assert normalised(" The\u00a0ﬁrst\n  QUERY ") == "the first query"
    assert normalised("a b") != normalised("ab")
