"""What of an experiment comes from elsewhere: files of ir_datasets, models of the hub, prebuilt indexes of Pyserini.

The one description behind `plan`, `fetch` and the check of the disk. Writes and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.data.collection import IrDataset
from mta4dpr.engines.engine import Engine
from mta4dpr.errors import UserError
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.machine.places import CACHE, DATA, INDEXES, MODELS
from mta4dpr.machine.work import ID_BYTES, Piece, Work
from mta4dpr.models.registry import hub_of
from mta4dpr.models.sizes import ModelSize, size_of_model
from mta4dpr.planning.sizes import UNPACKED, Sizes

if TYPE_CHECKING:
    from mta4dpr.retrieval.prebuilt import Prebuilt

READING = 150  # bytes in memory for a passage while the corpus store is made and its ids are sorted


class Needs:
    """What an experiment needs before its first stage."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.sizes = experiment, Sizes(experiment)

    @cached_property
    def engines(self) -> dict[str, Engine]:
        """The engines that it asks, by label: systems as they are, teachers, assistants, students before training."""
        experiment = self.experiment
        found = {system.label: experiment.engine(system) for system in experiment.systems if not system.recipe}
        for _, recipe in experiment.students:
            for label in (recipe.teacher, *recipe.assistants, recipe.student):
                found[label] = experiment.engine_of_role(label)
        return found

    def models(self) -> dict[str, ModelSpec]:
        """The models with weights that it reads, by label."""
        bench, systems = self.experiment.bench, {system.label: system.model for system in self.experiment.systems if not system.recipe}
        found = {label: bench.models[label] if label in bench.models else systems.get(label) for label in self.engines}
        return {label: model for label, model in found.items() if model and model.model}

    @cached_property
    def indexes(self) -> list[Prebuilt]:
        """The prebuilt indexes that it reads, each once."""
        wanted = {engine.prebuilt: engine for engine in self.engines.values() if engine.prebuilt}
        if not wanted:
            return []
        from mta4dpr.retrieval.prebuilt import find

        heap = self.experiment.bench.bm25.heap
        return [find(name, dense=engine.encodes, heap=heap) for name, engine in wanted.items()]

    def downloads(self) -> list[dict[str, Any]]:
        """Every file, model and index once: {"what", "bytes" (None: not known), "state", "from", "url"}."""
        rows: list[dict[str, Any]] = []
        for d in self.sizes.downloads:
            state = "unpacked" if d.is_unpacked and not d.path else "here" if d.here else "download"
            rows.append({"what": d.name, "bytes": d.bytes, "state": state, "from": d.host, "url": d.url})
        for prebuilt in self.indexes:
            state = "here" if prebuilt.folder else "download"
            rows.append({"what": prebuilt.name, "bytes": prebuilt.bytes, "state": state, "from": "Pyserini's prebuilt indexes"})
        return rows + self.model_downloads()

    def model_downloads(self) -> list[dict[str, Any]]:
        """Each model once: {"what", "bytes" (None: not known), "state", "from"}."""
        rows = {}
        for model in self.models().values():
            row: dict[str, Any] = {"what": model.model, "bytes": None, "state": "download", "from": hub_of(model.model)}
            size = _size(model)
            if size:
                row["bytes"] = size.bytes
                if size.place:
                    row |= {"state": "here", "from": size.where}
            rows[model.model] = row
        return list(rows.values())

    # --- as pieces of a plan -------------------------------------------------------------------------------------------

    def pieces(self) -> Iterator[Piece]:
        """What is brought before the first stage, and the corpus store."""
        offline = self.experiment.request.offline
        if isinstance(self.experiment.source, IrDataset):
            yield self._data(offline=offline)
        rows = self.model_downloads()
        if rows:
            yield self._models(rows, offline=offline)
        for prebuilt in self.indexes:
            yield self._prebuilt(prebuilt, offline=offline)
        for label, engine in self.engines.items():
            if engine.lacks():
                yield Piece(f"what {label} needs", "lacking", engine.lacks())
        yield self._corpus()

    def _data(self, *, offline: bool) -> Piece:
        downloads = self.sizes.downloads
        missing = [d for d in downloads if not d.here]
        if missing and offline:
            names = ", ".join(d.name for d in missing)
            note = f"{self.experiment.bench.corpus}: not downloaded yet ({names}), and --offline is given; `mta4dpr-bench fetch` brings it"
            return Piece("bring the data", "lacking", note)
        total = sum(d.bytes or 0 for d in missing)
        unpacked = sum((d.bytes or 0) * UNPACKED for d in downloads if d.unpacked and not d.is_unpacked)
        note = f"{len(missing)} of {len(downloads)} files" if missing else ""
        state = "download" if missing else "cached"
        return Piece("bring the data", state, note, {DATA: total + unpacked}, 0.2e9, (Work("download", total),))

    def _models(self, rows: list[dict[str, Any]], *, offline: bool) -> Piece:
        missing = [row for row in rows if row["state"] == "download"]
        nowhere = [row["what"] for row in missing if offline or not (row["bytes"] or "/" in row["what"])]
        if nowhere:
            way = "and --offline is given; `mta4dpr-bench fetch` brings it" if offline else "nor is it a name of the Hugging Face hub"
            return Piece("bring the models", "lacking", f"{', '.join(nowhere)}: not on this machine, {way}")
        total = sum(row["bytes"] or 0 for row in missing)
        unknown = [row["what"] for row in missing if row["bytes"] is None]
        note = f"{len(missing)} of {len(rows)} from the hub" if missing else ""
        note += f"; the size of {', '.join(unknown)} is not known here and not counted" if unknown else ""
        return Piece("bring the models", "download" if missing else "cached", note, {MODELS: total}, 0.2e9, (Work("download", total),))

    def _prebuilt(self, prebuilt: Prebuilt, *, offline: bool) -> Piece:
        """Pyserini keeps archive and index beside each other until it has unpacked the one."""
        name, note = f"bring {prebuilt.name}", f"Pyserini's, of {prebuilt.passages:,} passages"
        if prebuilt.folder:
            return Piece(name, "cached", note)
        if offline:
            return Piece(name, "lacking", f"{prebuilt.name}: not on this machine, and --offline is given; `mta4dpr-bench fetch` brings it")
        return Piece(name, "download", note, {INDEXES: 2.0 * prebuilt.bytes}, 0.3e9, (Work("download", prebuilt.bytes),))

    def _corpus(self) -> Piece:
        texts = self.sizes.texts
        note = f"{texts.passages:,} passages" + ("" if self.sizes.texts_are_counted else ", guessed from the bytes of its files")
        return Piece(
            "read the corpus",
            "cached" if self.experiment.place.stored_corpus else "to do",
            note,
            {CACHE: texts.bytes + texts.passages * (8 + 16 + 4 + ID_BYTES)},
            0.3e9 + READING * texts.passages,
            (Work("read", texts.bytes),),
        )


def _size(model: ModelSpec) -> ModelSize | None:
    try:
        return size_of_model(model)
    except UserError:
        return None
