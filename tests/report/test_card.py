"""The model card's code for models that differ from the usual: [CLS], no normalisation, prefixes, two lengths, odd names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.models.encoder import Encoder, load_encoder
from mta4dpr.report.card import Card, Origin, model_card

NAME = 'a "b" c'


@pytest.fixture(scope="module")
def model(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Saved as a student is, in a folder with an odd name."""
    root = tmp_path_factory.mktemp("model")
    encoder.save(root / "plain")
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (root / "plain" / name).unlink()
    spec = ModelSpec(
        model=str(root / "plain"),
        pooling="cls",
        normalize=False,
        query_prefix="ask: ",
        passage_prefix="text: ",
        query_length=7,
        passage_length=11,
    )
    loaded = load_encoder("odd", spec, device="cpu")
    loaded.save(root / NAME)
    loaded.folder = root  # type: ignore[attr-defined]
    return loaded


def card_of(model: Encoder) -> Card:
    return Card(
        system="odd | name",
        folder=NAME,
        benchmark="mine",
        title="A | title with *stars*",
        parameters=model.parameters,
        dimensions=model.dimensions,
        base="someone/model",
        strategy="kd",
        about="learns",
        source="us",
        teacher="teacher",
        origins=[Origin("start", "base", files=True, licence="mit, says its card"), Origin("teacher", "other", files=True, licence="")],
        corpus="corpus",
        train="corpus/train",
        text_hash="0" * 64,
        options={"lr": 0.1},
        seed=0,
        versions={"torch": "1"},
        query_length=model.reading.query_length,
        passage_length=model.reading.passage_length,
        query_prefix=model.reading.query_prefix,
        passage_prefix=model.reading.passage_prefix,
        pooling="cls",
        normalized=False,
        onnx=False,
        texts_compared=3,
        agreement=[{"library": "transformers", "queries": 1.25e-7, "passages": 0.0}],
    )


def test_both_libraries_give_our_vectors(model: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies must read texts to the right length, with the right prefix, pooled as the model was trained."""
    monkeypatch.chdir(model.folder)  # type: ignore[attr-defined]
    text = model_card(card_of(model), None)
    code = dict(re.findall(r"\n([\w-]+)[^\n]*:\n\n```python\n(.*?)```", text, re.DOTALL))
    ours = model.encode_queries(["how to read a file"])
    assert abs(np.linalg.norm(ours) - 1) > 0.1
    for library in ("sentence-transformers", "transformers"):
        names: dict[str, Any] = {}
        exec(code[library], names)
        np.testing.assert_allclose(np.asarray(names["queries"]), ours, atol=1e-5, err_msg=library)
    assert "l2_norm=False" in code["Pyserini"]
    assert code["Pyserini"].startswith("import mta4dpr.java"), (
        "Pyserini alone takes the first Java on PATH, and ends the process if it is 17"
    )
    assert "max_seq_length" not in text
    assert "reads 11 tokens of queries too" in text
    assert "| transformers | 1e-07 | 0 |" in text
    assert 'searcher.search("ask: how to read a file"' in code["Pyserini"]


def test_text_is_escaped_and_what_is_not_known_is_said(model: Encoder) -> None:
    text = model_card(card_of(model), None)
    head = yaml.safe_load(text.split("---")[1])
    assert head["base_model"] == "someone/model"
    assert "A \\| title with \\*stars\\*" in text
    assert "Not measured yet." in text
    assert "start base: mit, says its card" in text
    assert "teacher other: its files state no licence" in text


def test_the_command_can_be_pasted_into_a_shell(model: Encoder) -> None:
    """Folders have spaces, labels have what a shell would read."""
    text = model_card(replace(card_of(model), folder="my student (ä)", system="$new"), None)
    assert "`mta4dpr-bench export DIR --system '$new' --index 'my student (ä)-index'`" in text


def test_a_model_with_more_layers_is_for_sentence_transformers_alone(model: Encoder) -> None:
    """AutoModel would leave a Dense layer out in silence."""
    text = model_card(replace(card_of(model), pooling=""), None)
    assert "AutoModel.from_pretrained" not in text
    assert "FaissSearcher(" not in text
    assert "more than a mean or [CLS] pooling" in text
