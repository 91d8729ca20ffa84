"""What all strategies of a run share: corpus, training queries, teacher, assistants, options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr.config.options import Distill
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.trainer import Texts
from mta4dpr.engines.scorer import Scorer


@dataclass
class Bench:
    """`teacher` and `assistants` are labels; scorers and networks are opened when they are wanted."""

    corpus: Corpus
    queries: TrainingQueries
    teacher: str
    assistants: Sequence[str]
    scorer: Callable[[str], Scorer]  # of a label, kept
    network: Callable[[str], Any]  # of a label: a fresh encoder or reranker, to be trained
    trainable: Sequence[str]  # assistants that are bi-encoders
    freeze: Callable[[str, Path, Path], Scorer]  # (label, model folder, where its vectors go) -> the student as it is there
    texts: Callable[[Any], Texts]  # of a network's tokenizer
    mining: Path  # where kept rankings of teacher and assistants lie
    options: Distill
    seed: int
    exclude_self: bool = False  # Compare drops the passage that has the query's own id
    accelerator: Any = None
    tensorboard: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process scores and compares; the others encode, mine, score pairs and train along."""
        return self.accelerator is None or bool(self.accelerator.is_main_process)
