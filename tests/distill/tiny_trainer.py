"""Trainers and groups over the tiny corpus, killed and restored where a test wants it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.config.options import Distill
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.groups import Groups, RoundData, generate
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.distill.trainer import Batch, Texts, Trainer, TrainerSetup
from mta4dpr.models.encoder import Encoder, load_encoder
from mta4dpr.models.reranker import load_reranker

from .slow_reference import STANDING
from .tiny_distill import TRAIN, MatrixScorer, knowing_matrix, random_matrix, small_options

STEPS = 10


def fresh(encoder: Encoder) -> Encoder:
    """A copy of an encoder that is never trained itself."""
    one = copy.copy(encoder)
    one.__dict__.pop("transformer", None)  # kept from the network that is copied
    one.network = copy.deepcopy(encoder.network)
    return one


class Training:
    """Makes trainers and groups over the tiny corpus."""

    def __init__(
        self, root: Path, corpus: Corpus, queries: TrainingQueries, student: Encoder, texts_for: Callable[[Encoder, TrainingQueries], Texts]
    ) -> None:
        self.root, self.corpus, self.queries, self._texts_for, self._student = root, corpus, queries, texts_for, student

    def options(self, **changes: Any) -> Distill:
        return small_options(**{"rounds": 1, "steps": STEPS, "checkpoint_every": 4, **changes})

    def trainer(self, name: str, *, strategy: str = "mta4dpr", seed: int = 3, teacher: str = "bi-encoder", **changes: Any) -> Trainer:
        """A trainer with a fresh student, and a fresh teacher of that kind where it is trained, as a new process would make it."""
        student, known = fresh(self._student), STRATEGIES[strategy]
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        network = self._teacher(teacher) if Requirement.TEACHER_TRAINING in known.requires else None
        return Trainer(
            student,
            known,
            TrainerSetup(
                options=self.options(**{**known.overrides, **changes}),
                queries=self.queries,
                texts=self._texts_for(student, self.queries),
                folder=folder,
                seed=seed,
                teacher=(network, self._texts_for(network, self.queries)) if network else None,
                assistants=3,
                standing=STANDING if Requirement.STANDING in known.requires else {},
            ),
        )

    def _teacher(self, kind: str) -> Any:
        """Two layers, so that LEAD draws one of them."""
        sizes = {"layers": 2, "hidden": 16, "heads": 2, "vocabulary": 300, "seed": 1}
        texts = [passage.text for passage in self.corpus]
        if kind == "cross-encoder":
            spec = ModelSpec(kind="cross-encoder", untrained=sizes, query_length=12, pair_length=30)
            reranker = load_reranker("teacher", spec, device="cpu", texts=texts)
            with torch.no_grad():  # fresh from its initialisation it scores all pairs nearly alike
                for parameter in reranker.network.parameters():
                    parameter.mul_(8 if parameter.dim() > 1 else 1)
            return reranker
        return load_encoder("teacher", ModelSpec(untrained=sizes, query_length=12, passage_length=24), device="cpu", texts=texts)

    def groups(self, name: str = "shared", *, wrong: bool = False, previous: bool = False, **changes: Any) -> Groups:
        options = self.options(**changes)
        labels = ("teacher", "a", "b", "c")
        scorers = [MatrixScorer(label, knowing_matrix(n, self.queries, 1.0), self.corpus) for n, label in enumerate(labels)]
        lists = {s.label: np.concatenate([hits.passages for hits in s.rank(self.queries.train, options.depth)]) for s in scorers}
        return generate(
            self.root / f"groups-{name}",
            RoundData(
                number=0,
                size=options.steps * options.batch_queries,
                teacher=scorers[0],
                assistants=scorers[1:],
                rankings=lists,
                wrong=np.full(TRAIN, wrong),
                tau_teacher=0.8,
                previous=MatrixScorer("old", random_matrix(9) / 5, self.corpus) if previous else None,
            ),
            queries=self.queries,
            corpus=self.corpus,
            seed=0,
            options=options,
        )


def run(trainer: Trainer, groups: Groups, last: int = STEPS) -> None:
    trainer.train_round(groups, round_number=0, first_step=0, last_step=last, label="t")


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Of all that is trained: student, teacher, policy, with the policy's memory of its last step."""
    networks = trainer.networks.items()
    return {f"{which}.{name}": tensor.clone() for which, network in networks for name, tensor in network.state_dict().items()}


def student_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights(trainer).items() if name.startswith("student.")}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def without_speed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "examples_per_second"} for line in lines]


def turned(batch: Batch, order: list[int]) -> Batch:
    """The same groups with their passages in another order."""
    arrays = {name: getattr(batch, name)[:, order] for name in ("place", "kept", "relevant", "teacher")}
    return replace(batch, **arrays, assistants={label: log_p[:, order] for label, log_p in batch.assistants.items()})


def killed(training: Training, monkeypatch: pytest.MonkeyPatch, groups: Groups, at: int, **changes: Any) -> Trainer:
    """Ends before step `at`; goes on in a new process's trainer, which it returns."""
    first = training.trainer("killed", **changes)
    real = Trainer._train_step

    def dying(self: Trainer, *arguments: Any) -> dict[str, Any]:
        if self.step == at:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run(first, groups)
    torch.manual_seed(987)  # another process has drawn other numbers
    torch.rand(5)
    second = training.trainer("killed", **changes)
    second.restore()
    assert second.step == at // 4 * 4
    run(second, groups)
    return second
