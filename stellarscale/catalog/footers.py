"""Which row groups hold which part of the sky, from ``_metadata`` alone: no partition file is opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog import layout
from stellarscale.catalog.pixels import Pixel
from stellarscale.errors import CatalogError


@dataclass(frozen=True)
class RowGroups:
    """Row groups of a catalogue: one entry of each array per row group, in the order of ``_metadata``.

    ``low`` and ``high`` are the smallest and the largest ``_healpix_29``; where the file has no statistics of
    it they are the bounds of the pixel. ``counts`` are the rows of each partition.
    """

    pixels: tuple[Pixel, ...]
    pixel: NDArray[np.int64]
    group: NDArray[np.int64]
    rows: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    counts: dict[Pixel, int]

    def overlapping(self, ranges: NDArray[np.int64]) -> Iterator[tuple[Pixel, NDArray[np.int64]]]:
        """Partitions, along the sky, with the row groups that may hold rows of the ranges."""
        hit = np.flatnonzero(overlaps(self.low, self.high, ranges))
        for index in np.unique(self.pixel[hit]):
            yield self.pixels[index], self.group[hit[self.pixel[hit] == index]]


def overlaps(low: NDArray[np.int64], high: NDArray[np.int64], ranges: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which closed intervals [low, high] touch any of the sorted, disjoint, half-open ranges."""
    if len(ranges) == 0:
        return np.zeros(len(low), dtype=bool)
    # The first range that ends behind `low` is the only candidate that need be looked at.
    index = np.searchsorted(ranges[:, 1], low, side="right")
    inside = index < len(ranges)
    inside[inside] = ranges[index[inside], 0] <= high[inside]
    return inside


def footer(root: Path) -> pq.FileMetaData | None:
    """Contents of ``_metadata``, read once per process and version of the file; None when there is none.

    Raises
    ------
    CatalogError
        If the file is damaged.
    """
    stamp = _stamp(layout.metadata_path(root))
    return _footer(root, stamp) if stamp else None


def row_groups(root: Path) -> RowGroups | None:
    """Row groups of a catalogue, once per process; None when it has no ``_metadata``."""
    stamp = _stamp(layout.metadata_path(root))
    return _row_groups(root, stamp) if stamp else None


def file_footer(path: Path) -> pq.FileMetaData:
    """Footer of one file; :class:`CatalogError` when it is no complete Parquet file."""
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise CatalogError(
            "a Parquet file cannot be read",
            where=path,
            seen=str(error).strip().replace("\n", " ")[:200],
            cause="the file is missing, was cut short, or was changed after it was written",
        ) from error


def column_index(metadata: pq.FileMetaData, name: str) -> int | None:
    """Place of a column among the leaves of a file; None for nested and missing ones."""
    paths = _leaves(metadata)
    return paths.get(name)


def statistics_of(metadata: pq.FileMetaData, group: int, column: int) -> Any:
    """Statistics of a column chunk, or None when they are absent or incomplete."""
    chunk = metadata.row_group(group).column(column)
    if not chunk.is_stats_set or chunk.statistics is None or not chunk.statistics.has_min_max:
        return None
    return chunk.statistics


def all_null(metadata: pq.FileMetaData, group: int, column: int) -> bool:
    """Whether the footer says that a column chunk holds nothing but nulls."""
    chunk = metadata.row_group(group).column(column)
    statistics = chunk.statistics if chunk.is_stats_set else None
    return statistics is not None and statistics.has_null_count and statistics.null_count == chunk.num_values


def _leaves(metadata: pq.FileMetaData) -> dict[str, int]:
    schema = metadata.schema
    return {schema.column(i).path: i for i in range(len(schema))}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=8)
def _footer(root: Path, stamp: tuple[int, int]) -> pq.FileMetaData:
    return file_footer(layout.metadata_path(root))


@lru_cache(maxsize=8)
def _row_groups(root: Path, stamp: tuple[int, int]) -> RowGroups:
    metadata = _footer(root, stamp)
    sky = column_index(metadata, layout.SKY_COLUMN)
    entries = []
    seen: dict[str, int] = {}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        path = group.column(0).file_path
        pixel = layout.pixel_of_path(path)
        if pixel is None:
            continue
        within, seen[path] = seen.get(path, 0), seen.get(path, 0) + 1
        found = statistics_of(metadata, number, sky) if sky is not None else None
        low, high = (found.min, found.max) if found else (pixel.first, pixel.last - 1)
        entries.append((pixel, within, group.num_rows, low, high))
    pixels = sorted({entry[0] for entry in entries}, key=lambda pixel: pixel.sky_key)
    place = {pixel: i for i, pixel in enumerate(pixels)}
    columns = np.array([(place[p], *rest) for p, *rest in entries], dtype=np.int64).reshape(-1, 5).T
    totals = np.bincount(columns[0], weights=columns[2], minlength=len(pixels)).astype(np.int64)
    counts = dict(zip(pixels, totals.tolist(), strict=True))
    place_of, within_file, rows, lows, highs = columns
    return RowGroups(tuple(pixels), place_of, within_file, rows, lows, highs, counts)
