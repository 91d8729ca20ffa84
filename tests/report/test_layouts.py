"""Table layouts: those that ship name only what there is, and a mistaken one is refused with all its mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta4dpr.config.yaml_files import benchmark_folder, load_benchmark
from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES
from mta4dpr.errors import UserError
from mta4dpr.report.layouts import Layout, read_layouts
from mta4dpr.report.published import read_published

PAPER = benchmark_folder() / "paper"
GOOD = """
title: T
columns:
  - {head: C, dataset: nq-test, published: R@20, eval_set: nq/test, measure: Success@20, tolerance: {reproduced: 0.5, near: 1}}
rows:
  - {published: DPR, measured: kd}
"""


def shipped() -> dict[str, Layout]:
    return read_layouts(PAPER, read_published(PAPER))


def test_the_shipped_layouts_are_the_papers_tables() -> None:
    """Every system and dataset in them exists in the CSVs (read_layouts refuses others), and something is known in each main table."""
    names = [name.partition("-")[2] for name in shipped()]
    assert names == ["msmarco", "trec-dl", "nq", "measured-here", "ablation", "criteria", "rounds"]


@pytest.mark.parametrize("name", ["nfcorpus", "medquad"])
def test_what_stands_in_is_a_system_of_its_benchmark(name: str) -> None:
    """A mistyped label would leave a cell empty for ever."""
    bench = load_benchmark(str(benchmark_folder() / "experiments" / f"{name}.yaml"), {})
    assert bench is not None
    known = {"bm25", "student-init", *bench.models, *bench.variants, *STRATEGIES, *ABLATIONS}
    eval_sets = {e.id: e.measures for e in bench.eval_sets}
    shown = 0
    for layout in shipped().values():
        for column in (c for c in layout.columns if c.benchmark == bench.name):
            assert column.measure in eval_sets[column.eval_set]
            labels = {row.measured_as(column.eval_set) for row in layout.rows} - {""}
            assert labels <= known
            shown += len(labels)
    assert shown > 10


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("published: DPR", "published: DRP", ["rows.0", "'DRP'", "did you mean 'DPR'?"]),
        ("dataset: nq-test", "dataset: nq", ["columns.0 (C)", "R@20 on 'nq'", "R@20 on nq-test"]),
        ("Success@20", "Success@100", ["Success@100 and the published R@20 are different measures"]),
        ("Success@20", "nDCG@20", ["nDCG@20 and the published R@20 are different measures"]),
        ("Success@20", "R(rel=2)@20", ["R(rel=2)@20 cannot be compared"]),
        (", tolerance: {reproduced: 0.5, near: 1}", "", ["needs a tolerance"]),
        ("near: 1", "near: 0.4", ["near (0.4) must not be below reproduced (0.5)"]),
        ("near: 1", "near: -1", ["tolerance.near", "greater than or equal to 0"]),
        ("measured: kd}", "measured: kd, about: DRP}", ["systems.csv has no system 'DRP'", "did you mean 'DPR'?"]),
        ("measured: kd}", "measured: {nq/tset: kd}}", ["no column shows the eval set 'nq/tset'"]),
        ("{published: DPR, measured: kd}", "{measured: kd}", ["needs a label"]),
        ("measured: kd}", "measured: kd}\n  - {published: DPR}", ["rows.1", "'DPR' is there twice"]),
        ("dataset: nq-test, published: R@20, ", "", ["tolerance has no effect without a published figure"]),
        ("title: T", "titel: T", ["title", "titel"]),
    ],
)
def test_a_mistaken_layout_is_refused(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert old in GOOD
    (tmp_path / "t.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(UserError) as caught:
        read_layouts(tmp_path, read_published(PAPER))
    assert all(word in str(caught.value) for word in [*words, "t.yaml"])


def test_no_layout_and_broken_yaml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found none"):
        read_layouts(tmp_path, read_published(PAPER))
    (tmp_path / "t.yaml").write_text("title: [")
    with pytest.raises(UserError, match="not valid YAML"):
        read_layouts(tmp_path, read_published(PAPER))
