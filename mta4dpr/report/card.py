"""README.md of an exported student: a model card with its results, how it was trained, and how three libraries load it.

Reads no model and no file: what the card says of the model comes as a `Card`, the results as a leaderboard.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mta4dpr.report.formats import markdown_code, markdown_table, markdown_text
from mta4dpr.report.leaderboard import EvalSetRow, Leaderboard
from mta4dpr.report.tables import Cell, Table, TableColumn, interval_text, parameters_text


@dataclass(frozen=True)
class Origin:
    """A model that the student started from or was taught by."""

    role: str  # start, teacher, assistant
    name: str
    files: bool  # it is a published model or a local one, with terms of its own
    licence: str  # as its own card says; empty when it does not


@dataclass(frozen=True)
class Card:
    """What a model card says, apart from the results. Lengths are in tokens, special ones included."""

    system: str
    folder: str  # its name, as the examples load it
    benchmark: str
    title: str
    parameters: int
    dimensions: int
    base: str  # the hub's id of the model it starts from, where it has one
    strategy: str
    about: str  # the strategy, in a sentence
    source: str  # of the strategy
    teacher: str  # its label; empty when none taught
    origins: Sequence[Origin]
    corpus: str
    train: str
    text_hash: str
    options: Mapping[str, Any]  # those that differ from the defaults
    seed: int
    versions: Mapping[str, str]
    query_length: int
    passage_length: int
    query_prefix: str
    passage_prefix: str
    pooling: str  # mean or cls; empty when other libraries need more than pooling and normalisation
    normalized: bool
    onnx: bool
    texts_compared: int
    agreement: Sequence[Mapping[str, Any]]  # {"library", "queries", "passages"}: the largest difference of a number from our vectors'


def transformers_code(folder: str, *, pooling: str, normalized: bool) -> str:
    """Python code that loads the model in `folder` by transformers and defines encode(texts, longest)."""
    return str(_templates().get_template("transformers.py.j2").render(folder=folder, pooling=pooling, normalized=normalized))


def model_card(card: Card, board: Leaderboard | None) -> str:
    """Markdown with the YAML head that the Hugging Face hub reads. Without a leaderboard it says that nothing is measured yet."""
    import yaml

    head: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "license": "unknown",
        **({"base_model": card.base} if card.base else {}),
        "tags": ["sentence-transformers", "feature-extraction", "dense-retrieval", "knowledge-distillation", "mta4dpr"],
    }
    code = transformers_code(card.folder, pooling=card.pooling, normalized=card.normalized) if card.pooling else ""
    sections = [(eval_set, markdown_table(_results(card, board, eval_set))) for eval_set in board.eval_sets] if board else []
    return str(
        _templates()
        .get_template("model_card.md.j2")
        .render(
            head=yaml.safe_dump(head, sort_keys=False, allow_unicode=True),
            card=card,
            board=board,
            sections=sections,
            transformers_code=code,
        )
    )


def _templates() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # noqa: S701 (Markdown; text and code go through the filters below)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    python = partial(json.dumps, ensure_ascii=False)  # a string in JSON is one in Python
    environment.filters |= {"md": markdown_text, "code": markdown_code, "py": python, "shell": shlex.quote, "count": parameters_text}
    return environment


def _results(card: Card, board: Leaderboard, eval_set: EvalSetRow) -> Table:
    """This student, its teacher, BM25 and the student before training, every measure with its interval."""
    there = {system.system: system for system in board.systems}
    shown = [name for name in dict.fromkeys([card.system, card.teacher, "bm25", "student-init"]) if name in there]
    measures = [eval_set.primary, *(measure for measure in eval_set.measures if measure != eval_set.primary)]
    rows = []
    for name in shown:
        found = [board.row(name, eval_set.id, measure) for measure in measures]
        if not any(found):
            continue
        cells = [Cell(f"{row.value:.4f} {interval_text(row.ci95)}", bold=name == card.system) if row else Cell() for row in found]
        rows.append((Cell(name, bold=name == card.system), *cells))
    return Table(title=eval_set.id, columns=(TableColumn("system", names=True), *(TableColumn(m) for m in measures)), rows=tuple(rows))
