"""The mathematics can be imported alone: by a notebook, or by another project that has no Java and no time to wait for torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PACKAGES = {"mta4dpr", "mta4dpr.distill"}
MODULES = {"losses": {"losses", "distributions"}, "distributions": {"distributions"}, "selection": {"selection", "distributions"}}
PRINT = "import importlib, json, sys; importlib.import_module(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"


@pytest.mark.parametrize("name", list(MODULES))
def test_mathematics_loads_nothing_but_itself_and_numpy(name: str) -> None:
    """In a fresh process: no other module of ours, no torch, and no package beside numpy and the standard library."""
    made = subprocess.run([sys.executable, "-c", PRINT, f"mta4dpr.distill.{name}"], capture_output=True, text=True, check=True)
    loaded = set(json.loads(made.stdout))
    own = {module for module in loaded if module.split(".")[0] == "mta4dpr"}
    assert own == {*PACKAGES, *(f"mta4dpr.distill.{module}" for module in MODULES[name])}
    heavy = {"torch", "scipy", "pandas", "pyarrow", "transformers", "sentence_transformers", "pyserini", "jnius", "pydantic", "faiss"}
    assert not heavy & {module.split(".")[0] for module in loaded}
