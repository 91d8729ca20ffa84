"""What brings collections to tests: copies of what is at hand, one download, and a sentence when there is neither; no network here."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from ir_datasets.util import RequestsDownload

from mta4dpr.data.downloads import Download

from . import needed_collections
from .needed_collections import lacking

CONTENT = b"a collection"
PLACE = Path("corpus") / "all.zip"


@pytest.fixture
def asked() -> list[str]:
    """The requests that the server had."""
    return []


@pytest.fixture
def url(asked: list[str]) -> Iterator[str]:
    class Serving(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append("GET")
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def do_HEAD(self) -> None:
            asked.append("HEAD")
            self.send_error(405)  # many hosts refuse it; it is an answer all the same

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Serving)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/all.zip"
    server.shutdown()


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`lacking` for one file, into tmp_path/home."""
    monkeypatch.setattr(needed_collections, "PROBE_SECONDS", 0.5)
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def call(url: str, *, md5: str = hashlib.md5(CONTENT).hexdigest(), size: int = len(CONTENT), home: str = "home") -> str:
        mirrors = [RequestsDownload(url)]
        wanted = Download(PLACE, url, size, md5, "not stated", passages=True, home=tmp_path / home, mirrors=mirrors)
        monkeypatch.setattr(needed_collections, "downloads_of", lambda _: [wanted])
        return lacking(["cranfield"], ["docs"], at_hand=[tmp_path / "none", tmp_path / "at-hand"], kept=tmp_path / "kept")

    return call


@pytest.mark.parametrize("place", [PLACE, Path("downloads") / hashlib.md5(CONTENT).hexdigest()], ids=["in-place", "by-hash"])
def test_what_is_at_hand_is_copied_and_nothing_is_asked(
    bring: Callable[..., str], url: str, asked: list[str], tmp_path: Path, place: Path
) -> None:
    file = tmp_path / "at-hand" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert bring(url) == ""
    assert (tmp_path / "home" / place).read_bytes() == file.read_bytes() == CONTENT
    assert asked == []


def test_a_download_is_kept_for_the_next_session(bring: Callable[..., str], url: str, asked: list[str], tmp_path: Path) -> None:
    assert bring(url) == bring(url) == bring(url, home="of another session") == ""
    assert (tmp_path / "home" / PLACE).read_bytes() == (tmp_path / "of another session" / PLACE).read_bytes() == CONTENT
    assert asked == ["HEAD", "GET"]


def test_a_download_with_another_hash_is_told(bring: Callable[..., str], url: str, tmp_path: Path) -> None:
    assert "all.zip of cranfield is not here and could not be downloaded" in bring(url, md5="0" * 32)
    assert not (tmp_path / "home" / PLACE).exists()


def test_a_large_file_is_not_downloaded(bring: Callable[..., str], url: str, asked: list[str]) -> None:
    assert "too large for a test to download (4,695 MB)" in bring(url, size=4_694_541_059)
    assert asked == []


def test_a_host_that_is_silent_costs_no_more_than_the_probe(bring: Callable[..., str]) -> None:
    """It takes the connection and never says a word, as some firewalls do."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reason = bring(f"http://127.0.0.1:{silent.getsockname()[1]}/all.zip")
    assert "does not answer" in reason
    assert "set IR_DATASETS_HOME" in reason


def test_a_host_that_is_not_there_is_told(bring: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "does not answer" in bring(f"http://127.0.0.1:{port}/all.zip")
