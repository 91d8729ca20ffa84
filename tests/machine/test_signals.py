"""Signals that ask a process to stop, and when they keep their own meaning."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from mta4dpr.machine.signals import ASKED, taken_as_ctrl_c


@pytest.fixture(autouse=True)
def by_default() -> Iterator[None]:
    """Whoever runs the tests may have told these signals to be ignored, as nohup does."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ASKED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ASKED)
def test_it_raises_as_ctrl_c_does_and_leaves_no_handler(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), taken_as_ctrl_c() as came:
        os.kill(os.getpid(), number)
        signal.pause()
    assert came == [number]
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_is_ignored_or_taken_stays_so() -> None:
    """`nohup mta4dpr-bench run ...` ignores SIGHUP; a program that calls our main() may have a handler."""
    heard: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with taken_as_ctrl_c() as came:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert (came, heard) == ([], [signal.SIGTERM])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_another_thread_has_no_handlers() -> None:
    """Python sets them in the main thread alone."""
    told: list[list[int]] = []

    def call() -> None:
        with taken_as_ctrl_c() as came:
            told.append(came)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert told == [[]]
