"""What workers do for one partition: read, work, write. No Dask here; each function can be called by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog import layout
from stellarscale.catalog.gather import may_hold, read_rest
from stellarscale.catalog.import_plan import ImportPlan
from stellarscale.catalog.import_reduce import Partition, reduce_pixel
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import StoredCatalog, open_stored, read_pixel, read_ranges
from stellarscale.catalog.spill import spill_source
from stellarscale.catalog.subset import Subset
from stellarscale.catalog.writer import PixelRecord, WriteOptions, write_pixel
from stellarscale.config import FeatureConfig, Label
from stellarscale.kernels import healpix
from stellarscale.kernels.dust import ebv_sfd98, galactic
from stellarscale.models.forest import check_features
from stellarscale.models.store import load
from stellarscale.partition.features import add_features, floats
from stellarscale.partition.match import (
    MatchConfig,
    joined,
    match_partition,
    match_sky,
    output_schema,
    take_rows,
)
from stellarscale.partition.predict import PredictConfig, Predictor, predict_partition
from stellarscale.partition.training import training_rows
from stellarscale.surveys.dust import load_dust_maps

Record = dict[str, Any]


@dataclass(frozen=True)
class MatchTask:
    """One match of two stored catalogues; partitions are the left one's."""

    left: Path
    right: Path
    out: Path
    config: MatchConfig
    margin_arcsec: float
    subset: Subset | None = None
    write: WriteOptions = field(default_factory=WriteOptions)


@dataclass(frozen=True)
class TrainingTask:
    """Features and cuts of a labelled catalogue, written as training rows. ``keep`` are columns to carry along."""

    source: Path
    out: Path
    features: FeatureConfig
    inputs: tuple[str, ...]
    labels: Mapping[str, Label]
    keep: tuple[str, ...]
    subset: Subset | None = None


@dataclass(frozen=True)
class PredictTask:
    """Features, parameters and flags of a matched catalogue. Models are (name, path, digest)."""

    source: Path
    out: Path
    config: PredictConfig
    models: tuple[tuple[str, Path, str], ...]
    subset: Subset | None = None


def stored_catalog(path: Path) -> StoredCatalog:
    """A catalogue's schema and pixels, read once per process and version: workers may outlive a catalogue."""
    files = (layout.properties_path(path), layout.collection_path(path), layout.partition_info_path(path))
    return _opened(path, tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files))


@lru_cache(maxsize=64)
def _opened(path: Path, version: tuple[int, ...]) -> StoredCatalog:
    return open_stored(path)


def match_pixel(task: MatchTask, pixel: Pixel) -> Record:
    """Match one left partition with its surroundings on the right, and write the result.

    What the match itself needs is read first; the other columns only from the row groups that have a row in the
    result. Nothing is read where the right catalogue has no rows.
    """
    catalog, other = stored_catalog(task.left), stored_catalog(task.right)
    around = _surroundings(task, pixel)
    if task.config.how == "inner" and task.subset is None and not may_hold(other, around):
        return {"rows_in": catalog.rows_of(pixel), **record_of(_nothing(task, pixel)), "matched": 0}
    left = read_pixel(catalog, pixel, columns=task.config.left.names)
    chosen = _rows_within(left, task.subset, catalog)
    right = read_ranges(other, around, columns=task.config.right.names)
    matched = match_sky(take_rows(left, chosen), right, _rivals(task, pixel), task.config)
    matched = matched._replace(left=chosen[matched.left])
    rows, partners = _gathered(catalog, left, matched.left), _gathered(other, right, matched.right)
    written = write_pixel(task.out, pixel, joined(rows, partners, matched, task.config), task.write)
    return {"rows_in": len(chosen), **record_of(written), "matched": matched.n_matched}


def matched_table(task: MatchTask, pixel: Pixel, left: pa.Table) -> pa.Table:
    """Match rows of one left partition that are in memory; what lies around them is read here."""
    right = read_ranges(stored_catalog(task.right), _surroundings(task, pixel))
    return match_partition(left, right, _rivals(task, pixel), task.config)


def _surroundings(task: MatchTask, pixel: Pixel) -> NDArray[np.int64]:
    """Ranges of a partition and of what is within the margin of it."""
    ring = healpix.ring_around(pixel.order, pixel.ipix, task.margin_arcsec)
    own = np.array([[pixel.first, pixel.last]], dtype=np.int64)
    return healpix.merge_ranges(np.concatenate([own, ring]))


def _nothing(task: MatchTask, pixel: Pixel) -> PixelRecord:
    """A partition without rows, written."""
    schema = output_schema(stored_catalog(task.left).schema, stored_catalog(task.right).schema, task.config)
    return write_pixel(task.out, pixel, schema.empty_table(), task.write)


def _gathered(catalog: StoredCatalog, sky: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """All columns of some rows of a table that was read for a match; nulls for row -1."""
    rest, places = read_rest(catalog, sky, rows)
    known, added = take_rows(sky, rows), take_rows(rest, places)
    schema = catalog.schema
    columns = [(known if name in known.column_names else added)[name] for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def _rivals(task: MatchTask, pixel: Pixel) -> pa.Table | None:
    """Left rows that are not matched here but may be nearer to a right row than one that is, for a mutual match."""
    if task.config.keep != "mutual":
        return None
    catalog, sky = stored_catalog(task.left), task.config.left
    columns = [name for name in (sky.id, sky.ra, sky.dec, sky.pmra, sky.pmdec, sky.epoch) if name]
    columns = list(dict.fromkeys(columns))
    ring = healpix.ring_around(pixel.order, pixel.ipix, 2.0 * task.margin_arcsec)
    border = read_ranges(catalog, ring, columns=columns)
    if task.subset is None:
        return border
    whole = read_pixel(catalog, pixel, columns=columns)
    outside = whole.filter(pa.array(~task.subset.mask(whole, sky.ra, sky.dec)))
    return pa.concat_tables([border, outside])


def training_pixel(task: TrainingTask, pixel: Pixel) -> Record:
    """Featurise one labelled partition and write the rows that train a model or calibrate its errors."""
    catalog = stored_catalog(task.source)
    table = chosen_rows(read_pixel(catalog, pixel), task.subset, catalog)
    features = add_features(table, task.features, _ebv(table, task.features, catalog))
    rows, rejected = training_rows(features, task.features, task.inputs, task.labels, keep=task.keep)
    written = write_pixel(task.out, pixel, rows)
    only_calibrate = int((~rows["trains"].to_numpy()).sum())
    record = {"rows_in": table.num_rows, "rejected": rejected, "only_calibrate": only_calibrate}
    return {**record, **record_of(written)}


def predict_pixel(task: PredictTask, pixel: Pixel) -> Record:
    """Featurise one partition, predict, and write the value-added rows."""
    catalog = stored_catalog(task.source)
    table = chosen_rows(read_pixel(catalog, pixel), task.subset, catalog)
    features = add_features(table, task.config.features, _ebv(table, task.config.features, catalog))
    predictors = {name: _predictor(path, digest, task.config) for name, path, digest in task.models}
    result = predict_partition(features, task.config, predictors)
    written = write_pixel(task.out, pixel, result)
    return {"rows_in": table.num_rows, **record_of(written)}


def _predictor(path: Path, digest: str, config: PredictConfig) -> Predictor:
    stored = load(path, expect_digest=digest)
    check_features(stored, config.inputs)
    return stored


def record_of(written: PixelRecord) -> Record:
    """What a receipt says of a partition that was written."""
    return {
        "pixel": str(written.pixel),
        "rows_out": written.rows,
        "bytes": written.bytes,
        "checksum": written.checksum,
    }


def chosen_rows(table: pa.Table, subset: Subset | None, catalog: StoredCatalog) -> pa.Table:
    """Rows of a table within a part of the sky."""
    return take_rows(table, _rows_within(table, subset, catalog))


def _rows_within(table: pa.Table, subset: Subset | None, catalog: StoredCatalog) -> NDArray[np.int64]:
    if subset is None:
        return np.arange(table.num_rows)
    properties = catalog.properties
    return np.flatnonzero(subset.mask(table, properties.ra, properties.dec))


def _ebv(table: pa.Table, features: FeatureConfig, catalog: StoredCatalog) -> NDArray | None:
    maps = features.ebv.sfd98 if features.ebv else None
    return dust_of(table, maps, catalog) if maps else None


def dust_of(table: pa.Table, maps: str, catalog: StoredCatalog) -> NDArray:
    """E(B-V) of the dust maps of a directory at the positions of a table."""
    lon, lat = galactic(floats(table, catalog.properties.ra), floats(table, catalog.properties.dec))
    return ebv_sfd98(load_dust_maps(maps), lon, lat)


@dataclass(frozen=True)
class ImportTask:
    """An import whose output directory is claimed."""

    plan: ImportPlan
    spill: Path
    out: Path


def spill_one(task: ImportTask, number: int) -> Record:
    """Read, sort and spill one survey file, or one group of spectra."""
    record = spill_source(number, task.plan, task.spill)
    return {"rows_in": record.rows_in, "rows_out": record.rows_out, "rejected": record.rejected}


def reduce_one(task: ImportTask, part: Partition) -> Record:
    """Gather and write one partition of an import."""
    written = reduce_pixel(part.pixel, part.rows, task.plan, task.spill, task.out)
    return {"rows_in": part.rows, **record_of(written)}
