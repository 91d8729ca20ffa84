"""Which settings of two runs differ, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta4dpr.errors import UserError
from mta4dpr.experiment.settings import refuse_other_settings


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    """A folder holds one configuration; the message names what differs, dotted, and nothing that is equal."""
    known = {"seed": 42, "distill": {"steps": 300, "lr": 3e-5}, "limit": None}
    now = {"seed": 42, "distill": {"steps": 200, "lr": 3e-5}, "limit": 5, "device": "cpu"}
    with pytest.raises(UserError) as caught:
        refuse_other_settings(tmp_path, now, known)
    text = str(caught.value)
    assert "distill.steps: 300 there, 200 now" in text
    assert "limit: null there, 5 now" in text
    assert 'device: not set there, "cpu" now' in text
    assert "seed" not in text
    assert "distill.lr" not in text
    refuse_other_settings(tmp_path, known, {"limit": None, "distill": {"lr": 3e-5, "steps": 300}, "seed": 42})
