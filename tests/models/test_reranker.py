"""Cross-encoders: scores are those of transformers and sentence-transformers, and a pair has one to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.tokens import MOST_TOKENS, TokenPairs, tokens_of_texts
from mta4dpr.errors import UserError
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.models.reranker import Reranker, load_reranker

LETTERS = [chr(code) for code in range(33, 127)]
WORDS = ["red", "fox", "dog", "river", "stone", "winter", "song"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
ARCHITECTURES = ["bert", "roberta", "distilbert", "mpnet"]
BUDGET = 512

QUERIES = ["red fox", "winter song of the river", "", "stone"]
PASSAGES = ["The RED fox, jumps!", "dog " * 12 + "fox", "", "a river of stone", "winter " * 60, "song " * 38]
EVERY_PAIR = [(q, p) for q in range(len(QUERIES)) for p in range(len(PASSAGES))]


def make_model(folder: Path, architecture: str, labels: int = 1, **settings: Any) -> Path:
    """A small sequence-classification model with random weights whose scores are far apart, saved with its tokenizer."""
    import transformers as t

    words = [*LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
    bert = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    fairseq = {word: n for n, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", "[UNK]", *words])}
    tokenizer, config, network = {
        "bert": (lambda: t.BertTokenizer(vocab=bert), t.BertConfig, t.BertForSequenceClassification),
        "roberta": (lambda: t.RobertaTokenizer(vocab=fairseq, merges=[]), t.RobertaConfig, t.RobertaForSequenceClassification),
        "distilbert": (lambda: t.DistilBertTokenizer(vocab=bert), t.DistilBertConfig, t.DistilBertForSequenceClassification),
        "mpnet": (lambda: t.MPNetTokenizer(vocab=fairseq), t.MPNetConfig, t.MPNetForSequenceClassification),
    }[architecture]
    sizes = {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64} if architecture == "distilbert" else SIZES
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2} if architecture in ("roberta", "mpnet") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network(config(vocab_size=len(fairseq), num_labels=labels, max_position_embeddings=130, **sizes, **special, **settings))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(8)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders of models, each made once."""
    root, made = tmp_path_factory.mktemp("rerankers"), {}

    def get(architecture: str, labels: int = 1) -> Path:
        if (architecture, labels) not in made:
            made[architecture, labels] = make_model(root / f"{architecture}-{labels}", architecture, labels)
        return made[architecture, labels]

    return get


def load(folder: Path, **spec: Any) -> Reranker:
    return load_reranker(
        "ce", ModelSpec(kind="cross-encoder", model=str(folder), **{"pair_length": 48, **spec}), device="cpu", offline=True
    )


def pairs_of(reranker: Reranker, queries: list[str], passages: list[str]) -> TokenPairs:
    stored = tokens_of_texts(reranker.tokenizer, passages, prefix=reranker.reading.passage_prefix)
    return reranker.pairs(reranker.query_tokens(queries), stored)


def scores_of(reranker: Reranker, *, budget: int = BUDGET) -> np.ndarray:
    queries, passages = np.array(EVERY_PAIR).T
    return reranker.score(pairs_of(reranker, QUERIES, PASSAGES), queries, passages, token_budget=budget)


def by_transformers(folder: Path, pairs: list[tuple[str, str]], longest: int) -> np.ndarray:
    """Logits by transformers alone, one padded batch, (pairs, labels)."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, truncation=True, max_length=longest, return_tensors="pt")
    with torch.inference_mode():
        return AutoModelForSequenceClassification.from_pretrained(folder).eval()(**batch).logits.numpy()


# --- the same scores as others give ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_those_of_transformers_and_sentence_transformers(model: Callable[..., Path], architecture: str) -> None:
    """Template, token types, truncation, padding: one wrong id and no published reranker gives its published figures."""
    from sentence_transformers import CrossEncoder

    folder = model(architecture)
    found = scores_of(load(folder))
    texts = [(QUERIES[q], PASSAGES[p]) for q, p in EVERY_PAIR]
    np.testing.assert_allclose(found, by_transformers(folder, texts, 48)[:, 0], atol=1e-5)
    theirs = CrossEncoder(str(folder), device="cpu", max_length=48, activation_fn=torch.nn.Identity(), local_files_only=True)
    np.testing.assert_allclose(found, theirs.predict(texts), atol=1e-5)
    assert found.dtype == np.float32
    assert found.std() > 1e-2  # or anything would be close


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
@pytest.mark.parametrize("longest", [8, 13, 48])
def test_a_batch_is_what_the_tokenizer_gives(model: Callable[..., Path], architecture: str, longest: int) -> None:
    """Cutting too: queries longer than passages, passages longer than queries, both longer than half of the room."""
    from transformers import AutoTokenizer

    texts = ["", "red", "fox " * 3, "dog " * 5, "river " * 6, "stone " * 9, "song " * 60]
    reranker = load(model(architecture), pair_length=longest)
    numbers = np.array([(q, p) for q in range(len(texts)) for p in range(len(texts))]).T
    pairs = pairs_of(reranker, texts, texts)
    ids, mask, types = pairs.batch(*numbers)
    tokenizer = AutoTokenizer.from_pretrained(model(architecture))
    asked = [[texts[n] for n in side] for side in numbers]
    expected = tokenizer(*asked, padding=True, truncation=True, max_length=longest, return_token_type_ids=True, return_tensors="np")
    np.testing.assert_array_equal(ids, expected["input_ids"])
    np.testing.assert_array_equal(mask, expected["attention_mask"])
    np.testing.assert_array_equal(types, expected["token_type_ids"])
    np.testing.assert_array_equal(pairs.lengths(*numbers), mask.sum(1))
    wider = pairs.batch(*numbers, width=50)
    assert wider[0].shape == (49, 50)
    np.testing.assert_array_equal(wider[0][:, : ids.shape[1]], ids)
    assert not wider[1][:, ids.shape[1] :].any()


def test_query_length_cuts_the_query_first(model: Callable[..., Path]) -> None:
    """It counts [CLS] and [SEP] as for a bi-encoder: 5 leave three words; the passage gets what is left."""
    reranker = load(model("bert"), query_length=5, pair_length=20)
    pairs = pairs_of(reranker, ["red " * 30, "red red"], ["fox " * 40])
    ids, _, types = pairs.batch(np.array([0, 1]), np.array([0, 0]))
    red, fox = (reranker.tokenizer.ids([word])[0][0] for word in ("red", "fox"))
    assert [(row == red).sum() for row in ids] == [3, 2]
    assert [(row == fox).sum() for row in ids] == [14, 15]
    assert types.sum(1).tolist() == [15, 16]  # passage and last [SEP]


def test_prefixes_come_before_the_texts(model: Callable[..., Path]) -> None:
    folder = model("bert")
    found = scores_of(load(folder, query_prefix="dog ", passage_prefix="stone: "))
    texts = [("dog " + QUERIES[q], "stone: " + PASSAGES[p]) for q, p in EVERY_PAIR]
    np.testing.assert_allclose(found, by_transformers(folder, texts, 48)[:, 0], atol=1e-5)
    assert np.abs(found - scores_of(load(folder))).max() > 1e-3


def test_two_labels_score_by_their_difference(model: Callable[..., Path]) -> None:
    """Label 1 is "relevant": the log-odds of it, whose softmax over a group is a distribution as one logit's is."""
    folder = model("bert", 2)
    logits = by_transformers(folder, [(QUERIES[q], PASSAGES[p]) for q, p in EVERY_PAIR], 48)
    np.testing.assert_allclose(scores_of(load(folder)), logits[:, 1] - logits[:, 0], atol=2e-5)
    assert np.abs(logits[:, 0]).max() > 1e-2


# --- one score to the bit ---


def test_a_pair_has_one_score_whatever_is_scored_with_it(model: Callable[..., Path]) -> None:
    """In any order, in parts, alone; with pairs of full length, where attention has no mask, among them."""
    reranker = load(model("bert"))
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, size)) for size in draw.integers(1, 45, 60)]
    pairs = pairs_of(reranker, texts[:20], texts)
    queries, passages = draw.integers(0, 20, 150), draw.integers(0, 60, 150)
    lengths = pairs.lengths(queries, passages)
    assert 10 < (lengths == 48).sum() < 100

    order = draw.permutation(150)
    parts = (order, order[:1], order[1:8], order[8:90], np.flatnonzero(lengths == 48), np.flatnonzero(lengths == 40)[:1])
    for budget in (100, 256, 512, 1100):
        whole = reranker.score(pairs, queries, passages, token_budget=budget)
        for part in parts:
            assert (reranker.score(pairs, queries[part], passages[part], token_budget=budget) == whole[part]).all()
    assert reranker.score(pairs, queries[:0], passages[:0], token_budget=BUDGET).shape == (0,)


def test_batches_keep_to_the_budget(model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It bounds memory: padding and filled-up rows included; a pair longer than the budget goes alone."""
    reranker = load(model("bert"))
    shapes: list[tuple[int, ...]] = []
    plain = reranker.forward

    def forward(ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        full = mask.bool().all(dim=1)
        assert full.all() or not full.any()  # without padding, attention is computed by another kernel on some devices
        shapes.append(tuple(ids.shape))
        return plain(ids, mask, types)

    monkeypatch.setattr(reranker, "forward", forward)
    scores_of(reranker, budget=100)
    assert all(rows * width <= 100 for rows, width in shapes)
    assert any(rows > 1 for rows, _ in shapes)
    scores_of(reranker, budget=10)
    assert (1, 48) in shapes
    shapes.clear()
    scores_of(reranker, budget=10_000)
    assert {rows for rows, _ in shapes} == {32}
    assert (32, 48) in shapes


def test_scoring_is_in_evaluation_mode_and_forward_has_gradients(model: Callable[..., Path]) -> None:
    """A teacher that is trained jointly was in training mode a moment ago: dropout must not reach kept scores."""
    reranker = load(model("bert"))
    expected = scores_of(reranker)
    reranker.network.train()
    assert (scores_of(reranker) == expected).all()
    pairs = pairs_of(reranker, QUERIES, PASSAGES)
    batch = [torch.from_numpy(array) for array in pairs.batch(*np.array(EVERY_PAIR).T)]
    logits = reranker.forward(*batch)
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-5)
    logits.sum().backward()
    assert reranker.network.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0


# --- loading ---


def test_the_key_changes_with_whatever_changes_scores(model: Callable[..., Path], tmp_path: Path) -> None:
    """Scores are kept under it: two rerankers with one key would share them."""
    other = load(model("bert"))
    with torch.no_grad():
        other.network.classifier.bias[0] += 1e-3
    other.network.save_pretrained(tmp_path / "other")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "other" / name).write_bytes((model("bert") / name).read_bytes())
    changes: list[dict[str, Any]] = [
        {},
        {"pair_length": 47},
        {"query_length": 16},
        {"query_prefix": "q"},
        {"passage_prefix": "q"},
        {"layers": [0, 1]},
        {"layers": [0, 2]},
    ]
    keys = [load(model("bert"), **change).key for change in changes] + [load(tmp_path / "other").key, load(model("mpnet")).key]
    assert len(set(keys)) == len(keys)
    assert load(model("bert")).key == keys[0]


def test_layers_can_be_cut(model: Callable[..., Path]) -> None:
    """A cheaper assistant out of a large reranker."""
    whole, cut = load(model("roberta")), load(model("roberta"), layers=[0, 2])
    assert len(cut.network.roberta.encoder.layer) == 2
    assert cut.parameters < whole.parameters
    assert np.abs(scores_of(cut) - scores_of(whole)).max() > 1e-3


def test_a_model_without_a_trained_head_is_refused(model: Callable[..., Path], tmp_path: Path) -> None:
    """transformers would draw the head at random and go on, and so would the teacher."""
    from transformers import AutoModel, AutoTokenizer

    for architecture, weight in (("bert", "classifier.weight"), ("distilbert", "pre_classifier.weight")):
        AutoModel.from_pretrained(model(architecture)).save_pretrained(tmp_path / architecture)
        AutoTokenizer.from_pretrained(model(architecture)).save_pretrained(tmp_path / architecture)
        with pytest.raises(UserError, match="model 'ce': expected a cross-encoder with a trained classification head") as caught:
            load(tmp_path / architecture)
        assert weight in str(caught.value)


def test_a_missing_weight_below_the_head_is_refused(model: Callable[..., Path], tmp_path: Path) -> None:
    """BERT's pooler, which bi-encoders do without, is part of a cross-encoder."""
    from safetensors.torch import load_file, save_file

    for path in model("bert").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name: w for name, w in weights.items() if "pooler" not in name}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"found none for 2 of .* such as bert\.pooler\.dense\.bias"):
        load(tmp_path)


def test_three_labels_are_no_score(model: Callable[..., Path]) -> None:
    """A model of natural language inference, say."""
    with pytest.raises(UserError, match="1 label .* or 2 .*, found 3"):
        load(model("bert", 3))


def test_folders_that_hold_no_reranker(model: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError, match="holds no model"):
        load(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((model("bert") / name).read_bytes())
    with pytest.raises(UserError, match="tokenizer"):
        load(tmp_path)
    write_json(tmp_path / "config.json", {**read_json(tmp_path / "config.json"), "model_type": "vit"})
    with pytest.raises(UserError, match="holds no model"):
        load(tmp_path)


def test_lengths_that_the_model_cannot_take(model: Callable[..., Path], tmp_path: Path) -> None:
    """RoBERTa has 130 positions, of which two are for padding; a store keeps no more than MOST_TOKENS of a text."""
    assert load(model("roberta"), pair_length=None).reading.pair_length == 128
    with pytest.raises(UserError, match="pair_length 129 is more than 128 tokens"):
        load(model("roberta"), pair_length=129)
    with pytest.raises(UserError, match="query_length 128 leaves no room"):
        load(model("roberta"), pair_length=None, query_length=128)
    long = make_model(tmp_path / "long", "bert")
    write_json(long / "tokenizer_config.json", {**read_json(long / "tokenizer_config.json"), "model_max_length": 64})
    assert load(long, pair_length=None).reading.pair_length == 64
    assert MOST_TOKENS == 512
