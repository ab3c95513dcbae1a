"""Other methods than the forest, all with ``fit(x, y)`` and ``predict(x)``, made from a job's settings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ConfigError
from stellarscale.models.boosted import BoostedTrees
from stellarscale.models.network import NetworkRegressor
from stellarscale.models.polynomial import PolynomialRegressor
from stellarscale.settings.methods import ESTIMATOR_PACKAGES, Loss, NetworkOptions, PolynomialOptions
from stellarscale.settings.training import Comparator, ForestSettings


class Regressor(Protocol):
    """What every method is."""

    def fit(self, x: NDArray, y: NDArray[np.float64]) -> Any: ...

    def predict(self, x: NDArray) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Method:
    """One method of the comparison; a network has one per loss."""

    name: str
    kind: str
    estimator: str | None = None
    loss: Loss | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def methods(comparator: Comparator) -> list[Method]:
    """The methods that a comparator of the job stands for."""
    plain = Method(comparator.name, comparator.kind, comparator.estimator, options=comparator.options)
    if comparator.kind != "network":
        return [plain]
    losses = NetworkOptions(**comparator.options).losses
    return [Method(f"{plain.name}_{loss}", "network", loss=loss, options=comparator.options) for loss in losses]


def make(method: Method, *, forest: ForestSettings, seed: int, n_jobs: int) -> Regressor:
    """The method, ready to be fitted.

    Parameters
    ----------
    method : Method
    forest : ForestSettings
        The job's forest; extra trees take its size unless their options say otherwise.
    seed : int
        Of every draw of the method.
    n_jobs : int
        Threads.

    Raises
    ------
    ConfigError
        If an option or the name of an estimator is wrong.
    ModelError
        If a package is not installed.
    """
    if method.kind == "polynomial":
        return PolynomialRegressor(**PolynomialOptions(**method.options).model_dump())
    if method.kind == "network" and method.loss is not None:
        return NetworkRegressor(loss=method.loss, options=NetworkOptions(**method.options), seed=seed)
    if method.kind == "xgboost":
        return BoostedTrees(method.options, seed=seed, n_jobs=n_jobs)
    if method.kind == "extra_trees":
        size = forest.model_dump(include={"n_estimators", "max_features", "max_depth", "min_samples_leaf"})
        options = {**size, "max_features": size["max_features"] or 1.0, **method.options}
        return _ScikitLearn(_named("sklearn.ensemble.ExtraTreesRegressor", options, seed=seed, n_jobs=n_jobs))
    return _ScikitLearn(_standardised(_named(str(method.estimator), method.options, seed=seed, n_jobs=n_jobs)))


class _ScikitLearn:
    """An estimator that trains on threads, and predicts on the one it is called from.

    Its own choice, processes, is none inside of a Dask worker.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, x: NDArray, y: NDArray[np.float64]) -> _ScikitLearn:
        import joblib

        with joblib.parallel_config(backend="threading"):
            self.estimator.fit(x, y)
        return self

    def predict(self, x: NDArray) -> NDArray[np.float64]:
        import joblib

        with joblib.parallel_config(backend="sequential"):
            return np.asarray(self.estimator.predict(x), dtype=np.float64)


def _named(name: str, options: Mapping[str, Any], *, seed: int, n_jobs: int) -> Any:
    made = _regressor_class(name)
    known = made().get_params()
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(
            "the estimator does not know an option of the job",
            where=name,
            seen=", ".join(unknown),
            needed=f"some of {', '.join(sorted(known))}",
        )
    ours = {"random_state": seed, "n_jobs": n_jobs}
    return made(**{**{key: value for key, value in ours.items() if key in known}, **options})


def _regressor_class(name: str) -> Any:
    from sklearn.base import is_regressor

    module, _, short = name.rpartition(".")
    if module.split(".")[0] not in ESTIMATOR_PACKAGES:
        raise ConfigError("this package's estimators are not allowed", seen=name, needed=", ".join(ESTIMATOR_PACKAGES))
    try:
        found = getattr(importlib.import_module(module), short)
        good = isinstance(found, type) and is_regressor(found())
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError("the estimator cannot be made", seen=name, cause=str(error)) from error
    if not good:
        raise ConfigError("this is not a regressor", seen=name, needed="e.g. sklearn.neighbors.KNeighborsRegressor")
    return found


def _standardised(regressor: Any) -> Any:
    """Distances, kernels and gradients need inputs and labels of one size; trees do not mind."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return TransformedTargetRegressor(make_pipeline(StandardScaler(), regressor), transformer=StandardScaler())
