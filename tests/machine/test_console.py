"""The console that everything prints with; what it makes of whole tables and bars is in tests/test_terminal.py."""

from __future__ import annotations

import pytest
from rich.text import Text

from mta4dpr.machine.console import new_console


@pytest.mark.parametrize("stderr", [False, True])
def test_a_text_comes_out_as_it_is_written(capsys: pytest.CaptureFixture[str], stderr: bool) -> None:
    new_console(stderr=stderr).print(r"[bold]a[/bold] :x: :1: [/] \[ 42")
    out, err = capsys.readouterr()
    assert (err if stderr else out) == r"[bold]a[/bold] :x: :1: [/] \[ 42" + "\n"
    assert (out if stderr else err) == ""


def test_bold_is_given_as_an_object(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    new_console().print(Text("[red]a", style="bold"))
    assert capsys.readouterr().out == "\x1b[1m[red]a\x1b[0m\n"


def test_a_pipe_is_as_wide_as_columns_says_or_120(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich's own 80 would fold a leaderboard that is written to a file."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert new_console().width == 120
    monkeypatch.setenv("COLUMNS", "90")
    assert new_console().width == 90
