"""Tables at every width: no number is folded or cut, the least important columns go, and what went is named."""

from __future__ import annotations

import io
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mta4dpr.machine.grids import GridColumn, folded, print_grid, what_differs

WIDTHS = (40, 60, 80, 120, 200)
COLUMNS = [
    GridColumn("system", 0, folds=True),
    GridColumn("nDCG@10", 0, right=True),
    GridColumn("95 % interval", 1, right=True),
    GridColumn("p (Holm)", 3, right=True),
    GridColumn("what it says", 2, folds=True),
    GridColumn("bytes", 4, right=True),
]
NAMES = (
    "mta4dpr-no-replacement-20000-steps",
    "検索システム検索システム検索",
    "kd",
    "a_label_without_any_place_to_fold_it_at_all",
    "x" * 60,
)
NUMBERS = ("0.3216", "[0.2880, 0.3570]", "<0.0001", "8,841,823,000")


def printed(width: int, columns: list[GridColumn] = COLUMNS, elsewhere: str = "--json") -> str:
    rows = [[name, *NUMBERS[:3], "cannot tell: smallest detectable difference 0.0271", NUMBERS[3]] for name in NAMES]
    out = io.StringIO()
    chosen = [[Text(row[COLUMNS.index(column)]) for column in columns] for row in rows]
    print_grid(columns, chosen, Console(file=out, width=width), elsewhere=elsewhere)
    return out.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_every_number_is_whole(width: int) -> None:
    text = printed(width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    shown = [column.head for column in COLUMNS if column.head not in text.partition("columns left out:")[2]]
    whole = dict(zip(("nDCG@10", "95 % interval", "p (Holm)", "bytes"), NUMBERS, strict=True))
    for head, number in whole.items():
        assert text.count(number) == (len(NAMES) if head in shown else 0), (head, width)
    assert {"system", "nDCG@10"} <= set(shown)


def test_the_least_important_columns_go_first_and_are_named() -> None:
    assert "columns left out" not in printed(200)
    said = [" ".join(printed(width).partition("columns left out: ")[2].split()) for width in (60, 40)]
    assert said == [
        "p (Holm), bytes; a wider terminal or --json shows them",
        "p (Holm), what it says, bytes; a wider terminal or --json shows them",
    ]
    assert "a wider terminal or efficiency.json shows them" in " ".join(printed(40, elsewhere="efficiency.json").split())


@pytest.mark.parametrize("width", [1, 8, 15])
def test_a_number_that_is_wider_than_the_screen_is_still_whole(width: int) -> None:
    """The terminal folds the line then; a figure that was cut would be another one."""
    assert printed(width).count("0.3216") == len(NAMES)


WORDS = st.text(st.sampled_from("abc-_/ .検é@[]:"), max_size=60)
FIGURES = st.decimals(-1_000_000, 1_000_000, places=4).map(lambda number: f"{number:,}")


@given(
    st.lists(st.tuples(WORDS, FIGURES, WORDS, FIGURES), min_size=1, max_size=6),
    st.integers(40, 200),
    st.permutations([0, 1, 2, 3]),
    st.booleans(),
)
def test_whatever_the_texts_are(rows: list[tuple[str, ...]], width: int, ranks: list[int], paths: bool) -> None:
    """Lines fit, figures of the columns that are shown are whole, and so are words without their spaces."""
    columns = [GridColumn("head0", 0, folds=not paths, paths=paths), GridColumn("head1", ranks[1], right=True)]
    columns += [GridColumn("head2", ranks[2], folds=True), GridColumn("head3", ranks[3], right=True)]
    out = io.StringIO()
    print_grid(columns, [[Text(cell) for cell in row] for row in rows], Console(file=out, width=width))
    table, _, left_out = out.getvalue().partition("columns left out:")
    assert max(map(cell_len, out.getvalue().splitlines())) <= width
    for number in (1, 3):
        shown = Counter(re.findall(r"(?<!\S)-?[\d,]+\.\d{4}(?!\S)", table))
        wanted = Counter(row[n] for row in rows for n in (1, 3) if f"head{n}" not in left_out)
        assert shown == wanted
        assert (f"head{number}" in table) == (f"head{number}" not in left_out)


def test_names_fold_behind_signs_and_outside_numbers() -> None:
    assert folded("mta4dpr-no-replacement-20000-steps", 16) == "mta4dpr-no-\nreplacement-\n20000-steps"
    assert folded("kd - a", 10) == "kd - a"
    assert folded("smallest detectable difference 0.0271", 12) == "smallest\ndetectable\ndifference\n0.0271"
    assert folded("検索システム", 5) == "検索\nシス\nテム"
    assert folded("abcdef123456789", 8) == "abcdef\n123456789", "a number is longer than the line, and whole"
    assert all("1e-05" in folded(f"{'x' * n}=1e-05", 8) for n in range(12))


def test_folding_loses_no_letter() -> None:
    for text in (*NAMES, "two  words", "runs/nfcorpus/seed-0/kd.trec", "-", "a" * 7 + "-" * 9, "1-2-3-4-5-6-7-8-9"):
        for width in range(2, 30):
            assert re.sub(r"\s", "", folded(text, width)) == re.sub(r"\s", "", text)


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (["runs/x/seed-0/kd.trec", "runs/x/seed-0/bm25.trec"], ["…/kd", "…/bm25"]),
        (["runs/x/seed-0/kd.trec", "runs/x/seed-1/kd.trec"], ["…/seed-0/…", "…/seed-1/…"]),
        (["a/long/folder/run.trec"], ["…/run.trec"]),
        (["a/long/folder/run.trec"] * 2, ["…/run.trec"] * 2),
        (["runs/a/kd.trec", "kd.trec"], ["runs/a/kd", "kd"]),
        (["x/kd.trec.gz", "x/bm25.run.gz"], ["…/kd.trec", "…/bm25.run"]),
        (["x/v1.2.trec", "x/v1.3.trec"], ["…/v1.2", "…/v1.3"]),
        (["x/.trec", "x/a.trec"], ["…/.trec", "…/a.trec"]),
        (["/runs/a", "/runs/a/b"], ["…/a", "…/a/b"]),
        (["a.trec", "b.trec"], ["a", "b"]),
        (["a.trec", "b.run"], ["a.trec", "b.run"]),
        ([], []),
    ],
)
def test_paths_are_shortened_to_what_differs(paths: list[str], shown: list[str]) -> None:
    assert what_differs(paths) == shown
    assert len(set(shown)) == len(set(paths))


def test_paths_are_whole_where_they_fit() -> None:
    columns = [GridColumn("run", 0, paths=True), GridColumn("nDCG@10", 0, right=True)]
    rows = [[Text(f"runs/reference/nfcorpus/seed-{n}/kd.trec"), Text("0.1")] for n in range(2)]
    for width, wanted in ((80, "runs/reference/nfcorpus/seed-1/kd.trec"), (30, "…/seed-1/…")):
        out = io.StringIO()
        print_grid(columns, rows, Console(file=out, width=width))
        assert wanted in out.getvalue()
