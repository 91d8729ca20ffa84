"""Which files a dataset of ir_datasets reads, seen from its own objects; none is fetched here. Fetching is in test_fetch.py."""

from __future__ import annotations

from pathlib import Path

import ir_datasets
import pytest

from mta4dpr.data import downloads
from mta4dpr.data.downloads import JUDGEMENTS, PASSAGES, QUERIES, Download, bring, corpus_id, downloads_of
from mta4dpr.errors import EnvironmentLack

SETS = [QUERIES, JUDGEMENTS]


def names(corpus: str, *query_sets: str) -> set[str]:
    wanted = [(ir_datasets.load(corpus), [PASSAGES]), *((ir_datasets.load(name), SETS) for name in query_sets)]
    return {download.name for download in downloads_of(wanted)}


@pytest.mark.parametrize(
    ("corpus", "query_sets", "expected"),
    [
        ("msmarco-passage", ["msmarco-passage/dev/small"], {"msmarco-passage/collectionandqueries.tar.gz"}),
        (
            "msmarco-passage",
            ["msmarco-passage/train/judged"],
            {"msmarco-passage/collectionandqueries.tar.gz", "msmarco-passage/queries.tar.gz", "msmarco-passage/train/qrels"},
        ),
        (
            "msmarco-passage",
            ["msmarco-passage/trec-dl-hard"],
            {
                "msmarco-passage/collectionandqueries.tar.gz",
                "msmarco-test2019-queries.tsv.gz",
                "msmarco-passage/trec-dl-2020/queries.tsv.gz",
                "msmarco-passage/trec-dl-hard/qrels",
            },
        ),
        ("dpr-w100", ["dpr-w100/natural-questions/dev"], {"dpr-w100/docs.tsv.gz", "dpr-w100/nq-dev.json.gz"}),
        ("beir/nfcorpus", ["beir/nfcorpus/test", "beir/nfcorpus/train"], {"beir/nfcorpus/source.zip"}),
        ("beir/cqadupstack/tex", ["beir/cqadupstack/tex"], {"beir/cqadupstack/source.zip"}),
        ("cranfield", ["cranfield"], {"cranfield/cran.tar.gz"}),
    ],
)
def test_no_file_is_left_out_and_none_is_too_much(corpus: str, query_sets: list[str], expected: set[str]) -> None:
    """Triples, candidates and other subsets of the same collection are gigabytes that a run never reads."""
    assert names(corpus, *query_sets) == expected


def test_sizes_and_hashes_are_those_that_ir_datasets_expects() -> None:
    (found,) = downloads_of([(ir_datasets.load("msmarco-passage"), [PASSAGES])])
    assert (found.bytes, found.md5) == (1_057_717_952, "31644046b18952c1386cd4564ba2ae69")
    assert "MSMARCO data usage agreement" in found.licence
    (argsme, *_) = downloads_of([(ir_datasets.load("argsme/2020-04-01"), [PASSAGES])])
    assert "Creative Commons" in argsme.licence
    (beir,) = downloads_of([(ir_datasets.load("beir/nfcorpus"), [PASSAGES])])
    assert beir.licence == "not stated"


def test_looking_writes_nothing() -> None:
    """`dataset.docs_handler()` would write irds_version.txt, and delete what an older ir_datasets has unpacked."""
    word = Path(ir_datasets.util.home_path()) / "beir" / "scifact" / "irds_version.txt"
    names("beir/scifact", "beir/scifact/test")
    assert corpus_id("beir/scifact/test") == "beir/scifact"
    assert downloads.docs_path(ir_datasets.load("beir/scifact")) is None
    assert not word.exists()


@pytest.mark.parametrize(
    "dataset_id", ["msmarco-passage/trec-dl-hard/fold1", "dpr-w100/natural-questions/train", "beir/quora/dev", "cranfield"]
)
def test_the_corpus_of_a_query_set_is_the_one_that_ir_datasets_names(dataset_id: str) -> None:
    assert corpus_id(dataset_id) == ir_datasets.docs_parent_id(dataset_id)


def made(home: Path, content: bytes = b"right", **changed: object) -> Download:
    import hashlib

    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Download(Path("x/file"), "", len(content), md5, "", False, home, **changed)  # type: ignore[arg-type]


def test_what_is_unpacked_stands_for_the_archive_unless_someone_reads_the_archive(tmp_path: Path) -> None:
    """ir_datasets keeps what it has unpacked, and users delete the archives."""
    (tmp_path / "unpacked").touch()
    assert made(tmp_path, unpacked=[tmp_path / "unpacked"]).here
    assert not made(tmp_path, unpacked=[tmp_path / "unpacked"], read_directly=True).here
    assert not made(tmp_path, unpacked=[tmp_path / "unpacked", tmp_path / "not yet"]).here
    assert not made(tmp_path).here


def test_a_broken_file_stays_until_there_is_a_better_one(tmp_path: Path) -> None:
    """It may be a user's own, put there by hand."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "file").write_bytes(b"wrong")
    with pytest.raises(EnvironmentLack, match="file is there, but its MD5 is .*, expected "):
        bring(made(tmp_path), tmp_path, offline=True)
    assert (tmp_path / "x" / "file").read_bytes() == b"wrong"


def test_a_disk_that_fills_up_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to do; the file that was there before is whole."""
    import errno

    from ir_datasets.util import LocalDownload

    source = tmp_path / "source"
    source.write_bytes(b"right")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EnvironmentLack, match="no space left on the disk"):
        bring(made(tmp_path / "home", mirrors=[LocalDownload(source)]), tmp_path / "home", offline=True)
    assert list((tmp_path / "home" / "x").iterdir()) == []
