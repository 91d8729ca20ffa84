from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mta4dpr.commands.verify_kept import Verified, verify_cache, verify_run
from mta4dpr.data.collection import BeirFolder
from mta4dpr.data.corpus import open_corpus
from mta4dpr.data.tokens import tokens_of_corpus
from mta4dpr.errors import UserError
from mta4dpr.experiment.ledger import Ledger, StageName
from mta4dpr.machine.kept import STAMPS, seal, sealed_folder, write_sealed
from mta4dpr.machine.work import StageKind
from mta4dpr.models.encoder import Encoder
from mta4dpr.retrieval.vectors import Encoding, encode

from ..damage import DAMAGES, flip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a run file in the ledger, and a sealed student in its training."""
    folder = tmp_path / "run"
    (folder / "runs").mkdir(parents=True)
    with Ledger(folder).stage(StageName(StageKind.SEARCH, "bm25", "test"), "in") as outputs:
        (folder / "runs" / "bm25.trec").write_text("q Q0 d 1 2.5 bm25\n" * 5)
        outputs.append(folder / "runs" / "bm25.trec")
    with sealed_folder(folder / "training" / "kd" / "round-0" / "student") as aside:
        (aside / "config.json").write_text('{"layers": 1}')
    for name in ("manifest.json", "efficiency.json"):
        write_sealed(folder / name, {"systems": {"bm25": {"bytes": 123456}}})
    return folder


@pytest.fixture
def cache(tmp_path: Path, beir_folder: Callable[..., Path], encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a corpus, its tokens and vectors, and what was noted of an index of Pyserini's."""
    place = tmp_path / "cache"
    monkeypatch.setenv("MTA4DPR_CACHE", str(place))
    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path / "pyserini"))
    corpus = open_corpus(place, BeirFolder(beir_folder(tmp_path / "small", [(f"d{n}", "", f"red fox {n}") for n in range(20)])))
    tokens = tokens_of_corpus(place, corpus, encoder.tokenizer, prefix="")
    encode(place, encoder, tokens, longest=8, how=Encoding("float32", 32, 1))
    index = tmp_path / "pyserini" / "indexes" / "lucene.abc"
    index.mkdir(parents=True)
    (index / "_0.doc").write_text("postings " * 9)
    seal(index, into=place / "prebuilt" / "abc")
    return place


def broken(found: Verified) -> dict[str, list[str]]:
    return {row["what"]: row["broken"] for row in found["rows"] if row["broken"]}


def test_what_is_as_it_was_written_is_counted(run: Path) -> None:
    found = verify_run(run)
    things = {row["what"]: row["files"] for row in found["rows"]}
    documents = dict.fromkeys(("manifest.json", "ledger.json", "efficiency.json"), 1)
    assert things == {**documents, "search bm25 test": 1, "training/kd/round-0/student": 2}
    assert sum(row["bytes"] for row in found["rows"]) > 90
    assert broken(found) == {}
    assert found["unknown"] == []


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("name", "what"), [("runs/bm25.trec", "search bm25 test"), ("training/kd/round-0/student/config.json", "training/kd/round-0/student")]
)
def test_whatever_is_damaged_in_a_run_is_named(run: Path, name: str, what: str, damage: str) -> None:
    DAMAGES[damage](run / name)
    found = verify_run(run)
    assert list(broken(found)) == [what]
    assert Path(name).name in broken(found)[what][0]
    assert [row["again"] for row in found["rows"] if row["broken"]] != [""]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found no ledger.json"):
        verify_run(tmp_path)


def test_every_file_of_the_cache_is_vouched_for(cache: Path) -> None:
    found = verify_cache()
    assert broken(found) == {}
    assert found["unknown"] == []
    assert sorted({row["what"].split("/")[0] for row in found["rows"]}) == ["corpora", "prebuilt", "tokens", "vectors"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_damaged_in_the_cache_is_named(cache: Path, damage: str) -> None:
    """Each file by itself; what is deleted of checksums is a thing that is no longer known, and counted as such."""
    files = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != STAMPS]
    assert len(files) > 12
    for path in files:
        before = path.read_bytes()
        DAMAGES[damage](path)
        found = verify_cache()
        assert broken(found) or found["unknown"] or path.parent.name == "abc", path
        path.write_bytes(before)
    assert broken(verify_cache()) == {}


def test_a_damaged_index_of_pyserini_is_named(cache: Path, tmp_path: Path) -> None:
    flip(tmp_path / "pyserini" / "indexes" / "lucene.abc" / "_0.doc")
    assert broken(verify_cache()) == {"prebuilt/abc": ["_0.doc"]}


def test_nothing_is_mended(cache: Path) -> None:
    """Who verifies wants to know, and may want to look."""
    (path,) = cache.glob("vectors/*/vectors.npy")
    flip(path, -1)
    before = np.load(path).tobytes()
    assert any("shard" in name for names in broken(verify_cache()).values() for name in names)
    assert np.load(path).tobytes() == before
