"""How noisy the inputs of each star are: columns of errors, and ratios of two columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.errors import SchemaError
from stellarscale.partition.features import floats


def noise_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Columns that the noise is made of, each once: ``a`` of ``a``, ``a`` and ``b`` of ``a/b``."""
    return tuple(dict.fromkeys(column for name in names for column in name.split("/")))


def noise_values(table: pa.Table, names: Sequence[str], *, where: str = "") -> NDArray[np.float64]:
    """Noise of each row, shape (n, len(names)): a column, or the ratio of two where the name is ``a/b``.

    A row that lacks a value, or whose ratio has no finite value, has NaN.

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
        above, *below = name.split("/")
        values = floats(table, above)
        with np.errstate(divide="ignore", invalid="ignore"):
            result[:, index] = values / floats(table, below[0]) if below else values
    return np.where(np.isfinite(result), result, np.nan)
