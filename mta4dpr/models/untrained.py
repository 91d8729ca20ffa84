"""A small BERT with random weights and a vocabulary of the collection's own words: for smoke tests, not for results."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def untrained_network(sizes: dict[str, int], texts: Sequence[str]) -> Any:
    """A sentence-transformers model (mean pooling, normalised) with sizes {layers, hidden, heads, vocabulary, seed}."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    hidden = sizes.get("hidden", 32)
    words = Counter(word for text in texts for word in re.findall(r"[a-z]+|[^\sa-z]", text.lower()))
    frequent = sorted(words, key=lambda word: (-words[word], word))[: sizes.get("vocabulary", 1000)]
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [*SPECIAL, *dict.fromkeys([*letters, *(f"##{letter}" for letter in letters), *frequent])]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=sizes.get("layers", 1),
        num_attention_heads=sizes.get("heads", 2),
        intermediate_size=2 * hidden,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as scratch:
        torch.manual_seed(sizes.get("seed", 0))
        (Path(scratch) / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        BertTokenizer(vocab=str(Path(scratch) / "vocab.txt")).save_pretrained(scratch)
        BertModel(config).save_pretrained(scratch)
        transformer = Transformer(scratch, max_seq_length=128)
        return SentenceTransformer(modules=[transformer, Pooling(hidden, "mean"), Normalize()], device="cpu")
