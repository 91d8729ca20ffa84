"""`train`: students only, into the folder of `run`, which goes on from them."""

from __future__ import annotations

from mta4dpr.commands.documents import Student, Trained
from mta4dpr.distill.training_folder import finished_rounds
from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.ledger import StageName
from mta4dpr.experiment.request import Request
from mta4dpr.machine import environment
from mta4dpr.machine.work import StageKind
from mta4dpr.stages.pipeline import complete_trainings


def train(request: Request) -> Trained:
    """Trains what is not trained yet. No students in a process beside the main one."""
    experiment = open_experiment(request)
    untrained = [system.label for system in experiment.systems if not system.recipe]
    if request.systems and untrained:
        raise UserError(f"{', '.join(untrained)} cannot be trained; `mta4dpr-bench list strategies` names what can")
    if not experiment.students:
        raise UserError(f"{experiment.bench.name} has no student to train; name one with --strategy")
    complete_trainings(experiment)
    if not environment.is_main_process():
        return {"students": []}
    rows: list[Student] = []
    for system, recipe in experiment.students:
        last = (finished_rounds(experiment.folder.training(system.label)) or [{}])[-1]  # training/ may be deleted once it is done
        rows.append(
            {
                "system": system.label,
                "strategy": recipe.strategy,
                "model": str(experiment.folder.model(system.label)),
                "steps": recipe.distill.steps,
                "rounds": recipe.distill.rounds,
                "measure": recipe.distill.compare_measure,
                "d_eval": last.get("student"),
                "seconds": experiment.ledger.seconds(StageName(StageKind.TRAIN, system.label)),
            }
        )
    return {"students": rows}
