"""DPR's question files through ir_datasets' own downloads: hash, size, what is in them, what a damaged one says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import ir_datasets
import pytest

from mta4dpr.data import questions
from mta4dpr.data.collection import IrDataset, judged_by_answers, load_query_set
from mta4dpr.errors import EnvironmentLack, UserError

HOME = Path(ir_datasets.util.home_path())


def _cached(name: str) -> Path:
    return HOME / questions.CORPUS / str(questions.DOWNLOADS[name]["cache_path"])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param(name, count, marks=pytest.mark.needs_collection(name, parts=("queries",)))
        for name, count in (("nq/test", 3610), ("nq/dev", 8757))
    ],
)
def test_the_real_files_are_taken_verified_and_read_whole(name: str, count: int) -> None:
    """ir_datasets checks the hash while it copies the file into its home; the size is what `plan` and `fetch` say."""
    source = IrDataset(name)
    found = load_query_set(source, name)
    assert len(found.texts) == len(found.answers) == len(found.qrels) == count
    content = _cached(name).read_bytes()
    about = questions.DOWNLOADS[name]
    assert (len(content), hashlib.md5(content).hexdigest()) == (about["size_hint"], about["expected_md5"])
    assert all(answer.strip() for answers in found.answers.values() for answer in answers)
    if name == "nq/test":
        assert (found.texts["0"], found.answers["0"]) == ("who got the first nobel prize in physics", ("Wilhelm Conrad Röntgen",))
        quoted = next(query for query, text in found.texts.items() if text == "who sings the theme song for the proud family")
        assert found.answers[quoted] == ("Solange Knowles", "Destiny 's Child")


def test_they_belong_to_dprs_corpus_and_share_no_ids() -> None:
    """One store of 21 million passages for all of them; question 7 of one file is not question 7 of another."""
    sources = [IrDataset(name) for name in ("dpr-w100", "nq/test", "nq/dev", "dpr-w100/natural-questions/train")]
    assert {source.identity["ir_datasets"] for source in sources} == {"dpr-w100"}
    assert sources[1].expected_passages() == 21_015_324
    names = ["nq/test", "nq/dev", "dpr-w100/natural-questions/dev", "dpr-w100/natural-questions/train"]
    assert len({sources[0].namespace(name) for name in names}) == 4
    assert [judged_by_answers(sources[0], name) for name in names] == [True, True, False, False]
    marco = IrDataset("msmarco-passage")
    assert marco.namespace("msmarco-passage/train/judged") == marco.namespace("msmarco-passage/dev/small")


def test_a_file_that_is_not_there_is_the_environments_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_: Any) -> Iterator[bytes]:
        raise ConnectionError("no network here")

    monkeypatch.setattr(ir_datasets.util.RequestsDownload, "__iter__", unreachable)
    for file in (_cached("nq/test"), HOME / "downloads" / str(questions.DOWNLOADS["nq/test"]["expected_md5"])):
        file.unlink(missing_ok=True)
    with pytest.raises(EnvironmentLack, match="files of nq/test: .*IR_DATASETS_HOME"):
        load_query_set(IrDataset("nq/test"), "nq/test")


def read(content: bytes) -> list[Any]:
    class File:
        @contextmanager
        def stream(self) -> Iterator[BytesIO]:
            yield BytesIO(content)

        def path(self) -> str:
            return "nq-test.qa.csv"

    return list(questions.QaFile("nq/test", File()).queries_iter())


@pytest.mark.parametrize(
    "line",
    [
        *["a question without answers", "a question\t['open", "a question\t'text'", "a question\t[]", "a\t[1]", "a\t{[]: 1}"],
        *[
            "a\t" + "[" * 5000,
            "a\t[" + "-" * 100_000 + "1]",
            "a\t['\\ud800']",
            "a\t['" + "x" * 200_000 + "']",
            b"a\t['\xff']",
            "a\t[" + "9" * 5000 + "]",
        ],
    ],
    ids=range(12),
)
def test_a_line_that_is_none_is_told_with_file_and_number(line: str | bytes) -> None:
    with pytest.raises(UserError, match=r"nq-test.qa.csv, line 2: expected question TAB \['answer', ...\]") as caught:
        read(b"who\t['Cyrus']\n" + (line.encode() if isinstance(line, str) else line) + b"\n")
    assert len(str(caught.value)) < 500


def test_a_mark_and_quotes_over_lines_change_no_id() -> None:
    """An id is the place of the question, not of the line."""
    found = read(b"\xef\xbb\xbfwho\t['a']\r\n\"what\nelse\"\t\"['b', 'c\"\"d']\"\nwhen\t['e']")
    assert [(one.query_id, one.text, one.answers) for one in found] == [
        ("0", "who", ("a",)),
        ("1", "what\nelse", ("b", 'c"d')),
        ("2", "when", ("e",)),
    ]
