"""Rates that runs leave for the next plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta4dpr.machine import rates
from mta4dpr.machine.rates import Rates


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rates:
    monkeypatch.setattr(rates, "matrix_rate", lambda device, threads: 100e9)
    return Rates(tmp_path, device=lambda: "cpu", threads=2)


def test_without_earlier_runs_a_rate_is_a_share_of_the_matrix_product(cpu: Rates) -> None:
    assert cpu.of("encode") == rates.Rate(60e9, measured=False)
    assert cpu.of("index") == rates.Rate(5000.0, measured=False)


def test_the_same_network_goes_before_others(cpu: Rates) -> None:
    """A small network reaches less of the machine's rate than a large one."""
    cpu.note("encode", 4e12, 100.0, shape="2 layers, 384 wide")
    cpu.note("encode", 8e12, 100.0, shape="12 layers, 768 wide")
    cpu.note("encode", 10e12, 100.0, shape="12 layers, 768 wide")
    assert cpu.of("encode", shape="12 layers, 768 wide") == rates.Rate(90e9, measured=True)
    assert cpu.of("encode", shape="6 layers, 384 wide").value == pytest.approx(22e12 / 300)


def test_only_this_machine_counts(cpu: Rates, tmp_path: Path) -> None:
    """A cache may be shared by machines; threads and device decide as much."""
    Rates(tmp_path, device=lambda: "cpu", threads=8).note("encode", 4e13, 1.0)
    assert not cpu.of("encode").measured


def test_small_pieces_say_nothing(cpu: Rates, tmp_path: Path) -> None:
    """200 passages are indexed in the time that Lucene needs to open; a plan for 8.8 million would say years."""
    cpu.note("index", 200, 2.0)
    cpu.note("read", 60_000, 7.0)
    assert not (tmp_path / "rates.jsonl").exists()


def test_a_line_that_was_cut_off_is_passed_over(cpu: Rates, tmp_path: Path) -> None:
    cpu.note("index", 100_000, 10.0)
    with open(tmp_path / "rates.jsonl", "a") as file:
        file.write('{"work": "ind')
    assert cpu.of("index") == rates.Rate(10_000.0, measured=True)


def test_a_disk_that_takes_no_line_stops_no_run(cpu: Rates, tmp_path: Path) -> None:
    (tmp_path / "rates.jsonl").mkdir()
    cpu.note("index", 100_000, 10.0)
    assert not cpu.of("index").measured


def test_the_matrix_product_is_timed_quickly() -> None:
    """Under three seconds, as `plan` promises."""
    import time

    import torch

    torch.ones(1)
    started = time.perf_counter()
    assert rates.matrix_rate("cpu", 1) > 1e8
    assert time.perf_counter() - started < 10, "a busy machine is given some more"
