"""Errors of labels by the signal to noise of their spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import SchemaError
from stellarscale.partition.features import floats
from stellarscale.schema import ProductSchema, arrow_field

Floats = NDArray[np.float64]


class SnrErrors(Protocol):
    """Errors of labels by signal to noise, e.g. from stars that were observed repeatedly."""

    def errors(self, snr: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard errors, shape (n, n_labels), at signal to noise (n,)."""


@dataclass(frozen=True)
class ErrorsConfig:
    """Which labels get errors, and of what they are made.

    Attributes
    ----------
    labels : tuple of str
        In the order of the models' errors; without any, tables stay as they are.
    snr : str
        Column of the signal to noise.
    product : ProductSchema
    models : tuple of SnrErrors
        Precision of all spectra, or of those below and of those from the limit of ``split`` on.
    split : (str, float), optional
        Label and limit that tell two kinds of stars apart.
    accuracy : tuple of tuple of float, optional
        What repeats do not show, for each model one number for each label: added in quadrature, the precision gets a
        column too.
    """

    labels: tuple[str, ...]
    snr: str
    product: ProductSchema
    models: tuple[SnrErrors, ...]
    split: tuple[str, float] | None = None
    accuracy: tuple[tuple[float, ...], ...] | None = None

    def columns(self, label: str) -> list[str]:
        """Columns that stand behind a label."""
        return [f"{label}_err", *([f"{label}_precision"] if self.accuracy is not None else [])]


def add_errors(table: pa.Table, config: ErrorsConfig) -> pa.Table:
    """Put the errors of each label behind it; null without a label, or without signal to noise.

    Raises
    ------
    SchemaError
        If a column is missing, has an error already, or the product schema does not describe the error.
    ValueError
        If a model gives another number of errors than there are labels.
    """
    schema = errors_schema(table.schema, config)
    if not config.labels:
        return table
    precision, total = _measured(table, config)
    made = {}
    for number, label in enumerate(config.labels):
        known = np.isfinite(floats(table, label))
        for name, errors in zip(config.columns(label), (total, precision), strict=False):
            values = pa.array(np.where(known, errors[:, number], np.nan), from_pandas=True)
            made[name] = values.cast(schema.field(name).type)
    columns = [made[name] if name in made else table[name] for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def _measured(table: pa.Table, config: ErrorsConfig) -> tuple[Floats, Floats]:
    """Precision at the signal to noise of each row, and with the accuracy; (n, n_labels), NaN where not known."""
    snr = floats(table, config.snr)
    kind = np.zeros(table.num_rows, dtype=np.int64)
    if config.split is not None:
        column, limit = config.split
        kind = (floats(table, column) >= limit).astype(np.int64)
    precision = np.full((table.num_rows, len(config.labels)), np.nan)
    total = precision.copy()
    for number, model in enumerate(config.models):
        rows = np.flatnonzero(np.isfinite(snr) & (kind == number))
        found = np.asarray(model.errors(snr[rows]), dtype=np.float64)
        if found.shape != (len(rows), len(config.labels)):
            raise ValueError(f"the model gives errors of shape {found.shape} for labels {', '.join(config.labels)}")
        precision[rows] = found
        total[rows] = found if config.accuracy is None else np.hypot(found, config.accuracy[number])
    return precision, total


def errors_schema(schema: pa.Schema, config: ErrorsConfig) -> pa.Schema:
    """Schema of :func:`add_errors`; raises as it does."""
    if not config.labels:
        return schema
    if len(config.models) != (1 if config.split is None else 2):
        raise ValueError(f"{len(config.models)} models for {1 if config.split is None else 2} kinds of stars")
    names = [name for label in config.labels for name in config.columns(label)]
    missing = sorted({*config.labels, config.snr, *(config.split or ())[:1]} - set(schema.names))
    if missing:
        raise SchemaError(
            "columns that errors depend on are missing", seen=", ".join(schema.names), needed=", ".join(missing)
        )
    taken = sorted(set(names) & set(schema.names))
    if taken:
        raise SchemaError("the labels have errors already", seen=", ".join(taken))
    unknown = sorted(set(names) - set(config.product.columns))
    if unknown:
        raise SchemaError("the product schema does not describe an error", seen=", ".join(unknown))
    fields = []
    for field in schema:
        fields.append(field)
        if field.name in config.labels:
            fields += [arrow_field(name, config.product.columns[name]) for name in config.columns(field.name)]
    return pa.schema(fields, metadata=schema.metadata)
