"""`fetch`: files come from a server on the loopback, in ir_datasets' own formats and through its own code; models from a fake hub there.

Each test starts processes of its own, since ir_datasets and the hub's library keep their places when they are imported.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

REVISION = "0" * 39 + "1"
PASSAGES = [f"{n}\tpassage number {n} about {word}" for n, word in enumerate(["foxes", "whales", "dogs", "rivers"] * 5)]


class Server(ThreadingHTTPServer):
    """Serves `files` by path, those of a model as the hub does; counts what is asked, and can be slow, short or wrong."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut: set[str] = set()  # the connection breaks half-way
        self.slow: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            model = path.removeprefix("/api/models/").split("/revision/")[0]
            model = model.split("/tree/")[0]
            found = {
                name.split("/resolve/")[1].split("/", 1)[1]: c for name, c in self.server.files.items() if name.startswith(f"/{model}/")
            }
            listed = [{"type": "file", "path": name, "size": len(c), "oid": "", "rfilename": name} for name, c in found.items()]
            self._send(json.dumps(listed if "/tree/" in path else {"id": model, "sha": REVISION, "siblings": listed}).encode())
            return
        path = path.replace("/resolve/main/", f"/resolve/{REVISION}/")
        if path not in self.server.files:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.command == "GET":
            self.server.asked.append(path)
        self._send(self.server.files[path], path)

    def _send(self, content: bytes, path: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if "/resolve/" in path:
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if self.command == "HEAD":
            return
        if path in self.server.cut:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        for start in range(0, len(content), 256) if path in self.server.slow else [0]:
            self.wfile.write(content[start : start + 256] if path in self.server.slow else content)
            time.sleep(0.2 if path in self.server.slow else 0)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def tar(**files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("_", "."))
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


# a process whose ir_datasets has other entries in its list of downloads: the loopback's addresses, sizes and hashes of the small files
PATCH = """
import json, pkgutil, sys
read = pkgutil.get_data
def get_data(package, name):
    content = read(package, name)
    if name != "etc/downloads.json":
        return content
    listed = json.loads(content)
    listed["msmarco-passage"].update(json.loads({entries!r}))
    return json.dumps(listed).encode()
pkgutil.get_data = get_data
import mta4dpr.__main__
sys.argv = ["mta4dpr-bench", *{arguments!r}]
mta4dpr.__main__.main()
"""


@pytest.fixture
def place(tmp_path: Path, server: Server) -> Any:
    """A benchmark over msmarco-passage in miniature: its downloads on the server, and a way to run commands with them."""
    files = {
        "collectionandqueries": tar(
            collection_tsv="\n".join(PASSAGES) + "\n",
            queries_dev_small_tsv="1\tfoxes\n2\twhales\n",
            qrels_dev_small_tsv="1\t0\t0\t1\n2\t0\t1\t1\n",
        ),
        "trec-dl-2019/queries": gzip.compress(b"7\trivers and dogs\n1108939\tdogs\n"),
        "trec-dl-2019/qrels": b"7 Q0 3 2\n7 Q0 2 1\n",
        "trec-dl-2020/queries": gzip.compress(b"8\tfoxes\n"),
        "trec-dl-hard/qrels": b"1108939 Q0 2 2\n",
    }
    return Place(tmp_path, server, files)


class Place:
    def __init__(self, folder: Path, server: Server, files: dict[str, bytes]) -> None:
        self.folder, self.server = folder, server
        cached = {"collectionandqueries": "collectionandqueries.tar.gz", "trec-dl-2020/queries": "trec-dl-2020/queries.tsv.gz"}
        self.entries: dict[str, dict[str, Any]] = {}
        for key, content in files.items():
            server.files[f"/{key}"] = content
            entry = {"url": f"{server.url}/{key}", "size_hint": len(content), "expected_md5": hashlib.md5(content).hexdigest()}
            self.entries[key] = entry | ({} if key == "trec-dl-2019/queries" else {"cache_path": cached.get(key, key)})
        self.yaml = folder / "mini.yaml"
        self.document: dict[str, Any] = {
            "name": "mini",
            "title": "MS MARCO in miniature",
            "corpus": "msmarco-passage",
            "eval_sets": [
                {"id": f"msmarco-passage/{name}", "measures": ["RR@10"]} for name in ("dev/small", "trec-dl-2019/judged", "trec-dl-hard")
            ],
            "systems": ["bm25"],
            "bm25": {"heap": "256m"},
        }

    def start(self, *arguments: str, home: str = "home", **variables: str) -> subprocess.Popen[str]:
        self.yaml.write_text(yaml.safe_dump(self.document))
        ours = ("HF_", "TRANSFORMERS_", "IR_DATASETS", "MTA4DPR")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        places = {
            "IR_DATASETS_HOME": home,
            "MTA4DPR_CACHE": "cache",
            "HF_HOME": "hf",
            "IR_DATASETS_DL_TRIES": "1",
            "IR_DATASETS_TMP": "tmp",
        }
        environment = {**kept, **{n: str(self.folder / v) if v.islower() and "/" not in v else v for n, v in places.items()}}
        environment |= {"HF_ENDPOINT": self.server.url, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1", **variables}
        code = PATCH.format(entries=json.dumps(self.entries), arguments=list(arguments))
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=self.folder, **streams)

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **variables)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    def fetch(self, *arguments: str, **variables: str) -> dict[str, Any]:
        status, out, err = self.run("fetch", "mini.yaml", "--json", *arguments, **variables)
        assert status == 0, err
        return json.loads(out)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_a_folder_to_carry_works_where_no_socket_may_be_opened(place: Place) -> None:
    """The point of it all. Two traps of ir_datasets are on the way: the queries of 2019 have no place of their own, and DL-Hard's
    judgements would be deleted as an old version's without a word beside them."""
    found = place.fetch("--to", "carry")
    carried = {file["path"]: file for file in found["files"]}
    queries = f"ir_datasets/downloads/{place.entries['trec-dl-2019/queries']['expected_md5']}"
    assert queries in carried
    assert carried["ir_datasets/msmarco-passage/trec-dl-hard/qrels"]["state"] == "downloaded"
    for path, file in carried.items():
        content = (place.folder / "carry" / path).read_bytes()
        assert (file["bytes"], file["sha256"], file["md5"]) == (
            len(content),
            hashlib.sha256(content).hexdigest(),
            hashlib.md5(content).hexdigest(),
        )
        assert "MSMARCO data usage agreement" in file["licence"]
    assert not (place.folder / "home" / "msmarco-passage" / "trec-dl-2019").exists(), "the home of this machine is left as it was"

    place.server.shutdown()
    (place.folder / "elsewhere").mkdir()
    (place.folder / "carry").rename(place.folder / "elsewhere" / "carry")
    variables = {
        "PYSERINI_CACHE": "elsewhere/carry/pyserini",
        "IR_DATASETS_HOME": "elsewhere/carry/ir_datasets",
        "IR_DATASETS_SMALL_FILE_SIZE": "0",
        "MTA4DPR_MODELS": "elsewhere/carry/models",
    }
    assert variables.keys() == found["environment"].keys()
    readme = (place.folder / "elsewhere" / "carry" / "README.txt").read_text()
    assert all(f"{name}=" in readme for name in variables)
    status, _, err = place.run("run", "mini.yaml", "--offline", "--output", "out", **variables)
    assert status == 0, err
    rows = json.loads((place.folder / "out" / "leaderboard.json").read_text())["rows"]
    assert {row["eval_set"]: row["queries"] for row in rows} == {
        "msmarco-passage/dev/small": 2,
        "msmarco-passage/trec-dl-2019/judged": 1,
        "msmarco-passage/trec-dl-hard": 1,
    }


def test_the_same_command_again_brings_nothing_and_a_broken_file_is_brought_again(place: Place) -> None:
    place.fetch("--to", "carry")
    place.server.asked.clear()
    again = place.fetch("--to", "carry")
    assert {file["state"] for file in again["files"]} == {"was here"}
    assert place.server.asked == []
    for name, content in (("collectionandqueries.tar.gz", b""), ("trec-dl-2019/qrels", b"7 Q0 3 1\n7 Q0 2 1\n")):
        path = place.folder / "carry" / "ir_datasets" / "msmarco-passage" / name
        path.write_bytes(content or path.read_bytes()[:-100])  # truncated; then one digit is another
    mended = {file["path"].removeprefix("ir_datasets/msmarco-passage/"): file["state"] for file in place.fetch("--to", "carry")["files"]}
    assert {name for name, state in mended.items() if state == "downloaded"} == {"collectionandqueries.tar.gz", "trec-dl-2019/qrels"}


@pytest.mark.slow
def test_without_a_folder_files_go_where_run_looks(place: Place) -> None:
    """Into ir_datasets' home; and `plan` sees them there."""
    status, out, _ = place.run("plan", "mini.yaml", "--json")
    assert {row["state"] for row in json.loads(out)["downloads"]} == {"download"}
    assert status == 0
    place.fetch()
    place.server.shutdown()
    plan = json.loads(place.run("plan", "mini.yaml", "--json", "--offline")[1])
    assert {row["state"] for row in plan["downloads"]} == {"here"}
    status, _, err = place.run("run", "mini.yaml", "--offline", "--output", "out")
    assert status == 0, err


@pytest.mark.parametrize("fault", ["wrong", "cut", "gone"])
def test_what_cannot_be_brought_is_named_and_nothing_half_is_left(place: Place, fault: str) -> None:
    """The hash is ir_datasets' own; what is complete stays, so that the next try goes on."""
    path = "/trec-dl-2019/qrels"
    if fault == "wrong":
        place.server.files[path] = b"7 Q0 3 0\n7 Q0 2 1\n"
    elif fault == "cut":
        place.server.cut.add(path)
    else:
        del place.server.files[path]
    status, out, err = place.run("fetch", "mini.yaml", "--to", "carry")
    assert (status, out) == (3, ""), err
    assert "msmarco-passage/trec-dl-2019/qrels could not be brought" in err
    if fault == "wrong":
        assert f"Expected md5 hash to be {place.entries['trec-dl-2019/qrels']['expected_md5']}" in err
    kept = [p.name for p in (place.folder / "carry").rglob("*") if p.is_file() and not p.name.endswith(".lock")]
    assert "qrels" not in kept
    assert not [name for name in kept if name.endswith((".part", ".tmp"))]
    assert "collectionandqueries.tar.gz" in kept


def test_killed_in_the_middle(place: Place) -> None:
    """What the kill left is cleared away, and the file is brought from its beginning."""
    place.server.files["/collectionandqueries"] += bytes(20_000)
    place.entries["collectionandqueries"]["expected_md5"] = hashlib.md5(place.server.files["/collectionandqueries"]).hexdigest()
    place.server.slow.add("/collectionandqueries")
    process = place.start("fetch", "mini.yaml", "--to", "carry")
    folder = place.folder / "carry" / "ir_datasets" / "msmarco-passage"
    for _ in range(600):
        if list(folder.glob(".*.part")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(folder.glob(".*.part"))
    place.server.slow.clear()
    place.fetch("--to", "carry")
    assert not list(folder.glob(".*.part"))
    assert (folder / "collectionandqueries.tar.gz").read_bytes() == place.server.files["/collectionandqueries"]


MODEL = {
    "config.json": b'{"hidden_size": 8, "num_hidden_layers": 1}',
    "README.md": b"---\nlicense: cc-by-4.0\n---\n# A model\n",
    "model.safetensors": bytes(range(256)) * 40,
    "code.py": b"raise SystemExit",
}


def test_models_of_the_hub(place: Place) -> None:
    """Under the name that the benchmark uses; weights have the hub's hash, the licence is the card's; code stays away."""
    for name, content in MODEL.items():
        place.server.files[f"/me/mine/resolve/{REVISION}/{name}"] = content
    place.document["models"] = {"mine": {"model": "me/mine"}}
    place.document["systems"] = ["bm25", "mine"]
    found = {file["path"]: file for file in place.fetch("--to", "carry")["files"] if file["of"] == "me/mine"}
    assert {Path(path).name for path in found} == {"config.json", "README.md", "model.safetensors"}
    weights = found["models/me/mine/model.safetensors"]
    assert weights["checked_by"] == "the hub"
    assert weights["sha256"] == hashlib.sha256(MODEL["model.safetensors"]).hexdigest()
    assert {file["licence"] for file in found.values()} == {"cc-by-4.0"}
    place.server.asked.clear()
    assert {file["state"] for file in place.fetch("--to", "carry", "--offline")["files"]} == {"was here"}
    assert place.server.asked == []
    (place.folder / "carry" / "models" / "me" / "mine" / "model.safetensors").write_bytes(b"other weights")
    place.fetch("--to", "carry")
    assert (place.folder / "carry" / "models" / "me" / "mine" / "model.safetensors").read_bytes() == MODEL["model.safetensors"]
    status, _, err = place.run("fetch", "mini.yaml", "--to", "other", "--offline")
    assert status == 3
    assert "--offline forbids" in err


def test_a_benchmark_without_downloads_says_so(place: Place) -> None:
    status, out, _ = place.run("fetch", "tiny", "--to", "carry")
    assert (status, out) == (0, "tiny needs no download\n")
    assert not (place.folder / "carry" / "fetched.json").exists()


def test_a_prebuilt_index_is_copied_into_a_cache_of_pyserinis_shape(tmp_path: Path) -> None:
    """Pyserini finds an index by the archive's hash in its folder's name; a file that changed since is told."""
    from types import SimpleNamespace

    from mta4dpr.commands import fetch
    from mta4dpr.errors import EnvironmentLack

    here = tmp_path / "here" / "indexes" / "small.20261125.abc"
    here.mkdir(parents=True)
    (here / "docid").write_text("d1\n")
    prebuilt: Any = SimpleNamespace(name="small", md5="abc", bytes=3, folder=here)
    (file,) = fetch._bring_index(prebuilt, tmp_path / "carry", {}, offline=True)
    assert (file.state, file.path) == ("copied", str(tmp_path / "carry" / "indexes" / here.name / "docid"))
    known = {file.path: {"sha256": file.sha256}}
    (file,) = fetch._bring_index(prebuilt, tmp_path / "carry", known, offline=True)
    assert (file.state, file.checked_by) == ("was here", "an earlier fetch")
    Path(file.path).write_text("d2\n")
    with pytest.raises(EnvironmentLack, match="docid is broken"):
        fetch._bring_index(prebuilt, tmp_path / "carry", known, offline=True)
