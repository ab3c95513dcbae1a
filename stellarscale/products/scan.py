"""What the report says of all rows of a catalogue, in one pass: memory holds some partitions, whatever the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.layout import SKY_COLUMN
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import StoredCatalog, read_pixel
from stellarscale.config import Job
from stellarscale.flags import COLUMN, flag_table
from stellarscale.kernels.healpix import ORDER
from stellarscale.partition.features import floats
from stellarscale.report.content import ClassHistograms, SkyCounts

SKY_ORDER = 6
READERS = 2
EDGES = np.linspace(-4.0, 1.0, 101)  # dex, of the histograms by class

T = TypeVar("T")


@dataclass(frozen=True)
class CatalogScan:
    """Counts over a whole catalogue."""

    sky: SkyCounts
    flags: dict[str, int]
    metallicity: ClassHistograms | None


def scan_catalog(job: Job, stored: StoredCatalog) -> CatalogScan:
    """Rows per sky pixel and per quality flag, and histograms of the metallicity by class (paper I, Fig. 12).

    Only integers are summed, so that the result does not depend on the order of the partitions.
    """
    label, classes = job.evaluation.metallicity, job.column_of("class_code")
    rules = job.class_rules if classes else ()
    codes = tuple(rule.code for rule in rules)
    limits = job.evaluation.metallicity_limits
    columns = [name for name in (label, classes, COLUMN) if name and name in stored.schema.names]

    def count(table: pa.Table) -> tuple[NDArray, NDArray, NDArray]:
        histogram = _count_classes(table, label, classes, codes, limits) if label else np.zeros(0)
        return _count_sky(table), _count_flags(table), histogram

    parts = over_partitions(stored, columns, lambda _, table: count(table))
    sky = sum((part[0] for part in parts), np.zeros(12 << (2 * SKY_ORDER), dtype=np.int64))
    flags = sum((part[1] for part in parts), np.zeros(len(flag_table()), dtype=np.int64))
    filled = np.flatnonzero(sky)
    names = ("all stars", *(rule.name.replace("_", " ") for rule in rules))
    return CatalogScan(
        sky=SkyCounts(SKY_ORDER, filled, sky[filled]),
        flags={row.name: int(number) for row, number in zip(flag_table(), flags, strict=True)}
        if COLUMN in columns
        else {},
        metallicity=_histograms(job, label, names, [part[2] for part in parts], limits) if label else None,
    )


def over_partitions(stored: StoredCatalog, columns: Sequence[str], work: Callable[[Pixel, pa.Table], T]) -> list[T]:
    """A function of every partition's columns, results along the sky; a few partitions at a time."""

    def one(pixel: Pixel) -> T:
        return work(pixel, read_pixel(stored, pixel, columns=columns))

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(one, stored.pixels))


def thinned(stored: StoredCatalog, columns: Sequence[str], most: int) -> tuple[pa.Table, int]:
    """Every k-th row along the sky, k as small as gives at most ``most`` rows; and k."""
    step = max(1, -(-stored.num_rows // most))
    starts = np.cumsum([0, *(stored.rows_of(pixel) for pixel in stored.pixels)])
    before = dict(zip(stored.pixels, starts.tolist(), strict=False))

    def thin(pixel: Pixel, table: pa.Table) -> pa.Table:
        return table if step == 1 else table.take(np.arange(-before[pixel] % step, table.num_rows, step))

    tables = over_partitions(stored, columns, thin)
    return pa.concat_tables(tables) if tables else stored.schema.empty_table().select(list(columns)), step


def _count_sky(table: pa.Table) -> NDArray[np.int64]:
    pixels = table[SKY_COLUMN].to_numpy() >> (2 * (ORDER - SKY_ORDER))
    return np.bincount(pixels, minlength=12 << (2 * SKY_ORDER))


def _count_flags(table: pa.Table) -> NDArray[np.int64]:
    rows = flag_table()
    if COLUMN not in table.column_names:
        return np.zeros(len(rows), dtype=np.int64)
    flags = table[COLUMN].fill_null(0).to_numpy()
    values, numbers = np.unique(flags, return_counts=True)  # few combinations occur
    return np.array([numbers[values & (1 << row.bit) != 0].sum() for row in rows], dtype=np.int64)


def _count_classes(
    table: pa.Table, label: str, classes: str | None, codes: tuple[int, ...], limits: tuple[float, ...]
) -> NDArray[np.int64]:
    """A row for all stars and one per class: bins of ``EDGES``, then all, then those at or below each limit."""
    value = floats(table, label)
    code = floats(table, classes) if classes else np.full(table.num_rows, np.nan)
    known = np.isfinite(value)
    chosen = [known, *(known & (code == number) for number in codes)]
    rows = []
    for mask in chosen:
        inside = value[mask]
        counts, _ = np.histogram(inside, bins=EDGES)
        rows.append([*counts, len(inside), *(np.count_nonzero(inside <= limit) for limit in limits)])
    return np.array(rows, dtype=np.int64)


def _histograms(
    job: Job, label: str, names: tuple[str, ...], parts: list[NDArray], limits: tuple[float, ...]
) -> ClassHistograms:
    bins = len(EDGES) - 1
    total = sum(parts, np.zeros((len(names), bins + 1 + len(limits)), dtype=np.int64))
    return ClassHistograms(
        label=label,
        unit=job.units[label],
        names=names,
        edges=EDGES,
        counts=total[:, :bins],
        total=total[:, bins],
        limits=limits,
        below=total[:, bins + 1 :],
    )
