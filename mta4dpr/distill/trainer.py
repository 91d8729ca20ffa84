"""Trains the student on the groups of one round; stops and goes on at any step with the same result.

Nothing here draws at random but dropout, which is seeded by step and micro-batch: a checkpoint is weights, optimiser and step.
One line a step goes to steps.jsonl.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.config.options import Distill
from mta4dpr.data.tokens import TokenStore
from mta4dpr.distill.distributions import log_distribution
from mta4dpr.distill.gradients import Computation, MatrixSource, PairSource, TextSource, backward, sum_gradients
from mta4dpr.distill.groups import Groups
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.registry import criterion_named
from mta4dpr.distill.step import Step
from mta4dpr.distill.strategy import Requirement, Strategy, Terms
from mta4dpr.distill.terms import STEP_NUMBERS, TOTAL
from mta4dpr.distill.training_folder import checkpoints, keep_lines
from mta4dpr.errors import UserError
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.machine.kept import sealed_folder
from mta4dpr.machine.progress import track
from mta4dpr.models.encoder import Encoder

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


@dataclass
class Texts:
    """Token stores of the training queries and of the corpus, by one encoder's tokenizer."""

    queries: TokenStore
    passages: TokenStore


@dataclass(frozen=True)
class TrainerSetup:
    """What a student is trained with."""

    options: Distill
    queries: TrainingQueries
    texts: Texts  # by the student's tokenizer
    folder: Path  # checkpoints and steps.jsonl go there
    seed: int
    accelerator: Any = None  # one of Accelerate's, for several processes; without it there is one
    teacher: tuple[Any, Texts] | None = None  # encoder or reranker, and its texts, where the teacher is trained too
    assistants: int = 0  # their number, for a policy
    standing: Mapping[str, float] = field(default_factory=dict)  # Compare's measure of teacher and assistants on D_eval, by label
    tensorboard: bool = False  # writes the numbers of steps.jsonl for TensorBoard too


@dataclass
class Batch:
    """The groups of one step, of all processes together. Log distributions are tensors (queries, group) of stored scores."""

    numbers: np.ndarray  # (queries,) query numbers
    distinct: np.ndarray  # the passages of the batch, each once
    place: np.ndarray  # (queries, group): where in `distinct`
    kept: np.ndarray  # (queries, group) bool
    relevant: np.ndarray  # (queries, group) bool
    teacher: Any  # log distributions
    assistants: dict[str, Any]  # log distributions by label
    previous: Any  # log distributions of the student before the round, or None
    teacher_name: str
    teacher_temperature: float


class Trainer:
    """A student, its optimiser and the step it is at. The optimiser goes on over rounds; the student is never reset [A]."""

    def __init__(self, student: Encoder, strategy: Strategy, setup: TrainerSetup) -> None:
        import torch
        from accelerate import Accelerator

        options = setup.options
        self.student, self.strategy, self.options, self.step = student, strategy, options, 0
        self.queries, self.texts, self.folder, self.seed = setup.queries, setup.texts, setup.folder, setup.seed
        self.teacher, self.standing = setup.teacher, dict(setup.standing)
        self.accelerator = setup.accelerator or Accelerator(cpu=student.device.type == "cpu")
        self.batch_size = options.batch_queries * self.accelerator.num_processes
        self.dtype = next(student.network.parameters()).dtype
        self.networks: dict[str, Any] = {"student": student.network}  # all that is trained; `policy` alike in every process
        rates = {"student": options.lr, "teacher": options.teacher_lr, "policy": options.policy_lr}
        if self.teacher:
            self.networks["teacher"] = self.teacher[0].network
        if Requirement.POLICY in strategy.requires:
            from mta4dpr.distill.policy import Policy

            self.networks["policy"] = Policy(1 + setup.assistants, self.batch_size).to(student.device, self.dtype)
        for name, network in self.networks.items():
            set_dropout(network, options.dropout)
            if options.freeze_embeddings and name != "policy":
                _word_embeddings(network).requires_grad_(False)
        self.trainable = {name: [p for p in n.parameters() if p.requires_grad] for name, n in self.networks.items()}
        parameters = [{"params": of_network, "lr": rates[name]} for name, of_network in self.trainable.items()]
        self.optimizer = torch.optim.AdamW(parameters, weight_decay=options.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._lr_factor)
        self.scaler = torch.amp.GradScaler(student.device.type, enabled=options.precision == "float16")
        self._wants_tensorboard = setup.tensorboard
        self._tracker: Any = None

    def _lr_factor(self, step: int) -> float:
        """Linear warm-up, then linear decay to 0 at the last step of all rounds."""
        if step < self.options.warmup:
            return (step + 1) / (self.options.warmup + 1)
        return max(0.0, (self.options.steps - step) / max(1, self.options.steps - self.options.warmup))

    # --- checkpoints ---

    def save(self) -> None:
        """Writes a checkpoint of this step, then removes those beyond `keep_checkpoints`; the main process alone does."""
        import torch
        from safetensors.torch import save_model

        if not self.accelerator.is_main_process:
            return
        place = self.folder / "checkpoint" / f"{self.step:08}"
        with sealed_folder(place) as aside:
            for name, network in self.networks.items():
                save_model(network, str(aside / f"{name}.safetensors"))  # of weights that are shared (T5), each once
            state: dict[str, Any] = {"optimizer": self.optimizer, "schedule": self.schedule, "scaler": self.scaler}
            with open(aside / "optimizer.pt", "wb") as file:  # a path would leave no trace of a full disk
                torch.save({name: part.state_dict() for name, part in state.items()}, file)
            write_json(aside / "checkpoint.json", {"step": self.step})
        for other in checkpoints(self.folder)[: -self.options.keep_checkpoints]:
            shutil.rmtree(other)  # only now: there is a whole checkpoint at every moment

    def restore(self) -> None:
        """Goes back to the last checkpoint, if there is one; later lines of steps.jsonl are cut off."""
        import torch
        from safetensors.torch import load_model

        places = checkpoints(self.folder)
        if places:
            place = places[-1]
            for name, network in self.networks.items():
                load_model(network, str(place / f"{name}.safetensors"))
            state = torch.load(place / "optimizer.pt", weights_only=True, map_location=self.student.device)
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.scaler.load_state_dict(state["scaler"])
            self.step = int(read_json(place / "checkpoint.json")["step"])
        if self.accelerator.is_main_process:
            for half_written in (self.folder / "checkpoint").glob(".*.part"):  # a kill left it
                shutil.rmtree(half_written)
            keep_lines(self.folder / "steps.jsonl", lambda line: line["step"] < self.step)

    def _last_checkpoint(self) -> str:
        places = checkpoints(self.folder)
        return f"the last good checkpoint is {places[-1]}" if places else "there is no checkpoint before it"

    # --- one round ---

    def train_round(self, groups: Groups, *, round_number: int, first_step: int, last_step: int, label: str) -> None:
        """Steps from where the trainer stands to `last_step`; the round's groups start at `first_step`.

        `label` is what the progress bar says. Raises UserError where a loss or a gradient is no finite number.
        """
        main = self.accelerator.is_main_process
        with open(self.folder / "steps.jsonl" if main else os.devnull, "a", encoding="utf-8", buffering=1) as lines:
            for step in track(range(self.step, last_step), label, "steps"):
                started = time.perf_counter()
                terms = self._train_step(groups, round_number, (step - first_step) * self.batch_size)
                seconds = time.perf_counter() - started
                rate = float(f"{self.batch_size / seconds:.4g}")  # digits, not places: never 0, however slow a step is
                record = {"round": round_number, "step": step, **terms, "examples_per_second": rate}
                lines.write(json.dumps(record) + "\n")
                self._track(record)
                self.step = step + 1
                if self.step % self.options.checkpoint_every == 0 or self.step == last_step:
                    self.save()

    def _track(self, record: dict[str, Any]) -> None:
        """The numbers of a step for TensorBoard, where it is asked for."""
        if not self._wants_tensorboard or not self.accelerator.is_main_process:
            return
        if self._tracker is None:
            from accelerate.tracking import TensorBoardTracker

            self._tracker = TensorBoardTracker(self.folder.name, self.folder / "tensorboard", purge_step=self.step)
            self._tracker.start()
        numbers = {name: value for name, value in record.items() if isinstance(value, float)}
        self._tracker.log(numbers, step=record["step"])

    def _train_step(self, groups: Groups, round_number: int, first: int) -> dict[str, Any]:
        import torch

        for network in self.networks.values():
            network.train()
        batch = self._batch(groups, slice(first, first + self.batch_size))
        self.optimizer.zero_grad(set_to_none=True)
        loss, record = self.loss(batch, round_number)
        record["lr"] = self.schedule.get_last_lr()[0]
        for name, parameters in self.trainable.items():
            if name != "policy":
                sum_gradients(parameters, self.accelerator)
        self.scaler.unscale_(self.optimizer)
        clip = self.options.clip or np.inf
        norms = [torch.nn.utils.clip_grad_norm_(parameters, clip) for parameters in self.trainable.values()]
        if not torch.isfinite(loss) or not (self.scaler.is_enabled() or all(torch.isfinite(norm) for norm in norms)):
            raise UserError(
                f"the loss became {loss.item()} and its gradient {norms[0].item()} at step {self.step} (queries "
                f"{[self.queries.ids[n] for n in batch.numbers]}); {self._last_checkpoint()}. Try a smaller distill.lr, or a larger "
                "distill.tau_student"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return {"loss": loss.item(), **record}

    def _batch(self, groups: Groups, rows: slice) -> Batch:
        passages = np.array(groups.passages[rows])
        distinct, place = np.unique(passages, return_inverse=True)
        teacher, assistants, previous = groups.log_distributions(rows, self.student.device)
        return Batch(
            np.asarray(groups.queries[rows]),
            distinct,
            place.reshape(passages.shape),
            np.array(groups.kept[rows]),
            np.array(groups.relevant[rows]),
            teacher,
            assistants,
            previous,
            groups.about["teacher"],
            groups.about["temperatures"][groups.about["teacher"]],
        )

    def loss(self, batch: Batch, round_number: int = 0) -> tuple[Tensor, dict[str, Any]]:
        """L_total of a batch of groups, a scalar, its gradient left in the networks; and the step's terms and notes for the log.

        Raises UserError where the strategy gives something else than terms (`checked_terms`).
        """
        import torch

        record: dict[str, Any] = dict.fromkeys(("ce", "kl_teacher", "kl_assistant", "assistant"))
        sources, read = self._sources(self.student, self.texts, batch)
        if self.teacher:
            of_teacher, read_teacher = self._sources(*self.teacher, batch)
        device, precision = self.student.device, self.options.precision

        def loss_of(matrices: Sequence[Tensor]) -> Tensor:
            over, in_groups = read(matrices[:2])
            step = self._step(batch, round_number, over, in_groups, read_teacher(matrices[2:])[1] if self.teacher else [])
            terms = checked_terms(self.strategy.loss(step), step.notes)
            record.update({name: value.item() for name, (_, value) in terms.items()}, **step.notes)
            return sum((weight * value for weight, value in terms.values()), torch.zeros((), dtype=self.dtype, device=device))

        computation = Computation(
            accelerator=self.accelerator,
            device=device,
            dtype=self.dtype,
            cached=self.options.gradient_cache,
            autocast=partial(torch.autocast, device.type, dtype=getattr(torch, precision), enabled=precision != "float32"),
        )
        loss = backward(
            [*sources, *(of_teacher if self.teacher else [])],
            loss_of,
            computation,
            seed=(self.seed, self.step),
            scale=float(self.scaler.scale(torch.ones((), device=device))),  # get_scale would leave the scaler unmade
        )
        return loss, record

    def _step(self, batch: Batch, round_number: int, scores: Tensor, in_groups: Sequence[Tensor], trained: Sequence[Tensor]) -> Step:
        """`scores` (queries, distinct) and `in_groups` (queries, group) are the student's; `trained` those of a teacher that is trained."""
        import torch

        options, device = self.options, self.student.device
        kept, relevant = (torch.from_numpy(array).to(device) for array in (batch.kept, batch.relevant))
        positives, candidates = (torch.from_numpy(array).to(device) for array in self._in_batch(batch))
        student, *student_layers = [log_distribution(one / options.tau_student, kept) for one in in_groups]
        teacher, *teacher_layers = [log_distribution(one / batch.teacher_temperature, kept) for one in trained] or [batch.teacher]
        return Step(
            number=self.step,
            round=round_number,
            seed=self.seed,
            options=options,
            logits=scores / options.tau_student,
            positives=positives,
            candidates=candidates,
            relevant=relevant,
            kept=kept,
            student=student,
            teacher=teacher.to(self.dtype),
            assistants={label: log_p.to(self.dtype) for label, log_p in batch.assistants.items()},
            previous=None if batch.previous is None else batch.previous.to(self.dtype),
            standing=self.standing,
            student_layers=student_layers,
            teacher_layers=teacher_layers,
            teacher_name=batch.teacher_name,
            policy=self.networks.get("policy"),
            criterion=criterion_named(options.select),
        )

    def _sources(self, encoder: Any, texts: Texts, batch: Batch) -> tuple[list[MatrixSource], Callable[[Sequence[Tensor]], Any]]:
        """What a network has to compute for a batch, and how its matrices become scores.

        Scores are ((queries, distinct), [(queries, group) of the output, then of each layer]). A cross-encoder scores the groups'
        pairs alone and leaves out the first.
        """
        import torch

        budget, layers = self.options.micro_batch_tokens, Requirement.LAYERS in self.strategy.requires
        if not isinstance(encoder, Encoder):
            passages = batch.distinct[batch.place]  # (queries, group)
            of_reranker = encoder.pairs(texts.queries, texts.passages)
            numbers = np.repeat(batch.numbers, passages.shape[1])
            pairs = PairSource(encoder, of_reranker, numbers, passages.ravel(), token_budget=budget)
            return [pairs], lambda matrices: (None, [matrices[0].reshape(passages.shape)])
        reading = encoder.reading
        both = ((texts.queries, batch.numbers, reading.query_length), (texts.passages, batch.distinct, reading.passage_length))
        sources: list[MatrixSource] = [TextSource(encoder, *one, token_budget=budget, layers=layers) for one in both]
        place = torch.from_numpy(batch.place).to(self.student.device)

        def scores(matrices: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
            cuts = [encoder.dimensions, *([encoder.hidden_size] * encoder.layers if layers else [])]
            over = [q @ p.T for q, p in zip(matrices[0].split(cuts, dim=1), matrices[1].split(cuts, dim=1), strict=True)]
            return over[0], [one.gather(1, place) for one in over]

        return sources, scores

    def _in_batch(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """(positives, candidates) of each query among the batch's passages, both (queries, distinct) bool."""
        positives = np.zeros((len(batch.numbers), len(batch.distinct)), bool)
        candidates = np.ones_like(positives)
        for row, n in enumerate(batch.numbers):
            candidates[row, np.isin(batch.distinct, self.queries.relevant[n])] = False  # relevant but not this group's positive
            candidates[row, batch.place[row][~batch.kept[row]]] = False
            positives[row, batch.place[row][batch.relevant[row]]] = True
        return positives, candidates | positives


def checked_terms(given: Any, notes: Mapping[str, Any]) -> Terms:
    """The terms of a loss that have weight. UserError for what is none, that has no gradient, or that steps.jsonl has already."""
    import torch

    expected = 'expected of a loss {"name": (weight, tensor)}, weights being numbers and tensors scalars'
    if not isinstance(given, Mapping):
        raise UserError(f"{expected}; found {type(given).__name__}")
    terms: Terms = {}
    for name, pair in given.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], int | float):
            raise UserError(f"{expected}; found {pair!r:.80} for {name!r}")
        weight, value = pair
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise UserError(f"{expected}; found {list(value.shape) if isinstance(value, torch.Tensor) else value!r:.80} for {name!r}")
        if weight:
            terms[str(name)] = (weight, value.reshape(()))
    if not any(value.requires_grad for _, value in terms.values()):
        raise UserError(f"{expected}; found {list(given)}, of which none with weight depends on the student, so nothing would be learnt")
    try:
        json.dumps(dict(notes))
    except (TypeError, ValueError) as error:
        raise UserError(f"step.notes is written as JSON: {error}; say .item() or .tolist() of a tensor") from error
    reserved = {*terms, *notes} & {TOTAL, *STEP_NUMBERS}
    if reserved:
        raise UserError(f"a term or note of a loss is called {min(reserved)!r}, which steps.jsonl has already; give it another name")
    return terms


def _word_embeddings(network: Any) -> Any:
    """Of a sentence-transformers model or of a transformers model."""
    transformer = network if hasattr(network, "get_input_embeddings") else network[0].model
    return transformer.get_input_embeddings()


def set_dropout(network: Any, share: float) -> None:
    """Sets every dropout of a torch module to `share`, attention's included, which some architectures (T5, ModernBERT) keep as a number."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        for name in ("dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, share)
