"""What all strategies of a run share: corpus, training queries, teacher, assistants, options. Has no logic."""

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
    """The bench at which students are made. Models are named by labels; scorers and networks are opened when they are wanted."""

    corpus: Corpus
    queries: TrainingQueries
    teacher: str  # label
    assistants: Sequence[str]  # labels
    scorer: Callable[[str], Scorer]  # label -> teacher or assistant; the same one for the same label
    network: Callable[[str], Any]  # label -> a fresh encoder or reranker, to be trained
    trainable: Sequence[str]  # labels of the assistants that are bi-encoders
    freeze: Callable[[str, Path, Path], Scorer]  # (label, model folder, folder for its vectors) -> a scorer with those weights
    texts: Callable[[Any], Texts]  # network -> the training queries and the corpus by its tokenizer
    mining: Path  # folder in which rankings by teacher and assistants are kept
    options: Distill
    seed: int
    exclude_self: bool = False  # Compare drops the passage that has the query's own id
    accelerator: Any = None  # one of Accelerate's, for several processes; without it there is one
    tensorboard: bool = False  # trainings write their numbers for TensorBoard too

    @property
    def is_main(self) -> bool:
        """Whether this process scores and compares; the others encode, mine, score pairs and train along."""
        return self.accelerator is None or bool(self.accelerator.is_main_process)
