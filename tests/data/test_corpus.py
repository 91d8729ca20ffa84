"""The corpus store gives back what went in, and refuses what cannot be evaluated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta4dpr.data.collection import BeirFolder
from mta4dpr.data.corpus import Corpus, open_corpus, stored_corpus
from mta4dpr.data.records import Passage
from mta4dpr.errors import UserError

ODD = [
    ("d2", "A title", "text"),
    ("d10", "", "no title"),
    ("d1", "title alone", ""),
    ("empty", "", ""),
    ("é", "Ünï", "日本語 🦊"),
    ("D1", "", "line\nbreak\ttab"),
    ("d", "", "x" * 5000),
    ("z-~!", "", " spaces "),
]


@pytest.fixture
def make(tmp_path: Path, beir_folder: Callable[..., Path]) -> Callable[..., BeirFolder]:
    return lambda passages, name="mini": BeirFolder(beir_folder(tmp_path / name, passages))


def files_below(folder: Path) -> list[str]:
    """Names of files, lock files left out."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_passages_come_back_as_they_were(tmp_path: Path, make: Callable[..., BeirFolder]) -> None:
    """Unicode, empty texts and titles; by number, in the order of the source, and once more from the disk."""
    for _ in range(2):
        corpus = open_corpus(tmp_path / "cache", make(ODD))
        assert list(corpus) == [Passage(*fields) for fields in ODD]
        assert [corpus.id(n) for n in range(len(corpus))] == corpus.ids(np.arange(8)) == [fields[0] for fields in ODD]
        assert corpus.passage(4) == ("é", "Ünï", "日本語 🦊")


def test_title_and_text_are_joined_only_when_there_is_a_title(tmp_path: Path, make: Callable[..., BeirFolder]) -> None:
    """Anserini's figures for BEIR rest on "title\\ntext"; a leading newline or space would change an encoder's input."""
    corpus = open_corpus(tmp_path / "cache", make(ODD))
    assert [corpus.joined(n, "\n") for n in (0, 1, 2)] == ["A title\ntext", "no title", "title alone\n"]


def test_order_is_that_of_utf8_bytes(tmp_path: Path, make: Callable[..., BeirFolder]) -> None:
    """trec_eval compares ids as bytes: D1 < d < d1 < d10 < d2 < é. Every tie in every run rests on this."""
    corpus = open_corpus(tmp_path / "cache", make(ODD))
    expected = sorted((fields[0] for fields in ODD), key=str.encode)
    assert corpus.ids(corpus.order) == expected
    assert [expected[rank] for rank in corpus.id_rank] == [fields[0] for fields in ODD]


def test_numbers_of_ids_and_of_absent_ids(tmp_path: Path, make: Callable[..., BeirFolder]) -> None:
    """Prefixes and continuations of ids are other ids; the search array pads with zero bytes, so they are the risk."""
    corpus = open_corpus(tmp_path / "cache", make(ODD))
    assert corpus.numbers(["é", "d1", "d", "D1"]).tolist() == [4, 2, 6, 5]
    assert corpus.numbers(["", "d100", "d11", "zz", "e", "emptyy", "A", "日本語日本語日本語"]).tolist() == [-1] * 8
    assert corpus.numbers([]).dtype == corpus.numbers(["d1"]).dtype == np.int32


words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=6)


@settings(deadline=None)
@given(ids=st.lists(words, min_size=1, max_size=12, unique=True), absent=st.lists(words, max_size=8))
def test_ids_and_numbers_are_inverse(tmp_path_factory: pytest.TempPathFactory, ids: list[str], absent: list[str]) -> None:
    class Source:
        identity = {"given": "x"}  # noqa: RUF012
        exclude_self = False
        files = staticmethod(list)
        passages = staticmethod(lambda: iter(Passage(name, "", name * 2) for name in ids))
        expected_passages = staticmethod(lambda: None)

    corpus = open_corpus(tmp_path_factory.mktemp("c"), Source())  # type: ignore[arg-type]
    assert corpus.numbers(ids).tolist() == list(range(len(ids)))
    assert corpus.ids(corpus.numbers(ids[::-1])) == ids[::-1]
    assert corpus.numbers(absent).tolist() == [ids.index(name) if name in ids else -1 for name in absent]
    assert corpus.ids(corpus.order) == sorted(ids, key=str.encode)
    assert [passage.text for passage in corpus] == [name * 2 for name in ids]


@pytest.mark.parametrize(
    ("passages", "told"),
    [
        ([("a", "", "x"), ("b", "", "y"), ("a", "", "z")], "the passage id 'a' occurs twice (passages 1 and 3)"),
        ([], "has no passages"),
        ([("a b", "", "x")], "the _id 'a b' cannot be used: it has white space"),
        ([("", "", "x")], "it is empty"),
        ([("a\n", "", "x")], "it has white space"),
    ],
)
def test_a_corpus_that_cannot_be_used_leaves_nothing_behind(
    tmp_path: Path, make: Callable[..., BeirFolder], passages: list[tuple[str, str, str]], told: str
) -> None:
    """One clear error, and no half-built store that a later run would take for a whole one."""
    with pytest.raises(UserError) as caught:
        open_corpus(tmp_path / "cache", make(passages))
    assert told in str(caught.value)
    assert files_below(tmp_path / "cache") == []
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_dir()] == [tmp_path / "cache" / "corpora"]


def test_ids_that_a_source_does_not_check_itself(tmp_path: Path, make: Callable[..., BeirFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy drops a NUL at the end, and makes all ids as wide as the longest."""
    source = make([("a", "", "x")])
    for bad in ("a b", "", "a\0", "\ud800", "a" * 1001):
        monkeypatch.setattr(source, "passages", lambda bad=bad: iter([Passage("b", "", "x"), Passage(bad, "", "y")]))
        with pytest.raises(UserError, match="passage 2 has the id"):
            open_corpus(tmp_path / "cache", source)


def test_ids_that_no_passage_can_have_are_not_found(tmp_path: Path, make: Callable[..., BeirFolder]) -> None:
    """A NUL at the end is nothing to numpy, a lone surrogate was looked up as a question mark, and a long id made all as wide."""
    corpus = open_corpus(tmp_path / "cache", make([("a", "", "x"), ("?", "", "y")]))
    assert corpus.numbers(["a", "a\0", "\ud800", "?", "", "a" * 10_000_000]).tolist() == [0, -1, -1, 1, -1, -1]


def test_a_source_that_breaks_off_leaves_nothing_behind(tmp_path: Path, make: Callable[..., BeirFolder]) -> None:
    """A malformed line in the middle must not leave the passages before it as a corpus."""
    source = make(ODD)
    with open(source.folder / "corpus.jsonl", "a") as file:
        file.write("{broken\n")
    with pytest.raises(UserError, match="line 9"):
        open_corpus(tmp_path / "cache", source)
    assert files_below(tmp_path / "cache") == []


def test_the_store_is_read_and_not_the_source_again(
    tmp_path: Path, make: Callable[..., BeirFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MS MARCO takes minutes to read: the second run must not."""
    source = make(ODD)
    assert stored_corpus(tmp_path / "cache", source) is None
    first = open_corpus(tmp_path / "cache", source)
    monkeypatch.setattr(BeirFolder, "passages", lambda _: pytest.fail("the source was read again"))
    assert open_corpus(tmp_path / "cache", source).text_hash == first.text_hash


@pytest.mark.parametrize(
    ("name", "left"), [("ids.bin", 3), ("texts.bin", 5), ("texts.npy", 140), ("order.npy", 0), ("ids.npy", 130), ("store.json", 0)]
)
def test_a_store_that_was_cut_off_is_read_again(tmp_path: Path, make: Callable[..., BeirFolder], name: str, left: int) -> None:
    """Texts beyond the end of a short file would silently be empty."""
    expected = list(open_corpus(tmp_path / "cache", source := make(ODD)))
    (path,) = (tmp_path / "cache").rglob(name)
    os.truncate(path, left)
    assert list(open_corpus(tmp_path / "cache", source)) == expected


def test_a_changed_file_is_read_again(tmp_path: Path, make: Callable[..., BeirFolder]) -> None:
    """Otherwise a corrected corpus would go on being evaluated in its old state."""
    before = open_corpus(tmp_path / "cache", make(ODD))
    after = open_corpus(tmp_path / "cache", make([*ODD, ("new", "", "x")]))
    assert (len(before), len(after)) == (8, 9)
    assert before.text_hash != after.text_hash
    assert after.folder == before.folder


def test_verify_reads_again_what_file_times_hide(tmp_path: Path, make: Callable[..., BeirFolder]) -> None:
    """`--redo data`: same size and time, another text. Without verify that cannot be seen."""
    source = make([("a", "", "one"), ("b", "", "two")])
    first = open_corpus(tmp_path / "cache", source)
    assert open_corpus(tmp_path / "cache", source, verify=True).text_hash == first.text_hash
    path = source.folder / "corpus.jsonl"
    stat = path.stat()
    path.write_text(path.read_text().replace("two", "six"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert open_corpus(tmp_path / "cache", source).text_hash == first.text_hash
    verified = open_corpus(tmp_path / "cache", source, verify=True)
    assert verified.text_hash != first.text_hash
    assert verified.passage(1).text == "six"


def test_the_text_hash_sees_order_and_the_border_of_title_and_text(tmp_path: Path, make: Callable[..., BeirFolder]) -> None:
    """It names the corpus in every cache key and in the manifest: equal exactly for equal passages."""
    variants = [
        [("a", "x", "y"), ("b", "", "z")],
        [("b", "", "z"), ("a", "x", "y")],
        [("a", "", "xy"), ("b", "", "z")],
        [("a", "xy", ""), ("b", "", "z")],
        [("ax", "", "y"), ("b", "", "z")],
    ]
    hashes = [open_corpus(tmp_path / "cache", make(v, f"v{n}")).text_hash for n, v in enumerate(variants)]
    assert len(set(hashes)) == len(variants)
    assert open_corpus(tmp_path / "cache", make(variants[0], "same")).text_hash == hashes[0]


def test_the_shared_corpus_has_ties(corpus: Corpus) -> None:
    """Other tests rely on it: copies of passages, and ids whose byte order is not that of their numbers."""
    assert corpus.joined(0, " ") == corpus.joined(110, " ")
    assert corpus.ids(corpus.order[[0, 10, 12]]) == ["copy0", "d0", "d10"]
