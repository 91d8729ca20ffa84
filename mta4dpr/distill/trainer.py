"""Trains the student on the groups of one round; stops and goes on at any step with the same result.

Nothing here draws at random but dropout, which is seeded by the step: a checkpoint is weights, optimiser and step.
One line a step goes to steps.jsonl.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.benchmark import Distill
from mta4dpr.data.tokens import TokenStore
from mta4dpr.distill.assistants import distances, fused_subsets, select, with_fused
from mta4dpr.distill.groups import Groups
from mta4dpr.distill.losses import contrastive_loss, kl_loss
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.strategies import Strategy
from mta4dpr.errors import UserError
from mta4dpr.files import folder_written_aside, read_json, write_json
from mta4dpr.models.encoder import Encoder, batches_by_length
from mta4dpr.progress import track

log = logging.getLogger(__name__)

MICRO_BATCH_TOKENS = 2048  # passages of similar length encoded together; keeps padding small


@dataclass
class Texts:
    """Token stores of the training queries and of the corpus, by the student's tokenizer."""

    queries: TokenStore
    passages: TokenStore


class Trainer:
    """A student, its optimiser and the step it is at. The optimiser goes on over rounds; the student is never reset [A]."""

    def __init__(
        self, student: Encoder, strategy: Strategy, options: Distill, queries: TrainingQueries, texts: Texts, folder: Path, seed: int
    ) -> None:
        import torch

        self.student, self.strategy, self.options, self.queries, self.texts = student, strategy, options, queries, texts
        self.folder, self.seed, self.step = folder, seed, 0
        if options.freeze_embeddings:
            student.transformer.get_input_embeddings().requires_grad_(False)
        set_dropout(student.network, options.dropout)
        trainable = [p for p in student.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=options.lr, weight_decay=options.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._lr_factor)

    def _lr_factor(self, step: int) -> float:
        """Linear warm-up, then linear decay to 0 at the last step of all rounds."""
        if step < self.options.warmup:
            return (step + 1) / (self.options.warmup + 1)
        return max(0.0, (self.options.steps - step) / max(1, self.options.steps - self.options.warmup))

    # --- checkpoints ---

    def save(self) -> None:
        import torch
        from safetensors.torch import save_file

        place = self.folder / "checkpoint" / f"{self.step:08}"
        with folder_written_aside(place) as aside:
            weights = {name: tensor.contiguous() for name, tensor in self.student.network.state_dict().items()}
            save_file(weights, str(aside / "weights.safetensors"))
            torch.save({"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}, aside / "optimizer.pt")
            write_json(aside / "checkpoint.json", {"step": self.step})
        for other in place.parent.iterdir():  # only now: there is a whole checkpoint at every moment
            if other != place:
                shutil.rmtree(other)

    def restore(self) -> None:
        """Goes back to the last checkpoint, if there is one; later lines of steps.jsonl are cut off."""
        import torch
        from safetensors.torch import load_file

        places = sorted((self.folder / "checkpoint").glob("[0-9]*/checkpoint.json"))
        if places:
            place = places[-1].parent
            self.student.network.load_state_dict(load_file(str(place / "weights.safetensors")))
            state = torch.load(place / "optimizer.pt", weights_only=True, map_location=self.student.device)
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.step = int(read_json(place / "checkpoint.json")["step"])
        keep_lines(self.folder / "steps.jsonl", lambda line: line["step"] < self.step)

    # --- one round ---

    def train_round(self, groups: Groups, *, round_number: int, first_step: int, last_step: int, label: str) -> None:
        """Steps from where the trainer stands to `last_step`; the round's groups start at `first_step`."""
        with open(self.folder / "steps.jsonl", "a", encoding="utf-8") as lines:
            for step in track(range(self.step, last_step), label, "steps"):
                started = time.perf_counter()
                size = self.options.batch_queries
                terms = self._train_step(groups, slice((step - first_step) * size, (step - first_step + 1) * size))
                seconds = time.perf_counter() - started
                record = {"round": round_number, "step": step, **terms, "examples_per_second": round(size / seconds, 2)}
                lines.write(json.dumps(record) + "\n")
                self.step = step + 1
                if self.step % self.options.checkpoint_every == 0 or self.step == last_step:
                    lines.flush()
                    self.save()

    def _train_step(self, groups: Groups, rows: slice) -> dict[str, Any]:
        import torch

        self.student.network.train()
        torch.manual_seed(self.seed * 1_000_003 + self.step)  # dropout is a pure function of the step
        numbers = np.asarray(groups.queries[rows])
        passages = np.array(groups.passages[rows])
        teacher, assistants = groups.log_distributions(rows, self.student.device)
        loss, record = self.loss(numbers, passages, np.array(groups.kept[rows]), np.array(groups.relevant[rows]), teacher, assistants)
        record["lr"] = self.schedule.get_last_lr()[0]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.student.network.parameters(), self.options.clip or np.inf)
        if not torch.isfinite(loss) or not torch.isfinite(norm):
            raise UserError(
                f"the loss became {loss.item()} and its gradient {norm.item()} at step {self.step} (queries "
                f"{[self.queries.ids[n] for n in numbers]}); the last good checkpoint is in {self.folder / 'checkpoint'}. Try a smaller "
                "distill.lr, or a larger distill.tau_student"
            )
        self.optimizer.step()
        self.schedule.step()
        return {"loss": loss.item(), **record}

    def loss(
        self, numbers: np.ndarray, passages: np.ndarray, kept: np.ndarray, relevant: np.ndarray, teacher: Any, assistants: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """L_total of a batch of groups, and its terms for the log."""
        import torch

        options, device = self.options, self.student.device
        distinct, place = np.unique(passages, return_inverse=True)  # each passage of the batch is encoded once
        query_vectors = self._encode(self.texts.queries, numbers, self.student.reading.query_length)
        passage_vectors = self._encode(self.texts.passages, distinct, self.student.reading.passage_length)
        logits = query_vectors @ passage_vectors.T / options.tau_student  # (queries, distinct passages)
        in_group = torch.from_numpy(place.reshape(passages.shape)).to(device)
        keep = torch.from_numpy(kept).to(device)
        student = logits.gather(1, in_group).masked_fill(~keep, -np.inf).log_softmax(dim=-1)  # (queries, group)

        a, b, c = self.strategy.weights(options)
        record: dict[str, Any] = {"ce": None, "kl_teacher": None, "kl_assistant": None, "assistant": None}
        loss = torch.zeros((), device=device)
        if a:
            positives, candidates = self._in_batch(numbers, distinct, place.reshape(passages.shape), kept, relevant)
            ce = contrastive_loss(logits, torch.from_numpy(positives).to(device), torch.from_numpy(candidates).to(device))
            loss, record["ce"] = loss + a * ce, ce.item()
        if b:
            kl_teacher = kl_loss(teacher, student)
            loss, record["kl_teacher"] = loss + b * kl_teacher, kl_teacher.item()
        if c:
            offered = with_fused(assistants, fused_subsets(list(assistants), options.fused))
            distance = distances(options.select, teacher, offered, rbo_p=options.rbo_p)
            chosen = select(distance, options.granularity)
            target = torch.stack(list(offered.values()))[chosen, torch.arange(len(numbers), device=device)]
            kl_assistant = kl_loss(target, student)
            loss, record["kl_assistant"] = loss + c * kl_assistant, kl_assistant.item()
            labels = [list(offered)[n] for n in chosen.tolist()]
            record["assistant"] = labels[0] if options.granularity == "batch" else labels
        return loss, record

    def _in_batch(
        self, numbers: np.ndarray, distinct: np.ndarray, place: np.ndarray, kept: np.ndarray, relevant: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(positives, candidates) of each query among the batch's passages, both (queries, distinct) bool."""
        positives = np.zeros((len(numbers), len(distinct)), bool)
        candidates = np.ones_like(positives)
        for row, n in enumerate(numbers):
            candidates[row, np.isin(distinct, self.queries.relevant[n])] = False  # relevant but not this group's positive
            candidates[row, place[row][~kept[row]]] = False
            positives[row, place[row][relevant[row]]] = True
        return positives, candidates | positives

    def _encode(self, tokens: TokenStore, numbers: np.ndarray, longest: int) -> Any:
        """Vectors with gradients, (texts, dimensions), in micro-batches of similar length."""
        import torch

        batches = batches_by_length(tokens.lengths(longest)[numbers], MICRO_BATCH_TOKENS)
        vectors = []
        for rows in batches:
            ids, mask = (torch.from_numpy(array).to(self.student.device) for array in tokens.batch(numbers[rows], longest))
            vectors.append(self.student.forward(ids, mask))
        back = np.argsort(np.concatenate(batches), kind="stable")
        return torch.cat(vectors)[torch.from_numpy(back).to(self.student.device)]


def set_dropout(network: Any, share: float) -> None:
    """Sets every dropout of a network, attention's included."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share


def keep_lines(path: Path, wanted: Any) -> None:
    """Keeps the whole lines of a JSON-lines file that are wanted; a half-written last line goes."""
    if not path.exists():
        return
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(text)
        except json.JSONDecodeError:
            break
        if wanted(record):
            lines.append(text + "\n")
    aside = path.with_suffix(".part")
    aside.write_text("".join(lines), encoding="utf-8")
    aside.replace(path)
