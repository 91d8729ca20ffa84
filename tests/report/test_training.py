"""What trainings left in a run's folder."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mta4dpr.errors import UserError
from mta4dpr.report.training import Training, load_document, load_efficiency, load_trainings


def test_a_line_cut_short_by_a_kill_is_left_out(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = trained / "training" / "mta4dpr" / "steps.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"round": 1, "st')
    with caplog.at_level(logging.WARNING):
        assert len(load_trainings(trained)[0].steps) == 8
    assert "last line is incomplete" in caplog.text
    path.write_text("{broken\n" + whole)
    with pytest.raises(UserError, match=r"line 1 of .*steps.jsonl"):
        load_trainings(trained)


@pytest.mark.parametrize("steps", [[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]])
def test_steps_may_count_on_or_start_again(steps: list[int]) -> None:
    lines = [{"round": int(n >= 2), "step": step} for n, step in enumerate(steps)]
    training = Training("s", lines, [])
    assert training.positions() == [0, 1, 2, 3, 4]
    assert training.boundaries() == [(0, 0), (1, 2)]


def test_a_run_without_students_has_no_trainings(run: Path) -> None:
    assert load_trainings(run) == []
    assert load_efficiency(run) == {}


def test_a_training_that_logged_nothing_is_left_out(trained: Path) -> None:
    """As a run that was stopped before its first step leaves it."""
    (trained / "training" / "kd").mkdir()
    (trained / "training" / "kd" / "steps.jsonl").touch()
    assert [training.strategy for training in load_trainings(trained)] == ["mta4dpr"]


@pytest.mark.parametrize(
    "content", ['{"systems": 1}', '{"systems": {"a": 1}}', '{"sessions": "x"}', '{"stages": [1]}', '{"peak_memory_bytes": "x"}', "[]", ""]
)
def test_costs_of_other_types_are_refused(tmp_path: Path, content: str) -> None:
    """A report would end in a traceback of its own over them."""
    (tmp_path / "efficiency.json").write_text(content)
    with pytest.raises(UserError, match="efficiency.json is not what was written there .*; delete it: the next run takes the times again"):
        load_efficiency(tmp_path)


def test_a_document_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "efficiency.json"
    path.write_text('{"systems": ')
    with pytest.raises(UserError, match=r"efficiency.json is not what was written there .*; delete it"):
        load_document(path)
    path.write_text("[1]")
    with pytest.raises(UserError, match="a JSON object was expected"):
        load_document(path)
