"""ir_metadata of a run file: the community's YAML that says on which platform, by which method, from which data a run was made.

Schema 0.1 of https://www.ir-metadata.org (Breuer, Keller, Schaer: ir_metadata, SIGIR 2022), after the PRIMAD model: platform,
research goal, implementation, method, actor, data. Its keys are used as published, white space included; `description`, `index`
and `depth` of a retrieval stage and `text hash` of a test collection are ours, as the schema may be extended. Made of manifest.json
alone, without times, so that two runs on one machine leave the same bytes. What we cannot know (venue, name and team of the
actor) is left to the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mta4dpr.engines.registry import engine_named
from mta4dpr.experiment.manifest import Manifest, engine_of
from mta4dpr.machine.files import file_name, written_aside

SUFFIX = ".ir_metadata.yml"
START, END = "# ir_metadata.start", "# ir_metadata.end"  # as repro_eval looks for them; comments, so that the file is YAML


def path_of(run_file: Path) -> Path:
    """Where the metadata of a run file is: SYSTEM.ir_metadata.yml beside SYSTEM.trec."""
    return run_file.with_suffix(SUFFIX)


def write_ir_metadata(run_file: Path, manifest: Manifest, record: Mapping[str, Any]) -> Path:
    """Writes the metadata beside a run file; `record` is its entry in the manifest's run_files. Returns the file."""
    import yaml

    text = yaml.safe_dump(ir_metadata(manifest, record), sort_keys=False, allow_unicode=True, width=140)
    with written_aside(path_of(run_file)) as file:
        file.write(f"{START}\n{text}{END}\n")
    return path_of(run_file)


def ir_metadata(manifest: Manifest, record: Mapping[str, Any]) -> dict[str, Any]:
    """The document of one run file. An older manifest, which noted less, gives fewer keys."""
    system, eval_set = record["system"], record["eval_set"]
    made = manifest["runs"][record["made_by"]] if "made_by" in record else manifest
    return _without_gaps(
        {
            "schema-version": 0.1,
            "run-version": 1.0,
            "tag": file_name(system),
            "platform": _platform(made, record.get("gpu")),
            "research goal": {"evaluation": _evaluation(manifest, system, eval_set)},
            "implementation": {
                "executable": {"cmd": record.get("command")},
                "source": {"lang": ["python", "java"], "commit": made["git_commit"]},
            },
            "method": engine_named(engine_of(manifest, system)).metadata(system, manifest),
            "actor": {"role": "experimenter"},
            "data": _data(manifest, system, eval_set),
        }
    )


def _platform(made: Mapping[str, Any], gpu: Mapping[str, Any] | None) -> dict[str, Any]:
    hardware, versions = made["hardware"], made["versions"]
    return {
        "hardware": {
            "cpu": {
                "model": hardware["processor"],
                "architecture": hardware["machine"],
                "operation mode": hardware.get("operation_mode"),
                "number of cores": hardware["cores"],
            },
            "gpu": gpu,
            "ram": f"{hardware['memory_bytes'] / 2**30:.0f} GB",
        },
        "operating system": {"kernel": hardware["system"], "distribution": hardware.get("distribution")},
        "software": {
            "libraries": {"python": [f"{name}=={version}" for name, version in versions.items() if name != "pyserini"]},
            "retrieval toolkit": [f"pyserini=={versions['pyserini']}"],
        },
    }


def _evaluation(manifest: Manifest, system: str, eval_set: str) -> dict[str, Any]:
    return {
        "reported measures": manifest["eval_sets"][eval_set]["measures"],
        "baseline": [b for a, b in manifest["contrasts"] if a == system],
        "significance test": [{"name": "paired two-sided t-test", "correction method": "Holm"}],
    }


def _data(manifest: Manifest, system: str, eval_set: str) -> dict[str, Any]:
    settings, source = manifest["settings"], manifest["source"]

    def named(query_set: str) -> dict[str, Any]:
        return {"name": query_set, "ir_datasets": query_set if _is_in_ir_datasets(query_set, source) else None}

    trained = manifest["systems"][system]["strategy"] is not None
    corpus = source.get("ir_datasets") or Path(settings["corpus"]).name
    return {
        "test collection": {**named(eval_set), "source": corpus, "text hash": settings["text_hash"]},
        "training data": [{**named(settings["train"]), "source": corpus}] if trained else None,
    }


def _is_in_ir_datasets(query_set: str, source: Mapping[str, Any]) -> bool:
    """Whether that library has the query set, not only its corpus."""
    if "ir_datasets" not in source:
        return False
    import ir_datasets

    return query_set in map(str, ir_datasets.registry)


def _without_gaps(document: Any) -> Any:
    """Leaves out what is not known: None, and what is empty without it."""
    if isinstance(document, dict):
        kept = {key: _without_gaps(value) for key, value in document.items()}
        return {key: value for key, value in kept.items() if value is not None and value != [] and value != {}}
    return [_without_gaps(value) for value in document] if isinstance(document, list) else document
