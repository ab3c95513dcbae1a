"""One partition of spectra, gathered from the spilled batches a row group at a time.

The sky keys of a partition fit in memory and give the order of its rows; the spectra need not fit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.ordering import runs_of, stable_order
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.spilled import SpilledBatches

Rows = NDArray[np.int64]


class Slabs:
    """The rows of one partition in their order along the sky.

    Parameters
    ----------
    pixel : Pixel
    batches : SpilledBatches
        What was spilled.
    """

    def __init__(self, pixel: Pixel, batches: SpilledBatches) -> None:
        self._batches = batches
        self._places = batches.overlapping(pixel)
        keys, batch, row = self._find(pixel)
        order = stable_order(keys)
        self._batch, self._row = batch[order], row[order]

    def __len__(self) -> int:
        """Rows of the partition."""
        return len(self._batch)

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """The rows, so many at a time; rows of equal keys keep the order of the batches and of the rows in them."""
        for start in range(0, len(self), rows):
            yield self._gathered(slice(start, start + rows))

    def _find(self, pixel: Pixel) -> tuple[Rows, Rows, Rows]:
        """Sky key, number of the batch among those that overlap, and row in it, of every row of the pixel."""
        found = [(np.empty(0, dtype=np.int64),) * 3]
        for number, (start, keys) in enumerate(self._batches.keys(self._places, pixel)):
            found.append((keys, np.full(len(keys), number), start + np.arange(len(keys))))
        keys, batch, row = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return keys, batch, row

    def _gathered(self, part: slice) -> pa.Table:
        batch, row = self._batch[part], self._row[part]
        by_batch = np.argsort(batch, kind="stable")
        numbers, starts = runs_of(batch[by_batch])
        chosen = np.split(row[by_batch], starts[1:])
        back = np.empty_like(by_batch)
        back[by_batch] = np.arange(len(by_batch))
        pieces = list(self._batches.take(self._places[numbers], chosen))
        schema, columns = (
            pieces[0].schema,
            [list(arrays) for arrays in zip(*(piece.columns for piece in pieces), strict=True)],
        )
        del pieces
        merged = []
        while columns:  # each column's pieces go when it is whole
            merged.append(pa.concat_arrays(columns.pop(0)).take(pa.array(back)))
        return pa.Table.from_arrays(merged, schema=schema)
