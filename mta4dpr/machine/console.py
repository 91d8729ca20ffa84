"""The one Rich console that everything prints with. It shows a text as it is written: `[bold]` is no style and `:x:` no picture.

Whoever wants bold or a colour gives a `rich.text.Text` with a style. Knows nothing of what is printed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def new_console(*, stderr: bool = False) -> Console:
    """Standard output, or stderr; as wide as the terminal, 120 columns where there is none and COLUMNS does not say."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 120
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)
