"""The stamps step: from the files of cut-outs to stored stamps, against a loop over astropy, reproject and numpy.

Stars have two detections in each of six bands, a FITS file each, with TPV headers that are turned and shifted. The step
reads the catalogues of stars, detections and exposures, and writes stamps of 48 x 48 pixels and the record of what was
not used; partitions go through as many threads, or processes, as are told. The peer reads the same files with
astropy.io.fits, makes its WCS of each header, aligns with reproject_interp without the check of the way back, and takes
means with numpy; it reads no catalogue and writes none. Both make the same stamps, which is checked. Files lie in the
page cache after they were written; to hold the bench to two cores, start it under ``taskset -c 0,1``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import machine, peak_memory_mb, show, timed

sys.path.insert(0, str(Path(__file__).parents[1]))

from reference.fake_cutouts import FakeSurvey, write_survey
from reference.mock_catalog import write_mock

from stellarscale.catalog.layout import pixel_path
from stellarscale.catalog.reader import open_stored, read_pixel
from stellarscale.engine.stamp_tasks import CutoutFiles, StampTask, stamp_pixel
from stellarscale.partition.stamp_config import StampConfig
from stellarscale.settings.stamps import BANDS, StampSettings
from stellarscale.stamp_columns import stamps_of

DETECTIONS = 2 * len(BANDS)  # of a star
ZERO_POINT, SOFTENING = 25.0, 5.0
TOLERANCE = 4e-3  # of a stretched pixel below 16, in float16
WAYS: dict[str, tuple[Callable[[int], Executor], int]] = {
    "threads_1": (ThreadPoolExecutor, 1),
    "threads_2": (ThreadPoolExecutor, 2),
    "processes_2": (partial(ProcessPoolExecutor, mp_context=get_context("spawn")), 2),
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=40, help="stars for the peer")
    parser.add_argument("--cutout", type=int, default=56, help="rows and columns of a cut-out")
    parser.add_argument("--size", type=int, default=48, help="rows and columns of a stamp")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of timings")
    parser.add_argument("--quick", action="store_true", help="few stars and one round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.quick:
        options.stars, options.loop, options.repeats = 60, 8, 1
    return options


def prepared(folder: Path, options: argparse.Namespace) -> tuple[StampTask, FakeSurvey]:
    """Files and catalogues, the stars in a few partitions of several hundred, and what is to be done with them."""
    survey = write_survey(folder, n_stars=options.stars, bands="".join(BANDS), size=options.cutout)
    small = open_stored(survey.stars)
    table = pa.concat_tables([read_pixel(small, pixel) for pixel in small.pixels])
    write_mock(folder / "few", table, max_rows=1000, row_group_rows=1000, stellarscale_id="object_id")
    settings = StampSettings(images="images", files=survey.files, size_px=options.size, zero_point=ZERO_POINT)
    config = StampConfig(settings)
    task = StampTask(folder / "few", survey.detections, survey.images, folder / "out", folder / "rejects", config)
    return task, survey


def step(task: StampTask, pool: Executor) -> int:
    """Make all stamps; returns the detections in them."""
    return sum(record["used"] for record in pool.map(partial(stamp_pixel, task), open_stored(task.stars).pixels))


def by_loop(task: StampTask, stars: list[dict], detections: dict[int, list[dict]], images: dict[int, dict]) -> list:
    """Stamps of some stars by a plain loop."""
    return [_plain_stamp(task, star, detections[star["object_id"]], images) for star in stars]


def _plain_stamp(task: StampTask, star: dict, detections: list[dict], images: dict[int, dict]) -> np.ndarray:
    from astropy.io import fits
    from astropy.wcs import WCS
    from reproject import reproject_interp

    settings, files = task.config.stamps, CutoutFiles(task.config.stamps.files)
    read = []
    for each in sorted(detections, key=lambda row: row["image_id"]):
        with fits.open(files.path(each["object_id"], each["image_id"], each["ccd"], each["band"])) as file:
            exposure = images[each["image_id"]]
            scale = 10 ** (-0.4 * (exposure["zpapprox"] - settings.zero_point))
            flux = (file[0].data.astype(np.float64) - exposure["background"]) * scale
            read.append((each["band"], flux, WCS(file[0].header)))
    reference = next(wcs for band, _, wcs in read if band == settings.reference_band)
    x, y = (int(np.floor(value + 0.5)) for value in reference.all_world2pix(star["ra"], star["dec"], 0))
    size = settings.size_px
    first_x, first_y = x - size // 2, y - size // 2
    grid = reference.deepcopy()
    grid.wcs.crpix = grid.wcs.crpix - (first_x, first_y)
    planes: dict[str, list[np.ndarray]] = {band: [] for band in settings.bands}
    for band, flux, wcs in read:
        aligned, _ = reproject_interp(
            (flux, wcs), grid, shape_out=(size, size), order="bilinear", roundtrip_coords=False
        )
        planes[band].append(aligned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that no detection covers
        return np.arcsinh(np.array([np.nanmean(planes[band], axis=0) for band in settings.bands]) / SOFTENING)


def difference(task: StampTask, stars: list[dict], plain: list) -> tuple[bool, float]:
    """Whether the same pixels are missing, and the largest difference of a stretched pixel over 1 or its value."""
    made: dict[int, np.ndarray] = {}
    for pixel in open_stored(task.stars).pixels:
        table = pq.read_table(pixel_path(task.out, pixel), partitioning=None)
        made |= dict(zip(table["object_id"].to_pylist(), stamps_of(table), strict=True))
    ours = np.array([made[star["object_id"]] for star in stars], dtype=np.float64)
    theirs = np.array(plain)
    off = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1.0)
    return bool((np.isnan(ours) == np.isnan(theirs)).all()), float(np.nanmax(off))


def rows_of(root: Path) -> list[dict]:
    """All rows of a catalogue."""
    stored = open_stored(root)
    return [row for pixel in stored.pixels for row in read_pixel(stored, pixel).to_pylist()]


def compare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make the stamps all ways, check that they are equal, time in turn."""
    task, survey = prepared(folder, options)
    images = {row["image_id"]: row for row in rows_of(survey.images)}
    detections: dict[int, list[dict]] = {}
    for row in rows_of(survey.detections):
        detections.setdefault(row["object_id"], []).append(row)
    stars = rows_of(task.stars)[: options.loop]
    pools = {name: kind(workers) for name, (kind, workers) in WAYS.items()}
    for pool in pools.values():
        step(task, pool)  # compiled kernels are loaded, processes started
    peer = partial(by_loop, task, stars, detections, images)
    same, largest = difference(task, stars, peer())
    rounds, used = [], set()
    for _ in range(options.repeats):
        seconds = {}
        for name, pool in pools.items():
            seconds[name], _, count = timed(partial(step, task, pool))
            used.add(count)
        rounds.append({name: options.stars / spent for name, spent in seconds.items()})
        rounds[-1]["peer"] = len(stars) / timed(peer).wall
    for pool in pools.values():
        pool.shutdown()
    result: dict[str, Any] = {"stars": options.stars, "detections_per_star": DETECTIONS, "rounds": options.repeats}
    for name in rounds[0]:
        result[f"{name}_stars_per_s"] = round(statistics.median(each[name] for each in rounds), 1)
        result[f"{name}_detections_per_s"] = round(DETECTIONS * result[f"{name}_stars_per_s"])
    for name in WAYS:
        result[f"{name}_ratio"] = round(statistics.median(each[name] / each["peer"] for each in rounds), 1)
    return result | {
        "equal": same and largest <= TOLERANCE and used == {options.stars * DETECTIONS},
        "same_footprint": same,
        "largest_difference": largest,
        "peak_memory_mb": peak_memory_mb(),
        **machine(),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 0 when the stamps are the peer's and every detection is in one."""
    options = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        result = compare(Path(folder), options)
    return show(result, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
