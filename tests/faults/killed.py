"""Runs mta4dpr and ends it by SIGKILL inside a function: python killed.py MODULE:FUNCTION[@TEXT] SECONDS ARGUMENT...

With TEXT, only calls count that have it in a keyword argument. The signal comes so many seconds after a call of the function began. A
call that returns before that is let go, and the next one is waited for; so it always falls into the function. With SECONDS `time`,
nothing is killed, and what each call of the functions (several, with ; between them) took is written to a file named by KILLED_TIMES.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def wrap(place: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts another function in the place of one; of a method, CLASS.METHOD."""
    module, _, name = place.partition("@")[0].partition(":")
    owner: Any = importlib.import_module(module)
    *holders, last = name.split(".")
    for holder in holders:
        owner = getattr(owner, holder)
    setattr(owner, last, around(getattr(owner, last)))


def killing(seconds: float, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            if text in str(named.values()):
                timer.start()
            try:
                return function(*arguments, **named)
            finally:
                timer.cancel()

        return called

    return around


def timing(calls: list[tuple[str, float]], place: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                if text in str(named.values()):
                    calls.append((place, time.perf_counter() - began))

        return called

    return around


def run(places: str, seconds: str, *arguments: str) -> None:
    from mta4dpr.__main__ import main

    calls: list[tuple[str, float]] = []
    for place in places.split(";"):
        text = place.partition("@")[2]
        wrap(place, timing(calls, place, text) if seconds == "time" else killing(float(seconds), text))
    sys.argv = ["mta4dpr-bench", *arguments]
    try:
        main()
    finally:
        if seconds == "time":
            with open(os.environ["KILLED_TIMES"], "w", encoding="utf-8") as file:
                file.writelines(f"{place}\t{value}\n" for place, value in calls)


if __name__ == "__main__":
    run(*sys.argv[1:])
