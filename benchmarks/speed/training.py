"""Training examples a second: this package's trainer against sentence-transformers' with DistillKLDivLoss.

    uv run --with datasets python benchmarks/speed/training.py [--steps 40] [--queries 8] [--group 8]

Both train the quickstart's 2-layer student by KL to the same teacher scores, on the same groups in the same order, to 64 tokens,
without dropout, with frozen word embeddings; each in a process of its own, ours first and last. The first losses must agree:
sentence-transformers' is tau^2 times ours. The first WARM_UP steps are not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WARM_UP = 5
TAU = 0.05


def ours(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Trains with `train`'s own function; leaves the groups in `folder` for the other side."""
    import shutil

    from mta4dpr.commands.train import train
    from mta4dpr.experiment.request import Request

    settings = {
        "rounds": 1, "steps": arguments.steps, "batch_queries": arguments.queries, "group": arguments.group, "ce_weight": 0,
        "tau_student": TAU, "tau_teacher": TAU, "warmup": 0, "checkpoint_every": arguments.steps,
    }  # fmt: skip
    shutil.rmtree(folder / "training", ignore_errors=True)
    request = Request("quickstart", systems=("kd",), settings=tuple(f"{k}={v}" for k, v in settings.items()), output=folder, redo="train")
    train(request)
    lines = [json.loads(line) for line in (folder / "training/kd/steps.jsonl").read_text().splitlines()]
    seconds = [arguments.queries / line["examples_per_second"] for line in lines[WARM_UP:]]
    return {"examples_per_second": arguments.queries * len(seconds) / sum(seconds), "first_loss": lines[0]["loss"]}


def theirs(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss
    from transformers import TrainerCallback

    from mta4dpr.config.benchmark import ModelSpec
    from mta4dpr.config.options import Distill
    from mta4dpr.distill.groups import open_groups
    from mta4dpr.distill.trainer import set_dropout
    from mta4dpr.experiment.experiment import open_experiment
    from mta4dpr.experiment.request import Request
    from mta4dpr.models.encoder import load_encoder
    from mta4dpr.stages.teaching import open_training_queries

    experiment = open_experiment(Request("quickstart", systems=("kd",), output=folder))
    torch.set_num_threads(experiment.threads)
    queries, corpus = open_training_queries(experiment, Distill()), experiment.corpus
    groups = open_groups(folder / "training/kd/round-0/groups")
    assert groups is not None
    columns: dict[str, Any] = {"query": [queries.texts[n] for n in groups.queries]}
    for n in range(arguments.group):
        columns[f"passage_{n}"] = [corpus.joined(int(p), " ") for p in groups.passages[:, n]]
    columns["label"] = groups.scores[groups.about["teacher"]].tolist()
    spec = ModelSpec(model="all-MiniLM-L6-v2", layers=[0, 5], query_length=64, passage_length=64)
    network = load_encoder("student", spec, device=experiment.place.device).network
    network.max_seq_length = 64
    set_dropout(network, 0.0)
    network[0].model.get_input_embeddings().requires_grad_(False)
    times: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            losses.append(logs.get("loss", float("nan")))

    def in_order(rows: Any, *, batch_size: int, drop_last: bool, **_: Any) -> Any:
        return torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(rows), batch_size, drop_last)

    how = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "theirs"), max_steps=arguments.steps, per_device_train_batch_size=arguments.queries, learning_rate=3e-4,
        batch_sampler=in_order, save_strategy="no",
        logging_steps=1, report_to="none", use_cpu=True, dataloader_drop_last=True, disable_tqdm=True,
    )  # fmt: skip
    loss = DistillKLDivLoss(network, student_temperature=TAU, teacher_temperature=TAU)
    trainer = SentenceTransformerTrainer(model=network, args=how, train_dataset=Dataset.from_dict(columns), loss=loss, callbacks=[Clock()])
    trainer.train()
    steps = len(times) - WARM_UP
    return {"examples_per_second": arguments.queries * steps / (times[-1] - times[WARM_UP - 1]), "first_loss": losses[0] / TAU**2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps((ours if arguments.side == "ours" else theirs)(arguments.folder, arguments)))
        return
    found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as folder:
        for side in ("ours", "theirs", "theirs", "ours"):
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", folder]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
            found[side].append(json.loads(out))
            rate, loss = found[side][-1]["examples_per_second"], found[side][-1]["first_loss"]
            print(f"{side:7} {rate:7.2f} examples/s, loss of the first step {loss:.5f}")
    first = [one["first_loss"] for of_side in found.values() for one in of_side]
    if max(first) - min(first) > 1e-3 * max(first):
        raise SystemExit("the two sides did not begin with the same loss, so they do not train the same; nothing is compared")
    rates = {side: statistics.mean(one["examples_per_second"] for one in of_side) for side, of_side in found.items()}
    print(f"mta4dpr trains {rates['ours'] / rates['theirs']:.2f} times as many examples a second ({arguments.queries} x {arguments.group})")


if __name__ == "__main__":
    main()
