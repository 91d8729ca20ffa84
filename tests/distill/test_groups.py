"""GenDataset: what a group is, and that a draw depends on seed, round, epoch and query id alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.distributions import entropy
from mta4dpr.distill.draws import negative_pool
from mta4dpr.distill.groups import Groups, RoundData, generate, open_groups
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.engines.table import TableScorer
from mta4dpr.errors import UserError
from mta4dpr.machine.kept import STAMPS

from .tiny_distill import HELD_OUT, PASSAGES, TRAIN, MatrixScorer, knowing_matrix, make_queries, random_matrix, small_options


def ranking(scorer: MatrixScorer, queries: TrainingQueries, depth: int) -> np.ndarray:
    return np.concatenate([hits.passages for hits in scorer.rank(queries.train, depth)])


def matrix_of(queries: TrainingQueries, seed: int, strength: float = 1.0) -> np.ndarray:
    """A matrix whose rows follow the query's id, so that reordered queries keep their scores."""
    rows = [np.random.default_rng([seed, int(query_id[1:])]).normal(size=PASSAGES) for query_id in queries.ids]
    matrix = np.array(rows, np.float32)
    for n, positives in enumerate(queries.positives):
        matrix[n, positives] += strength
    return matrix


def make_groups(
    folder: Path,
    queries: TrainingQueries,
    corpus: Corpus,
    *,
    groups: int = 60,
    round_number: int = 0,
    seed: int = 7,
    wrong: Sequence[int] = (),
    tau: float | str = 1.0,
    longest: int | None = None,
    matrices: dict[str, np.ndarray] | None = None,
    **changes: Any,
) -> Groups:
    options = small_options(**changes)
    matrices = matrices or {label: matrix_of(queries, n) for n, label in enumerate(("teacher", "a", "b"))}
    scorers = [MatrixScorer(label, matrix, corpus, longest) for label, matrix in matrices.items()]
    lists = {scorer.label: ranking(scorer, queries, options.depth) for scorer in scorers}
    marked = np.zeros(queries.train_size, bool)
    marked[list(wrong)] = True
    return generate(
        folder / "groups",
        RoundData(
            number=round_number, size=groups, teacher=scorers[0], assistants=scorers[1:], rankings=lists, wrong=marked, tau_teacher=tau
        ),
        queries=queries,
        corpus=corpus,
        seed=seed,
        options=options,
    )


def by_query(groups: Groups, queries: TrainingQueries, first: int | None = None) -> dict[str, list[list[int]]]:
    """{query id: its groups in order of training}."""
    found: dict[str, list[list[int]]] = {}
    for n, passages in zip(groups.queries[:first], groups.passages[:first], strict=True):
        found.setdefault(queries.ids[n], []).append(passages.tolist())
    return found


# --- what a group holds ---


def test_a_group_is_a_positive_and_distinct_negatives_of_the_pool(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """The positive first; no relevant passage, no passage twice, nothing from outside the pool while the pool lasts."""
    groups = make_groups(tmp_path, queries, corpus)
    options = small_options()
    scorers = [MatrixScorer(label, matrix_of(queries, n), corpus) for n, label in enumerate(("teacher", "a", "b"))]
    pool = negative_pool({s.label: ranking(s, queries, 10) for s in scorers}, queries, corpus, depth=10, rrf_k=options.rrf_k)
    assert groups.passages.shape == (60, 4)
    assert groups.about["filled"] == 0
    for n, passages in zip(groups.queries, groups.passages, strict=True):
        assert passages[0] in queries.positives[n]
        assert len(set(passages)) == 4
        assert not set(passages[1:]) & set(queries.relevant[n])
        assert set(passages[1:]) <= set(pool[n])
    assert groups.relevant[:, 0].all()
    assert not groups.relevant[:, 1:].any()
    assert groups.kept.all()


def test_every_query_comes_once_an_epoch(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """Three epochs of 24 queries: each block of 24 groups is a permutation, and the permutations differ."""
    groups = make_groups(tmp_path, queries, corpus, groups=3 * TRAIN)
    epochs = groups.queries.reshape(3, TRAIN)
    assert all(sorted(epoch) == list(range(TRAIN)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def test_epochs_and_rounds_draw_anew(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """Otherwise more epochs would show nothing new: most of a query's groups differ between epochs, rounds and seeds."""
    first = by_query(make_groups(tmp_path / "0", queries, corpus, groups=2 * TRAIN, harder=False), queries)
    second = by_query(make_groups(tmp_path / "1", queries, corpus, groups=TRAIN, harder=False, round_number=1), queries)
    third = by_query(make_groups(tmp_path / "2", queries, corpus, groups=TRAIN, harder=False, seed=8), queries)
    assert sum(set(one[0]) == set(one[1]) for one in first.values()) < TRAIN / 4
    for other in (second, third):
        assert sum(set(first[q][0]) == set(other[q][0]) for q in first) < TRAIN / 4


def test_groups_do_not_depend_on_the_order_of_the_queries(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """A draw is a pure function of (seed, round, epoch, query id): a shuffled file gives the same dataset, in the same order."""
    order = np.random.default_rng(0).permutation(TRAIN).tolist()
    shuffled = make_queries(order)
    plain, other = make_groups(tmp_path / "0", queries, corpus), make_groups(tmp_path / "1", shuffled, corpus)
    assert [queries.ids[n] for n in plain.queries] == [shuffled.ids[n] for n in other.queries]
    assert (plain.passages == other.passages).all()
    assert (plain.scores["a"] == other.scores["a"]).all()


def test_another_query_changes_no_other_querys_groups(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """With a 25th query, the groups of the 24 are the same epoch by epoch; only their place moves."""
    more = make_queries(list(range(TRAIN + 1)), train=TRAIN + 1)
    plain = by_query(make_groups(tmp_path / "0", queries, corpus, groups=2 * TRAIN), queries)
    other = by_query(make_groups(tmp_path / "1", more, corpus, groups=2 * (TRAIN + 1)), more)
    assert set(other) - set(plain) == {f"q{TRAIN}"}
    assert {query_id: other[query_id] for query_id in plain} == plain


def test_fewer_groups_are_the_first_of_more(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """A longer training begins as a shorter one."""
    short, long = make_groups(tmp_path / "0", queries, corpus, groups=10), make_groups(tmp_path / "1", queries, corpus, groups=50)
    assert (short.queries == long.queries[:10]).all()
    assert (short.passages == long.passages[:10]).all()


# --- wrong queries ---


def test_the_copies_of_a_wrong_query_are_different_groups(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """Drawn twice means two draws, not one group shown twice."""
    groups = make_groups(tmp_path, queries, corpus, wrong=range(TRAIN), groups=2 * TRAIN, harder=False)
    found = by_query(groups, queries)
    assert all(len(one) == 2 for one in found.values())
    assert sum(set(one[0]) == set(one[1]) for one in found.values()) < TRAIN / 4
    assert groups.about["wrong_queries"] == TRAIN


# --- the pool ---


def test_relevant_but_not_positive_passages_are_never_negatives(tmp_path: Path, corpus: Corpus) -> None:
    """A passage judged 1 where positives are 2 (NQ's BM25 hits) is neither."""
    queries = make_queries(positives=lambda n: [n % PASSAGES], relevant=lambda n: [(n + shift) % PASSAGES for shift in range(5)])
    groups = make_groups(tmp_path, queries, corpus, groups=200)
    for n, passages in zip(groups.queries, groups.passages, strict=True):
        assert not set(passages[1:]) & set(queries.relevant[n])


def test_harder_draws_from_the_top_of_the_pool(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """Depth 16 in round 0, 4 in round 2; never less than a group needs; the record says the depth that was used."""
    scorers = [MatrixScorer(label, matrix_of(queries, n), corpus) for n, label in enumerate(("teacher", "a", "b"))]
    pool = negative_pool({s.label: ranking(s, queries, 16) for s in scorers}, queries, corpus, depth=16, rrf_k=60)
    for round_number, depth in ((0, 16), (1, 8), (2, 4), (3, 3)):
        groups = make_groups(tmp_path / str(round_number), queries, corpus, groups=800, round_number=round_number, depth=16)
        drawn: dict[int, set[int]] = {}
        for n, passages in zip(groups.queries.tolist(), groups.passages.tolist(), strict=True):
            drawn.setdefault(n, set()).update(passages[1:])
        assert all(found <= set(pool[n, :depth].tolist()) for n, found in drawn.items())
        assert sum(len(found) for found in drawn.values()) > TRAIN * depth * 0.98
        assert groups.about["depth"] == depth


def test_without_harder_the_depth_stays(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """The ablation, and the static regime."""
    for name, changes in (("plain", {"harder": False}), ("static", {"regime": "static"})):
        groups = make_groups(tmp_path / name, queries, corpus, groups=800, round_number=2, depth=8, **changes)
        assert len({p for n, row in zip(groups.queries, groups.passages, strict=True) if n == 1 for p in row[1:].tolist()}) == 8


def test_a_short_pool_is_filled_with_random_passages_not_relevant(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """Lists of 2 passages leave up to two of three places; every filled place is counted."""
    groups = make_groups(
        tmp_path, queries, corpus, groups=200, longest=1, matrices={"teacher": matrix_of(queries, 0), "a": matrix_of(queries, 0)}
    )
    scorer = MatrixScorer("teacher", matrix_of(queries, 0), corpus, 1)
    pool = negative_pool({"t": ranking(scorer, queries, 10)}, queries, corpus, depth=10, rrf_k=60)
    sizes = (pool >= 0).sum(axis=1)
    assert groups.about["filled"] == sum(3 - sizes[n] for n in groups.queries) > 0
    fillers = set()
    for n, passages in zip(groups.queries, groups.passages, strict=True):
        assert len(set(passages.tolist())) == 4
        assert not set(passages[1:].tolist()) & set(queries.relevant[n].tolist())
        fillers |= set(passages[1 + sizes[n] :].tolist())
    assert fillers == set(range(PASSAGES))


# --- candidates of a round, where pairs must be scored ---


class PairScorer(MatrixScorer):
    """Scores pairs and cannot rank, as a cross-encoder."""

    ranks = False


def negatives_of(groups: Groups) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for n, passages in zip(groups.queries.tolist(), groups.passages.tolist(), strict=True):
        found.setdefault(n, set()).update(passages[1:])
    return found


@pytest.mark.parametrize("role", ["teacher", "assistant", "none"])
def test_epochs_of_a_round_draw_from_the_same_candidates(tmp_path: Path, queries: TrainingQueries, corpus: Corpus, role: str) -> None:
    """5 of a pool of 16, over 40 epochs; other ones in the next round; all 16 where every scorer ranks the corpus."""
    scorers = [MatrixScorer(label, matrix_of(queries, n), corpus) for n, label in enumerate(("teacher", "a"))]
    lists = {scorer.label: ranking(scorer, queries, 16) for scorer in scorers}
    if role != "none":
        number = ["teacher", "assistant"].index(role)
        scorers[number] = PairScorer(scorers[number].label, scorers[number].matrix, corpus)
    made = [
        generate(
            tmp_path / str(round_number),
            RoundData(
                number=round_number,
                size=40 * TRAIN,
                teacher=scorers[0],
                assistants=scorers[1:],
                rankings=lists,
                wrong=np.zeros(TRAIN, bool),
                tau_teacher=1.0,
            ),
            queries=queries,
            corpus=corpus,
            seed=3,
            options=small_options(depth=16, scored=5, harder=False),
        )
        for round_number in (0, 1)
    ]
    first, second = (negatives_of(groups) for groups in made)
    sizes = {len(found) for found in [*first.values(), *second.values()]}
    assert sizes == ({16} if role == "none" else {5})
    if role != "none":
        assert sum(first[n] == second[n] for n in first) < TRAIN / 4
        assert all(len(set(groups.passages[groups.queries == 3, 0])) == 2 for groups in made)  # both positives of query 3 stay


def test_a_group_has_its_negatives_though_fewer_are_to_be_scored(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """The default of `scored` must not leave the places of a large group to random passages."""
    scorer = PairScorer("teacher", matrix_of(queries, 0), corpus)
    made = generate(
        tmp_path / "groups",
        RoundData(
            number=0,
            size=TRAIN,
            teacher=scorer,
            assistants=[],
            rankings={"a": ranking(scorer, queries, 20)},
            wrong=np.zeros(TRAIN, bool),
            tau_teacher=1.0,
        ),
        queries=queries,
        corpus=corpus,
        seed=3,
        options=small_options(depth=20).model_copy(update={"scored": 1}),
    )
    assert made.about["filled"] == 0


# --- false negatives, scores, calibration ---


@pytest.mark.parametrize("rule", ["keep", "drop", "relabel"])
def test_false_negatives(tmp_path: Path, queries: TrainingQueries, corpus: Corpus, rule: str) -> None:
    """A negative that the teacher scores above the positive: counted always, masked by drop, a positive of CE by relabel."""
    groups = make_groups(tmp_path, queries, corpus, groups=100, false_negatives=rule)
    above = groups.scores["teacher"] > groups.scores["teacher"][:, :1]
    assert 20 < above.sum() == groups.about["false_negatives"]
    only_first = np.zeros_like(above)
    only_first[:, 0] = True
    assert (groups.kept == (~above if rule == "drop" else True)).all()
    assert (groups.relevant == (only_first | above if rule == "relabel" else only_first)).all()


def test_a_tie_with_the_positive_is_no_false_negative(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """Above means above: a teacher of constants must not drop every negative."""
    flat = np.zeros((len(queries.ids), PASSAGES), np.float32)
    groups = make_groups(tmp_path, queries, corpus, false_negatives="drop", matrices={"teacher": flat, "a": matrix_of(queries, 1)})
    assert groups.kept.all()
    assert groups.about["false_negatives"] == 0


def test_scores_are_stored_beside_the_groups_and_open_again(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """Selection and losses read these; a mix-up of labels would train towards the wrong model."""
    made = make_groups(tmp_path, queries, corpus)
    opened = open_groups(tmp_path / "groups")
    assert opened is not None
    assert opened.about == made.about
    for seed, label in enumerate(("teacher", "a", "b")):
        expected = matrix_of(queries, seed)[opened.queries[:, None], opened.passages]
        assert (opened.scores[label] == expected).all()
    assert open_groups(tmp_path / "nowhere") is None


@pytest.mark.parametrize("label", ["teacher", "b"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_names_query_and_passage(
    tmp_path: Path, queries: TrainingQueries, corpus: Corpus, label: str, bad: float
) -> None:
    """Found when it is made, not as a NaN loss hours later; nothing half-made is left behind."""
    matrices = {name: matrix_of(queries, n) for n, name in enumerate(("teacher", "a", "b"))}
    matrices[label] = matrices[label].copy()
    matrices[label][5, queries.positives[5]] = bad
    lists = {"a": MatrixScorer("a", matrices["a"], corpus)}
    with pytest.raises(UserError, match=f"{label} gives a score that is NaN or infinite for query 'q5' and passage '{corpus.id(5)}'"):
        generate(
            tmp_path / "groups",
            RoundData(
                number=0,
                size=TRAIN,
                teacher=MatrixScorer("teacher", matrices["teacher"], corpus),
                assistants=[MatrixScorer(name, matrices[name], corpus) for name in "ab"],
                rankings={name: ranking(scorer, queries, 10) for name, scorer in lists.items()},
                wrong=np.zeros(TRAIN, bool),
                tau_teacher=1.0,
            ),
            queries=queries,
            corpus=corpus,
            seed=0,
            options=small_options(),
        )
    assert open_groups(tmp_path / "groups") is None


def mean_entropies(groups: Groups) -> dict[str, float]:
    teacher, assistants, _ = groups.log_distributions(slice(None), torch.device("cpu"))
    return {label: float(entropy(one).mean()) for label, one in {"teacher": teacher, **assistants}.items()}


@pytest.mark.parametrize("rule", ["keep", "drop"])
def test_temperature_brings_every_assistant_to_the_teachers_entropy(
    tmp_path: Path, queries: TrainingQueries, corpus: Corpus, rule: str
) -> None:
    """Scales 1, 30 and 0.01 end at one mean entropy, over the kept passages; the teacher keeps its own temperature."""
    matrices = {label: matrix_of(queries, n) * scale for n, (label, scale) in enumerate({"teacher": 1, "a": 30, "b": 0.01}.items())}
    groups = make_groups(tmp_path, queries, corpus, matrices=matrices, tau=0.7, false_negatives=rule)
    found = mean_entropies(groups)
    assert groups.about["temperatures"]["teacher"] == 0.7
    assert found["a"] == pytest.approx(found["teacher"], abs=1e-4)
    assert found["b"] == pytest.approx(found["teacher"], abs=1e-4)
    assert groups.about["teacher_entropy"] == pytest.approx(found["teacher"], abs=1e-5)
    assert groups.about["notes"] == {}


def test_an_assistant_of_constants_is_reported(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """It stays uniform; the note says so and the run goes on."""
    matrices = {"teacher": matrix_of(queries, 0), "a": np.ones((TRAIN + HELD_OUT, PASSAGES))}
    groups = make_groups(tmp_path, queries, corpus, matrices=matrices)
    assert list(groups.about["notes"]) == ["a"]
    assert "cannot be reached" in groups.about["notes"]["a"]
    assert mean_entropies(groups)["a"] == pytest.approx(math.log(4), abs=1e-4)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_entropy_x_fits_the_teacher(tmp_path: Path, queries: TrainingQueries, corpus: Corpus, share: float) -> None:
    """tau_teacher entropy:X is a mean entropy of X ln G; the assistants follow the teacher there."""
    groups = make_groups(tmp_path, queries, corpus, tau=f"entropy:{share}")
    found = mean_entropies(groups)
    assert found["teacher"] == pytest.approx(share * math.log(4), abs=1e-4)
    assert found["a"] == pytest.approx(found["teacher"], abs=1e-4)


def test_calibration_none_and_zscore(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """none: a softmax of raw scores; zscore: of the query's standardised scores; the teacher's scores are touched by neither."""
    scale = 5.0
    matrices = {"teacher": matrix_of(queries, 0), "a": matrix_of(queries, 1) * scale}
    for calibration in ("none", "zscore"):
        groups = make_groups(tmp_path / calibration, queries, corpus, matrices=matrices, tau=0.5, calibration=calibration)
        teacher, assistants, _ = groups.log_distributions(slice(2, 9), torch.device("cpu"))
        raw = {label: matrices[label][groups.queries[2:9, None], groups.passages[2:9]] for label in matrices}
        expected = raw["a"]
        if calibration == "zscore":
            expected = (expected - expected.mean(1, keepdims=True)) / expected.std(1, keepdims=True)
        torch.testing.assert_close(assistants["a"], torch.from_numpy(expected).log_softmax(-1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(teacher, torch.from_numpy(raw["teacher"] / 0.5).log_softmax(-1), atol=1e-5, rtol=1e-5)


def test_generate_twice_gives_equal_files(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """What a crash repeats must come out the same, to the byte."""
    for name in ("0", "1"):
        make_groups(tmp_path / name, queries, corpus, wrong=[1, 2], wrong_weight=1.5)
    every = [[p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*") if p.is_file()] for name in ("0", "1")]
    files = [sorted(path for path in paths if path.name != STAMPS) for paths in every]
    assert files[0] == files[1]
    assert len(files[0]) == 9
    assert all((tmp_path / "0" / path).read_bytes() == (tmp_path / "1" / path).read_bytes() for path in files[0])


def test_better_scorers_are_better() -> None:
    """The tests of rounds rest on it: strength moves positives up."""
    queries = make_queries()
    weak, strong = (knowing_matrix(1, queries, strength) for strength in (0.0, 10.0))
    assert (strong.argmax(1) == [max(p, key=lambda x, n=n: strong[n, x]) for n, p in enumerate(queries.positives)]).all()
    assert (weak == random_matrix(1)).all()


def test_pairs_that_a_table_lacks_are_counted(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """A table that knows one passage a query says little about a group; its reader is told how often that happened."""
    rows = [(query_id, corpus.id(0), 1.0) for query_id in queries.ids]
    columns = dict(zip(("query", "passage", "score"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), tmp_path / "scores.parquet")
    teacher = MatrixScorer("teacher", matrix_of(queries, 0), corpus)
    made = generate(
        tmp_path / "groups",
        RoundData(
            number=0,
            size=TRAIN,
            teacher=teacher,
            assistants=[TableScorer("stored", tmp_path / "scores.parquet", queries.ids, corpus, "key")],
            rankings={"teacher": ranking(teacher, queries, 10)},
            wrong=np.zeros(TRAIN, bool),
            tau_teacher=1.0,
        ),
        queries=queries,
        corpus=corpus,
        seed=0,
        options=small_options(),
    )
    missing = int((made.passages != 0).sum())
    assert missing > 0
    assert f"{missing:,} of {made.passages.size:,} pairs are not in its table" in made.about["notes"]["stored"]


def test_a_round_leaves_no_pool_behind(tmp_path: Path, queries: TrainingQueries, corpus: Corpus) -> None:
    """The pool of half a million queries is 400 MB; it is a file only while groups are drawn."""
    make_groups(tmp_path, queries, corpus)
    assert [path.name for path in tmp_path.iterdir()] == ["groups"]
