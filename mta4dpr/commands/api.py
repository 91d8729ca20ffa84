"""What `import mta4dpr` offers: what the commands do, as functions that return documents (what --json prints).

    import mta4dpr

    board = mta4dpr.run("tiny", systems=["bm25", "kd"])
    results = mta4dpr.open(board["folder"])

Nothing is printed; progress and notes go to the log of the logger `mta4dpr`. What a user must correct is a mta4dpr.UserError, what
the machine lacks a mta4dpr.EnvironmentLack. Nothing heavy is imported before a function needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from mta4dpr.commands.documents import Board, Compared, Evaluated, Found, Student
    from mta4dpr.experiment.request import Request

Place = str | Path
Redo = Literal["data", "index", "encode", "train", "search", "latency", "evaluate"]


def run(
    benchmark: Place,
    *,
    systems: Iterable[str] = (),
    eval_sets: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    limit: int | None = None,
    output: Place | None = None,
    device: str | None = None,
    seed: int = 0,
    redo: Redo | None = None,
    offline: bool = False,
) -> Board:
    """Everything from data to leaderboard; the same call again continues, or answers at once when all is done.

    `benchmark` is a name, a YAML, an ir_datasets id or a folder in BEIR's format; `settings` are options as {"lr": 1e-4}.
    """
    from mta4dpr.commands.run import run as do

    more = {"limit": limit, "device": device, "seed": seed, "redo": redo, "offline": offline}
    return open(do(_request(benchmark, systems, eval_sets, settings, output, **more))).board


def train(
    benchmark: Place,
    *,
    strategies: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    output: Place | None = None,
    device: str | None = None,
    seed: int = 0,
    again: bool = False,
    offline: bool = False,
) -> list[Student]:
    """Students only, into the folder of `run`, which goes on from them. `again` trains those that are trained already."""
    from mta4dpr.commands.train import train as do

    redo = "train" if again else None
    return do(_request(benchmark, strategies, (), settings, output, device=device, seed=seed, redo=redo, offline=offline))["students"]


def search(
    benchmark: Place,
    query: str,
    *,
    system: str = "bm25",
    hits: int = 5,
    settings: Mapping[str, Any] | None = None,
    output: Place | None = None,
    device: str | None = None,
    offline: bool = False,
) -> Found:
    """The top passages of one system for one query, with text."""
    from mta4dpr.commands.search import search as do

    return do(_request(benchmark, [system], (), settings, output, device=device, offline=offline), query, hits)


def evaluate(*runfiles: Place, dataset: str = "", qrels: Place | None = None, measures: str = "", per_query: bool = False) -> Evaluated:
    """Anyone's TREC run files, scored by trec_eval's rules with the judgements of a dataset or of a file."""
    from mta4dpr.commands.evaluate import evaluate as do

    return do(list(map(Path, runfiles)), dataset=dataset, qrels=Path(qrels) if qrels else None, measures=measures, per_query=per_query)


def compare(
    *runfiles: Place, dataset: str = "", qrels: Place | None = None, measures: str = "", all_pairs: bool = False, queries: int | None = None
) -> Compared:
    """Paired tests of run files against the first, or of all pairs, with Holm's correction."""
    from mta4dpr.commands.compare import compare as do

    judged = Path(qrels) if qrels else None
    return do(list(map(Path, runfiles)), dataset=dataset, qrels=judged, measures=measures, all_pairs=all_pairs, queries=queries)


def _request(
    benchmark: Place,
    systems: Iterable[str],
    eval_sets: Iterable[str],
    settings: Mapping[str, Any] | None,
    output: Place | None,
    **given: Any,
) -> Request:
    import json

    from mta4dpr.experiment.request import Request

    pairs = tuple(f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in (settings or {}).items())
    return Request(str(benchmark), tuple(systems), tuple(eval_sets), settings=pairs, output=Path(output) if output else None, **given)


# --- what a run left ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Results:
    """The folder of a finished run: its documents, and where its files are."""

    folder: Path

    @property
    def board(self) -> Board:
        """leaderboard.json."""
        return cast("Board", {"folder": str(self.folder), **self._document("leaderboard")})

    @property
    def manifest(self) -> Mapping[str, Any]:
        """manifest.json: settings, versions, hashes, commands."""
        return self._document("manifest")

    @property
    def efficiency(self) -> Mapping[str, Any]:
        """efficiency.json: what each system costs on the machine of the run; {} where nothing was measured."""
        return self._document("efficiency")

    @property
    def systems(self) -> Sequence[str]:
        """The labels of the systems, in the leaderboard's order."""
        return [system["system"] for system in self.board["systems"]]

    def run_file(self, system: str, eval_set: str) -> Path:
        """The TREC run file of a system on an eval set."""
        return self._place.run_file(system, eval_set)

    def model(self, system: str) -> Path:
        """The folder of a trained student, as sentence-transformers loads it."""
        return self._place.model(system)

    def per_query(self, system: str, eval_set: str) -> dict[str, dict[str, float]]:
        """{measure: {query id: value}}, unrounded."""
        from mta4dpr.evaluation.per_query import read_per_query

        ids, values = read_per_query(self._place.per_query(system, eval_set))
        return {measure: dict(zip(ids, column.tolist(), strict=True)) for measure, column in values.items()}

    @property
    def _place(self) -> Any:
        from mta4dpr.experiment.folder import Folder

        return Folder(self.folder)

    def _document(self, name: str) -> Any:
        from mta4dpr.machine.files import read_json

        path = getattr(self._place, name)
        return read_json(path) if path.exists() else {}


def open(folder: Place) -> Results:
    """The results in a run's folder. UserError when it holds no leaderboard."""
    from mta4dpr.errors import UserError

    found = Results(Path(folder))
    if not (found.folder / "leaderboard.json").is_file():
        raise UserError(f"expected the folder of a finished run, found no leaderboard.json in {folder}; finish the run first")
    return found
