"""Reading, ordering and writing TREC runs."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta4dpr.errors import UserError
from mta4dpr.evaluation import trecrun
from mta4dpr.evaluation.trecrun import Run, RunWriter, rank_order, read_run, run_of

TIDY = "q1 Q0 d1 1 3.5 x\nq1 Q0 d2 2 2.5 x\nq2 Q0 d1 1 1 x\n"


def as_lists(run: Run) -> list[tuple[str, list[str], list[float]]]:
    return [(query_id, (ranking := run.ranking(query_id))[0], ranking[1].tolist()) for query_id in run.query_ids]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def no_slow_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a test fail that would pass by the line-by-line path only."""
    monkeypatch.setattr(trecrun, "_read_lines", lambda content, path: pytest.fail("the fast path gave up"))


@pytest.mark.usefixtures("no_slow_path")
@pytest.mark.parametrize(
    "content",
    [TIDY, TIDY.replace(" ", "\t"), TIDY.replace("\n", "\r\n"), TIDY.rstrip(), TIDY.replace("\n", "\n\n"), "\ufeff" + TIDY],
    ids=["spaces", "tabs", "crlf", "no final newline", "blank lines", "byte order mark"],
)
def test_tidy_files_take_the_fast_path(tmp_path: Path, content: str) -> None:
    assert as_lists(read_run(written(tmp_path / "run", content))) == [("q1", ["d1", "d2"], [3.5, 2.5]), ("q2", ["d1"], [1.0])]


@pytest.mark.parametrize(
    "content",
    [
        TIDY.replace("q1 Q0", "q1\tQ0", 1),
        TIDY.replace("q1 Q0", "  q1   Q0", 1),
        TIDY.replace(" x\n", " x \n"),
        TIDY.replace("x\nq2", "x\n  \t\nq2"),
        TIDY.replace("1 3.5", "1\t3.5"),
    ],
    ids=["mixed", "doubled", "trailing", "blank with spaces", "tab before score"],
)
def test_untidy_white_space_is_read_alike(tmp_path: Path, content: str) -> None:
    """trec_eval splits at any white space, so does every tool's output in practice."""
    assert as_lists(read_run(written(tmp_path / "run", content))) == [("q1", ["d1", "d2"], [3.5, 2.5]), ("q2", ["d1"], [1.0])]


def test_a_file_has_one_byte_order_mark(tmp_path: Path) -> None:
    """What follows it is the first id, as for every other reader; Arrow passes over a mark too."""
    assert read_run(written(tmp_path / "run", "\ufeff\ufeff" + TIDY)).query_ids == ["\ufeffq1", "q1", "q2"]


def test_lines_of_a_query_need_not_be_adjacent_nor_in_order(tmp_path: Path) -> None:
    run = read_run(written(tmp_path / "run", "b Q0 d1 9 1 x\na Q0 d1 9 5 x\nb Q0 d2 9 3 x\nb Q0 d3 9 2 x\n"))
    assert as_lists(run) == [("b", ["d2", "d3", "d1"], [3.0, 2.0, 1.0]), ("a", ["d1"], [5.0])]
    assert run.offsets.tolist() == [0, 3, 4]
    assert run.ranking("unknown")[0] == []


def test_rank_column_is_not_used(tmp_path: Path) -> None:
    """trec_eval ranks by score alone; a file whose ranks contradict its scores is common (negated distances)."""
    assert read_run(written(tmp_path / "run", "q Q0 a 1 0.1 x\nq Q0 b 2 0.2 x\n")).ranking("q")[0] == ["b", "a"]


def test_ties_fall_by_document_id_descending_by_bytes(tmp_path: Path) -> None:
    """trec_eval's rule. 'd9' > 'd10' by bytes; 'é' (two bytes, 0xc3) > 'z'; U+10000 > U+FFFF by bytes, but not in UTF-16."""
    ids = ["d10", "d9", "z", "é", "\uffff", "\U00010000"]
    run = read_run(written(tmp_path / "run", "".join(f"q Q0 {document} 1 1.0 x\n" for document in ids)))
    assert run.ranking("q")[0] == sorted(ids, key=str.encode, reverse=True) == ["\U00010000", "\uffff", "é", "z", "d9", "d10"]


def test_scores_tie_as_float32(tmp_path: Path) -> None:
    """1.00000001 and 1.0 are one float32: by trec_eval's rule the ids decide, b before a."""
    assert read_run(written(tmp_path / "run", "q Q0 a 1 1.00000001 x\nq Q0 b 2 1.0 x\n")).ranking("q")[0] == ["b", "a"]


def test_negative_zero_ties_with_zero(tmp_path: Path) -> None:
    run = read_run(written(tmp_path / "run", "q Q0 b 1 -0.0 x\nq Q0 a 2 0 x\n"))
    assert run.ranking("q")[0] == ["b", "a"]
    assert not np.signbit(run.scores).any()


@pytest.mark.usefixtures("no_slow_path")
def test_words_that_csv_readers_take_for_null_or_quotes(tmp_path: Path) -> None:
    """Arrow would read NA or null as missing, "a as the start of a quoted field, 1 and true as numbers and booleans."""
    ids = ["NA", "null", "NaN", "N/A", '"a', "'b", "#c", "true", "007", "1e5", "a\\b", "a,b"]
    run = read_run(written(tmp_path / "run", "".join(f"NA Q0 {d} 1 {100 - i} null\n" for i, d in enumerate(ids))))
    assert run.query_ids == ["NA"]
    assert run.ranking("NA")[0] == ids


@pytest.mark.parametrize("ends", ["x y\n", "x\ty\r\n", "my run, 2 of 3\n", "x # 1.5\n"])
def test_a_tag_of_several_words_is_read_as_trec_eval_does(tmp_path: Path, ends: str) -> None:
    """Its reader passes over what follows the first word of the tag."""
    assert as_lists(read_run(written(tmp_path / "run", TIDY.replace("x\n", ends)))) == as_lists(read_run(written(tmp_path / "plain", TIDY)))


@pytest.mark.parametrize(
    "content", ["q\u00a01 Q0 d\u20281 1 2.5 x\n", "q\u00a01\fQ0\vd\u20281\t1 2.5  x\n", "q\u00a01 \xe9 d\u20281 first 2.5 x\n"]
)
def test_white_space_is_that_of_c(tmp_path: Path, content: str) -> None:
    """A no-break space and U+2028 belong to an id: str.split() would cut there. Ranks and iterations may be any word."""
    assert as_lists(read_run(written(tmp_path / "run", content))) == [("q\u00a01", ["d\u20281"], [2.5])]


@pytest.mark.parametrize("score", ["1e-3", "1E+2", "-7", "+0.5", ".5", "5.", "1e-50"])
def test_number_formats(tmp_path: Path, score: str) -> None:
    assert read_run(written(tmp_path / "run", f"q Q0 d 1 {score} x\n")).scores.tolist() == [float(np.float32(float(score)))]


def test_gzip_is_seen_by_content(tmp_path: Path) -> None:
    zipped = written(tmp_path / "named-like-text.trec", gzip.compress(TIDY.encode()))
    plain = written(tmp_path / "named-like.gz", TIDY)
    assert as_lists(read_run(zipped)) == as_lists(read_run(plain))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("q1 Q0 d3 3 1.0", "6 columns.*found 5"),
        ("q1  d3 3 1.0 x", "6 columns.*found 5"),  # two delimiters meet: Arrow counts 6
        ("q1 Q0 d3\vz 3 1.0 x", "6 columns.*found 7.*an id had white space"),  # one more separator inside a word: Arrow counts 6
        ("q1 Q0 doc 3 3 1.0 x", "6 columns.*found 7.*an id had white space"),  # trec_eval takes the rank for the score
        ("q1 Q0 d3 3 1.0 xq1 Q0 d4 4 0.5 x", "6 columns.*found 11.*run together"),  # trec_eval loses d4
        ("q1 Q0 d3 3 high x", "number as score.*'high'"),
        ("q1 Q0 d3 3 1_000 x", "number as score.*'1_000'"),
        ("q1 Q0 d3 3 0x1p3 x", "number as score.*'0x1p3'"),
        ("q1 Q0 d3 3 1.5f x", "number as score.*'1.5f'"),
        ("q1 Q0 d3 3 \u0661 x", "number as score"),  # a digit, for Python's float()
        ("q1 Q0 d3 3 1e400 x", "finite score.*'1e400'"),
        ("q1 Q0 d3 3 Infinity x", "finite score"),
        ("q1 Q0 d3 3 nan x", "finite score.*'nan'"),
        ("q1 Q0 d3 3 -inf x", "finite score.*'-inf'"),
        ("q1 Q0 d3 3 1e39 x", "finite score.*'1e39'"),  # finite, but not as float32
        ("q1 Q0 d2 3 1.0 x", "document once.*'d2' again for query 'q1'"),
        (b"q1 Q0 d\xff 3 1.0 x", "UTF-8"),
        (b"q1 Q0 \xed\xa0\x80 3 1.0 x", "UTF-8"),  # half a surrogate pair
        (b"q1 Q0 d3\0 3 1.0 x", "NUL"),  # ends the id for trec_eval, so d3\0a and d3\0b were one passage
        ("q1 Q0 d3 3 1.0 x\rq1 Q0 d4 4 0.5 x", "6 columns.*found 12"),  # Arrow would take the \r for the end of a line
    ],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_a_bad_line_is_named(tmp_path: Path, bad: str | bytes, says: str, zipped: bool) -> None:
    content = TIDY.encode() + (bad.encode() if isinstance(bad, str) else bad) + b"\n"
    path = written(tmp_path / "bad.run", gzip.compress(content) if zipped else content)
    with pytest.raises(UserError, match=rf"bad\.run, line 4: .*{says}"):
        read_run(path)


def test_the_largest_float32_is_no_error(tmp_path: Path) -> None:
    assert np.isfinite(read_run(written(tmp_path / "run", "q  Q0 d 1 3.4028234663852886e38 x\n")).scores).all()


def test_files_that_are_no_runs(tmp_path: Path) -> None:
    whole = gzip.compress(TIDY.encode() * 100)
    damaged = whole[:12] + bytes([whole[12] ^ 0xFF]) + whole[13:]
    for name, content, says in [
        ("empty", b"", "at least one line, found an empty one"),
        ("blank", b"\n \n", "at least one line"),
        ("empty.gz", gzip.compress(b""), "at least one line"),
        ("cut.gz", whole[:-9], "whole gzip file"),
        ("damaged.gz", damaged, "whole gzip file"),
        ("binary", bytes(range(128, 256)), "line 1"),
    ]:
        with pytest.raises(UserError, match=says):
            read_run(written(tmp_path / name, content))
    with pytest.raises(UserError, match="found nothing at"):
        read_run(tmp_path / "missing")
    with pytest.raises(UserError, match="found a folder"):
        read_run(tmp_path)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" \t\n\r\v\f\0"), min_size=1, max_size=4).filter(
    lambda word: not word.startswith("\ufeff")
)
scores = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 1.5]), st.floats(width=32, allow_nan=False, allow_infinity=False))
runs = st.dictionaries(words, st.dictionaries(words, scores, min_size=1, max_size=8), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(runs)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, hits: dict[str, dict[str, float]]) -> None:
    """Same queries, order and scores (9 digits identify a float32), and both reading paths agree."""
    path = tmp_path_factory.mktemp("run") / "run.trec"
    with RunWriter(path, tag="t") as writer:
        for query_id, documents in hits.items():
            writer.write(query_id, list(documents), list(documents.values()))
    content = path.read_bytes()
    fast, slow = trecrun._read_delimited(content), trecrun._read_lines(content, path)
    assert fast is not None
    assert as_lists(fast) == as_lists(slow) == as_lists(read_run(path)) == as_lists(run_of(hits))
    for query_id, documents in hits.items():
        expected = sorted(documents, key=lambda document: (documents[document], document.encode()), reverse=True)
        assert fast.ranking(query_id)[0] == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), words, scores), min_size=1, max_size=20, unique_by=lambda hit: hit[:2]))
def test_fast_path_equals_slow_path_on_shuffled_lines(hits: list[tuple[str, str, float]]) -> None:
    content = "".join(f"{query} Q0 {document} 1 {score!r} t\n" for query, document, score in hits).encode()
    fast = trecrun._read_delimited(content)
    assert fast is not None
    assert as_lists(fast) == as_lists(trecrun._read_lines(content, Path("x")))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_end_between_queries_and_between_ties(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """Ties and duplicates are looked for in batches; with tiny ones every batch border is met."""
    monkeypatch.setattr(trecrun, "BATCH", batch)
    hits = [("p", "a", 1), ("q", "a", 2), ("q", "b", 2), ("q", "c", 2), ("q", "d", 1), ("q", "e", 1), ("r", "a", 1), ("r", "b", 1)]
    lines = [f"{query} Q0 {document} 1 {score} t\n" for query, document, score in hits]
    run = trecrun._read_delimited("".join(lines).encode())
    assert run is not None
    assert [run.ranking(query)[0] for query in "pqr"] == [["a"], ["c", "b", "a", "e", "d"], ["b", "a"]]
    for again in range(len(lines)):
        assert trecrun._read_delimited("".join([*lines, lines[again]]).encode()) is None


def test_written_bytes(tmp_path: Path) -> None:
    """The whole format on one page: ties by id descending, ranks from 1, 9 significant digits of the float32."""
    with RunWriter(tmp_path / "deep" / "run.trec", tag="bm25") as writer:
        writer.write("q2", ["a", "b", "c"], np.array([0.1, 12.5, 0.1]))
        writer.write("q1", [], [])
    assert (tmp_path / "deep" / "run.trec").read_bytes() == (
        b"q2 Q0 b 1 12.5 bm25\nq2 Q0 c 2 0.100000001 bm25\nq2 Q0 a 3 0.100000001 bm25\n"
    )


@pytest.mark.parametrize(
    ("query_id", "doc_ids", "values", "says"),
    [
        ("q", ["a", "b"], [1.0, float("nan")], "finite scores.*nan.*'b'"),
        ("q", ["a"], [float("inf")], "finite scores"),
        ("q", ["a"], [1e39], "finite scores"),
        ("q", ["a", "a"], [1.0, 2.0], "'a' twice"),
        ("q", ["a b"], [1.0], "document id.*white space"),
        ("q", ["a\n"], [1.0], "document id.*white space"),
        ("q", [""], [1.0], "document id.*empty"),
        ("q", ["a\0"], [1.0], "document id.*NUL"),
        ("q", ["\ud800"], [1.0], "valid Unicode"),
        ("q 1", ["a"], [1.0], "query id.*white space"),
        ("again", ["a"], [1.0], "'again' twice"),
    ],
)
def test_writer_refuses_what_cannot_be_read_back(tmp_path: Path, query_id: str, doc_ids: list[str], values: list[float], says: str) -> None:
    """And leaves neither a half-written file nor touches an earlier one."""
    path = written(tmp_path / "run.trec", "earlier")
    with pytest.raises(UserError, match=says), RunWriter(path, tag="t") as writer:
        writer.write("again", ["z"], [1.0])
        writer.write(query_id, doc_ids, values)
    assert path.read_text() == "earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["run.trec"]


def test_writer_checks_the_tag(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tag.*white space"):
        RunWriter(tmp_path / "run", tag="my system")


def test_rank_order() -> None:
    assert rank_order(["a", "b", "c"], np.array([1.0, 1.0, 2.0])).tolist() == [2, 1, 0]
    assert rank_order(["a", "b", "c"], np.array([3.0, 1.0, 2.0])).tolist() == [0, 2, 1]
    assert rank_order([], np.array([])).tolist() == []


def test_run_of_refuses_nan() -> None:
    with pytest.raises(UserError, match="finite"):
        run_of({"q": {"d": float("nan")}})
