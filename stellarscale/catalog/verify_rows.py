"""What :mod:`stellarscale.catalog.verify` asks of the rows of one partition.

Each finding is (what is wrong, what was seen, what was needed).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stellarscale.catalog import layout
from stellarscale.catalog.opening import StoredCatalog
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.wide import has_format, has_grid, wide_columns
from stellarscale.flags import COLUMN as FLAGS
from stellarscale.flags import Flag
from stellarscale.kernels import healpix, sphere
from stellarscale.stamp_columns import COVERAGE, STAMP, binary_rows, format_of

MAX_OFFSET_ARCSEC = 0.002  # an order-29 pixel is 0.0004 arcsec wide

Finding = tuple[str, str, str]


def check_sky(stored: StoredCatalog, pixel: Pixel, table: pa.Table) -> Iterator[Finding]:
    """The sky key is complete, sorted and inside of the partition (outside of it in a margin)."""
    column = table.column(layout.SKY_COLUMN)
    if column.null_count:
        yield f"null in {layout.SKY_COLUMN}", f"{column.null_count} rows", "none"
        column = column.drop_null()
    sky = column.to_numpy()
    unsorted = np.flatnonzero(sky[1:] < sky[:-1])
    if len(unsorted):
        yield f"not sorted by {layout.SKY_COLUMN}", f"first at row {unsorted[0] + 1}", "rising order"
    outside = (sky < pixel.first) | (sky >= pixel.last)
    if stored.properties.kind == "margin":
        outside = ~outside
    if outside.any():
        where = "inside of" if stored.properties.kind == "margin" else "outside of"
        yield f"rows {where} the partition", f"{int(outside.sum())} rows", "none"


def check_positions(stored: StoredCatalog, table: pa.Table) -> Iterator[Finding]:
    """Each position lies in the order-29 pixel of its sky key (other libraries round differently)."""
    sky, ra, dec = (table.column(name) for name in (layout.SKY_COLUMN, stored.properties.ra, stored.properties.dec))
    nulls = ra.null_count + dec.null_count
    if nulls or sky.null_count:
        yield "null in the position", f"{nulls} values", "none"
        return
    values = sky.to_numpy()
    ra_deg, dec_deg = ra.to_numpy().astype(np.float64), dec.to_numpy().astype(np.float64)
    other = np.flatnonzero(healpix.pixel_of(ra_deg, dec_deg) != values)
    centre_ra, centre_dec = healpix.pixel_centre(healpix.ORDER, values[other])
    far = sphere.separation_arcsec(centre_ra, centre_dec, ra_deg[other], dec_deg[other]) > MAX_OFFSET_ARCSEC
    if far.any():
        row = other[np.argmax(far)]
        yield (
            f"positions that {layout.SKY_COLUMN} does not belong to",
            f"{int(far.sum())} rows, first row {row}: {ra_deg[row]}, {dec_deg[row]} with {values[row]}",
            "the order-29 pixel of the position",
        )


def check_spectra(stored: StoredCatalog, file: pq.ParquetFile) -> Iterator[Finding]:
    """Every value of a spectrum is finite, and no inverse variance negative; a row may have no spectrum."""
    there = set(file.schema_arrow.names)
    fields = [stored.schema.field(name) for name in wide_columns(stored.schema) if name in there]
    bad = {field.name: 0 for field in fields if has_grid(field)}
    if not bad:
        return
    for group in range(file.metadata.num_row_groups):
        table = file.read_row_group(group, columns=list(bad), use_threads=False)
        for name in bad:
            values = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table[name].chunks])
            is_weight = stored.schema.field(name).metadata.get(b"ucd", b"").startswith(b"stat.weight")
            good = np.isfinite(values) & (values >= 0) if is_weight else np.isfinite(values)
            bad[name] += len(good) - int(np.count_nonzero(good))
    for name, count in bad.items():
        if count:
            yield f"{name} holds what is no measurement", f"{count} pixels", "finite values, inverse variances >= 0"


def check_stamps(stored: StoredCatalog, file: pq.ParquetFile) -> Iterator[Finding]:
    """Every pixel of a stamp that a detection covers has a finite value, and no other; a row may have no stamp."""
    there = set(file.schema_arrow.names)
    if not {STAMP, COVERAGE} <= there & set(stored.schema.names) or not has_format(stored.schema.field(STAMP)):
        return
    layout, bad = format_of(stored.schema), 0
    for group in range(file.metadata.num_row_groups):
        table = file.read_row_group(group, columns=[STAMP, COVERAGE], use_threads=False)
        pixels = binary_rows(table[STAMP], layout.dtype, layout.shape)
        covered = binary_rows(table[COVERAGE], "u1", layout.shape) > 0
        alone = np.asarray(table[STAMP].is_null()) ^ np.asarray(table[COVERAGE].is_null())
        differ = (np.isfinite(pixels) != covered).any(axis=(1, 2, 3)) & np.asarray(table[STAMP].is_valid())
        bad += int(np.count_nonzero(differ | alone))
    if bad:
        yield (
            f"{STAMP} and {COVERAGE} disagree",
            f"{bad} rows",
            "finite pixels where there is a detection, NaN elsewhere",
        )


def unflagged_ids(table: pa.Table, id_column: str) -> pa.ChunkedArray:
    """Ids of rows that are not flagged as having a double."""
    if FLAGS in table.column_names:
        flagged = pc.bit_wise_and(pc.fill_null(table.column(FLAGS), 0), int(Flag.DUPLICATE_ID))
        table = table.filter(pc.equal(flagged, 0))
    return table.column(id_column).drop_null()
