"""Boosted trees by XGBoost: on one machine, or spread over the processes of a Dask cluster."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ConfigError, ModelError

DEFAULTS: Mapping[str, Any] = {"n_estimators": 300, "learning_rate": 0.1, "max_depth": 8, "subsample": 0.8}


class BoostedTrees:
    """XGBoost regression with the package's own arguments.

    Parameters
    ----------
    options : mapping
        Arguments of ``xgboost.XGBRegressor``, before which :data:`DEFAULTS` stand.
    seed, n_jobs : int

    Raises
    ------
    ModelError
        If xgboost is not installed.
    ConfigError
        If it does not know an option; it would only warn.
    """

    def __init__(self, options: Mapping[str, Any], *, seed: int, n_jobs: int) -> None:
        if importlib.util.find_spec("xgboost") is None:
            raise ModelError(
                "boosted trees need xgboost, which is not installed",
                needed="pip install 'stellarscale[ml]'",
                cause="the extra 'ml' was left out",
            )
        from xgboost import XGBRegressor

        unknown = sorted(set(options) - set(XGBRegressor().get_params()))
        if unknown:
            raise ConfigError("xgboost does not know an option of the job", seen=", ".join(unknown))
        self._options = {"random_state": seed, "n_jobs": n_jobs, "verbosity": 0, **DEFAULTS, **options}
        self._booster: Any = None

    def fit(self, x: NDArray, y: NDArray[np.float64]) -> BoostedTrees:
        """Fit to inputs (n, n_features), NaN where missing, and labels (n,)."""
        from xgboost import XGBRegressor

        self._booster = XGBRegressor(**self._options).fit(x, y).get_booster()
        return self

    def fit_on(self, client: Any, x: Any, y: Any) -> BoostedTrees:
        """Fit on a Dask cluster to Dask arrays whose chunks lie in its workers.

        Each worker draws from its own rows and the histograms are summed, so the model depends on how many workers
        there are.
        """
        from xgboost.dask import DaskXGBRegressor

        model = DaskXGBRegressor(**{**self._options, "n_jobs": None})  # the threads that each worker has
        model.client = client
        self._booster = model.fit(x, y).get_booster()
        return self

    def predict(self, x: NDArray) -> NDArray[np.float64]:
        """Labels (n,) of inputs (n, n_features)."""
        return np.asarray(self._booster.inplace_predict(np.ascontiguousarray(x)), dtype=np.float64)

    def ubjson(self) -> bytes:
        """The model in XGBoost's own format, which holds no code; ``xgboost.Booster(model_file=...)`` reads it."""
        return bytes(self._booster.save_raw(raw_format="ubj"))
