"""Ugly files, thousands of them: each is read as a reference reader reads it, or refused by one sentence; nothing in between.

A file in which a reference finds nothing odd must be read. MTA4DPR_FAULTS=all tries 2,500 of each kind instead of 100; counts are printed.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta4dpr.config.yaml_files import benchmark_folder, load_benchmark, parse_settings
from mta4dpr.config.yaml_values import YamlMistake, parse_yaml
from mta4dpr.data.collection import BeirFolder, load_query_set
from mta4dpr.data.judgements import read_qrels
from mta4dpr.errors import UserError
from mta4dpr.evaluation.trecrun import read_run

from . import references, ugly
from .references import Odd
from .ugly import files

pytestmark = [pytest.mark.slow, pytest.mark.faults]

EXAMPLES = 2500 if os.environ.get("MTA4DPR_FAULTS") == "all" else 100
many = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
COUNTS: Counter[str] = Counter()
Folders = pytest.TempPathFactory


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Says what became of the files; a kind of which all or none were read would test nothing."""
    COUNTS.clear()
    yield
    with capsys.disabled():
        sys.stdout.write(f"\n{request.node.name}: {', '.join(f'{count:,} {what}' for what, count in sorted(COUNTS.items()))}\n")
    assert COUNTS["read"] > EXAMPLES // 20
    assert "refused" not in COUNTS or COUNTS["refused"] > EXAMPLES // 20


def refusal(read: Callable[[], Any], mistake: type[Exception] = UserError) -> tuple[Any, str]:
    """What is read and '', or None and what is told. Any other exception fails the test."""
    try:
        found = read()
    except mistake as error:
        COUNTS["refused"] += 1
        return None, str(error)
    COUNTS["read"] += 1
    return found, ""


def outcome(read: Callable[[], Any], reference: Callable[[], Any]) -> Any:
    """What is read, equal to the reference's; None where it is refused, which it may be where the reference finds something odd."""
    found, told = refusal(read)
    if told:
        assert 20 < len(told) < 2000
        with pytest.raises(Odd):
            reference()
        return None
    assert found == reference()
    return found


def compared(found: dict[str, Any], content: bytes, *, grades: bool) -> None:
    for theirs in references.by_other_readers(content, grades=grades):
        COUNTS["compared with pytrec_eval and ir-measures"] += 1
        assert {query_id: dict(hits) for query_id, hits in found.items()} == theirs


@many
@given(files(ugly.RUN_LINES))
def test_runs(tmp_path_factory: Folders, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.run"
    path.write_bytes(content)

    def read() -> dict[str, list[tuple[str, float]]]:
        run = read_run(path)
        rankings = {query_id: run.ranking(query_id) for query_id in run.query_ids}
        return {query_id: list(zip(documents, scores.tolist(), strict=True)) for query_id, (documents, scores) in rankings.items()}

    found = outcome(read, lambda: references.run_by_trec_eval(content))
    if found is not None:
        compared(found, content, grades=False)


@many
@given(files(ugly.TREC_LINES))
def test_judgements_in_trecs_format(tmp_path_factory: Folders, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.qrels"
    path.write_bytes(content)
    found = outcome(lambda: read_qrels(path), lambda: references.qrels_by_trec_eval(content))
    if found is not None:
        compared(found, content, grades=True)


@many
@given(files(ugly.BEIR_LINES), st.sampled_from([b"", b"query-id\tcorpus-id\tscore\n"]))
def test_judgements_in_beirs_format(tmp_path_factory: Folders, content: bytes, header: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.tsv"
    path.write_bytes(header + content)
    outcome(lambda: read_qrels(path, beir=True), lambda: references.qrels_by_beir(header + content))


@many
@given(files(ugly.json_lines(["d1", "d2", "d3"])), files(ugly.json_lines([f"q{n}" for n in range(9)])), files(ugly.BEIR_LINES))
def test_folders(tmp_path_factory: Folders, corpus: bytes, queries: bytes, qrels: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "generated"
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, content in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels/test.tsv", qrels)):
        (folder / name).write_bytes(content)

    def read() -> Any:
        found = load_query_set(BeirFolder(folder), "test")
        return found.texts, found.qrels

    def reference() -> Any:
        judged, records = references.qrels_by_beir(qrels), references.records_by_beir(queries)
        texts = [(record["_id"], record["text"].encode("utf-8", "replace").decode()) for record in records if record["_id"] in judged]
        if not texts or len(dict(texts)) < len(texts):
            raise Odd
        return dict(texts), judged

    def passages() -> Any:
        return [(record["_id"], record["title"], record["text"]) for record in references.records_by_beir(corpus)]

    outcome(lambda: [tuple(passage) for passage in BeirFolder(folder).passages()], passages)
    outcome(read, reference)


@many
@given(ugly.YAML)
def test_yaml(text: str) -> None:
    """Ours is stricter, so what it refuses may be read by PyYAML; what it reads, PyYAML reads alike."""
    found, told = refusal(lambda: parse_yaml(text), YamlMistake)
    if told:
        assert re.match(r"line \d+: .", told)
    else:
        assert repr(found) == repr(references.by_pyyaml(text))


@many
@given(ugly.PLAIN_VALUES, st.booleans(), st.sampled_from([None, True, False]))
def test_yaml_that_others_write(value: Any, readable: bool, flow: bool | None) -> None:
    """All that PyYAML writes of plain values, in its styles, is read."""
    written = yaml.safe_dump(value, allow_unicode=readable, default_flow_style=flow, sort_keys=False)
    if repr(references.by_pyyaml(written)) == repr(value):  # it makes a blank of U+0085, and no quotes around 0E0
        assert repr(refusal(lambda: parse_yaml(written))[0]) == repr(value)


USUAL_SETTINGS = st.one_of(
    st.tuples(st.just("lr"), st.floats(1e-6, 1).map(lambda rate: f"{rate:.3g}")),
    st.tuples(st.just("distill.steps"), st.integers(1, 9999).map(str)),
)
ODD_SETTINGS = st.tuples(ugly.words("lr distill.steps k1 select fused depth stopwords nothing"), ugly.SENTENCES)


@many
@given(USUAL_SETTINGS | ODD_SETTINGS)
def test_settings(setting: tuple[str, str]) -> None:
    """--set, down to the benchmark: a Benchmark, or the user's mistakes."""
    name, text = setting
    found, told = refusal(lambda: load_benchmark("tiny", parse_settings([f"{name}={text}"])))
    assert found or name.rpartition(".")[2] in told
    assert len(told) < 2000


@many
@given(st.lists(st.tuples(st.integers(0, 30), ugly.SENTENCES), max_size=1), ugly.PLAIN_TEXTS.map(ascii) | ugly.YAML_LINES)
def test_benchmarks(tmp_path_factory: Folders, changes: list[tuple[int, str]], more: str) -> None:
    """tiny's YAML with a value in another's place, and a comment or a line more."""
    path = tmp_path_factory.getbasetemp() / "generated.yaml"
    lines = (benchmark_folder() / "tiny.yaml").read_text().splitlines()
    for place, text in changes:
        lines[place % len(lines)] = lines[place % len(lines)].partition(":")[0] + ": " + text
    lines.append(f"# {more}" if more[0] in "'\"" else more)
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    found, told = refusal(lambda: load_benchmark(str(path), {}))
    assert found or "generated.yaml" in told
