"""How noisy the inputs of each star are: columns of errors, ratios of two, and excesses over a value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import SchemaError
from stellarscale.partition.features import floats


def noise_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Columns that the noise is made of, each once: ``a`` of ``a`` and ``a>0.05``, ``a`` and ``b`` of ``a/b``."""
    return tuple(dict.fromkeys(column for name in names for column in name.split(">")[0].split("/")))


def noise_values(table: pa.Table, names: Sequence[str], *, where: str = "") -> NDArray[np.float64]:
    """Noise of each row, shape (n, len(names)).

    ``a`` is a column, ``a/b`` the ratio of two, ``a>0.05`` what a column has beyond 0.05, else 0: of noise that its
    training sample has a model learns some itself, as it does of E(B-V). A row that lacks a value, or whose ratio is
    not finite, has NaN.

    Raises
    ------
    SchemaError
        If a column is not in the table; ``where`` tells for what.
    """
    missing = sorted(set(noise_columns(names)) - set(table.schema.names))
    if missing:
        raise SchemaError(
            "the errors of a model depend on columns that the table does not have",
            where=where or "training.errors.noise",
            seen=", ".join(table.schema.names),
            needed=", ".join(missing),
            cause="a typing error, or the model was trained by a job with other features or catalogues",
        )
    result = np.empty((table.num_rows, len(names)))
    for index, name in enumerate(names):
        column, _, limit = name.partition(">")
        above, *below = column.split("/")
        values = floats(table, above)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = values / floats(table, below[0]) if below else values
        result[:, index] = np.maximum(values - float(limit), 0.0) if limit else values
    return np.where(np.isfinite(result), result, np.nan)
