"""The spilled batches of an import as the reduce half reads them: memory-mapped, by their place on the sky."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog import atomic
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.spill import SpillFiles, SpillRecord

_INDEX_FILE = "index.npy"
Rows = NDArray[np.int64]


def write_index(records: Sequence[SpillRecord], spill_dir: Path) -> None:
    """Note source, number, first and last sky key of every batch, in the order of the sources."""
    spans = [
        (record.file_number, number, span.first, span.last)
        for record in sorted(records, key=lambda one: one.file_number)
        for number, span in enumerate(record.batches)
    ]
    with atomic.atomic_write(spill_dir / _INDEX_FILE) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.array(spans, dtype=np.int64).reshape(-1, 4))


class SpilledBatches:
    """The batches of all sources of an import.

    A place is (source, number of the batch in it). One file is open at a time, because there may be thousands.
    """

    def __init__(self, spill_dir: Path) -> None:
        self._spill_dir = spill_dir
        self._index: Rows = np.load(spill_dir / _INDEX_FILE)

    def overlapping(self, pixel: Pixel) -> Rows:
        """Places, int64 (n, 2), of the batches that may hold rows of a pixel."""
        return self._index[(self._index[:, 2] < pixel.last) & (self._index[:, 3] >= pixel.first), :2]

    def cut(self, places: Rows, pixel: Pixel) -> Iterator[pa.RecordBatch]:
        """Copies of the pixel's rows of each batch."""
        for batch in self._opened(places):
            start, stop = np.searchsorted(batch.column(0).to_numpy(), [pixel.first, pixel.last])
            columns = [_copy(column.slice(start, stop - start)) for column in batch.columns]
            yield pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def keys(self, places: Rows, pixel: Pixel) -> Iterator[tuple[int, Rows]]:
        """Of each batch, the first row that is in the pixel, and the sky keys of all that are."""
        for batch in self._opened(places):
            keys = batch.column(0).to_numpy()
            start, stop = np.searchsorted(keys, [pixel.first, pixel.last])
            yield int(start), keys[start:stop].copy()

    def take(self, places: Rows, rows: Sequence[Rows]) -> Iterator[pa.RecordBatch]:
        """Copies of some rows of each batch."""
        for batch, chosen in zip(self._opened(places), rows, strict=True):
            yield batch.take(pa.array(chosen))

    def _opened(self, places: Rows) -> Iterator[pa.RecordBatch]:
        """Batches whose memory is that of the file, good until the next one is asked for."""
        for source, batches in groupby(places.tolist(), key=lambda place: place[0]):
            with SpillFiles.of(self._spill_dir, source).rows.open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped)))
            for _, number in batches:
                yield reader.get_batch(number)
                # Pages once touched would otherwise count as this process's memory until the file is closed.
                mapped.madvise(mmap.MADV_DONTNEED)


def _copy(array: pa.Array) -> pa.Array:
    return pa.concat_arrays([array, array.slice(0, 0)])
