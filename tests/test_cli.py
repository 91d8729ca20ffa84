"""The command line: exit statuses, one sentence an error, JSON and nothing else on stdout."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.config.yaml_files import benchmark_folder, read_yaml
from mta4dpr.errors import EnvironmentLack


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """qrels and a run that a reader checks by hand: q1 has its passage second, q2 is missing, q9 is not judged."""
    (tmp_path / "qrels").write_text("q1 0 d1 1\nq2 0 d2 1\n")
    (tmp_path / "a.trec").write_text("q1 Q0 d9 1 2.0 x\nq1 Q0 d1 2 1.0 x\nq9 Q0 d1 1 1.0 x\n")
    (tmp_path / "b.trec.gz").write_bytes(gzip.compress(b"q1 Q0 d1 1 2.0 x\nq2 Q0 d2 1 1.0 x\n"))
    return tmp_path


def test_help_needs_no_heavy_library_and_lists_what_is_there() -> None:
    """--help answers in under a second, so it must not load torch; commands appear when they exist."""
    script = (
        "import sys\nfrom mta4dpr.__main__ import main\nsys.argv=['x','--help']\ntry: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch','faiss','transformers','jnius','pandas','numpy','ir_datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    for name in ("run", "train", "plan", "fetch", "list", "doctor", "search", "evaluate", "compare", "report", "tables", "export"):
        assert f" {name} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quickstrat"], ["quickstart", "ir_datasets id"]),
        (["run", "tiny", "--systems", "bm26,kdd"], ["'bm26' (did you mean 'bm25'?)", "'kdd' (did you mean 'kd'?)"]),
        (["run", "tiny", "--set", "roundz=2"], ["did you mean 'rounds'?"]),
        (["run", "tiny", "--set", "lr=-1"], ["distill.lr", "greater than 0"]),
        (["run", "tiny", "--eval-sets", "tiny/tset"], ["did you mean 'tiny/test'?"]),
        (["run", "tiny", "--limit", "0"], ["--limit"]),
        (["run", "tiny", "--redo", "serach"], ["did you mean 'search'?"]),
        (["run", "beir/nfcorpus"], ["no judgements"]),
        (["run", "beir/nfcropus/test"], ["did you mean 'beir/nfcorpus"]),
        (["run", "vaswani", "--systems", "kd"], ["names no teacher"]),
        (["run", "./nowhere"], ["no folder"]),
        (["run", "nowhere.yaml"], ["no benchmark file"]),
        (["list", "benchmark"], ["did you mean 'benchmarks'?"]),
        (["evaluate", "x"], ["--dataset", "--qrels"]),
        (["search", "tiny", "--system", "bm25,teacher", "--query", "x"], ["one system"]),
        (["run", "tiny", "--nonsense"], ["nonsense"]),
        (["run"], ["a benchmark", "--from-manifest"]),
        (["run", "tiny", "--from-manifest", "x", "--seed", "0", "--set", "lr=1"], ["leave out BENCH, --set, --seed"]),
        (["run", "--from-manifest", "nowhere.json"], ["no file nowhere.json"]),
        (["export", "nowhere", "--system", "kd", "--student", "x"], ["no manifest.json in nowhere"]),
        (["run", "tiny", "--set", "soft_tau=2"], ["distill.soft_tau is an option of takd, dgkd, prod", "leave it out"]),
        (["plan", "tiny", "--systems", "kd_ta", "--set", "ta=asistant"], ["did you mean 'assistant'?"]),
        (["train", "tiny", "--strategy", "kdd"], ["'kdd' (did you mean 'kd'?)"]),
        (["train", "tiny", "--strategy", "bm25,kd"], ["bm25 cannot be trained", "list strategies"]),
        (["train", "tiny", "--strategy", "prod", "--set", "regime=static"], ["prod", "regime rounds"]),
        (["train", "vaswani"], ["no student to train"]),
        (["tables", "--format", "xls"], ["'xls'", "'md', 'tex', 'html', 'csv'"]),
        (["tables", "--format", "csv", "--json"], ["two formats"]),
        (["tables", "runs"], ["expected --runs"]),
        (["tables", "--runs", "nowhere"], ["no folder nowhere"]),
        (["tables", "--output", "."], ["directory"]),
    ],
)
def test_bad_input_is_exit_2_and_says_what_to_do(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    """Nothing is written, no traceback is shown, stdout stays empty."""
    monkeypatch.chdir(tmp_path)
    status, out, err = command(*arguments)
    assert status == 2, err
    assert out == ""
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_of_a_yaml_at_once(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    head = "name: mine\ncorpus: docstrings\nsystems: [bm25]\n"
    path.write_text(head + "titel: x\neval_sets: [{id: mine/test, measures: [RR@10]}]\ndistill: {stepz: 3}\n")
    status, _, err = command("run", str(path))
    assert status == 2
    assert "'title'" in err
    assert "'steps'" in err
    assert "title is missing" in err
    path.write_text(head + "title: x\neval_sets: [{id: mine/test, measures: [nDGC@10]}]\n")
    status, _, err = command("run", str(path), "--output", str(tmp_path / "run"))
    assert status == 2
    assert "did you mean" in err
    assert not (tmp_path / "run").exists()


def test_a_missing_environment_is_exit_3(command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mta4dpr.engines import bm25
    from mta4dpr.retrieval import java

    def too_old() -> None:
        raise EnvironmentLack("Lucene needs Java 21 or later, found: JAVA_HOME is Java 17.0.1")

    monkeypatch.setattr(java, "find_java", too_old)
    monkeypatch.setattr(bm25, "find_java", too_old)
    status, _, err = command("plan", "tiny", "--output", str(tmp_path / "run"))
    assert status == 3
    assert "Java 17.0.1" in err
    status, out, _ = command("doctor", "--quick")
    assert status == 3
    assert "lacking" in out


def test_a_bug_is_exit_1_without_traceback(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mta4dpr.commands import list as catalogue

    def broken() -> None:
        raise RuntimeError("oops")

    monkeypatch.setitem(catalogue.LISTS, "options", broken)
    status, _, err = command("list", "options")
    assert status == 1
    assert "bug of ours (RuntimeError: oops)" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(28, "No space left on device", "/x/a"), 3, "no space left on the disk while writing /x/a"),
        (OSError(27, "File too large"), 3, "larger than a file may be here"),
        (NotADirectoryError(20, "Not a directory", "/x/a"), 3, "/x/a cannot be used (Not a directory)"),
        (OSError(36, "File name too long", "/x/a"), 3, "/x/a cannot be used (File name too long)"),
        (OSError(24, "Too many open files"), 3, "raise the limit (ulimit -n)"),
        (OSError(5, "Input/output error", "/x/a"), 3, "Input/output error at /x/a: the disk or network does not answer"),
        (FileNotFoundError(2, "No such file or directory", "/x/a"), 2, "/x/a cannot be read (No such file or directory)"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"), 3, "the memory is full"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 3, "the memory is full"),
        (OSError(12, "Cannot allocate memory"), 3, "the memory is full"),
        (RuntimeError("std::bad_alloc"), 3, "the memory is full"),
        (MemoryError(), 3, "the memory is full"),
        (OSError(22, "Invalid argument"), 1, "bug of ours (OSError"),
    ],
)
def test_what_the_machine_refuses_is_no_bug(
    command: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:
    """Wherever it comes up, also where no block that writes has put it into words."""
    from mta4dpr.commands import list as catalogue

    def fail() -> None:
        raise error

    monkeypatch.setitem(catalogue.LISTS, "options", fail)
    found, _, err = command("list", "options")
    assert (found, said in err) == (status, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, a disk that is always full, on this machine; Linux has it")
def test_output_into_a_full_disk_is_the_machines_lack() -> None:
    """Python would say so after the exit status is given, in two lines of its own."""
    with open("/dev/full", "w") as full:
        code = "import sys; from mta4dpr.__main__ import main; sys.argv = ['x', '--help']; main()"
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3
    assert done.stderr.startswith("error: no space left on the disk while writing the output")
    assert len(done.stderr.splitlines()) == 1


def test_interrupted_is_exit_130(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mta4dpr.commands import list as catalogue

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(catalogue.LISTS, "options", interrupt)
    status, _, err = command("list", "options")
    assert (status, err) == (130, "interrupted; the same command continues\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_that_ask_to_stop_are_told_alike(command: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A scheduler's and a closed terminal's; also where what waits for another process breaks with an error of its own."""
    from mta4dpr.commands import list as catalogue

    def stop() -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    def broken() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            stop()
        raise RuntimeError("Connection closed by peer")

    for way in (stop, broken):
        monkeypatch.setitem(catalogue.LISTS, "options", way)
        status, _, err = command("list", "options")
        assert (status, err) == (128 + number, "interrupted; the same command continues\n")


def test_variables_of_a_launch_that_do_not_fit_together_are_exit_3(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """RANK=1 alone did nothing, with exit status 0, and said nothing of it."""
    monkeypatch.setenv("RANK", "1")
    status, out, err = command("list", "options")
    assert (status, out) == (3, "")
    assert err.startswith("error: RANK=1 says that this process is one of several")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_letters_that_the_terminal_lacks_are_written_as_escapes(tmp_path: Path, encoding: str) -> None:
    """An id, or a path that is no UTF-8; they were a bug of ours (UnicodeEncodeError)."""
    (tmp_path / "r\udcff").write_text("q\u00a0\U0001f600 Q0 d 1 1.0 x\n")
    (tmp_path / "qrels").write_text("q\u00a0\U0001f600 0 d 1\n")
    arguments = [sys.executable, "-m", "mta4dpr", "evaluate", str(tmp_path / "r\udcff"), "--qrels", str(tmp_path / "qrels")]
    arguments += ["--measures", "RR@10", "--per-query"]
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
    done = subprocess.run(arguments, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*arguments, "--json"], env=environment, capture_output=True, check=True)
    (row,) = json.loads(done.stdout)["per_query"]
    assert (row["query_id"], row["value"], row["run"][-2:]) == ("q\u00a0\U0001f600", 1.0, "r\udcff")


def test_evaluate_by_hand(command: Any, small: Path) -> None:
    """q1: the relevant passage is second, so RR 1/2; q2 is missing and scores 0; q9 counts for nothing."""
    arguments = ["evaluate", str(small / "a.trec"), str(small / "b.trec.gz"), "--qrels", str(small / "qrels"), "--measures", "RR@10 R@1"]
    status, out, _ = command(*arguments, "--json")
    assert status == 0
    rows = {(Path(row["run"]).name, row["measure"]): row for row in json.loads(out)["rows"]}
    assert rows["a.trec", "RR@10"]["value"] == 0.25
    assert rows["b.trec.gz", "RR@10"]["value"] == 1.0
    assert rows["a.trec", "R@1"]["value"] == 0.0
    assert (rows["a.trec", "RR@10"]["queries"], rows["a.trec", "RR@10"]["missing_queries"]) == (2, 1)
    assert set(rows["a.trec", "RR@10"]) == {"run", "eval_set", "measure", "value", "queries", "missing_queries", "ci95"}
    status, out, err = command(*arguments, "--per-query")
    assert "0.2500" in out
    assert "\tq1\tRR@10\t0.5000" in out
    assert "1 queries of the run have no judgements" in err


def test_evaluate_names_file_and_line(command: Any, small: Path) -> None:
    (small / "bad.trec").write_text("q1 Q0 d1 1 2.0 x\nq1 Q0 d2 2 nan x\n")
    status, out, err = command("evaluate", str(small / "bad.trec"), "--qrels", str(small / "qrels"))
    assert status == 2
    assert out == ""
    assert "bad.trec, line 2" in err


@pytest.mark.parametrize("what", ["benchmarks", "systems", "strategies", "measures", "options"])
def test_lists(command: Any, what: str) -> None:
    status, out, _ = command("list", what, "--json")
    assert status == 0
    assert len(json.loads(out)[what]) >= 3
    assert command("list", what)[0] == 0


def test_list_measures_names_only_what_evaluate_takes(command: Any) -> None:
    """Sums over queries, measures by subtopic and Accuracy are refused by evaluate, so they are not offered."""
    (others,) = [row["about"] for row in json.loads(command("list", "measures", "--json")[1])["measures"] if row["measure"] == "others"]
    named = others.partition(": ")[2].split(", ")
    assert {"Bpref", "Rprec", "ERR", "RBP"} <= set(named)
    assert not {"NumQ", "NumRel", "NumRet", "Accuracy", "AP_IA", "alpha_nDCG"} & set(named)


def test_list_strategies_says_what_each_takes_and_costs(command: Any) -> None:
    """One line each, ablations included: the source, what has to be there, and the cost in trainings of kd."""
    rows = {row["strategy"]: row for row in json.loads(command("list", "strategies", "--json")[1])["strategies"]}
    assert {"contrastive", "kd", "takd", "prod", "lead", "mta4dpr", "mta4dpr-no-fused", "mta4dpr-one-round"} <= rows.keys()
    for name, row in rows.items():
        assert row.keys() == {"strategy", "about", "needs", "cost", "source"}, name
        assert all(isinstance(value, str) and value for value in row.values()), name
    assert rows["takd"]["needs"] == "a teacher, bi-encoder assistants that can be trained"
    assert rows["contrastive"]["needs"] == "judgements alone"
    assert rows["kd"]["cost"] == "as kd"
    assert rows["rocketqav2"]["cost"] == "as kd, and training the teacher"
    assert rows["mta4dpr-no-fused"]["source"] == "ablation"


def test_train_prints_a_row_a_student(command: Any, tmp_path: Path) -> None:
    """And with --json one document; logs go to stderr."""
    arguments = ["train", "tiny", "--strategy", "kd,contrastive", "--set", "steps=2", "--output", str(tmp_path / "run")]
    status, out, _ = command(*arguments, "--json")
    assert status == 0
    assert [row["system"] for row in json.loads(out)["students"]] == ["kd", "contrastive"]
    status, table, _ = command(*arguments)
    assert status == 0
    assert "RR@10 on D_eval" in table
    assert all(name in table for name in ("kd", "contrastive"))
    status, _, err = command(*arguments, "--redo", "--set", "lr=0.5")
    assert status == 2
    assert "distill.lr" in err


EVERY = "kd,takd,prod,rocketqav2,lead,rl_ta,cl_drd,mean_ta,kd_ta,mta4dpr,mta4dpr-no-harder"


def test_plan_knows_what_each_strategy_costs(command: Any, tmp_path: Path) -> None:
    """Steps and rounds are a row's own; what is trained beside the student takes time; a cross-encoder scores pairs, and only those
    of the strategies that ask it."""
    document = read_yaml(benchmark_folder() / "tiny.yaml")
    document["models"]["cross"] = {"kind": "cross-encoder", "untrained": {"layers": 1, "hidden": 32, "heads": 2}}
    document["assistants"] = ["assistant", "cross"]
    document["variants"] = {"long": {"strategy": "kd", "teacher": "other", "distill": {"steps": 50}}}
    document["models"]["other"] = {"untrained": {"layers": 1, "hidden": 32, "heads": 2, "seed": 9}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))

    def stages(systems: str) -> dict[str, Any]:
        status, out, _ = command("plan", str(path), "--systems", systems, "--json", "--output", str(tmp_path / "run"))
        assert status == 0
        return {stage["stage"]: stage for stage in json.loads(out)["stages"]}

    found = stages(f"{EVERY},long")
    assert {name for name in found if name.startswith("train ")} == {f"train {name}" for name in [*EVERY.split(","), "long"]}
    assert found["train kd"]["note"] == "12 steps, 2 rounds"
    assert found["train prod"]["note"] == "12 steps, 3 rounds"
    assert found["train long"]["note"] == "50 steps, 2 rounds"
    assert found["train takd"]["note"] == "12 steps, 2 rounds; trains assistant too"
    assert found["train rocketqav2"]["note"] == "12 steps, 2 rounds; trains teacher too"
    assert "encode with other" in found, "the teacher of a variant"
    assert "encode with cross" not in found
    assert "index for BM25" not in found
    asking = [name for name in EVERY.split(",") if name not in ("kd", "rocketqav2", "lead", "cl_drd")]
    assert f"up to {12 * 8 * 4 * len(asking):,} pairs" in found["score pairs with cross"]["note"]
    assert "up to 0 pairs" in stages("kd")["score pairs with cross"]["note"]


def test_plan_writes_nothing(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    status, out, _ = command("plan", "tiny", "--json")
    assert status == 0
    assert json.loads(out)["stages"][0]["state"] == "to do"
    assert list(tmp_path.iterdir()) == []


def test_plan_says_per_stage_what_is_lacking(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is nowhere, offline: exit 3, and the stage is named."""
    monkeypatch.setenv("MTA4DPR_MODELS", str(tmp_path))
    status, out, err = command("plan", "tiny", "--systems", "bm25,some/model", "--offline", "--output", str(tmp_path / "run"))
    assert status == 3
    assert "lacking" in out
    assert "some/model" in err


def test_search_and_report_on_a_run(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a system finds, with text; and the tables again from the files."""
    monkeypatch.chdir(tmp_path)
    status, out, _ = command("search", "tiny", "--query", "convert the string to lower case", "--json")
    assert status == 0
    hits = json.loads(out)["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5]
    assert all(hit["text"] for hit in hits)
    assert command("search", "tiny", "--system", "mta4dpr", "--query", "x")[0] == 2, "a student that is not trained yet"
    status, out, _ = command("run", "tiny", "--systems", "bm25", "--json")
    assert status == 0
    assert json.loads(out)["benchmark"] == "tiny"
    (tmp_path / "runs" / "tiny" / "leaderboard.html").unlink()
    assert command("report", "runs/tiny")[0] == 0
    assert (tmp_path / "runs" / "tiny" / "leaderboard.html").exists()
    status, _, err = command("report", str(tmp_path))
    assert status == 2
    assert "leaderboard.json" in err


def test_tables_print_data_alone_on_standard_output(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reference runs of the checkout, two folders after one --runs; which were read goes to the log, --output takes the same text."""
    caplog.set_level("INFO")
    reference = benchmark_folder().parent / "runs" / "reference" / "nfcorpus"
    monkeypatch.chdir(tmp_path)
    status, out, _ = command("tables", "--runs", str(reference / "seed-0"), str(reference))
    assert status == 0
    assert out.startswith("# Tables of the MTA4DPR paper\n")
    assert f"{reference / 'seed-0'}: read (nfcorpus-strategies, seed 0)" in caplog.messages
    assert command("tables", "--runs", str(reference), "--output", "tables.md")[:2] == (0, "")
    assert (tmp_path / "tables.md").read_text() == out
    status, out, _ = command("tables", "--runs", str(reference), "--json")
    cells = [cell for part in json.loads(out)["tables"] for cell in part["cells"]]
    board = {
        (row["system"], row["measure"]): row["value"] for row in json.loads((reference / "seed-0" / "leaderboard.json").read_text())["rows"]
    }
    bm25 = next(cell for cell in cells if (cell["system"], cell["measure"]) == ("bm25", "nDCG@10"))
    assert bm25["value"] == board["bm25", "nDCG@10"]
    assert (bm25["measured"], bm25["published"], bm25["verdict"]) == ("32.2", None, None)
