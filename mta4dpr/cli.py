"""The command line: parses, calls one function a command, prints. No logic."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mta4dpr.errors import EnvironmentLack, UserError, nearest
from mta4dpr.machine.environment import is_main_process
from mta4dpr.terminal import (
    HelpAsWritten,
    print_comparisons,
    print_error,
    print_fetched,
    print_hits,
    print_json,
    print_kept,
    print_leaderboard,
    print_plan,
    print_query,
    print_rows,
    print_table,
    print_text,
    to_json,
)

if TYPE_CHECKING:
    from mta4dpr.experiment.request import Request

app = typer.Typer(
    cls=HelpAsWritten,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Distil small dense retrievers with MTA4DPR and its baselines, and compare them on real collections.",
    epilog="Add --debug to any command to see a traceback. Start with: mta4dpr-bench run quickstart",
)

BenchArgument = Annotated[
    str, typer.Argument(metavar="BENCH", help="a benchmark's name, a YAML file, an ir_datasets id, or a folder in BEIR's format")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else on stdout")]
SystemsOption = Annotated[
    str, typer.Option("--systems", metavar="A,B", help="which systems; LABEL=PATH names a model (default: the benchmark's)")
]
EvalSetsOption = Annotated[str, typer.Option("--eval-sets", metavar="X,Y", help="which eval sets (default: all)")]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", help="only the first N queries of each eval set")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="an option; `list options` shows all")]
OutputOption = Annotated[Path | None, typer.Option("--output", metavar="DIR", help="where the run goes (default: runs/BENCH)")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps (default: chosen, with the reason)")]
SeedOption = Annotated[int, typer.Option("--seed", help="decides every draw")]
WaitOption = Annotated[bool, typer.Option("--wait", help="wait when another run has the folder")]
TensorboardOption = Annotated[bool, typer.Option("--tensorboard", help="training curves for TensorBoard too, beside steps.jsonl")]
DatasetOption = Annotated[str, typer.Option("--dataset", metavar="ID", help="an ir_datasets id with judgements, or FOLDER/SPLIT")]
QrelsOption = Annotated[Path | None, typer.Option("--qrels", metavar="FILE", help="a TREC qrels file, or BEIR's tsv")]
MeasuresOption = Annotated[str, typer.Option("--measures", help="in ir-measures' notation, separated by spaces")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="open no connection to the network")]


class Form(StrEnum):
    """The formats of the paper's tables."""

    MD = "md"
    TEX = "tex"
    HTML = "html"
    CSV = "csv"


def _request(bench: str, **given: Any) -> Request:
    """What the user asked for, with A,B as ('A', 'B') and no --set as (); whether it can be is checked later."""
    from mta4dpr.experiment.request import Request

    for name in ("systems", "eval_sets"):
        given[name] = tuple(part for part in given.get(name, "").split(",") if part)
    given["settings"] = tuple(given["settings"] or ())
    return Request(benchmark=bench, **given)


@app.command()
def run(
    bench: BenchArgument = "",
    systems: SystemsOption = "",
    eval_sets: EvalSetsOption = "",
    limit: LimitOption = None,
    settings: SetOption = None,
    output: OutputOption = None,
    device: DeviceOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="decides every draw (default: 0)", show_default=False)] = None,
    from_manifest: Annotated[
        Path | None,
        typer.Option("--from-manifest", metavar="FILE", help="repeat the run of that manifest.json; goes into runs/BENCH-repeat"),
    ] = None,
    redo: Annotated[
        str | None, typer.Option("--redo", metavar="STAGE", help="data, index, encode, train, search, latency or evaluate again")
    ] = None,
    offline: OfflineOption = False,
    wait: WaitOption = False,
    tensorboard: TensorboardOption = False,
    as_json: JsonOption = False,
) -> None:
    """Everything, from data to leaderboard. The same command again continues."""
    from mta4dpr.commands.run import run as run_experiment

    decided = {"BENCH": bench, "--systems": systems, "--eval-sets": eval_sets, "--limit": limit, "--set": settings, "--seed": seed}
    given = [name for name, value in decided.items() if value not in ("", None, [])]
    if from_manifest and given:
        raise UserError(f"--from-manifest repeats a run as it was; leave out {', '.join(given)}, which the manifest decides")
    if not from_manifest and not bench:
        raise UserError("run takes a benchmark, such as quickstart (`mta4dpr-bench list benchmarks`), or --from-manifest FILE")
    request = _request(
        bench,
        systems=systems,
        eval_sets=eval_sets,
        limit=limit,
        settings=settings,
        output=output,
        device=device,
        seed=seed or 0,
        redo=redo,
        offline=offline,
        wait=wait,
        tensorboard=tensorboard,
    )
    if from_manifest:
        _repeat(from_manifest, request, as_json)
        return
    folder = run_experiment(request)
    if is_main_process():
        print_leaderboard(folder, as_json)


def _repeat(manifest: Path, request: Request, as_json: bool) -> None:
    """`run --from-manifest`: prints whether each run file came out the same, and what was different then to stderr."""
    from mta4dpr.commands.repeat import repeat

    document = repeat(manifest, request)
    if not is_main_process():
        return
    if as_json:
        print_json(document)
        return
    shown = [{**row, "same": "the same" if row["same"] else f"differs: {row['how']}"} for row in document["run_files"]]
    print_table("", shown, {"file": "run file", "same": "came out"}, paths=("file",))
    for what, (then, now) in document["differences"].items():
        print_error(f"other than then: {what} was {then}, is {now}")
    if not document["differences"]:
        print_error("versions, hardware, threads and device are those of then")
    print_error(f"leaderboard, page and run files: {document['output']}")


@app.command()
def train(
    bench: BenchArgument,
    strategy: Annotated[str, typer.Option("--strategy", metavar="S,S", help="which students (default: the benchmark's)")] = "",
    settings: SetOption = None,
    output: OutputOption = None,
    device: DeviceOption = None,
    seed: SeedOption = 0,
    redo: Annotated[bool, typer.Option("--redo", help="train again")] = False,
    offline: OfflineOption = False,
    wait: WaitOption = False,
    tensorboard: TensorboardOption = False,
    as_json: JsonOption = False,
) -> None:
    """Students only, into the folder of run, which goes on from them. The same command again continues."""
    from mta4dpr.commands.train import train as train_students

    request = _request(
        bench,
        systems=strategy,
        settings=settings,
        output=output,
        device=device,
        seed=seed,
        redo="train" if redo else None,
        offline=offline,
        wait=wait,
        tensorboard=tensorboard,
    )
    document = train_students(request)
    if not is_main_process():
        return
    if as_json:
        print_json(document)
        return
    shown = [
        {**row, "d_eval": "–" if row["d_eval"] is None else f"{row['d_eval']:.4f}", "seconds": f"{row['seconds']:.0f}"}
        for row in document["students"]
    ]
    measure = f"{document['students'][0]['measure']} on D_eval"
    columns = {"system": "student", "steps": "steps", "rounds": "rounds", "d_eval": measure, "seconds": "seconds", "model": "model"}
    ranks = {"steps": 1, "seconds": 2, "rounds": 3, "model": 4}
    print_table("", shown, columns, numbers=("d_eval", "seconds"), ranks=ranks, paths=("model",))


@app.command()
def plan(
    bench: BenchArgument,
    systems: SystemsOption = "",
    eval_sets: EvalSetsOption = "",
    limit: LimitOption = None,
    settings: SetOption = None,
    output: OutputOption = None,
    device: DeviceOption = None,
    seed: SeedOption = 0,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """The stages that run would do: what is cached, what is lacking, disk, memory, rough time. Writes and downloads nothing."""
    from mta4dpr.commands import plan as planning

    request = _request(
        bench,
        systems=systems,
        eval_sets=eval_sets,
        limit=limit,
        settings=settings,
        output=output,
        device=device,
        seed=seed,
        offline=offline,
    )
    document = planning.plan(request)
    if as_json:
        print_json(document)
    else:
        print_plan(document)
    if document["lacking"]:
        raise EnvironmentLack("run would stop: " + "; ".join(document["lacking"]))


@app.command()
def fetch(
    bench: BenchArgument,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="a folder to take to a machine without a network")] = None,
    systems: SystemsOption = "",
    eval_sets: EvalSetsOption = "",
    offline: Annotated[bool, typer.Option("--offline", help="open no connection: verify, and copy what is here")] = False,
    as_json: JsonOption = False,
) -> None:
    """Data and models ahead, with hashes and licences. The same command again verifies them."""
    from mta4dpr.commands import fetch as fetching

    document = fetching.fetch(_request(bench, systems=systems, eval_sets=eval_sets, settings=None, offline=offline), to=to)
    if as_json:
        print_json(document)
        return
    print_fetched(document["files"])
    for line in document["notes"]:
        print_text(line)
    print_text(document["summary"])
    for name, value in document["environment"].items():
        print_text(f"export {name}={value}")


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="benchmarks, systems, strategies, measures or options")],
    as_json: JsonOption = False,
) -> None:
    """What there is: benchmarks, systems, strategies, measures or options, a line each."""
    from mta4dpr.commands import list as catalogue

    if what not in catalogue.LISTS:
        raise UserError(f"list takes one of {', '.join(catalogue.LISTS)}, found {what!r}{nearest(what, list(catalogue.LISTS))}")
    rows = catalogue.LISTS[what]()
    if as_json:
        print_json({what: rows})
    else:
        print_table("", rows, {key: key for key in rows[0]})


@app.command()
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="leave out torch's device and the network")] = False, as_json: JsonOption = False
) -> None:
    """Java, torch, device, threads, caches, disk, network, versions; says what each stage would lack."""
    from mta4dpr.commands import doctor as examination

    document = examination.examine(quick=quick)
    if as_json:
        print_json(document)
    else:
        print_table("", document["checks"], {"what": "what", "found": "found", "state": "state"})
        print_table("", document["stages"], {"stage": "stage", "state": "state", "lacks": "what it lacks"})
    if any(stage["state"] == "lacking" for stage in document["stages"]):
        raise EnvironmentLack("some stages cannot run here; see the table")


@app.command()
def search(
    bench: BenchArgument,
    query: Annotated[str, typer.Option("--query", "-q", help="what to search for")],
    system: Annotated[str, typer.Option("--system", "-s", help="a system of the benchmark, or any model")] = "bm25",
    hits: Annotated[int, typer.Option("--hits", "-k", help="how many passages")] = 5,
    settings: SetOption = None,
    output: OutputOption = None,
    device: DeviceOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """The top passages of one system for one query, with text."""
    from mta4dpr.commands.search import search as search_once

    request = _request(bench, systems=system, settings=settings, output=output, device=device, offline=offline)
    document = search_once(request, query, hits)
    if as_json:
        print_json(document)
        return
    print_hits(document["hits"])


@app.command()
def evaluate(
    runfiles: Annotated[list[Path], typer.Argument(metavar="RUNFILE...", help="TREC run files, .gz too")],
    dataset: DatasetOption = "",
    qrels: QrelsOption = None,
    measures: MeasuresOption = "",
    per_query: Annotated[bool, typer.Option("--per-query", help="the value of every query too")] = False,
    as_json: JsonOption = False,
) -> None:
    """Anyone's TREC run files, scored by trec_eval's rules."""
    from mta4dpr.commands import evaluate as scoring

    document = scoring.evaluate(runfiles, dataset=dataset, qrels=qrels, measures=measures, per_query=per_query)
    if as_json:
        print_json({key: document[key] for key in ("rows", "per_query") if key in document})
        return
    for line in document["notes"]:
        print_error(line)
    for row in document.get("per_query", []):
        sys.stdout.write(f"{row['run']}\t{row['query_id']}\t{row['measure']}\t{row['value']:.4f}\n")
    print_rows(document, "run")


@app.command()
def compare(
    runfiles: Annotated[list[Path], typer.Argument(metavar="RUN_A RUN_B...", help="TREC run files, .gz too; the first is the baseline")],
    dataset: DatasetOption = "",
    qrels: QrelsOption = None,
    measures: MeasuresOption = "",
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="all pairs, not only every run against the first (exploratory)")] = False,
    queries: Annotated[
        int | None, typer.Option("--queries", metavar="N", help="show the N queries that differ most by the first measure (two runs: 10)")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Paired tests of run files, corrected by Holm; wins and losses, and the queries that differ most."""
    from mta4dpr.commands import compare as comparing

    document = comparing.compare(runfiles, dataset=dataset, qrels=qrels, measures=measures, all_pairs=all_pairs, queries=queries)
    if as_json:
        print_json({key: document[key] for key in ("rows", "comparisons", "queries")})
        return
    for line in document["notes"]:
        print_error(line)
    print_rows(document, "label")
    for measure in dict.fromkeys(one["measure"] for one in document["comparisons"]):
        print_comparisons(measure, [one for one in document["comparisons"] if one["measure"] == measure])
    for one in document["queries"]:
        print_query(one)


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="the folder of a run; several of one benchmark: their mean over seeds")
    ],
    output: Annotated[Path | None, typer.Option("--output", metavar="DIR", help="with several: where their leaderboard goes")] = None,
    as_json: JsonOption = False,
) -> None:
    """Leaderboard, plots and page again from what a run left; or one leaderboard over runs with different seeds."""
    from mta4dpr.report import seeds, write_report

    if len(folders) > 1 and output is None:
        raise UserError("several runs make one leaderboard over their seeds; say with --output DIR where it goes")
    if len(folders) == 1 and output is not None:
        raise UserError("--output has no effect with one run, whose report goes into its own folder; leave it out")
    if output is not None:
        print_leaderboard(seeds.join(folders, output), as_json)
        return
    for path in write_report(folders[0]):
        logging.getLogger(__name__).info("written: %s", path)
    print_leaderboard(folders[0], as_json)


@app.command()
def tables(
    runs: Annotated[
        list[Path] | None,
        typer.Option("--runs", metavar="DIR...", help="runs, or folders that hold some (default: runs/, then runs/reference/)"),
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="--runs DIR", hidden=True)] = None,
    form: Annotated[Form | None, typer.Option("--format", help="default: md")] = None,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", dir_okay=False, help="instead of standard output")] = None,
    as_json: JsonOption = False,
) -> None:
    """The paper's tables: published figures beside what runs measured, with a verdict."""
    from mta4dpr.config.yaml_files import benchmark_folder
    from mta4dpr.machine.files import written_aside
    from mta4dpr.report import paper
    from mta4dpr.report.measurements import measurements

    if more and not runs:
        raise UserError(f"expected --runs before the folders of runs, found {more[0]}; write --runs {' '.join(map(str, more))}")
    if as_json and form:
        raise UserError("--json and --format are two formats; leave one out")
    empty = paper.read_tables(benchmark_folder() / "paper")
    filled = empty.filled(measurements([*(runs or []), *(more or [])], empty.benchmarks(), empty.eval_sets()))
    text = to_json(paper.to_json(filled)) if as_json else filled.text(form or Form.MD)
    if output is None:
        sys.stdout.write(text)
        return
    with written_aside(output) as file:
        file.write(text)


@app.command()
def verify(
    target: Annotated[
        str | None, typer.Argument(metavar="[MODEL|DIR]", help="a model's folder or name, such as an exported student; or a run's folder")
    ] = None,
    cache: Annotated[bool, typer.Option("--cache", help="what runs share, in MTA4DPR_CACHE")] = False,
    pyserini: Annotated[bool, typer.Option("--pyserini", help="Pyserini's encoder too (half a minute, and Java)")] = False,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Whether a model's vectors are the same in other libraries; whether all that a run's folder or the cache keeps is what was written."""
    from mta4dpr.commands import verify_kept

    if cache == (target is not None):
        raise UserError("verify takes a model, the folder of a run, or --cache: exactly one of them")
    if target is None or verify_kept.is_run(Path(target)):
        if pyserini or offline:
            raise UserError(f"{'--pyserini' if pyserini else '--offline'} belongs to a model; leave it out")
        kept = verify_kept.verify_cache() if target is None else verify_kept.verify_run(Path(target))
        print_json(kept) if as_json else print_kept(kept)
        verify_kept.check_kept(kept)
        return
    from mta4dpr.commands import verify as verifying

    document = verifying.verify(target, pyserini=pyserini, offline=offline)
    if as_json:
        print_json(document)
    else:
        rows = [{name: f"{value:.1e}" if isinstance(value, float) else value for name, value in row.items()} for row in document["rows"]]
        columns = {"library": "library", "queries": "queries", "passages": "passages"}
        print_table(f"{target}: the largest difference, {document['texts']} texts", rows, columns, numbers=("queries", "passages"))
    verifying.check_verified(document, target)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="the folder of a run")],
    system: Annotated[str, typer.Option("--system", "-s", metavar="NAME", help="which of its systems")],
    student: Annotated[
        Path | None, typer.Option("--student", metavar="PATH", help="a trained student: a sentence-transformers folder with a model card")
    ] = None,
    runs: Annotated[Path | None, typer.Option("--runs", metavar="PATH", help="its TREC run files, with ir_metadata")] = None,
    index: Annotated[Path | None, typer.Option("--index", metavar="PATH", help="an index that Pyserini opens: Lucene's or FAISS's")] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="with --student: an ONNX file too (extra onnx)")] = False,
    as_json: JsonOption = False,
) -> None:
    """One system of a run for others: a student's model folder, its TREC runs, or an index for Pyserini."""
    from mta4dpr.commands import export as exporting

    document = exporting.export(folder, system, student=student, runs=runs, index=index, onnx=onnx)
    if as_json:
        print_json(document)
    else:
        sys.stdout.write("".join(f"{document['path']}/{name}\n" for name in document["files"]))
