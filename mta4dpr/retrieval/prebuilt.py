"""Pyserini's prebuilt indexes, by the names of its own registry and in its own cache: Lucene's for BM25, flat FAISS ones for vectors.

Pyserini brings an index and compares its checksum. A flat index holds the vectors of a whole corpus: they are copied into the
corpus's own order once, and serve search, mining and teacher scores as if they had been encoded here.
"""

from __future__ import annotations

import logging
import os
import sys
import tarfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.options import Bm25Settings
from mta4dpr.data.corpus import Corpus
from mta4dpr.data.tokens import TokenStore
from mta4dpr.errors import EnvironmentLack, UserError, nearest
from mta4dpr.machine.files import key_of, lack_of_disk
from mta4dpr.machine.kept import changed, is_sealed, seal
from mta4dpr.machine.locks import lock_beside
from mta4dpr.machine.progress import bar
from mta4dpr.models.encoder import Encoder
from mta4dpr.retrieval import java
from mta4dpr.retrieval.lucene import LuceneIndex
from mta4dpr.retrieval.vectors import Encoding, Vectors, finish, record_shards, stored_vectors

log = logging.getLogger(__name__)

PREFIX = "prebuilt:"
COPY_BLOCK = 65_536  # vectors copied at once
MOST_LACKING = 0.001  # of the corpus: DPR's Wikipedia indexes lack 4 of 21,015,324 passages
KNOWN_TERMS = 0.95  # of a sample's terms; other stemmers and languages share less
SAMPLE, SAME_MODEL = 16, 0.95  # passages that are encoded to see whether an index is of this model; least mean cosine
SAME_LENGTH = 0.1  # by how much of its length the median vector may differ


@dataclass(frozen=True)
class Prebuilt:
    """An entry of Pyserini's registry. `bytes` are those of the archive that is downloaded."""

    name: str
    md5: str
    bytes: int
    passages: int

    @property
    def folder(self) -> Path | None:
        """Where Pyserini keeps it; None while it is not there."""
        from pyserini.util import check_downloaded, get_cache_home

        return next(Path(get_cache_home(), "indexes").glob(f"*.{self.md5}"), None) if check_downloaded(self.name) else None


def find(index: str, *, dense: bool, heap: str) -> Prebuilt:
    """The entry that `index` (prebuilt:NAME) names. UserError for a name that Pyserini does not know, or of the other kind.

    It starts the JVM, of which a process has one, so `heap` is that of all that follows.
    """
    java.start(heap)  # Pyserini reads its list of Lucene indexes out of Anserini's jar
    from pyserini.prebuilt_index_info import FAISS_INDEX_INFO, TF_INDEX_INFO

    name = index.removeprefix(PREFIX)
    wanted, other = (FAISS_INDEX_INFO, TF_INDEX_INFO) if dense else (TF_INDEX_INFO, FAISS_INDEX_INFO)
    if name not in wanted:
        kind = "flat FAISS index" if dense else "Lucene index for BM25"
        found = "one of the other kind" if name in other else "no such name"
        raise UserError(f"expected the name of a {kind} that Pyserini has prebuilt, found {found}: {name!r}{nearest(name, list(wanted))}")
    about = wanted[name]
    return Prebuilt(name, about["md5"], int(about.get("size") or 0), int(about["documents"]))


def bring(prebuilt: Prebuilt, cache: Path, *, offline: bool) -> Path:
    """Its folder, downloaded by Pyserini where it is not there yet. EnvironmentLack when it cannot be had or is damaged.

    Pyserini compares the archive alone. What was in it when it was first seen here is noted below `cache`, and compared from then on.
    """
    from pyserini.util import download_prebuilt_index, get_cache_home

    home = Path(get_cache_home(), "indexes")
    with lock_beside(home / f".{prebuilt.md5}"):
        found, sums = prebuilt.folder, cache / "prebuilt" / prebuilt.md5
        if found:
            return _unchanged(found, sums)
        if offline:
            raise EnvironmentLack(f"Pyserini's index {prebuilt.name} is not in {home} yet, and --offline is given; fetch it with a network")
        log.info("Pyserini's index %s: %.1f GB are downloaded", prebuilt.name, prebuilt.bytes / 1e9)
        try:
            with redirect_stdout(sys.stderr):
                return _unchanged(Path(download_prebuilt_index(prebuilt.name, verbose=False)), sums)
        except (AssertionError, ValueError, OSError, tarfile.TarError) as error:
            reason = " ".join(str(error).split())[:300]
            raise EnvironmentLack(
                f"Pyserini could not bring its index {prebuilt.name} ({reason}); check the network and the space in {home} "
                "(PYSERINI_CACHE chooses another folder), then run the same command again"
            ) from error


def _unchanged(folder: Path, sums: Path) -> Path:
    if not is_sealed(sums):
        seal(folder, into=sums)
    broken = changed(folder, sums=sums)
    if broken:
        raise EnvironmentLack(
            f"expected Pyserini's index in {folder} to be what it was when first used, found other bytes in {', '.join(broken[:3])}; "
            f"delete that folder, and it is downloaded again (or delete {sums}, if it was changed on purpose)"
        )
    return folder


def check_lucene(prebuilt: Prebuilt, corpus: Corpus, *, not_indexed: int) -> None:
    """UserError for an index that lacks passages which have a text: it would be taken for a worse ranking.

    `not_indexed` is the number of the corpus's passages that the index does not hold.
    """
    lacking = not_indexed - corpus.empty
    if lacking > MOST_LACKING * len(corpus):
        raise UserError(
            f"{prebuilt.name}: expected a Lucene index of this corpus's {len(corpus):,} passages, found one that lacks {lacking:,} "
            "of those that have a text; choose another index"
        )


def check_terms(prebuilt: Prebuilt, index: LuceneIndex, settings: Bm25Settings) -> None:
    """UserError for an index whose terms another analyzer made: queries would find little of what they mean."""
    step = max(1, len(index.corpus) // SAMPLE)
    known = index.known_terms(range(0, len(index.corpus), step)[:SAMPLE])
    log.info("%s: it has %.1f %% of the terms of %d passages", prebuilt.name, 100 * known, SAMPLE)
    if known < KNOWN_TERMS:
        terms = settings.of_terms() or {"language": settings.language}
        options = ", ".join(f"bm25.{name} {value}" for name, value in terms.items())
        raise UserError(
            f"{prebuilt.name} was made by another analyzer than {options}: expected that it has at least {KNOWN_TERMS:.0%} of the terms "
            f"of this corpus's passages, found {known:.1%}; set bm25.language, bm25.analyzer or bm25.stemmer to what made it, or choose "
            "another index"
        )


def vectors_of(
    cache: Path, prebuilt: Prebuilt, folder: Path, *, corpus: Corpus, encoder: Encoder, tokens: TokenStore, how: Encoding
) -> Vectors:
    """The vectors of a flat index in the corpus's order; the few passages that it lacks are encoded here.

    UserError for an index of another kind, of other passages, or of another model.
    """
    place = cache / "vectors" / key_of(["prebuilt", prebuilt.name, prebuilt.md5, corpus.text_hash, how.dtype, encoder.key])
    with lock_beside(place.with_name(f"{place.name}.copy")):
        found = stored_vectors(place)
        if found is None:
            place.mkdir(parents=True, exist_ok=True)
            _copy(place, _flat_index(prebuilt, folder), prebuilt, folder, corpus=corpus, encoder=encoder, tokens=tokens, how=how)
            found = stored_vectors(place)
    assert found is not None
    return found


def _flat_index(prebuilt: Prebuilt, folder: Path) -> Any:
    import faiss

    try:
        index = faiss.read_index(str(folder / "index"), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise UserError(f"{folder / 'index'} is not a FAISS index ({' '.join(str(error).split())[-160:]})") from error
    if not isinstance(index, faiss.IndexFlat) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise UserError(f"{prebuilt.name}: expected a flat index of inner products, found {type(index).__name__}; choose another index")
    return index


def _copy(
    place: Path, index: Any, prebuilt: Prebuilt, folder: Path, *, corpus: Corpus, encoder: Encoder, tokens: TokenStore, how: Encoding
) -> None:
    if not (folder / "docid").is_file():
        raise UserError(f"{prebuilt.name}: expected the files index and docid in {folder}, found no docid; choose another index")
    if index.d != encoder.dimensions:
        raise UserError(f"{prebuilt.name}: expected vectors of {encoder.dimensions} dimensions for {encoder.label}, found {index.d}")
    path, seen = place / "vectors.npy", np.zeros(len(corpus), bool)
    aside = path.with_name(".vectors.part")
    try:
        array = np.lib.format.open_memmap(aside, mode="w+", dtype=how.dtype, shape=(len(corpus), index.d))
        with open(aside, "r+b") as whole:  # a memory map over a full disk would kill the process
            os.posix_fallocate(whole.fileno(), 0, aside.stat().st_size)
        with open(folder / "docid", encoding="utf-8") as file, bar(index.ntotal, f"copy {prebuilt.name}", "vectors") as shown:
            start = 0
            for block in batched(file, COPY_BLOCK):
                numbers = corpus.numbers([line.rstrip("\n") for line in block])
                if (numbers < 0).any():
                    stranger = block[int(np.flatnonzero(numbers < 0)[0])].strip()
                    raise UserError(
                        f"{prebuilt.name} is an index of other passages: {stranger!r} is not in this corpus; choose another index"
                    )
                vectors = index.reconstruct_n(start, min(len(block), index.ntotal - start))
                if len(vectors) < len(block):
                    raise UserError(
                        f"{prebuilt.name}: expected as many ids as vectors, found {index.ntotal:,} vectors and more ids; "
                        f"delete {folder}, and it is downloaded again"
                    )
                if not np.isfinite(vectors).all():
                    raise UserError(f"{prebuilt.name} holds vectors that are NaN or infinite; delete {folder}, and it is downloaded again")
                array[numbers] = vectors
                seen[numbers] = True
                start += len(block)
                shown.advance(len(block))
        lacking = np.flatnonzero(~seen)
        if start != index.ntotal or len(lacking) > MOST_LACKING * len(corpus):
            raise UserError(
                f"{prebuilt.name}: expected the vectors of {len(corpus):,} passages, found {index.ntotal:,} vectors and {start:,} ids, "
                f"{len(lacking):,} passages without one; choose another index"
            )
        _check_model(array, prebuilt, encoder, tokens, np.flatnonzero(seen)[:: max(1, int(seen.sum()) // SAMPLE)][:SAMPLE])
        if len(lacking):
            log.info("%s lacks %d passages; they are encoded here", prebuilt.name, len(lacking))
            array[lacking] = encoder.encode(tokens, lacking, longest=encoder.reading.passage_length, token_budget=how.token_budget)
        array.flush()
        del array
        aside.replace(path)
    except OSError as error:
        raise lack_of_disk(error, path) from error
    finally:
        aside.unlink(missing_ok=True)
    record_shards(place, COPY_BLOCK)
    longest = encoder.reading.passage_length
    finish(place, encoder, tokens, longest=longest, how=how, prebuilt=prebuilt.name, md5=prebuilt.md5)


def _check_model(array: np.ndarray, prebuilt: Prebuilt, encoder: Encoder, tokens: TokenStore, numbers: np.ndarray) -> None:
    """An index made by another model, or from otherwise read texts, would give scores that mean nothing."""
    own = encoder.encode(tokens, numbers, longest=encoder.reading.passage_length, token_budget=8192)
    kept = np.asarray(array[numbers], np.float32)
    lengths = np.linalg.norm(own, axis=1), np.linalg.norm(kept, axis=1)
    cosine = float(((own * kept).sum(axis=1) / (lengths[0] * lengths[1] + 1e-12)).mean())
    log.info("%s: mean cosine %.4f between its vectors and those of %s, of %d passages", prebuilt.name, cosine, encoder.label, len(numbers))
    if not cosine >= SAME_MODEL:  # NaN is not, either
        raise UserError(
            f"{prebuilt.name} does not hold the vectors of {encoder.label}: expected a mean cosine of at least {SAME_MODEL}, found "
            f"{cosine:.3f} over {len(numbers)} passages; choose the index of this model, or leave out index"
        )
    times = float(np.median(lengths[1] / (lengths[0] + 1e-12)))
    if abs(times - 1) > SAME_LENGTH:  # one of them is normalised: another ranking
        raise UserError(
            f"{prebuilt.name}: expected vectors as long as those of {encoder.label}, found them {times:.3g} times as long; set "
            "normalize of the model as the index was made, or leave out index"
        )
