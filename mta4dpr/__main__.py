"""The entry point: one command, whose exceptions become one sentence and an exit status."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys

import typer
from typer.exceptions import TyperException

from mta4dpr import cli
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.environment import is_main_process
from mta4dpr.machine.signals import OF_SIGNALS, taken_as_ctrl_c
from mta4dpr.terminal import print_error

# errors without a type of their own: of torch's allocator on a CPU, the loader of libraries, FAISS, the system
OUT_OF_MEMORY = ("can't allocate memory", "failed to map segment", "std::bad_alloc", os.strerror(errno.ENOMEM))
INTERRUPTED = OF_SIGNALS + signal.SIGINT  # also what Typer makes of KeyboardInterrupt
NOISY = ("ir_datasets", "httpx", "httpx2", "huggingface_hub", "sentence_transformers", "transformers", "faiss", "matplotlib", "filelock")


def main() -> None:
    """Exit status 0, 1 (a bug), 2 (the user's error), 3 (the environment lacks something), 130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP)."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    with taken_as_ctrl_c() as came:
        status = _status(arguments, came, debug=len(arguments) < len(sys.argv) - 1)
    try:
        sys.stdout.flush()
    except OSError as error:  # into a full disk, or a pipe that nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again when it ends
        status = status or _environment_or_bug(error)
    sys.exit(status)


def _status(arguments: list[str], came: list[int], *, debug: bool) -> int:
    """The exit status of a command; `came` gets the signals that ask it to stop."""
    for stream in (sys.stdout, sys.stderr):  # an id or a path may have letters that the terminal's encoding lacks
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    try:
        logging.basicConfig(level=logging.INFO if is_main_process() else logging.ERROR, format="%(message)s", stream=sys.stderr)
        for noisy in NOISY:
            logging.getLogger(noisy).setLevel(logging.WARNING)
        status = cli.app(args=arguments, prog_name="mta4dpr-bench", standalone_mode=False) or 0
        return _interrupted(came) if status == INTERRUPTED else status
    except typer.Exit as leaving:
        return leaving.exit_code
    except TyperException as error:  # an unknown option, a missing argument
        print_error(f"error: {error.format_message()}")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(came)
    except Exception as error:
        if debug:
            raise
        if came:  # what others wait for breaks when one of them stops
            return _interrupted(came)
        if isinstance(error, UserError):
            print_error(f"error: {error}")
            return error.exit_status
        return _environment_or_bug(error)


def _interrupted(came: list[int]) -> int:
    print_error("interrupted; the same command continues")
    return OF_SIGNALS + came[0] if came else INTERRUPTED


def _environment_or_bug(error: Exception) -> int:
    from mta4dpr.machine.system_errors import explained, system_error_of

    if isinstance(error, BrokenPipeError):
        return 1
    told = any(words in str(error) for words in OUT_OF_MEMORY)
    if told or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        print_error(
            "error: the memory is full; set dense.token_budget or distill.batch_queries to less, raise the limit (ulimit -v) where there "
            "is one, or use a larger machine"
        )
        return 3
    behind = error if isinstance(error, OSError) else system_error_of(error)
    found = explained(behind) if behind else None
    if isinstance(found, EnvironmentLack) or (isinstance(found, UserError) and not _place_outside(error)):
        print_error(f"error: {found}")
        return found.exit_status
    return _bug(error)


def _place_outside(error: Exception) -> str:
    from mta4dpr.config.plugins import place_outside

    return place_outside(error)


def _bug(error: Exception) -> int:
    place = _place_outside(error)
    if place:
        print_error(f"error: {place}: {type(error).__name__}: {error}; this is code of yours, --debug prints how it was called")
        return 2
    print_error(f"error: this is a bug of ours ({type(error).__name__}: {error}); please report it with what --debug prints")
    return 1


if __name__ == "__main__":
    main()
