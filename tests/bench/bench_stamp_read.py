"""Image stamps: how fast they are written and read, by codec and encoding, and by the package's reader.

Stamps are 48 x 48 pixels of six bands in float16, asinh of a star of random flux with neighbours on a noisy sky: the
27,648 bytes of a star. The first table writes that column alone in each packing; the second writes a whole catalogue as
the package does and reads it with its reader, one thread and two. Everything lies in the page cache after the writing;
to hold it to two cores, start it under ``taskset -c 0,1``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import StoredCatalog, open_stored, read_batches_of, read_pixel
from stellarscale.catalog.writer import finish_catalog, write_pixel
from stellarscale.kernels.healpix import pixel_of
from stellarscale.stamp_columns import (
    STAMP,
    StampFormat,
    binary_array,
    coverage_field,
    format_of,
    stamp_field,
    stamps_of,
)

PACKINGS = (
    ("none", None, "PLAIN"),
    ("lz4", None, "PLAIN"),
    ("lz4", None, "BYTE_STREAM_SPLIT"),
    ("zstd", 1, "PLAIN"),
    ("zstd", 3, "PLAIN"),
    ("zstd", 3, "BYTE_STREAM_SPLIT"),
)
GROUP_ROWS = 512


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=48, help="pixels of a side")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="few stars, three repeats")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.quick:
        options.stars, options.repeats = min(options.stars, 3000), 3
    return options


def stamped(stars: int, layout: StampFormat) -> pa.Table:
    """Rows along the sky with their stamps."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(10.0, 60.0, stars), rng.uniform(-40.0, -10.0, stars)
    y, x = np.mgrid[: layout.size_px, : layout.size_px] - layout.size_px / 2
    pixels = np.empty((stars, *layout.shape), dtype=layout.dtype)
    for start in range(0, stars, 256):
        shape = (len(pixels[start : start + 256]), len(layout.bands), 1, 1)
        flux = rng.normal(0, 4, (*shape[:2], *layout.shape[1:]))
        for brightest, shift in ((5.0, 0.5), (3.5, 15.0)):  # the star, and a fainter one beside it
            dx, dy = rng.uniform(-shift, shift, (2, shape[0], 1, 1, 1))
            profile = np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / (2 * 2.5**2)) / (2 * np.pi * 2.5**2)
            flux += 10 ** rng.uniform(2.0, brightest, shape) * profile
        pixels[start : start + 256] = np.arcsinh(flux / 5.0)
    coverage = np.broadcast_to(rng.integers(1, 9, (stars, len(layout.bands), 1, 1), dtype=np.uint8), pixels.shape)
    sky = pixel_of(ra, dec)
    order = np.argsort(sky)
    images = [stamp_field(layout), coverage_field(layout)]
    fields = [pa.field("_healpix_29", pa.int64()), pa.field("object_id", pa.int64())]
    fields += [pa.field("ra", pa.float64()), pa.field("dec", pa.float64()), *images]
    columns = [pa.array(values) for values in (sky[order], np.arange(stars), ra[order], dec[order])]
    columns += [binary_array(values, field.type) for values, field in zip((pixels, coverage), images, strict=True)]
    return pa.table(columns, schema=pa.schema(fields))


def best(work: Callable[[], Any], repeats: int) -> float:
    """Shortest seconds of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def packings(table: pa.Table, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Size and speed of the column of stamps alone in each packing."""
    column, path, rows = table.select([STAMP]), folder / "stamps.parquet", []
    for codec, level, encoding in PACKINGS:

        def write(codec: str = codec, level: int | None = level, encoding: str = encoding) -> None:
            options: dict[str, Any] = {"use_dictionary": False, "column_encoding": {STAMP: encoding}}
            pq.write_table(
                column, path, GROUP_ROWS, compression=codec, compression_level=level, write_statistics=False, **options
            )

        def read() -> None:
            file = pq.ParquetFile(path, memory_map=True)
            for group in range(file.num_row_groups):
                file.read_row_group(group, use_threads=False)

        seconds = best(write, 2)
        rows.append(
            {
                "codec": codec if level is None else f"{codec} {level}",
                "encoding": encoding,
                "bytes_per_stamp": round(path.stat().st_size / table.num_rows),
                "written_per_s": round(table.num_rows / seconds),
                "read_per_s": round(table.num_rows / best(read, repeats)),
            }
        )
    return rows


def catalogue(table: pa.Table, root: Path) -> tuple[StoredCatalog, float]:
    """The table as a catalogue of the package, and the seconds of its writing."""
    sky = table["_healpix_29"].to_numpy()
    shift = 58 - 2 * 2
    pixels = [Pixel(2, int(number)) for number in np.unique(sky >> shift)]
    start = time.perf_counter()
    for pixel in pixels:
        first, last = np.searchsorted(sky, [pixel.first, pixel.last])
        write_pixel(root, pixel, table.slice(first, last - first))
    finish_catalog(root, CatalogProperties("stamps", extra={"stellarscale_id": "object_id"}), table.schema, pixels)
    return open_stored(root), time.perf_counter() - start


def reader_rates(stored: StoredCatalog, repeats: int) -> dict[str, int]:
    """Stamps a second of the package's reader."""

    def batches(pixel: Pixel, columns: list[str] | None) -> int:
        return sum(len(stamps_of(batch)) for batch in read_batches_of(stored, pixel, columns=columns))

    def over(work: Callable[[Pixel], int], threads: int) -> Callable[[], None]:
        def run() -> None:
            with ThreadPoolExecutor(threads) as pool:
                assert sum(pool.map(work, stored.pixels)) == stored.num_rows

        return run

    works: dict[str, tuple[Callable[[Pixel], int], int]] = {
        "row groups, stamp": (lambda pixel: batches(pixel, [STAMP]), 1),
        "row groups, stamp, two threads": (lambda pixel: batches(pixel, [STAMP]), 2),
        "row groups, all columns": (lambda pixel: batches(pixel, None), 1),
        "row groups, all columns, two threads": (lambda pixel: batches(pixel, None), 2),
        "partitions, stamp": (lambda pixel: read_pixel(stored, pixel, columns=[STAMP]).num_rows, 1),
    }
    return {
        name: round(stored.num_rows / best(over(work, threads), repeats)) for name, (work, threads) in works.items()
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and tell."""
    options = parse(argv)
    layout = StampFormat(tuple("uvgriz"), options.size, "float16", (5.0,) * 6, 25.0, True)
    table = stamped(options.stars, layout)
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = {"stars": options.stars, "bytes_of_pixels": layout.nbytes}
        found["packings"] = packings(table, Path(folder), options.repeats)
        stored, seconds = catalogue(table, Path(folder) / "catalogue")
        assert format_of(stored.schema) == layout
        found["catalogue_written_per_s"] = round(options.stars / seconds)
        found["read_per_s"] = reader_rates(stored, options.repeats)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    lines = [f"{options.stars:,} stamps of {layout.nbytes:,} bytes"]
    for row in found["packings"]:
        lines.append(
            f"  {row['codec']:>7} {row['encoding']:<18} {row['bytes_per_stamp']:>7,} bytes a stamp, "
            f"{row['written_per_s']:>8,}/s written, {row['read_per_s']:>8,}/s read"
        )
    lines.append(f"catalogue written at {found['catalogue_written_per_s']:,} stamps/s")
    lines += [f"  {name}: {rate:,} stamps/s" for name, rate in found["read_per_s"].items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
