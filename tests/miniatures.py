"""The full-size benchmarks in miniature: their collections' own file formats with made-up texts, and models under the checkpoints' names.

Files lie where ir_datasets keeps its downloads, so that its own loaders read them; nothing of them comes from a real collection.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DRAW = random.Random(11)
WORDS = [first + vowel + rest for first in "bdfgklmnprst" for vowel in "aeiou" for rest in ("lan", "ver", "mio", "tus", "ker", "dos")]
BROKEN, REPAIRED = "itâ\x80\x99s a cafÃ©", "it’s a café"  # MS MARCO's files hold UTF-8 that was taken for Latin-1
ANSWERED = 40  # passages of the DPR miniature that hold a name nobody else has


def _text(words: int) -> str:
    return " ".join(DRAW.choices(WORDS, k=words))


def _packed(path: Path, files: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))


def _lines(rows: Sequence[Sequence[Any]], separator: str = "\t") -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def _written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def msmarco(home: Path, *, passages: int = 300, train: int = 120, dev: int = 12, dl: int = 5) -> None:
    """msmarco-passage: collectionandqueries.tar.gz, queries.tar.gz, qrels; queries are words of the passage that answers them.

    The first training query is a dev query too, under another id. DL queries have ids of DL-Hard's list, which ir_datasets filters by.
    """
    from ir_datasets.datasets.msmarco_passage import DL_HARD_QIDS

    root = home / "msmarco-passage"
    texts = [_text(DRAW.randint(8, 30)) for _ in range(passages)]
    texts[0] = f"{BROKEN} {texts[0]}"

    def queries(ids: Sequence[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str, int, int]]]:
        found = [(query_id, DRAW.randrange(passages)) for query_id in ids]
        asked = [(query_id, " ".join(DRAW.sample(texts[n].split()[-8:], 3))) for query_id, n in found]
        return asked, [(query_id, "0", n, 1) for query_id, n in found]

    hard = sorted(DL_HARD_QIDS)
    dev_queries, dev_qrels = queries([str(900_000 + n) for n in range(dev)])
    train_queries, train_qrels = queries([str(100_000 + n) for n in range(train)])
    train_queries[0] = (train_queries[0][0], dev_queries[0][1].upper())
    unjudged = [("1", "never judged"), ("2", "neither")]
    _packed(
        root / "collectionandqueries.tar.gz",
        {
            "collection.tsv": _lines(list(enumerate(texts))),
            "queries.dev.small.tsv": _lines(dev_queries),
            "qrels.dev.small.tsv": _lines(dev_qrels),
        },
    )
    _packed(root / "queries.tar.gz", {"queries.train.tsv": _lines([*train_queries, *unjudged])})
    _written(root / "train" / "qrels", _lines(train_qrels))
    judged_hard = []
    for year, ids in (("2019", hard[:dl]), ("2020", hard[dl : 2 * dl])):
        asked, best = queries(ids)
        graded = [(q, "Q0", n, 3) for q, _, n, _ in best]
        graded += [(q, "Q0", n, DRAW.randrange(3)) for q, _, answer, _ in best for n in DRAW.sample(range(passages), 20) if n != answer]
        judged_hard += graded
        _written(root / f"trec-dl-{year}" / "queries.tsv", _lines([*asked, *unjudged]))
        _written(root / f"trec-dl-{year}" / "queries.tsv.gz", _lines([*asked, *unjudged]))
        _written(root / f"trec-dl-{year}" / "qrels", _lines(graded, " "))
    _written(root / "trec-dl-hard" / "qrels", _lines(judged_hard, " "))
    _written(root / "trec-dl-hard" / "irds_version.txt", "v3")  # without it ir_datasets takes the qrels for an old version and removes them


def dpr(home: Path, *, passages: int = 300, train: int = 90, dev: int = 10, test: int = 12) -> None:
    """dpr-w100: psgs_w100.tsv with CSV's quotes, biencoder-nq-*.json, nq-*.qa.csv.

    A question is words of the passage that holds its answer, a name of two words. Training questions are numbered from 0, as those of
    every file are; the first is a question of nq/test too. A passage's title answers a question about another, and must not count.
    """
    root = home / "dpr-w100"
    names = [f"Zü{WORDS[n % len(WORDS)]} O'{WORDS[(7 * n) % len(WORDS)].title()}{n}" for n in range(passages)]
    rows = [(str(n + 1), f'{_text(12)} "{names[n]}", {_text(12)}', names[(n + 1) % ANSWERED]) for n in range(passages)]
    table = io.StringIO()
    table.write("id\ttext\ttitle\n")
    for name, text, title in rows:
        quoted = text.replace('"', '""')
        table.write(f'{name}\t"{quoted}"\t{title}\n')
    _written(root / "docs.tsv.gz", table.getvalue())

    def asked(n: int) -> str:
        return " ".join(DRAW.sample(rows[n][1].split()[:12], 4))

    def context(n: int, score: float) -> dict[str, Any]:
        return {"title": rows[n][2], "text": rows[n][1], "score": score, "title_score": 0, "passage_id": rows[n][0]}

    def record(question: str, n: int) -> dict[str, Any]:
        others = [context(m, 0) for m in DRAW.sample(range(passages), 6) if m != n]
        found = context((n + 1) % passages, 17.5)  # a BM25 hit with the answer: neither positive nor negative
        return {
            "dataset": "nq",
            "question": question,
            "answers": [names[n]],
            "positive_ctxs": [context(n, 1000), found],
            "hard_negative_ctxs": others[:3],
            "negative_ctxs": others[3:],
        }

    def questions(count: int) -> list[tuple[str, int]]:
        return [(asked(n), n) for n in (DRAW.randrange(ANSWERED) for _ in range(count))]

    evaluated = {"nq-test": questions(test), "nq-dev": questions(dev)}
    trained = questions(train)
    trained[0] = (evaluated["nq-test"][0][0], evaluated["nq-test"][0][1])
    for name, found in evaluated.items():
        lines = io.StringIO()
        writer = csv.writer(lines, delimiter="\t", lineterminator="\n")
        writer.writerows([question, repr([names[n].lower().replace("ü", "ü"), "no such answer"])] for question, n in found)
        _written(root / f"{name}.qa.csv", lines.getvalue())
    _written(root / "nq-train.json.gz", json.dumps([record(*one) for one in trained]))
    _written(root / "nq-dev.json.gz", json.dumps([record(*one) for one in evaluated["nq-dev"]]))


def beir(home: Path, *names: str, passages: int = 40, queries: int = 6) -> None:
    """beir/NAME: a zip with corpus.jsonl, queries.jsonl and qrels/test.tsv; a query is words of the passage that answers it."""
    for name in names:
        texts = [_text(15) for _ in range(passages)]
        answers = [DRAW.randrange(passages) for _ in range(queries)]
        asked = [" ".join(DRAW.sample(texts[n].split(), 3)) for n in answers]
        path = home / "beir" / name / "source.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            records = [{"_id": f"d{n}", "title": "Title", "text": text, "metadata": {"url": "u"}} for n, text in enumerate(texts)]
            file.writestr(f"{name}/corpus.jsonl", "".join(json.dumps(one) + "\n" for one in records))
            of_queries = [{"_id": f"q{n}", "text": text, "metadata": {"url": "u"}} for n, text in enumerate(asked)]
            file.writestr(f"{name}/queries.jsonl", "".join(json.dumps(one) + "\n" for one in of_queries))
            lines = _lines([("query-id", "corpus-id", "score"), *((f"q{n}", f"d{answer}", 1) for n, answer in enumerate(answers))])
            file.writestr(f"{name}/qrels/test.tsv", lines)


def questions(home: Path, split: str) -> dict[str, list[str]]:
    """{question id: answers} of a file of `dpr`, read without the product's code."""
    with open(home / "dpr-w100" / f"nq-{split}.qa.csv", encoding="utf-8", newline="") as file:
        return {str(n): ast.literal_eval(answers) for n, (_, answers) in enumerate(csv.reader(file, delimiter="\t"))}


BERT = ["simlm-base-msmarco-finetuned", "RetroMAE_MSMARCO_distill", "co-condenser-marco-retriever", "bge-base-en-v1.5", "e5-base-v2"]
BERT += ["contriever-msmarco"]


def models(folder: Path) -> None:
    """Every checkpoint that msmarco.yaml and nq.yaml name, of its own architecture, with one layer, 32 dimensions and random weights."""
    import torch
    import transformers as t
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"##{letter}" for letter in letters), *WORDS]
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    pieces = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>", "▁", *letters)] + [(f"▁{word}", -1.0) for word in WORDS]
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    bert = {"vocab_size": len(vocabulary), "max_position_embeddings": 512, **sizes}
    distil = {"vocab_size": len(vocabulary), "max_position_embeddings": 512, "dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}
    electra = {**bert, "embedding_size": 32, "num_labels": 1}
    roberta = {**bert, "vocab_size": len(pieces) + 1, "max_position_embeddings": 514, "num_labels": 1, "bos_token_id": 0, "pad_token_id": 1}

    def save(name: str, network: Any, tokenizer: Any) -> None:
        network.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for name in BERT:
            save(name, t.BertModel(t.BertConfig(**bert)), t.BertTokenizer(vocab=vocabulary))
        student = t.DistilBertModel(t.DistilBertConfig(**distil))
        save("distilbert-base-uncased", student, t.BertTokenizer(vocab=vocabulary))
        save("simlm-msmarco-reranker", t.ElectraForSequenceClassification(t.ElectraConfig(**electra)), t.BertTokenizer(vocab=vocabulary))
        reranker = t.XLMRobertaForSequenceClassification(t.XLMRobertaConfig(**roberta))
        save("bge-reranker-base", reranker, t.XLMRobertaTokenizer(vocab=pieces))
    transformer = Transformer(str(folder / "distilbert-base-uncased"))
    tas_b = SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension(), "cls")], device="cpu")
    tas_b.save(str(folder / "msmarco-distilbert-base-tas-b"), create_model_card=False)
