"""DPR's question files as data sets of ir_datasets: nq/test (3,610 questions) and nq/dev (8,757) over dpr-w100.

They hold questions with answers and no judgements; which passages count is decided by their text (data/answers.py).
Downloads are ir_datasets' own: declared with size and hash, looked for in its home first. Knows no run and no measure.
"""

from __future__ import annotations

import ast
import csv
import itertools
from collections.abc import Iterator
from typing import Any

import ir_datasets
from ir_datasets.datasets.base import Dataset
from ir_datasets.datasets.dpr_w100 import DprW100Query
from ir_datasets.formats import BaseQueries

from mta4dpr.data.text_files import UTF8_MARK
from mta4dpr.errors import UserError

CORPUS = "dpr-w100"
URL = "https://dl.fbaipublicfiles.com/dpr/data/retriever"  # as DPR's own dpr/data/download_data.py has it
DOWNLOADS = {
    "nq/test": {
        "url": f"{URL}/nq-test.qa.csv",
        "size_hint": 296949,
        "expected_md5": "b2843800741f378dc6460f102a02437f",
        "cache_path": "nq-test.qa.csv",
    },
    "nq/dev": {
        "url": f"{URL}/nq-dev.qa.csv",
        "size_hint": 620013,
        "expected_md5": "57ae397464f0a5897ce3426409450115",
        "cache_path": "nq-dev.qa.csv",
    },
}
"""In the form of ir_datasets' etc/downloads.json; paths are relative to dpr-w100's folder in its home."""
NO_QUESTION = (ValueError, SyntaxError, TypeError, csv.Error, RecursionError, MemoryError)  # the last two: brackets without end


class QaFile(BaseQueries):
    """Lines of question TAB ['answer', ...] with CSV's quoting. A question's id is its place from 0, as in Anserini's topics of it."""

    def __init__(self, name: str, download: Any) -> None:
        self.name, self.download = name, download

    def queries_iter(self) -> Iterator[DprW100Query]:
        """Questions with their answers. UserError with the line for one that is not as the class says."""
        with self.download.stream() as stream:
            rows = csv.reader((line.removeprefix(UTF8_MARK).decode() for line in stream), delimiter="\t")
            for number in itertools.count():
                line = rows.line_num + 1
                try:
                    row = next(rows, None)
                    if row is None:
                        return
                    question, listed = row
                    answers = ast.literal_eval(listed)
                    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
                        raise ValueError("no list of answers")
                    if any("\ud800" <= letter <= "\udfff" for answer in answers for letter in answer):
                        raise ValueError("no valid Unicode")
                except NO_QUESTION as error:
                    raise UserError(
                        f"{self.download.path()}, line {line}: expected question TAB ['answer', ...] in UTF-8, found something else "
                        f"({error}); remove the file, and it is downloaded again from {DOWNLOADS[self.name]['url']}"
                    ) from error
                yield DprW100Query(str(number), question, tuple(answers))

    def queries_cls(self) -> type[DprW100Query]:
        """The type of a question, for ir_datasets."""
        return DprW100Query

    def queries_namespace(self) -> str:
        """The collection that the questions belong to, for ir_datasets."""
        return CORPUS

    def queries_lang(self) -> str:
        """The language of the questions, for ir_datasets."""
        return "en"


def register() -> None:
    """Makes nq/test and nq/dev known to ir_datasets; again and again does no harm."""
    if next(iter(DOWNLOADS)) in set(ir_datasets.registry):
        return
    files = ir_datasets.util._DownloadConfig(contents=DOWNLOADS, base_path=ir_datasets.util.home_path() / CORPUS)
    for name in DOWNLOADS:
        ir_datasets.registry.register(name, Dataset(ir_datasets.load(CORPUS), QaFile(name, files[name])))
