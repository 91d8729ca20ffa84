"""The entry point: one command, whose exceptions become one sentence and an exit status."""

from __future__ import annotations

import logging
import os
import sys

import typer
from typer.exceptions import TyperException

from mta4dpr import cli
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.environment import is_main_process
from mta4dpr.terminal import print_error

OUT_OF_MEMORY = "can't allocate memory"  # torch's allocator on a CPU, whose error has no type of its own
NOISY = ("ir_datasets", "httpx", "httpx2", "huggingface_hub", "sentence_transformers", "transformers", "faiss", "matplotlib", "filelock")


def main() -> None:
    """Exit status 0, 1 (a bug), 2 (the user's error), 3 (the environment lacks something) or 130 (interrupted)."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    logging.basicConfig(level=logging.INFO if is_main_process() else logging.ERROR, format="%(message)s", stream=sys.stderr)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        status = cli.app(args=arguments, prog_name="mta4dpr-bench", standalone_mode=False)
    except typer.Exit as leaving:
        status = leaving.exit_code
    except TyperException as error:  # an unknown option, a missing argument
        print_error(f"error: {error.format_message()}")
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        print_error("interrupted; the same command continues")
        status = 130
    except UserError as error:
        if debug:
            raise
        print_error(f"error: {error}")
        status = error.exit_status
    except Exception as error:
        if debug:
            raise
        status = _environment_or_bug(error)
    try:
        sys.stdout.flush()
    except OSError as error:  # into a full disk, or a pipe that nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again when it ends
        status = status or _environment_or_bug(error)
    sys.exit(status or 0)


def _environment_or_bug(error: Exception) -> int:
    from mta4dpr.machine.system_errors import explained, system_error_of

    if isinstance(error, BrokenPipeError):
        return 1
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or OUT_OF_MEMORY in str(error):
        print_error("error: the memory is full; set dense.token_budget or distill.batch_queries to less, or use a larger machine")
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
