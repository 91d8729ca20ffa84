"""Brings the data sets of ir_datasets that a test marked `needs_collection` reads, or says what is missing and what brings it.

A file is copied into the home of this test session from the first place that has it: what is at hand (the developer's home of
ir_datasets, which is only read, and ../shared), then what an earlier session downloaded. What none of them has is downloaded through
ir_datasets, once a checkout, where its host answers within three seconds. Knows no test.
"""

from __future__ import annotations

import functools
import queue
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Thread
from unittest import mock
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock

from mta4dpr.data.collection import IrDataset
from mta4dpr.data.downloads import JUDGEMENTS, PASSAGES, QUERIES, Download, bring, downloads_of
from mta4dpr.errors import EnvironmentLack

ALL_PARTS = (PASSAGES, QUERIES, JUDGEMENTS)
PROBE_SECONDS = 3.0
LARGEST = 20_000_000  # bytes that a test may download for one file
IMPATIENT = {"IR_DATASETS_DL_TIMEOUT": "10", "IR_DATASETS_DL_TRIES": "1", "IR_DATASETS_DL_403_TRIES": "1"}


def lacking(names: Sequence[str], parts: Sequence[str], *, at_hand: Iterable[Path], kept: Path) -> str:
    """Brings these parts of these data sets; '' when all is there, else the sentence to skip with.

    at_hand   homes of ir_datasets that are only read
    kept      where downloads stay for the next session
    """
    needed = downloads_of([(IrDataset._load(name), parts) for name in names])
    for home in (*at_hand, kept):
        for download in needed:
            if not download.here:
                _copy(download, home)
    for download in needed:
        if not download.here and (reason := _fetch(download, kept)):
            where = "set IR_DATASETS_HOME to a home of ir_datasets that has it"
            return f"{download.name} of {', '.join(names)} is not here and {reason}; run the test with a network, or {where}"
    return ""


def _copy(download: Download, home: Path) -> None:
    """The file, or all that ir_datasets unpacks from it, from another home to the same place in this one."""
    here = download.home
    unpacked = [path.relative_to(here) for path in download.unpacked]
    words = [Path(migrator._version_file).relative_to(here) for migrator in download.migrators]
    for places in ([download.place], [Path("downloads") / (download.md5 or "?")], unpacked):
        if places and all((home / place).is_file() for place in places):
            for place in (*places, *(word for word in words if (home / word).is_file())):
                (here / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(home / place, here / place)
            return


def _fetch(download: Download, kept: Path) -> str:
    """'' when it was downloaded with the right hash, else why not."""
    if download.bytes is None or download.bytes > LARGEST:
        return f"too large for a test to download ({(download.bytes or 0) / 1e6:,.0f} MB)"
    urls = [mirror.url for mirror in download.mirrors if hasattr(mirror, "url")]
    if not any(map(host_answers, urls)):
        hosts = " or ".join(dict.fromkeys(urlsplit(url).netloc for url in urls))
        return f"{hosts or 'no host that is known'} does not answer within {PROBE_SECONDS:.0f} s"
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(str(kept / "download.lock")), mock.patch.dict("os.environ", IMPATIENT):
        try:
            bring(download, kept, offline=False)
        except EnvironmentLack as error:
            return f"could not be downloaded ({error})"
    _copy(download, kept)
    return "" if download.here else f"what was downloaded to {kept} is not what ir_datasets reads"


def host_answers(url: str) -> bool:
    """Whether anything answers at the URL's host within three seconds: name service, proxy and handshake included."""
    scheme, host, *_ = urlsplit(url)
    return _answers(f"{scheme}://{host}/")


@functools.cache
def _answers(url: str) -> bool:
    answer: queue.Queue[bool] = queue.Queue()
    Thread(target=_ask, args=(url, answer.put), daemon=True).start()  # a name service may take longer than any timeout of ours
    try:
        return answer.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        return False


def _ask(url: str, tell: Callable[[bool], None]) -> None:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=PROBE_SECONDS):
            tell(True)
    except HTTPError:  # it does answer
        tell(True)
    except (OSError, ValueError):
        tell(False)
