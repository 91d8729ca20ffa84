"""What commands print: tables as wide as the terminal, one JSON document, plain lines for errors. Decides nothing."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from mta4dpr.machine.console import new_console
from mta4dpr.machine.environment import gigabytes
from mta4dpr.machine.grids import GridColumn, print_grid


class HelpAsWritten(TyperGroup):
    """Commands whose help shows our texts as they are written, as pretty as Typer's: `[bold]` is no style and `:x:` no picture."""

    def __init__(self, **given: Any) -> None:
        """`given` is what Typer makes a group of; the help texts of the group, its commands and their options change."""
        super().__init__(**given)
        for shown in [self, *self.commands.values()]:
            for part in [shown, *shown.params]:
                for key in ("help", "short_help", "epilog"):
                    if text := getattr(part, key, None):
                        setattr(part, key, _as_written(text))


def _as_written(help_text: str) -> str:
    """Typer reads Rich's markup in a paragraph unless it holds a terminal's escape codes; so each begins with one that changes nothing."""
    return "\n\n".join("\x1b[0m" + paragraph for paragraph in inspect.cleandoc(help_text).split("\n\n"))


def print_plan(document: Mapping[str, Any]) -> None:
    """What `plan` found: files to fetch, a row a stage, the disk that is needed, and where the rates behind the times come from."""
    from mta4dpr.machine.environment import gigabytes

    if document["downloads"]:
        _print_some_files(f"what {document['benchmark']} is made of", document["downloads"], {"what": "file or model", "from": "from"})
    columns = {"stage": "stage", "state": "state", "disk": "disk", "memory": "memory", "time": "time", "note": "note"}
    ranks = {"time": 1, "disk": 2, "memory": 3, "note": 4}
    title = f"plan of {document['benchmark']}: {document['title']}"
    print_table(title, document["stages"], columns, numbers=("disk", "memory", "time"), ranks=ranks)
    for place in document["disk"]:
        print_text(f"{gigabytes(place['bytes'])} in {place['place']} ({place['set_by']}), {gigabytes(place['free'])} free")
    print_text(document["summary"])
    measured = sorted({rate["work"] for rate in document["rates"] if rate["measured"]})
    usual = sorted({rate["work"] for rate in document["rates"] if not rate["measured"]} - set(measured))
    if not document["rates"]:
        return
    print_text(
        "times: "
        + "; ".join(
            f"{', '.join(kinds)} {how}"
            for kinds, how in ((measured, "as fast as in earlier runs here"), (usual, "by usual rates and a matrix product timed just now"))
            if kinds
        )
    )


def _print_some_files(title: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    """Files with their bytes in full digits."""
    shown = [{**row, "bytes": "unknown" if row["bytes"] is None else f"{row['bytes']:,}"} for row in rows]
    what, *others = columns
    print_table(
        title, shown, {what: columns[what], "bytes": "bytes", "state": "state", **{key: columns[key] for key in others}}, numbers=("bytes",)
    )


def print_fetched(files: Sequence[Mapping[str, Any]]) -> None:
    """A block a collection or model: its licence, then a line a file. Lines are as long as hashes are, and nothing folds them."""
    for of in dict.fromkeys(file["of"] for file in files):
        chosen = [file for file in files if file["of"] == of]
        for licence in dict.fromkeys(file["licence"] for file in chosen):
            sys.stdout.write(f"{of} (licence: {licence})\n")
            for file in (file for file in chosen if file["licence"] == licence):
                digest = f"md5 {file['md5']}" if file["md5"] else f"sha256 {file['sha256']}"
                checked = f"verified by {file['checked_by']}" if file["checked_by"] else "no hash to compare with"
                sys.stdout.write(f"{file['bytes']:>16,}  {file['path']}  {digest}, {checked}, {file['state']}\n")
            sys.stdout.write("\n")


def print_rows(document: Mapping[str, Any], by: str) -> None:
    """Rows of `evaluate` and `compare`, whose key `by` names the run. Several runs and measures: runs down, measures across."""
    rows = document["rows"]
    measures, runs = list(dict.fromkeys(row["measure"] for row in rows)), list(dict.fromkeys(row[by] for row in rows))
    if len(measures) > 1 and len(runs) > 1:
        _print_matrix(document["eval_set"], rows, by, measures)
        return
    shown = [{**row, "value": f"{row['value']:.4f}", "ci95": _interval(row)} for row in rows]
    columns = {
        by: "run",
        "measure": "measure",
        "value": "value",
        "ci95": "95 % interval",
        "queries": "queries",
        "missing_queries": "missing",
    }
    ranks = {"measure": 0, "value": 0, "ci95": 1, "missing_queries": 2, "queries": 3}
    print_table(document["eval_set"], shown, columns, ranks=ranks, paths=(by,))


def _print_matrix(eval_set: str, rows: Sequence[Mapping[str, Any]], by: str, measures: Sequence[str]) -> None:
    """A row a run. Values come first, then what is missing, then intervals, those of the first measures before the others."""
    shown: dict[str, dict[str, Any]] = {}
    for row in rows:
        found = shown.setdefault(row[by], {by: row[by], "queries": row["queries"], "missing_queries": row["missing_queries"]})
        found |= {row["measure"]: f"{row['value']:.4f}", f"{row['measure']} ci95": _interval(row)}
    columns, ranks = {by: "run"}, {"missing_queries": 1 + len(measures), "queries": 2 + len(measures)}
    for place, measure in enumerate(measures):
        columns |= {measure: measure, f"{measure} ci95": f"95 % of {measure}"}
        ranks |= {measure: place, f"{measure} ci95": 3 + len(measures) + place}
    columns |= {"queries": "queries", "missing_queries": "missing"}
    print_table(eval_set, list(shown.values()), columns, numbers=tuple(ranks), ranks=ranks, paths=(by,))


def _interval(row: Mapping[str, Any]) -> str:
    return "[{:.4f}, {:.4f}]".format(*row["ci95"])


def print_comparisons(measure: str, comparisons: Sequence[Mapping[str, Any]]) -> None:
    """A table with a row a contrast of `measure`; all of one family (planned or exploratory), which the title names."""
    from mta4dpr.commands.compare import verdict

    shown = [
        {
            "contrast": f"{one['a']} - {one['b']}",
            "difference": f"{one['difference']:+.4f}",
            "ci95": _interval(one),
            "p_holm": _p_value(one["p_holm"]),
            "p_randomisation": _p_value(one["p_randomisation"]),
            "effect": f"{one['effect_size']:+.2f}",
            "counts": f"{one['wins']}/{one['ties']}/{one['losses']}",
            "detectable": "" if one["detectable"] is None else f"{one['detectable']:.4f}",
            "verdict": verdict(one),
        }
        for one in comparisons
    ]
    columns = {"contrast": "contrast", "difference": "diff.", "ci95": "95 % interval", "p_holm": "p (Holm)", "p_randomisation": "p (flips)"}
    columns |= {"effect": "d", "counts": "w/t/l", "detectable": "detectable", "verdict": "verdict"}
    order = ("difference", "p_holm", "verdict", "ci95", "counts", "detectable", "effect", "p_randomisation")
    ranks = {key: max(0, place - 1) for place, key in enumerate(order)}
    words = ("contrast", "verdict")
    print_table(
        f"{measure}: {comparisons[0]['family']} contrasts",
        shown,
        columns,
        numbers=tuple(key for key in columns if key not in words),
        ranks=ranks,
    )


def _p_value(p: float) -> str:
    """Four digits; the smallest ones as a bound."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def print_kept(kept: Mapping[str, Any]) -> None:
    """What `verify` found of a folder: what is broken, and how much is not."""
    broken = [{**row, "broken": ", ".join(row["broken"])} for row in kept["rows"] if row["broken"]]
    if broken:
        print_table("not what was written", broken, {"what": "what", "broken": "files", "again": "by the next run that needs it"})
    whole = [row for row in kept["rows"] if not row["broken"]]
    files, size = sum(row["files"] for row in whole), gigabytes(sum(row["bytes"] for row in whole))
    print_text(f"{kept['path']}: {files:,} files, {size}, are what was written there")
    if kept["unknown"]:
        more = f" and {len(kept['unknown']) - 5:,} more" if len(kept["unknown"]) > 5 else ""
        print_text(f"{len(kept['unknown']):,} files have no checksum: {', '.join(kept['unknown'][:5])}{more}")


def print_query(one: Mapping[str, Any]) -> None:
    """A query on which two runs differ, with the first passages of both and their grades; - is not judged."""
    from rich.text import Text

    console = new_console()
    console.print(Text(" ".join(filter(None, [one["query_id"], one["query"]])), style="bold"))
    for run, value, first in ((one["a"], one["value_a"], one["first_a"]), (one["b"], one["value_b"], one["first_b"])):
        console.print(f"  {run}: {one['measure']} {value:.4f}")
        for rank, passage in enumerate(first, start=1):
            grade = "-" if passage["relevance"] is None else passage["relevance"]
            text = " ".join(" ".join(filter(None, [passage["title"], passage["text"]])).split())
            line = Text.assemble(f"    {rank}  grade {grade}  ", (passage["id"], "green"), f"  {text}")
            console.print(line, no_wrap=True, overflow="ellipsis")


def print_hits(hits: Sequence[Mapping[str, Any]]) -> None:
    """Two lines a passage that `search` found: rank, score, id and title, then the first 400 characters of its text."""
    from rich.text import Text

    console = new_console()
    for hit in hits:
        head = Text.assemble((f"{hit['rank']:>2}", "bold cyan"), f"  {hit['score']:.4f}  ", (hit["id"], "green"), "  ")
        if hit["title"]:
            head.append(hit["title"], style="bold").append("  ")
        console.print(head)
        console.print(f"    {' '.join(hit['text'].split())[:400]}")
    if not hits:
        console.print("no passage matches")


def print_leaderboard(folder: Path, as_json: bool) -> None:
    """The tables of the run in `folder`, or leaderboard.json as it is; where page and run files lie goes to stderr."""
    if as_json:
        from mta4dpr.machine.files import read_json

        print_json(read_json(folder / "leaderboard.json"))
        return
    from mta4dpr.report import load, load_efficiency, to_rich

    to_rich(load(folder), new_console(), efficiency=load_efficiency(folder))
    print_error(f"page, tables and run files: {folder}")


def print_text(text: str) -> None:
    """A line, folded between words where it is wider than the terminal."""
    new_console().print(text)


def print_error(text: str) -> None:
    """A line to stderr that nothing folds: errors, notes, where files went."""
    sys.stderr.write(text + "\n")


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(to_json(document, ascii_alone=not (sys.stdout.encoding or "").lower().startswith("utf")))


def to_json(document: Any, *, ascii_alone: bool = False) -> str:
    """Indented by two, letters of all scripts as they are, a line end last. TypeError for what JSON cannot hold."""
    return json.dumps(document, indent=2, ensure_ascii=ascii_alone) + "\n"


def print_table(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    numbers: Sequence[str] = ("value", "ci95"),
    ranks: Mapping[str, int] | None = None,
    paths: Sequence[str] = (),
) -> None:
    """A row a line under `title` (none where it is empty); `columns` are keys of the rows and their heads, an absent value is empty.

    Numbers stand to the right, and so do the columns in `numbers`, whose figures are written out already. Where the terminal is
    narrow, columns with the largest of `ranks` go first; without them the last ones. The first one stays.
    """
    from rich.text import Text

    ranks = ranks if ranks is not None else {key: place for place, key in enumerate(columns)}
    grid = []
    for place, (key, head) in enumerate(columns.items()):
        number = bool(rows) and all(isinstance(row.get(key), int | float) or key in numbers for row in rows)
        rank = ranks.get(key, 0) if place else 0
        grid.append(GridColumn(head, rank, right=number, folds=not number, paths=key in paths))
    console = new_console()
    console.print()
    if title:
        console.print(Text(title, style="bold"))
    print_grid(grid, [[Text("" if row.get(key) is None else str(row[key])) for key in columns] for row in rows], console)
