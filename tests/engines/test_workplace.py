"""What engines share: one corpus, one device, and each thing made again once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.collection import BeirFolder
from mta4dpr.engines.workplace import Workplace
from mta4dpr.machine import environment

TEXTS = [("d1", "", "red fox"), ("d2", "", "blue whale")]
UNTRAINED = ModelSpec(untrained={"layers": 1, "hidden": 16, "heads": 2})


@pytest.fixture
def source(beir_folder: Callable[..., Path], tmp_path: Path) -> BeirFolder:
    return BeirFolder(beir_folder(tmp_path / "mini", TEXTS))


def test_the_corpus_is_read_when_it_is_first_asked_for(source: BeirFolder, tmp_path: Path) -> None:
    """A plan asks only whether it is there; engines of one experiment get the same one."""
    place = Workplace(source, tmp_path / "cache")
    assert place.stored_corpus is None
    assert not (tmp_path / "cache").exists()
    assert place.corpus is place.corpus
    assert [passage.text for passage in place.corpus] == ["red fox", "blue whale"]
    stored = Workplace(source, tmp_path / "cache").stored_corpus
    assert stored is not None
    assert stored.text_hash == place.corpus.text_hash


def test_redo_data_reads_a_source_again_whose_files_look_the_same(source: BeirFolder, tmp_path: Path) -> None:
    """Size and time say nothing of a file that was changed and copied back with its old time."""
    assert Workplace(source, tmp_path / "cache").corpus.passage(1).text == "blue whale"
    file = source.folder / "corpus.jsonl"
    before = file.stat()
    file.write_text(file.read_text().replace("whale", "snail"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Workplace(source, tmp_path / "cache").corpus.passage(1).text == "blue whale"
    assert Workplace(source, tmp_path / "cache", again="data").corpus.passage(1).text == "blue snail"
    assert Workplace(source, tmp_path / "cache").corpus.passage(1).text == "blue snail"


def test_a_thing_is_made_again_once_and_only_where_redo_names_it(source: BeirFolder, tmp_path: Path) -> None:
    """Teacher and system may have the same vectors; made for the first, they must not be made once more for the second."""
    place = Workplace(source, tmp_path / "cache", again="encode")
    one, other = tmp_path / "one", tmp_path / "other"
    assert [place.must_remake(folder, "encode") for folder in (one, one, other, one)] == [True, False, True, False]
    assert not place.must_remake(tmp_path / "lucene", "index")
    assert place.must_remake(tmp_path / "hnsw", "index", "encode")
    assert not Workplace(source, tmp_path / "cache").must_remake(one, "index", "encode")


def test_the_device_is_chosen_when_something_runs_on_it(
    source: BeirFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """BM25 alone loads no torch, and the manifest says of such a run that it had no device. The choice is logged once, with its reason."""
    asked: list[str | None] = []

    def choose(wanted: str | None) -> tuple[str, str]:
        asked.append(wanted)
        return "cpu", "because"

    monkeypatch.setattr(environment, "choose_device", choose)
    monkeypatch.setattr(environment, "set_threads", lambda _: None)
    place = Workplace(source, tmp_path / "cache", "cpu")
    assert place.device_in_use is None
    with caplog.at_level("INFO"):
        assert place.device == place.device == place.device_in_use == "cpu"
    assert asked == ["cpu"]
    (line,) = caplog.messages
    assert line.startswith("device cpu (because), ")


def test_only_untrained_models_get_their_words_from_the_corpus(source: BeirFolder, tmp_path: Path) -> None:
    """One with weights has a tokenizer; reading two thousand passages for it would be for nothing."""
    place = Workplace(source, tmp_path / "cache")
    assert list(place.vocabulary(ModelSpec(model="some/model"))) == []
    assert place.stored_corpus is None, "no corpus was read for it"
    assert list(place.vocabulary(UNTRAINED)) == ["red fox", "blue whale"]


def test_a_models_files_are_hashed_once(source: BeirFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage asks what decides its output; hashing gigabytes for each would take minutes."""
    from mta4dpr.models import identity

    asked: list[Any] = []

    def hashed(spec: ModelSpec, *, offline: bool) -> Any:
        asked.append((spec.model, offline))
        return ["hash of", spec.model]

    monkeypatch.setattr(identity, "model_identity", hashed)
    place = Workplace(source, tmp_path / "cache", offline=True)
    found = [place.model_identity(ModelSpec(model=name)) for name in ("a", "b", "a")]
    assert found == [["hash of", "a"], ["hash of", "b"], ["hash of", "a"]]
    assert asked == [("a", True), ("b", True)]
    place.model_identity(ModelSpec(model="a", layers=[0]))
    assert len(asked) == 3, "other layers are another model"
