"""How large the inputs of a run are, before they are read: passages, queries, models. Figures for needs.py; reads no collection through.

What has been read already is counted; what has not comes from ir_datasets' metadata, from the sizes of downloads and from what is
known of published models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

from mta4dpr.benchmark import ModelSpec
from mta4dpr.data.collection import IrDataset
from mta4dpr.data.corpus import Corpus, stored_corpus
from mta4dpr.data.downloads import Download, downloads_of
from mta4dpr.errors import UserError
from mta4dpr.files import read_json
from mta4dpr.models.files import find_model
from mta4dpr.models.registry import checkpoint_of, hub_of
from mta4dpr.models.transformer import LAYER_PARAMETERS, operations_of, shape_of, size_of
from mta4dpr.opened import Run

UNPACKED = 2.9  # bytes of text for a byte of archive: MS MARCO's 3.06 GB from 1.06, DPR's 13.8 from 4.7
TOKEN_BYTES = 4.5  # bytes of text for a token: 30,005 passages of MS MARCO 4.45, 2,600 of DPR's Wikipedia 4.55
PASSAGE_BYTES = 400  # where nothing at all is known
ID_BYTES = 8


@dataclass(frozen=True)
class Texts:
    """The passages. Without a count (0), nothing that depends on it can be said."""

    passages: int
    bytes: int  # of titles and texts

    @property
    def tokens(self) -> float:
        """Of an average passage, untruncated."""
        return self.bytes / TOKEN_BYTES / max(1, self.passages)

    def cut(self, length: int | None) -> float:
        """Tokens of an average passage that is read to that length, special ones included. Lengths vary, so this is a little much."""
        return min(self.tokens + 2, length or 512)


@dataclass(frozen=True)
class Network:
    """A transformer of which `layers` are kept."""

    parameters: int
    layers: int
    hidden: int
    tokenizer: str
    place: Path | None  # None: on the hub
    where: str
    bytes: int  # of its files, here or on the hub

    @property
    def operations(self) -> int:
        return operations_of(self.layers, self.hidden)

    @property
    def shape(self) -> str:
        return shape_of(self.layers, self.hidden)


class Sizes:
    """The sizes of one run's inputs, each looked up once."""

    def __init__(self, opened: Run) -> None:
        self._opened = opened
        self._networks: dict[str, Network | UserError] = {}
        self._stands_in = False  # whether the files here are of another size than the collection's

    @cached_property
    def corpus(self) -> Corpus | None:
        return stored_corpus(self._opened.cache, self._opened.source)

    @cached_property
    def downloads(self) -> list[Download]:
        """What ir_datasets fetches for the passages, the eval sets and, where there are students, the training queries."""
        opened = self._opened
        if not isinstance(opened.source, IrDataset):
            return []
        chosen = [eval_set.id for eval_set in opened.bench.eval_sets]
        sets = dict.fromkeys([*opened.every_eval_set, opened.bench.train] if self.trains else chosen)  # training avoids all eval sets
        return downloads_of([*opened.source.parts(), *(part for name in sets for part in opened.source.parts(name))])

    @property
    def trains(self) -> bool:
        return any(system.recipe for system in self._opened.systems)

    @cached_property
    def texts(self) -> Texts:
        if self.corpus:
            return Texts(len(self.corpus), (self.corpus.folder / "texts.bin").stat().st_size)
        source = self._opened.source
        count, expected = source.expected_passages() or 0, sum(d.bytes or 0 for d in self.downloads if d.passages) * UNPACKED
        kept = sum(size * (UNPACKED if str(path).endswith(".gz") else 1) for path, size, _ in source.files())
        kept = kept or sum(d.path.stat().st_size if d.path else d.bytes or 0 for d in self.downloads if d.passages) * UNPACKED
        if count and expected and not 0.8 < kept / expected < 1.25:  # a part of the collection, or another that stands in for it
            count = max(1, int(count * kept / expected))
            self._stands_in = True
        count = count or int(kept / PASSAGE_BYTES)
        return Texts(count, int(kept or count * PASSAGE_BYTES))

    @property
    def texts_are_counted(self) -> bool:
        return self.corpus is not None or (bool(self._opened.source.expected_passages()) and not self._stands_in)

    def queries(self, query_set: str) -> tuple[int, int]:
        """(queries, judgements that are positive) of an eval set or of the training set; (0, 0) where only reading them tells."""
        opened = self._opened
        if isinstance(opened.source, IrDataset):
            return opened.source.expected_queries(query_set)
        found = opened.train_set if query_set == opened.bench.train else opened.eval_sets[query_set]
        return len(found.texts), sum(map(len, found.qrels.values()))

    @cached_property
    def eval_queries(self) -> int:
        """Queries that are searched, over all eval sets."""
        limit = self._opened.request.limit
        counts = [self.queries(e.id)[0] for e in self._opened.bench.eval_sets]
        return sum(min(count, limit) if limit else count for count in counts)

    @cached_property
    def train_queries(self) -> tuple[int, int]:
        return self.queries(self._opened.bench.train)

    def network(self, spec: ModelSpec) -> Network:
        """UserError for a model that is neither here nor known."""
        key = spec.model_dump_json()
        if key not in self._networks:
            try:
                self._networks[key] = network_of(spec)
            except UserError as error:
                self._networks[key] = error
        found = self._networks[key]
        if isinstance(found, UserError):
            raise found
        return found


def network_of(spec: ModelSpec) -> Network:
    """From the model's own files, or from what is known of it. UserError for one that is neither here nor known."""
    if spec.untrained:
        layers, hidden = spec.untrained.get("layers", 2), spec.untrained.get("hidden", 64)
        parameters = LAYER_PARAMETERS * hidden**2 * layers + spec.untrained.get("vocabulary", 2000) * hidden
        return Network(parameters, layers, hidden, f"untrained {spec.model_dump_json()}", None, "random weights", 0)
    try:
        folder, where = find_model(spec.model, offline=True)
    except UserError:
        about = checkpoint_of(spec.model)
        if about is None:
            raise
        layers = len(spec.layers) if spec.layers else about.layers
        left_out = LAYER_PARAMETERS * about.dimensions**2 * (about.layers - layers)
        return Network(about.parameters - left_out, layers, about.dimensions, about.tokenizer, None, hub_of(spec.model), about.bytes)
    every, hidden = size_of(_config(folder))
    layers = len(spec.layers) if spec.layers else every
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) or sum(
        path.stat().st_size for path in folder.rglob("pytorch_model*.bin")
    )
    parameters = max(0, weights // 4 - LAYER_PARAMETERS * hidden**2 * (every - layers))
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Network(parameters, layers, hidden, tokenizer_key(folder), folder, where, total)


def _config(folder: Path) -> SimpleNamespace:
    """The transformer's configuration: at the top, or in the folder of sentence-transformers' first module."""
    for path in [folder / "config.json", *sorted(folder.glob("*/config.json"))]:
        if path.is_file():
            found = read_json(path)
            if "model_type" in found or "hidden_size" in found:
                return SimpleNamespace(**found)
    return SimpleNamespace()


def tokenizer_key(folder: Path) -> str:
    """The hash by which token stores know a model's tokenizer; the folder itself where there is no tokenizer.json."""
    import hashlib

    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # the library raises nothing more special; a model that cannot be read is told when it is loaded
        return str(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
