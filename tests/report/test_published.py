"""The published figures: the shipped files are sound, a file that is not says where, and one figure of several is chosen."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from mta4dpr.config.yaml_files import benchmark_folder
from mta4dpr.errors import UserError
from mta4dpr.report.published import PublishedResults, read_published

HEAD = "system,dataset,measure,value,definition,kind,trust,source\n"
LINE = "A,d,R@50,87.8,hit rate,reported,primary,a paper\n"


def folder(place: Path, results: str, systems: str = "system,params\nA,66M\n") -> Path:
    (place / "results.csv").write_text(results, encoding="utf-8")
    (place / "systems.csv").write_text(systems, encoding="utf-8")
    return place


def shipped() -> PublishedResults:
    return read_published(benchmark_folder() / "paper")


def test_the_shipped_figures_are_all_there_with_a_definition() -> None:
    """551 figures, 39 systems. MRR and nDCG have one meaning; R@k on NQ counts questions with an answer, as DPR's line does."""
    figures, systems = shipped().figures, shipped().systems
    assert (len(figures), len(systems)) == (551, 39)
    meant = collections.defaultdict(set)
    for figure in figures:
        meant[figure.dataset, figure.measure].add(figure.definition)
    assert meant["msmarco-passage-dev", "MRR@10"] == {"reciprocal rank"}
    assert meant["trec-dl-2019", "nDCG@10"] == meant["trec-dl-2020", "nDCG@10"] == {"nDCG"}
    assert meant["nq-test", "R@5"] == meant["nq-test", "R@20"] == meant["nq-test", "R@100"] == {"hit rate"}
    assert meant["msmarco-passage-dev", "R@50"] == {"hit rate", "per-query recall", "unknown"}


def test_a_system_has_one_definition_of_a_measure_where_it_is_known() -> None:
    """A table that quotes a figure does not change what it counts; Pyserini's own evaluation of a system is trec_eval's recall."""
    meant = collections.defaultdict(set)
    for f in shipped().figures:
        if f.definition != "unknown" and not f.source.startswith("Pyserini"):
            meant[f.system, f.measure].add(f.definition)
    assert {key: words for key, words in meant.items() if len(words) > 1} == {}
    assert meant["PROD (6 layers, 66M)", "R@50"] == {"hit rate"}
    assert meant["SimLM (distilled)", "R@50"] == {"per-query recall"}


def test_recall_grows_with_the_cutoff() -> None:
    """Within one source a larger cutoff cannot find less: a slipped digit would show."""
    found = collections.defaultdict(dict)
    for f in shipped().figures:
        if f.measure.startswith("R@"):
            found[f.system, f.dataset, f.source][int(f.measure[2:].replace("k", "000"))] = float(f.value)
    for key, by_cutoff in found.items():
        values = [value for _, value in sorted(by_cutoff.items())]
        assert values == sorted(values), key


def test_the_figure_of_the_asked_definition_comes_first_then_trust_then_precision(tmp_path: Path) -> None:
    results = HEAD + LINE + "A,d,R@50,87.1,unknown,reported,primary,another\nA,d,R@50,87.83,hit rate,reported,primary,a README\n"
    results += "A,d,R@50,86.0,per-query recall,reproduced,quoted,a table\n"
    published = read_published(folder(tmp_path, results))
    for definition, value in (("hit rate", "87.83"), ("per-query recall", "86.0")):
        figure = published.figure("A", "d", "R@50", definition=definition)
        assert figure is not None and figure.value == value
    assert published.figure("A", "d", "R@5", definition="hit rate") is None


def test_figures_that_differ_only_in_rounding_are_one(tmp_path: Path) -> None:
    """87.8 and 87.83 agree, 87.8 and 87.86 do not, nor do 87.8 and 87.7."""
    results = HEAD + LINE + "".join(f"A,d,R@50,{value},unknown,reported,low,{value}\n" for value in ("87.83", "87.85", "87.86", "87.7"))
    published = read_published(folder(tmp_path, results))
    shown = published.figure("A", "d", "R@50", definition="hit rate")
    assert shown is not None
    assert [figure.value for figure in published.others(shown)] == ["87.86", "87.7"]


@pytest.mark.parametrize(
    ("results", "words"),
    [
        (HEAD + LINE.replace("87.8", "878"), ["line 2", "from 0 to 100", "'878'"]),
        (HEAD + LINE.replace("87.8", "-1"), ["line 2", "'-1'"]),
        (HEAD + LINE.replace("87.8", "n/a"), ["line 2", "'n/a'"]),
        (HEAD + LINE.replace("87.8", "1e1"), ["line 2", "'1e1'"]),
        (HEAD + LINE.replace("hit rate", "Success"), ["line 2", "definition", "per-query recall", "'Success'"]),
        (HEAD + LINE.replace("primary", "good"), ["line 2", "trust", "secondary", "'good'"]),
        (HEAD + LINE.replace("a paper", ""), ["line 2", "source is empty"]),
        (HEAD + LINE + LINE.replace("87.8", "87.9"), ["line 3", "line 2 already"]),
        (HEAD + LINE.replace("\n", ",x\n"), ["line 2", "8 columns, found 9"]),
        (HEAD.replace("definition", "defnition") + LINE, ["column definition", "did you mean 'defnition'?"]),
        ("", ["column system", "found nothing"]),
        (HEAD + 'A,"d\n', ["not valid CSV"]),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, results: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_published(folder(tmp_path, results))
    assert all(word in str(caught.value) for word in [*words, "results.csv"])


def test_a_system_that_is_there_twice_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"systems\.csv, line 3.*'A' is there twice"):
        read_published(folder(tmp_path, HEAD + LINE, "system,params\nA,66M\nA,110M\n"))
    (tmp_path / "systems.csv").unlink()
    with pytest.raises(UserError, match=r"systems\.csv, found no such file"):
        read_published(tmp_path)
