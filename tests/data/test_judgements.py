"""Judgements in files: TREC's and BEIR's formats, what is refused with file and line, and what other readers make of the same bytes."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest

from mta4dpr.data.judgements import read_qrels
from mta4dpr.errors import UserError

JUDGED = {"q1": {"d1": 2, "d2": -1}, "q2": {"d1": 0}}
TREC = "q1 0 d1 2\nq1 0 d2 -1\n\nq2 Q0 d1 0\n"
BEIR = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t-1\nq2\td1\t0\n"


def read(path: Path, content: str | bytes, *, beir: bool = False) -> dict[str, dict[str, int]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_qrels(path, beir=beir)


def by_beir(content: str) -> dict[str, dict[str, int]]:
    """What BEIR's own loader does with a file: csv.reader, the first row passed over."""
    rows = list(csv.reader(io.StringIO(content, newline=None), delimiter="\t", quoting=csv.QUOTE_MINIMAL))[1:]
    found: dict[str, dict[str, int]] = {}
    for query_id, document, score in rows:
        found.setdefault(query_id, {})[document] = int(score)
    return found


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "mark"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("content", [TREC, BEIR, BEIR.partition("\n")[2], TREC.replace(" ", "\t"), TREC.replace(" ", " \t\v")])
def test_both_formats_however_they_are_wrapped(tmp_path: Path, content: str, ends: str, mark: str, zipped: bool) -> None:
    content = (mark + content).replace("\n", ends)
    assert read(tmp_path / "qrels", gzip.compress(content.encode()) if zipped else content) == JUDGED


@pytest.mark.parametrize(
    "header",
    [
        "query-id\tcorpus-id\tscore",
        "query_id\tdoc_id\trelevance",
        '"query-id"\t"corpus-id"\t"score"',
        "qid\tpid\tlabel",
        "Topic\tDocNo\tRel",
    ],
)
def test_headers_are_known_by_their_words(tmp_path: Path, header: str) -> None:
    for beir in (True, False):
        assert read(tmp_path / "qrels", f"\n{header}\nq\td\t1\n", beir=beir) == {"q": {"d": 1}}


@pytest.mark.parametrize("line", ["query-id\tcorpus-id", "q1\td1\thigh", "qid\tdoc\t1x", "query-id\tcorpus-id\t", "score"])
def test_a_malformed_first_line_is_no_header(tmp_path: Path, line: str) -> None:
    """Taken for one, a judgement would be lost without a word; so it is in BEIR's own reader."""
    for beir in (True, False):
        with pytest.raises(UserError, match="line 1: expected"):
            read(tmp_path / "qrels", f"{line}\nq\td\t1\n", beir=beir)
    with pytest.raises(UserError, match="line 3: expected an integer as relevance"):  # nor is a header in the middle: two files in one
        read(tmp_path / "qrels", BEIR.splitlines()[1] + "\n\n" + BEIR)


@pytest.mark.parametrize(
    "rows",
    [
        '"q1"\t"d1"\t"1"\n',
        'q1\t"d""1"\t1\n',
        'q"1\td"1"\t1\n',
        '"q1"x\td1\t1\n',
        "'q1'\td1\t1\n",
        "q,1\td;1\t1\n",
        "q1\td1\t 1 \n",
        "q1\td1\t+1\rq2\td1\t007\n",
        "q\u00a01\td\u20281\t1\n",
        "#q\t#d\t1\n",
    ],
)
def test_csv_is_read_as_beir_reads_it(tmp_path: Path, rows: str) -> None:
    assert read(tmp_path / "qrels", "query-id\tcorpus-id\tscore\n" + rows) == by_beir("query-id\tcorpus-id\tscore\n" + rows)


def test_white_space_is_trec_evals(tmp_path: Path) -> None:
    """str.split() cuts at no-break spaces, U+2028, U+001C; isspace() in C does not."""
    ids = ["d\u00a01", "d\u20281", "d\x1c1", "d\x851", "\u3000"]
    content = "".join(f"q\u00a0 0 {document} 1\n" for document in ids)
    assert read(tmp_path / "qrels", content) == {"q\u00a0": dict.fromkeys(ids, 1)}


@pytest.mark.parametrize(
    ("written", "grade"), [("1", 1), ("+1", 1), ("-1", -1), ("-0", 0), ("007", 7), ("127", 127), ("-127", -127), ("0" * 5000, 0)]
)
def test_grades_that_all_readers_read_alike(tmp_path: Path, written: str, grade: int) -> None:
    assert read(tmp_path / "qrels", f"q 0 d {written}\n") == {"q": {"d": grade}}
    assert read(tmp_path / "qrels", f"q\td\t{written}\n") == {"q": {"d": grade}}


@pytest.mark.parametrize(
    "written", ["1.0", "1e3", "1_000", "\u0661", "\uff11", "0x1", "--1", "+-1", "+", "yes", "nan", "1a", "\u22121", "1\u00a0", "1,0", "Ⅷ"]
)
def test_grades_that_are_no_integers(tmp_path: Path, written: str) -> None:
    """int() takes 1_000 and other scripts' digits, atol() takes the 1 of 1.0 and 1a and 0 for the rest: nobody would agree."""
    for content in (f"q 0 d 1\nq 0 e {written}\n", f"q\td\t1\nq\te\t{written}\n"):
        with pytest.raises(UserError, match="line 2: expected an integer as relevance"):
            read(tmp_path / "qrels", content)


@pytest.mark.parametrize("written", ["128", "-128", "1000", "3000000000", "1" + "0" * 20, "-" + "9" * 30, "9" * 10_000])
def test_grades_beyond_trec_evals_bounds(tmp_path: Path, written: str) -> None:
    """trec_eval makes an array as long as the highest grade: 3000000000 took all memory, or gave 0 for every query."""
    for content in (f"q 0 d 1\nq 0 e {written}\n", f"q\td\t1\nq\te\t{written}\n"):
        with pytest.raises(UserError, match="line 2: expected a relevance from -127 to 127") as caught:
            read(tmp_path / "qrels", content)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("q 0 d 1\nq 0 d2\n", "line 2: expected 4 columns.*found 3"),
        ("q d 1\n", "line 1: expected 4 columns.*BEIR's 3 columns"),
        ("q 1\td\t1\n", "line 1: .*found what is both"),  # query q, or q 1
        ("q 0 d 1 x\n", "line 1: expected 4 columns.*found 5"),
        ("q 0 d 1\rq 0 e 1\n", "line 1: expected 4 columns.*found 8"),
        ("query-id\tcorpus-id\tscore\nq\t0\td\t1\n", "line 2: expected query-id TAB.*found 4 columns"),
        ("query-id\tcorpus-id\tscore\nq d 1\n", "line 2: expected query-id TAB.*found 1 column:"),
        ("query-id\tcorpus-id\tscore\nq\t d\t1\n", "line 2: expected a document id.*white space"),
        ("query-id\tcorpus-id\tscore\n\td\t1\n", "line 2: expected a query id.*empty"),
        ('query-id\tcorpus-id\tscore\nq\td\t1\nq\t"e\t1\nq\tf\t1\n', "line 3: .*lacks the one at its end"),
        ("query-id\tcorpus-id\tscore\nq\t" + "d" * 200_000 + "\t1\n", "line 2: .*no CSV"),
        ("query-id\tcorpus-id\tscore\n", "at least one judgment"),
        (b"q 0 d 1\nq 0 \xff 1\n", "line 2: expected UTF-8"),
        (b"q\td\t1\nq\t\xff\t1\n", "line 2: expected UTF-8"),
        (b"q 0 d\0 1\n", "line 1: .*NUL"),
        ("", "at least one line"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read(tmp_path / "qrels", content)


def test_a_pair_that_is_judged_twice(tmp_path: Path) -> None:
    """The same grade says nothing new; of two, readers keep the first or the last."""
    assert read(tmp_path / "qrels", "q 0 d 1\nq 1 d 1\n") == {"q": {"d": 1}}
    for content in ("q 0 d 1\nq 0 e 1\nq 0 d 2\n", "q\td\t1\nq\te\t1\nq\td\t2\n"):
        with pytest.raises(UserError, match="line 3: expected one relevance for query 'q', document 'd'; found 1 and 2"):
            read(tmp_path / "qrels", content)


def test_ids_have_an_end(tmp_path: Path) -> None:
    """A store of passages would be as wide as the longest of them, for all of them."""
    assert read(tmp_path / "qrels", f"q 0 {'d' * 1000} 1\n") == {"q": {"d" * 1000: 1}}
    with pytest.raises(UserError, match="line 1: expected a document id.*1,000,000 letters, and 1,000 are the most"):
        read(tmp_path / "qrels", f"q 0 {'d' * 1_000_000} 1\n")
