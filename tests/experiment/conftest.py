"""Benchmarks like tiny."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.config.yaml_files import benchmark_folder, read_yaml


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    """A YAML of tiny with other settings; distill's are added to tiny's own."""

    def write(**changes: Any) -> Path:
        document = read_yaml(benchmark_folder() / "tiny.yaml")
        document["distill"] |= changes.pop("distill", {})
        document["models"] |= changes.pop("models", {})
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**document, **changes}))
        return path

    return write
