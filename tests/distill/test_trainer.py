"""One round of training: exact resume, the loss against a slow copy of the method's text, the optimiser's options."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mta4dpr.benchmark import Distill
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.groups import Groups, generate
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.trainer import Texts, Trainer, keep_lines
from mta4dpr.errors import UserError
from mta4dpr.models.encoder import Encoder

from .tiny_distill import TRAIN, MatrixScorer, knowing_matrix, small_options

STEPS = 10


class Setting:
    """Makes trainers and groups over the tiny corpus."""

    def __init__(
        self,
        root: Path,
        corpus: Corpus,
        queries: TrainingQueries,
        new_student: Callable[[], Encoder],
        texts_for: Callable[[Encoder, TrainingQueries], Texts],
    ) -> None:
        self.root, self.corpus, self.queries, self._new_student, self._texts_for = root, corpus, queries, new_student, texts_for

    def options(self, **changes: Any) -> Distill:
        return small_options(**{"rounds": 1, "steps": STEPS, "checkpoint_every": 4, **changes})

    def trainer(self, name: str, *, strategy: str = "mta4dpr", seed: int = 3, **changes: Any) -> Trainer:
        """A trainer with a fresh student, as a new process would make it."""
        student = self._new_student()
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return Trainer(
            student, STRATEGIES[strategy], self.options(**changes), self.queries, self._texts_for(student, self.queries), folder, seed
        )

    def groups(self, name: str = "shared", *, wrong: bool = False, **changes: Any) -> Groups:
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
            tau_teacher=1.0,
            seed=0,
            options=options,
        )


@pytest.fixture
def setting(
    tmp_path: Path,
    corpus: Corpus,
    queries: TrainingQueries,
    new_student: Callable[[], Encoder],
    texts_for: Callable[[Encoder, TrainingQueries], Texts],
) -> Setting:
    return Setting(tmp_path, corpus, queries, new_student, texts_for)


def run(trainer: Trainer, groups: Groups, last: int = STEPS) -> None:
    trainer.train_round(groups, round_number=0, first_step=0, last_step=last, label="t")


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.student.network.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def without_speed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "examples_per_second"} for line in lines]


def batch(groups: Groups, rows: slice) -> tuple[Any, ...]:
    teacher, assistants = groups.log_distributions(rows, torch.device("cpu"))
    return (
        np.asarray(groups.queries[rows]),
        np.array(groups.passages[rows]),
        np.array(groups.kept[rows]),
        np.array(groups.relevant[rows]),
        teacher,
        assistants,
    )


# --- resume ---


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("killed_at", [2, 4, 6, 9])
def test_killed_and_restored_is_bitwise_the_same(setting: Setting, monkeypatch: pytest.MonkeyPatch, dropout: float, killed_at: int) -> None:
    """10 steps = some steps, an end at any moment, a new process, the rest: weights, and each step once in steps.jsonl."""
    groups = setting.groups()
    whole = setting.trainer("whole", dropout=dropout)
    run(whole, groups)

    first = setting.trainer("killed", dropout=dropout)
    real = Trainer._train_step

    def dying(self: Trainer, *arguments: Any) -> dict[str, Any]:
        if self.step == killed_at:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            run(first, groups)
    torch.manual_seed(987)  # another process has drawn other numbers
    torch.rand(5)
    second = setting.trainer("killed", dropout=dropout)
    second.restore()
    assert second.step == killed_at // 4 * 4
    run(second, groups)
    assert equal(weights(whole), weights(second))
    assert [line["step"] for line in lines_of(setting.root / "killed")] == list(range(STEPS))
    assert without_speed(lines_of(setting.root / "killed")) == without_speed(lines_of(setting.root / "whole"))


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


@pytest.mark.parametrize("at", ["while writing", "before the old one is removed"])
def test_there_is_a_whole_checkpoint_at_every_moment(setting: Setting, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """A kill while step 8's checkpoint is written must leave step 4's, not none."""
    groups = setting.groups()
    trainer = setting.trainer("t")
    run(trainer, groups, last=4)
    rmtree = shutil.rmtree

    def die(*_: Any) -> None:
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


def test_keep_lines_drops_a_half_written_line(tmp_path: Path) -> None:
    """What a kill leaves at the end of a file is not JSON; everything before it is kept to the byte."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"step": 0, "x": 1.50}\n{"step": 1}\n{"step": 2}\n{"step"')
    keep_lines(path, lambda line: line["step"] != 1)
    assert path.read_text() == '{"step": 0, "x": 1.50}\n{"step": 2}\n'


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


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_the_gradient_norm_is_clipped(setting: Setting, clip: float) -> None:
    """What reaches AdamW has norm `clip` when the true norm is greater; 0 means never."""
    norms = []
    trainer = setting.trainer("t", clip=clip)

    def spy(*_: Any) -> None:
        grads = [p.grad for p in trainer.student.network.parameters() if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in grads]).norm()))

    trainer.optimizer.register_step_pre_hook(spy)
    run(trainer, setting.groups(), last=2)
    if clip:
        assert norms == pytest.approx([clip, clip], rel=1e-3)
    else:
        assert min(norms) > 0.02


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
    trainer.loss(*batch(groups, slice(0, 20)))
    distinct = len(np.unique(groups.passages[:20]))
    assert distinct < 20 * 4  # there is something to save
    assert sum(rows) == 20 + distinct


@pytest.mark.parametrize("budget", [24, 100])
def test_micro_batches_do_not_show(setting: Setting, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    """Vectors come back in the order of the batch whatever is encoded together."""
    trainer, groups = setting.trainer("t"), setting.groups()
    whole, _ = trainer.loss(*batch(groups, slice(0, 8)))
    monkeypatch.setattr("mta4dpr.distill.trainer.MICRO_BATCH_TOKENS", budget)
    parts, _ = trainer.loss(*batch(groups, slice(0, 8)))
    assert parts.item() == pytest.approx(whole.item(), rel=1e-4)


def slow_loss(setting: Setting, trainer: Trainer, groups: Groups, rows: range) -> dict[str, float]:
    """The method's text, a query and a passage at a time, in float64; KL criterion, all fused assistants, one for the batch."""
    options, queries, label = trainer.options, trainer.queries, str(groups.about["teacher"])
    reading = trainer.student.reading
    trainer.student.network.eval()

    def vector(store: Any, n: int, longest: int) -> np.ndarray:
        ids, mask = (torch.from_numpy(a) for a in store.batch(np.array([n]), longest))
        with torch.no_grad():
            return trainer.student.forward(ids, mask)[0].double().numpy()

    def softmax(values: list[float]) -> list[float]:
        top = max(values)
        total = sum(math.exp(v - top) for v in values)
        return [math.exp(v - top) / total for v in values]

    def kl(p: list[float], q: list[float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)

    in_batch = sorted({int(p) for r in rows for p in groups.passages[r]})
    of_passage = {p: vector(trainer.texts.passages, p, reading.passage_length) for p in in_batch}
    of_query = {r: vector(trainer.texts.queries, int(groups.queries[r]), reading.query_length) for r in rows}
    ce, kl_teacher, by_assistant = 0.0, 0.0, {}
    for r in rows:
        n, group = int(groups.queries[r]), [int(p) for p in groups.passages[r]]
        kept = [p for p, k in zip(group, groups.kept[r], strict=True) if k]
        positives = [p for p, k in zip(group, groups.relevant[r], strict=True) if k]
        dropped = set(group) - set(kept)
        score = {p: float(of_query[r] @ of_passage[p]) / options.tau_student for p in in_batch}
        others = [p for p in in_batch if p not in positives and p not in dropped and p not in queries.relevant[n]]
        total = math.log(sum(math.exp(score[p]) for p in [*positives, *others]))
        ce += sum(total - score[p] for p in positives) / len(positives) / len(rows)
        student = softmax([score[p] for p in kept])
        place = [i for i, k in enumerate(groups.kept[r]) if k]
        of_model = {
            model: softmax([float(stored[r][i]) / groups.about["temperatures"][model] for i in place])
            for model, stored in groups.scores.items()
        }
        teacher = of_model.pop(label)
        kl_teacher += kl(teacher, student) / len(rows)
        for size in (2, 3):
            for subset in itertools.combinations("abc", size):
                of_model["+".join(subset)] = [sum(one) / size for one in zip(*(of_model[m] for m in subset), strict=True)]
        for model, p in of_model.items():
            near, term = by_assistant.get(model, (0.0, 0.0))
            by_assistant[model] = (near + kl(teacher, p) / len(rows), term + kl(p, student) / len(rows))
    best = min(by_assistant, key=lambda model: by_assistant[model][0])
    a, b, c = trainer.strategy.weights(options)
    kl_assistant = by_assistant[best][1]
    return {
        "loss": a * ce + b * kl_teacher + c * kl_assistant,
        "ce": ce,
        "kl_teacher": kl_teacher,
        "kl_assistant": kl_assistant,
        "assistant": best,
    }


@pytest.mark.parametrize("rule", ["keep", "drop", "relabel"])
@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_the_loss_is_the_methods(setting: Setting, strategy: str, rule: str) -> None:
    """a*CE + b*KL + c*KL against a slow second writing of section 4, on 12 queries that share passages."""
    trainer = setting.trainer("t", strategy=strategy, false_negatives=rule, ce_weight=0.3, teacher_weight=0.6, assistant_weight=0.4)
    groups = setting.groups(false_negatives=rule)
    rows = range(4, 16)
    if rule != "keep":
        assert groups.about["false_negatives"] > 10
    trainer.student.network.eval()
    loss, record = trainer.loss(*batch(groups, slice(rows.start, rows.stop)))
    expected = slow_loss(setting, trainer, groups, rows)
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-4)
    a, b, c = trainer.strategy.weights(trainer.options)
    for weight, name in ((a, "ce"), (b, "kl_teacher"), (c, "kl_assistant")):
        assert record[name] == (pytest.approx(expected[name], rel=1e-4) if weight else None)
    assert record["assistant"] == (expected["assistant"] if c else None)


def test_a_passage_relevant_to_another_query_of_the_batch_is_masked_for_it(setting: Setting) -> None:
    """Query 0's relevant passages are 0 and 1; query 1's positive is 1: it is no negative of query 0, and 0 is one of query 1's."""
    trainer = setting.trainer("t")
    numbers, passages = np.array([0, 1]), np.array([[0, 10, 11, 12], [1, 0, 13, 14]])
    distinct, place = np.unique(passages, return_inverse=True)
    first = np.zeros((2, 4), bool)
    first[:, 0] = True
    kept = np.ones((2, 4), bool)
    kept[0, 3] = False
    positives, candidates = trainer._in_batch(numbers, distinct, place.reshape(2, 4), kept, first)
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
    positives, candidates = trainer._in_batch(np.array([0, 4]), distinct, place.reshape(2, 4), np.ones((2, 4), bool), relevant)
    assert distinct[positives[0]].tolist() == [0, 10]
    assert distinct[positives[1]].tolist() == [4]
    assert distinct[candidates[1]].tolist() == [0, 4, 10, 11, 12, 13, 14]


def test_group_order_does_not_change_the_loss(setting: Setting) -> None:
    """Negatives in another order, and all that is stored beside them: the same loss and the same assistant."""
    trainer, groups = setting.trainer("t"), setting.groups()
    numbers, passages, kept, relevant, teacher, assistants = batch(groups, slice(0, 8))
    plain, record = trainer.loss(numbers, passages, kept, relevant, teacher, assistants)
    order = [0, 3, 1, 2]
    turned, again = trainer.loss(
        numbers, passages[:, order], kept[:, order], relevant[:, order], teacher[:, order], {a: p[:, order] for a, p in assistants.items()}
    )
    assert turned.item() == pytest.approx(plain.item(), rel=1e-5)
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
        found.append([trainer.loss(*batch(groups, slice(n, n + 4)))[1]["assistant"] for n in range(0, 40, 4)])
    assert found[0] == found[1]
    assert len({str(one) for one in found[0]}) > 1  # the choice is not constant, so equality says something


def test_query_granularity_takes_each_querys_own_target(setting: Setting) -> None:
    """Batches of one query choose alike under both granularities; a batch's KL is then the mean of those."""
    groups, by_query = setting.groups(), setting.trainer("q", granularity="query")
    single = setting.trainer("b", granularity="batch")
    record = by_query.loss(*batch(groups, slice(0, 8)))[1]
    alone = [single.loss(*batch(groups, slice(n, n + 1)))[1] for n in range(8)]
    assert record["assistant"] == [one["assistant"] for one in alone]
    assert len(set(record["assistant"])) > 1
    assert record["kl_assistant"] == pytest.approx(np.mean([one["kl_assistant"] for one in alone]), rel=1e-4)


@pytest.mark.parametrize("select", ["kl", "footrule", "rbo"])
@pytest.mark.parametrize("fused", ["all", "none", [["a", "c"]]])
def test_what_may_be_chosen(setting: Setting, select: str, fused: Any) -> None:
    """Every criterion runs with every set of fused assistants, and chooses among those that are offered."""
    trainer = setting.trainer("t", select=select, fused=fused, granularity="query")
    record = trainer.loss(*batch(setting.groups(), slice(0, 20)))[1]
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
    assert "nan at step 5" in message
    assert str(setting.root / "t" / "checkpoint") in message
    for n in groups.queries[20:24]:
        assert f"'q{n}'" in message
    again = setting.trainer("t")
    again.restore()
    assert again.step == 5
    assert all(torch.isfinite(w).all() for w in weights(again).values())


def test_all_strategies_start_alike_and_see_the_same_groups(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 8: a row differs in the strategy alone."""
    groups, seen, starts = setting.groups(), {}, {}
    real = Trainer.loss

    def spying(self: Trainer, numbers: Any, passages: Any, *rest: Any) -> Any:
        seen.setdefault(id(self.strategy), []).append((numbers.tolist(), passages.tolist()))
        return real(self, numbers, passages, *rest)

    monkeypatch.setattr(Trainer, "loss", spying)
    ends = {}
    for name in STRATEGIES:
        trainer = setting.trainer(name, strategy=name)
        starts[name] = weights(trainer)
        run(trainer, groups, last=3)
        ends[name] = weights(trainer)
    assert equal(starts["kd"], starts["mta4dpr"])
    assert equal(starts["kd"], starts["contrastive"])
    assert len(seen) == 3
    assert all(one == seen[id(STRATEGIES["kd"])] for one in seen.values())
    assert not equal(ends["kd"], ends["mta4dpr"])
    assert not equal(ends["kd"], ends["contrastive"])


def test_steps_jsonl_has_the_contracts_fields(setting: Setting) -> None:
    """Section 3: loss and its terms, chosen assistant, lr, examples/s."""
    run(setting.trainer("t"), setting.groups(), last=2)
    for step, line in enumerate(lines_of(setting.root / "t")):
        assert list(line) == ["round", "step", "loss", "ce", "kl_teacher", "kl_assistant", "assistant", "lr", "examples_per_second"]
        assert (line["round"], line["step"]) == (0, step)
        assert line["loss"] == pytest.approx(0.2 * line["ce"] + 0.5 * line["kl_teacher"] + 0.5 * line["kl_assistant"], rel=1e-5)
