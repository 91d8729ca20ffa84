"""Kept pair scores: nothing is scored twice, and neither interruptions nor order show in a score."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.corpus import Corpus
from mta4dpr.data.tokens import TokenStore, tokens_of_corpus
from mta4dpr.distill.draws import negative_pool
from mta4dpr.distill.groups import RoundData, generate
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.engines import pairs as pairs_module
from mta4dpr.engines.cross_encoder import CrossEncoderScorer
from mta4dpr.engines.pairs import PairScores
from mta4dpr.models.reranker import Reranker, load_reranker

from ..damage import flip
from ..distill.tiny_distill import PASSAGES, TRAIN, MatrixScorer, make_queries, random_matrix, small_options

SPEC = ModelSpec(
    kind="cross-encoder", untrained={"layers": 1, "hidden": 32, "heads": 2, "vocabulary": 300, "seed": 3}, query_length=12, pair_length=28
)
EVERY_PAIR = np.indices((TRAIN, PASSAGES)).reshape(2, -1)


@pytest.fixture(scope="module")
def reranker(corpus: Corpus) -> Reranker:
    return load_reranker("ce", SPEC, device="cpu", texts=[p.text for p in corpus])


@pytest.fixture(scope="module")
def passages_of(cache: Path, corpus: Corpus, reranker: Reranker) -> TokenStore:
    return tokens_of_corpus(cache, corpus, reranker.tokenizer, prefix="")


@pytest.fixture
def opened(reranker: Reranker, passages_of: TokenStore, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PairScores]:
    """Stores of scores, new in memory each, in blocks of 100 pairs."""
    monkeypatch.setattr(pairs_module, "BLOCK", 100)

    def make(root: Path, queries: TrainingQueries, *, text_hash: str = "texts", token_budget: int = 512) -> PairScores:
        pairs = reranker.pairs(reranker.query_tokens(queries.texts), passages_of)
        return PairScores(root, reranker, pairs, query_hashes=queries.text_hashes, text_hash=text_hash, token_budget=token_budget)

    return make


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The pairs that the network has scored, in order."""
    found: list[tuple[int, int]] = []
    plain = Reranker.score

    def score(self: Reranker, pairs: Any, queries: np.ndarray, passages: np.ndarray, *, token_budget: int) -> np.ndarray:
        result = plain(self, pairs, queries, passages, token_budget=token_budget)
        found.extend(zip(queries.tolist(), passages.tolist(), strict=True))
        return result

    monkeypatch.setattr(Reranker, "score", score)
    return found


def test_scores_are_the_rerankers(
    tmp_path: Path, queries: TrainingQueries, reranker: Reranker, passages_of: TokenStore, opened: Callable[..., PairScores]
) -> None:
    """In the shape asked for, pairs asked for twice included."""
    asked, groups = np.array([5, 0, 5]), np.array([[1, 2, 3], [29, 0, 1], [3, 3, 2]])
    found = opened(tmp_path, queries).scores(asked[:, None], groups)
    pairs = reranker.pairs(reranker.query_tokens(queries.texts), passages_of)
    expected = reranker.score(pairs, np.repeat(asked, 3), groups.ravel(), token_budget=512).reshape(3, 3)
    assert found.dtype == np.float32
    assert (found == expected).all()
    assert len(np.unique(found)) == 6


def test_no_pair_is_scored_twice(
    tmp_path: Path, queries: TrainingQueries, opened: Callable[..., PairScores], scored: list[tuple[int, int]]
) -> None:
    """A second round scores what is new; another process, or a later run, nothing that is known."""
    store = opened(tmp_path, queries)
    first = store.scores(np.arange(10)[:, None], np.arange(12))
    assert len(scored) == 120
    second = store.scores(np.arange(12)[:, None], np.arange(12))
    assert scored[120:] == [(q, p) for q, p in scored[120:] if q >= 10]
    assert len(set(scored)) == len(scored) == 144
    again = opened(tmp_path, queries).scores(np.arange(12)[:, None], np.arange(12))
    assert len(scored) == 144
    assert (second[:10] == first).all()
    assert (again == second).all()


def killed(store: PairScores, scored: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, *, before: int) -> None:
    """Asks for every pair, and dies before the first block after so many pairs."""
    counted = Reranker.score

    def dying(self: Reranker, *args: Any, **settings: Any) -> np.ndarray:
        if len(scored) >= before:
            raise KeyboardInterrupt
        return counted(self, *args, **settings)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Reranker, "score", dying)
        store.scores(*EVERY_PAIR)


def test_an_interruption_loses_a_block_and_changes_nothing(
    tmp_path: Path,
    queries: TrainingQueries,
    opened: Callable[..., PairScores],
    scored: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the fourth of eight blocks: three are kept, five are scored, and the bytes are those of a whole run."""
    whole = opened(tmp_path / "whole", queries).scores(*EVERY_PAIR)
    scored.clear()
    store = opened(tmp_path / "killed", queries)
    killed(store, scored, monkeypatch, before=300)
    assert len(list(store.folder.glob("*/[0-9]*.npy"))) == 3
    for finishing in (opened(tmp_path / "killed", queries), store):  # another process, and the same one
        assert finishing.scores(*EVERY_PAIR).tobytes() == whole.tobytes()
    assert len(scored) == len(set(scored)) == TRAIN * PASSAGES


def test_the_order_of_rounds_does_not_show(tmp_path: Path, queries: TrainingQueries, opened: Callable[..., PairScores]) -> None:
    """The same pair has the same bytes whatever was scored with it, before it or after it."""
    draw = np.random.default_rng(0)
    whole = opened(tmp_path / "0", queries).scores(*EVERY_PAIR)
    store = opened(tmp_path / "1", queries)
    for part in np.array_split(draw.permutation(EVERY_PAIR.shape[1]), 9):
        assert store.scores(*EVERY_PAIR[:, part]).tobytes() == whole[part].tobytes()


def test_two_processes_learn_from_each_other(
    tmp_path: Path, queries: TrainingQueries, opened: Callable[..., PairScores], scored: list[tuple[int, int]]
) -> None:
    """Both opened the empty store; what one has scored meanwhile, the other reads."""
    one, other = opened(tmp_path, queries), opened(tmp_path, queries)
    one.scores(*EVERY_PAIR[:, :150])
    other.scores(*EVERY_PAIR[:, 100:250])
    one.scores(*EVERY_PAIR[:, :250])
    assert len(scored) == len(set(scored)) == 250


def test_another_split_of_the_queries_finds_the_scores(
    tmp_path: Path, queries: TrainingQueries, opened: Callable[..., PairScores], scored: list[tuple[int, int]]
) -> None:
    """The text counts, not the query's number or id."""
    order = np.random.default_rng(1).permutation(TRAIN).tolist()
    found = opened(tmp_path, queries).scores(np.arange(TRAIN)[:, None], np.arange(5))
    again = opened(tmp_path, make_queries(order)).scores(np.arange(TRAIN)[:, None], np.arange(5))
    assert len(scored) == TRAIN * 5
    assert (again == found[order]).all()


def test_other_passages_or_other_batches_are_another_store(
    tmp_path: Path, queries: TrainingQueries, opened: Callable[..., PairScores]
) -> None:
    """Passage numbers mean nothing in another corpus; another budget may give other bits."""
    stores = [opened(tmp_path, queries, **change) for change in ({}, {"text_hash": "others"}, {"token_budget": 256})]
    assert len({store.key for store in stores}) == len({store.folder for store in stores}) == 3
    assert opened(tmp_path / "elsewhere", queries).key == stores[0].key


def test_many_files_become_one(
    tmp_path: Path,
    queries: TrainingQueries,
    opened: Callable[..., PairScores],
    scored: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every call leaves a folder; whoever has the old ones in memory is not disturbed."""
    store, other = opened(tmp_path, queries), opened(tmp_path, queries)
    expected = np.concatenate([store.scores(*part) for part in np.array_split(EVERY_PAIR[:, :700], 7, axis=1)])
    other.scores(*EVERY_PAIR[:, :10])
    assert len(list(store.folder.glob("*.scores"))) == 7
    monkeypatch.setattr(pairs_module, "MOST_FILES", 3)
    found = opened(tmp_path, queries).scores(*EVERY_PAIR[:, :700])
    assert len(list(store.folder.glob("*.scores"))) == 1
    assert (found == expected).all()
    for one in (store, other):
        one.scores(*EVERY_PAIR)
    assert len(scored) == len(set(scored)) == TRAIN * PASSAGES
    assert not list(store.folder.glob(".*"))


def test_processes_of_a_launch_score_together(
    tmp_path: Path, queries: TrainingQueries, opened: Callable[..., PairScores], scored: list[tuple[int, int]]
) -> None:
    """One asks, another one, which has its queries in another order, scores along: each pair once, and to the same bytes."""
    whole = opened(tmp_path / "alone", queries).scores(*EVERY_PAIR)
    scored.clear()
    asking = opened(tmp_path / "shared", queries)
    order = np.random.default_rng(1).permutation(TRAIN).tolist()
    helping, of_helper = opened(tmp_path / "shared", make_queries(order)), threading.Event()
    done = threading.Event()

    def help_out() -> None:
        while not done.is_set():
            before = len(scored)
            helping.score_along()
            if len(scored) > before:
                of_helper.set()

    thread = threading.Thread(target=help_out)
    thread.start()
    try:
        found = asking.scores(*EVERY_PAIR)
    finally:
        done.set()
        thread.join()
    assert found.tobytes() == whole.tobytes()
    assert len(scored) == TRAIN * PASSAGES
    assert of_helper.is_set()
    assert opened(tmp_path / "shared", queries).scores(*EVERY_PAIR).tobytes() == whole.tobytes()


@pytest.mark.parametrize("before", [0, 300])
def test_who_scores_what_a_killed_process_asked_for_stops_when_it_is_asked_anew(
    before: int,
    tmp_path: Path,
    queries: TrainingQueries,
    opened: Callable[..., PairScores],
    scored: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next main process asks while another one is at the old pieces, of which it ends one."""
    counted, main = Reranker.score, opened(tmp_path, queries)
    killed(main, scored, monkeypatch, before=before)

    def asked_meanwhile(self: Reranker, *args: Any, **settings: Any) -> np.ndarray:
        monkeypatch.setattr(Reranker, "score", counted)
        opened(tmp_path, queries).scores(*EVERY_PAIR)
        return counted(self, *args, **settings)

    monkeypatch.setattr(Reranker, "score", asked_meanwhile)
    opened(tmp_path, queries).score_along()
    assert len(scored) <= TRAIN * PASSAGES + 100
    assert len(set(scored)) == TRAIN * PASSAGES


def test_who_does_not_have_the_queries_leaves_the_pairs_alone(
    tmp_path: Path, queries: TrainingQueries, opened: Callable[..., PairScores], scored: list[tuple[int, int]]
) -> None:
    asking, other = opened(tmp_path, queries), opened(tmp_path, make_queries([0, 1]))
    plain = asking._score_pieces

    def other_first(*ask: Any) -> list[Path]:
        other.score_along()
        assert scored == []
        return plain(*ask)

    asking._score_pieces = other_first  # type: ignore[method-assign]
    asking.scores(np.arange(4)[:, None], np.arange(5))
    assert len(scored) == 20


def test_a_round_of_groups_costs_no_more_than_its_candidates(
    tmp_path: Path, queries: TrainingQueries, corpus: Corpus, opened: Callable[..., PairScores], scored: list[tuple[int, int]]
) -> None:
    """Forty epochs over pools of 16, of which 5 are scored: 5 negatives and the positives of each query."""
    assistant = MatrixScorer("a", random_matrix(0), corpus)
    options = small_options(depth=16, scored=5, harder=False)
    lists = {"a": np.concatenate([hits.passages for hits in assistant.rank(queries.train, 16)])}
    made = generate(
        tmp_path / "groups",
        RoundData(
            number=0,
            size=40 * TRAIN,
            teacher=CrossEncoderScorer(opened(tmp_path, queries)),
            assistants=[assistant],
            rankings=lists,
            wrong=np.zeros(TRAIN, bool),
            tau_teacher=1.0,
        ),
        queries=queries,
        corpus=corpus,
        seed=0,
        options=options,
    )
    positives = int(queries.positives.starts[TRAIN])
    assert len(scored) == len(set(scored)) == 5 * TRAIN + positives
    pool = negative_pool(lists, queries, corpus, depth=16, rrf_k=options.rrf_k)
    assert all(set(row[1:].tolist()) <= set(pool[n].tolist()) for n, row in zip(made.queries, made.passages, strict=True))


def test_kept_scores_that_have_changed_are_scored_again(
    tmp_path: Path, queries: TrainingQueries, opened: Callable[..., PairScores], scored: list[tuple[int, int]]
) -> None:
    """A flipped byte is another score, and would teach something else; the time of the change does not give it away."""
    store = opened(tmp_path, queries)
    expected = store.scores(*EVERY_PAIR[:, :100]).tolist()
    (path,) = store.folder.rglob("scores.npy")
    flip(path, -1)
    asked = len(scored)
    assert opened(tmp_path, queries).scores(*EVERY_PAIR[:, :100]).tolist() == expected
    assert len(scored) == 2 * asked
