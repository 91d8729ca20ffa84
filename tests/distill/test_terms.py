"""What plots call the terms of a loss."""

from __future__ import annotations

from mta4dpr.distill.terms import STEP_NUMBERS, TERMS, TOTAL, Term


def test_a_heading_is_the_title_with_its_unit() -> None:
    """Without a unit there are no empty brackets."""
    assert Term("KL to the teacher", "nats").heading == "KL to the teacher (nats)"
    assert Term("listwise loss").heading == "listwise loss"


def test_the_total_comes_first_and_no_term_is_called_as_another_number_of_a_step() -> None:
    """A term called `step` would be lost in steps.jsonl; two panels of one heading could not be told apart."""
    assert next(iter(TERMS)) == TOTAL
    assert not set(TERMS) & set(STEP_NUMBERS)
    assert len({term.heading for term in TERMS.values()}) == len(TERMS)
