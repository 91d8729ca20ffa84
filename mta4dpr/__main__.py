"""The entry point: one command, whose exceptions become one sentence and an exit status."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import typer
from typer.exceptions import TyperException

from mta4dpr import cli
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.machine.environment import is_main_process
from mta4dpr.terminal import print_error

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
    except (OSError, MemoryError) as error:
        if debug:
            raise
        status = _environment_or_bug(error)
    except Exception as error:
        if debug:
            raise
        status = _bug(error)
    sys.stdout.flush()
    sys.exit(status or 0)


def _environment_or_bug(error: OSError | MemoryError) -> int:
    from mta4dpr.machine.files import lack_of_disk

    if isinstance(error, MemoryError):
        print_error("error: the memory is full; set dense.token_budget or distill.batch_queries to less, or use a larger machine")
        return 3
    lack = lack_of_disk(error, Path(error.filename or "."))
    if isinstance(lack, EnvironmentLack):
        print_error(f"error: {lack}")
        return 3
    return _bug(error)


def _bug(error: Exception) -> int:
    from mta4dpr.config.plugins import place_outside

    place = place_outside(error)
    if place:
        print_error(f"error: {place}: {type(error).__name__}: {error}; this is code of yours, --debug prints how it was called")
        return 2
    print_error(f"error: this is a bug of ours ({type(error).__name__}: {error}); please report it with what --debug prints")
    return 1


if __name__ == "__main__":
    main()
