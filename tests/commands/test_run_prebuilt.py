"""`run` with Pyserini's prebuilt indexes, from data to leaderboard: the ranking, the mined lists and the students of our own indexes."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.commands.plan import plan
from mta4dpr.commands.run import run
from mta4dpr.config.yaml_files import benchmark_folder, read_yaml
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import read_json
from mta4dpr.models.encoder import Encoder
from mta4dpr.retrieval import java
from mta4dpr.stages.pipeline import complete


def packed(folder: Path, archive: Path) -> dict[str, Any]:
    """An entry of Pyserini's registry for that folder."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=archive.name.split(".")[0])
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    about = {"description": "small", "filename": archive.name, "urls": [archive.as_uri()], "size": archive.stat().st_size}
    return {**about, "md5": md5, "documents": 200, "texts": "mini"}


def test_run_with_prebuilt_indexes_is_run_with_our_own(tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """BM25's and the teacher's, which also mines and teaches. Before they are here, --offline says so; nothing of them is made here."""
    java.start("256m")
    from pyserini import prebuilt_index_info as info

    encoder.save(tmp_path / "model")
    document = read_yaml(benchmark_folder() / "tiny.yaml")
    document["models"]["teacher"] = {"model": str(tmp_path / "model"), "query_length": 16, "passage_length": 32}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "own"))
    request = Request(str(tmp_path / "mine.yaml"), systems=("bm25", "teacher", "kd"), output=tmp_path / "run")
    own = run(replace(request, output=tmp_path / "run-own"))
    (lucene,), flat = (tmp_path / "own" / "bm25").glob("*/"), own / "indexes" / "teacher"
    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path / "pyserini"))
    monkeypatch.setitem(info.TF_INDEX_INFO, "mini-bm25", packed(lucene, tmp_path / "mini-bm25.tar.gz"))
    monkeypatch.setitem(info.FAISS_INDEX_INFO, "mini-flat", packed(flat, tmp_path / "mini-flat.tar.gz"))
    document["bm25"]["index"] = "prebuilt:mini-bm25"
    document["models"]["teacher"]["index"] = "prebuilt:mini-flat"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    rows = {row["stage"]: row for row in plan(request)["stages"]}
    assert {rows[f"bring mini-{name}"]["state"] for name in ("bm25", "flat")} == {"download"}
    assert rows["index for BM25"]["state"] == "prebuilt"
    assert "made here it would take" in rows["encode with teacher"]["note"]

    folder = run(request)
    assert not list((tmp_path / "cache" / "bm25").glob("*/")), "Lucene indexed nothing"
    kept = [read_json(path) for path in (tmp_path / "cache" / "vectors").glob("*/vectors.json")]
    assert [about["prebuilt"] for about in kept if about["texts"] == 200 and about["model"] == "teacher"] == ["mini-flat"]
    files = sorted(path.relative_to(own) for pattern in ("runs/*/*.trec", "models/*/model.safetensors") for path in own.glob(pattern))
    assert len(files) == 4
    for file in files:
        assert (folder / file).read_bytes() == (own / file).read_bytes(), file
    again = {row["stage"]: row["state"] for row in plan(request)["stages"]}
    assert set(again.values()) <= {"done", "cached", "prebuilt"}, again

    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path / "empty"))
    with pytest.raises(EnvironmentLack, match="not in .* yet, and --offline is given"):
        complete(_offline(request, tmp_path / "elsewhere"))
    document["models"]["teacher"]["index"] = "prebuilt:mini-flut"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(UserError, match="did you mean 'mini-flat'"):
        plan(request)


def _offline(request: Request, output: Path) -> Any:
    """An open run that may not download, in a process whose sockets stay as they are."""
    experiment = open_experiment(replace(request, output=output))
    return replace(experiment, request=replace(experiment.request, offline=True))
