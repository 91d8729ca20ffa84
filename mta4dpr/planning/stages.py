"""The stages of a run in its order, and whether the disk has room for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mta4dpr.benchmark import ModelSpec
from mta4dpr.errors import EnvironmentLack
from mta4dpr.opened import Run
from mta4dpr.places import disk_lack
from mta4dpr.planning.data import DataStages
from mta4dpr.planning.needs import Needs
from mta4dpr.planning.stage import Stage
from mta4dpr.planning.training import TrainingStages
from mta4dpr.planning.vectors import VectorStages


class Stages:
    """The stages of an opened run, in its order."""

    def __init__(self, opened: Run) -> None:
        self.opened, self.needs = opened, Needs(opened)
        self.data, self.vectors = DataStages(self.needs), VectorStages(self.needs)
        self.training = TrainingStages(self.needs, self.vectors)

    def __iter__(self) -> Iterator[Stage]:
        opened, recipes = self.opened, self.needs.recipes
        yield from self.data.fetching()
        yield self.data.corpus()
        needed = {label for recipe in recipes for label in (recipe.teacher, *recipe.assistants)}
        if self.needs.asks_bm25:
            yield self.data.bm25()
        encoders = {s.label: s.spec for s in opened.systems if s.spec and not s.recipe}
        others = {label: opened.bench.models[label] for label in sorted(needed - encoders.keys() - {"bm25"})}
        rankers = {label: spec for label, spec in {**encoders, **others}.items() if spec.kind == "bi-encoder" and not spec.scores}
        students = {r.student: opened.bench.models[r.student] for r in recipes}
        yield from self.data.tokens({**rankers, **{label: s for label, s in {**others, **students}.items() if not s.scores}})
        for label, spec in {**encoders, **others}.items():
            if spec.scores:
                yield _table(label, spec)
            elif spec.kind == "bi-encoder":
                yield self.vectors.encoding(label, spec)
        for system in opened.systems:
            if system.spec and not system.recipe:
                yield from self.vectors.index_of(system)
        if recipes:
            for label in sorted(needed & {"bm25", *rankers}):
                yield self.vectors.mining(label)
        for label, spec in others.items():
            if spec.kind == "cross-encoder":
                yield self.training.scoring(label, spec)
        for system in opened.systems:
            if system.recipe:
                yield self.training.training(system, system.recipe)
                yield from self.vectors.index_of(system)
        yield from self.vectors.searching()
        for name, suite in opened.bench.suites.items():
            yield Stage(f"collections of {name}", "to do", f"up to {len(suite.sets)}, each with runs and indexes of its own: not counted")


def _table(label: str, spec: ModelSpec) -> Stage:
    found = Path(spec.scores).is_file()
    return Stage(f"scores of {label}", "cached" if found else "lacking", spec.scores if found else f"there is no file {spec.scores}")


def check_disk(opened: Run) -> None:
    """EnvironmentLack when the disk is too small for what is left to do, before any of it is done."""
    stages = Stages(opened)
    lacking = disk_lack(disk_of(stages), stages.needs.places())
    if lacking:
        raise EnvironmentLack(
            "; ".join(lacking) + f". Free some space, or set what is in brackets to a larger disk; `mta4dpr-bench plan "
            f"{opened.request.benchmark}` says what each stage needs"
        )


def disk_of(stages: Iterable[Stage]) -> dict[str, float]:
    """Bytes that the stages still need, by place."""
    total: dict[str, float] = {}
    for stage in stages:
        for place, count in stage.disk.items():
            total[place] = total.get(place, 0) + count
    return total
