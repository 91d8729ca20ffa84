"""How large texts are, and how much of a passage is read."""

from __future__ import annotations

from mta4dpr.data.sizes import TOKEN_BYTES, CorpusSize


def test_an_average_passage_has_its_share_of_the_bytes() -> None:
    assert CorpusSize(10, 4500).tokens == 4500 / TOKEN_BYTES / 10 == 100


def test_a_passage_is_cut_to_the_length_and_has_two_special_tokens() -> None:
    """Without a length, the most that BERT reads."""
    size = CorpusSize(10, 4500)
    assert size.cut(144) == 102
    assert size.cut(64) == 64
    assert CorpusSize(1, 90_000).cut(None) == 512


def test_texts_without_a_count_give_no_division_by_zero() -> None:
    assert CorpusSize(0, 0).cut(128) == 2
