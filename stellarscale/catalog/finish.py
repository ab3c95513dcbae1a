"""The files around the partitions: footers, schema, thumbnail, list of partitions, sky map, properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import stellarscale
from stellarscale.catalog import atomic, layout
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.skymap import order_of, write_skymap
from stellarscale.errors import CatalogError
from stellarscale.kernels.healpix import ORDER

SKYMAP_ORDER = 8
FINEST_SKYMAP_ORDER = 10
THUMBNAIL_ROWS = 1000


def finish_catalog(root: Path, properties: CatalogProperties, schema: pa.Schema, pixels: Sequence[Pixel]) -> int:
    """See :func:`stellarscale.catalog.writer.finish_catalog`; ``schema`` is the stored one."""
    pixels = sorted(set(pixels), key=lambda pixel: pixel.sky_key)
    counts = np.zeros(12 << (2 * _skymap_order(pixels)), dtype=np.int64)
    shown = {pixels[i] for i in np.linspace(0, len(pixels) - 1, min(len(pixels), THUMBNAIL_ROWS), dtype=int)}
    footers: list[pq.FileMetaData] = []
    first_rows: list[pa.Table] = []
    for pixel in pixels:
        with open_partition(layout.pixel_path(root, pixel), pixel) as file:
            check_schema(file, schema, pixel)
            footer = file.metadata
            footer.set_file_path(layout.relative_pixel_path(pixel))
            footers.append(footer)
            count_rows(file, counts)
            if pixel in shown:
                first_rows.append(first_row(file))
    rows = sum(footer.num_rows for footer in footers)
    _write_schema(root, schema, first_rows)
    write_partition_info(root, pixels)
    write_skymap(layout.skymap_path(root), counts)
    write_properties(root, _built(root, replace(properties, rows=rows), counts))
    write_footers(root, schema, footers)
    return rows


def open_partition(path: Path, pixel: Pixel) -> pq.ParquetFile:
    """Open a partition's file.

    Raises
    ------
    CatalogError
        If it is missing or damaged.
    """
    try:
        return pq.ParquetFile(path, memory_map=True)
    except FileNotFoundError as error:
        raise CatalogError("a partition's file is missing", where=f"partition {pixel}, {path}") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise damaged(path, pixel, error) from error


def damaged(path: Path, pixel: Pixel, error: Exception) -> CatalogError:
    """The error for a Parquet file that cannot be read."""
    return CatalogError(
        "a partition's file is damaged",
        where=f"partition {pixel}, {path}",
        seen=str(error).strip().replace("\n", " ")[:200],
        needed="a complete Parquet file",
        cause="the file was cut short or changed after it was written; make this partition again",
    )


def check_schema(file: pq.ParquetFile, schema: pa.Schema, pixel: Pixel) -> None:
    """Raise :class:`CatalogError` unless a file has the catalogue's columns and types, in their order."""
    seen = file.schema_arrow
    if not seen.equals(schema):
        differing = [
            f"{got} (needed {want})" for got, want in zip(seen, schema, strict=False) if not got.equals(want)
        ] or [f"columns {', '.join(seen.names)}"]
        raise CatalogError(
            "a partition has another schema than the catalogue",
            where=f"partition {pixel}",
            seen="; ".join(differing),
            needed=", ".join(schema.names),
        )


def count_rows(file: pq.ParquetFile, counts: NDArray[np.int64]) -> None:
    """Add a file's rows to the sky map."""
    if layout.SKY_COLUMN not in file.schema_arrow.names:
        return
    shift = 2 * (ORDER - order_of(counts))
    for group in range(file.metadata.num_row_groups):
        # One row group at a time: its rows are neighbours on the sky, so few sky-map pixels are touched.
        sky = file.read_row_group(group, columns=[layout.SKY_COLUMN], use_threads=False).column(0).to_numpy()
        where = sky >> shift
        low = int(where.min())
        found = np.bincount(where - low)
        counts[low : low + len(found)] += found


def first_row(file: pq.ParquetFile) -> pa.Table:
    """First row of a file; only the first page of each column is decoded."""
    batch = next(file.iter_batches(batch_size=1, row_groups=[0], use_threads=False))
    return pa.Table.from_batches([batch])


def write_partition_info(root: Path, pixels: Sequence[Pixel]) -> None:
    """Write ``partition_info.csv``; HATS lists partitions by order, then number along the sky."""
    lines = [f"{pixel.order},{pixel.ipix}" for pixel in pixels]
    atomic.write_text(layout.partition_info_path(root), "\n".join(["Norder,Npix", *lines]) + "\n")


def write_properties(root: Path, properties: CatalogProperties) -> None:
    """Write the properties under the name of HATS 1.0 and under the one that older readers look for."""
    for path in (layout.old_properties_path(root), layout.properties_path(root)):
        atomic.write_text(path, properties.to_text())


def write_footers(root: Path, schema: pa.Schema, footers: Sequence[pq.FileMetaData]) -> None:
    """Write ``_metadata``, the mark of a finished catalogue."""
    with atomic.atomic_write(layout.metadata_path(root)) as temporary:
        if not footers:
            pq.write_metadata(schema, temporary)
            return
        merged = footers[0]
        for footer in footers[1:]:
            merged.append_row_groups(footer)
        merged.write_metadata_file(temporary)


def _write_schema(root: Path, schema: pa.Schema, first_rows: Sequence[pa.Table]) -> None:
    with atomic.atomic_write(layout.common_metadata_path(root)) as temporary:
        pq.write_metadata(schema, temporary)
    rows = pa.concat_tables([schema.empty_table(), *first_rows])
    with atomic.atomic_write(layout.thumbnail_path(root)) as temporary:
        pq.write_table(rows, temporary, compression="zstd", use_dictionary=False)


def _skymap_order(pixels: Sequence[Pixel]) -> int:
    finest = max((pixel.order for pixel in pixels), default=0)
    return min(max(SKYMAP_ORDER, finest), FINEST_SKYMAP_ORDER)


def provenance(root: Path) -> dict[str, str]:
    """Entries that say who wrote the catalogue and when; the only place where a date is written."""
    size = sum(path.stat().st_size for path in layout.dataset_directory(root).rglob("*") if path.is_file())
    return {
        "hats_builder": f"stellarscale {stellarscale.__version__}",
        "hats_creation_date": datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%MUTC"),
        "hats_estsize": str(-(-size // 1024)),
        "hats_release_date": "2025-08-22",
        "hats_version": "v1.0",
    }


def _built(root: Path, properties: CatalogProperties, counts: NDArray[np.int64]) -> CatalogProperties:
    """Add what only the finished catalogue knows."""
    added = {
        "hats_col_healpix": layout.SKY_COLUMN,
        "hats_col_healpix_order": str(ORDER),
        "hats_skymap_order": str(order_of(counts)),
        "moc_sky_fraction": f"{np.count_nonzero(counts) / len(counts):.7f}",
    }
    return replace(properties, extra={**properties.extra, **added, **provenance(root)})
