"""Fixtures that several folders of tests share: small, offline, made once a session."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.__main__ import main
from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.collection import BeirFolder
from mta4dpr.data.corpus import Corpus, open_corpus
from mta4dpr.models.encoder import Encoder, load_encoder

from .needed_collections import ALL_PARTS, lacking

# torch, on a machine whose cores are busy, is ten times as fast with one thread; read when it is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")
# ir_datasets keeps the place of its files when it is imported, so it is set before any test imports it
IRDS_HOME = Path(tempfile.mkdtemp(prefix="mta4dpr-irds-"))
# the developer's own is only read; kept for the workers that pytest starts, which see what is set below
DEVELOPERS_HOME = Path(
    os.environ.setdefault("MTA4DPR_TESTS_READ_HOME", os.environ.get("IR_DATASETS_HOME") or str(Path.home() / ".ir_datasets"))
)
os.environ.update(IR_DATASETS_HOME=str(IRDS_HOME), IR_DATASETS_SMALL_FILE_SIZE="0", HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
SHARED = Path(__file__).parents[2] / "shared"

WORDS = [
    "red",
    "blue",
    "fox",
    "whale",
    "dog",
    "river",
    "stone",
    "cloud",
    "winter",
    "song",
    "apple",
    "iron",
    "velvet",
    "marble",
    "ocean",
    "tiger",
    "lantern",
    "copper",
]


def pytest_configure(config: pytest.Config) -> None:
    """`-m faults` asks for all of it; workers are told by a variable."""
    if "faults" in (config.getoption("-m") or "").replace("not faults", ""):
        os.environ["MTA4DPR_FAULTS"] = "all"


def pytest_unconfigure() -> None:
    shutil.rmtree(IRDS_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def homes_at_hand(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Homes of ir_datasets that are here already: the developer's own, and what ../shared makes (about a second)."""
    from mta4dpr.data import questions

    homes = [DEVELOPERS_HOME]
    if (SHARED / "tools" / "irds-home").exists():
        made = tmp_path_factory.mktemp("shared")
        subprocess.run(["bash", str(SHARED / "tools" / "irds-home"), str(made)], check=True, capture_output=True)
        for name, about in questions.DOWNLOADS.items():
            if (file := SHARED / "data" / "nq" / f"{name.replace('/', '-')}.qa.csv").exists():
                shutil.copyfile(file, made / "downloads" / str(about["expected_md5"]))
        homes.append(made)
    return homes


@pytest.fixture(autouse=True)
def needed_collections(request: pytest.FixtureRequest) -> None:
    """`@pytest.mark.needs_collection("beir/nfcorpus/test")`: brings it before the test, or skips and says what brings it."""
    for mark in request.node.iter_markers("needs_collection"):
        at_hand = request.getfixturevalue("homes_at_hand")
        kept = request.config.cache.mkdir("ir_datasets")
        reason = lacking(mark.args, mark.kwargs.get("parts", ALL_PARTS), at_hand=at_hand, kept=kept)
        if reason:
            pytest.skip(reason)


@pytest.fixture(scope="session")
def beir_folder() -> Callable[..., Path]:
    """Writes a folder in BEIR's format: passages (id, title, text), queries {id: text}, qrels {split: [(query, passage, relevance)]}."""

    def build(
        folder: Path,
        passages: Sequence[tuple[str, str, str]] = (),
        queries: dict[str, str] | None = None,
        qrels: dict[str, list[tuple[str, str, int]]] | None = None,
    ) -> Path:
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        records = [{"_id": name, "title": title, "text": text} for name, title, text in passages]
        asked = [{"_id": name, "text": text} for name, text in (queries or {}).items()]
        (folder / "corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
        (folder / "queries.jsonl").write_text("".join(json.dumps(r) + "\n" for r in asked), encoding="utf-8")
        for split, lines in (qrels or {}).items():
            rows = "".join(f"{query}\t{passage}\t{relevance}\n" for query, passage, relevance in lines)
            (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows, encoding="utf-8")
        return folder

    return build


@pytest.fixture(scope="session")
def passages() -> list[tuple[str, str, str]]:
    """120 short passages: d0..d109 (so d10 < d2 in bytes), then ten copies of d0..d9 that tie with them in every search."""
    draw = random.Random(7)
    texts = [(f"Title {n}" if n % 3 == 0 else "", " ".join(draw.choices(WORDS, k=draw.randint(3, 40)))) for n in range(110)]
    return [(f"d{n}", title, text) for n, (title, text) in enumerate(texts)] + [(f"copy{n}", *texts[n]) for n in range(10)]


@pytest.fixture(scope="session")
def corpus(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, beir_folder: Callable[..., Path], passages: list[tuple[str, str, str]]
) -> Corpus:
    return open_corpus(cache, BeirFolder(beir_folder(tmp_path_factory.mktemp("source") / "mini", passages)))


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """An untrained BERT of 3 layers and 32 dimensions; nobody may change it."""
    spec = ModelSpec(untrained={"layers": 3, "hidden": 32, "heads": 2, "vocabulary": 200, "seed": 1})
    return load_encoder("tiny", spec, device="cpu", texts=[" ".join(WORDS)])


@pytest.fixture(scope="session", autouse=True)
def cache_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the test session's own, so that nothing of the developer's is used or changed."""
    folder = tmp_path_factory.mktemp("runs-cache")
    before = os.environ.get("MTA4DPR_CACHE")
    os.environ["MTA4DPR_CACHE"] = str(folder)
    yield folder
    os.environ.pop("MTA4DPR_CACHE")
    if before is not None:
        os.environ["MTA4DPR_CACHE"] = before


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line in this process: (exit status, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(sys, "argv", ["mta4dpr-bench", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        out, err = capsys.readouterr()
        return int(leaving.value.code or 0), out, err

    return call
