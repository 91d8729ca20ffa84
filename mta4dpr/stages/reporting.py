"""Tables, plots and page out of what the other stages left, and the texts of the queries that differ most."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mta4dpr.evaluation.efficiency import peak_memory_bytes
from mta4dpr.experiment import suite
from mta4dpr.experiment.efficiency import read_efficiency, write_efficiency
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.ledger import StageName
from mta4dpr.machine.files import sha256_of_file
from mta4dpr.machine.work import Piece, StageKind
from mta4dpr.planning.sizes import Sizes
from mta4dpr.stages.evaluation import run_files
from mta4dpr.stages.stage import Stage


def reporting(experiment: Experiment, *, needs: tuple[StageName, ...]) -> Stage:
    """The stage."""
    return Stage(StageName(StageKind.REPORT), partial(_inputs, experiment), partial(_report, experiment), needs, pieces=_pieces)


def _inputs(experiment: Experiment) -> Any:
    return [sha256_of_file(experiment.folder.leaderboard), "with texts.json"]


def _report(experiment: Experiment, outputs: list[Path]) -> None:
    from mta4dpr.report import write_report
    from mta4dpr.report.texts import write_texts

    folder = experiment.folder
    document = read_efficiency(folder)
    document.update(
        {
            "stages": experiment.ledger.shares(),
            "peak_memory_bytes": max(document.get("peak_memory_bytes", 0), peak_memory_bytes()),
            "threads": experiment.threads,
            "device": experiment.place.device_in_use or document.get("device"),
        }
    )
    write_efficiency(folder, document)
    eval_sets = experiment.manifest.document["eval_sets"]
    query_sets = {
        name: suite.collections(name, about) or experiment.limited(experiment.query_set(name)) for name, about in eval_sets.items()
    }
    runs = {key: path for key, (path, _) in run_files(experiment).items()}
    outputs.append(write_texts(folder.path, experiment.corpus, query_sets, runs))
    outputs += [*write_report(folder.path), folder.efficiency]


def _pieces(_: Sizes) -> Iterator[Piece]:
    yield Piece("evaluate and report", thing=("tables and page",))
