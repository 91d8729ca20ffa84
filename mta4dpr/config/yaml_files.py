"""Benchmarks as files: where their YAMLs are, how these and the command line's settings are read."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from mta4dpr.config import plugins
from mta4dpr.config.benchmark import Benchmark, options, parse_benchmark, settings
from mta4dpr.config.yaml_values import YamlMistake, parse_yaml
from mta4dpr.errors import UserError, nearest


def benchmark_folder() -> Path:
    """benchmarks/ of the checkout, or the copy that the wheel carries."""
    package = Path(__file__).parents[1]
    carried = package / "benchmarks"
    return carried if carried.is_dir() else package.parent / "benchmarks"


def benchmark_files() -> dict[str, list[Path]]:
    """{name: YAMLs} of all benchmarks: ours, those in the folders of MTA4DPR_BENCHMARKS, and those that installed packages offer.

    A name with several files is an error when it is asked for.
    """
    folders = [benchmark_folder(), *map(Path, filter(None, os.environ.get("MTA4DPR_BENCHMARKS", "").split(os.pathsep)))]
    found: dict[str, list[Path]] = {}
    for folder in dict.fromkeys([*folders, *plugins.offered_folders(plugins.BENCHMARKS)]):
        if not folder.is_dir():
            raise UserError(f"expected folders of benchmarks in MTA4DPR_BENCHMARKS, found no folder {folder}; correct it, or unset it")
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, []).append(path)
    return found


def benchmark_names() -> list[str]:
    """The names of all benchmarks."""
    return sorted(benchmark_files())


def benchmark_file(name: str) -> Path:
    """The YAML of the benchmark of that name. UserError when there are several; KeyError when there is none."""
    first, *others = benchmark_files()[name]
    if others:
        places = ", ".join(map(str, (first, *others)))
        raise UserError(f"there are several benchmarks {name!r}: {places}; give one of these paths, or rename one")
    return first


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping. UserError, with file and line, for what is not valid YAML; and for no mapping."""
    try:
        document = parse_yaml(path.read_bytes())
    except YamlMistake as error:
        raise UserError(f"{path} is not valid YAML, {error}") from error
    except OSError as error:
        raise UserError(f"the benchmark {path} cannot be read ({error.strerror}); check its name and permissions") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a mapping of settings (name, title, corpus, ...), found {type(document).__name__}")
    return document


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """['distill.steps=10', 'lr=1e-4'] as nested keys; a bare name must be unique among all options."""
    known = [name for name, *_ in [*options(), *settings()]]
    nested: dict[str, Any] = {}
    problems = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        candidates = [name] if name in known else [k for k in known if k.endswith("." + name)]
        if not equals or len(candidates) != 1:
            if not equals:
                problems.append(f"--set takes key=value, found {pair!r}")
            elif candidates:
                problems.append(f"--set {pair}: there are several options {name}; write {' or '.join(candidates)}")
            else:
                close = nearest(name, [*known, *(k.rsplit(".", 1)[-1] for k in known)])
                problems.append(f"unknown option {name!r}{close}; `mta4dpr-bench list options` shows all")
            continue
        try:
            value = parse_yaml(text)
        except YamlMistake as error:
            problems.append(f"--set {name}: {text!r:.80} is not a YAML value ({error})")
            continue
        place = nested
        *sections, last = candidates[0].split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    if problems:
        raise UserError("\n".join(problems))
    return nested


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` in their places, section by section; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return merged


def _resolve_references(document: dict[str, Any], folder: Path) -> None:
    """PATH.py:NAME in a YAML is meant from the YAML's folder."""
    strategies, engines, distill = (document.get(section) for section in ("strategies", "engines", "distill"))
    for section in (strategies, engines):
        for label, use in section.items() if isinstance(section, dict) else ():
            if isinstance(section, dict) and isinstance(use, str):
                section[label] = plugins.resolved(use, folder)
            elif isinstance(use, dict) and isinstance(use.get("use"), str):
                use["use"] = plugins.resolved(use["use"], folder)
    variants = document.get("variants")
    for variant in variants.values() if isinstance(variants, dict) else ():
        if isinstance(variant, dict) and isinstance(variant.get("strategy"), str):
            variant["strategy"] = plugins.resolved(variant["strategy"], folder)
    options = [distill, *(v.get("distill") for v in (variants.values() if isinstance(variants, dict) else ()) if isinstance(v, dict))]
    for section in options:
        if isinstance(section, dict) and isinstance(section.get("select"), str):
            section["select"] = plugins.resolved(section["select"], folder)


def load_benchmark(name: str, overrides: dict[str, Any]) -> Benchmark | None:
    """The benchmark of that name in benchmarks/, or the YAML at that path; None when `name` is neither."""
    if name in benchmark_names():
        path = benchmark_file(name)
    else:
        path = Path(name)
        if path.suffix not in (".yaml", ".yml"):
            return None
        if not os.path.isfile(path):  # Path's own raises for a name that is too long
            raise UserError(f"there is no benchmark file {name}; `mta4dpr-bench list benchmarks` names the ones that exist")
    document, over = read_yaml(path), copy.deepcopy(overrides)
    _resolve_references(document, path.parent)
    _resolve_references(over, Path())
    document = merge(document, over)
    models = document.get("models")
    places = [(document, "corpus"), (document, "train")]
    places += [
        (spec, key)
        for spec in (models.values() if isinstance(models, dict) else ())
        if isinstance(spec, dict)
        for key in ("model", "scores")
    ]
    for section, key in places:  # paths that start with a dot are meant relative to the YAML that names them
        if str(section.get(key, "")).startswith("."):
            section[key] = os.path.abspath(path.parent / str(section[key]))
    return parse_benchmark(document, str(path) if path.parent != benchmark_folder() else f"benchmark {name}")
