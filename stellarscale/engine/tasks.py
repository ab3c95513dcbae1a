"""What workers do for one partition: read, work, write. No Dask here; each function can be called by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog import layout
from stellarscale.catalog.import_plan import ImportPlan
from stellarscale.catalog.import_reduce import Partition, reduce_pixel
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import StoredCatalog, open_stored, read_pixel, read_ranges
from stellarscale.catalog.spill import spill_file
from stellarscale.catalog.subset import Subset
from stellarscale.catalog.writer import WriteOptions, write_pixel
from stellarscale.config import FeatureConfig, Label
from stellarscale.kernels import healpix
from stellarscale.kernels.dust import ebv_sfd98, galactic
from stellarscale.kernels.forest import predict
from stellarscale.kernels.neighbours import beside_any
from stellarscale.models.forest import check_features
from stellarscale.models.store import load
from stellarscale.partition.features import add_features, floats
from stellarscale.partition.match import MatchConfig, match_partition
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


def _stored(path: Path) -> StoredCatalog:
    """A catalogue's schema and pixels, read once per process and version: workers may outlive a catalogue."""
    files = (layout.properties_path(path), layout.collection_path(path), layout.partition_info_path(path))
    return _opened(path, tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files))


@lru_cache(maxsize=64)
def _opened(path: Path, version: tuple[int, ...]) -> StoredCatalog:
    return open_stored(path)


def match_pixel(task: MatchTask, pixel: Pixel) -> Record:
    """Match one left partition with its surroundings on the right, and write the result."""
    catalog = _stored(task.left)
    left = _within(read_pixel(catalog, pixel), task.subset, catalog)
    matched = matched_table(task, pixel, left, _partners_across(task, pixel, left))
    written = write_pixel(task.out, pixel, matched, task.write)
    return {"rows_in": left.num_rows, **_record(written), **_match_numbers(matched, task.config)}


def matched_table(task: MatchTask, pixel: Pixel, left: pa.Table, ring: NDArray[np.int64] | None = None) -> pa.Table:
    """Match rows of one left partition; what lies around them is read here, of the right rows outside only `ring`."""
    if ring is None:
        ring = healpix.ring_around(pixel.order, pixel.ipix, task.margin_arcsec)
    own = np.array([[pixel.first, pixel.last]], dtype=np.int64)
    right = read_ranges(_stored(task.right), healpix.merge_ranges(np.concatenate([own, ring])))
    border = _rivals(task, pixel) if task.config.keep == "mutual" else None
    return match_partition(left, right, border, task.config)


def _partners_across(task: MatchTask, pixel: Pixel, left: pa.Table) -> NDArray[np.int64]:
    """Ranges outside of a partition with the right rows that are near enough to one of its left rows as stored.

    The sky keys alone tell. Most row groups along the border hold no such row, and then only their keys are decoded.
    """
    ring = healpix.ring_around(pixel.order, pixel.ipix, task.margin_arcsec)
    fine = healpix.finest_order(task.margin_arcsec, pixel.order)
    if healpix.resolution_arcsec(fine) <= 2.0 * task.margin_arcsec:
        return ring
    around = read_ranges(_stored(task.right), ring, columns=[]).column(0).to_numpy()
    cells = np.unique(around >> (2 * (healpix.ORDER - fine)))
    return healpix.pixel_ranges(fine, cells[beside_any(fine, cells, left.column(0).to_numpy())])


def _rivals(task: MatchTask, pixel: Pixel) -> pa.Table:
    """Left rows that are not matched here but may be nearer to a right row than one that is."""
    catalog, sky = _stored(task.left), task.config.left
    columns = [name for name in (sky.id, sky.ra, sky.dec, sky.pmra, sky.pmdec, sky.epoch) if name]
    columns = list(dict.fromkeys(columns))
    ring = healpix.ring_around(pixel.order, pixel.ipix, 2.0 * task.margin_arcsec)
    border = read_ranges(catalog, ring, columns=columns)
    if task.subset is None:
        return border
    whole = read_pixel(catalog, pixel, columns=columns)
    outside = whole.filter(pa.array(~task.subset.mask(whole, sky.ra, sky.dec)))
    return pa.concat_tables([border, outside])


def _match_numbers(matched: pa.Table, config: MatchConfig) -> Record:
    """Numbers of a match that a run sums up."""
    separation = matched[f"{config.pair_prefix}separation_arcsec"]
    return {"matched": matched.num_rows - separation.null_count}


def training_pixel(task: TrainingTask, pixel: Pixel) -> Record:
    """Featurise one labelled partition and write the rows that pass the training cuts."""
    catalog = _stored(task.source)
    table = _within(read_pixel(catalog, pixel), task.subset, catalog)
    features = add_features(table, task.features, _ebv(table, task.features, catalog))
    rows, rejected = training_rows(features, task.features, task.inputs, task.labels, keep=task.keep)
    written = write_pixel(task.out, pixel, rows)
    return {"rows_in": table.num_rows, "rejected": rejected, **_record(written)}


def predict_pixel(task: PredictTask, pixel: Pixel) -> Record:
    """Featurise one partition, predict, and write the value-added rows."""
    catalog = _stored(task.source)
    table = _within(read_pixel(catalog, pixel), task.subset, catalog)
    features = add_features(table, task.config.features, _ebv(table, task.config.features, catalog))
    predictors = {name: _predictor(path, digest, task.config) for name, path, digest in task.models}
    result = predict_partition(features, task.config, predictors)
    written = write_pixel(task.out, pixel, result)
    return {"rows_in": table.num_rows, **_record(written)}


def _predictor(path: Path, digest: str, config: PredictConfig) -> Predictor:
    stored = load(path, expect_digest=digest)
    check_features(stored, config.inputs)
    return partial(predict, stored.packed)


def _record(written: Any) -> Record:
    return {
        "pixel": str(written.pixel),
        "rows_out": written.rows,
        "bytes": written.bytes,
        "checksum": written.checksum,
    }


def _within(table: pa.Table, subset: Subset | None, catalog: StoredCatalog) -> pa.Table:
    if subset is None:
        return table
    properties = catalog.properties
    return table.filter(pa.array(subset.mask(table, properties.ra, properties.dec)))


def _ebv(table: pa.Table, features: FeatureConfig, catalog: StoredCatalog) -> NDArray | None:
    if features.ebv is None or features.ebv.sfd98 is None:
        return None
    maps = load_dust_maps(features.ebv.sfd98)
    lon, lat = galactic(floats(table, catalog.properties.ra), floats(table, catalog.properties.dec))
    return ebv_sfd98(maps, lon, lat)


@dataclass(frozen=True)
class ImportTask:
    """An import whose output directory is claimed."""

    plan: ImportPlan
    spill: Path
    out: Path


def spill_one(task: ImportTask, number: int) -> Record:
    """Read, sort and spill one survey file."""
    record = spill_file(task.plan.files[number], task.plan, task.spill, number)
    return {"rows_in": record.rows_in, "rows_out": record.rows_out, "rejected": record.rejected}


def reduce_one(task: ImportTask, part: Partition) -> Record:
    """Gather and write one partition of an import."""
    written = reduce_pixel(part.pixel, part.rows, task.plan, task.spill, task.out)
    return {"rows_in": part.rows, **_record(written)}
