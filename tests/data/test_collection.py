"""Sources of texts and judgements: BEIR folders, ir_datasets, and what is wrong with them."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mta4dpr.data.collection import BeirFolder, IrDataset, load_query_set, open_source
from mta4dpr.data.docstrings import Docstrings
from mta4dpr.data.judgements import read_qrels
from mta4dpr.data.records import Passage, Qrel
from mta4dpr.errors import EnvironmentLack, UserError

PASSAGES = [("d1", "Tïtle", "über text"), ("d2", "", ""), ("7", "", "seven")]
QUERIES = {"q1": "first", "q2": "second", "q3": "not judged"}
QRELS = {"test": [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d1", 1)], "train": [("q3", "d1", 1)]}


@pytest.fixture
def folder(tmp_path: Path, beir_folder: Callable[..., Path]) -> Path:
    return beir_folder(tmp_path / "mini", PASSAGES, QUERIES, QRELS)


def compress(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


# --- a folder in BEIR's format -------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_reads_the_same_plain_and_compressed(folder: Path, packed: bool) -> None:
    """The contract takes .gz for every file."""
    if packed:
        for path in [folder / "corpus.jsonl", folder / "queries.jsonl", *(folder / "qrels").iterdir()]:
            compress(path)
    source = BeirFolder(folder)
    assert list(source.passages()) == [Passage(*fields) for fields in PASSAGES]
    assert source.splits() == ["test", "train"]
    found = load_query_set(source, "mini/test")
    assert found.texts == {"q1": "first", "q2": "second"}
    assert found.qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 1}}
    assert found.counts == []
    assert [entry[1] for entry in source.files()] == [next(folder.glob("corpus*")).stat().st_size]


def test_ids_that_are_numbers_in_json_are_strings(folder: Path) -> None:
    """Some BEIR exports write `"_id": 7`; qrels can only say "7"."""
    (folder / "corpus.jsonl").write_text('{"_id": 7, "text": "x"}\n\n{"_id": "8", "title": null, "text": "y", "metadata": {}}\n')
    assert list(BeirFolder(folder).passages()) == [Passage("7", "", "x"), Passage("8", "", "y")]


@pytest.mark.parametrize("header", ["", "query-id\tcorpus-id\tscore\n"])
def test_qrels_with_and_without_a_header(folder: Path, header: str) -> None:
    """BEIR has the header; files made by hand often do not, and their first line counts."""
    (folder / "qrels" / "test.tsv").write_text(header + "q1\td1\t1\r\nq2\td2\t-1\n")
    assert list(BeirFolder(folder).qrels("mini/test")) == [Qrel("q1", "d1", 1), Qrel("q2", "d2", -1)]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"_id": "d9", "text": "x"', "one JSON object"),
        ('["d9", "x"]', "not an object"),
        ('{"id": "d9", "text": "x"}', "'_id'"),
        ('{"_id": "d9", "contents": "x"}', "'text'"),
        ('{"_id": "d9", "text": null}', "_id and text must be strings"),
        ('{"_id": ["d9"], "text": "x"}', "_id and text must be strings"),
        ('{"_id": "d9", "title": 5, "text": "x"}', "title must be a string"),
        ('{"_id": true, "text": "x"}', "_id and text must be strings"),
        ('{"_id": 1.0, "text": "x"}', "_id and text must be strings"),
        ('{"_id": NaN, "text": "x"}', "_id and text must be strings"),
        ('{"_id": ' + "9" * 5000 + ', "text": "x"}', "one JSON object"),
        ('{"_id": "d9", "text": "x", "_id": "d8"}', "a key occurs twice"),
        ('{"_id": "d9", "text": "x", "more": ' + "[" * 100_000 + "]" * 100_000 + "}", "one JSON object"),
        ('{"_id": "d 9", "text": "x"}', "white space"),
        ('{"_id": "", "text": "x"}', "empty"),
        ('{"_id": "d\\u0000", "text": "x"}', "NUL"),
        ('{"_id": "\\ud800", "text": "x"}', "no valid Unicode"),
        ('{"_id": "d9", "text": "x"} {"_id": "d8", "text": "y"}', "Extra data"),
        ("d9\tx", "d9\\tx"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_malformed_line_is_told_with_file_and_number(folder: Path, line: str, told: str, packed: bool) -> None:
    """In a corpus of millions nobody finds the line by eye."""
    path = folder / "corpus.jsonl"
    path.write_text('{"_id": "d1", "text": "x"}\n\n' + line + "\n")
    path = compress(path) if packed else path
    with pytest.raises(UserError) as caught:
        list(BeirFolder(folder).passages())
    assert f"{path}, line 3: expected" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("line", ["q1 d1 1", "q1\td1", "q1\t0\td1\t1", "q1\td1\t1.5", "q1\td1\thigh"])
def test_a_malformed_judgement_is_told_with_file_and_number(folder: Path, line: str) -> None:
    """A TREC qrels file (four columns) or spaces for tabs are the usual slips."""
    path = folder / "qrels" / "test.tsv"
    path.write_text(f"query-id\tcorpus-id\tscore\nq1\td1\t1\n{line}\n")
    with pytest.raises(UserError) as caught:
        list(BeirFolder(folder).qrels("mini/test"))
    assert f"{path}, line 3: expected " in str(caught.value)


def test_what_json_lines_may_have(folder: Path) -> None:
    """A mark, CRLF, ids with a no-break space, keys of nested objects twice, numbers beyond floats where nobody looks."""
    (folder / "corpus.jsonl").write_bytes(
        b'\xef\xbb\xbf{"_id": "d\xc2\xa01", "text": "x", "metadata": {"a": 1, "a": NaN, "b": 1e999}}\r\n{"_id": -3, "text": "\\ud800"}\n'
    )
    assert list(BeirFolder(folder).passages()) == [Passage("d\u00a01", "", "x"), Passage("-3", "", "\ud800")]


@pytest.mark.parametrize("damage", ["cut", "overwritten", "checksum", "not gzip", "not UTF-8"])
def test_a_damaged_file_is_told_by_name(folder: Path, damage: str) -> None:
    """Half a download must not look like a smaller corpus, nor like a bug of ours."""
    path = folder / "corpus.jsonl"
    path.write_bytes(b"".join(b'{"_id": "d%d", "text": "%d"}\n' % (n, n * n) for n in range(2000)))
    if damage == "not UTF-8":
        path.write_bytes(b'{"_id": "d1", "text": "\xff"}\n')
    else:
        path = compress(path)
        whole = path.read_bytes()
        path.write_bytes(
            {
                "cut": whole[: len(whole) // 2],
                "overwritten": whole[:10] + b"\xff" * 40 + whole[50:],
                "checksum": whole[:-8] + b"1234" + whole[-4:],
                "not gzip": b"plain text",
            }[damage]
        )
    with pytest.raises(UserError, match="whole gzip file.*corpus.jsonl|corpus.jsonl.*, line 1: expected"):
        list(BeirFolder(folder).passages())


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_folder_that_lacks_a_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"has no {name} or {name}.gz"):
        list(BeirFolder(folder).queries("mini/test"))


def test_a_split_that_is_not_there_names_those_that_are(folder: Path) -> None:
    with pytest.raises(UserError, match="no qrels/dev.tsv; its splits: test, train"):
        load_query_set(BeirFolder(folder), "mini/dev")


@pytest.mark.parametrize("line", ["q1 d1 1", "q1\td1\t1.0"])
def test_a_malformed_first_judgement_is_no_header(folder: Path, line: str) -> None:
    """Taken for a header it would be dropped in silence."""
    (folder / "qrels" / "test.tsv").write_text(f"{line}\nq1\td2\t1\n")
    with pytest.raises(UserError, match="line 1: expected "):
        list(BeirFolder(folder).qrels("mini/test"))


# --- query sets ----------------------------------------------------------------------------------------------------


def test_a_query_id_that_occurs_twice(folder: Path) -> None:
    """Which of the two texts is searched would be chance."""
    with open(folder / "queries.jsonl", "a") as file:
        file.write('{"_id": "q1", "text": "another"}\n')
    with pytest.raises(UserError, match="query id 'q1' occurs twice"):
        load_query_set(BeirFolder(folder), "mini/test")


def test_a_passage_judged_twice_must_be_judged_the_same(folder: Path) -> None:
    """trec_eval would keep one of them in silence."""
    path = folder / "qrels" / "test.tsv"
    path.write_text("q1\td1\t1\nq1\td1\t1\n")
    assert load_query_set(BeirFolder(folder), "mini/test").qrels == {"q1": {"d1": 1}}
    path.write_text("q1\td1\t1\nq1\td1\t0\n")
    with pytest.raises(UserError, match="line 2: expected one relevance for query 'q1', document 'd1'; found 1 and 0"):
        load_query_set(BeirFolder(folder), "mini/test")


def test_no_judgements_at_all(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(UserError, match="at least one judgment"):
        load_query_set(BeirFolder(folder), "mini/test")


def test_a_file_of_judgements_is_read_as_evaluate_reads_it(folder: Path) -> None:
    """One reader: a mark, CSV's quotes, CRLF, zipped under any name, and the bounds of grades."""
    path = folder / "qrels" / "test.tsv"
    path.write_bytes(b'\xef\xbb\xbfqid\tdocid\trel\r\n"q1"\t"d1"\t2\r\nq2\td1\t-100\r\n')
    assert load_query_set(BeirFolder(folder), "mini/test").qrels == read_qrels(path) == {"q1": {"d1": 2}, "q2": {"d1": -100}}
    path.write_text("q1\td1\t3000000000\n")
    with pytest.raises(UserError, match="line 1: expected a relevance from -127 to 127"):
        load_query_set(BeirFolder(folder), "mini/test")


def test_judgements_of_other_queries(folder: Path) -> None:
    """Typical cause: ids with and without a prefix; both kinds are shown."""
    (folder / "qrels" / "test.tsv").write_text("1\td1\t1\n")
    with pytest.raises(UserError, match="none of its 3 queries is judged; the judgements name queries such as '1'"):
        load_query_set(BeirFolder(folder), "mini/test")


def test_a_judged_query_without_text_is_counted_and_kept(folder: Path) -> None:
    """It scores 0 (trec_eval -c), so leaving it out would flatter every system."""
    with open(folder / "qrels" / "test.tsv", "a") as file:
        file.write("q9\td1\t1\n")
    found = load_query_set(BeirFolder(folder), "mini/test")
    assert "q9" in found.qrels
    assert "q9" not in found.texts
    assert found.counts == ["mini/test: 1 judged queries have no text (such as 'q9'); they score 0"]


# --- ir_datasets ---------------------------------------------------------------------------------------------------


class FakeDataset:
    """As much of an ir_datasets dataset as a source asks for; `error` is what its files raise."""

    def __init__(self, *, docs: Any = (), queries: Any = (), qrels: Any = (), error: BaseException | None = None) -> None:
        self.parts, self.error = {"docs": docs, "queries": queries, "qrels": qrels}, error
        for name, records in self.parts.items():
            setattr(self, f"has_{name}", lambda records=records: records is not None)
            setattr(self, f"{name}_iter", lambda records=records: self._iterate(records))

    def _iterate(self, records: Any) -> Iterator[Any]:
        yield from records
        if self.error:
            raise self.error


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeDataset], None]:
    return lambda dataset: monkeypatch.setattr(IrDataset, "_load", staticmethod(lambda _: dataset))


def test_an_unknown_id_gives_the_nearest() -> None:
    with pytest.raises(UserError, match="knows no 'beir/nfcorpu/test' .did you mean 'beir/nfcorpus/test'"):
        open_source("beir/nfcorpu/test", name="x", max_passages=None)


@pytest.mark.parametrize(("corpus", "kind"), [("docstrings", Docstrings), ("beir/arguana", IrDataset)])
def test_what_a_corpus_can_be(corpus: str, kind: type) -> None:
    assert isinstance(open_source(corpus, name="x", max_passages=None), kind)


def test_a_folder_goes_before_an_id_and_a_path_that_is_none_is_told(folder: Path) -> None:
    """'./data' was meant as a folder; 'ir_datasets knows no ./data' would puzzle."""
    assert isinstance(open_source(str(folder), name="x", max_passages=None), BeirFolder)
    with pytest.raises(UserError, match="there is no folder"):
        open_source(str(folder / "gone"), name="x", max_passages=None)


@pytest.mark.parametrize(
    ("dataset_id", "expected"), [("beir/arguana", True), ("beir/quora/test", True), ("beir/nfcorpus/test", False), ("cranfield", False)]
)
def test_collections_whose_queries_are_passages(dataset_id: str, expected: bool) -> None:
    """BEIR's own evaluation drops the query itself from the results of these two, and of no other."""
    assert IrDataset(dataset_id).exclude_self is expected


def test_every_query_set_of_a_corpus_shares_its_identity() -> None:
    """beir/quora/dev and /test must share one corpus store."""
    assert IrDataset("beir/quora/dev").identity == IrDataset("beir/quora/test").identity == IrDataset("beir/quora").identity
    assert IrDataset("beir/quora").identity["ir_datasets"] == "beir/quora"


def test_cranfield_codes_are_turned_round(fake: Callable[[FakeDataset], None]) -> None:
    """ir_datasets passes 1 (best) to 4 through; unmapped, nDCG would reward the worst."""
    lines = [SimpleNamespace(query_id="1", doc_id=str(code), relevance=code) for code in (1, 2, 3, 4, -1)]
    fake(FakeDataset(qrels=lines, queries=[SimpleNamespace(query_id="1", text="what")]))
    source = object.__new__(IrDataset)
    source.identity = {"ir_datasets": "any"}
    found = load_query_set(source, "cranfield")
    assert found.qrels == {"1": {"1": 4, "2": 3, "3": 2, "4": 1, "-1": 0}}
    assert len(found.counts) == 1
    assert "mapped 1→4, 2→3, 3→2, 4→1, -1→0" in found.counts[0]
    assert load_query_set(source, "vaswani").qrels["1"] == {"1": 1, "2": 2, "3": 3, "4": 4, "-1": -1}


def test_grades_of_ir_datasets_are_bounded_too(fake: Callable[[FakeDataset], None]) -> None:
    """A data set that a user has registered may say anything."""
    fake(
        FakeDataset(
            qrels=[SimpleNamespace(query_id="1", doc_id="a", relevance=3_000_000_000)], queries=[SimpleNamespace(query_id="1", text="x")]
        )
    )
    source = object.__new__(IrDataset)
    source.identity = {"ir_datasets": "any"}
    with pytest.raises(UserError, match="from -127 to 127.*found 3000000000 for query '1', passage 'a'"):
        load_query_set(source, "vaswani")


def test_a_query_without_text_is_an_empty_one(fake: Callable[[FakeDataset], None]) -> None:
    """ir_datasets has None where a topic lacks the part; None has no letters to encode."""
    fake(FakeDataset(queries=[SimpleNamespace(query_id="1", text=None), SimpleNamespace(query_id="2", default_text=lambda: None)]))
    assert list(object.__new__(IrDataset).queries("x")) == [("1", ""), ("2", "")]


def test_documents_without_a_text_field_give_their_default_text(fake: Callable[[FakeDataset], None]) -> None:
    """Each collection of ir_datasets has its own record type."""
    records = [SimpleNamespace(doc_id="1", title=None, text="a"), SimpleNamespace(doc_id="2", default_text=lambda: "b")]
    fake(FakeDataset(docs=records))
    source = object.__new__(IrDataset)
    source.id, source._dataset, source.identity = "x", IrDataset._load("x"), {"ir_datasets": "x"}
    assert list(source.passages()) == [Passage("1", "", "a"), Passage("2", "", "b")]


@pytest.mark.parametrize("part", ["docs", "queries", "qrels"])
@pytest.mark.parametrize("error", [ConnectionError("Max retries exceeded"), RuntimeError("bad hash"), EOFError()])
def test_a_download_that_fails_is_the_environments_lack(fake: Callable[[FakeDataset], None], part: str, error: Exception) -> None:
    """Exit status 3, and where files can be put by hand: whoever sits behind a firewall needs that path."""
    fake(FakeDataset(error=error))
    source = object.__new__(IrDataset)
    source.id, source._dataset = "x/y", IrDataset._load("x/y")
    read = {"docs": source.passages, "queries": lambda: source.queries("x/y"), "qrels": lambda: source.qrels("x/y")}[part]
    with pytest.raises(EnvironmentLack, match="files of x/y.*IR_DATASETS_HOME") as caught:
        list(read())
    assert caught.value.exit_status == 3


@pytest.mark.parametrize(
    "error", [ValueError("not enough values to unpack"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), IndexError(), zlib.error("-3")]
)
def test_a_file_of_ir_datasets_that_is_damaged_is_told_with_what_to_remove(fake: Callable[[FakeDataset], None], error: Exception) -> None:
    """Its readers raise what comes out of split() and int()."""
    fake(FakeDataset(error=error))
    source = object.__new__(IrDataset)
    with pytest.raises(EnvironmentLack, match="files of x/y that are here .*brought again"):
        list(source.qrels("x/y"))


@pytest.mark.parametrize("name", ["x" * 5000, "./" + "y" * 300, "a/" * 3000, "a\0b"])
def test_a_collection_whose_name_is_no_path(name: str) -> None:
    with pytest.raises(UserError):
        open_source(name, name="x", max_passages=None)


def test_a_bug_while_reading_is_not_taken_for_a_failed_download(fake: Callable[[FakeDataset], None]) -> None:
    fake(FakeDataset(error=TypeError("ours")))
    source = object.__new__(IrDataset)
    source.id, source._dataset = "x", IrDataset._load("x")
    with pytest.raises(TypeError, match="ours"):
        list(source.passages())


@pytest.mark.parametrize("part", ["docs", "queries", "qrels"])
def test_an_id_that_lacks_a_part_is_told_before_anything_is_read(fake: Callable[[FakeDataset], None], part: str) -> None:
    """Many ids of ir_datasets are corpora alone, or topics without judgements."""
    lacking: dict[str, Any] = {part: None}
    fake(FakeDataset(**{"qrels": [SimpleNamespace(query_id="1", doc_id="1", relevance=1)], **lacking}))
    word = {"docs": "passages", "queries": "queries", "qrels": "judgements"}[part]
    with pytest.raises(UserError, match=f"has no {word} for 'beir/x'"):
        load_query_set(IrDataset("beir/x"), "beir/x") if part == "docs" else load_query_set(object.__new__(IrDataset), "beir/x")


@pytest.mark.needs_collection("beir/nfcorpus/test")
def test_the_real_nfcorpus() -> None:
    """323 test queries, 12,334 judgements, 3,633 passages: the published counts."""
    source = IrDataset("beir/nfcorpus/test")
    found = load_query_set(source, "beir/nfcorpus/test")
    assert (len(found.texts), sum(map(len, found.qrels.values()))) == (323, 12_334)
    passages = list(source.passages())
    assert len(passages) == source.expected_passages() == 3633
    assert all(passage.id and passage.title for passage in passages)


@pytest.mark.needs_collection("cranfield")
def test_the_real_cranfield() -> None:
    """The published file has 225 lines of the code -1; a few lines have more than one code for one pair."""
    source = IrDataset("cranfield")
    assert Counter(line.relevance for line in source.qrels("cranfield")) == {4: 128, 3: 387, 2: 734, 1: 363, 0: 225}
    assert sum(1 for _ in source.passages()) == 1400
    assert [Path(path).name for path, *_ in source.files()] == ["docs.txt"]


def test_judgements_that_no_training_needs_are_not_kept_but_their_queries_are(folder: Path, beir_folder: Callable[..., Path]) -> None:
    """DPR's training set has 8.9 million judgements, 95 % of them negatives; a query without a positive is still counted as such."""
    beir_folder(folder, PASSAGES, QUERIES, {"test": [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d1", -1)]})
    assert load_query_set(BeirFolder(folder), "mini/test", least=1).qrels == {"q1": {"d1": 2}, "q2": {}}
    assert load_query_set(BeirFolder(folder), "mini/test").qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": -1}}


def test_dprs_passages_lose_the_quotes_of_the_csv_they_come_in(fake: Callable[[FakeDataset], None]) -> None:
    """ir_datasets splits its lines at tabs; DPR reads them as CSV, and its encoders never saw the quotes."""
    records = [("1", '"said ""no"" twice"', "Plain"), ("2", "no quotes", '"""Weird Al"" Yankovic"'), ("3", '"', '""')]
    fake(FakeDataset(docs=[SimpleNamespace(doc_id=name, text=text, title=title) for name, text, title in records]))
    source = object.__new__(IrDataset)
    source.id, source._dataset, source.identity = "dpr-w100", IrDataset._load("dpr-w100"), {"ir_datasets": "dpr-w100"}
    assert list(source.passages()) == [
        Passage("1", "Plain", 'said "no" twice'),
        Passage("2", '"Weird Al" Yankovic', "no quotes"),
        Passage("3", "", '"'),
    ]
