"""One round of training: exact resume for every strategy, losses against a slow second writing, the optimiser's options."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mta4dpr.benchmark import ModelSpec
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.groups import Groups, generate
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.trainer import Batch, Texts, Trainer, set_dropout
from mta4dpr.errors import UserError
from mta4dpr.models.encoder import Encoder, load_encoder
from mta4dpr.models.reranker import load_reranker
from mta4dpr.options import Distill

from .slow_reference import REFERENCES, STANDING, Plain, total
from .tiny_distill import TRAIN, MatrixScorer, knowing_matrix, random_matrix, small_options

STEPS = 10


def fresh(encoder: Encoder) -> Encoder:
    """A copy of an encoder that is never trained itself."""
    one = copy.copy(encoder)
    one.__dict__.pop("transformer", None)  # kept from the network that is copied
    one.network = copy.deepcopy(encoder.network)
    return one


class Setting:
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
        network = self._teacher(teacher) if known.trains_teacher else None
        return Trainer(
            student,
            known,
            self.options(**{**known.overrides, **changes}),
            self.queries,
            self._texts_for(student, self.queries),
            folder,
            seed,
            teacher=(network, self._texts_for(network, self.queries)) if network else None,
            assistants=3,
            standing=STANDING if known.standing else None,
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
            round_number=0,
            groups=options.steps * options.batch_queries,
            queries=self.queries,
            corpus=self.corpus,
            teacher=scorers[0],
            assistants=scorers[1:],
            lists=lists,
            wrong=np.full(TRAIN, wrong),
            tau_teacher=0.8,
            seed=0,
            options=options,
            previous=MatrixScorer("old", random_matrix(9) / 5, self.corpus) if previous else None,
        )


@pytest.fixture(scope="module")
def untouched(new_student: Callable[[], Encoder]) -> Encoder:
    """The student before training; trainers take copies."""
    return new_student()


@pytest.fixture
def setting(
    tmp_path: Path, corpus: Corpus, queries: TrainingQueries, untouched: Encoder, texts_for: Callable[[Encoder, TrainingQueries], Texts]
) -> Setting:
    return Setting(tmp_path, corpus, queries, untouched, texts_for)


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


def killed(setting: Setting, monkeypatch: pytest.MonkeyPatch, groups: Groups, at: int, **changes: Any) -> Trainer:
    """Ends before step `at`; goes on in a new process's trainer, which it returns."""
    first = setting.trainer("killed", **changes)
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
    second = setting.trainer("killed", **changes)
    second.restore()
    assert second.step == at // 4 * 4
    run(second, groups)
    return second


# --- resume ---


@pytest.mark.parametrize(
    ("killed_at", "changes"),
    [
        *((at, {"dropout": 0.1}) for at in (2, 4, 6, 9)),
        (6, {"dropout": 0.0}),
        (6, {"dropout": 0.1, "gradient_cache": True, "micro_batch_tokens": 50}),
        (9, {"dropout": 0.1, "keep_checkpoints": 3}),
        (6, {"dropout": 0.1, "precision": "bfloat16"}),
        (6, {"precision": "float16", "gradient_cache": True}),
    ],
)
def test_killed_and_restored_is_bitwise_the_same(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, killed_at: int, changes: dict[str, Any]
) -> None:
    """10 steps = some steps, an end at any moment, a new process, the rest: weights, and each step once in steps.jsonl."""
    groups = setting.groups()
    whole = setting.trainer("whole", **changes)
    run(whole, groups)
    second = killed(setting, monkeypatch, groups, killed_at, **changes)
    assert equal(weights(whole), weights(second))
    assert [line["step"] for line in lines_of(setting.root / "killed")] == list(range(STEPS))
    assert without_speed(lines_of(setting.root / "killed")) == without_speed(lines_of(setting.root / "whole"))
    kept = [path.name for path in sorted((setting.root / "killed" / "checkpoint").iterdir())]
    assert kept == [f"{step:08}" for step in (4, 8, STEPS)[-changes.get("keep_checkpoints", 1) :]]


@pytest.mark.parametrize(("strategy", "teacher"), [*((name, "bi-encoder") for name in STRATEGIES), ("rocketqav2", "cross-encoder")])
def test_every_strategy_trains_and_resumes_bitwise(setting: Setting, monkeypatch: pytest.MonkeyPatch, strategy: str, teacher: str) -> None:
    """Ten steps with a kill at the seventh: student, trained teacher and policy end with the same bits, random choices are the same."""
    changes = {"strategy": strategy, "teacher": teacher, "dropout": 0.1}
    groups = setting.groups(previous=STRATEGIES[strategy].previous)
    whole = setting.trainer("whole", **changes)
    start = weights(whole)
    run(whole, groups)
    second = killed(setting, monkeypatch, groups, 6, **changes)
    assert equal(weights(whole), weights(second))
    assert without_speed(lines_of(setting.root / "killed")) == without_speed(lines_of(setting.root / "whole"))
    trained = {"student"} | ({"teacher"} if STRATEGIES[strategy].trains_teacher else set()) | ({"policy"} if strategy == "rl_ta" else set())
    moved = {name.split(".")[0] for name, tensor in weights(whole).items() if not torch.equal(tensor, start[name])}
    assert set(whole.networks) == moved == trained
    state = [[one.tolist() for p in t.optimizer.state.values() for one in p.values()] for t in (whole, second)]
    assert state[0] == state[1]  # AdamW's moments as well


def test_four_steps_and_six_more_is_ten(setting: Setting) -> None:
    """The clean stop: 4 steps, fresh objects, restore, 6 steps, with warm-up and dropout in between."""
    changes = {"dropout": 0.1, "warmup": 5}
    groups = setting.groups()
    whole = setting.trainer("whole", **changes)
    run(whole, groups)
    run(setting.trainer("parts", **changes), groups, last=4)
    second = setting.trainer("parts", **changes)
    second.restore()
    assert second.step == 4
    run(second, groups)
    assert equal(weights(whole), weights(second))
    assert not equal(weights(whole), weights(setting.trainer("fresh", **changes)))  # it did train


def test_dropout_depends_on_seed_and_is_really_on(setting: Setting) -> None:
    """If dropout were 0 in secret, the bitwise test with 0.1 would prove nothing."""
    groups = setting.groups()
    found = []
    for name, changes in (("none", {"dropout": 0.0}), ("some", {"dropout": 0.1}), ("seed", {"dropout": 0.1, "seed": 4})):
        trainer = setting.trainer(name, **changes)
        run(trainer, groups, last=2)
        found.append(weights(trainer))
    assert not equal(found[0], found[1])
    assert not equal(found[1], found[2])


def test_dropout_zero_switches_off_every_dropout(setting: Setting) -> None:
    """BERT's own config says 0.1, attention's too: with the option 0 two forward passes in training mode are equal."""
    trainer = setting.trainer("t", dropout=0.0)
    trainer.student.network.train()
    ids, mask = (torch.from_numpy(a) for a in trainer.texts.passages.batch(np.arange(5), 24))
    assert torch.equal(trainer.student.forward(ids, mask), trainer.student.forward(ids, mask))
    noisy = setting.trainer("u", dropout=0.5)
    noisy.student.network.train()
    assert not torch.equal(noisy.student.forward(ids, mask), noisy.student.forward(ids, mask))


def test_dropout_that_a_module_keeps_as_a_number_is_set_too() -> None:
    """T5's attention and ModernBERT's have no module for it: with dropout 0 a training would still be noisy."""
    from transformers import ModernBertConfig, ModernBertModel, T5Config, T5EncoderModel

    sizes = {"vocab_size": 40, "pad_token_id": 0}
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "attention_dropout": 0.3}
    ids = torch.arange(4, 20).reshape(2, 8)
    for network in (
        T5EncoderModel(T5Config(d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, **sizes)),
        ModernBertModel(ModernBertConfig(bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, **bert, **sizes)),
    ):
        set_dropout(network.train(), 0.0)
        first, second = (network(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state for _ in range(2))
        assert torch.equal(first, second), type(network).__name__


def test_weights_that_are_shared_are_saved_once(setting: Setting) -> None:
    """T5 has its word embeddings under two names, which safetensors refuses: a training would die at its first checkpoint."""
    trainer = setting.trainer("t")
    for one in (trainer, again := setting.trainer("t")):
        transformer = one.networks["student"][0].model
        transformer.embeddings_again = transformer.get_input_embeddings()
    run(trainer, setting.groups(), last=4)
    before = weights(trainer)
    again.restore()
    assert equal(weights(again), before)


@pytest.mark.parametrize("at", ["while writing", "before the old one is removed"])
def test_there_is_a_whole_checkpoint_at_every_moment(setting: Setting, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """A kill while step 8's checkpoint is written must leave step 4's, not none."""
    groups = setting.groups()
    trainer = setting.trainer("t")
    run(trainer, groups, last=4)
    rmtree = shutil.rmtree

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def die_at_the_old_one(path: Path, **more: Any) -> None:
        if Path(path).name == f"{4:08}":
            raise KeyboardInterrupt
        rmtree(path, **more)

    with monkeypatch.context() as patch:
        if at == "while writing":
            patch.setattr("safetensors.torch.save_file", die)
        else:
            patch.setattr(shutil, "rmtree", die_at_the_old_one)
        with pytest.raises(KeyboardInterrupt):
            run(trainer, groups, last=8)
    again = setting.trainer("t")
    again.restore()
    assert again.step == (4 if at == "while writing" else 8)
    run(again, groups)
    assert [path.name for path in (setting.root / "t" / "checkpoint").iterdir()] == [f"{STEPS:08}"]
    whole = setting.trainer("whole")
    run(whole, groups)
    assert equal(weights(whole), weights(again))


def test_restore_without_a_checkpoint_starts_over(setting: Setting) -> None:
    """Steps that were logged but never saved are cut off: the log never has a step twice."""
    trainer = setting.trainer("t")
    (setting.root / "t" / "steps.jsonl").write_text('{"step": 0}\n{"step": 1}\n{"ste')
    trainer.restore()
    assert trainer.step == 0
    assert lines_of(setting.root / "t") == []


def test_restore_removes_a_checkpoint_that_was_half_written(setting: Setting) -> None:
    """A SIGKILL while a checkpoint is written leaves its folder aside; under another process id nothing else would ever remove it."""
    trainer = setting.trainer("t")
    left = setting.root / "t" / "checkpoint" / f".{8:08}.1.part"
    left.mkdir(parents=True)
    trainer.restore()
    assert not left.exists()


# --- optimiser ---


def test_learning_rate_schedule(setting: Setting) -> None:
    """Warm-up 3 of 10 steps: 1/4, 2/4, 3/4 of the peak, the peak, then 7 equal steps down that would end at 0 after the last."""
    trainer = setting.trainer("t", strategy="contrastive", warmup=3, lr=0.01)
    run(trainer, setting.groups())
    expected = [0.0025, 0.005, 0.0075, *(0.01 * (7 - n) / 7 for n in range(7))]
    assert [line["lr"] for line in lines_of(setting.root / "t")] == pytest.approx(expected)


def test_without_warmup_the_first_step_has_the_peak(setting: Setting) -> None:
    """The default."""
    trainer = setting.trainer("t", strategy="contrastive", lr=0.01)
    run(trainer, setting.groups(), last=2)
    assert [line["lr"] for line in lines_of(setting.root / "t")] == pytest.approx([0.01, 0.009])


@pytest.mark.parametrize("freeze", [True, False])
def test_freeze_embeddings(setting: Setting, freeze: bool) -> None:
    """Frozen: word embeddings keep every bit (no weight decay either), the layers move. Not frozen: they move."""
    trainer = setting.trainer("t", freeze_embeddings=freeze, weight_decay=0.5)
    before = weights(trainer)
    run(trainer, setting.groups(), last=2)
    after = weights(trainer)
    [words] = [name for name in before if name.endswith("word_embeddings.weight")]
    assert torch.equal(before[words], after[words]) == freeze
    assert sum(not torch.equal(before[name], after[name]) for name in before) > len(before) / 2


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_the_gradient_norm_is_clipped(setting: Setting, clip: float, precision: str) -> None:
    """What reaches AdamW has norm `clip` when the true norm, without float16's scale, is greater; 0 means never."""
    norms = []
    trainer = setting.trainer("t", clip=clip, precision=precision)

    def spy(*_: Any) -> None:
        grads = [p.grad for p in trainer.student.network.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in grads]).norm()))

    trainer.optimizer.register_step_pre_hook(spy)
    run(trainer, setting.groups(), last=2)
    if clip:
        assert norms == pytest.approx([clip, clip], rel=1e-3)
    else:
        assert 0.02 < min(norms) < max(norms) < 50


def test_training_learns(setting: Setting) -> None:
    """The sign of everything at once: the loss on the training groups falls."""
    trainer = setting.trainer("t", lr=3e-3, steps=40)
    groups = setting.groups(steps=40)
    run(trainer, groups, last=40)
    losses = [line["loss"] for line in lines_of(setting.root / "t")]
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


# --- the loss ---


def test_each_distinct_passage_is_encoded_once(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pledge of design section 8: the batch's forward passes hold its queries and its distinct passages, no more."""
    trainer, groups = setting.trainer("t"), setting.groups()
    rows = []
    real = trainer.student.forward
    monkeypatch.setattr(trainer.student, "forward", lambda ids, mask: rows.append(len(ids)) or real(ids, mask))
    trainer.loss(trainer._batch(groups, slice(0, 20)))
    distinct = len(np.unique(groups.passages[:20]))
    assert distinct < 20 * 4  # there is something to save
    assert sum(rows) == 20 + distinct


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("budget", [24, 100])
def test_micro_batches_do_not_show(setting: Setting, budget: int, cached: bool) -> None:
    """Vectors come back in the order of the batch whatever is encoded together, once or twice."""
    groups = setting.groups()
    whole, parts = setting.trainer("t"), setting.trainer("u", micro_batch_tokens=budget, gradient_cache=cached)
    expected, found = (one.loss(one._batch(groups, slice(0, 8))) for one in (whole, parts))
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-4)
    assert found[1] == {name: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value for name, value in expected[1].items()}


def vectors_of(model: Any, store: Any, number: int, longest: int) -> list[np.ndarray]:
    """One text's vector and those of its layers, pooled by hand from transformers' hidden states, float64."""
    ids, mask = (torch.from_numpy(a) for a in store.batch(np.array([number]), longest))
    with torch.no_grad():
        states = model.network[0].model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    means = [state[0].double().mean(dim=0).numpy() for state in [states[-1], *states[1:]]]
    return [one / np.linalg.norm(one) for one in means]


def plain_of(trainer: Trainer, groups: Groups, rows: range) -> Plain:
    """Those groups as the slow reference takes them: each text is encoded alone, each pair scored alone."""
    numbers = [int(groups.queries[row]) for row in rows]
    passages = [[int(p) for p in groups.passages[row]] for row in rows]
    distinct = sorted({p for group in passages for p in group})
    place = [[distinct.index(p) for p in group] for group in passages]
    temperatures = groups.about["temperatures"]

    def over(model: Any, texts: Texts, tau: float) -> list[list[list[float]]]:
        """(queries, distinct) of the output and of each layer."""
        of_queries = [vectors_of(model, texts.queries, n, model.reading.query_length) for n in numbers]
        of_passages = [vectors_of(model, texts.passages, p, model.reading.passage_length) for p in distinct]
        return [[[float(q[n] @ p[n]) / tau for p in of_passages] for q in of_queries] for n in range(len(of_queries[0]))]

    def in_groups(scores: list[list[float]]) -> list[list[float]]:
        return [[row[n] for n in group] for row, group in zip(scores, place, strict=True)]

    scores = {
        label: [[float(stored[row][n]) / temperatures[label] for n in range(len(place[0]))] for row in rows]
        for label, stored in groups.scores.items()
    }
    logits, *student_layers = over(trainer.student, trainer.texts, trainer.options.tau_student)
    teacher_layers: list[list[list[float]]] = []
    if trainer.teacher:
        model, texts = trainer.teacher
        if isinstance(model, Encoder):
            found = [in_groups(one) for one in over(model, texts, temperatures["teacher"])]
            scores["teacher"], *teacher_layers = found
        else:
            pairs = model.pairs(texts.queries, texts.passages)
            scores["teacher"] = [
                [float(model.score(pairs, np.array([n]), np.array([p]), token_budget=64)[0]) / temperatures["teacher"] for p in group]
                for n, group in zip(numbers, passages, strict=True)
            ]
    return Plain(
        trainer.options,
        logits,
        place,
        groups.kept[rows.start : rows.stop].tolist(),
        groups.relevant[rows.start : rows.stop].tolist(),
        [{distinct.index(p) for p in trainer.queries.relevant[n] if p in distinct} for n in numbers],
        {label: scores[label] for label in ("teacher", "a", "b", "c")},
        scores.get("student before the round", logits),
        [in_groups(one) for one in student_layers],
        teacher_layers,
    )


@pytest.mark.parametrize("rule", ["keep", "drop", "relabel"])
@pytest.mark.parametrize(("strategy", "teacher"), [*((name, "bi-encoder") for name in STRATEGIES), ("rocketqav2", "cross-encoder")])
def test_the_loss_is_the_methods(setting: Setting, strategy: str, teacher: str, rule: str) -> None:
    """From texts and stored scores to each term, against the slow reference, on 8 queries that share passages."""
    changes = {"false_negatives": rule, "ce_weight": 0.3, "teacher_weight": 0.6, "assistant_weight": 0.4}
    trainer = setting.trainer("t", strategy=strategy, teacher=teacher, **changes)
    groups = setting.groups(false_negatives=rule, previous=STRATEGIES[strategy].previous)
    rows = range(4, 12)
    if rule != "keep":
        assert groups.about["false_negatives"] > 10
    for network in trainer.networks.values():
        network.eval()
    plain = plain_of(trainer, groups, rows)
    if strategy == "rl_ta":
        plain.chosen = np.random.default_rng(0).integers(0, 2, (4, 8))
        plain.chosen[0] = 1
        trainer.networks["policy"] = lambda *_, **__: (torch.from_numpy(plain.chosen).float(), torch.tensor(0.5))
    loss, record = trainer.loss(trainer._batch(groups, slice(rows.start, rows.stop)))
    expected = REFERENCES[strategy](plain, record)
    assert loss.item() == pytest.approx(total(expected), rel=1e-4)
    for name in ("ce", "kl_teacher", "kl_assistant", *expected):
        assert record[name] == (pytest.approx(expected[name][1], rel=1e-4) if name in expected else None)
    if rule == "drop":
        gradients = [p.grad for network in trainer.networks.values() if strategy != "rl_ta" for p in network.parameters()]
        assert all(torch.isfinite(g).all() for g in gradients if g is not None)


def test_a_term_that_weighs_nothing_is_left_out(setting: Setting) -> None:
    """mta4dpr with c = 0 and b = 1 is kd: the same loss, the same gradient to the bit, no term of an assistant in the log."""
    groups, found = setting.groups(), []
    for strategy in ("mta4dpr", "kd"):
        trainer = setting.trainer(strategy, strategy=strategy, teacher_weight=1.0, assistant_weight=0.0)
        loss, record = trainer.loss(trainer._batch(groups, slice(0, 8)))
        assert record["kl_assistant"] is None
        found.append([loss.item(), *(p.grad.tolist() for p in trainer.student.network.parameters() if p.grad is not None)])
    assert found[0] == found[1]


def bare(numbers: Any, distinct: Any, place: Any, kept: Any, relevant: Any) -> Batch:
    """A batch without scores."""
    return Batch(numbers, distinct, place, kept, relevant, None, {}, None, "teacher", 1.0)


def test_a_passage_relevant_to_another_query_of_the_batch_is_masked_for_it(setting: Setting) -> None:
    """Query 0's relevant passages are 0 and 1; query 1's positive is 1: it is no negative of query 0, and 0 is one of query 1's."""
    trainer = setting.trainer("t")
    numbers, passages = np.array([0, 1]), np.array([[0, 10, 11, 12], [1, 0, 13, 14]])
    distinct, place = np.unique(passages, return_inverse=True)
    first = np.zeros((2, 4), bool)
    first[:, 0] = True
    kept = np.ones((2, 4), bool)
    kept[0, 3] = False
    positives, candidates = trainer._in_batch(bare(numbers, distinct, place.reshape(2, 4), kept, first))
    assert distinct[positives[0]].tolist() == [0]
    assert distinct[positives[1]].tolist() == [1]
    assert distinct[candidates[0]].tolist() == [0, 10, 11, 13, 14]  # without 1 (relevant) and 12 (dropped)
    assert distinct[candidates[1]].tolist() == [0, 1, 10, 11, 12, 13, 14]  # 12 is dropped for query 0 alone


def test_relabelled_passages_are_positives_of_their_query_alone(setting: Setting) -> None:
    """10 counts as positive for query 0 and stays a negative for query 4."""
    trainer = setting.trainer("t")
    passages = np.array([[0, 10, 11, 12], [4, 10, 13, 14]])
    distinct, place = np.unique(passages, return_inverse=True)
    relevant = np.array([[True, True, False, False], [True, False, False, False]])
    positives, candidates = trainer._in_batch(bare(np.array([0, 4]), distinct, place.reshape(2, 4), np.ones((2, 4), bool), relevant))
    assert distinct[positives[0]].tolist() == [0, 10]
    assert distinct[positives[1]].tolist() == [4]
    assert distinct[candidates[1]].tolist() == [0, 4, 10, 11, 12, 13, 14]


def test_group_order_does_not_change_the_loss(setting: Setting) -> None:
    """Negatives in another order, and all that is stored beside them: the same loss and the same assistant."""
    trainer, groups = setting.trainer("t"), setting.groups()
    batch = trainer._batch(groups, slice(0, 8))
    plain, record = trainer.loss(batch)
    other, again = trainer.loss(turned(batch, [0, 3, 1, 2]))
    assert other.item() == pytest.approx(plain.item(), rel=1e-5)
    assert again["assistant"] == record["assistant"]


@pytest.mark.parametrize("granularity", ["batch", "query"])
def test_selection_ignores_the_student(setting: Setting, granularity: str) -> None:
    """TASelect is a function of stored scores: another student and another moment choose the same."""
    groups = setting.groups()
    found = []
    for step in range(2):
        trainer = setting.trainer(f"t{step}", granularity=granularity)
        with torch.no_grad():
            for parameter in trainer.student.network.parameters():
                parameter.add_(step * torch.randn_like(parameter))
        found.append([trainer.loss(trainer._batch(groups, slice(n, n + 4)))[1]["assistant"] for n in range(0, 40, 4)])
    assert found[0] == found[1]
    assert len({str(one) for one in found[0]}) > 1  # the choice is not constant, so equality says something


def test_query_granularity_takes_each_querys_own_target(setting: Setting) -> None:
    """Batches of one query choose alike under both granularities; a batch's KL is then the mean of those."""
    groups, by_query = setting.groups(), setting.trainer("q", granularity="query")
    single = setting.trainer("b", granularity="batch")
    record = by_query.loss(by_query._batch(groups, slice(0, 8)))[1]
    alone = [single.loss(single._batch(groups, slice(n, n + 1)))[1] for n in range(8)]
    assert record["assistant"] == [one["assistant"] for one in alone]
    assert len(set(record["assistant"])) > 1
    assert record["kl_assistant"] == pytest.approx(np.mean([one["kl_assistant"] for one in alone]), rel=1e-4)


@pytest.mark.parametrize("select", ["kl", "footrule", "rbo"])
@pytest.mark.parametrize("fused", ["all", "none", [["a", "c"]]])
def test_what_may_be_chosen(setting: Setting, select: str, fused: Any) -> None:
    """Every criterion runs with every set of fused assistants, and chooses among those that are offered."""
    trainer = setting.trainer("t", select=select, fused=fused, granularity="query")
    record = trainer.loss(trainer._batch(setting.groups(), slice(0, 20)))[1]
    extra = {"all": {"a+b", "a+c", "b+c", "a+b+c"}, "none": set()}.get(str(fused), {"a+c"})
    assert set(record["assistant"]) <= {"a", "b", "c"} | extra


def test_a_nan_loss_names_step_queries_and_checkpoint(setting: Setting) -> None:
    """The user can look at the queries and go on from the checkpoint with a smaller learning rate; nothing worse was saved."""
    groups = setting.groups()
    trainer = setting.trainer("t")
    run(trainer, groups, last=5)
    with torch.no_grad():
        next(trainer.student.network.parameters()).fill_(math.nan)
    with pytest.raises(UserError) as caught:
        run(trainer, groups)
    message = str(caught.value)
    assert "the loss became nan" in message
    assert "at step 5" in message
    assert f"the last good checkpoint is {setting.root / 't' / 'checkpoint' / '00000005'}." in message
    for n in groups.queries[20:24]:
        assert f"'q{n}'" in message
    again = setting.trainer("t")
    again.restore()
    assert again.step == 5
    assert all(torch.isfinite(w).all() for w in weights(again).values())


def test_a_gradient_that_is_no_number_stops_too(setting: Setting) -> None:
    """The loss may still be finite: weights must not become NaN and be saved."""
    trainer, groups = setting.trainer("t"), setting.groups()
    run(trainer, groups, last=4)
    before = weights(trainer)
    next(p for p in trainer.student.network.parameters() if p.dim() == 2).register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(UserError, match="at step 4"):
        run(trainer, groups)
    assert equal(weights(trainer), before)


def test_a_loss_that_is_no_number_at_once_has_no_checkpoint_to_name(setting: Setting) -> None:
    """A folder that is not there would be looked for."""
    trainer = setting.trainer("t")
    with torch.no_grad():
        next(trainer.student.network.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match=r"\); there is no checkpoint before it\. Try a smaller"):
        run(trainer, setting.groups())


def test_the_curve_is_written_as_it_goes(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows steps.jsonl sees a step when it is done, not when a buffer is full or a checkpoint is saved."""
    trainer, seen, real = setting.trainer("t"), [], Trainer._train_step

    def looking(self: Trainer, *arguments: Any) -> dict[str, Any]:
        seen.append([line["step"] for line in lines_of(setting.root / "t")])
        return real(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_step", looking)
    run(trainer, setting.groups(), last=3)
    assert seen == [[], [0], [0, 1]]


def test_a_slow_step_has_a_rate(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next plan divides by it: a rate of 0 would end a run after its training."""
    clock = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr("mta4dpr.distill.trainer.time.perf_counter", lambda: float(next(clock)))
    run(setting.trainer("t"), setting.groups(), last=1)
    assert lines_of(setting.root / "t")[0]["examples_per_second"] == 4e-6


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_float16_skips_a_step_that_overflows(setting: Setting) -> None:
    """A scale that is too great makes infinite gradients: no weight moves, the scale is halved, and training goes on."""
    trainer = setting.trainer("t", precision="float16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    groups, before = setting.groups(), weights(trainer)
    run(trainer, groups, last=1)
    assert equal(weights(trainer), before)
    assert trainer.scaler.get_scale() == 2.0**126
    trainer.scaler.update(1024.0)
    run(trainer, groups, last=3)
    assert not equal(weights(trainer), before)
    assert [line["step"] for line in lines_of(setting.root / "t")] == [0, 1, 2]
    again = setting.trainer("t", precision="float16")
    again.restore()
    assert again.scaler.state_dict() == trainer.scaler.state_dict()
    assert again.scaler.get_scale() == 1024.0


def test_all_strategies_start_alike_and_see_the_same_groups(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 8: a row differs in the strategy alone."""
    groups, seen, starts = setting.groups(previous=True), {}, {}
    real = Trainer.loss

    def spying(self: Trainer, batch: Batch, round_number: int) -> Any:
        seen.setdefault(id(self.strategy), []).append((batch.numbers.tolist(), batch.distinct[batch.place].tolist(), round_number))
        return real(self, batch, round_number)

    monkeypatch.setattr(Trainer, "loss", spying)
    ends = {}
    for name in STRATEGIES:
        trainer = setting.trainer(name, strategy=name)
        starts[name] = student_of(trainer)
        run(trainer, groups, last=3)
        ends[name] = student_of(trainer)
    assert all(equal(one, starts["kd"]) for one in starts.values())
    assert len(seen) == len(STRATEGIES)
    assert all(one == seen[id(STRATEGIES["kd"])] for one in seen.values())
    kinds = {b"".join(tensor.numpy().tobytes() for tensor in one.values()) for one in ends.values()}
    assert len(kinds) == len(STRATEGIES)  # no two strategies are the same in secret


def test_each_network_has_its_own_learning_rate(setting: Setting) -> None:
    """Student, teacher and policy, each with its option, under one schedule."""
    rates = {"lr": 0.01, "teacher_lr": 0.002, "policy_lr": 0.3}
    for strategy, expected in (("rocketqav2", [0.01, 0.002]), ("rl_ta", [0.01, 0.3]), ("kd", [0.01])):
        trainer = setting.trainer(strategy, strategy=strategy, **rates)
        assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx(expected)
        run(trainer, setting.groups(), last=1)
        assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([0.9 * rate for rate in expected])


@pytest.mark.parametrize("teacher", ["bi-encoder", "cross-encoder"])
def test_a_trained_teachers_word_embeddings_are_frozen_too(setting: Setting, teacher: str) -> None:
    """`freeze_embeddings` is about all that is trained; everything else moves."""
    trainer = setting.trainer("t", strategy="rocketqav2", teacher=teacher, freeze_embeddings=True, weight_decay=0.5)
    before = weights(trainer)
    run(trainer, setting.groups(), last=2)
    after = weights(trainer)
    for which in ("student", "teacher"):
        [words] = [name for name in before if name.startswith(which) and name.endswith("word_embeddings.weight")]
        assert torch.equal(before[words], after[words])
        assert sum(not torch.equal(before[name], after[name]) for name in before if name.startswith(which)) > 10


def test_clipping_is_for_each_network(setting: Setting) -> None:
    """A teacher's great gradient must not shrink the student's step."""
    norms: dict[str, list[float]] = {}
    trainer = setting.trainer("t", strategy="rocketqav2", clip=0.01)

    def spy(*_: Any) -> None:
        for which, network in trainer.networks.items():
            grads = [p.grad for p in network.parameters() if p.grad is not None]
            norms.setdefault(which, []).append(float(torch.stack([g.norm() for g in grads]).norm()))

    trainer.optimizer.register_step_pre_hook(spy)
    run(trainer, setting.groups(), last=2)
    assert norms == {"student": pytest.approx([0.01, 0.01], rel=1e-3), "teacher": pytest.approx([0.01, 0.01], rel=1e-3)}


CONTRACT = ["round", "step", "loss", "ce", "kl_teacher", "kl_assistant", "assistant"]


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_steps_jsonl_has_the_contracts_fields(setting: Setting, strategy: str) -> None:
    """Section 3: loss and its terms, chosen assistant, lr, examples/s; what a strategy has besides stands between them."""
    trainer = setting.trainer("t", strategy=strategy)
    run(trainer, setting.groups(previous=STRATEGIES[strategy].previous), last=2)
    for step, line in enumerate(lines_of(setting.root / "t")):
        assert list(line)[:7] == CONTRACT
        assert list(line)[-2:] == ["lr", "examples_per_second"]
        assert (line["round"], line["step"]) == (0, step)
        more = set(line) - {*CONTRACT, "lr", "examples_per_second"}
        assert all(isinstance(line[name], float) or name in ("dropped", "chosen", "layers") for name in more)
        if strategy == "mta4dpr":
            assert not more
            assert line["loss"] == pytest.approx(0.2 * line["ce"] + 0.5 * line["kl_teacher"] + 0.5 * line["kl_assistant"], rel=1e-5)
