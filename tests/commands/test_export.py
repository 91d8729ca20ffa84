"""`export`: each form is reloaded by the library it is meant for, and gives that library's users what the run had."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mta4dpr.commands.export import export
from mta4dpr.commands.run import run as run_benchmark
from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.evaluation.trecrun import read_run
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.models.encoder import load_encoder

TEXTS = ["a", "Return a list of names.", "open the file and read it line by line", "x " * 100, "größe – naïve"]
SYSTEMS = ("bm25", "teacher", "kd")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_benchmark(Request("tiny", systems=SYSTEMS, output=tmp_path_factory.mktemp("tiny") / "run"))


@pytest.fixture(scope="module")
def student(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("student") / "my-student"
    export(run, "kd", student=path, runs=None, index=None, onnx=False)
    return path


@pytest.fixture(scope="module")
def student_with_onnx(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "my-student"
    export(run, "kd", student=path, runs=None, index=None, onnx=True)
    return path


def vectors(folder: Path, texts: list[str], longest: int) -> np.ndarray:
    """What this project's own encoder makes of them."""
    encoder = load_encoder("kd", ModelSpec(model=str(folder)), device="cpu")
    return encoder.encode(encoder.query_tokens(texts), np.arange(len(texts)), longest=longest, token_budget=4096)


def blocks(card: str) -> dict[str, str]:
    """{library: its code}, by the word that begins the line before each block."""
    return dict(re.findall(r"\n([\w-]+)[^\n]*:\n\n```python\n(.*?)```", card, re.DOTALL))


def test_the_card_says_what_the_student_is(run: Path, student: Path) -> None:
    """Its results are the leaderboard's, and the head is YAML that the hub reads."""
    text = (student / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["library_name"] == "sentence-transformers"
    assert head["license"] == "unknown"
    rows = {(r["system"], r["measure"]): r for r in read_json(run / "leaderboard.json")["rows"]}
    for system in SYSTEMS:
        row = rows[system, "RR@10"]
        assert f"{row['value']:.4f} [{row['ci95'][0]:.3f}, {row['ci95'][1]:.3f}]" in text, system
    for words in ("`kd`", "`tiny/train`", "assistant", "bm25", "lr 0.001", "59 queries", "seed 0", "read to 16 tokens, passages to 32"):
        assert words in text
    assert set(blocks(text)) == {"sentence-transformers", "transformers", "Pyserini"}
    found = dict(re.findall(r"^\| ([\w-]+) \| (\S+) \| \S+ \|$", text.split("## Whether they agree")[1], re.MULTILINE))
    assert set(found) == {"library", "---", "sentence-transformers", "transformers"}
    assert float(found["transformers"]) < 1e-6


def test_sentence_transformers_gives_equal_vectors(run: Path, student: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(student), device="cpu")
    np.testing.assert_allclose(model.encode_document(TEXTS), vectors(run / "models" / "kd", TEXTS, 32), atol=1e-6)
    np.testing.assert_allclose(model.encode_query(TEXTS), vectors(run / "models" / "kd", TEXTS, 16), atol=1e-6)
    assert np.abs(model.encode_query(TEXTS) - model.encode_document(TEXTS)).max() > 1e-3, "one of the texts is longer than 16 tokens"
    assert model.similarity_fn_name == "dot", "as the run searched"


@pytest.mark.slow
def test_onnxruntime_gives_equal_vectors_alone(run: Path, student_with_onnx: Path) -> None:
    """Texts of several lengths in batches of several sizes, by onnxruntime and the tokenizer file, without torch."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(student_with_onnx / "tokenizer.json"))
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(str(student_with_onnx / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    wanted = vectors(run / "models" / "kd", TEXTS, 32)
    for rows in ([0], [1], [3], [0, 1], [2, 3, 4], [0, 1, 2, 3, 4]):
        batch = tokenizer.encode_batch([TEXTS[row] for row in rows])
        inputs = {"input_ids": np.array([b.ids for b in batch]), "attention_mask": np.array([b.attention_mask for b in batch])}
        np.testing.assert_allclose(session.run(["sentence_embedding"], inputs)[0], wanted[rows], atol=1e-4)


def test_a_student_of_an_earlier_version_is_exported_with_both_lengths(run: Path, student: Path, tmp_path: Path) -> None:
    """It kept them where no other library looks."""
    old = tmp_path / "run"
    shutil.copytree(run, old)
    model = old / "models" / "kd"
    for path in (model / "SHA256SUMS", model / ".stamps.json"):
        path.unlink()
    said = read_json(model / "sentence_bert_config.json")
    lengths = {"query_length": said.pop("query_length"), "passage_length": said.pop("document_length")}
    write_json(model / "sentence_bert_config.json", said)
    write_json(model / "mta4dpr.json", {**lengths, "query_prefix": "", "passage_prefix": ""})
    export(old, "kd", student=tmp_path / "student", runs=None, index=None, onnx=False)
    assert not (tmp_path / "student" / "mta4dpr.json").exists()
    for name in ("model.safetensors", "sentence_bert_config.json"):
        assert (tmp_path / "student" / name).read_bytes() == (student / name).read_bytes(), name


def test_a_student_whose_vectors_others_do_not_get_is_not_exported(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mta4dpr.commands import verify

    monkeypatch.setattr(verify, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match=r"kd: expected the vectors of every library .* by sentence-transformers, transformers"):
        export(run, "kd", student=tmp_path / "student", runs=None, index=None, onnx=False)
    assert not (tmp_path / "student").exists()


def test_the_code_on_the_card_runs_as_it_stands(run: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the folder, as a reader of the card would run it; transformers gives the vectors of sentence-transformers."""
    monkeypatch.chdir(student.parent)
    code = blocks((student / "README.md").read_text())
    queries, passages = ["how to read a file"], ["The file is read line by line.", "A whale is no fish."]
    for library in ("sentence-transformers", "transformers"):
        names: dict[str, Any] = {}
        exec(code[library], names)
        np.testing.assert_allclose(np.asarray(names["queries"]), vectors(run / "models" / "kd", queries, 16), atol=1e-5)
        np.testing.assert_allclose(np.asarray(names["passages"]), vectors(run / "models" / "kd", passages, 32), atol=1e-5)


@pytest.mark.slow
def test_the_code_for_onnxruntime_runs_as_it_stands(run: Path, student_with_onnx: Path) -> None:
    """In a process of its own: it needs no torch."""
    code = blocks((student_with_onnx / "README.md").read_text())["onnxruntime"]
    code += "import sys\nprint('torch' in sys.modules, vectors.tolist())\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=student_with_onnx.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    has_torch, found = done.stdout.splitlines()[-1].split(" ", 1)
    assert has_torch == "False"
    np.testing.assert_allclose(json.loads(found), vectors(run / "models" / "kd", ["how to read a file"], 16), atol=1e-4)


@pytest.mark.slow
def test_pyserini_finds_the_same_passages(run: Path, student: Path, tmp_path: Path) -> None:
    """Its FaissSearcher with the card's own code, its LuceneSearcher for BM25: documents of the run files, scores to 1e-5."""
    from mta4dpr.data.docstrings import Docstrings

    shutil.copytree(student, tmp_path / "my-student")
    export(run, "kd", student=None, runs=None, index=tmp_path / "my-student-index", onnx=False)
    export(run, "bm25", student=None, runs=None, index=tmp_path / "lucene", onnx=False)
    code = blocks((student / "README.md").read_text())["Pyserini"].replace('"my-student', f'"{tmp_path}/my-student')
    names: dict[str, Any] = {}
    exec(code, names)
    from pyserini.search.lucene import LuceneSearcher

    lucene = LuceneSearcher(str(tmp_path / "lucene"))
    lucene.set_bm25(0.9, 0.4)
    queries = dict(list(Docstrings("tiny", 200).queries("tiny/test"))[:20])
    for searcher, system in ((names["searcher"], "kd"), (lucene, "bm25")):
        ours = read_run(run / "runs" / "tiny-test" / f"{system}.trec")
        for query_id, text in queries.items():
            documents, scores = ours.ranking(query_id)
            theirs = {hit.docid: hit.score for hit in searcher.search(text, 100)}
            found = [theirs.get(document, scores[-1]) for document in documents]  # those at the cut may be others with the same score
            np.testing.assert_allclose(found, scores, atol=1e-5)
            assert len(theirs) == len(documents)


def test_runs_come_with_their_metadata(run: Path, tmp_path: Path) -> None:
    found = export(run, "kd", student=None, runs=tmp_path / "runs", index=None, onnx=False)
    assert found["files"] == ["tiny-test/kd.ir_metadata.yml", "tiny-test/kd.trec"]
    for name in found["files"]:
        assert (tmp_path / "runs" / name).read_bytes() == (run / "runs" / name).read_bytes()


def test_a_run_of_an_earlier_version_gets_metadata_when_it_is_exported(run: Path, tmp_path: Path) -> None:
    """Such a folder has neither the metadata nor what the manifest says now."""
    old = tmp_path / "old"
    shutil.copytree(run, old)
    for path in old.rglob("*.ir_metadata.yml"):
        path.unlink()
    manifest = read_json(old / "manifest.json")
    new = ("run_files", "recipes", "paths", "request", "protected", "seal")
    write_json(old / "manifest.json", {key: value for key, value in manifest.items() if key not in new})
    export(old, "kd", student=None, runs=tmp_path / "runs", index=None, onnx=False)
    document = yaml.safe_load((tmp_path / "runs" / "tiny-test" / "kd.ir_metadata.yml").read_text())
    assert document["tag"] == "kd"
    assert document["data"]["test collection"]["name"] == "tiny/test"
    with pytest.raises(UserError, match="earlier version"):
        export(old, "kd", student=tmp_path / "student", runs=None, index=None, onnx=False)
    assert not (tmp_path / "student").exists()


def test_an_index_that_the_run_did_not_leave_is_made_from_kept_vectors(run: Path, tmp_path: Path) -> None:
    """The same bytes as the one that it leaves; so too when the one that is there is not whole."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "indexes" / "teacher" / "docid").unlink()
    shutil.rmtree(copy / "indexes" / "kd")
    for system in ("teacher", "kd"):
        export(copy, system, student=None, runs=None, index=tmp_path / system, onnx=False)
        for name in ("index", "docid"):
            assert (tmp_path / system / name).read_bytes() == (run / "indexes" / system / name).read_bytes()


def test_an_approximate_index_is_written_again_as_it_was_searched(tmp_path: Path) -> None:
    """Whoever searches the export must get what the leaderboard measured: HNSW's hits, not those of exact search."""
    import faiss

    settings = ("dense.index=hnsw", "dense.hnsw_m=4")
    folder = run_benchmark(Request("tiny", systems=("teacher",), output=tmp_path / "run", settings=settings))
    left = folder / "indexes" / "teacher"
    before = {name: (left / name).read_bytes() for name in ("docid", "index")}
    shutil.rmtree(folder / "indexes")
    found = export(folder, "teacher", student=None, runs=None, index=tmp_path / "index", onnx=False)
    assert found["files"] == ["docid", "index"]
    assert type(faiss.read_index(str(tmp_path / "index" / "index"))).__name__ == "IndexHNSWFlat"
    assert {path.name: path.read_bytes() for path in (tmp_path / "index").iterdir()} == before


@pytest.mark.parametrize(
    ("system", "asked", "message"),
    [
        ("kd", {}, "one of --student, --runs and --index, found none"),
        ("kd", {"student": "x", "runs": "y"}, "found --student, --runs"),
        ("kd", {"runs": "x", "onnx": True}, "--onnx belongs to --student"),
        ("kdd", {"runs": "x"}, "did you mean 'kd'"),
        ("bm25", {"student": "x"}, "was not trained .*takes one of: kd"),
        ("teacher", {"student": "x"}, "was not trained .*takes one of: kd"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(run: Path, tmp_path: Path, system: str, asked: dict[str, Any], message: str) -> None:
    paths = {what: tmp_path / asked[what] if what in asked else None for what in ("student", "runs", "index")}
    with pytest.raises(UserError, match=message):
        export(run, system, **paths, onnx=asked.get("onnx", False))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_and_nothing_half_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for name in ("there", "file"):
        with pytest.raises(UserError, match="exists already"):
            export(run, "kd", student=None, runs=tmp_path / name, index=None, onnx=False)
    with pytest.raises(UserError, match=r"no manifest\.json"):
        export(tmp_path, "kd", student=None, runs=tmp_path / "x", index=None, onnx=False)
    from mta4dpr.models import onnx

    monkeypatch.setattr(onnx.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentLack, match=r"mta4dpr\[onnx\]"):
        export(run, "kd", student=tmp_path / "x", runs=None, index=None, onnx=True)
    changed = tmp_path / "run"
    shutil.copytree(run, changed)
    with (changed / "runs" / "tiny-test" / "kd.trec").open("a") as file:
        file.write("q Q0 d 1 1 x\n")
    with pytest.raises(UserError, match="was changed"):
        export(changed, "kd", student=None, runs=tmp_path / "x", index=None, onnx=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run", "there"]
    assert (tmp_path / "there" / "mine").read_text() == "keep"
