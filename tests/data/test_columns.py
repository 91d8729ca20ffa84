"""Arrays that grow on disk are what numpy would have saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mta4dpr.data.columns import Column, blocks, join


@pytest.mark.parametrize("sizes", [[], [0], [3], [1, 0, 999_999]])
@pytest.mark.parametrize("shape", [(), (5,)])
def test_a_column_is_what_numpy_saves(tmp_path: Path, sizes: list[int], shape: tuple[int, ...]) -> None:
    """Whatever the number of digits in the header, and however the rows came."""
    rows = [np.random.default_rng(n).integers(0, 99, (size, *shape)) for n, size in enumerate(sizes)]
    with Column(tmp_path / "column.npy", np.int32, *shape) as column:
        for block in rows:
            column.append(block)
    whole = np.concatenate([np.empty((0, *shape), np.int64), *rows]).astype(np.int32)
    np.save(tmp_path / "numpy.npy", whole)
    assert (tmp_path / "column.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_a_column_that_was_cut_off_has_no_rows(tmp_path: Path) -> None:
    """Its header says how many only at the end, so half a column is never taken for a whole one."""
    with pytest.raises(RuntimeError):
        with Column(tmp_path / "column.npy", np.int32) as column:
            column.append(np.arange(100_000))
            raise RuntimeError
    assert len(np.load(tmp_path / "column.npy")) == 0


def test_joined_pieces_are_their_concatenation(tmp_path: Path) -> None:
    parts = [np.arange(6, dtype=np.int32).reshape(2, 3), np.empty((0, 3), np.int32), np.arange(9, dtype=np.int32).reshape(3, 3)]
    for n, part in enumerate(parts):
        np.save(tmp_path / f"{n}.npy", part)
    join(tmp_path / "whole.npy", [tmp_path / f"{n}.npy" for n in range(3)])
    found = np.load(tmp_path / "whole.npy", mmap_mode="r")
    np.testing.assert_array_equal(found, np.concatenate(parts))
    assert found.offset % 64 == 0


def test_blocks_cover_every_row_once() -> None:
    assert [range(10)[block] for block in blocks(10, 4)] == [range(0, 4), range(4, 8), range(8, 10)]
    assert list(blocks(0, 4)) == []
