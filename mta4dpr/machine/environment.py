"""What this machine is: device, threads, memory, disk, versions, cache folders. Every automatic choice comes with its reason."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from mta4dpr.errors import EnvironmentLack

log = logging.getLogger(__name__)

PACKAGES = ("mta4dpr", "pyserini", "torch", "transformers", "sentence-transformers", "faiss-cpu", "ir_datasets", "ir-measures", "numpy")


LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
OTHER_LAUNCHERS = {  # their variables, and what these are in a process that was started alone
    "Slurm's srun": {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # a batch script has SLURM_NTASKS, and is one process
    "Open MPI": {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
    "MPI": {"PMI_SIZE": "1", "PMI_RANK": "0"},
    "MVAPICH2": {"MV2_COMM_WORLD_SIZE": "1", "MV2_COMM_WORLD_RANK": "0"},
}


def cache_folder() -> Path:
    """MTA4DPR_CACHE, or the platform's cache folder."""
    import platformdirs

    return Path(os.environ.get("MTA4DPR_CACHE") or platformdirs.user_cache_dir("mta4dpr"))


def choose_threads() -> tuple[int, str]:
    """Threads for torch and Lucene, and why."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given), "OMP_NUM_THREADS"
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)), "the cores this process may use"
    return os.cpu_count() or 1, "the machine's cores"


class Launch(NamedTuple):
    """Where a process stands among those that were started together."""

    rank: int  # from 0, which is the main one
    processes: int


def launch() -> Launch:
    """What torchrun or `accelerate launch` say of this process in their variables; the only one without them.

    EnvironmentLack for variables that do not fit together, and for another launcher that has started several: such processes would do
    nothing, wait for each other for ever, or each take itself for the only one.
    """
    given = {name: value for name in LAUNCH if (value := os.environ.get(name, "").strip())}
    way_out = "start several processes by `torchrun --nproc-per-node N -m mta4dpr ...`, or one without these variables"
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"):
        if not re.fullmatch("[0-9]{1,9}", given.get(name, "0")):
            raise EnvironmentLack(f"expected a whole number in {name}, found {given[name]!r}; {way_out}")
    processes = int(given.get("WORLD_SIZE", 1))
    alone = [f"{name}={given[name]}" for name in ("RANK", "LOCAL_RANK") if name in given and "WORLD_SIZE" not in given]
    if alone:
        raise EnvironmentLack(
            f"{' and '.join(alone)} says that this process is one of several, but WORLD_SIZE does not say of how many; {way_out}"
        )
    lacking = [name for name in LAUNCH if name not in given]
    if processes > 1 and lacking:
        raise EnvironmentLack(
            f"WORLD_SIZE={processes} says that there are several processes, but {', '.join(lacking)} is not set; {way_out}"
        )
    rank = int(given.get("RANK", 0))
    if rank >= processes:
        raise EnvironmentLack(f"expected a RANK below WORLD_SIZE, found RANK={rank} and WORLD_SIZE={processes}; {way_out}")
    if processes > 1 and not 0 < int(given["MASTER_PORT"]) < 2**16:
        raise EnvironmentLack(f"expected a port from 1 to 65535 in MASTER_PORT, found {given['MASTER_PORT']}; {way_out}")
    for launcher, variables in OTHER_LAUNCHERS.items() if "WORLD_SIZE" not in given else ():
        found = [f"{name}={os.environ[name]}" for name, usual in variables.items() if os.environ.get(name, usual) not in ("", usual)]
        if found:
            raise EnvironmentLack(
                f"{launcher} has started several processes ({', '.join(found)}), which know nothing of each other; let it start torchrun, "
                "as docs/scaling.md shows, or set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT for each"
            )
    return Launch(rank, processes)


def process_count() -> int:
    """Processes that torchrun or `accelerate launch` has started together; 1 without them."""
    return launch().processes


def process_rank() -> int:
    """The number of this process among those of its launch; 0 is the main one."""
    return launch().rank


def is_main_process() -> bool:
    """Whether this process is the only one of its launch, or the one that writes results."""
    return process_rank() == 0


def choose_device(wanted: str | None) -> tuple[str, str]:
    """The torch device, and why. EnvironmentLack when the wanted one is not there."""
    import torch

    if wanted:
        try:
            torch.empty(1, device=wanted)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:120]
            raise EnvironmentLack(f"torch cannot use the device {wanted!r} ({reason}); try --device cpu") from error
        return wanted, "--device"
    if torch.cuda.is_available() and process_count() > 1:
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}", "the GPU of this process"
    if torch.cuda.is_available():
        return "cuda", torch.cuda.get_device_name(0)
    if torch.backends.mps.is_available():
        return "mps", "Apple's GPU"
    return "cpu", "no GPU that torch can use"


def set_threads(threads: int) -> None:
    """Threads of torch, and of tokenizers unless the user says otherwise."""
    import torch

    torch.set_num_threads(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if threads > 1 else "false")


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or its control group's limit if that is less."""
    import psutil

    total = int(psutil.virtual_memory().total)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def free_disk_bytes(path: Path) -> int:
    """Free bytes of the file system that a path is on, or would be."""
    return shutil.disk_usage(_existing(path)).free


def file_system(path: Path) -> int:
    """A number of the file system that a path is on, or would be."""
    return _existing(path).stat().st_dev


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def versions() -> dict[str, str]:
    """Python and the packages that decide results, {package: version or "not installed"}."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the checkout this code runs from, with + when it has changes; None outside a checkout."""
    import subprocess

    folder = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "-C", folder, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed.strip() else "")


def refuse_network() -> None:
    """From here on this process opens no socket but on the loopback (--offline)."""
    import socket

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    connect = socket.socket.connect

    def connect_to_loopback(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"--offline forbids a connection to {host}")
        connect(self, address)

    def resolve_nothing(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in (None, "127.0.0.1", "::1", "localhost"):
            raise OSError(f"--offline forbids looking up {host}")
        return look_up(host, *arguments, **options)

    look_up = socket.getaddrinfo
    socket.socket.connect = connect_to_loopback  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = resolve_nothing


def hardware() -> dict[str, Any]:
    """The machine in the words of the manifest."""
    return {
        "machine": platform.machine(),
        "system": platform.platform(terse=True),
        "processor": processor(),
        "operation_mode": platform.architecture()[0].replace("bit", "-bit"),
        "distribution": _distribution(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(),
    }


def gpu(device: str | None) -> dict[str, Any] | None:
    """The GPU behind a torch device; None for a CPU."""
    if not device or not device.startswith("cuda"):
        return None
    import torch

    about = torch.cuda.get_device_properties(device)
    return {"architecture": about.name, "number of cores": about.multi_processor_count, "ram": f"{about.total_memory / 2**30:.0f} GB"}


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:  # not Linux
        return None


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def gigabytes(count: float) -> str:
    """Bytes for people: 1.5 GB, 23.0 MB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"
