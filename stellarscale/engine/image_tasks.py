"""What workers do with networks on images for one partition of stamps, or some rows of a training set. No Dask here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import read_batches_of
from stellarscale.catalog.writer import WriteOptions, write_pixel, write_table
from stellarscale.engine.gpu import Share
from stellarscale.engine.image_training_set import read_training_set
from stellarscale.engine.tasks import Record, record_of, stored_catalog
from stellarscale.errors import ModelError
from stellarscale.flags import COLUMN, decode
from stellarscale.models.ahead import ahead
from stellarscale.models.image_predict import ImagePredictor, ModelFiles, load_predictor, precision_change
from stellarscale.models.image_stars import TRAIN, TrainingStars
from stellarscale.models.image_store import check_stamps, load_image_model
from stellarscale.partition.image_predict import PredictStampsConfig, needed_columns, output_schema, predict_stamps
from stellarscale.settings.image_network import ImagePrediction
from stellarscale.stamp_columns import format_of

READ_ROWS = 512  # as stamps are stored: 14 MB of float16 in six bands of 48 x 48 pixels
_BATCHES = 8  # that go through the networks together: between them a GPU does not wait, after them it does
_MEASURED_STARS = 512


@dataclass(frozen=True)
class Networks:
    """Networks, how they predict, and what they may take of a machine's cores."""

    files: ModelFiles
    settings: ImagePrediction
    share: Share = field(default_factory=Share)

    def load(self) -> ImagePredictor:
        """Ready to predict; once per process."""
        return load_predictor(self.files, self.settings, threads=self.share.threads)


@dataclass(frozen=True)
class PredictImagesTask:
    """Parameters of a catalogue of stamps by networks."""

    source: Path
    out: Path
    config: PredictStampsConfig
    networks: Networks
    write: WriteOptions = field(default_factory=WriteOptions)


@dataclass(frozen=True)
class HeldOutTask:
    """Predictions for the stars of a training set that no network was trained on.

    ``folder`` is the training set, ``networks`` are told by name; each part is written into ``out``.
    """

    folder: Path
    out: Path
    networks: Mapping[str, Networks]


@dataclass(frozen=True)
class HeldOutPart:
    """The held-out stars ``first`` to ``last``, the latter not included, in the order of the set, by one network."""

    network: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """Stem of its file."""
        return f"{self.network}-{self.first}"


def check_images(task: PredictImagesTask) -> pa.Schema:
    """Everything that can be wrong with a prediction before any work is done; returns the result's schema.

    Raises
    ------
    SchemaError
        If the table lacks a column, or holds no stamps.
    ModelError
        If a network was trained on other stamps, or none gives a parameter.
    """
    schema = stored_catalog(task.source).schema
    given: list[str] = []
    for path, digest in task.networks.files:
        model, _ = load_image_model(path, expect_digest=digest)
        check_stamps(model, format_of(schema), where=path)
        given += model.labels
    if not set(given) >= set(task.config.labels):
        raise ModelError(
            "the networks do not give every parameter of the job",
            where=", ".join(str(path) for path, _ in task.networks.files),
            seen=", ".join(given),
            needed=", ".join(task.config.labels),
        )
    return output_schema(schema, task.config)


def predict_image_pixel(task: PredictImagesTask, pixel: Pixel) -> Record:
    """Predict the stamps of one partition: the next row group is read while the networks work on this one.

    The record counts the stars ``without`` parameters, and the flags of these (``why``).
    """
    catalog, predictor = stored_catalog(task.source), task.networks.load()
    columns = needed_columns(catalog.schema, task.config)
    read = read_batches_of(catalog, pixel, columns=columns)
    rows_in, found = 0, [output_schema(catalog.schema, task.config).empty_table()]
    for table in ahead(in_parts(read, max(READ_ROWS, _BATCHES * predictor.passes.batch_size))):
        rows_in += table.num_rows
        found.append(predict_stamps(table, task.config, predictor))
        del table  # before the next one is waited for
    made = pa.concat_tables(found)
    written = write_pixel(task.out, pixel, made, task.write)
    return {"rows_in": rows_in, **record_of(written), **predictor.about, **_without(made, task.config.labels)}


def predict_held_out(task: HeldOutTask, part: HeldOutPart) -> Record:
    """Predict some held-out stars by one network; writes ``row`` of the set, mean and deviation of each label."""
    predictor = task.networks[part.network].load()
    stars = read_training_set(task.folder, predictor.labels)
    rows = held_out_rows(stars)[part.first : part.last]
    mean, std = predictor.estimate(stars.open_stamps()[rows], *stars.parallax[rows].T)
    columns: dict[str, NDArray] = {"row": rows}
    for number, label in enumerate(predictor.labels):
        columns |= {label: mean[:, number], f"{label}_std": std[:, number]}
    write_table(task.out / f"{part.name}.parquet", pa.table(columns))
    return {"rows_in": len(rows), "rows_out": len(rows), **predictor.about}


def measure_precision(task: HeldOutTask, network: str) -> Record:
    """How much the labels of a network change by the precision and compilation that its settings and device give it.

    Returns
    -------
    dict
        ``precision``, ``device``, and ``change``: of each label, in units of its error
        (:func:`stellarscale.models.image_predict.precision_change`); empty where nothing differs from plain fp32.
    """
    given = task.networks[network]
    predictor = given.load()
    stars = read_training_set(task.folder, predictor.labels)
    rows = held_out_rows(stars)[:_MEASURED_STARS]
    change: dict[str, float] = {}
    if len(rows) and not (predictor.passes.precision == "fp32" and not given.settings.compile):
        plain = replace(given, settings=given.settings.model_copy(update={"precision": "fp32", "compile": False}))
        parallax, error = stars.parallax[rows].T
        images, labels = stars.open_stamps()[rows], stars.labels[rows]
        found = precision_change(predictor, plain.load(), images, (parallax, error), labels)
        change = {label: float(each) for label, each in zip(predictor.labels, found, strict=True) if np.isfinite(each)}
    return {"rows_out": len(rows), **predictor.about, "change": change}


def _without(made: pa.Table, labels: Iterable[str]) -> Record:
    lacking = np.logical_and.reduce([made[label].is_null().to_numpy() for label in labels])
    values, counts = np.unique(made[COLUMN].to_numpy()[lacking], return_counts=True)
    why: dict[str, int] = {}
    for value, count in zip(values, counts.tolist(), strict=True):
        for name in decode(value) or ["no flag"]:
            why[name] = why.get(name, 0) + count
    return {"without": int(lacking.sum()), "why": why}


def held_out_rows(stars: TrainingStars) -> NDArray[np.int64]:
    """Rows of the stars of validation and test."""
    return np.flatnonzero(stars.split != TRAIN)


def in_parts(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of so many; the last one may have fewer. Row groups of any size make full batches."""
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        start = 0
        while start < table.num_rows:
            piece = table.slice(start, rows - held)
            waiting.append(piece)
            held, start = held + piece.num_rows, start + piece.num_rows
            if held == rows:
                yield pa.concat_tables(waiting)
                waiting, held = [], 0
    if waiting:
        yield pa.concat_tables(waiting)
