"""`export`: one system of a run's folder in the form that others read: a student's model folder, its TREC runs, a Pyserini index.

What the run left is copied; an index that it did not leave is made from kept vectors. Nothing that exists is overwritten.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mta4dpr.commands.verify import check_verified, verify_model
from mta4dpr.config import plugins
from mta4dpr.engines.registry import engine_named
from mta4dpr.errors import UserError, nearest
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.ir_metadata import path_of, write_ir_metadata
from mta4dpr.experiment.ledger import Ledger, StageName
from mta4dpr.experiment.manifest import TO_REPEAT, Manifest, engine_of, read_manifest
from mta4dpr.experiment.recovery import check_unchanged, recover
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import copy_folder, folder_written_aside, sha256_of_file
from mta4dpr.machine.kept import STAMPS, SUMS, seal

log = logging.getLogger(__name__)


def export(folder: Path, system: str, *, student: Path | None, runs: Path | None, index: Path | None, onnx: bool) -> dict[str, Any]:
    """Writes what exactly one of student, runs and index asks for; {"system", "what", "path", "files"}."""
    wanted = {"student": student, "runs": runs, "index": index}
    given = {what: path for what, path in wanted.items() if path is not None}
    if len(given) != 1:
        raise UserError(f"export takes one of --student, --runs and --index, found {', '.join(f'--{what}' for what in given) or 'none'}")
    if onnx and student is None:
        raise UserError("--onnx belongs to --student; leave it out")
    if not Folder(folder).manifest.is_file():
        raise UserError(f"expected the folder of a run, found no manifest.json in {folder}; give the folder that `mta4dpr-bench run` wrote")
    ((what, path),) = given.items()
    needs = {"student": ("title", "source", "versions"), "runs": ("eval_sets",), "index": TO_REPEAT}
    manifest = read_manifest(Folder(folder).manifest, needs=needs[what])
    known = list(dict.fromkeys([*manifest["systems"], *manifest.get("recipes", {})]))
    if system not in known:
        raise UserError(f"{folder} has no system {system!r}{nearest(system, known)}; it has: {', '.join(known)}")
    path = path if path.name else path.resolve()  # `.` has no name
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists already; export overwrites nothing, so remove it or choose another path")
    with folder_written_aside(path) as aside:
        if what == "student":
            _export_student(folder, manifest, system, aside, name=path.resolve().name, onnx=onnx)
        elif what == "runs":
            _export_runs(folder, manifest, system, aside)
        else:
            _export_index(folder, manifest, system, aside)
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return {"system": system, "what": what, "path": str(path), "files": files}


# --- a student -----------------------------------------------------------------------------------------------------


def _export_student(folder: Path, manifest: Manifest, system: str, aside: Path, *, name: str, onnx: bool) -> None:
    from mta4dpr.config.benchmark import ModelSpec
    from mta4dpr.models.encoder import load_encoder
    from mta4dpr.models.onnx import check_packages, write_onnx
    from mta4dpr.models.reading import EARLIER
    from mta4dpr.report import load
    from mta4dpr.report.card import model_card

    about = {**manifest["systems"], **manifest.get("recipes", {})}[system]
    trained = about.get("recipe") or about.get("strategy")
    model = Folder(folder).model(system)
    if not trained:
        model_name = manifest["systems"].get(system, {}).get("model")
        where = f": it is {model_name} as it is, load it from there" if model_name else ""
        raise UserError(f"{system} was not trained in {folder}{where}; --student takes one of: {', '.join(_students(manifest)) or 'none'}")
    if not (model / "model.safetensors").is_file():
        raise UserError(f"{system} is not trained in {folder} yet, there is no {model}; finish the run first")
    if onnx:
        check_packages()
    if "recipes" not in manifest or system not in manifest["recipes"]:
        raise UserError(f"{folder} was written by an earlier version, which did not note how {system} was trained; run its command again")
    encoder = load_encoder(system, ModelSpec(model=str(model.resolve())), device="cpu", offline=True)
    if (model / EARLIER).exists():  # an earlier version kept the lengths where no other library looks
        encoder.save(aside)
    else:
        copy_folder(model, aside, leave_out=(SUMS, STAMPS))
    if onnx:
        write_onnx(encoder, aside)
    compared = verify_model(encoder, aside)
    check_verified(compared, system)
    board = load(folder) if Folder(folder).leaderboard.is_file() else None
    if board and not any(row.system == system for row in board.rows):
        board = None
    card = replace(_card(manifest, system, encoder, name=name, onnx=onnx), texts_compared=compared["texts"], agreement=compared["rows"])
    (aside / "README.md").write_text(model_card(card, board), encoding="utf-8")
    seal(aside, stamps=False)


def _students(manifest: Manifest) -> list[str]:
    return [label for label, about in manifest.get("recipes", {}).items() if about["recipe"]]


def _card(manifest: Manifest, system: str, encoder: Any, *, name: str, onnx: bool) -> Any:
    from mta4dpr.config.options import Distill
    from mta4dpr.distill.registry import is_strategy, strategy_named
    from mta4dpr.distill.strategy import Requirement
    from mta4dpr.models.libraries import is_normalized, pooling_elsewhere
    from mta4dpr.models.registry import checkpoint_of, hub_of
    from mta4dpr.report.card import Card

    settings, recipe = manifest["settings"], manifest["recipes"][system]["recipe"]
    strategy = None
    if is_strategy(recipe["strategy"]):
        with contextlib.suppress(UserError):  # one from outside whose file is gone: the student is here all the same
            strategy = strategy_named(recipe["strategy"])
    labels = [("start", recipe["student"])]
    taught = strategy is None or Requirement.JUDGEMENTS_ALONE not in strategy.requires
    if taught:
        labels += [("teacher", recipe["teacher"]), *(("assistant", label) for label in recipe["assistants"])]
    base = settings["models"][recipe["student"]]["model"]
    defaults = Distill().model_dump(mode="json")
    return Card(
        system=system,
        folder=name,
        benchmark=settings["name"],
        title=manifest["title"],
        parameters=encoder.parameters,
        dimensions=encoder.dimensions,
        base=hub_of(base) if checkpoint_of(base) else "",
        strategy=plugins.name_of(recipe["strategy"]),
        about=strategy.about if strategy else "",
        source=strategy.source if strategy else "",
        teacher=recipe["teacher"] if taught else "",
        origins=[_origin(role, label, settings["models"].get(label)) for role, label in labels],
        corpus=manifest["source"].get("ir_datasets") or Path(settings["corpus"]).name,
        train=settings["train"],
        text_hash=settings["text_hash"],
        options={option: value for option, value in recipe["distill"].items() if value != defaults.get(option)},
        seed=settings["seed"],
        versions={package: manifest["versions"][package] for package in ("mta4dpr", "torch", "transformers", "sentence-transformers")},
        query_length=encoder.reading.query_length,
        passage_length=encoder.reading.passage_length,
        query_prefix=encoder.reading.query_prefix,
        passage_prefix=encoder.reading.passage_prefix,
        pooling=pooling_elsewhere(encoder),
        normalized=is_normalized(encoder),
        onnx=onnx,
        texts_compared=0,
        agreement=(),
    )


def _origin(role: str, label: str, spec: Mapping[str, Any] | None) -> Any:
    """A model as a card names it: by its label and where it is from; a local path by its last part."""
    from mta4dpr.report.card import Origin

    if spec is None:
        return Origin(role, label, files=False, licence="")
    place = spec["model"] or spec["scores"]
    shown = Path(place).name if Path(place).exists() else place
    words = [shown if shown and shown != label else "", f"layers {spec['layers']}" if spec["layers"] else ""]
    words += ["random weights" if spec["untrained"] else ""]
    described = ", ".join(filter(None, words))
    name = f"{label} ({described})" if described else label
    return Origin(role, name, files=bool(spec["model"]), licence=_licence(spec["model"]))


def _licence(model: str) -> str:
    """What a model's own card says; empty where there is none."""
    import yaml

    from mta4dpr.models.files import find_model

    if not model:
        return ""
    try:
        text = (find_model(model, offline=True)[0] / "README.md").read_text(encoding="utf-8")
        head = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
    except (UserError, OSError, UnicodeDecodeError, yaml.YAMLError):
        return ""
    return f"{head['license']}, says its card" if isinstance(head, dict) and isinstance(head.get("license"), str) else ""


# --- run files -----------------------------------------------------------------------------------------------------


def _export_runs(folder: Path, manifest: Manifest, system: str, aside: Path) -> None:
    """EVAL_SET/SYSTEM.trec with its metadata, for every eval set that the system was run on."""
    found = 0
    for eval_set in (name for name, about in manifest["eval_sets"].items() if "suite" not in about):
        run_file = Folder(folder).run_file(system, eval_set)
        if not run_file.is_file():
            log.warning("%s has no run of %s on %s", folder, system, eval_set)
            continue
        noted = manifest.get("run_files", {}).get(run_file.relative_to(folder).as_posix())
        if noted and sha256_of_file(run_file) != noted["sha256"]:
            raise UserError(f"{run_file} was changed since the run wrote it; the command of the run makes it again")
        copy = aside / run_file.parent.name / run_file.name
        copy.parent.mkdir()
        shutil.copyfile(run_file, copy)
        if path_of(run_file).is_file():
            shutil.copyfile(path_of(run_file), path_of(copy))
        else:  # an earlier version wrote none
            write_ir_metadata(copy, manifest, noted or {"system": system, "eval_set": eval_set})
        found += 1
    if not found:
        raise UserError(f"{folder} has no run file of {system}; finish the run first")


# --- an index ------------------------------------------------------------------------------------------------------


def _export_index(folder: Path, manifest: Manifest, system: str, aside: Path) -> None:
    """The index that the run left, where it is of the present weights; else written again by the system's engine."""
    left = Folder(folder).index(system)
    if left.is_dir() and _is_current(folder, manifest, system):
        copy_folder(left, aside, leave_out=(SUMS, STAMPS))
        return
    path = Folder(folder).manifest
    (experiment,) = recover(manifest, path, Request(""), folder, systems={system: []})
    check_unchanged([experiment], manifest, path, training=False)
    experiment.open_engine(experiment.systems[0]).write_index(aside)
    for name in (SUMS, STAMPS):  # for folders that we keep
        (aside / name).unlink(missing_ok=True)


def _is_current(folder: Path, manifest: Manifest, system: str) -> bool:
    """Whether the index that the run left is whole and made with the student's present weights."""
    from mta4dpr.models.hashes import weights_key

    about = manifest["systems"].get(system)
    stage = StageName(engine_named(engine_of(manifest, system)).prepares, system)
    if about is None or not Ledger(folder).is_intact(stage):
        return False
    return about["strategy"] is None or weights_key(Folder(folder).model(system), None) == about["weights"]
