"""Gradients through micro-batches and gradient caching against one big batch that autograd runs through end to end."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.tokens import tokens_of_texts
from mta4dpr.distill import gradients
from mta4dpr.distill.gradients import PairSource, TextSource
from mta4dpr.distill.step import Step
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.trainer import Batch, Texts, Trainer, TrainerSetup
from mta4dpr.machine.counter import mix
from mta4dpr.models.encoder import load_encoder
from mta4dpr.models.reranker import load_reranker

from .tiny_distill import make_queries, small_options, text_of

PASSAGES, QUERIES = 160, 6
TEXTS = [text_of(n, 4 + n % 9) for n in range(PASSAGES)]
ASKED = make_queries(positives=lambda n: [n % PASSAGES], relevant=lambda n: [n % PASSAGES, 20 + n % 3])
LENGTHS = {"query_length": 12, "passage_length": 24}
BIG, SMALL = 100_000, 40  # tokens of a micro-batch: all texts, two or three
CASES = [("kd", ""), ("mta4dpr", ""), ("lead", "bi-encoder"), ("rocketqav2", "bi-encoder"), ("rocketqav2", "cross-encoder")]
STANDING = {"teacher": 0.9, "a": 0.1, "b": 0.3}


@dataclass
class Models:
    """Networks as they are before training; a test takes copies."""

    student: Any
    bi_encoder: Any
    cross_encoder: Any

    def copy(self, which: str, *, double: bool) -> Any:
        model = copy.copy(getattr(self, which))
        model.__dict__.pop("transformer", None)  # kept from the network that is copied
        model.network = copy.deepcopy(model.network)
        if double:
            model.network.double()
        return model


@pytest.fixture(scope="module")
def models() -> Models:
    """Two layers for student and cross-encoder, three narrower ones for the bi-encoder, so that LEAD draws among them."""
    sizes = {"layers": 2, "hidden": 32, "heads": 2, "vocabulary": 300, "seed": 0}
    student = load_encoder("student", ModelSpec(untrained=sizes, **LENGTHS), device="cpu", texts=TEXTS)
    wide = ModelSpec(untrained={**sizes, "layers": 3, "hidden": 16, "seed": 1}, **LENGTHS)
    pairs = ModelSpec(kind="cross-encoder", untrained={**sizes, "seed": 2}, query_length=12, pair_length=30)
    return Models(student, load_encoder("teacher", wide, device="cpu", texts=TEXTS), load_reranker("ce", pairs, device="cpu", texts=TEXTS))


def texts_of(model: Any) -> Texts:
    return Texts(model.query_tokens(ASKED.texts), tokens_of_texts(model.tokenizer, TEXTS, prefix=""))


@pytest.fixture
def new_trainer(models: Models, tmp_path: Path) -> Callable[..., Trainer]:
    """Trainers that start with equal weights."""

    def make(name: str = "kd", kind: str = "", *, double: bool = False, **changes: Any) -> Trainer:
        student = models.copy("student", double=double)
        teacher = models.copy(kind.replace("-", "_"), double=double) if kind else None
        return Trainer(
            student,
            STRATEGIES[name],
            TrainerSetup(
                options=small_options(**{"micro_batch_tokens": BIG, **changes}),
                queries=ASKED,
                texts=texts_of(student),
                folder=tmp_path,
                seed=3,
                teacher=(teacher, texts_of(teacher)) if teacher else None,
                assistants=2,
                standing=STANDING,
            ),
        )

    return make


def hand_made_batch(queries: int = QUERIES, group: int = 5, *, drop: bool = True) -> Batch:
    """Groups that share passages, one of them with a dropped and one with a relabelled negative; stored scores are random."""
    generator = np.random.default_rng(group)
    negatives = np.arange(queries, max(queries + group, 18))
    passages = np.stack([[n, *generator.choice(negatives, group - 1, replace=False)] for n in range(queries)])
    passages[1, 1] = 0  # a positive of query 0 is a negative of query 1
    kept, relevant = np.ones(passages.shape, bool), np.zeros(passages.shape, bool)
    relevant[:, 0] = True
    if drop:
        kept[0, 2], relevant[2, 1] = False, True
    mask = torch.from_numpy(kept)

    def stored() -> torch.Tensor:
        scores = torch.from_numpy(generator.normal(size=passages.shape).astype(np.float32))
        return (2 * scores).masked_fill(~mask, -math.inf).log_softmax(dim=-1)

    distinct, place = np.unique(passages, return_inverse=True)
    teacher, assistants = stored(), {"a": stored(), "b": stored()}
    return Batch(np.arange(queries), distinct, place.reshape(passages.shape), kept, relevant, teacher, assistants, stored(), "teacher", 0.5)


def parameters(trainer: Trainer) -> dict[str, torch.nn.Parameter]:
    return {f"{which}.{name}": p for which, network in trainer.networks.items() for name, p in network.named_parameters()}


def gradient_of(trainer: Trainer, batch: Batch, loss: Callable[[Trainer, Batch], torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """What a step leaves in the parameters, or what autograd leaves there after `loss`."""
    for network in trainer.networks.values():
        network.zero_grad()
        network.train()
    if loss is None:
        trainer.loss(batch)
    else:
        loss(trainer, batch).backward()
    return {name: p.grad.clone() for name, p in parameters(trainer).items() if p.grad is not None}


def distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of two gradients relative to the second's; what one lacks is infinitely far."""
    if found.keys() != expected.keys():
        return math.inf
    wrong = torch.stack([(found[name] - expected[name]).double().norm() for name in found]).norm()
    size = torch.stack([one.double().norm() for one in expected.values()]).norm()
    assert size > 1e-3
    return float(wrong / size)


def slow_loss(trainer: Trainer, batch: Batch) -> torch.Tensor:
    """The loss of one big batch: every text padded to the longest, scores pair by pair, no sources, no micro-batches."""
    options, kept, relevant = trainer.options, torch.from_numpy(batch.kept), torch.from_numpy(batch.relevant)

    def log_p(scores: torch.Tensor) -> torch.Tensor:
        return scores.masked_fill(~kept, -math.inf).log_softmax(dim=-1)

    def vectors(encoder: Any, store: Any, numbers: np.ndarray, longest: int) -> list[torch.Tensor]:
        """Of the output and of each layer, through transformers' own hidden states."""
        ids, mask = map(torch.from_numpy, store.batch(numbers, longest))
        states = encoder.network[0].model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        means = [(state * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True) for state in [states[-1], *states[1:]]]
        return [one / one.norm(dim=1, keepdim=True) for one in means]

    def scores(encoder: Any, texts: Texts) -> list[torch.Tensor]:
        """(queries, distinct passages) of the output and of each layer."""
        of_queries = vectors(encoder, texts.queries, batch.numbers, 12)
        of_passages = vectors(encoder, texts.passages, batch.distinct, 24)
        return [torch.einsum("qd,pd->qp", q, p) for q, p in zip(of_queries, of_passages, strict=True)]

    def in_groups(over: torch.Tensor) -> torch.Tensor:
        return torch.stack([over[row, torch.from_numpy(place)] for row, place in enumerate(batch.place)])

    over, *layers = [one / options.tau_student for one in scores(trainer.student, trainer.texts)]
    teacher, teacher_layers = batch.teacher, []
    if trainer.teacher:
        model, texts = trainer.teacher
        if hasattr(model, "pairs"):
            rows = np.repeat(batch.numbers, batch.place.shape[1])
            pairs = model.pairs(texts.queries, texts.passages)
            ids, mask, types = map(torch.from_numpy, pairs.batch(rows, batch.distinct[batch.place].ravel()))
            logits = model.network(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
            teacher = log_p(logits.reshape(batch.place.shape) / batch.teacher_temperature)
        else:
            teacher, *teacher_layers = [log_p(in_groups(one) / batch.teacher_temperature) for one in scores(model, texts)]
    positives, candidates = torch.zeros(over.shape, dtype=torch.bool), torch.ones(over.shape, dtype=torch.bool)
    for row, n in enumerate(batch.numbers):
        for column, passage in enumerate(batch.distinct):
            own = {batch.distinct[p] for p, is_relevant in zip(batch.place[row], batch.relevant[row], strict=True) if is_relevant}
            dropped = {batch.distinct[p] for p, is_kept in zip(batch.place[row], batch.kept[row], strict=True) if not is_kept}
            positives[row, column] = passage in own
            candidates[row, column] = passage in own or (passage not in ASKED.relevant[n] and passage not in dropped)
    step = Step(
        number=trainer.step,
        round=0,
        seed=trainer.seed,
        options=options,
        logits=over,
        positives=positives,
        candidates=candidates,
        relevant=relevant,
        kept=kept,
        student=log_p(in_groups(over)),
        teacher=teacher.to(over.dtype),
        assistants={label: one.to(over.dtype) for label, one in batch.assistants.items()},
        standing=STANDING,
        student_layers=[log_p(in_groups(one)) for one in layers],
        teacher_layers=teacher_layers,
    )
    return sum(weight * value for weight, value in trainer.strategy.loss(step).values())  # type: ignore[return-value]


# --- the same gradient ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_gradient_is_that_of_one_big_batch(new_trainer: Callable[..., Trainer], name: str, kind: str, double: bool) -> None:
    """In one micro-batch, in many, and in many that are encoded twice; of the teacher's parameters too where it is trained."""
    batch = hand_made_batch()
    options = {"dropout": 0.0, "double": double, "tau_student": 0.5}
    expected = gradient_of(new_trainer(name, kind, **options), batch, slow_loss)
    assert any(key.startswith("teacher.") for key in expected) == bool(kind)
    for budget, cached in ((BIG, False), (SMALL, False), (SMALL, True), (16, True)):
        trainer = new_trainer(name, kind, micro_batch_tokens=budget, gradient_cache=cached, **options)
        assert distance(gradient_of(trainer, batch), expected) < (1e-9 if double else 1e-5), (budget, cached)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_caching_replays_dropout(new_trainer: Callable[..., Trainer], name: str, kind: str, double: bool) -> None:
    """With dropout the second pass draws what the first drew: the gradient is that of the graphs that are kept."""
    batch = hand_made_batch()
    found = []
    for dropout, cached in ((0.1, False), (0.1, True), (0.0, False)):
        trainer = new_trainer(name, kind, micro_batch_tokens=SMALL, gradient_cache=cached, dropout=dropout, double=double)
        found.append(gradient_of(trainer, batch))
    assert distance(found[1], found[0]) < (1e-9 if double else 1e-5)
    assert distance(found[2], found[0]) > 0.01  # dropout is on


def test_each_micro_batch_has_dropout_of_its_own(new_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded by (seed, step, source, micro-batch): no two of a step share a stream, and torch's own state plays no part."""
    seeds = []
    real = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: seeds.append(seed) or real(seed))
    trainer = new_trainer("rocketqav2", "bi-encoder", micro_batch_tokens=SMALL, dropout=0.1)
    batch = hand_made_batch()
    first = gradient_of(trainer, batch)
    expected = {int(mix(3, 0, source, micro_batch)) >> 1 for source in range(4) for micro_batch in range(len(seeds))}
    assert len(set(seeds)) == len(seeds) > 8
    assert set(seeds) <= expected
    real(12345)
    torch.rand(3)
    assert distance(gradient_of(trainer, batch), first) == 0
    trainer.step = 1
    assert distance(gradient_of(trainer, batch), first) > 0.01


def test_parameters_without_a_part_in_the_loss_keep_no_gradient(new_trainer: Callable[..., Trainer]) -> None:
    """The pooler gives no vector: None, not zeros, which weight decay would act on."""
    for cached in (False, True):
        trainer = new_trainer("kd", micro_batch_tokens=SMALL, gradient_cache=cached)
        found = gradient_of(trainer, hand_made_batch())
        without = {name for name in parameters(trainer) if name not in found}
        assert without == {name for name in parameters(trainer) if ".pooler." in name}


@pytest.mark.parametrize("cached", [False, True])
def test_a_source_that_the_loss_does_not_use_is_left_alone(new_trainer: Callable[..., Trainer], cached: bool) -> None:
    """Its matrix has no gradient, so nothing goes back through its network: the gradient is that without it."""
    trainer = new_trainer("kd", micro_batch_tokens=SMALL)
    sources, _ = trainer._sources(trainer.student, trainer.texts, hand_made_batch())
    found = []
    for used in (sources, sources[1:]):
        trainer.student.network.zero_grad()
        loss = gradients.backward(
            used,
            lambda matrices: matrices[-1].square()[:, ::2].sum(),
            gradients.Computation(trainer.accelerator, trainer.student.device, torch.float32, cached=cached),
            seed=(0,),
        )
        assert not loss.requires_grad
        found.append({name: p.grad.clone() for name, p in parameters(trainer).items() if p.grad is not None})
    assert distance(found[0], found[1]) < 1e-6


def test_scale_multiplies_the_gradient_and_not_the_loss(new_trainer: Callable[..., Trainer]) -> None:
    """Float16's loss scaling: what is logged is the loss itself."""
    trainer, batch = new_trainer("kd", micro_batch_tokens=SMALL), hand_made_batch()
    plain_loss, plain = trainer.loss(batch)[0], gradient_of(trainer, batch)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    assert trainer.loss(batch)[0].item() == pytest.approx(plain_loss.item())
    scaled = gradient_of(trainer, batch)
    assert distance({name: one / 1024 for name, one in scaled.items()}, plain) < 1e-6


# --- memory ---------------------------------------------------------------------------------------------------------


class Graphs:
    """Counts what autograd keeps, by the micro-batch that it belongs to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alive: Counter[Any] = Counter()
        self.most_graphs = self.bytes = self.most_bytes = 0
        self.seen: set[Any] = set()
        self._now: Any = None
        for kind in (TextSource, PairSource):
            monkeypatch.setattr(kind, "forward", self._spying(kind.forward))

    def _spying(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def forward(source: Any, rows: np.ndarray) -> Any:
            self._now = (id(source), tuple(rows))
            self.seen.add(self._now)
            try:
                return real(source, rows)
            finally:
                self._now = None

        return forward

    def pack(self, tensor: torch.Tensor) -> Saved:
        saved = Saved(self, self._now, tensor)
        self.most_graphs = max(self.most_graphs, sum(count > 0 for which, count in self.alive.items() if which))
        self.most_bytes = max(self.most_bytes, self.bytes if self._now else 0)
        return saved


class Saved:
    """A tensor that autograd keeps; detached, as an output with its node would be a circle that nothing frees."""

    def __init__(self, graphs: Graphs, owner: Any, tensor: torch.Tensor) -> None:
        self._graphs, self._owner, self.tensor = graphs, owner, tensor.detach()
        graphs.alive[owner] += 1
        graphs.bytes += tensor.nbytes

    def __del__(self) -> None:
        self._graphs.alive[self._owner] -= 1
        self._graphs.bytes -= self.tensor.nbytes


@pytest.mark.parametrize("kind", ["", "bi-encoder", "cross-encoder"])
def test_caching_keeps_one_micro_batchs_graph(new_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A group of 128: with caching no two micro-batches' graphs are alive at once; without, all of them are."""
    batch = hand_made_batch(2, 128, drop=False)
    found = {}
    for cached in (False, True):
        trainer = new_trainer("rocketqav2" if kind else "kd", kind, micro_batch_tokens=150, gradient_cache=cached)
        with monkeypatch.context() as patch:
            found[cached] = graphs = Graphs(patch)
            with torch.autograd.graph.saved_tensors_hooks(graphs.pack, lambda saved: saved.tensor):
                gradient_of(trainer, batch)
        assert len(graphs.seen) > 8
        assert graphs.most_graphs == (1 if cached else len(graphs.seen))
        assert sum(graphs.alive.values()) == 0  # nothing stays when the step is over
    assert found[True].most_bytes < found[False].most_bytes / 4


# --- other precisions -----------------------------------------------------------------------------------------------


def test_bfloat16_is_near_float32(new_trainer: Callable[..., Trainer]) -> None:
    """Networks compute in bfloat16, loss and gradients are float32; caching changes nothing there either."""
    batch = hand_made_batch()
    exact = gradient_of(new_trainer("mta4dpr", tau_student=0.5), batch)
    loss, _ = new_trainer("mta4dpr", tau_student=0.5).loss(batch)
    found = {}
    for cached in (False, True):
        trainer = new_trainer("mta4dpr", tau_student=0.5, precision="bfloat16", micro_batch_tokens=SMALL, gradient_cache=cached)
        rough, _ = trainer.loss(batch)
        assert rough.dtype == torch.float32
        assert rough.item() == pytest.approx(loss.item(), rel=2e-2)
        assert rough.item() != loss.item()  # it does compute in something else
        found[cached] = gradient_of(trainer, batch)
        assert all(one.dtype == torch.float32 for one in found[cached].values())
        assert distance(found[cached], exact) < 0.1
    assert distance(found[True], found[False]) < 1e-5


@pytest.mark.parametrize("cached", [False, True])
def test_float16_scales_the_loss_and_trains(new_trainer: Callable[..., Trainer], cached: bool) -> None:
    """On a CPU as well: the scaler's gradient is unscaled before it is clipped, and the step is near float32's."""
    batch = hand_made_batch()
    trainer = new_trainer("kd", tau_student=0.5, precision="float16", gradient_cache=cached, micro_batch_tokens=SMALL)
    assert trainer.scaler.is_enabled()
    loss, _ = new_trainer("kd", tau_student=0.5).loss(batch)
    rough, _ = trainer.loss(batch)
    assert rough.item() == pytest.approx(loss.item(), rel=1e-2)
    exact = gradient_of(new_trainer("kd", tau_student=0.5), batch)
    gradient_of(trainer, batch)
    trainer.scaler.unscale_(trainer.optimizer)
    found = {name: p.grad for name, p in parameters(trainer).items() if p.grad is not None}
    assert distance(found, exact) < 0.02


def test_a_batch_of_another_size_is_another_batch(new_trainer: Callable[..., Trainer]) -> None:
    """The comparison can fail: without one query the gradient is another."""
    batch = hand_made_batch()
    less = replace(
        batch,
        **{name: getattr(batch, name)[:-1] for name in ("numbers", "place", "kept", "relevant", "teacher")},
        assistants={label: one[:-1] for label, one in batch.assistants.items()},
    )
    trainer = new_trainer("kd")
    assert distance(gradient_of(trainer, less), gradient_of(trainer, batch)) > 0.01
