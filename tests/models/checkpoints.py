"""Small checkpoints of published families, as transformers saves them, for tests that load or damage them.

Six layers of 16 dimensions with random weights stand for DistilBERT, MiniLM (a BERT), MPNet, RoBERTa, ELECTRA and DeBERTa.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.models.encoder import Encoder, load_encoder

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


def pieces(folder: Path) -> int:
    """A tokenizer of sentencepiece's kind, with one special token behind a text and none before it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    scores = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("\u2581", -2.0),
        *((c, -3.0) for c in LETTERS),
        *((f"\u2581{w}", -4.0) for w in WORDS),
    ]
    made = Tokenizer(models.Unigram(scores, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    words.model_max_length = POSITIONS
    words.save_pretrained(folder)
    return len(words)


def t5(folder: Path) -> Path:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2}
    return save_model(folder, pieces, transformers.T5EncoderModel, transformers.T5Config, **sizes)


FAMILIES = {"distilbert": distilbert, "bert": bert, "mpnet": mpnet, "roberta": roberta, "electra": electra, "deberta": deberta}


def load(folder: Path, **spec: Any) -> Encoder:
    told = {} if (folder / "modules.json").exists() else {"pooling": "mean", "normalize": False}
    return load_encoder("m", ModelSpec(model=str(folder), **{**told, **spec}), device="cpu", offline=True)


def rewrite(folder: Path, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor] | None]) -> None:
    """Other weights in the folder; what `change` gives None for is left out."""
    changed = [change(name, tensor) for name, tensor in load_file(folder / "model.safetensors").items()]
    save_file({name: tensor.contiguous() for name, tensor in filter(None, changed)}, folder / "model.safetensors", {"format": "pt"})


def saved_with(
    folder: Path, *modules: Any, mode: Any = "mean", include_prompt: bool = True, lengths: Any = (None, None), **told: Any
) -> Path:
    """The checkpoint in `folder` as sentence-transformers saves it with that pooling, those modules after it and those settings."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    first = Transformer(str(folder), max_seq_length=POSITIONS)
    first.query_length, first.document_length = lengths
    pooling = Pooling(16, mode, include_prompt=include_prompt)
    to = folder.with_name(folder.name + "-saved")
    SentenceTransformer(modules=[first, pooling, *modules], device="cpu", **told).save(str(to), create_model_card=False)
    return to


def change(path: Path, **settings: Any) -> None:
    """Other settings in a JSON file; None takes a key away."""
    found = {**(read_json(path) if path.exists() else {}), **settings}
    write_json(path, {key: value for key, value in found.items() if value is not None})
