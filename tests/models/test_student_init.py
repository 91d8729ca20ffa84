"""Published encoders as students: every family against transformers by hand, cut, saved, at its limits, and damaged.

Six layers of 16 dimensions with random weights stand for DistilBERT, MiniLM (a BERT), MPNet, RoBERTa, ELECTRA and DeBERTa.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mta4dpr.benchmark import ModelSpec
from mta4dpr.errors import UserError
from mta4dpr.files import read_json, write_json
from mta4dpr.models.encoder import Encoder, hash_of_files, hash_of_weights, load_encoder

WORDS = ["red", "blue", "fox", "whale", "dog", "river", "stone", "cloud", "winter", "song"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = [*LETTERS, *",.!0123456789", *(f"##{c}" for c in LETTERS), *WORDS]
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MPNET_SPECIAL = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEXTS = ["red fox", "", "  a song, of the WINTER\n river!", "Zürich 42 — 北京", "stone", "dog " * 70, "blue cloud " * 9]
POSITIONS = 40
SIZES = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 24}
KEPT = [0, 2, 4]
WHERE_LAYERS_ARE = {"distilbert": "transformer.layer."}  # elsewhere encoder.layer.


def word_pieces(tokenizer: type, special: list[str]) -> Callable[[Path], int]:
    def write(folder: Path) -> int:
        (folder / "vocab.txt").write_text("\n".join([*special, *PIECES]) + "\n", encoding="utf-8")
        made = tokenizer(vocab=str(folder / "vocab.txt"))
        made.save_pretrained(folder)
        return len(made)

    return write


def byte_pairs(folder: Path) -> int:
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([" ".join(WORDS)] * 9, vocab_size=300, min_frequency=1, special_tokens=ROBERTA_SPECIAL, show_progress=False)
    trained.save_model(str(folder))
    made = transformers.RobertaTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    made.save_pretrained(folder)
    return len(made)


def save_model(folder: Path, write_tokenizer: Callable[[Path], int], model: type, config: type, **settings: Any) -> Path:
    """A model with weights large enough that every part of it shows in the vectors."""
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    made = model(config(vocab_size=write_tokenizer(folder), **settings))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.7 if parameter.dim() > 1 else 0.2))
    made.save_pretrained(folder)
    return folder


def distilbert(folder: Path, model: type = transformers.DistilBertModel) -> Path:
    sizes = {"dim": 16, "n_layers": 6, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": POSITIONS}
    return save_model(folder, word_pieces(transformers.DistilBertTokenizer, BERT_SPECIAL), model, transformers.DistilBertConfig, **sizes)


def bert(folder: Path, model: type = transformers.BertModel) -> Path:
    tokens = word_pieces(transformers.BertTokenizer, BERT_SPECIAL)
    return save_model(folder, tokens, model, transformers.BertConfig, max_position_embeddings=POSITIONS, **SIZES)


def mpnet(folder: Path) -> Path:
    tokens = word_pieces(transformers.MPNetTokenizer, MPNET_SPECIAL)
    return save_model(folder, tokens, transformers.MPNetModel, transformers.MPNetConfig, max_position_embeddings=POSITIONS + 2, **SIZES)


def roberta(folder: Path, pad: int = 1) -> Path:
    settings = {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1, "pad_token_id": pad, **SIZES}
    return save_model(folder, byte_pairs, transformers.RobertaModel, transformers.RobertaConfig, **settings)


def electra(folder: Path) -> Path:
    tokens = word_pieces(transformers.ElectraTokenizer, BERT_SPECIAL)
    settings = {"max_position_embeddings": POSITIONS, "embedding_size": 8, **SIZES}
    return save_model(folder, tokens, transformers.ElectraModel, transformers.ElectraConfig, **settings)


def deberta(folder: Path) -> Path:
    tokens = word_pieces(transformers.BertTokenizer, BERT_SPECIAL)
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "norm_rel_ebd": "layer_norm"}
    settings = {"max_position_embeddings": POSITIONS, "position_biased_input": False, **relative, **SIZES}
    return save_model(folder, tokens, transformers.DebertaV2Model, transformers.DebertaV2Config, **settings)


FAMILIES = {"distilbert": distilbert, "bert": bert, "mpnet": mpnet, "roberta": roberta, "electra": electra, "deberta": deberta}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they bring on networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the family as transformers saves it; nobody may change it."""
    return FAMILIES[family](tmp_path_factory.mktemp("published") / family)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A BERT that a test may damage."""
    return bert(tmp_path / "bert")


def load(folder: Path, **spec: Any) -> Encoder:
    told = {} if (folder / "modules.json").exists() else {"pooling": "mean", "normalize": False}
    return load_encoder("m", ModelSpec(model=str(folder), **{**told, **spec}), device="cpu", offline=True)


def pooled(model: Any, folder: Path, *, longest: int, pooling: str = "mean", normalize: bool = False) -> np.ndarray:
    """Vectors of TEXTS by transformers alone."""
    batch = transformers.AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=True, truncation=True, max_length=longest, return_tensors="pt"
    )
    with torch.no_grad():
        states = model.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    vectors = states[:, 0] if pooling == "cls" else (states * mask).sum(dim=1) / mask.sum(dim=1)
    return (vectors / vectors.norm(dim=1, keepdim=True) if normalize else vectors).numpy()


def theirs(folder: Path) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return np.asarray(SentenceTransformer(str(folder), device="cpu").encode(TEXTS))


def rewrite(folder: Path, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor] | None]) -> None:
    """Other weights in the folder; what `change` gives None for is left out."""
    changed = [change(name, tensor) for name, tensor in load_file(folder / "model.safetensors").items()]
    save_file({name: tensor.contiguous() for name, tensor in filter(None, changed)}, folder / "model.safetensors", {"format": "pt"})


# --- what a family gives ---


@pytest.mark.parametrize(("pooling", "normalize"), [("mean", False), ("cls", True)])
def test_vectors_are_those_of_transformers(folder: Path, pooling: str, normalize: bool) -> None:
    """Own batches, own padding, no token types: the numbers must be the library's, white space and unknown letters included."""
    found = load(folder, pooling=pooling, normalize=normalize).encode_queries(TEXTS)
    expected = pooled(transformers.AutoModel.from_pretrained(folder), folder, longest=POSITIONS, pooling=pooling, normalize=normalize)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    distances = np.abs(expected[:, None] - expected[None]).max(axis=-1)
    assert distances[~np.eye(len(TEXTS), dtype=bool)].min() > 1e-3  # seven different texts, so a mix-up shows


def test_a_cut_has_the_kept_layers_weights(family: str, folder: Path) -> None:
    """Against a three-layer model of transformers into which the weights of layers 0, 2 and 4 were put by name."""
    cut = load(folder, layers=KEPT)
    whole = transformers.AutoModel.from_pretrained(folder)
    prefix = WHERE_LAYERS_ARE.get(family, "encoder.layer.")
    weights = {}
    for name, tensor in whole.state_dict().items():
        inside, number, rest = name.startswith(prefix), *name.removeprefix(prefix).split(".", 1)
        if not inside:
            weights[name] = tensor
        elif int(number) in KEPT:
            weights[f"{prefix}{KEPT.index(int(number))}.{rest}"] = tensor
    found = cut.transformer.state_dict()
    assert found.keys() == weights.keys()
    assert all((found[name] == tensor).all() for name, tensor in weights.items())
    config = transformers.AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 3
    reference = type(whole)(config)
    reference.load_state_dict(weights)
    np.testing.assert_allclose(cut.encode_queries(TEXTS), pooled(reference, folder, longest=POSITIONS), atol=1e-5)
    assert np.abs(cut.encode_queries(TEXTS) - load(folder).encode_queries(TEXTS)).max() > 1e-2


@pytest.mark.parametrize("layers", [None, KEPT])
def test_saved_it_loads_here_and_in_sentence_transformers_with_the_same_vectors(
    family: str, folder: Path, tmp_path: Path, layers: list[int] | None
) -> None:
    """The config on disk must say how many layers there are, under the family's own name for it."""
    student = load(folder, layers=layers)
    expected = student.encode_queries(TEXTS)
    student.save(tmp_path / "student")
    config = read_json(tmp_path / "student" / "config.json")
    assert config["n_layers" if family == "distilbert" else "num_hidden_layers"] == (6 if layers is None else 3)
    again = load(tmp_path / "student")
    np.testing.assert_allclose(again.encode_queries(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(theirs(tmp_path / "student"), expected, atol=1e-6)
    assert hash_of_weights(again.network) == hash_of_weights(student.network)
    assert again.reading == student.reading


# --- lengths ---


def test_texts_at_the_limit_of_positions(family: str, folder: Path) -> None:
    """The longest length is exactly what the model takes: one token more fails in transformers, and is an error here."""
    encoder = load(folder)
    assert encoder.reading.query_length == encoder.reading.passage_length == POSITIONS
    _, mask = encoder.query_tokens(TEXTS).batch(np.arange(len(TEXTS)), encoder.reading.query_length)
    assert mask.sum(axis=1).max() == POSITIONS
    if family != "deberta":  # its positions are relative, the limit is the one it was trained with
        one_more = torch.full((1, POSITIONS + 1), 20)
        with pytest.raises((IndexError, RuntimeError)):
            encoder.forward(one_more, torch.ones_like(one_more))
    with pytest.raises(UserError, match=f"query_length {POSITIONS + 1} is more than {POSITIONS}"):
        load(folder, query_length=POSITIONS + 1)


@pytest.mark.parametrize(("pad", "longest"), [(0, 41), (1, 40), (3, 38)])
def test_robertas_positions_begin_after_its_padding(tmp_path: Path, pad: int, longest: int) -> None:
    """42 positions: padding's number and those before it are never used. Published models have padding 1; others exist."""
    encoder = load(roberta(tmp_path / "roberta", pad))
    assert encoder.reading.passage_length == longest
    ids = torch.full((1, longest), 20)
    assert encoder.forward(ids, torch.ones_like(ids)).isfinite().all()
    with pytest.raises((IndexError, RuntimeError)):
        encoder.forward(torch.full((1, longest + 1), 20), torch.ones(1, longest + 1, dtype=torch.int64))


def test_truncation_is_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    """Special tokens count, and the last one stays: the shortest length there is, and around that of one of the texts."""
    from sentence_transformers import SentenceTransformer

    encoder, model = load(folder), transformers.AutoModel.from_pretrained(folder)
    encoder.save(tmp_path / "student")
    other = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    tokens = encoder.query_tokens(TEXTS)
    around = int(tokens.lengths(POSITIONS)[-1])
    whole = encoder.encode_queries(TEXTS)
    for length in (4, around - 1, around):
        found = encoder.encode(tokens, np.arange(len(TEXTS)), longest=length, token_budget=10_000)
        other.max_seq_length = length
        np.testing.assert_allclose(found, other.encode(TEXTS), atol=1e-6)
        np.testing.assert_allclose(found, pooled(model, folder, longest=length), atol=1e-5)
        assert (np.abs(found - whole)[-1].max() > 1e-3) == (length < around)


# --- how weights come ---


def test_masked_language_models_are_read_without_their_heads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """distilbert-base-uncased is saved so. What is left out is said in one line, not in transformers' table."""
    folder = distilbert(tmp_path / "mlm", transformers.DistilBertForMaskedLM)
    assert any(name.startswith("distilbert.") for name in load_file(folder / "model.safetensors"))
    table: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = table.append  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(handler)
    with caplog.at_level("INFO", logger="mta4dpr"):
        found = load(folder)
    logging.getLogger("transformers").removeHandler(handler)
    expected = transformers.DistilBertForMaskedLM.from_pretrained(folder).distilbert
    np.testing.assert_allclose(found.encode_queries(TEXTS), pooled(expected, folder, longest=POSITIONS), atol=1e-5)
    assert table == []
    assert "does not have: vocab_layer_norm, vocab_projector, vocab_transform" in caplog.text


def test_old_names_and_half_precision(checkpoint: Path, tmp_path: Path) -> None:
    """bert-base-uncased still says gamma and beta; a checkpoint in float16 is computed, and saved, in float32."""
    expected = load(checkpoint).encode_queries(TEXTS)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def renamed(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
        for new, before in old.items():
            name = name.replace(new, before)
        return f"bert.{name}", tensor

    rewrite(checkpoint, renamed)
    np.testing.assert_array_equal(load(checkpoint).encode_queries(TEXTS), expected)
    rewrite(checkpoint, lambda name, tensor: (name, tensor.half()))
    write_json(checkpoint / "config.json", {**read_json(checkpoint / "config.json"), "dtype": "float16"})
    half = load(checkpoint)
    assert {parameter.dtype for parameter in half.network.parameters()} == {torch.float32}
    np.testing.assert_allclose(half.encode_queries(TEXTS), expected, atol=0.05)
    half.save(tmp_path / "student")
    np.testing.assert_allclose(theirs(tmp_path / "student"), half.encode_queries(TEXTS), atol=1e-6)


def test_a_checkpoint_with_pytorch_model_bin_alone(checkpoint: Path) -> None:
    """Most checkpoints of the field come so; tensors alone are read, and the key follows the file."""
    expected, weights = load(checkpoint), load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    torch.save(weights, checkpoint / "pytorch_model.bin")
    found = load(checkpoint)
    np.testing.assert_array_equal(found.encode_queries(TEXTS), expected.encode_queries(TEXTS))
    assert hash_of_weights(found.network) == hash_of_weights(expected.network)
    before = hash_of_files(checkpoint)
    torch.save({**weights, "pooler.dense.bias": torch.ones(16)}, checkpoint / "pytorch_model.bin")
    assert hash_of_files(checkpoint) != before


class Pickled:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_could_run_code_is_not_opened(checkpoint: Path, tmp_path: Path) -> None:
    """A model is data. The message must not send the user to weights_only=False, as torch's does."""
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    torch.save({**weights, "more": Pickled(tmp_path / "ran")}, checkpoint / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"expected pytorch_model.bin in .* tensors alone.*convert it to model.safetensors") as error:
        load(checkpoint)
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    torch.load(checkpoint / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have


# --- what is not whole ---


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("what", ["cut short", "hardly begun", "empty", "a pointer"])
def test_damaged_weights_are_an_error_of_one_line(checkpoint: Path, name: str, what: str) -> None:
    """A broken download, and a clone without git lfs."""
    if name == "pytorch_model.bin":
        torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / name)
        (checkpoint / "model.safetensors").unlink()
    whole = (checkpoint / name).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    damaged = {"cut short": whole[: len(whole) // 2], "hardly begun": whole[:10], "empty": b"", "a pointer": pointer}
    (checkpoint / name).write_bytes(damaged[what])
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_info()
    with pytest.raises(UserError) as error:
        load(checkpoint)
    assert str(checkpoint) in str(error.value)
    assert "\n" not in str(error.value)
    assert transformers.logging.get_verbosity() == logging.INFO  # as the caller had it
    transformers.logging.set_verbosity(verbosity)


def test_a_missing_layer_is_not_made_up(checkpoint: Path) -> None:
    """transformers would draw it at random, print a table, and the student would start from noise."""
    rewrite(checkpoint, lambda name, tensor: None if ".layer.5." in name else (name, tensor))
    with pytest.raises(UserError, match=r"found none for 16 of 103, such as encoder.layer.5.attention.output.LayerNorm.bias"):
        load(checkpoint)
    with pytest.raises(UserError, match="found none for 16 of 103"):  # also if the layer would be cut away: the files are wrong
        load(checkpoint, layers=[0])


def test_weights_of_another_model_are_not_taken_for_this_one(checkpoint: Path) -> None:
    """No name fits, or no shape."""
    config = read_json(checkpoint / "config.json")
    write_json(checkpoint / "config.json", {**config, "intermediate_size": 32})
    with pytest.raises(UserError, match=r"expected encoder.layer.0.intermediate.dense.bias of shape \(32,\) .* found \(24,\)"):
        load(checkpoint)
    write_json(checkpoint / "config.json", config)
    rewrite(checkpoint, lambda name, tensor: (f"text.{name.replace('layer', 'block')}", tensor))
    with pytest.raises(UserError, match="found none for 101 of 103"):
        load(checkpoint)


def test_a_student_of_sentence_transformers_is_checked_too(checkpoint: Path, tmp_path: Path) -> None:
    """And where older versions keep the transformer: in a folder of its own."""
    load(checkpoint).save(tmp_path / "student")
    expected = load(tmp_path / "student")
    modules = read_json(tmp_path / "student" / "modules.json")
    inner = tmp_path / "student" / "0_Transformer"
    inner.mkdir()
    apart = {"modules.json", "config_sentence_transformers.json", "mta4dpr.json", "README.md"}
    for path in [path for path in (tmp_path / "student").iterdir() if path.is_file() and path.name not in apart]:
        shutil.move(path, inner)
    write_json(tmp_path / "student" / "modules.json", [{**modules[0], "path": "0_Transformer"}, *modules[1:]])
    np.testing.assert_array_equal(load(tmp_path / "student").encode_queries(TEXTS), expected.encode_queries(TEXTS))
    rewrite(inner, lambda name, tensor: None if ".layer.1." in name else (name, tensor))
    with pytest.raises(UserError, match=r"0_Transformer, found none for 16 of 103"):
        load(tmp_path / "student")
    write_json(inner / "config.json", {**read_json(inner / "config.json"), "intermediate_size": 32})
    with pytest.raises(UserError, match=r"of shape \(32,\) .* found \(24,\) in the weights of .*0_Transformer"):
        load(tmp_path / "student")


def test_a_pooler_that_the_files_lack_is_nothing_and_not_random(checkpoint: Path) -> None:
    """roberta-base has none. Vectors do not see it, but the bytes of an exported student would differ from run to run."""
    whole = load(checkpoint)
    rewrite(checkpoint, lambda name, tensor: None if name.startswith("pooler.") else (name, tensor))
    hashes = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        found = load(checkpoint)
        hashes.add(hash_of_weights(found.network))
    assert len(hashes) == 1
    assert not found.transformer.pooler.dense.weight.any()
    assert whole.transformer.pooler.dense.weight.any()  # one that is there stays
    np.testing.assert_array_equal(found.encode_queries(TEXTS), whole.encode_queries(TEXTS))


def test_a_checkpoint_without_tokenizer_files(checkpoint: Path) -> None:
    """transformers makes a tokenizer that knows special tokens alone: every text would be the same one."""
    for path in [checkpoint / name for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")]:
        path.unlink()
    with pytest.raises(UserError, match=r"expected a tokenizer .* found none that knows a word"):
        load(checkpoint)


def test_a_vocabulary_file_is_enough(checkpoint: Path) -> None:
    """Older checkpoints have no tokenizer.json."""
    expected = load(checkpoint).encode_queries(TEXTS)
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "tokenizer_config.json").unlink()
    np.testing.assert_array_equal(load(checkpoint).encode_queries(TEXTS), expected)


def test_a_tokenizer_of_another_model(checkpoint: Path) -> None:
    """Its rarest word is beyond the embeddings: torch would fail when it comes up."""
    words = load_file(checkpoint / "model.safetensors")["embeddings.word_embeddings.weight"]
    rewrite(checkpoint, lambda name, tensor: (name, words[:-1] if "word_embeddings" in name else tensor))
    write_json(checkpoint / "config.json", {**read_json(checkpoint / "config.json"), "vocab_size": len(words) - 1})
    with pytest.raises(UserError, match=f"expected token ids below {len(words) - 1}, .* found {len(words) - 1} in the tokenizer"):
        load(checkpoint)


def test_layers_that_are_one_layer_cannot_be_cut(tmp_path: Path) -> None:
    """ALBERT's layers share their weights."""
    tokens = word_pieces(transformers.BertTokenizer, BERT_SPECIAL)
    folder = save_model(tmp_path / "albert", tokens, transformers.AlbertModel, transformers.AlbertConfig, embedding_size=8, **SIZES)
    assert load(folder).encode_queries(TEXTS).shape == (len(TEXTS), 16)
    with pytest.raises(UserError, match="model 'm': layers can be cut from BERT, .* found AlbertModel; leave out layers"):
        load(folder, layers=[0])
