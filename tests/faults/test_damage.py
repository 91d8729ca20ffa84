"""Every file that a run leaves and every file of the cache, damaged in every way: the results are the same bytes, or the run is refused.

A run's own files are damaged in a finished folder, and the same command is given again. The cache's are damaged before a run into another
folder, which needs all of them. Sizes and times of the changes are put back where they can be, so that they give nothing away.
.ci/run tries a few; `-m faults` all of them, and prints the counts.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mta4dpr.__main__ import main
from mta4dpr.commands.verify_kept import verify_cache, verify_run

from ..damage import DAMAGES
from .conftest import make_bench, results, run_whole

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SAMPLE = 5  # files of a place that .ci/run damages, each in one way
NO_RESULT = (".lock", "rates.jsonl")  # locks are empty, and times of earlier work decide no result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a benchmark, a finished run of it, and its cache."""
    root = tmp_path_factory.mktemp("damage")
    bench = make_bench(root, students=("mta4dpr",), steps=4, checkpoint_every=2)
    run_whole(root, bench)
    return root


@pytest.fixture
def again(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], int]:
    """Gives the command of a run into that folder, in this process; the exit status."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(place / "cache"))

    def run(into: Path) -> int:
        monkeypatch.setattr(sys, "argv", ["mta4dpr-bench", "run", str(place / "mine.yaml"), "--output", str(into)])
        with pytest.raises(SystemExit) as leaving:
            main()
        return int(leaving.value.code or 0)

    return run


def cases(folder: Path, is_all: bool) -> Iterator[tuple[Path, str]]:
    """Files and damages; every pair of them, or some."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(NO_RESULT)]
    assert len(files) > 30
    if is_all:
        yield from ((path, damage) for path in files for damage in DAMAGES)
        return
    draw = random.Random(5)
    yield from ((path, draw.choice(list(DAMAGES))) for path in draw.sample(files, SAMPLE))


def report(counts: Counter[str], wrong: list[str], tell: Callable[[str], None]) -> None:
    tell(f"{counts.total()} damages: {', '.join(f'{count} {what}' for what, count in counts.most_common())}, {len(wrong)} wrong")
    assert wrong == []


def test_a_damaged_run_is_made_as_it_was_or_refused(
    place: Path, again: Callable[[Path], int], is_all: bool, tell: Callable[[str], None]
) -> None:
    """What nobody needs any more may stay damaged, if `verify` says so."""
    folder, counts, wrong = place / "run", Counter[str](), list[str]()
    expected = results(folder)
    for path, damage in cases(folder, is_all):
        if not path.exists():  # a name that the damage of another file has changed
            continue
        before = path.read_bytes()
        if not before:
            continue
        DAMAGES[damage](path)
        name = f"{damage} {path.relative_to(folder)}"
        status = again(folder)
        if status in (2, 3):
            counts["refused"] += 1
            path.write_bytes(before)
            continue
        if status or results(folder) != expected:
            wrong.append(f"{name}: status {status}, other results")
            shutil.rmtree(folder)
            again(folder)
            continue
        if path.exists() and path.read_bytes() == before:
            counts["made again"] += 1
            continue
        found = verify_run(folder)
        is_told = any(row["broken"] for row in found["rows"]) or str(path.relative_to(folder)) in found["unknown"] or not path.exists()
        counts["of no use any more, and told by verify" if is_told else "made anew with other bytes (times, sizes)"] += 1
        if is_told:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(before)
    report(counts, wrong, tell)


def test_a_damaged_cache_is_made_again_or_refused(
    place: Path, again: Callable[[Path], int], is_all: bool, tell: Callable[[str], None]
) -> None:
    expected, cache, counts, wrong = results(place / "run"), place / "cache", Counter[str](), list[str]()
    for path, damage in cases(cache, is_all):
        if not path.exists() or not path.stat().st_size:
            continue
        before = path.read_bytes()
        DAMAGES[damage](path)
        status = again(place / "other")
        if status in (2, 3):
            counts["refused"] += 1
            path.write_bytes(before)
        elif status or results(place / "other") != expected:
            wrong.append(f"{damage} {path.relative_to(cache)}: status {status}, other results")
            path.write_bytes(before)
        else:
            found = verify_cache()
            counts["told by verify alone" if any(row["broken"] for row in found["rows"]) else "made again"] += 1
        shutil.rmtree(place / "other", ignore_errors=True)
    report(counts, wrong, tell)
