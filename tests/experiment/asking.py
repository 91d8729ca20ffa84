"""A benchmark like tiny with other settings, and what comes of asking for its systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta4dpr.config.benchmark import Recipe
from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import Experiment, open_experiment
from mta4dpr.experiment.request import Request

CE = {"kind": "cross-encoder", "untrained": {"layers": 1, "hidden": 32, "heads": 2, "seed": 4}, "pair_length": 48}


def opened(path: Path | str, *systems: str, settings: tuple[str, ...] = (), output: Path | None = None) -> Experiment:
    return open_experiment(Request(str(path), systems=systems, settings=settings, output=output))


def recipe(path: Path | str, system: str, *settings: str) -> Recipe:
    found = opened(path, system, settings=settings).systems[0].recipe
    assert found is not None
    return found


def refusal(path: Path | str, *systems: str, settings: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError) as caught:
        opened(path, *systems, settings=settings)
    assert caught.value.exit_status == 2
    return str(caught.value)
