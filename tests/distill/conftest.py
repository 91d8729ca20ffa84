"""Thirty passages, thirty training queries and a one-layer student; see tiny_distill.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.corpus import Corpus, open_corpus
from mta4dpr.data.records import Passage
from mta4dpr.data.tokens import tokens_of_corpus
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.trainer import Texts
from mta4dpr.models.encoder import Encoder, load_encoder

from .tiny_distill import PASSAGES, ListSource, make_queries, text_of
from .tiny_rounds import Setting
from .tiny_trainer import Training

UNTRAINED = ModelSpec(untrained={"layers": 1, "hidden": 32, "heads": 2, "vocabulary": 300, "seed": 0}, query_length=12, passage_length=24)


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they bring on networks this small, above all where cores are shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def passages() -> list[Passage]:
    """Ids are not in the order of the numbers, so that a mix-up of the two shows."""
    return [Passage(f"p{(7 * n) % PASSAGES:02}", "", text_of(n, 4 + n % 9)) for n in range(PASSAGES)]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def corpus(cache: Path, passages: list[Passage]) -> Corpus:
    return open_corpus(cache, ListSource(passages))


@pytest.fixture(scope="session")
def queries() -> TrainingQueries:
    return make_queries()


@pytest.fixture(scope="session")
def new_student(passages: list[Passage]) -> Callable[[], Encoder]:
    """Fresh encoders with equal weights."""
    return lambda: load_encoder("student", UNTRAINED, device="cpu", texts=[p.text for p in passages])


@pytest.fixture(scope="session")
def texts_for(cache: Path, corpus: Corpus) -> Callable[[Encoder, TrainingQueries], Texts]:
    return lambda encoder, queries: Texts(
        encoder.query_tokens(queries.texts), tokens_of_corpus(cache, corpus, encoder.tokenizer, prefix=encoder.reading.passage_prefix)
    )


@pytest.fixture
def setting(
    tmp_path: Path,
    corpus: Corpus,
    queries: TrainingQueries,
    new_student: Callable[[], Encoder],
    texts_for: Callable[[Encoder, TrainingQueries], Texts],
) -> Setting:
    """For whole runs of Algorithm 1."""
    return Setting(tmp_path, corpus, queries, new_student, texts_for)


@pytest.fixture(scope="session")
def untouched(new_student: Callable[[], Encoder]) -> Encoder:
    """The student before training; trainers take copies."""
    return new_student()


@pytest.fixture
def training(
    tmp_path: Path, corpus: Corpus, queries: TrainingQueries, untouched: Encoder, texts_for: Callable[[Encoder, TrainingQueries], Texts]
) -> Training:
    """For the steps of one round."""
    return Training(tmp_path, corpus, queries, untouched, texts_for)
