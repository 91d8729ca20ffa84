"""Where the bytes of a run go: five places, on one file system or several; and whether there is room."""

from __future__ import annotations

import os
from pathlib import Path

from mta4dpr.machine import environment
from mta4dpr.machine.environment import gigabytes

DATA, MODELS, INDEXES, CACHE, OUTPUT = "ir_datasets", "models", "indexes", "cache", "output"
SETTINGS = {  # what moves each
    DATA: "IR_DATASETS_HOME",
    MODELS: "HF_HOME",
    INDEXES: "PYSERINI_CACHE",
    CACHE: "MTA4DPR_CACHE",
    OUTPUT: "--output",
}


def data_home() -> Path:
    """ir_datasets' home, without making it."""
    return Path(os.environ.get("IR_DATASETS_HOME") or Path.home() / ".ir_datasets").absolute()


def models_home() -> Path:
    """The cache of the Hugging Face hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE).absolute()


def indexes_home() -> Path:
    """Where Pyserini keeps prebuilt indexes; its own function for it takes half a minute to import."""
    return Path(os.environ.get("PYSERINI_CACHE") or Path.home() / ".cache" / "pyserini").absolute()


def disk_lack(needed: dict[str, float], places: dict[str, Path], *, settings: dict[str, str] = SETTINGS) -> list[str]:
    """What each file system lacks, a sentence each; `needed` are bytes by place, `settings` what moves a place."""
    systems: dict[int, list[str]] = {}
    for name in needed:
        systems.setdefault(environment.file_system(places[name]), []).append(name)
    lacking = []
    for names in systems.values():
        total, free = sum(needed[name] for name in names), environment.free_disk_bytes(places[names[0]])
        if total > free:
            parts = ", ".join(f"{gigabytes(needed[name])} in {places[name]} ({settings[name]})" for name in names if needed[name])
            lacking.append(f"the disk has {gigabytes(free)} free, about {gigabytes(total)} are needed: {parts}")
    return lacking
