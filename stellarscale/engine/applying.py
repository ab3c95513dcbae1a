"""Apply a fitted method to arrays and catalogues through dask-ml, and measure how fast that is."""

from __future__ import annotations

import importlib.util
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ModelError

CHUNK_ROWS = 20_000
_TIMED_S = 0.2


class Predictor(Protocol):
    """Anything fitted."""

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Values (n,) of rows (n, n_inputs)."""


def apply(predictor: Predictor, rows: Any, inputs: Sequence[str] = ()) -> Any:
    """Predict for a Dask array or dataframe through dask-ml's ``ParallelPostFit``, partition by partition.

    Parameters
    ----------
    predictor : fitted estimator
        scikit-learn's, XGBoost's or one of ours; it travels with the graph, so a small one for a remote cluster.
    rows : dask.array.Array (n, n_inputs) or dask.dataframe.DataFrame
        E.g. ``open_catalog(path).to_dask()``. Empty partitions are allowed.
    inputs : sequence of str
        Columns of a dataframe, in the order of the training.

    Returns
    -------
    dask.array.Array (n,) or dask.dataframe.Series of float64
        NaN for rows with a missing input.

    Raises
    ------
    ModelError
        If dask-ml is not installed.
    """
    if importlib.util.find_spec("dask_ml") is None:
        raise ModelError("this needs dask-ml, which is not installed", needed="pip install 'stellarscale[ml]'")
    import pandas as pd
    from dask_ml.wrappers import ParallelPostFit

    guarded = _Guarded(predictor, tuple(inputs))
    meta = pd.Series([], dtype=np.float64, name="prediction") if hasattr(rows, "columns") else np.empty(0)
    return ParallelPostFit(guarded, predict_meta=meta).predict(rows)


@dataclass(frozen=True, eq=False)
class _Guarded:
    """A fitted method that is never given an empty partition or a missing input, which most refuse."""

    predictor: Predictor
    inputs: tuple[str, ...]

    def predict(self, part: Any) -> Any:
        """Values of the rows of a partition, NaN where an input is missing."""
        framed = hasattr(part, "columns")
        x = part[list(self.inputs)].to_numpy(np.float32, na_value=np.nan) if framed else part
        complete = np.isfinite(x).all(axis=1)
        result = np.full(len(x), np.nan)
        if complete.any():
            result[complete] = self.predictor.predict(x[complete])
        if not framed:
            return result
        import pandas as pd

        return pd.Series(result, index=part.index, name="prediction")

    def __dask_tokenize__(self) -> str:
        return uuid.uuid4().hex  # Dask would pickle the whole model to name the result


def timed(predictor: Predictor, x: NDArray[np.float32], threads: int) -> tuple[NDArray[np.float64], float]:
    """Predictions through :func:`apply` on threads of this process, and rows per second.

    One row goes first, for what is compiled and imported; a few rows are repeated to fill a chunk, and short passes
    to last a while: less would tell no rate.
    """
    import dask.array as da

    filled = np.resize(x, (max(len(x), CHUNK_ROWS), x.shape[1]))
    rows = da.from_array(filled, chunks=(CHUNK_ROWS, -1))
    apply(predictor, rows[:1]).compute(scheduler="synchronous")
    started, passes, seconds = time.perf_counter(), 0, 0.0
    while seconds < _TIMED_S:
        predicted = apply(predictor, rows).compute(scheduler="threads", num_workers=threads)
        passes, seconds = passes + 1, time.perf_counter() - started
    return predicted[: len(x)], passes * len(filled) / seconds
