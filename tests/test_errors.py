"""The exceptions that a user may see, and the nearest valid name in their words."""

from __future__ import annotations

from enum import StrEnum

import pytest

from mta4dpr.errors import EnvironmentLack, UserError, nearest


def test_exit_statuses_are_those_of_the_command_line() -> None:
    """A script tells a mistake (2) from a machine that lacks something (3); who catches the one gets the other too."""
    assert (UserError.exit_status, EnvironmentLack.exit_status) == (2, 3)
    assert issubclass(EnvironmentLack, UserError)


@pytest.mark.parametrize(
    ("name", "words"), [("serch", " (did you mean 'search'?)"), ("SEARCH", ""), ("zzz", ""), ("evaluat", " (did you mean 'evaluate'?)")]
)
def test_the_nearest_name_is_offered_where_one_is_near(name: str, words: str) -> None:
    assert nearest(name, ["search", "evaluate", "index"]) == words
    assert nearest(name, []) == ""


def test_a_name_out_of_an_enum_is_shown_as_it_is_typed() -> None:
    class Kind(StrEnum):
        SEARCH = "search"

    assert nearest("serch", [Kind.SEARCH]) == " (did you mean 'search'?)"
