"""Small catalogues for the tests: rows all over the sky, or in a patch of it, and their partitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from stellarscale.catalog.finish import FINEST_SKYMAP_ORDER
from stellarscale.catalog.pixels import Pixel, adaptive_pixels
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.catalog.writer import PixelRecord, WriteOptions, finish_catalog, write_pixel
from stellarscale.kernels.healpix import ORDER, pixel_of


def _field(name: str, kind: pa.DataType, unit: str = "", ucd: str = "", description: str = "") -> pa.Field:
    entries = {b"unit": unit.encode(), b"ucd": ucd.encode(), b"description": description.encode()}
    return pa.field(name, kind, metadata={key: value for key, value in entries.items() if value} or None)


FIELDS = [
    _field("source_id", pa.int64(), ucd="meta.id;meta.main", description="identifier"),
    _field("ra", pa.float64(), "deg", "pos.eq.ra;meta.main", "right ascension"),
    _field("dec", pa.float64(), "deg", "pos.eq.dec;meta.main", "declination"),
    _field("pmra", pa.float64(), "mas/yr", "pos.pm;pos.eq.ra"),
    _field("gmag", pa.float32(), "mag", "phot.mag;em.opt", "G magnitude"),
    _field("feh", pa.float32(), "dex", "phys.abund.Fe", "iron abundance"),
    _field("name", pa.string(), description="a name"),
    _field("variable", pa.bool_()),
    _field("quality_flags", pa.int32(), ucd="meta.code.qual"),
]


def mock_table(rows: int, *, seed: int = 1, patch: tuple[float, float, float] | None = None) -> pa.Table:
    """Rows sorted along the sky; ``patch`` is (ra, dec, size in degrees), the whole sky when absent."""
    rng = np.random.default_rng(seed)
    if patch is None:
        ra, dec = rng.uniform(0, 360, rows), np.degrees(np.arcsin(rng.uniform(-1, 1, rows)))
    else:
        ra = (patch[0] + rng.uniform(-0.5, 0.5, rows) * patch[2] / np.cos(np.radians(patch[1]))) % 360.0
        dec = patch[1] + rng.uniform(-0.5, 0.5, rows) * patch[2]
    sky = pixel_of(ra, dec)
    order = np.argsort(sky, kind="stable")
    missing = rng.random(rows) < 0.2
    columns = [
        pa.array(rng.permutation(rows).astype(np.int64) + 2**60),
        pa.array(ra[order]),
        pa.array(dec[order]),
        pa.array(rng.normal(0, 5, rows)),
        pa.array(rng.normal(16, 2, rows).astype(np.float32), mask=missing),
        pa.array(rng.normal(-0.5, 0.3, rows).astype(np.float32)),
        pa.array([f"star {i % 37}" if i % 5 else None for i in range(rows)], pa.string()),
        pa.array(rng.random(rows) < 0.5, mask=rng.random(rows) < 0.1),
        pa.array(rng.integers(0, 8, rows).astype(np.int32) * 2**4, mask=rng.random(rows) < 0.1),
    ]
    table = pa.table(columns, schema=pa.schema(FIELDS))
    return table.add_column(0, pa.field("_healpix_29", pa.int64()), pa.array(sky[order]))


def partitions_of(table: pa.Table, max_rows: int) -> list[tuple[Pixel, pa.Table]]:
    """Cut a sorted table into its adaptive partitions."""
    sky = table.column("_healpix_29").to_numpy()
    order = min(FINEST_SKYMAP_ORDER, 8)
    counts = np.bincount(sky >> (2 * (ORDER - order)), minlength=12 << (2 * order))
    pixels = [pixel for pixel, _ in adaptive_pixels(counts, max_rows=max_rows)]
    bounds = [np.searchsorted(sky, [pixel.first, pixel.last]) for pixel in pixels]
    return [(pixel, table.slice(a, b - a)) for pixel, (a, b) in zip(pixels, bounds, strict=True)]


def write_mock(
    root: Path, table: pa.Table, *, max_rows: int = 1000, row_group_rows: int = 300, **properties: str
) -> tuple[StoredCatalog, list[PixelRecord]]:
    """Write a table as a catalogue; ``properties`` are extra entries of ``hats.properties``."""
    options = WriteOptions(row_group_rows=row_group_rows)
    records = [write_pixel(root, pixel, part, options) for pixel, part in partitions_of(table, max_rows)]
    extra = {"stellarscale_id": "source_id", **properties}
    pixels = [record.pixel for record in records if record.rows]
    finish_catalog(root, CatalogProperties("mock", extra=extra), table.schema, pixels)
    return open_stored(root), records
