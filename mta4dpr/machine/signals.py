"""Being asked to stop: SIGTERM (of a scheduler, a container, torchrun) and SIGHUP (a terminal that closed) are taken as Ctrl-C is.

By default they end a process where it is: locks stay, and files written aside lie about. Knows nothing of what is being done.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ASKED = (signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGTERM,)
OF_SIGNALS = 128
"""A shell's exit status of a process that a signal has ended is this and the signal's number: 130 after Ctrl-C, 143 after SIGTERM."""


@contextmanager
def taken_as_ctrl_c() -> Iterator[list[int]]:
    """Inside of it these signals raise KeyboardInterrupt in the main thread; the list has those that came, in order.

    One that is ignored stays so: `nohup` ignores SIGHUP. Whoever calls us from another thread, or has a handler, keeps theirs.
    """
    came: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    ours = [number for number in ASKED if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
