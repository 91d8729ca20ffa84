"""Stages that bring data and models, and make of the texts what all systems read: corpus store, Lucene index, token stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mta4dpr.benchmark import ModelSpec
from mta4dpr.data.collection import IrDataset
from mta4dpr.errors import UserError
from mta4dpr.models.registry import checkpoint_of
from mta4dpr.places import CACHE, DATA, INDEXES, MODELS
from mta4dpr.planning.sizes import ID_BYTES, UNPACKED
from mta4dpr.planning.stage import PYTHON, Part, Stage, Work

if TYPE_CHECKING:
    from mta4dpr.retrieval.prebuilt import Prebuilt

LUCENE_SHARE = 0.75  # bytes of a Lucene index for a byte of text
READING = 150  # bytes in memory for a passage while the corpus store is made and its ids are sorted


class DataStages(Part):
    """What comes before any model reads a passage."""

    def fetching(self) -> Iterator[Stage]:
        opened, offline = self.opened, self.opened.request.offline
        missing = [d for d in self.sizes.downloads if not d.here]
        if isinstance(opened.source, IrDataset):
            total = sum(d.bytes or 0 for d in missing)
            unpacked = sum((d.bytes or 0) * UNPACKED for d in self.sizes.downloads if d.unpacked and not d.is_unpacked)
            names = ", ".join(d.name for d in missing)
            if missing and offline:
                yield Stage(
                    "bring the data",
                    "lacking",
                    f"{opened.bench.corpus}: not downloaded yet ({names}), and --offline is given; `mta4dpr-bench fetch` brings it",
                )
            else:
                note = f"{len(missing)} of {len(self.sizes.downloads)} files" if missing else ""
                state = "download" if missing else "cached"
                yield Stage("bring the data", state, note, {DATA: total + unpacked}, 0.2e9, [Work("download", total)])
        rows = self.needs.model_downloads()
        missing_models = [row for row in rows if row["state"] == "download"]
        nowhere = [row["what"] for row in missing_models if offline or not (row["bytes"] or "/" in row["what"])]
        if nowhere:
            way = "and --offline is given; `mta4dpr-bench fetch` brings it" if offline else "nor is it a name of the Hugging Face hub"
            yield Stage("bring the models", "lacking", f"{', '.join(nowhere)}: not on this machine, {way}")
        elif rows:
            total = sum(row["bytes"] or 0 for row in missing_models)
            unknown = [row["what"] for row in missing_models if row["bytes"] is None]
            note = f"{len(missing_models)} of {len(rows)} from the hub" if missing_models else ""
            note += f"; the size of {', '.join(unknown)} is not known here and not counted" if unknown else ""
            state = "download" if missing_models else "cached"
            yield Stage("bring the models", state, note, {MODELS: total}, 0.2e9, [Work("download", total)])
        for prebuilt in {prebuilt.name: prebuilt for prebuilt in self.needs.indexes.values()}.values():
            yield self._prebuilt(prebuilt, offline=offline)

    def _prebuilt(self, prebuilt: Prebuilt, *, offline: bool) -> Stage:
        """Pyserini keeps archive and index beside each other until it has unpacked the one."""
        name, note = f"bring {prebuilt.name}", f"Pyserini's, of {prebuilt.passages:,} passages"
        if prebuilt.folder:
            return Stage(name, "cached", note)
        if offline:
            return Stage(name, "lacking", f"{prebuilt.name}: not on this machine, and --offline is given; `mta4dpr-bench fetch` brings it")
        return Stage(name, "download", note, {INDEXES: 2.0 * prebuilt.bytes}, 0.3e9, [Work("download", prebuilt.bytes)])

    def corpus(self) -> Stage:
        texts = self.texts
        note = f"{texts.passages:,} passages" + ("" if self.sizes.texts_are_counted else ", guessed from the bytes of its files")
        return Stage(
            "read the corpus",
            "cached" if self.sizes.corpus else "to do",
            note,
            {CACHE: texts.bytes + texts.passages * (8 + 16 + 4 + ID_BYTES)},
            0.3e9 + READING * texts.passages,
            [Work("read", texts.bytes)],
        )

    def bm25(self) -> Stage:
        from mta4dpr.retrieval.bm25 import index_folder
        from mta4dpr.retrieval.java import find_java

        name = "index for BM25"
        try:
            java = find_java()
        except UserError as error:
            return Stage(name, "lacking", str(error))
        if "bm25" in self.needs.indexes:
            own = self._bm25_index(f"Java {java.version}", "to do")
            return Stage(name, "prebuilt", f"Pyserini's {self.needs.indexes['bm25'].name}", instead_of=own)
        corpus = self.sizes.corpus
        cached = corpus is not None and (index_folder(self.opened.cache, corpus) / "mta4dpr.json").exists()
        return self._bm25_index(f"Java {java.version}", "cached" if cached else "to do")

    def _bm25_index(self, note: str, state: str) -> Stage:
        return Stage(
            "index for BM25",
            state,
            note,
            {CACHE: LUCENE_SHARE * self.texts.bytes},
            0.3e9 + self.heap(),
            [Work("index", self.texts.passages)],
        )

    def tokens(self, specs: dict[str, ModelSpec]) -> Iterator[Stage]:
        """A token store for each tokenizer and prefix; a model that is unknown counts for nothing."""
        stores: dict[tuple[str, str], list[str]] = {}
        for label, spec in specs.items():
            try:
                network = self.sizes.network(spec)
            except UserError:
                continue
            known = checkpoint_of(spec.model)
            prefix = spec.passage_prefix if spec.passage_prefix is not None else (known and known.passage_prefix) or ""
            stores.setdefault((network.tokenizer, prefix), []).append(label)
        texts = self.texts
        tokens = texts.tokens * texts.passages
        for (tokenizer, prefix), labels in stores.items():
            done = all(self.is_over(label) for label in labels)
            yield Stage(
                f"tokenise for {', '.join(dict.fromkeys(labels))}",
                "cached" if self._has_tokens(tokenizer, prefix) else "done" if done else "to do",
                f"about {texts.tokens:.0f} tokens a passage",
                {CACHE: 2 * tokens + 8 * texts.passages},
                PYTHON + 24 * texts.passages,
                [Work("tokenise", tokens)],
            )

    def _has_tokens(self, tokenizer: str, prefix: str) -> bool:
        if self.sizes.corpus is None:
            return False
        wanted = {"text_hash": self.sizes.corpus.text_hash, "tokenizer_hash": tokenizer, "prefix": prefix}
        return any(about.items() >= wanted.items() for _, about in self.kept("tokens/*/tokens.json"))
