"""`run`: everything from data to leaderboard; the same request again goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.stages.pipeline import complete


def run(request: Request) -> Path:
    """Does what is left of the request. Returns the folder, whose leaderboard.json is the answer."""
    experiment = open_experiment(request)
    complete(experiment)
    return experiment.folder.path
