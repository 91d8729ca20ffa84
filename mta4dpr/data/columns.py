"""Arrays on disk that grow: a .npy file written a block of rows at a time, and one joined of pieces. Neither is ever in memory.

What is written is read by np.load(path, mmap_mode="r").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from mta4dpr.machine.files import forget_parts, written_aside

CUT_OFF = (OSError, ValueError, EOFError, KeyError)  # what numpy and json raise for a file that is absent, empty or too short


class Column:
    """A .npy file that rows are appended to, at a path or open for writing. Its header says how many when the block ends.

    with Column(path, np.int32, 200) as column:   # (rows, 200)
        column.append(rows)
    """

    def __init__(self, place: Path | IO[bytes], dtype: Any, *shape: int) -> None:
        self._place, self.dtype, self.shape, self.rows = place, np.dtype(dtype), shape, 0

    def __enter__(self) -> Self:
        self._file = open(self._place, "wb") if isinstance(self._place, Path) else self._place
        self._write_header()
        return self

    def append(self, rows: np.ndarray) -> None:
        """Writes rows below those that are there, (rows, *shape), converted to the column's type."""
        assert rows.shape[1:] == self.shape, (rows.shape, self.shape)
        self._file.write(np.ascontiguousarray(rows, self.dtype).data)
        self.rows += len(rows)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._file.seek(0)
            self._write_header()
        if isinstance(self._place, Path):
            self._file.close()

    def _write_header(self) -> None:
        """numpy leaves room in it for the digits of a larger first dimension, so its length stays the same."""
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.rows, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


def join(path: Path, pieces: Sequence[Path]) -> None:
    """Joins .npy files of equal type along their first dimension; `path` appears when it is whole; nobody else may write it."""
    first = np.load(pieces[0], mmap_mode="r")
    rows = sum(len(np.load(piece, mmap_mode="r")) for piece in pieces)
    header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": (rows, *first.shape[1:])}
    forget_parts(path)
    with written_aside(path, binary=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(np.load(piece)).data)


def blocks(length: int, size: int) -> Iterable[slice]:
    """The slices of `size` that cover `length` rows."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
