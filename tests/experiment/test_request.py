"""What a request stands for: a benchmark, a folder in BEIR's format or an id, with the user's settings and eval sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.errors import UserError
from mta4dpr.experiment.request import ADHOC_MEASURES, Request, output_folder, resolve_benchmark

JUDGED = [("q1", "d1", 1)]


@pytest.fixture
def folder(beir_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A collection with those splits."""
    return lambda *splits: beir_folder(tmp_path / "mini", [("d1", "", "fox")], {"q1": "fox"}, dict.fromkeys(splits, JUDGED))


def eval_sets(request: Request) -> list[str]:
    return [one.id for one in resolve_benchmark(request)[0].eval_sets]


def test_a_benchmark_with_the_users_settings(tiny: Callable[..., Path]) -> None:
    """--set goes before the YAML; which eval sets are chosen does not change which ones training avoids."""
    path = tiny(eval_sets=[{"id": f"tiny/{split}", "measures": ["RR@10"]} for split in ("test", "dev")])
    bench, source, every = resolve_benchmark(Request(str(path), settings=("k1=1.2", "depth=7"), eval_sets=("tiny/dev",)))
    assert (bench.bm25.k1, bench.depth) == (1.2, 7)
    assert [one.id for one in bench.eval_sets] == ["tiny/dev"]
    assert every == ["tiny/test", "tiny/dev"]
    assert not source.exclude_self


def test_eval_sets_come_in_the_order_in_which_they_were_asked_for(tiny: Callable[..., Path]) -> None:
    """The first one decides what is timed, and its queries try an approximate index."""
    path = tiny(eval_sets=[{"id": f"tiny/{split}", "measures": ["RR@10"]} for split in ("test", "dev")])
    assert eval_sets(Request(str(path), eval_sets=("tiny/dev", "tiny/test"))) == ["tiny/dev", "tiny/test"]


def test_a_suite_is_evaluated_only_when_it_is_named(tiny: Callable[..., Path]) -> None:
    """It takes hours, and collections that a user may not have."""
    path = tiny(suites={"beir": {"measure": "nDCG@10", "sets": ["beir/scifact/test"]}})
    assert resolve_benchmark(Request(str(path)))[0].suites == {}
    bench = resolve_benchmark(Request(str(path), eval_sets=("beir",)))[0]
    assert (list(bench.suites), bench.eval_sets) == (["beir"], [])


def test_an_eval_set_that_there_is_not(tiny: Callable[..., Path]) -> None:
    path = tiny(suites={"beir": {"measure": "nDCG@10", "sets": ["x"]}})
    with pytest.raises(UserError, match=r"no eval set 'tiny/tset' \(did you mean 'tiny/test'\?\); it has: tiny/test, beir"):
        resolve_benchmark(Request(str(path), eval_sets=("tiny/tset",)))


@pytest.mark.parametrize(
    ("splits", "asked", "chosen"),
    [
        (("test", "dev", "train"), (), ["mini/test"]),
        (("dev", "train"), (), ["mini/dev"]),
        (("test", "dev"), ("dev", "test"), ["mini/dev", "mini/test"]),
        (("test", "dev"), ("mini/dev",), ["mini/dev"]),
    ],
)
def test_splits_of_a_folder(folder: Callable[..., Path], splits: tuple[str, ...], asked: tuple[str, ...], chosen: list[str]) -> None:
    """test, or the only other one than train; by its name or with the folder's."""
    assert eval_sets(Request(str(folder(*splits)), eval_sets=asked)) == chosen


@pytest.mark.parametrize(
    ("splits", "asked", "told"),
    [
        (("dev", "eval"), (), "choose with --eval-sets from: dev, eval"),
        (("test",), ("tset",), r"no split 'tset' \(did you mean 'test'\?\)"),
        (("test", "train"), ("train",), "the split train is never evaluated"),
        ((), (), r"no qrels/SPLIT\.tsv"),
    ],
)
def test_splits_that_cannot_be_evaluated(folder: Callable[..., Path], splits: tuple[str, ...], asked: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        resolve_benchmark(Request(str(folder(*splits)), eval_sets=asked))


def test_a_folder_is_a_benchmark_of_bm25(folder: Callable[..., Path]) -> None:
    """With the usual measures; nothing is trained, so an option of training is a mistake."""
    path = str(folder("test"))
    bench, _, every = resolve_benchmark(Request(path, settings=("k1=1.2",)))
    assert (bench.name, bench.systems, bench.bm25.k1, every) == ("mini", ["bm25"], 1.2, ["mini/test"])
    assert bench.eval_sets[0].measures == ADHOC_MEASURES
    with pytest.raises(UserError, match="distill options have no effect"):
        resolve_benchmark(Request(path, settings=("lr=0.1",)))


def test_an_id_of_ir_datasets_is_one_too() -> None:
    """Its convention about passages with the query's own id comes with it."""
    bench, source, every = resolve_benchmark(Request("beir/arguana"))
    assert (bench.name, every, bench.exclude_self) == ("beir-arguana", ["beir/arguana"], source.exclude_self)
    assert source.exclude_self


def test_a_name_that_nobody_has_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no benchmark 'quickstrat' \(did you mean 'quickstart'\?\)"):
        resolve_benchmark(Request("quickstrat"))


@pytest.mark.parametrize(
    ("asked", "expected"), [({}, "runs/tiny"), ({"limit": 5}, "runs/tiny-limit-5"), ({"limit": 5, "output": Path("x")}, "x")]
)
def test_a_limited_run_has_a_folder_of_its_own(asked: dict[str, Any], expected: str) -> None:
    """A quick look must not take the place of the run that it precedes."""
    request = Request("tiny", **asked)
    assert output_folder(request, resolve_benchmark(request)[0]) == Path(expected)
