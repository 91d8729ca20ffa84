"""The registry of published models: sound entries, and one entry whatever name was typed. No test asks the network."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from mta4dpr.models.registry import CHECKPOINTS, TOKENIZER_BYTES, Checkpoint, checkpoint_of, hub_of, short_names

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # owner/name
FORMER_ID = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")  # the hub's first models had no owner


@pytest.mark.parametrize("hub", CHECKPOINTS)
def test_an_entry_is_whole(hub: str) -> None:
    """A typo here would plan a wrong size, fetch another revision or pass off wrong weights as these."""
    checkpoint = CHECKPOINTS[hub]
    assert HUB_ID.fullmatch(hub)
    assert min(checkpoint.parameters, checkpoint.layers, checkpoint.dimensions) > 0
    assert checkpoint.tokenizer
    assert re.search(r"\[[fmsa]\]", checkpoint.source), "source names none of the keys of the module's docstring"
    assert re.fullmatch(r"([0-9a-f]{40})?", checkpoint.revision)
    assert bool(checkpoint.name) == bool(checkpoint.about), "a listed model has a short name and a line about it"
    assert "/" not in checkpoint.name
    assert checkpoint.package is None or re.fullmatch(r"[0-9a-f]{64}", checkpoint.package.sha256)
    lengths = [length for length in (checkpoint.query_length, checkpoint.passage_length) if length is not None]
    assert all(0 < length <= 512 for length in lengths)


def test_no_name_stands_for_two_models() -> None:
    """Short names, hub ids and former ids share one space: a command line takes any of them."""
    names = Counter(n for hub, c in CHECKPOINTS.items() for n in (hub, *([c.name] if c.name else []), *c.aliases))
    assert [name for name, times in names.items() if times > 1] == []
    assert all(FORMER_ID.fullmatch(alias) for c in CHECKPOINTS.values() for alias in c.aliases)


def test_every_name_of_a_model_finds_its_entry() -> None:
    """Lengths and prefixes of a published model must not depend on which of its names was typed."""
    for hub, checkpoint in CHECKPOINTS.items():
        for name in (hub, checkpoint.name or hub, *checkpoint.aliases):
            assert checkpoint_of(name) is checkpoint


def test_a_name_that_is_alike_is_another_model() -> None:
    """Somebody's copy of a model may have been trained on."""
    assert checkpoint_of("somebody/tas-b") is None
    assert checkpoint_of("") is None  # most entries have no short name; none of them is meant


def test_short_names_lead_to_the_hub() -> None:
    assert hub_of("tas-b") == "sentence-transformers/msmarco-distilbert-base-tas-b"
    assert short_names()["tas-b"] == hub_of("tas-b")
    assert "" not in short_names()
    assert hub_of("nobody/nothing") == "nobody/nothing"
    assert hub_of("distilbert-base-uncased") == "distilbert-base-uncased"  # the hub redirects; caches know it by what was asked


def test_bytes_are_those_of_the_file_or_four_a_parameter() -> None:
    small = Checkpoint(parameters=10, layers=1, dimensions=2, tokenizer="t", source="[f]")
    assert small.bytes == 40 + TOKENIZER_BYTES
    assert replace(small, weights=123).bytes == 123 + TOKENIZER_BYTES
