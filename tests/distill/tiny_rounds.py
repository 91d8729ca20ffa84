"""Algorithm 1 over the tiny corpus: scorers whose quality a test chooses, real students, a teacher and assistants that can be trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.config.options import Distill
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill import rounds as rounds_module
from mta4dpr.distill.bench import Bench
from mta4dpr.distill.groups import Groups, open_groups
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.rounds import distil
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement
from mta4dpr.distill.trainer import Texts, Trainer
from mta4dpr.engines.dense import BiEncoderScorer
from mta4dpr.engines.scorer import Scorer
from mta4dpr.models.encoder import Encoder, load_encoder
from mta4dpr.retrieval.exact import ExactIndex
from mta4dpr.retrieval.vectors import Encoding, encode

from .tiny_distill import MatrixScorer, knowing_matrix, small_options

GOOD, MIDDLE, BAD = 9.0, 2.0, -9.0  # what is added to a positive's score
WIDTHS = {"a": 16, "wide": 48}  # of networks; others have 32


class Killed(Exception):
    """Stands for SIGKILL: nothing of ours catches it."""


class Setting:
    """Makes benches over the tiny corpus and runs strategies on them."""

    def __init__(
        self,
        root: Path,
        corpus: Corpus,
        queries: TrainingQueries,
        new_student: Callable[[], Encoder],
        texts_for: Callable[[Any, TrainingQueries], Texts],
    ) -> None:
        self.root, self.corpus, self.queries, self.new_student, self.texts_for = root, corpus, queries, new_student, texts_for
        self.frozen: list[str] = []
        self.networks: dict[str, Encoder] = {}  # what was given out to be trained

    def scorer(self, label: str, strength: float, seed: int | None = None) -> MatrixScorer:
        return MatrixScorer(label, knowing_matrix(len(label) if seed is None else seed, self.queries, strength), self.corpus)

    def network(self, label: str) -> Encoder:
        """A fresh network of that label; a teacher has two layers."""
        sizes = {"layers": 2 if label == "teacher" else 1, "hidden": WIDTHS.get(label, 32), "heads": 2, "vocabulary": 300, "seed": 7}
        texts = [passage.text for passage in self.corpus]
        spec = ModelSpec(untrained=sizes, query_length=12, passage_length=24)
        self.networks[label] = load_encoder(label, spec, device="cpu", texts=texts)
        return self.networks[label]

    def freeze(self, label: str, model: Path, root: Path) -> Scorer:
        encoder = load_encoder(label, ModelSpec(model=str(model)), device="cpu")
        how = Encoding("float32", 512, 1)
        texts = self.texts_for(encoder, self.queries)
        passages = encode(root, encoder, texts.passages, longest=encoder.reading.passage_length, how=how)
        asked = encode(root, encoder, texts.queries, longest=encoder.reading.query_length, how=how)
        return BiEncoderScorer(encoder.label, ExactIndex(passages, self.corpus, encoder.device), asked.array, encoder.key)

    def bench(
        self,
        *,
        student: list[float] | None = None,
        assistants: dict[str, float] | None = None,
        name: str = "mining",
        teacher: float = 4.0,
        pair_scorers: Sequence[str] = (),
        trainable: Sequence[str] = (),
        **changes: Any,
    ) -> Bench:
        """`student`: strength of the frozen student after each round; without it the real student is frozen.

        `pair_scorers` cannot rank the corpus.
        """
        assistants = {"a": MIDDLE, "bad": BAD, "good": GOOD} if assistants is None else assistants
        scorers = {label: self.scorer(label, strength) for label, strength in {"teacher": teacher, **assistants}.items()}
        for label in pair_scorers:
            scorers[label].ranks = False

        def freeze_fake(label: str, model: Path, root: Path) -> Scorer:
            assert student is not None
            assert (model / "model.safetensors").exists()
            self.frozen.append(label)
            last = label.rsplit("-", 1)[1]
            return self.scorer(label, student[int(last) if last.isdigit() else -1], seed=77)

        options: Distill = small_options(**{"steps": 4, "batch_queries": 2, **changes})
        return Bench(
            corpus=self.corpus,
            queries=self.queries,
            teacher="teacher",
            assistants=list(assistants),
            scorer=scorers.__getitem__,
            network=self.network,
            trainable=trainable,
            freeze=freeze_fake if student else self.freeze,
            texts=lambda network: self.texts_for(network, self.queries),
            mining=self.root / name,
            options=options,
            seed=5,
        )

    def run(self, bench: Bench, *, strategy: str = "mta4dpr", name: str = "run") -> Path:
        """With the options that make the strategy what it is, as a request adds them."""
        known = STRATEGIES[strategy]
        own = {**known.overrides, **({"rounds": 1 + len(bench.assistants)} if Requirement.STAGES in known.requires else {})}
        options = bench.options.model_copy(update=own)
        return distil(strategy, known, self.new_student(), replace(bench, options=options), self.root / name)

    def rounds(self, name: str = "run") -> list[dict[str, Any]]:
        return lines_of(self.root / name / "rounds.jsonl")

    def steps(self, name: str = "run") -> list[dict[str, Any]]:
        return lines_of(self.root / name / "steps.jsonl")

    def groups(self, number: int, name: str = "run") -> Groups:
        found = open_groups(self.root / name / f"round-{number}" / "groups")
        assert found is not None
        return found

    def killed_run(self, monkeypatch: pytest.MonkeyPatch, where: str, at: int, changes: dict[str, Any], strategy: str = "mta4dpr") -> Path:
        """Runs, dies once at that place, and runs again as a new process would."""
        counts = {"step": 0, "compare": 0, "generate": 0, "append": 0, "freeze": 0}
        bench = self.bench(name="mining-killed", **changes)

        def dying(what: str, real: Any) -> Any:
            def call(*arguments: Any, **more: Any) -> Any:
                counts[what] += 1
                if what == where and counts[what] == at:
                    raise Killed
                return real(*arguments, **more)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_train_step", dying("step", Trainer._train_step))
            for function in ("compare", "generate", "append"):
                patch.setattr(rounds_module, function, dying(function, getattr(rounds_module, function)))
            bench.freeze = dying("freeze", bench.freeze)
            with pytest.raises(Killed):
                self.run(bench, strategy=strategy, name="killed")
        torch.manual_seed(at)
        torch.rand(3)
        return self.run(self.bench(name="mining-killed", **changes), strategy=strategy, name="killed")

    def assert_alike(self, one: str, other: str) -> None:
        """Final weights, groups and logs of two runs are the same but for their times."""
        files = [sorted(path.relative_to(self.root / name) for path in (self.root / name).rglob("*")) for name in (one, other)]
        assert files[0] == files[1], set(files[0]) ^ set(files[1])
        exact = [path for path in files[0] if path.suffix in (".npy", ".safetensors") or path.name in ("groups.json", "scores.json")]
        assert exact
        assert all((self.root / one / path).read_bytes() == (self.root / other / path).read_bytes() for path in exact)
        for path in files[0]:
            if path.suffix == ".jsonl":
                assert without_time(lines_of(self.root / one / path)) == without_time(lines_of(self.root / other / path))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_time(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in one.items() if k not in ("seconds", "examples_per_second")} for one in records]
