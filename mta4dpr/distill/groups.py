"""GenDataset: the groups of one round, with the scores of teacher and assistants stored beside them.

A group is one positive and group-1 negatives of a query (see draws.py). A round's dataset is a folder:

    queries.npy     (groups,) int32 query numbers in training order
    passages.npy    (groups, group) int32, the positive first
    kept.npy        (groups, group) bool, False for a dropped false negative
    relevant.npy    (groups, group) bool, True for the positive and relabelled false negatives
    scores/N.npy    (groups, group) float32, one file a scorer: the teacher, the assistants, the student before the round
    groups.json     labels, temperatures, counts: see `Groups.about`
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.options import Distill
from mta4dpr.data.columns import Column
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.distributions import entropy, fit_temperature, log_distribution, zscore
from mta4dpr.distill.draws import candidates_of_block, draw, pool_blocks, query_order
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.engines.scorer import Scorer
from mta4dpr.errors import UserError
from mta4dpr.machine.files import lack_of_disk, read_json, write_json
from mta4dpr.machine.kept import sealed_folder

log = logging.getLogger(__name__)

FIT_GROUPS = 2000  # groups a temperature is fitted on
PREVIOUS = "student before the round"


@dataclass
class Groups:
    """An open dataset of one round. Arrays are memory-mapped; the file's docstring has their shapes.

    `about` says: round, teacher and assistants (labels), previous (whether the student before the round is scored too),
    calibration and temperatures (of each label), depth of the pool, false_negatives, filled places and wrong_queries (counts),
    notes (of a label, for the reader), teacher_entropy (mean, in nats).
    """

    queries: np.ndarray
    passages: np.ndarray
    kept: np.ndarray
    relevant: np.ndarray
    scores: dict[str, np.ndarray]  # raw, by label
    about: dict[str, Any]

    def log_distributions(self, rows: slice, device: Any) -> tuple[Any, dict[str, Any], Any]:
        """Calibrated log distributions of those groups, as tensors (groups, group) on the device, -inf where a passage is not kept.

        They are the teacher's, each assistant's by label, and that of the student before the round, or None where it has no scores.
        """
        import torch

        kept = torch.from_numpy(np.array(self.kept[rows])).to(device)
        log_p = {}
        for label, stored in self.scores.items():
            scores = torch.from_numpy(np.array(stored[rows])).to(device)
            if label in self.about["assistants"] and self.about["calibration"] == "zscore":
                scores = zscore(scores, kept)
            log_p[label] = log_distribution(scores / self.about["temperatures"][label], kept)
        return log_p[self.about["teacher"]], {label: log_p[label] for label in self.about["assistants"]}, log_p.get(PREVIOUS)


@dataclass(frozen=True)
class RoundData:
    """What the groups of one round are made of."""

    number: int  # of the round, which decides draws and depth; 0 throughout in the static regime
    size: int  # groups
    teacher: Scorer
    assistants: Sequence[Scorer]  # those that score the groups
    rankings: Mapping[str, np.ndarray]  # passages of the models that mine, (train queries, depth) each: they are fused
    wrong: np.ndarray  # (train queries,) bool: what the student got wrong
    tau_teacher: float | str  # the teacher's temperature, or entropy:X
    previous: Scorer | None = None  # the student before the round
    only_wrong: bool = False  # leaves out all other queries (PROD's confusing queries), unless there is no wrong one
    # Draws from `scored` candidates of a query even where none of these scorers scores pairs: strategies that do without such a
    # scorer then see the same groups as those that ask it.
    few_candidates: bool = False


@dataclass
class _Calibration:
    """The temperature of each scorer, the teacher's mean entropy in nats, and what a reader should know of the fit."""

    temperatures: dict[str, float]
    teacher_entropy: float
    notes: dict[str, str] = field(default_factory=dict)


def open_groups(folder: Path) -> Groups | None:
    """The dataset in that folder; None where there is none."""
    if not (folder / "groups.json").exists():
        return None
    about = read_json(folder / "groups.json")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("queries", "passages", "kept", "relevant")}
    labels = [about["teacher"], *about["assistants"], *([PREVIOUS] if about["previous"] else [])]
    scores = {label: np.load(folder / "scores" / f"{n}.npy", mmap_mode="r") for n, label in enumerate(labels)}
    return Groups(**arrays, scores=scores, about=about)


def generate(folder: Path, data: RoundData, *, queries: TrainingQueries, corpus: Corpus, seed: int, options: Distill) -> Groups:
    """Draws and scores the groups of a round; writes them to `folder`, whole or not at all.

    Raises UserError where a score is no finite number, the corpus is too small for a group, or the disk is full.
    """
    depth = options.depth // 2**data.number if options.harder and options.regime == "rounds" else options.depth
    depth = max(depth, options.group - 1)
    order = query_order(
        queries,
        data.wrong,
        groups=data.size,
        weight=options.wrong_weight,
        seed=seed,
        round_number=data.number,
        others=0 if data.only_wrong and data.wrong.any() else 1,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = folder.with_name(f".{folder.name}.pool.npy")
    try:
        _write_pool(place, data, queries, corpus, depth=depth, seed=seed, options=options)
        passages, filled = draw(
            np.load(place, mmap_mode="r"), order, queries, corpus_size=len(corpus), group=options.group, seed=seed, round_number=data.number
        )
    except OSError as error:
        raise lack_of_disk(error, place) from error
    finally:
        place.unlink(missing_ok=True)
    scores, notes = _scores(data, order.queries, passages, queries, corpus)
    of_teacher = scores[data.teacher.label]
    false_negatives = of_teacher > of_teacher[:, :1]
    relevant = np.zeros(passages.shape, bool)
    relevant[:, 0] = True
    kept = ~false_negatives if options.false_negatives == "drop" else np.ones(passages.shape, bool)
    if options.false_negatives == "relabel":
        relevant |= false_negatives
    calibration = _calibration(scores, kept, data.teacher.label, data.tau_teacher, options)
    for label, note in notes.items():
        calibration.notes[label] = "; ".join(filter(None, [calibration.notes.get(label), note]))
    about = {
        "round": data.number,
        "teacher": data.teacher.label,
        "assistants": [a.label for a in data.assistants],
        "previous": data.previous is not None,
        "calibration": options.calibration,
        "temperatures": calibration.temperatures,
        "depth": depth,
        "false_negatives": int(false_negatives.sum()),
        "filled": filled,
        "wrong_queries": int(data.wrong.sum()),
        "notes": calibration.notes,
        "teacher_entropy": calibration.teacher_entropy,
    }
    _write(folder, Groups(order.queries, passages, kept, relevant, scores, about))
    groups = open_groups(folder)
    assert groups is not None
    return groups


def _write_pool(place: Path, data: RoundData, queries: TrainingQueries, corpus: Corpus, *, depth: int, seed: int, options: Distill) -> None:
    """The candidates of each train query as a file: the pool of half a million queries would take 400 MB of memory."""
    few = data.few_candidates or not all(scorer.ranks for scorer in (data.teacher, *data.assistants))
    with Column(place, np.int32, min(depth, max(options.scored, options.group - 1)) if few else depth) as column:
        for start, block in pool_blocks(data.rankings, queries, corpus, depth=depth, rrf_k=options.rrf_k):
            hashes = queries.hashes[start : start + len(block)]
            width = column.shape[0]
            column.append(candidates_of_block(block, hashes, width, seed=seed, round_number=data.number) if few else block)


def _scores(
    data: RoundData, numbers: np.ndarray, passages: np.ndarray, queries: TrainingQueries, corpus: Corpus
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Raw scores of every scorer of the round, (groups, group) by label, and the notes of those that have one."""
    scorers = {scorer.label: scorer for scorer in (data.teacher, *data.assistants)}
    if data.previous:
        scorers[PREVIOUS] = data.previous
    scores, notes = {}, {}
    for label, scorer in scorers.items():
        scores[label] = scorer.score(numbers, passages)
        if not np.isfinite(scores[label]).all():
            where = np.argwhere(~np.isfinite(scores[label]))[0]
            raise UserError(
                f"{label} gives a score that is NaN or infinite for query {queries.ids[numbers[where[0]]]!r} and passage "
                f"{corpus.id(int(passages[tuple(where)]))!r}; check its weights or its table"
            )
        if note := scorer.note():
            notes[label] = note
    return scores, notes


def _write(folder: Path, groups: Groups) -> None:
    with sealed_folder(folder) as aside:
        for name in ("queries", "passages", "kept", "relevant"):
            np.save(aside / f"{name}.npy", getattr(groups, name))
        (aside / "scores").mkdir()
        for n, label in enumerate(groups.scores):
            np.save(aside / "scores" / f"{n}.npy", groups.scores[label])
        write_json(aside / "groups.json", groups.about)


def _calibration(scores: dict[str, np.ndarray], kept: np.ndarray, teacher: str, tau_teacher: float | str, options: Distill) -> _Calibration:
    """Temperatures of all scorers (method, "Assistants"): an assistant's gives it the teacher's mean entropy, where that is asked for."""
    import torch

    step = max(1, len(kept) // FIT_GROUPS)
    mask = torch.from_numpy(kept[::step])
    sample = {label: torch.from_numpy(array[::step]) for label, array in scores.items()}
    notes: dict[str, str] = {}
    if isinstance(tau_teacher, str):
        wanted = float(tau_teacher.removeprefix("entropy:")) * float(np.log(options.group))
        tau_teacher, is_reached = fit_temperature(sample[teacher], mask, wanted)
        if not is_reached:
            notes[teacher] = f"mean entropy {wanted:.3f} cannot be reached, temperature {tau_teacher:.4g} is the nearest"
    target = float(entropy(log_distribution(sample[teacher] / tau_teacher, mask)).mean())
    temperatures = {teacher: float(tau_teacher)}
    for label, array in sample.items():
        if label == teacher:
            continue
        if label == PREVIOUS:
            temperatures[label] = options.tau_student
            continue
        temperatures[label] = 1.0
        if options.calibration == "temperature":
            temperatures[label], is_reached = fit_temperature(array, mask, target)
            if not is_reached:
                notes[label] = f"the teacher's entropy {target:.3f} cannot be reached, temperature {temperatures[label]:.4g} is the nearest"
    return _Calibration(temperatures, target, notes)
