"""Train regression forests for stellar labels (arrays in, packed forest out)."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from stellarscale.errors import InputError, ModelError
from stellarscale.kernels.forest import PackedForest
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models.fit import ForestConfig
from stellarscale.models.grow import OutOfBag, TreeGroup, combine, grow, out_of_bag
from stellarscale.models.store import ForestProvenance

__all__ = ["MIN_ROWS", "ForestConfig", "TrainedForest", "assemble", "check_features", "describe", "train"]

logger = logging.getLogger(__name__)

MIN_ROWS = 10
"""Fewer training rows than this are refused."""

_VERSIONS_KEPT = ("stellarscale", "numba", "numpy", "scikit-learn", "scikit-learn-intelex")


@dataclass(frozen=True)
class TrainedForest:
    """A trained forest and how well it does on rows its trees did not see.

    Parameters
    ----------
    packed : PackedForest
        For :func:`stellarscale.kernels.forest.predict`.
    feature_names : tuple of str
        Columns of a row, in order.
    config : ForestConfig
        As asked for.
    backend : str
        'histogram', 'sklearn' or 'sklearnex': what did the work.
    n_train : int
        Training rows.
    oob_prediction : numpy.ndarray of float64, (n_train,)
        Out-of-bag prediction in the label's unit; NaN for a row that every tree saw, or where none was asked
        for.
    oob_spread : numpy.ndarray of float64, (n_train,)
        Standard deviation over the trees that did not see the row; NaN where they are fewer than two.
    oob_score, sigma : float
        R^2 and 1.4826 x MAD of the out-of-bag residuals; NaN without them.
    feature_importances : numpy.ndarray of float64, (n_features,)
        Share of the variance removed by each feature; sums to one.
    fit_seconds : float
        Wall-clock time of growing the trees, added over groups that were grown apart.
    """

    packed: PackedForest
    feature_names: tuple[str, ...]
    config: ForestConfig
    backend: str
    n_train: int
    oob_prediction: np.ndarray
    oob_spread: np.ndarray
    oob_score: float
    sigma: float
    feature_importances: np.ndarray
    fit_seconds: float


class HasFeatures(Protocol):
    """Anything that names its feature columns in order."""

    @property
    def feature_names(self) -> tuple[str, ...]: ...


def train(x: np.ndarray, y: np.ndarray, *, feature_names: Sequence[str], config: ForestConfig) -> TrainedForest:
    """Train a regression forest in this process.

    Parameters
    ----------
    x : numpy.ndarray, (n, n_features)
        Features; used as float32. NaN stands for missing and is learnt from.
    y : numpy.ndarray, (n,)
        Labels, finite.
    feature_names : sequence of str
        Names of the columns of ``x``.
    config : ForestConfig
        Hyper-parameters.

    Returns
    -------
    TrainedForest

    Raises
    ------
    InputError
        If shapes disagree, there are too few rows, or values are not finite.
    ModelError
        If the backend asked for is not installed, or cannot learn from missing features.
    """
    x, y = checked_rows(x, y, feature_names)
    group = grow(x, y, config=config, trees=(0, config.n_estimators))
    return assemble([group], x, y, feature_names=feature_names, config=config)


def assemble(
    groups: Iterable[TreeGroup], x: np.ndarray, y: np.ndarray, *, feature_names: Sequence[str], config: ForestConfig
) -> TrainedForest:
    """Put groups of trees together, and predict the training rows by the trees that did not see them.

    Parameters
    ----------
    groups : iterable of TreeGroup
        All trees of the forest; the order of the groups does not matter, nor does their size.
    x : numpy.ndarray of float32, (n, n_features)
        Features that the trees were grown on.
    y : numpy.ndarray of float64, (n,)
        Labels.
    feature_names : sequence of str
        Names of the columns of ``x``.
    config : ForestConfig
        Hyper-parameters.

    Raises
    ------
    ModelError
        If the groups do not make a forest.
    """
    whole = combine(groups, config)
    unknown = np.full(len(y), np.nan)
    oob = out_of_bag(whole.packed, x, y, config=config) if config.oob_score else OutOfBag(unknown, unknown)
    score, sigma = _oob_quality(y, oob.prediction)
    logger.info("forest of %d trees on %d rows by %s", config.n_estimators, len(y), whole.backend)
    importances = whole.importances.sum(axis=0)
    return TrainedForest(
        packed=whole.packed,
        feature_names=tuple(feature_names),
        config=config,
        backend=whole.backend,
        n_train=len(y),
        oob_prediction=oob.prediction,
        oob_spread=oob.spread,
        oob_score=score,
        sigma=sigma,
        feature_importances=importances / max(importances.sum(), np.finfo(float).tiny),
        fit_seconds=whole.seconds,
    )


def check_features(model: HasFeatures, names: Sequence[str]) -> None:
    """Require exactly the model's features, in its order.

    Parameters
    ----------
    model : object with ``feature_names``
        Trained or stored forest.
    names : sequence of str
        Columns about to be given to it.

    Raises
    ------
    ModelError
        Names what is missing, what is unexpected, or that the order differs.
    """
    expected, given = tuple(model.feature_names), tuple(names)
    if given == expected:
        return
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    if missing or unexpected:
        seen = f"missing {missing or 'none'}, unexpected {unexpected or 'none'}"
    else:
        seen = f"the same features in another order or repeated: {list(given)}"
    raise ModelError(
        "The features do not fit the model",
        seen=seen,
        needed=list(expected),
        cause="the model was trained with other bands or colours than this job names",
    )


def describe(
    trained: TrainedForest,
    *,
    label: str,
    unit: str = "",
    class_names: Sequence[str] = (),
    config_digest: str = "",
    features_digest: str = "",
) -> ForestProvenance:
    """The record that :func:`stellarscale.models.store.save` writes beside the arrays.

    Parameters
    ----------
    trained : TrainedForest
        From :func:`train`.
    label, unit : str
        What it predicts.
    class_names : sequence of str
        Classes of star it was trained for.
    config_digest : str
        Digest of the job's configuration.
    features_digest : str
        Digest of what the features mean: extinction, colours, classes.

    Returns
    -------
    ForestProvenance
    """
    return ForestProvenance(
        feature_names=trained.feature_names,
        label=label,
        unit=unit,
        class_names=tuple(class_names),
        config_digest=config_digest,
        features_digest=features_digest,
        oob_score=trained.oob_score,
        sigma=trained.sigma,
        n_train=trained.n_train,
        hyperparameters={**asdict(trained.config), "backend": trained.backend},
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    installed = {}
    for name in _VERSIONS_KEPT:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def checked_rows(x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Features as float32 and labels as float64, both contiguous; errors as :func:`train`."""
    if x.ndim != 2 or x.shape[1] != len(names) or y.shape != (len(x),):
        raise InputError("Training arrays disagree", seen=f"x {x.shape}, y {y.shape}, {len(names)} feature names")
    if len(x) < MIN_ROWS:
        raise InputError(
            "Too few training rows",
            seen=len(x),
            needed=f"at least {MIN_ROWS}",
            cause="the cuts on the training sample, or the class, leave next to nothing",
        )
    y = np.ascontiguousarray(y, dtype=np.float64)
    if not np.isfinite(y).all():
        raise InputError(
            "Labels must be finite",
            where=f"row {np.argmin(np.isfinite(y))}",
            seen=f"{(~np.isfinite(y)).sum()} rows",
        )
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, dtype=np.float32)
    row, column = np.unravel_index(np.argmax(np.isinf(x)), x.shape)
    if np.isinf(x[row, column]):
        raise InputError(
            "Features must be finite in float32, or NaN where missing",
            where=f"row {row}, {names[int(column)]}",
            seen=x[row, column],
            cause="a logarithm of zero, or a sentinel that is too large",
        )
    return x, y


def _oob_quality(y: np.ndarray, oob: np.ndarray) -> tuple[float, float]:
    known = np.isfinite(oob)
    if known.sum() < 2:
        return float("nan"), float("nan")
    residual, spread = oob[known] - y[known], y[known] - y[known].mean()
    variance = float(spread @ spread)
    score = 1.0 - float(residual @ residual) / variance if variance > 0 else float("nan")
    return score, robust_sigma(residual)
