"""Progress where there is no terminal: plain lines, now and then, with rate and time left."""

from __future__ import annotations

import logging

import pytest

from mta4dpr.machine import progress


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (8.4, "8 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (2 * 86400, "2 d 0 h"),
        (12 * 86400 + 3 * 3600, "12 d 3 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_comes_after_a_while_and_then_seldom(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """A log of a day must stay readable."""
    caplog.set_level(logging.INFO)
    with progress.bar(400, "encode", "shards") as shown:
        for clock[0] in (4.0, 10.0, 20.0, 39.0, 40.0):
            shown.advance(20)
    assert caplog.messages == [
        "encode: 40 of 400 shards, 4.0 a second, about 1 min 30 s left",
        "encode: 100 of 400 shards, 2.5 a second, about 2 min 0 s left",
    ]


def test_what_has_no_end_has_no_time_left(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with progress.bar(None, "read", "passages") as shown:
        clock[0] = 10.0
        shown.advance(5000)
    assert caplog.messages == ["read: 5,000 passages, 500.0 a second"]


def test_track_yields_the_items_and_knows_how_many_there_are(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """Of a generator it does not know, unless it is told."""
    caplog.set_level(logging.INFO)
    for given, total, of in ((["a", "b"], None, " of 2"), (iter("ab"), None, ""), (iter("ab"), 7, " of 7")):
        clock[0], seen = 0.0, []
        for item in progress.track(given, "do", "things", total):
            seen.append(item)
            clock[0] += 10.0
        assert seen == ["a", "b"]
        assert caplog.messages[0].startswith(f"do: 1{of} things, 0.1 a second")
        caplog.clear()
