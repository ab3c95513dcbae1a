"""Training rows out of labelled feature rows: the cuts, each with its count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.config import FeatureConfig, Label
from stellarscale.errors import SchemaError
from stellarscale.partition.features import failed_cuts, floats, matrix


def training_rows(
    table: pa.Table,
    features: FeatureConfig,
    inputs: Sequence[str],
    labels: Mapping[str, Label],
    *,
    keep: Sequence[str] = (),
) -> tuple[pa.Table, dict[str, int]]:
    """Rows fit for training or for the calibration of errors, and how many each cut took.

    A row is kept when it passes all cuts of the training or all of the prediction, has all inputs, and has at least
    one label that passes its own cuts; labels that fail are null in the result. A row that passes the cuts of the
    prediction alone does not train: it is like stars that get parameters, and tells how wrong these are.

    Parameters
    ----------
    table : Table
        Labelled rows with features.
    features : FeatureConfig
        Its cuts.
    inputs : sequence of str
        Inputs of the models.
    labels : mapping of str to Label
        By name.
    keep : sequence of str
        Columns to carry along.

    Returns
    -------
    table : Table
        ``_healpix_29``, the columns to keep, the inputs, ``class_code`` when there are classes, ``trains`` (bool:
        whether the row passes the cuts of the training), and the labels as ``label_<name>``.
    rejected : dict of str to int
        Rows lost by reason; a row counts for the first reason that holds, so rows in = rows out + sum.

    Raises
    ------
    SchemaError
        If a column of a label is missing.
    """
    wanted = [name for label in labels.values() for name in (label.column, label.error) if name]
    missing = sorted(set(wanted) - set(table.schema.names))
    if missing:
        raise SchemaError(
            "label columns are missing",
            where="the labels of the job",
            seen=", ".join(table.schema.names),
            needed=", ".join(missing),
            cause="a typing error, or the prefix of the match differs from the one in the names",
        )
    good = np.ones(table.num_rows, dtype=bool)
    rejected: dict[str, int] = {}
    trains = ~np.any([~good, *failed_cuts(table, features, training=True).values()], axis=0)
    cuts = failed_cuts(table, features, training=False)
    reasons: dict[str, Any] = {reason: failed & ~trains for reason, failed in cuts.items()}
    reasons["missing feature"] = ~np.isfinite(matrix(table, inputs)).all(axis=1)
    values = {name: label_values(table, label) for name, label in labels.items()}
    reasons["no label"] = np.all([np.isnan(column) for column in values.values()], axis=0)
    for reason, failed in reasons.items():
        lost = int((good & failed).sum())
        if lost:
            rejected[reason] = lost
        good &= ~failed
    columns = ["_healpix_29", *keep, *inputs, *(["class_code"] if features.classes else [])]
    result = table.select(list(dict.fromkeys(columns))).append_column("trains", pa.array(trains))
    for name, column in values.items():
        result = result.append_column(f"label_{name}", pa.array(column, mask=np.isnan(column)))
    return result.filter(pa.array(good)), rejected


def label_values(table: pa.Table, label: Label) -> NDArray[np.float64]:
    """A label of each row, offset applied, shape (n,); NaN where it is missing or fails its cuts."""
    values = floats(table, label.column) + label.offset
    if label.error is not None and label.max_error is not None:
        values[~(floats(table, label.error) < label.max_error)] = np.nan
    if label.range is not None:
        values[~((values >= label.range[0]) & (values <= label.range[1]))] = np.nan
    return values
