"""An engine whose hits a test gives, by query text: [(passage number, score), ...]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mta4dpr.engines.engine import Engine
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.retrieval.hits import Hits


class Given(Engine):
    """The same hits in every process; `asked` are the queries and numbers of hits of each search."""

    hits: ClassVar[dict[str, list[tuple[int, float]]]] = {}
    asked: ClassVar[list[tuple[list[str], int]]] = []
    index: ClassVar[bool] = False
    together: ClassVar[bool] = False
    found: ClassVar[dict[str, Any]] = {}

    @property
    def identity(self) -> Any:
        return ["given", dict(self.hits)]

    def search(self, queries: Sequence[str], k: int) -> Iterator[Hits]:
        self.asked.append((list(queries), k))
        for query in queries:
            passages, scores = np.full((1, k), -1, np.int32), np.full((1, k), -np.inf, np.float32)
            for place, (passage, score) in enumerate(self.hits.get(query, [])[:k]):
                passages[0, place], scores[0, place] = passage, score
            yield Hits(passages, scores)

    @property
    def bytes(self) -> int:
        return 123

    @property
    def is_shared(self) -> bool:
        return self.together

    @property
    def is_encoded_together(self) -> bool:
        return self.together

    def quality(self, queries: Sequence[str], k: int) -> dict[str, Any]:
        return {**self.found, "asked": [list(queries), k]} if self.found else {}

    @property
    def leaves_index(self) -> bool:
        return self.index

    def write_index(self, folder: Path) -> None:
        write_json(folder / "index.json", self.hits)
        write_json(folder / "docid.json", [])

    def search_part(self, queries: Sequence[str], first: int, k: int, folder: Path, *, part: int, parts: int) -> None:
        write_json(folder / f"{part}.json", [list(queries), first, k, part, parts])

    def merged_parts(self, first: int, k: int, folder: Path, *, parts: int) -> Iterator[Hits]:
        texts = read_json(folder / "0.json")[0]
        yield from self.search(texts[:first], k)
