"""What of a run comes from elsewhere: files of ir_datasets, models of the hub, prebuilt indexes of Pyserini.

The one description behind `plan`, `fetch` and the check of the disk. Writes and downloads nothing.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mta4dpr.benchmark import ModelSpec, Recipe
from mta4dpr.errors import UserError
from mta4dpr.models.registry import hub_of
from mta4dpr.opened import Run
from mta4dpr.places import CACHE, DATA, INDEXES, MODELS, OUTPUT, data_home, indexes_home, models_home
from mta4dpr.planning.sizes import Sizes

if TYPE_CHECKING:
    from mta4dpr.retrieval.prebuilt import Prebuilt


class Needs:
    """What an opened run needs from elsewhere."""

    def __init__(self, opened: Run) -> None:
        self.opened, self.sizes = opened, Sizes(opened)

    @property
    def recipes(self) -> list[Recipe]:
        return [system.recipe for system in self.opened.systems if system.recipe]

    def models(self) -> dict[str, ModelSpec]:
        """The models with weights that a run reads, by label: systems, teachers, assistants, students."""
        bench, found = self.opened.bench, {}
        for system in self.opened.systems:
            if system.spec and not system.recipe:
                found[system.label] = system.spec
        for recipe in self.recipes:
            for label in (recipe.teacher, *recipe.assistants, recipe.student):
                if label in bench.models:
                    found[label] = bench.models[label]
        return {label: spec for label, spec in found.items() if spec.model}

    @property
    def asks_bm25(self) -> bool:
        roles = {label for recipe in self.recipes for label in (recipe.teacher, *recipe.assistants)}
        return "bm25" in roles or any(system.kind == "lexical" for system in self.opened.systems)

    @cached_property
    def indexes(self) -> dict[str, Prebuilt]:
        """The prebuilt indexes that a run reads, by label."""
        wanted = {label: spec.index for label, spec in self.models().items() if spec.index}
        if self.asks_bm25 and self.opened.bench.bm25.index:
            wanted["bm25"] = self.opened.bench.bm25.index
        if not wanted:
            return {}
        from mta4dpr.retrieval.prebuilt import find

        return {label: find(index, dense=label != "bm25", heap=self.opened.bench.bm25.heap) for label, index in wanted.items()}

    def downloads(self) -> list[dict[str, Any]]:
        """Every file, model and index once: {"what", "bytes" (None: not known), "state", "from", "url"}."""
        rows: list[dict[str, Any]] = []
        for d in self.sizes.downloads:
            state = "unpacked" if d.is_unpacked and not d.path else "here" if d.here else "download"
            rows.append({"what": d.name, "bytes": d.bytes, "state": state, "from": d.host, "url": d.url})
        for prebuilt in {prebuilt.name: prebuilt for prebuilt in self.indexes.values()}.values():
            state = "here" if prebuilt.folder else "download"
            rows.append({"what": prebuilt.name, "bytes": prebuilt.bytes, "state": state, "from": "Pyserini's prebuilt indexes"})
        return rows + self.model_downloads()

    def model_downloads(self) -> list[dict[str, Any]]:
        """Each model once: {"what", "bytes" (None: not known), "state", "from"}."""
        rows = {}
        for spec in self.models().values():
            row: dict[str, Any] = {"what": spec.model, "bytes": None, "state": "download", "from": hub_of(spec.model)}
            if self.is_known(spec):
                network = self.sizes.network(spec)
                row["bytes"] = network.bytes
                if network.place:
                    row |= {"state": "here", "from": network.where}
            rows[spec.model] = row
        return list(rows.values())

    def places(self) -> dict[str, Path]:
        """Where each kind of bytes goes on this machine."""
        return {
            DATA: data_home(),
            MODELS: models_home(),
            INDEXES: indexes_home(),
            CACHE: self.opened.cache,
            OUTPUT: self.opened.folder.absolute(),
        }

    def is_known(self, spec: ModelSpec) -> bool:
        try:
            self.sizes.network(spec)
        except UserError:
            return False
        return True
