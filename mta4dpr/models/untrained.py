"""A small BERT with random weights and a vocabulary of the collection's own words: for smoke tests, not for results."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
POSITIONS = 128


def untrained_network(sizes: dict[str, int], texts: Sequence[str]) -> Any:
    """A sentence-transformers model (mean pooling, normalised) with sizes {layers, hidden, heads, vocabulary, seed}."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertModel

    with _saved(sizes, texts, BertModel) as folder:
        transformer = Transformer(folder, max_seq_length=POSITIONS)
        modules = [transformer, Pooling(transformer.get_embedding_dimension(), "mean"), Normalize()]
        return SentenceTransformer(modules=modules, device="cpu")


def untrained_classifier(sizes: dict[str, int], texts: Sequence[str]) -> tuple[Any, Any]:
    """A BertForSequenceClassification of one label with those sizes, and its tokenizer."""
    from transformers import AutoTokenizer, BertForSequenceClassification

    with _saved(sizes, texts, BertForSequenceClassification, num_labels=1) as folder:
        return BertForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@contextmanager
def _saved(sizes: dict[str, int], texts: Sequence[str], network: Any, **settings: Any) -> Iterator[str]:
    """A folder, there while the block runs, with random weights of that BERT class and a tokenizer.

    Random numbers that the block draws depend on the seed too, and leave the stream of others alone.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertTokenizer

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
        max_position_embeddings=POSITIONS,
        **settings,
    )
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as scratch:
        torch.manual_seed(sizes.get("seed", 0))
        (Path(scratch) / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        BertTokenizer(vocab=str(Path(scratch) / "vocab.txt")).save_pretrained(scratch)
        drawn = network(config)
        config.save_pretrained(scratch)  # the model's own save_pretrained writes nothing but in the first of several processes
        save_file(drawn.state_dict(), Path(scratch) / "model.safetensors", metadata={"format": "pt"})
        yield scratch
