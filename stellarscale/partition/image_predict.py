"""Stellar parameters of image stamps by trained networks, with the flags that say why one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import ConfigError, SchemaError
from stellarscale.flags import COLUMN, Flag
from stellarscale.kernels.stamp_summary import stamp_summary
from stellarscale.partition.features import floats, set_flags
from stellarscale.partition.noise import noise_columns, noise_values
from stellarscale.schema import ProductSchema, arrow_field
from stellarscale.stamp_columns import STAMP, StampFormat, format_of, stamps_of

Floats = NDArray[np.float64]
ENDINGS = ("", "_std", "_err", "_err95")
_SKY = "_healpix_29"


class Predictor(Protocol):
    """Networks on images: what :class:`stellarscale.models.image_predict.ImagePredictor` offers."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Parameters that they give."""

    def check_stamps(self, layout: StampFormat) -> None:
        """Refuse stamps that the networks were not trained on."""

    def knows(self, parallax_mas: Floats, error_mas: Floats) -> NDArray[np.bool_]:
        """Which stars have what the networks need besides their stamps, shape (n,)."""

    def estimate(self, stamps: NDArray[np.floating], parallax_mas: Floats, error_mas: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation over samples, (n, n_labels); NaN for a star that gets none."""


class SpreadErrors(Protocol):
    """Calibrated errors of a parameter: what :class:`stellarscale.models.calibrate.CalibratedErrors` offers."""

    @property
    def magnitude(self) -> str | None:
        """Column that the errors depend on, if any."""

    @property
    def noise(self) -> tuple[str, ...]:
        """Noise that they grow with, as :func:`stellarscale.partition.noise.noise_values` reads it."""

    def apply(
        self, prediction: Floats, spread: Floats, magnitude: Floats | None, noise: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """Half widths of the 68.27 and the 95 % intervals, each of shape (n,)."""


class Region(Protocol):
    """The training stars of a network: what :class:`stellarscale.models.image_novelty.ImageNovelty` offers."""

    def is_novel(self, summary: Floats, parallax_mas: Floats, error_mas: Floats) -> NDArray[np.bool_]:
        """Which stars lie outside, shape (n,), by :func:`stellarscale.kernels.stamp_summary.stamp_summary`."""


@dataclass(frozen=True)
class PredictStampsConfig:
    """What a prediction needs to know, besides the networks themselves.

    Attributes
    ----------
    labels : tuple of str
        Parameters, in the order of the catalogue.
    columns : mapping of str to str
        Column of the catalogue: column of the table of stamps.
    parallax, parallax_error : str
        Columns of the parallax and its error, mas.
    limits : mapping of str to (float or None, float or None)
        Parameter: range outside of which it is flagged (paper III, section 6). A value on a limit is inside: where
        the paper says [Fe/H] <= -1, a prediction of exactly -1 is not flagged.
    product : ProductSchema
    errors : mapping of str to SpreadErrors
        Of the parameters that have calibrated errors.
    regions : tuple of Region
        Of the networks: a star outside of one is flagged as ``EXTRAPOLATED``.
    """

    labels: tuple[str, ...]
    columns: Mapping[str, str]
    parallax: str
    parallax_error: str
    limits: Mapping[str, tuple[float | None, float | None]]
    product: ProductSchema
    errors: Mapping[str, SpreadErrors] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()

    @property
    def predicted(self) -> tuple[str, ...]:
        """Predicted columns: each parameter, its spread over samples, its error, the half width at 95 %."""
        return tuple(f"{label}{ending}" for label in self.labels for ending in ENDINGS)


def predict_stamps(table: pa.Table, config: PredictStampsConfig, predictor: Predictor) -> pa.Table:
    """Predict every parameter for every row that may have it; no row is dropped.

    Parameters
    ----------
    table : Table
        Rows with stamps and the columns of :func:`needed_columns`.
    config : PredictStampsConfig
    predictor : Predictor

    Returns
    -------
    Table
        Schema :func:`output_schema`, without stamps. A star gets no parameters without a stamp or with
        ``INCOMPLETE_BANDS``, which is set where the stamp is null or a band has no pixel at all, and without the
        parallax that the networks need (``MISSING_FEATURE``), or if the networks give no number for its whole stamp
        (``EXTRAPOLATED``). Errors are null where a parameter has none that are
        calibrated, or a star lacks a noise; a parameter outside of its limits is flagged and kept, and so are those
        of a star that is unlike the training stars of a network (``EXTRAPOLATED``).

    Raises
    ------
    SchemaError
        If a column is missing, or there are no stamps.
    ModelError
        If the networks were trained on other stamps.
    """
    schema = output_schema(table.schema, config)
    predictor.check_stamps(format_of(table.schema))
    mean, std, flags = _predicted(table, config, predictor)
    columns: dict[str, NDArray] = {}
    for label in config.labels:
        place = predictor.labels.index(label)
        value, spread = mean[:, place], std[:, place]
        columns |= _columns_of(table, label, value, spread, config.errors.get(label))
        flags |= _limit_flags(label, value, config.limits)
    flagged = set_flags(table, flags)
    arrays = [
        pa.array(columns[name], from_pandas=True).cast(schema.field(name).type)  # NaN becomes null
        if name in columns
        else flagged[config.columns.get(name, name)]
        for name in schema.names
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def needed_columns(schema: pa.Schema, config: PredictStampsConfig) -> list[str]:
    """Columns of the table of stamps that a prediction reads, each once; not the coverage of the stamps."""
    noise = [name for errors in config.errors.values() for name in noise_columns(errors.noise)]
    magnitudes = [errors.magnitude for errors in config.errors.values() if errors.magnitude]
    names = [*config.columns.values(), config.parallax, config.parallax_error, *magnitudes, *noise, STAMP]
    names += [COLUMN] if COLUMN in schema.names else []
    return list(dict.fromkeys(names))


def output_schema(schema: pa.Schema, config: PredictStampsConfig) -> pa.Schema:
    """Schema of the value-added catalogue for a table of stamps.

    Raises
    ------
    SchemaError
        If a column that is read is missing, an output column has the name of a predicted one, or the product's schema
        does not describe a predicted one.
    ConfigError
        If a parameter has limits and there is no flag for it.
    """
    missing = sorted(set(needed_columns(schema, config)) - set(schema.names))
    if missing:
        raise SchemaError(
            "the table of stamps lacks columns that the catalogue or the errors need",
            seen=", ".join(schema.names),
            needed=", ".join(missing),
        )
    taken = sorted(set(config.columns) & {*config.predicted, COLUMN})
    if taken:
        raise SchemaError("output columns have the names of predicted ones", seen=", ".join(taken))
    unknown = sorted({*config.predicted, COLUMN} - set(config.product.columns))
    if unknown:
        raise SchemaError("the product schema does not describe a predicted column", seen=", ".join(unknown))
    flagless = [
        label for label in config.labels if label in config.limits and _flag_name(label) not in Flag.__members__
    ]
    if flagless:
        raise ConfigError("there is no flag for the limits of a parameter", where="limits", seen=", ".join(flagless))
    fields = [schema.field(_SKY)]
    fields += [schema.field(source).with_name(name) for name, source in config.columns.items()]
    fields += [arrow_field(name, config.product.columns[name]) for name in (*config.predicted, COLUMN)]
    return pa.schema(fields)


def _predicted(
    table: pa.Table, config: PredictStampsConfig, predictor: Predictor
) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """Mean and standard deviation of every row, NaN where not predicted, and the flags that say why."""
    n = table.num_rows
    parallax, error = floats(table, config.parallax), floats(table, config.parallax_error)
    flags = np.zeros(n, dtype=np.int32)
    known = predictor.knows(parallax, error)
    flags[~known] |= Flag.MISSING_FEATURE
    there = _valid(table)
    flags[~there] |= Flag.INCOMPLETE_BANDS
    usable = np.flatnonzero(known & there & (_flags(table) & Flag.INCOMPLETE_BANDS == 0))
    mean, std = (np.full((n, len(predictor.labels)), np.nan) for _ in range(2))
    stamps = stamps_of(table)
    stamps = stamps if len(usable) == n else stamps[usable]  # the usual case needs no copy
    mean[usable], std[usable] = predictor.estimate(stamps, parallax[usable], error[usable])
    predicted = np.isfinite(mean[usable]).all(axis=1)
    # All else that they need is there. A whole stamp without a result is so unlike the others that numbers overflow.
    blank = np.isnan(stamps[~predicted]).all(axis=(2, 3)).any(axis=1)
    flags[usable[~predicted]] |= np.where(blank, np.int32(Flag.INCOMPLETE_BANDS), np.int32(Flag.EXTRAPOLATED))
    novel = _novel(config, stamps, parallax[usable], error[usable])
    flags[usable[predicted & novel]] |= Flag.EXTRAPOLATED
    return mean, std, flags


def _novel(
    config: PredictStampsConfig, stamps: NDArray[np.floating], parallax: Floats, error: Floats
) -> NDArray[np.bool_]:
    """Which stars are unlike the training stars of some network."""
    novel = np.zeros(len(stamps), dtype=bool)
    if config.regions:
        summary = stamp_summary(stamps)
        for region in config.regions:
            novel |= region.is_novel(summary, parallax, error)
    return novel


def _columns_of(
    table: pa.Table, label: str, value: Floats, spread: Floats, errors: SpreadErrors | None
) -> dict[str, NDArray]:
    err = err95 = np.full(len(value), np.nan)
    if errors is not None:
        magnitude = floats(table, errors.magnitude) if errors.magnitude else None
        noise = noise_values(table, errors.noise, where=f"errors of {label}")
        err, err95 = errors.apply(value, spread, magnitude, noise)
    return {f"{label}{ending}": each for ending, each in zip(ENDINGS, (value, spread, err, err95), strict=True)}


def _limit_flags(
    label: str, value: Floats, limits: Mapping[str, tuple[float | None, float | None]]
) -> NDArray[np.int32]:
    """The parameter's flag where it lies beyond a limit; NaN does not."""
    low, high = limits.get(label, (None, None))
    outside = np.zeros(len(value), dtype=bool)
    if low is not None:
        outside |= value < low
    if high is not None:
        outside |= value > high
    return np.where(outside, np.int32(Flag.__members__.get(_flag_name(label), 0)), np.int32(0))


def _flag_name(label: str) -> str:
    return f"OUTSIDE_{label.upper()}_RANGE"


def _valid(table: pa.Table) -> NDArray[np.bool_]:
    return table[STAMP].is_valid().to_numpy() if table.num_rows else np.empty(0, dtype=bool)


def _flags(table: pa.Table) -> NDArray[np.int32]:
    if COLUMN not in table.schema.names:
        return np.zeros(table.num_rows, dtype=np.int32)
    return table[COLUMN].fill_null(0).to_numpy()
