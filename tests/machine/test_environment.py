"""What this machine is: choices with their reasons, limits that count, and the network that --offline takes away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mta4dpr.errors import EnvironmentLack
from mta4dpr.machine import environment
from mta4dpr.machine.environment import (
    cache_folder,
    choose_device,
    choose_threads,
    free_disk_bytes,
    gigabytes,
    git_commit,
    gpu,
    is_main_process,
    process_count,
    versions,
)


def test_the_users_number_of_threads_goes_before_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of a cluster may use fewer cores than the machine has; what is no number is passed over."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert choose_threads() == (3, "OMP_NUM_THREADS")
    for nonsense in ("", "0", "many", "-2"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert choose_threads()[0] == len(os.sched_getaffinity(0)), nonsense


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable would be the working directory."""
    monkeypatch.setenv("MTA4DPR_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.setenv("MTA4DPR_CACHE", "")
    assert cache_folder().name == "mta4dpr"
    assert cache_folder().is_absolute()


LAUNCHED = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the variables of a launch, and no others of them."""

    def by(**variables: str) -> None:
        for name in [*LAUNCHED, *(name for others in environment.OTHER_LAUNCHERS.values() for name in others)]:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return by


def test_processes_are_those_of_the_launch(launched: Callable[..., None]) -> None:
    launched()
    assert (process_count(), is_main_process()) == (1, True)
    launched(**LAUNCHED)
    assert (process_count(), environment.process_rank(), is_main_process()) == (4, 2, False)


@pytest.mark.parametrize(
    "alone",
    [
        {"RANK": "", "WORLD_SIZE": ""},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"WORLD_SIZE": "1"},
        {"MASTER_ADDR": "somewhere", "MASTER_PORT": "29500"},
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # a batch script
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
    ],
)
def test_a_process_that_is_alone(launched: Callable[..., None], alone: dict[str, str]) -> None:
    launched(**alone)
    assert environment.launch() == (0, 1)


def test_torchrun_under_another_launcher_counts(launched: Callable[..., None]) -> None:
    """`srun torchrun ...`: Slurm counts machines, torchrun processes."""
    launched(**LAUNCHED, SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="1", PMI_SIZE="2", PMI_RANK="1")
    assert environment.launch() == (2, 4)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"RANK": "1"}, "RANK=1 says .* WORLD_SIZE does not say of how many"),  # did nothing, with exit status 0
        ({"RANK": "0"}, "RANK=0"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK=0"),
        ({"RANK": "1", "LOCAL_RANK": "1"}, "RANK=1 and LOCAL_RANK=1"),
        ({"WORLD_SIZE": "2"}, "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_ADDR, MASTER_PORT is not set"),
        ({**LAUNCHED, "MASTER_ADDR": " "}, "MASTER_ADDR is not set"),
        ({**LAUNCHED, "RANK": "4"}, "RANK below WORLD_SIZE, found RANK=4 and WORLD_SIZE=4"),
        ({"WORLD_SIZE": "0"}, "RANK below WORLD_SIZE"),
        ({"WORLD_SIZE": "1", "RANK": "1"}, "RANK below WORLD_SIZE"),
        ({**LAUNCHED, "RANK": "-1"}, "whole number in RANK, found '-1'"),
        ({**LAUNCHED, "RANK": "\u0661"}, "whole number in RANK"),
        ({**LAUNCHED, "WORLD_SIZE": "two"}, "whole number in WORLD_SIZE, found 'two'"),
        ({**LAUNCHED, "WORLD_SIZE": "1_0"}, "whole number in WORLD_SIZE"),
        ({**LAUNCHED, "WORLD_SIZE": "9" * 5000}, "whole number in WORLD_SIZE"),
        ({**LAUNCHED, "LOCAL_RANK": "x"}, "whole number in LOCAL_RANK"),
        ({**LAUNCHED, "MASTER_PORT": "70000"}, "port from 1 to 65535"),
        ({**LAUNCHED, "MASTER_PORT": "0"}, "port from 1 to 65535"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, "Slurm's srun has started several processes .SLURM_STEP_NUM_TASKS=4"),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, "SLURM_PROCID=3"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "Open MPI"),
        ({"PMI_SIZE": "2"}, "MPI has started several"),
        ({"MV2_COMM_WORLD_RANK": "1"}, "MVAPICH2"),
    ],
)
def test_variables_of_a_launch_that_do_not_fit_together(launched: Callable[..., None], variables: dict[str, str], told: str) -> None:
    """The machine's lack: exit status 3."""
    launched(**variables)
    for asked in (process_count, is_main_process):
        with pytest.raises(EnvironmentLack, match=told) as caught:
            asked()
        assert len(str(caught.value)) < 6000


def test_a_device_that_is_not_there_is_told_with_a_way_out() -> None:
    assert choose_device("cpu") == ("cpu", "--device")
    for wanted in ("nonsense", "cuda:99"):
        with pytest.raises(EnvironmentLack, match="try --device cpu"):
            choose_device(wanted)
    assert gpu("cpu") is gpu(None) is None


@pytest.mark.parametrize(("limit", "expected"), [("1000", 1000), ("max", None), ("99999999999999999999", None)])
def test_the_memory_is_that_of_the_control_group_where_it_is_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int | None
) -> None:
    """A container is killed at its limit, whatever the machine has; version 1 writes an enormous number for no limit."""
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    plain = environment.Path
    monkeypatch.setattr(environment, "Path", lambda path: plain(tmp_path / plain(path).name))
    assert environment.memory_bytes() == (expected or psutil.virtual_memory().total)


def test_free_disk_is_that_of_the_nearest_folder_that_there_is(tmp_path: Path) -> None:
    """A plan asks before the folder is made, and makes none."""
    assert free_disk_bytes(tmp_path / "not" / "yet") == pytest.approx(free_disk_bytes(tmp_path), rel=0.1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (23_000_000, "23.0 MB"), (1.5e9, "1.5 GB"), (2.25e12, "2.2 TB")]
)
def test_bytes_for_people(count: float, words: str) -> None:
    assert gigabytes(count) == words


def test_versions_name_every_package_that_decides_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not installed is said to be so: a manifest without it would look as if nobody had asked."""
    assert all(version != "not installed" for version in versions().values())
    monkeypatch.setattr(environment, "PACKAGES", ("no-such-package",))
    assert versions()["no-such-package"] == "not installed"


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is installed, or git is not, the manifest says null."""
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


OFFLINE = """
import os, socket
from mta4dpr.machine.environment import refuse_network
refuse_network()
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
for attempt in (lambda: socket.create_connection(("192.0.2.1", 80), timeout=1), lambda: socket.getaddrinfo("huggingface.co", 443)):
    try:
        attempt()
    except OSError as error:
        assert "--offline forbids" in str(error), error
    else:
        raise SystemExit("a connection was made")
assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
"""


def test_offline_leaves_the_loopback_alone() -> None:
    """Processes of a launch and Java's own sockets need it; anything else fails at once, names too."""
    before = socket.socket.connect
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert socket.socket.connect is before
