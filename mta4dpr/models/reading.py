"""How a bi-encoder reads texts: lengths and prefixes, out of what a benchmark says, the model's files, and the registry."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.tokens import MOST_TOKENS
from mta4dpr.errors import UserError
from mta4dpr.models.layers import positions_of
from mta4dpr.models.registry import Checkpoint
from mta4dpr.models.settings import CONFIG, COSINE, MODULE_LIST, Settings, read_object

log = logging.getLogger(__name__)

EARLIER = "mta4dpr.json"  # where earlier versions kept a student's reading
LEAST_TOKENS = 4


@dataclass(frozen=True)
class Reading:
    """How texts become tokens. Lengths count special tokens."""

    query_length: int
    passage_length: int
    query_prefix: str
    passage_prefix: str


def reading_of(label: str, spec: ModelSpec, said: Settings | None, known: Checkpoint | None, folder: Path | None, network: Any) -> Reading:
    """What the spec says, else what the folder states for queries and passages, else the registry, else the folder's one length."""
    positions = positions_of(network[0].model)
    most = min(positions, MOST_TOKENS)  # a token store holds no more
    one_length = network.max_seq_length or most
    longest = int(min(one_length, most))
    usual = {"query_length": longest, "passage_length": longest, "query_prefix": "", "passage_prefix": ""}
    stated: dict[str, Any] = {}
    if said is not None:
        lengths = {"query_length": said.query_length, "passage_length": said.document_length}
        stated = {name: length for name, length in lengths.items() if length is not None}
        prefixes = {"query_prefix": said.query_prefix, "passage_prefix": said.passage_prefix}
        earlier = _earlier(label, folder, {"passage_length": longest, **stated, **prefixes})
        stated = {**earlier, **stated, **{name: prefix for name, prefix in prefixes.items() if prefix}}
        _tell_of_idle_prompts(label, said)
    found: dict[str, Any] = {}
    for name, default in usual.items():
        choices = (getattr(spec, name), stated.get(name), getattr(known, name, None), default)
        found[name] = next(value for value in choices if value is not None)
    for name in ("query_length", "passage_length"):
        if not LEAST_TOKENS <= found[name] <= most:
            how = f"more than {most}" if found[name] > most else f"less than {LEAST_TOKENS}"
            raise UserError(
                f"{name} {found[name]} is {how} tokens (the model has {positions} positions, a token store keeps {MOST_TOKENS} tokens of a "
                "text)"
            )
        if found[name] == MOST_TOKENS < min(positions, one_length):
            log.info("model %s reads %d tokens; %s is %d, the most that are kept of a text", label, one_length, name, MOST_TOKENS)
    return Reading(**found)


def _earlier(label: str, folder: Path | None, others: dict[str, Any]) -> dict[str, Any]:
    """The reading that an earlier version kept beside a student. UserError where the folder's other files say something else."""
    if folder is None or not (folder / EARLIER).exists():
        return {}
    found = read_object(label, folder / EARLIER)
    for name, value in others.items():
        if name in found and found[name] != value:
            raise UserError(
                f"model {label!r}: {folder / EARLIER} has {name} {found[name]!r}, the files of sentence-transformers beside it {value!r}; "
                f"remove {EARLIER} if these are right"
            )
    return {name: value for name, value in found.items() if name in Reading.__dataclass_fields__}


def _tell_of_idle_prompts(label: str, said: Settings) -> None:
    idle = sorted(set(said.prompts) - {"query", "document"})
    if idle:
        log.warning(
            "model %s: prompts of %s that nothing begins with, as in sentence-transformers' encode_query and encode_document: %s; "
            "query_prefix and passage_prefix of the benchmark set others",
            *(label, CONFIG, ", ".join(idle)),
        )


def is_normalized(label: str, spec: ModelSpec, said: Settings | None, known: Checkpoint | None) -> bool:
    """Whether vectors are brought to length 1 before they are compared by inner product, which makes that the cosine.

    What the benchmark says, else the similarity that the files name, else the registry's word; else a sentence-transformers folder is
    compared by cosine, as that library does, and a plain one as it is. UserError where the benchmark takes away what the files have.
    """
    if said is None:
        return bool(spec.normalize if spec.normalize is not None else (known and known.normalize))
    if spec.normalize is False and (said.normalized or said.similarity == COSINE):
        where = f"{MODULE_LIST} ends in Normalize" if said.normalized else f"{CONFIG} has similarity_fn_name {COSINE!r}"
        raise UserError(f"model {label!r}: normalize is false, but its {where}; leave out normalize, or change that file")
    if spec.normalize is not None:
        return spec.normalize
    if said.similarity is not None:
        return said.normalized or said.similarity == COSINE
    return said.normalized or not (known and known.normalize is False)
