"""Kept vectors: the same bytes however often the work was interrupted."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from mta4dpr.data.corpus import Corpus
from mta4dpr.data.tokens import TokenStore, tokens_of_corpus
from mta4dpr.errors import UserError
from mta4dpr.machine.files import key_of
from mta4dpr.models.encoder import Encoder
from mta4dpr.retrieval import vectors as vectors_module
from mta4dpr.retrieval.vectors import Encoding, Vectors, encode, forget, shard_starts, stored_vectors, vectors_folder, verify

HOW = Encoding(dtype="float32", token_budget=64, threads=2)
LONGEST = 32


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "SHARD_BATCHES", 4)


@pytest.fixture(scope="module")
def tokens(cache: Path, corpus: Corpus, encoder: Encoder) -> TokenStore:
    return tokens_of_corpus(cache, corpus, encoder.tokenizer, prefix="")


def bytes_of(vectors: Vectors) -> str:
    return hashlib.sha256((vectors.folder / "vectors.npy").read_bytes()).hexdigest()


def shards_of(folder: Path) -> int:
    return len(list((folder / "shards").glob("*.json")))


def dies_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    """The `call`-th call of that function is where the process is killed."""
    real, calls = getattr(owner, name), iter(range(1, 10_000))

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, dying)


@pytest.mark.parametrize(
    ("owner", "name", "call", "kept"),
    [
        (Encoder, "encode", 1, 0),
        (Encoder, "encode", 4, 3),  # while a shard is encoded
        (vectors_module, "write_json", 3, 2),  # its bytes are written, its checksum is not
        (np.lib.format, "write_array_header_1_0", 1, 0),  # before there is a whole header
    ],
)
def test_killed_and_started_again_gives_the_same_bytes(
    tmp_path: Path, encoder: Encoder, tokens: TokenStore, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, kept: int
) -> None:
    """Encoding MS MARCO takes days on a CPU: a kill costs one shard, and nobody can tell afterwards."""
    whole = encode(tmp_path / "whole", encoder, tokens, longest=LONGEST, how=HOW)
    assert shards_of(whole.folder) > 6
    with monkeypatch.context() as patch:
        dies_at(patch, owner, name, call)
        with pytest.raises(KeyboardInterrupt):
            encode(tmp_path / "cut", encoder, tokens, longest=LONGEST, how=HOW)
    folder = vectors_folder(tmp_path / "cut", encoder, tokens, LONGEST, HOW)
    assert stored_vectors(folder) is None
    assert shards_of(folder) == kept
    numbers: list[int] = []
    with monkeypatch.context() as patch:
        real = Encoder.encode
        patch.setattr(Encoder, "encode", lambda self, t, n, **how: (numbers.append(int(n[0])), real(self, t, n, **how))[1])
        cut = encode(tmp_path / "cut", encoder, tokens, longest=LONGEST, how=HOW)
    assert len(numbers) == shards_of(whole.folder) - kept
    assert bytes_of(cut) == bytes_of(whole)
    assert verify(cut) == []


def test_processes_that_encode_together_leave_the_bytes_of_one(
    tmp_path: Path, encoder: Encoder, tokens: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads stand for them: locks are held by open files. Each shard is encoded once, and both get all vectors."""
    whole = encode(tmp_path / "one", encoder, tokens, longest=LONGEST, how=HOW)
    real, numbers = Encoder.encode, []
    monkeypatch.setattr(Encoder, "encode", lambda self, t, n, **how: (numbers.append(int(n[0])), real(self, t, n, **how))[1])
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(encode, tmp_path / "two", encoder, tokens, longest=LONGEST, how=HOW) for _ in range(2)]
    assert [bytes_of(one.result()) for one in work] == [bytes_of(whole)] * 2
    assert len(numbers) == len(set(numbers)) == shards_of(whole.folder)


def test_the_usual_precision_keeps_the_key_that_vectors_had_before_there_were_others(encoder: Encoder, tokens: TokenStore) -> None:
    """Vectors of MS MARCO are not made again because of an option that nobody uses."""
    key = key_of([encoder.key, tokens.key, LONGEST, HOW.dtype, HOW.token_budget, HOW.threads, "cpu"])
    assert vectors_folder(Path(), encoder, tokens, LONGEST, HOW).name == key
    assert vectors_folder(Path(), encoder, tokens, LONGEST, replace(HOW, precision="bfloat16")).name != key


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_sixteen_bits_are_nearly_as_good_and_not_the_same(tmp_path: Path, encoder: Encoder, tokens: TokenStore, precision: str) -> None:
    """An option that changed nothing would be ignored silently."""
    exact = encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)
    lower = encode(tmp_path, encoder, tokens, longest=LONGEST, how=replace(HOW, precision=precision))
    np.testing.assert_allclose(lower.array, exact.array, atol=0.02)
    assert bytes_of(lower) != bytes_of(exact)


def test_vectors_that_were_deleted_are_all_made_again(tmp_path: Path, encoder: Encoder, tokens: TokenStore) -> None:
    """Checksums without the vectors they are of: trusting them would leave rows of zeros."""
    whole = encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)
    before = bytes_of(whole)
    (whole.folder / "vectors.npy").unlink()
    (whole.folder / "vectors.json").unlink()
    assert bytes_of(encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)) == before


def test_vectors_that_are_forgotten_are_all_made_again_and_stay_readable(
    tmp_path: Path, encoder: Encoder, tokens: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--redo encode` while another run searches them: its memory-mapped file must go on giving the same numbers."""
    first = encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)
    before, node, shards = bytes_of(first), (first.folder / "vectors.npy").stat().st_ino, shards_of(first.folder)
    forget(first.folder)
    assert stored_vectors(first.folder) is None
    assert (first.folder / "vectors.npy").stat().st_ino == node, "a file that is deleted and made anew has other bytes for who opens it now"
    encoded: list[int] = []
    plain = Encoder.encode

    def counted(self: Encoder, *args: Any, **kwargs: Any) -> np.ndarray:
        encoded.append(1)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode", counted)
    second = encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)
    assert len(encoded) == shards
    assert bytes_of(second) == before
    assert (np.asarray(first.array) == np.asarray(second.array)).all()
    assert stored_vectors(first.folder) is not None


def test_forgetting_waits_for_who_looks_at_the_folder(tmp_path: Path, encoder: Encoder, tokens: TokenStore) -> None:
    """Who compares checksums, or finishes the file, holds the folder's lock; records must not vanish under it."""
    folder = encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW).folder
    with ThreadPoolExecutor(1) as pool:
        with FileLock(str(folder) + ".lock"):
            forgetting = pool.submit(forget, folder)
            time.sleep(0.3)
            assert (folder / "vectors.json").exists()
            assert shards_of(folder) > 0
        forgetting.result(20)
    assert not (folder / "vectors.json").exists()
    assert shards_of(folder) == 0


def test_forgetting_what_is_damaged_or_not_there(tmp_path: Path, encoder: Encoder, tokens: TokenStore) -> None:
    """A file whose head is gone can be nobody's to read: it is made anew; of a folder that was never made nothing is left."""
    whole = encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)
    before = bytes_of(whole)
    (whole.folder / "vectors.npy").write_bytes(b"no array")
    forget(whole.folder)
    assert bytes_of(encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)) == before
    forget(tmp_path / "vectors" / "never")
    assert not (tmp_path / "vectors" / "never").exists()


def test_vectors_are_those_of_the_encoder(tmp_path: Path, encoder: Encoder, tokens: TokenStore) -> None:
    """Every row in its place; a shard written a row too far would still have the right checksum."""
    kept = encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)
    direct = encoder.encode(tokens, np.arange(len(tokens)), longest=LONGEST, token_budget=4096)
    np.testing.assert_allclose(np.asarray(kept.array), direct, atol=1e-6)
    np.testing.assert_array_equal(kept.rows(np.array([7, 3])), kept.array[[7, 3]])
    blocks = list(kept.blocks(50))
    assert [start for start, _ in blocks] == [0, 50, 100]
    np.testing.assert_array_equal(np.vstack([block for _, block in blocks]), kept.array)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_file_is_an_aligned_npy(tmp_path: Path, encoder: Encoder, tokens: TokenStore, dtype: str) -> None:
    """np.load is how anyone else reads it; rows that start off a 64-byte border made sums differ between reads."""
    kept = encode(tmp_path, encoder, tokens, longest=LONGEST, how=Encoding(dtype, 64, 2))
    loaded = np.load(kept.folder / "vectors.npy", mmap_mode="r")
    assert loaded.dtype == dtype
    assert loaded.shape == (len(tokens), encoder.dimensions)
    assert loaded.offset % 64 == 0  # type: ignore[attr-defined]
    assert kept.bytes == loaded.nbytes == (kept.folder / "vectors.npy").stat().st_size - loaded.offset  # type: ignore[attr-defined]
    assert kept.rows(np.array([0])).dtype == np.float32
    assert next(kept.blocks(5))[1].dtype == np.float32


def test_half_precision_is_rounded_once(tmp_path: Path, encoder: Encoder, tokens: TokenStore) -> None:
    """Encoding is in float32; only what is kept is rounded."""
    full = encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)
    half = encode(tmp_path, encoder, tokens, longest=LONGEST, how=Encoding("float16", 64, 2))
    np.testing.assert_array_equal(half.array, np.asarray(full.array, np.float16))
    assert half.folder != full.folder


def test_what_decides_the_bytes_is_in_the_key(tmp_path: Path, encoder: Encoder, tokens: TokenStore) -> None:
    """One folder for two settings would hand out the wrong vectors."""
    hows = [HOW, Encoding("float16", 64, 2), Encoding("float32", 128, 2), Encoding("float32", 64, 1)]
    folders = {vectors_folder(tmp_path, encoder, tokens, longest, how) for how in hows for longest in (16, 32)}
    assert len(folders) == 8


def test_a_flipped_bit_is_found_and_mended(
    tmp_path: Path, encoder: Encoder, tokens: TokenStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the shard that is broken is made again. A file that was touched, but is right, stays."""
    kept = encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)
    expected, path = bytes_of(kept), kept.folder / "vectors.npy"
    content = bytearray(path.read_bytes())
    path.write_bytes(content)
    assert stored_vectors(kept.folder) is not None
    starts = shard_starts(tokens.lengths(LONGEST), HOW.token_budget)
    content[kept.array.offset + int(starts[3]) * encoder.dimensions * 4] ^= 1  # type: ignore[attr-defined]
    path.write_bytes(content)
    assert verify(Vectors(kept.folder, np.load(path))) == [3]
    real, numbers = Encoder.encode, []
    monkeypatch.setattr(Encoder, "encode", lambda self, t, n, **how: (numbers.append(int(n[0])), real(self, t, n, **how))[1])
    assert bytes_of(encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)) == expected
    assert numbers == [int(starts[3])]
    assert "1 shards do not have the checksum" in caplog.text


@pytest.mark.parametrize("left", [0, 50, 1000])
def test_a_file_that_was_cut_off_is_made_again(tmp_path: Path, encoder: Encoder, tokens: TokenStore, left: int) -> None:
    """A copy of a cache that stopped in the middle, or a disk that lost its end."""
    expected = bytes_of(kept := encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW))
    os.truncate(kept.folder / "vectors.npy", left)
    assert bytes_of(encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)) == expected


@given(st.lists(st.integers(2, 512), max_size=200), st.integers(64, 2048))
def test_shards_are_a_function_of_lengths_and_budget(lengths: list[int], budget: int) -> None:
    """They cover all texts once, and each holds SHARD_BATCHES batches' worth of tokens, give or take a text."""
    array = np.array(lengths, np.int64)
    starts = shard_starts(array, budget)
    assert starts.tolist() == shard_starts(array.copy(), budget).tolist()
    assert (starts[0], starts[-1]) == (0, len(lengths))
    assert (np.diff(starts) > 0).all()
    full = vectors_module.SHARD_BATCHES * budget
    assert all(array[a:b].sum() < full + 2 * 512 for a, b in pairwise(starts))
    assert len(starts) - 1 <= array.sum() // full + 1


def test_what_is_no_number_is_refused(tmp_path: Path, tokens: TokenStore, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that diverged at its last step, or a type too narrow for a model: a search would leave such passages out in silence."""
    real = Encoder.encode

    def one_too_great(self: Encoder, *arguments: Any, **more: Any) -> np.ndarray:
        rows = real(self, *arguments, **more)
        rows[1, 0] = 1e6
        return rows

    monkeypatch.setattr(Encoder, "encode", one_too_great)
    encode(tmp_path, encoder, tokens, longest=LONGEST, how=HOW)
    with pytest.raises(UserError, match=r"found NaN or infinity in 1 of the \d+ texts from 0 on; dense.dtype float16 may be too narrow"):
        encode(tmp_path, encoder, tokens, longest=LONGEST, how=replace(HOW, dtype="float16"))
    monkeypatch.setattr(Encoder, "encode", lambda *a, **m: real(*a, **m) * np.nan)
    with pytest.raises(UserError, match=f"^{encoder.label}: .*look at its weights. Of a student, training has diverged"):
        encode(tmp_path / "nan", encoder, tokens, longest=LONGEST, how=HOW)
