"""What workers do for one partition of stars that get image stamps. No Dask here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog import layout
from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import read_batches_of, read_columns, read_ranges
from stellarscale.catalog.writer import WriteOptions, open_parquet, write_pixel_pieces
from stellarscale.engine.tasks import Record, dust_of, record_of, stored_catalog
from stellarscale.errors import ConfigError, InputError
from stellarscale.kernels import healpix
from stellarscale.kernels.neighbours import neighbours
from stellarscale.partition.sample import reason_counts
from stellarscale.partition.stamp_config import (
    StampConfig,
    check_sources,
    detection_columns,
    image_columns,
    output_schema,
    rejects_schema,
)
from stellarscale.partition.stamp_star import StarStamp
from stellarscale.partition.stamps import MadeStamps, make_stamps
from stellarscale.settings.stamps import SEARCH_ARCSEC
from stellarscale.surveys.cutouts import Cutout, read_cutouts
from stellarscale.surveys.native import rebatch

_READERS = 4  # threads that wait for slow files; more would only wait for the interpreter
_TRIED = 8  # stars of a row group that are made without them
_PATIENCE_S = 0.03  # wait of a star beyond which its files count as slow: 2 ms for each of 15
_KEPT_FILES = 8  # of a star each, where one file holds all detections of it


@dataclass(frozen=True)
class StampTask:
    """Stamps of a catalogue of stars; detections that are in none go to files of their own in ``rejects``.

    ``margin_arcsec`` is how far a detection may stand from its star: it belongs to the star by the id, but is looked
    for around it.
    """

    stars: Path
    detections: Path
    images: Path | None
    out: Path
    rejects: Path
    config: StampConfig
    margin_arcsec: float = SEARCH_ARCSEC
    write: WriteOptions = field(default_factory=WriteOptions)


def check_stamps(task: StampTask) -> pa.Schema:
    """Everything that can be wrong with the tables before any work is done; returns the result's schema.

    Raises
    ------
    SchemaError
        If a column is missing or has a name that is made, or ids are of types that cannot be equal.
    ConfigError
        If the path of the cut-outs names something else than what a detection is.
    """
    stars, detections = stored_catalog(task.stars).schema, stored_catalog(task.detections).schema
    schema = output_schema(stars, task.config)
    check_sources(stars, detections, stored_catalog(task.images).schema if task.images else None, task.config)
    check_template(task.config.stamps.files)
    return schema


def stamp_pixel(task: StampTask, pixel: Pixel) -> Record:
    """Make the stamps of one partition, a row group at a time: only that many stamps are in memory.

    Returns
    -------
    dict
        Beside the rows: detections ``used`` and, of those, ``full_wcs`` (aligned by the full map of their header) and
        ``other_zero_points`` (the tables gave one that cannot be); ``unused``: the others by reason.
    """
    schema, told = check_stamps(task), _Told()
    rejected = rejects_schema(stored_catalog(task.detections).schema, task.config)
    with (
        atomic_write(stamp_rejects_file(task.rejects, pixel)) as temporary,
        open_parquet(temporary, rejected, task.write) as sink,
    ):
        pieces = _pieces(task, pixel, told, sink)
        written = write_pixel_pieces(task.out, pixel, pieces, schema, task.write)
    return {
        "rows_in": told.rows,
        **record_of(written),
        "used": told.used,
        "full_wcs": told.full_wcs,
        "other_zero_points": told.other_zero_points,
        "unused": told.unused,
    }


def stamp_rejects_file(folder: Path, pixel: Pixel) -> Path:
    """Where the record of a partition's detections that are in no stamp is."""
    return folder / f"{str(pixel).replace('/', '-')}.parquet"


@dataclass
class _Told:
    """What a receipt says of a partition."""

    rows: int = 0
    used: int = 0
    full_wcs: int = 0
    other_zero_points: int = 0
    unused: dict[str, int] = field(default_factory=dict)

    def add(self, made: MadeStamps) -> None:
        self.rows += made.table.num_rows
        self.used += made.used
        self.full_wcs += made.full_wcs
        self.other_zero_points += made.other_zero_points
        for reason, count in reason_counts(made.rejects).items():
            self.unused[reason] = self.unused.get(reason, 0) + count


def _pieces(task: StampTask, pixel: Pixel, told: _Told, sink: pq.ParquetWriter) -> Iterator[pa.Table]:
    """Row groups of the result; how they are read does not show in them."""
    files = CutoutFiles(task.config.stamps.files)
    stored = stored_catalog(task.stars)
    batches, rows = read_batches_of(stored, pixel), task.write.group_rows(output_schema(stored.schema, task.config))
    with ThreadPoolExecutor(_READERS) as pool:
        for stars in rebatch(batches, rows):
            made = _made(task, stars, files, pool)
            told.add(made)
            if made.rejects.num_rows:
                sink.write_table(made.rejects)
            yield made.table
            del made, stars  # before the next ones are made


def _made(task: StampTask, stars: pa.Table, files: CutoutFiles, pool: ThreadPoolExecutor) -> MadeStamps:
    catalog, settings = stored_catalog(task.stars), task.config.stamps
    ranges = _around(stars[layout.SKY_COLUMN].to_numpy(), task.margin_arcsec)
    detections = read_ranges(stored_catalog(task.detections), ranges, columns=detection_columns(settings))
    images = exposures(task.images, tuple(image_columns(settings))) if task.images else None
    maps = settings.reddening.sfd98 if settings.reddening else None
    ebv = dust_of(stars, maps, catalog) if maps else None
    return make_stamps(stars, detections, images, task.config, files, ebv=ebv, over=partial(_over, pool))


def _over(pool: ThreadPoolExecutor, make: Callable[[int], StarStamp], stars: Iterable[int]) -> Iterator[StarStamp]:
    """As ``map``: in threads that wait side by side where files are slow, else here, without the threads' quarrel."""
    left = iter(stars)
    started, worked = time.perf_counter(), time.thread_time()
    yield from map(make, islice(left, _TRIED))
    waited = time.perf_counter() - started - (time.thread_time() - worked)
    yield from (pool.map if waited > _TRIED * _PATIENCE_S else map)(make, left)


def _around(sky: NDArray[np.int64], margin_arcsec: float) -> NDArray[np.int64]:
    """Ranges of ``_healpix_29`` that hold all within a margin of some positions."""
    order = healpix.finest_order(margin_arcsec)
    cells = np.unique(sky >> (2 * (healpix.ORDER - order)))
    around = neighbours(order, cells).ravel()
    return healpix.merge_ranges(healpix.pixel_ranges(order, np.union1d(cells, around[around >= 0])))


def exposures(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Some columns of all exposures, read once per process and version of the catalogue."""
    finished = layout.metadata_path(path)
    return _exposures(path, columns, finished.stat().st_mtime_ns if finished.is_file() else 0)


@lru_cache(maxsize=4)
def _exposures(path: Path, columns: tuple[str, ...], version: int) -> pa.Table:
    return read_columns(stored_catalog(path), columns).select(list(columns)).combine_chunks()


class CutoutFiles:
    """Cut-outs of detections, read from files whose path says which they are.

    Parameters
    ----------
    template : str
        Path with ``{object_id}``, ``{image_id}``, ``{ccd}``, ``{band}`` and ``{shard}``, the object id modulo 1000 in
        three digits.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        self._read = lru_cache(maxsize=_KEPT_FILES)(_read)

    def path(self, object_id: Any, image_id: Any, ccd: Any, band: str) -> Path:
        """Where the cut-out of a detection is."""
        return Path(self._filled(object_id, image_id, ccd, band))

    def _filled(self, object_id: Any, image_id: Any, ccd: Any, band: str) -> str:
        names = {"object_id": object_id, "image_id": image_id, "ccd": ccd, "band": band}
        if "{shard" in self.template:
            names["shard"] = f"{int(object_id) % 1000:03d}"
        return self.template.format(**names)

    def __call__(self, object_id: Any, image_id: Any, ccd: Any, band: str) -> Cutout:
        """The cut-out of a detection: the only image of its file, or the one named ``<image_id>-<ccd>``.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        InputError
            As :func:`read_cutouts`, or if none of several images has the name.
        """
        path = self._filled(object_id, image_id, ccd, band)
        try:
            found = self._read(path)
        except InputError:
            if not Path(path).is_file():  # not asked first: nearly every file is there
                raise FileNotFoundError(Path(path)) from None
            raise
        if len(found) == 1:
            return found[0]
        name = f"{image_id}-{ccd}"
        for cutout in found:
            if cutout.name == name:
                return cutout
        names = ", ".join(cutout.name or "without a name" for cutout in found)
        raise InputError("no image of the file is that of the detection", where=Path(path), seen=names, needed=name)


def _read(path: str) -> list[Cutout]:
    """As :func:`read_cutouts`; kept by the text of the path, which is looked up faster than a Path."""
    return read_cutouts(Path(path))


def check_template(template: str) -> None:
    """Refuse a path of cut-outs that cannot be filled in, with :class:`ConfigError`."""
    try:
        path = CutoutFiles(template).path(0, 0, 0, "r")
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            "the path of the cut-outs cannot be filled in",
            where="stamps.files",
            seen=f"{template} ({error})",
            needed="a path with {object_id}, {image_id}, {ccd}, {band} or {shard} in it",
        ) from error
    if str(path) == str(Path(template)):
        raise ConfigError(
            "the path of the cut-outs is the same for every star",
            where="stamps.files",
            seen=template,
            needed="{object_id} or {image_id} in it",
        )
