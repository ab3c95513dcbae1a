"""Ids that occur more than once in a whole survey, found out of core by their 64-bit hashes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.flags import COLUMN, Flag

HASH = np.dtype("<u8")
_WORD = 8
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(_WORD + 1)], dtype=np.uint64)


@dataclass(frozen=True)
class HashRuns:
    """Sorted runs of id hashes, one behind the other in one file.

    Parameters
    ----------
    path : Path
        Raw little-endian uint64.
    lengths : tuple of int
        Hashes in each run.
    """

    path: Path
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Duplicates:
    """Sorted hashes of ids that occur more than once, and the rows that carry them."""

    hashes: NDArray[np.uint64]
    rows: int


def hash_ids(ids: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """64-bit hashes of ids, and which of them are not null.

    Integers go through the finaliser of splitmix64, a bijection: equal hashes mean equal ids. Other types are
    hashed as text, eight bytes at a time through the same finaliser; two different texts share a hash with
    probability 2**-64.

    Parameters
    ----------
    ids : pa.Array or pa.ChunkedArray, length n
        Integers, text, or anything that Arrow can cast to text.

    Returns
    -------
    hashes : ndarray of uint64, shape (n,)
        Of no meaning where the id is null.
    valid : ndarray of bool, shape (n,)

    References
    ----------
    Steele, Lea & Flood 2014, OOPSLA, Figure 9 (the mixing function of splitmix64).
    """
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    valid = ids.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_integer(ids.type):
        values = pc.fill_null(ids, 0).to_numpy(zero_copy_only=False)
        return _mix(values.astype(np.int64, copy=False).view(np.uint64)), valid
    return _hash_text(ids.cast(pa.large_string())), valid


def hash_ranges(total: int, at_once: int) -> list[tuple[int, int]]:
    """Ranges (first, last inclusive) of the space of hashes that hold about `at_once` of `total` each."""
    parts = max(1, -(-total // at_once))
    edges = [(part << 64) // parts for part in range(parts + 1)]
    return [(low, high - 1) for low, high in itertools.pairwise(edges)]


def duplicates_in_range(bounds: tuple[int, int], runs: Sequence[HashRuns]) -> Duplicates:
    """Hashes within `bounds` (both inclusive) that occur more than once over all files.

    Memory is that of one range: the files are memory-mapped and every run gives only its slice, each value at
    most twice, so that an id repeated a billion times does no harm.
    """
    slices = [piece for file in runs for piece in _slices(file, bounds)]
    pieces = [_at_most_twice(piece) for piece in slices]
    merged = np.concatenate(pieces) if pieces else np.empty(0, dtype=HASH)
    del pieces
    merged.sort()
    repeated = np.unique(merged[1:][merged[1:] == merged[:-1]])
    rows = 0
    if len(repeated):
        rows = sum(
            int((np.searchsorted(piece, repeated, "right") - np.searchsorted(piece, repeated, "left")).sum())
            for piece in slices
        )
    return Duplicates(repeated, rows)


def write_hashes(path: Path, hashes: Iterable[NDArray[np.uint64]]) -> None:
    """Write arrays of hashes one behind the other."""
    with path.open("wb") as stream:
        for part in hashes:
            stream.write(part.astype(HASH, copy=False).tobytes())


def map_hashes(path: Path) -> NDArray[np.uint64]:
    """Memory-map a file of hashes; an empty file gives an empty array."""
    if path.stat().st_size == 0:
        return np.empty(0, dtype=HASH)
    return np.memmap(path, dtype=HASH, mode="r")


def flag_duplicates(table: pa.Table, id_column: str, duplicates: NDArray[np.uint64]) -> pa.Table:
    """Set ``Flag.DUPLICATE_ID`` on the rows whose id's hash is among the sorted `duplicates`."""
    if not len(duplicates) or not table.num_rows:
        return table
    hashes, valid = hash_ids(table[id_column])
    place = np.minimum(np.searchsorted(duplicates, hashes), len(duplicates) - 1)
    repeated = valid & (duplicates[place] == hashes)
    if not repeated.any():
        return table
    flags = table[COLUMN].to_numpy() | np.where(repeated, np.int32(Flag.DUPLICATE_ID), np.int32(0))
    index = table.schema.get_field_index(COLUMN)
    return table.set_column(index, table.schema.field(index), pa.array(flags, type=pa.int32()))


def _slices(file: HashRuns, bounds: tuple[int, int]) -> list[NDArray[np.uint64]]:
    hashes = map_hashes(file.path)
    ends = np.cumsum(file.lengths, dtype=np.int64)
    low, high = np.uint64(bounds[0]), np.uint64(bounds[1])
    found = []
    for start, end in zip(ends - np.asarray(file.lengths, dtype=np.int64), ends, strict=True):
        run = hashes[start:end]
        found.append(run[np.searchsorted(run, low, "left") : np.searchsorted(run, high, "right")])
    return found


def _at_most_twice(run: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if len(run) < 3:
        return run
    return np.concatenate([run[:2], run[2:][run[2:] != run[:-2]]])


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _hash_text(text: pa.LargeStringArray) -> NDArray[np.uint64]:
    _, offset_buffer, data_buffer = text.buffers()
    if len(text) == 0 or offset_buffer is None:
        return np.empty(0, dtype=np.uint64)
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[text.offset : text.offset + len(text) + 1]
    start, length = offsets[:-1], np.diff(offsets)
    hashes = _mix(length.astype(np.uint64))
    if data_buffer is None:
        return hashes
    # Every place of the text read as one unaligned 8-byte word; the padding keeps the last word inside.
    data = np.concatenate([np.frombuffer(data_buffer, dtype=np.uint8), np.zeros(_WORD, dtype=np.uint8)])
    words = np.ndarray(shape=(len(data) - _WORD + 1,), dtype=HASH, buffer=data.data, strides=(1,))
    for done in range(0, int(length.max()), _WORD):
        rows = np.flatnonzero(length > done)
        word = words[start[rows] + done] & _MASKS[np.minimum(length[rows] - done, _WORD)]
        hashes[rows] = _mix(hashes[rows] ^ word)
    return hashes
