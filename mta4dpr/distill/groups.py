"""GenDataset: the groups of one round, with the scores of teacher and assistants stored beside them.

A group is one positive and group-1 negatives of a query. Negatives come from the pool: the models' lists fused by
reciprocal rank fusion, relevant passages dropped, cut to depth / 2^round. Every draw is a pure function of (seed, round,
epoch, query id): a 64-bit mix of those numbers orders the candidates, and the smallest are taken.

    queries.npy     (groups,) int32 query numbers in training order
    passages.npy    (groups, group) int32, the positive first
    kept.npy        (groups, group) bool, False for a dropped false negative
    relevant.npy    (groups, group) bool, True for the positive and relabelled false negatives
    scores/N.npy    (groups, group) float32, one file a scorer
    groups.json     labels, temperatures, counts
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.data.columns import Column, blocks
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.counter import mix
from mta4dpr.distill.distributions import entropy, fit_temperature, log_distribution, zscore
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.scorers import Scorer
from mta4dpr.errors import UserError
from mta4dpr.files import folder_written_aside, lack_of_disk, read_json, write_json
from mta4dpr.options import Distill
from mta4dpr.retrieval.fusion import reciprocal_rank_fusion

log = logging.getLogger(__name__)

RANK_BLOCK = 4096  # queries fused at once
FIT_GROUPS = 2000  # groups a temperature is fitted on
PREVIOUS = "student before the round"


@dataclass
class Groups:
    """An open dataset of one round; arrays are memory-mapped."""

    queries: np.ndarray
    passages: np.ndarray
    kept: np.ndarray
    relevant: np.ndarray
    scores: dict[str, np.ndarray]
    about: dict[str, Any]

    def log_distributions(self, rows: slice, device: Any) -> tuple[Any, dict[str, Any], Any]:
        """Calibrated log distributions (queries, group) of the teacher, of each assistant, and of the earlier student if it is there."""
        import torch

        kept = torch.from_numpy(np.array(self.kept[rows])).to(device)
        found = {}
        for label, stored in self.scores.items():
            scores = torch.from_numpy(np.array(stored[rows])).to(device)
            if label in self.about["assistants"] and self.about["calibration"] == "zscore":
                scores = zscore(scores, kept)
            found[label] = log_distribution(scores / self.about["temperatures"][label], kept)
        return found[self.about["teacher"]], {label: found[label] for label in self.about["assistants"]}, found.get(PREVIOUS)


def open_groups(folder: Path) -> Groups | None:
    if not (folder / "groups.json").exists():
        return None
    about = read_json(folder / "groups.json")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("queries", "passages", "kept", "relevant")}
    labels = [about["teacher"], *about["assistants"], *([PREVIOUS] if about["previous"] else [])]
    scores = {label: np.load(folder / "scores" / f"{n}.npy", mmap_mode="r") for n, label in enumerate(labels)}
    return Groups(**arrays, scores=scores, about=about)


def generate(
    folder: Path,
    *,
    round_number: int,
    groups: int,
    queries: TrainingQueries,
    corpus: Corpus,
    teacher: Scorer,
    assistants: Sequence[Scorer],
    lists: dict[str, np.ndarray],
    wrong: np.ndarray,
    tau_teacher: float | str,
    seed: int,
    options: Distill,
    previous: Scorer | None = None,
    only_wrong: bool = False,
    few: bool = False,
) -> Groups:
    """Draws and scores the groups of a round; writes them to `folder`.

    `lists` are the rankings that are fused, (train queries, depth) each; `wrong` (train queries,) marks queries that the
    student got wrong, `only_wrong` leaves out the others (PROD's confusing queries). `previous` is the student before the round.
    `few` draws from `options.scored` candidates of a query, as it is where a scorer of the round scores pairs: strategies that do
    without such a scorer then see the same groups as those that ask it.
    """
    depth = options.depth // 2**round_number if options.harder and options.regime == "rounds" else options.depth
    depth = max(depth, options.group - 1)
    few = few or not all(scorer.ranks for scorer in (teacher, *assistants))
    order, epochs, copies = query_order(
        queries,
        wrong,
        groups=groups,
        weight=options.wrong_weight,
        seed=seed,
        round_number=round_number,
        others=0 if only_wrong and wrong.any() else 1,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = folder.with_name(f".{folder.name}.pool.npy")
    try:
        with Column(place, np.int32, min(depth, max(options.scored, options.group - 1)) if few else depth) as column:
            for start, block in _pool_blocks(lists, queries, corpus, depth=depth, rrf_k=options.rrf_k):
                hashes = queries.hashes[start : start + len(block)]
                column.append(_some(block, hashes, column.shape[0], seed=seed, round_number=round_number) if few else block)
        passages, filled = draw(
            np.load(place, mmap_mode="r"),
            order,
            epochs,
            copies,
            queries=queries,
            corpus_size=len(corpus),
            group=options.group,
            seed=seed,
            round_number=round_number,
        )
    except OSError as error:
        raise lack_of_disk(error, place) from error
    finally:
        place.unlink(missing_ok=True)
    scorers = {s.label: s for s in (teacher, *assistants)} | ({PREVIOUS: previous} if previous else {})
    scores, notes_of_scorers = {}, {}
    for label, scorer in scorers.items():
        scores[label] = scorer.score(order, passages)
        notes_of_scorers[label] = scorer.note()
        if not np.isfinite(scores[label]).all():
            where = np.argwhere(~np.isfinite(scores[label]))[0]
            raise UserError(
                f"{label} gives a score that is NaN or infinite for query {queries.ids[order[where[0]]]!r} and passage "
                f"{corpus.id(int(passages[tuple(where)]))!r}; check its weights or its table"
            )
    relevant = np.zeros(passages.shape, bool)
    relevant[:, 0] = True
    false_negatives = scores[teacher.label] > scores[teacher.label][:, :1]
    kept = ~false_negatives if options.false_negatives == "drop" else np.ones(passages.shape, bool)
    if options.false_negatives == "relabel":
        relevant |= false_negatives
    temperatures, notes = _temperatures(scores, kept, teacher.label, tau_teacher, options)
    for label, note in notes_of_scorers.items():
        if note:
            notes[label] = "; ".join(filter(None, [notes.get(label), note]))
    about = {
        "round": round_number,
        "teacher": teacher.label,
        "assistants": [a.label for a in assistants],
        "previous": previous is not None,
        "calibration": options.calibration,
        "temperatures": temperatures,
        "depth": depth,
        "false_negatives": int(false_negatives.sum()),
        "filled": filled,
        "wrong_queries": int(wrong.sum()),
        "notes": notes,
        "teacher_entropy": notes.pop("teacher entropy"),
    }
    with folder_written_aside(folder, sums=True) as aside:
        for name, array in (("queries", order), ("passages", passages), ("kept", kept), ("relevant", relevant)):
            np.save(aside / f"{name}.npy", array)
        (aside / "scores").mkdir()
        for n, label in enumerate(scores):
            np.save(aside / "scores" / f"{n}.npy", scores[label])
        write_json(aside / "groups.json", about)
    opened = open_groups(folder)
    assert opened is not None
    return opened


def negative_pool(lists: dict[str, np.ndarray], queries: TrainingQueries, corpus: Corpus, *, depth: int, rrf_k: int) -> np.ndarray:
    """Fused candidates of each train query without its relevant passages, (train queries, depth) int32, -1 beyond the end."""
    return np.concatenate([block for _, block in _pool_blocks(lists, queries, corpus, depth=depth, rrf_k=rrf_k)])


def _pool_blocks(
    lists: dict[str, np.ndarray], queries: TrainingQueries, corpus: Corpus, *, depth: int, rrf_k: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(first query, candidates of the queries from there on), block by block."""
    for rows in blocks(queries.train_size, RANK_BLOCK):
        numbers = queries.train[rows]
        most_relevant = int(queries.relevant.lengths(numbers).max())
        fused = reciprocal_rank_fusion(
            [ranking[rows] for ranking in lists.values()], k=rrf_k, depth=depth + most_relevant, id_rank=corpus.id_rank
        ).passages
        dropped = (fused < 0) | queries.relevant.contain(numbers, fused)
        left = np.argsort(dropped, axis=1, kind="stable")[:, :depth]  # those that stay come first, in their order
        yield rows.start, np.where(np.take_along_axis(dropped, left, axis=1), -1, np.take_along_axis(fused, left, axis=1)).astype(np.int32)


def candidates_of_round(pool: np.ndarray, queries: TrainingQueries, *, scored: int, seed: int, round_number: int) -> np.ndarray:
    """The pool with `scored` candidates of each query drawn from it, in the pool's order, (train queries, up to scored) int32.

    All epochs of a round draw from these, so that a model that scores pairs has no more than these to score.
    """
    rows_of = blocks(len(pool), RANK_BLOCK)
    return np.concatenate([_some(pool[rows], queries.hashes[rows], scored, seed=seed, round_number=round_number) for rows in rows_of])


def _some(block: np.ndarray, hashes: np.ndarray, scored: int, *, seed: int, round_number: int) -> np.ndarray:
    order = np.where(block < 0, np.uint64(2**64 - 1), mix(seed, round_number, hashes[:, None], 5, block))
    columns = np.sort(np.argsort(order, axis=1, kind="stable")[:, :scored], axis=1)
    return np.take_along_axis(block, columns, axis=1)


def query_order(
    queries: TrainingQueries, wrong: np.ndarray, *, groups: int, weight: float, seed: int, round_number: int, others: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query, epoch, copy) of each of `groups` groups. In an epoch a wrong query comes `weight` times on average, others `others` times."""
    numbers, hashes = queries.train, queries.hashes[: queries.train_size]
    found: list[np.ndarray] = []
    total = epoch = 0
    while total < groups:
        fraction = (mix(seed, round_number, epoch, hashes, 1) >> np.uint64(11)) * 2.0**-53
        times = np.where(wrong, np.floor(weight) + (fraction < weight % 1), others).astype(np.int64)
        query = np.repeat(numbers, times)
        copy = np.arange(len(query)) - np.repeat(np.cumsum(times) - times, times)
        order = np.argsort(mix(seed, round_number, epoch, hashes[query], 2, copy), kind="stable")
        found.append(np.stack([query, np.full(len(query), epoch), copy])[:, order])
        total += len(query)
        epoch += 1
    query, epochs, copy = np.concatenate(found, axis=1)[:, :groups]
    return query.astype(np.int32), epochs, copy


def draw(
    pool: np.ndarray,
    order: np.ndarray,
    epochs: np.ndarray,
    copies: np.ndarray,
    *,
    queries: TrainingQueries,
    corpus_size: int,
    group: int,
    seed: int,
    round_number: int,
) -> tuple[np.ndarray, int]:
    """Passages of each group, (groups, group) int32, the positive first; and how many places a short pool left to random passages."""
    passages, filled = np.empty((len(order), group), np.int32), 0
    for rows in blocks(len(order), RANK_BLOCK):
        numbers = order[rows]
        counters = [np.int64(seed), np.int64(round_number), epochs[rows], queries.hashes[numbers], 3 + copies[rows]]
        place = mix(*counters, 1) % queries.positives.lengths(numbers).astype(np.uint64)
        passages[rows, 0] = queries.positives.flat[queries.positives.starts[numbers] + place.astype(np.int64)]
        candidates = np.asarray(pool[numbers])
        columns = [counter[:, None] if counter.ndim else counter for counter in counters]
        mixed = np.where(candidates < 0, np.uint64(2**64 - 1), mix(*columns, 2, candidates))
        chosen = np.take_along_axis(candidates, np.argsort(mixed, axis=1, kind="stable")[:, : group - 1], axis=1)
        passages[rows, 1 : 1 + chosen.shape[1]] = chosen
        passages[rows, 1 + chosen.shape[1] :] = -1
        for row in rows.start + np.flatnonzero((passages[rows] < 0).any(axis=1)):
            counter = (seed, round_number, int(epochs[row]), queries.hashes[order[row]], 3 + int(copies[row]))
            filled += _fill(passages[row], counter, queries.relevant[order[row]], corpus_size)
    return passages, filled


def _fill(passages: np.ndarray, counter: Sequence[Any], relevant: np.ndarray, corpus_size: int) -> int:
    """Random passages in the places of a group that its pool left open; returns how many. For the few queries with a short pool."""
    attempt = 0
    places = np.flatnonzero(passages < 0)
    for place in places:
        while True:
            candidate = int(mix(*counter, 4, attempt)) % corpus_size
            attempt += 1
            if candidate not in passages[:place] and candidate not in relevant:
                break
            if attempt > 1000 + 10 * corpus_size:
                raise UserError(f"the corpus has too few passages ({corpus_size}) for groups of {len(passages)}; set distill.group to less")
        passages[place] = candidate
    return len(places)


def _temperatures(
    scores: dict[str, np.ndarray], kept: np.ndarray, teacher: str, tau_teacher: float | str, options: Distill
) -> tuple[dict[str, float], dict[str, Any]]:
    """The temperature of each scorer, and what a reader should know of the fit."""
    import torch

    step = max(1, len(kept) // FIT_GROUPS)
    mask = torch.from_numpy(kept[::step])
    sampled = {label: torch.from_numpy(array[::step]) for label, array in scores.items()}
    notes: dict[str, Any] = {}
    if isinstance(tau_teacher, str):
        wanted = float(tau_teacher.removeprefix("entropy:")) * float(np.log(options.group))
        tau_teacher, reached = fit_temperature(sampled[teacher], mask, wanted)
        if not reached:
            notes[teacher] = f"mean entropy {wanted:.3f} cannot be reached, temperature {tau_teacher:.4g} is the nearest"
    target = float(entropy(log_distribution(sampled[teacher] / tau_teacher, mask)).mean())
    notes["teacher entropy"] = target
    temperatures = {teacher: float(tau_teacher)}
    for label, array in sampled.items():
        if label == teacher:
            continue
        if label == PREVIOUS:
            temperatures[label] = options.tau_student
            continue
        temperatures[label] = 1.0
        if options.calibration == "temperature":
            temperatures[label], reached = fit_temperature(array, mask, target)
            if not reached:
                notes[label] = f"the teacher's entropy {target:.3f} cannot be reached, temperature {temperatures[label]:.4g} is the nearest"
    return temperatures, notes
