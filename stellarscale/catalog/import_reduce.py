"""The reduce half of an import: where the sky is cut, and how one partition is gathered and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.duplicates import flag_duplicates, map_hashes
from stellarscale.catalog.import_plan import ImportPlan
from stellarscale.catalog.import_slabs import Slabs
from stellarscale.catalog.ordering import runs_of, stable_order
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.spill import SpillRecord
from stellarscale.catalog.spilled import SpilledBatches, write_index
from stellarscale.catalog.writer import PixelRecord, write_pixel, write_pixel_pieces
from stellarscale.errors import RowCountError

DUPLICATES_FILE = "duplicates.u64"


class Partition(NamedTuple):
    """A partition to be written, and the rows it must hold."""

    pixel: Pixel
    rows: int


def plan_partitions(records: Sequence[SpillRecord], plan: ImportPlan, spill_dir: Path) -> list[Partition]:
    """Cut the sky by the spilled counts, and index the spilled batches for the reduce tasks.

    Parameters
    ----------
    records : sequence of SpillRecord
        One per file of the plan.
    plan : ImportPlan
    spill_dir : Path

    Returns
    -------
    list of Partition
        Along the sky; none is empty.

    Raises
    ------
    RowCountError
        If the partitions do not add up to the spilled rows.
    """
    write_index(records, spill_dir)
    config = plan.config
    partitions: list[Partition] = []
    for pixels, counts in _counts_by_base_pixel(records, spill_dir, config.finest_order):
        partitions += adaptive_partitions(
            pixels, counts, config.finest_order, max_rows=config.max_rows, min_order=config.min_order
        )
    spilled, planned = sum(record.rows_out for record in records), sum(part.rows for part in partitions)
    if spilled != planned:
        raise RowCountError("the partitions do not hold all rows", where=spill_dir, seen=planned, needed=spilled)
    return partitions


def adaptive_partitions(
    pixels: NDArray[np.int64],
    counts: NDArray[np.int64],
    finest_order: int,
    *,
    max_rows: int,
    min_order: int = 0,
) -> list[Partition]:
    """As :func:`~stellarscale.catalog.pixels.adaptive_pixels`, from a sparse histogram.

    Parameters
    ----------
    pixels, counts : ndarray of int64, shape (n,)
        Ascending distinct pixels of `finest_order` that hold rows, and their rows.
    finest_order, max_rows, min_order : int
        As there.

    Returns
    -------
    list of Partition
        Along the sky.
    """
    found: list[Partition] = []
    for order in range(min_order, finest_order + 1):
        parents, starts = runs_of(pixels >> (2 * (finest_order - order)))
        if len(parents) == 0:
            break
        rows = np.add.reduceat(counts, starts)
        small = (rows <= max_rows) | (order == finest_order)
        found += [Partition(Pixel(order, int(p)), int(n)) for p, n in zip(parents[small], rows[small], strict=True)]
        still_open = np.repeat(~small, np.diff(starts, append=len(pixels)))
        pixels, counts = pixels[still_open], counts[still_open]
    return sorted(found, key=lambda part: part.pixel.sky_key)


def reduce_pixel(pixel: Pixel, expected_rows: int, plan: ImportPlan, spill_dir: Path, root: Path) -> PixelRecord:
    """Gather one partition's rows from all spilled files, sort, flag duplicate ids, write.

    Rows of equal ``_healpix_29`` keep the order of the files and of the rows inside them. The function may
    run twice: it writes the same bytes.

    Parameters
    ----------
    pixel : Pixel
    expected_rows : int
        From :func:`plan_partitions`.
    plan : ImportPlan
    spill_dir, root : Path
        The spilled files, and the catalogue being made.

    Returns
    -------
    PixelRecord

    Raises
    ------
    RowCountError
        If the spilled files do not hold the expected rows of this pixel.
    """
    duplicates, schema = map_hashes(spill_dir / DUPLICATES_FILE), plan.arrow_schema
    if plan.spectra is not None:
        slabs = Slabs(pixel, SpilledBatches(spill_dir))
        _check_rows(pixel, len(slabs), expected_rows)
        pieces = slabs.tables(plan.config.write.group_rows(schema))
        # `map` and not a generator, which would keep each piece until the next one is made.
        flagged = map(partial(flag_duplicates, id_column=plan.schema.id, duplicates=duplicates), pieces)
        return write_pixel_pieces(root, pixel, flagged, schema, plan.config.write)
    columns = _gather(pixel, SpilledBatches(spill_dir), schema)
    _check_rows(pixel, sum(len(piece) for piece in columns[0]), expected_rows)
    table = flag_duplicates(_merge(columns, schema), plan.schema.id, duplicates)
    return write_pixel(root, pixel, table, plan.config.write)


def _check_rows(pixel: Pixel, rows: int, expected_rows: int) -> None:
    if rows != expected_rows:
        raise RowCountError(
            "a partition does not hold the rows that were counted for it",
            where=f"partition {pixel}",
            seen=rows,
            needed=expected_rows,
            cause="a damaged spill file; start over with --fresh",
        )


def _counts_by_base_pixel(
    records: Sequence[SpillRecord], spill_dir: Path, order: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Sparse sums over all files, one base pixel (a twelfth of the sky, cut by no partition) at a time."""
    cells = 1 << (2 * order)
    for base in range(12):
        dense = np.zeros(cells, dtype=np.int64)
        for record in records:
            pixels, rows = np.load(record.files(spill_dir).counts, mmap_mode="r")
            part = slice(*np.searchsorted(pixels, [base * cells, (base + 1) * cells]))
            dense[pixels[part] - base * cells] += rows[part]
        filled = np.flatnonzero(dense)
        yield filled + base * cells, dense[filled]


def _gather(pixel: Pixel, batches: SpilledBatches, schema: pa.Schema) -> list[list[pa.Array]]:
    """The pixel's pieces of every column, copied from the spilled batches, by file and batch."""
    columns: list[list[pa.Array]] = [[] for _ in schema]
    for piece in batches.cut(batches.overlapping(pixel), pixel):
        for pieces, column in zip(columns, piece.columns, strict=True):
            pieces.append(column)
    return columns


def _merge(columns: list[list[pa.Array]], schema: pa.Schema) -> pa.Table:
    """Sort by the sky key, keeping the order of the pieces where it ties; empties `columns` as it goes."""
    order = pa.array(stable_order(np.concatenate([piece.to_numpy() for piece in columns[0]])))
    merged = []
    while columns:
        merged.append(pa.concat_arrays(columns.pop(0)).take(order))
    return pa.Table.from_arrays(merged, schema=schema)
