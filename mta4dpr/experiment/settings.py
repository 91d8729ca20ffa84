"""In which settings two runs differ: rows of one table must have been made with the same ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mta4dpr.errors import UserError


def refuse_other_settings(folder: Path, settings: dict[str, Any], known: dict[str, Any]) -> None:
    """UserError that names the settings in which an earlier run in this folder differs."""
    different = [f"  {key}: {was} there, {now} now" for key, (was, now) in differences(known, settings).items()]
    if different:
        raise UserError(
            f"{folder} holds a run with other settings:\n"
            + "\n".join(different)
            + "\nChoose another folder (--output DIR), or give the same settings"
        )


def differences(known: dict[str, Any], settings: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """{section.key: (value there, value now)} of the settings that are not the same, values as JSON or 'not set'."""
    was, now = _flat(known), _flat(settings)
    keys = [key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key)]
    return {key: (was.get(key, "not set"), now.get(key, "not set")) for key in keys}


def _flat(document: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(document, dict) and document:
        return {key: value for name, inner in document.items() for key, value in _flat(inner, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): json.dumps(document, ensure_ascii=False)}
