"""Resume, lock, and the refusal to mix settings in one folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.errors import UserError
from mta4dpr.experiment.ledger import Ledger, StageName, locked
from mta4dpr.machine.files import write_json

BM25, KD = StageName("search", "bm25", "test"), StageName("train", "kd")


def done(folder: Path, *, content: str = "result", inputs: object = "in") -> Path:
    """A folder with one finished stage; returns its output."""
    output = folder / "sub" / "out.txt"
    with Ledger(folder).stage(BM25, inputs) as outputs:
        output.parent.mkdir(exist_ok=True)
        output.write_text(content)
        outputs.append(output)
    return output


def test_a_stage_is_done_for_its_own_inputs_only(tmp_path: Path) -> None:
    """A finished stage is skipped by the next process; with other inputs it is not."""
    done(tmp_path, inputs={"k": 10, "b": 1})
    ledger = Ledger(tmp_path)
    assert ledger.is_done(BM25, {"b": 1, "k": 10})
    assert not ledger.is_done(BM25, {"k": 11, "b": 1})
    assert not ledger.is_done(StageName("search", "other", "test"), {"k": 10, "b": 1})


@pytest.mark.parametrize("change", ["deleted", "longer", "same length"])
def test_an_output_that_was_deleted_or_changed_is_made_again(tmp_path: Path, change: str) -> None:
    """The leaderboard must never rest on a run file that somebody edited."""
    output = done(tmp_path, content="result")
    before = output.stat().st_mtime_ns
    if change == "deleted":
        output.unlink()
    else:
        output.write_text("results" if change == "longer" else "RESULT")
        after = before if change == "longer" else before + 1_000_000  # each change is seen by one thing alone
        os.utime(output, ns=(after, after))
    assert not Ledger(tmp_path).is_done(BM25, "in")


def test_an_output_that_was_only_touched_is_not_made_again(tmp_path: Path) -> None:
    """A copy of a run's folder has other times and the same bytes; hours of work must not start over."""
    output = done(tmp_path)
    os.utime(output, ns=(1, 1))
    assert Ledger(tmp_path).is_done(BM25, "in")


def test_a_stage_that_fails_is_not_done_and_its_time_adds_up(tmp_path: Path) -> None:
    """After a kill the stage goes on; the efficiency table counts both parts of its time."""
    with pytest.raises(RuntimeError), Ledger(tmp_path).stage(KD, "in"):
        time.sleep(0.05)
        raise RuntimeError
    ledger = Ledger(tmp_path)
    assert not ledger.is_done(KD, "in")
    with ledger.stage(KD, "in"):
        time.sleep(0.05)
    assert Ledger(tmp_path).stages[KD]["seconds"] >= 0.1
    with ledger.stage(KD, "other"):
        pass
    assert ledger.stages[KD]["seconds"] < 0.05


def test_a_stage_that_a_killed_run_left_is_not_one_that_runs_now(tmp_path: Path) -> None:
    """Processes that were started together must not go along with what others began; the time of both is added up all the same."""
    with pytest.raises(KeyboardInterrupt), Ledger(tmp_path).stage(KD, "in", by="first"):
        assert Ledger(tmp_path).is_running(KD, "in", by="first")
        time.sleep(0.05)
        raise KeyboardInterrupt
    ledger = Ledger(tmp_path)
    assert ledger.is_running(KD, "in")
    assert ledger.is_running(KD, "in", by="first")
    assert not ledger.is_running(KD, "in", by="second")
    assert not ledger.is_running(KD, "other", by="first")
    with ledger.stage(KD, "in", by="second"):
        assert Ledger(tmp_path).is_running(KD, "in", by="second")
        assert not Ledger(tmp_path).is_running(KD, "in", by="first")
    assert ledger.stages[KD]["seconds"] >= 0.05
    assert not ledger.is_running(KD, "in", by="second")


def test_forget_drops_those_stages_for_good(tmp_path: Path) -> None:
    """`--redo` makes some stages again and leaves the others alone; also after a restart."""
    ledger = Ledger(tmp_path)
    for stage in (BM25, KD, StageName("train", "mta4dpr")):
        with ledger.stage(stage, "in"):
            pass
    ledger.forget([KD, StageName("train", "mta4dpr"), StageName("never", "heard of")])
    again = Ledger(tmp_path)
    assert [stage for stage in (BM25, KD, StageName("train", "mta4dpr")) if again.is_done(stage, "in")] == [BM25]


def test_names_are_read_as_they_were_written() -> None:
    """A ledger that an earlier version left knows its stages by their names alone; an eval set's id may hold anything."""
    for name in (StageName("evaluate"), KD, BM25, StageName("search", "bm25", "a folder/test")):
        assert StageName.of(str(name)) == name
    assert str(BM25) == "search bm25 test"


def test_shares_are_of_kinds_and_add_up(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.stages = {StageName("train", "a"): {"seconds": 2.0}, BM25: {"seconds": 5.0}, StageName("train", "b"): {"seconds": 1.0}}
    assert list(ledger.shares()) == [
        {"stage": "train", "seconds": 3.0, "share": 0.375},
        {"stage": "search", "seconds": 5.0, "share": 0.625},
    ]


HOLD = """
import sys
from pathlib import Path
from mta4dpr.experiment.ledger import locked
with locked(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_run(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds tmp_path until its input ends."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=-1, stdout=-1, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.kill()
        holder.wait()


def test_a_folder_that_another_process_holds_is_refused_with_its_pid(tmp_path: Path, other_run: subprocess.Popen[str]) -> None:
    """Two runs in one folder would overwrite each other; the message says whom to wait for (exit status 2)."""
    with pytest.raises(UserError, match=rf"process {other_run.pid} on \S+ since 20.*--wait") as caught, locked(tmp_path, wait=False):
        pytest.fail("the lock was given twice")
    assert caught.value.exit_status == 2


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, other_run: subprocess.Popen[str]) -> None:
    """SIGKILL leaves .lock.json behind; the next run must start all the same."""
    other_run.kill()
    other_run.wait()
    with locked(tmp_path, wait=False):
        assert (tmp_path / ".lock.json").exists()
    assert not (tmp_path / ".lock.json").exists()


def test_wait_takes_the_folder_when_the_other_run_ends(tmp_path: Path, other_run: subprocess.Popen[str]) -> None:
    assert other_run.stdin is not None
    threading.Timer(0.3, other_run.stdin.close).start()
    started = time.monotonic()
    with locked(tmp_path, wait=True):
        assert time.monotonic() - started > 0.2


def test_a_folder_made_for_nothing_is_taken_away_and_no_other(tmp_path: Path) -> None:
    """A run refused at its first check leaves no empty folder; one that was there, or holds anything, stays."""
    (tmp_path / "there").mkdir()
    for name, content in (("new", None), ("there", None), ("used", "ledger.json")):
        with locked(tmp_path / name, wait=False):
            if content:
                (tmp_path / name / content).touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there", "used"]


@pytest.mark.parametrize("record", [1, {}, {"status": "over"}, {"outputs": {"a": {"sha256": 1}}}, {"seconds": "1"}, {"inputs": None}])
def test_a_ledger_with_other_types_is_refused(tmp_path: Path, record: Any) -> None:
    """One without a checksum, of an earlier version or changed on purpose, says what to delete instead of ending in a traceback."""
    whole = {"status": "done", "inputs": "a", "outputs": {}, "seconds": 1.0}
    write_json(tmp_path / "ledger.json", {"stages": {"evaluate": whole}})
    assert len(Ledger(tmp_path).stages) == 1
    write_json(tmp_path / "ledger.json", {"stages": {"evaluate": {**whole, **record} if isinstance(record, dict) and record else record}})
    with pytest.raises(UserError, match="ledger.json is not what was written there .*; delete it"):
        Ledger(tmp_path)
