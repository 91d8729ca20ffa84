"""ir_metadata: only keys of the published schema and those that we say are ours; all of PRIMAD; the same bytes for the same run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.commands.run import run as run_benchmark
from mta4dpr.experiment.ir_metadata import END, START, ir_metadata
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import read_json

# the checklists of https://www.ir-metadata.org/metadata/, version 0.1
PUBLISHED = {
    "schema-version",
    "run-version",
    "tag",
    *(f"platform/hardware/cpu/{key}" for key in ("model", "architecture", "operation mode", "number of cores")),
    *(f"platform/hardware/gpu/{key}" for key in ("architecture", "number of cores", "ram")),
    "platform/hardware/ram",
    "platform/operating system/kernel",
    "platform/operating system/distribution",
    "platform/software/libraries/python",
    "platform/software/retrieval toolkit",
    "research goal/evaluation/reported measures",
    "research goal/evaluation/baseline",
    "research goal/evaluation/significance test/name",
    "research goal/evaluation/significance test/correction method",
    "implementation/executable/cmd",
    "implementation/source/lang",
    "implementation/source/repository",
    "implementation/source/commit",
    "method/automatic",
    "method/score ties",
    *(f"method/indexing/{key}" for key in ("tokenizer", "stemmer", "stopwords")),
    *(f"method/retrieval/{key}" for key in ("name", "method", "params", "k1", "b")),
    "actor/role",
    *(f"data/test collection/{key}" for key in ("name", "source", "qrels", "topics", "ir_datasets")),
    *(f"data/training data/{key}" for key in ("name", "source", "ir_datasets")),
}
OURS = {"method/retrieval/description", "method/retrieval/index", "method/retrieval/depth", "data/test collection/text hash"}
PRIMAD = {"platform", "research goal", "implementation", "method", "actor", "data"}


def keys(document: Any, place: str = "") -> Iterator[str]:
    """Places of all values; a list is one, or its mappings' keys; parameters of a method are free."""
    if isinstance(document, dict) and not place.endswith("/params"):
        for key, value in document.items():
            yield from keys(value, f"{place}/{key}" if place else key)
    elif isinstance(document, list) and document and isinstance(document[0], dict):
        for entry in document:
            yield from keys(entry, place)
    else:
        yield place


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = Request("tiny", systems=("bm25", "kd"), limit=5, settings=("k1=1.2", "lr=0.01"))
    return run_benchmark(Request(**{**request.__dict__, "output": tmp_path_factory.mktemp("run") / "run"}))


def read(run: Path, system: str) -> dict[str, Any]:
    text = (run / "runs" / "tiny-test" / f"{system}.ir_metadata.yml").read_text()
    assert text.startswith(START + "\n")
    assert text.endswith(END + "\n")
    document = yaml.safe_load(text)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("system", ["bm25", "kd"])
def test_every_run_file_has_metadata_of_the_published_keys(run: Path, system: str) -> None:
    document = read(run, system)
    assert set(keys(document)) <= PUBLISHED | OURS
    assert set(document) >= PRIMAD, "repro_eval compares runs by these six"
    assert document["tag"] == (run / "runs" / "tiny-test" / f"{system}.trec").read_text().split()[5]
    assert document["data"]["test collection"]["name"] == "tiny/test"
    assert document["research goal"]["evaluation"]["reported measures"] == ["RR@10", "nDCG@10", "R@100"]
    assert "#" not in (run / "runs" / "tiny-test" / f"{system}.trec").read_text()[:1], "never as comment lines in the run file"


def test_the_command_makes_this_run_file_and_names_no_option_without_effect(run: Path) -> None:
    """lr means nothing to BM25: its file is the same bytes with and without it, and so is the metadata."""
    tail = "--eval-sets tiny/test --limit 5 --set k1=1.2"
    assert read(run, "bm25")["implementation"]["executable"]["cmd"].endswith(f"run tiny --systems bm25 {tail} --seed 0")
    assert read(run, "kd")["implementation"]["executable"]["cmd"].endswith(f"run tiny --systems kd {tail} --set lr=0.01 --seed 0")


def test_method_and_data_are_those_of_the_run(run: Path) -> None:
    bm25, kd = read(run, "bm25"), read(run, "kd")
    assert (bm25["method"]["retrieval"][0]["k1"], bm25["method"]["retrieval"][0]["b"]) == (1.2, 0.4)
    assert "training data" not in bm25["data"]
    assert kd["data"]["training data"] == [{"name": "tiny/train", "source": "docstrings"}]
    assert kd["method"]["retrieval"][0]["params"]["distill.lr"] == 0.01
    assert "teacher teacher" in kd["method"]["retrieval"][0]["description"]


def test_nothing_in_it_is_a_time_or_a_path(run: Path) -> None:
    """What the contract calls byte-identical includes these files."""
    manifest = read_json(run / "manifest.json")
    record = manifest["run_files"]["runs/tiny-test/kd.trec"]
    before = ir_metadata(manifest, record)
    text = yaml.safe_dump(before)
    assert str(run) not in text
    assert str(Path.home()) not in text
    for note in manifest["runs"]:
        note["started"], note["finished"], note["command"] = "other", "other", ["other"]
    assert ir_metadata(manifest, record) == before
