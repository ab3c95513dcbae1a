"""The estimators behind a forest: scikit-learn's, or scikit-learn-intelex's where that can do it."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stellarscale.errors import ConfigError, ModelError

logger = logging.getLogger(__name__)

_INTELEX_BINS = 1024  # the default of 256 costs 0.4 % in RMSE against exact splits


@dataclass(frozen=True)
class ForestConfig:
    """Hyper-parameters; the defaults are those of the SAGES forests (recipe A, Models).

    Parameters
    ----------
    n_estimators : int
        Trees.
    max_features : float, optional
        Share of the features tried at each split; None tries all.
    max_depth : int, optional
        None leaves the depth unlimited.
    min_samples_leaf : int
        Training rows in a leaf, at least.
    bootstrap, oob_score : bool
        Draw rows with replacement; predict each training row from the trees that did not see it.
    seed : int
        Seed of the draws.
    backend : {'auto', 'sklearn', 'sklearnex'}
        'auto' takes scikit-learn-intelex when it is installed and can do the task, else scikit-learn.
    n_jobs : int
        Threads of the training; -1 takes all. Does not change scikit-learn's result.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """

    n_estimators: int = 300
    max_features: float | None = None
    max_depth: int | None = 17
    min_samples_leaf: int = 1
    bootstrap: bool = True
    oob_score: bool = True
    seed: int = 0
    backend: Literal["auto", "sklearn", "sklearnex"] = "auto"
    n_jobs: int = -1

    def __post_init__(self) -> None:
        checks = {
            "n_estimators": (self.n_estimators >= 1, "at least 1"),
            "max_features": (
                self.max_features is None or 0 < self.max_features <= 1,
                "null, or above 0 and up to 1",
            ),
            "max_depth": (self.max_depth is None or self.max_depth >= 1, "null, or at least 1"),
            "min_samples_leaf": (self.min_samples_leaf >= 1, "at least 1"),
            "oob_score": (self.bootstrap or not self.oob_score, "false where bootstrap is false"),
            "seed": (0 <= self.seed < 2**32, "0 to 2^32 - 1"),
            "backend": (self.backend in ("auto", "sklearn", "sklearnex"), "auto, sklearn or sklearnex"),
            "n_jobs": (self.n_jobs == -1 or self.n_jobs >= 1, "-1, or at least 1"),
        }
        for name, (good, needed) in checks.items():
            if not good:
                raise ConfigError(f"Forest option {name!r} is out of range", seen=getattr(self, name), needed=needed)


def fit_estimator(
    x: np.ndarray, y: np.ndarray, *, config: ForestConfig, sample_weight: np.ndarray | None = None
) -> tuple[Any, str]:
    """Fit and return the estimator itself, with the backend that did the work.

    Parameters
    ----------
    x : numpy.ndarray of float32, (n, n_features)
        Features, finite or NaN.
    y : numpy.ndarray of float64, (n,)
        Labels, finite.
    config : ForestConfig
        Hyper-parameters.
    sample_weight : numpy.ndarray, (n,), optional
        Weights of the rows.

    Returns
    -------
    estimator : object
        Fitted scikit-learn-like regressor.
    backend : str
        'sklearn' or 'sklearnex'.

    Raises
    ------
    ModelError
        If the backend asked for is not installed.
    """
    backend = _choose_backend(config.backend, missing=bool(np.isnan(x).any()), weighted=sample_weight is not None)
    options: dict[str, Any] = {
        "n_estimators": config.n_estimators,
        "max_features": 1.0 if config.max_features is None else float(config.max_features),
        "max_depth": config.max_depth,
        "min_samples_leaf": config.min_samples_leaf,
        "bootstrap": config.bootstrap,
        "oob_score": config.oob_score,
        "random_state": config.seed,
        "n_jobs": config.n_jobs,
    }
    if backend == "sklearnex":
        from sklearnex.ensemble import RandomForestRegressor

        options["max_bins"] = _INTELEX_BINS
        x = x.astype(np.float64)  # the library computes in the rows' own type, labels included
    else:
        from sklearn.ensemble import RandomForestRegressor
    estimator = RandomForestRegressor(**options)
    with warnings.catch_warnings():
        # A Dask worker's threads are none of joblib's business; the backend then takes its own, which is right.
        warnings.filterwarnings("ignore", message="'Threading' parallel backend is not supported")
        # The caller blanks such rows.
        warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores", category=UserWarning)
        estimator.fit(x, y, sample_weight=sample_weight)
    if backend == "sklearnex" and not hasattr(estimator, "_onedal_estimator"):
        logger.warning("scikit-learn-intelex handed this fit to scikit-learn")
        backend = "sklearn"
    return estimator, backend


def _choose_backend(asked: str, *, missing: bool, weighted: bool) -> str:
    if asked == "sklearn":
        return "sklearn"
    if importlib.util.find_spec("sklearnex") is None:
        if asked == "sklearnex":
            raise ModelError(
                "The training backend is not installed",
                seen="no module sklearnex",
                needed="scikit-learn-intelex, or backend: sklearn",
                cause="the 'ml' extra was left out, or this processor has no build of it",
            )
        logger.info("scikit-learn-intelex is not installed: training with scikit-learn, which is slower")
        return "sklearn"
    if missing or weighted:
        reason = "missing features" if missing else "sample weights"
        logger.warning("scikit-learn-intelex does not support %s: training with scikit-learn", reason)
        return "sklearn"
    return "sklearnex"
