"""Regressors whose hyper-parameters a Bayesian search chooses on training stars alone (paper III, section 5.2)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError, ModelError
from stellarscale.models.streams import stream_seed

if TYPE_CHECKING:
    from optuna import Trial

Params = dict[str, Any]

ALGORITHMS = {"random_forest": "sklearn", "xgboost": "xgboost", "lightgbm": "lightgbm", "catboost": "catboost"}
"""Algorithm: the package that has it."""
FEWEST_STARS = 20
TREES = 200  # of a forest: more never do worse, so they are not searched
SMALLER: dict[str, Params] = {"random_forest": {"n_estimators": 50}}
"""What a trial is fitted with instead: the best depth, leaves and features are about those of the whole forest."""
TESTED_SHARE = 0.2  # of the stars of the search, on which a set of hyper-parameters is scored
_EXTRA = "pip install 'stellarscale[comparisons]'"


class Searched(NamedTuple):
    """What a search found.

    Attributes
    ----------
    regressor : Fitted
        Trained on all stars with the best hyper-parameters.
    params : dict
        Those.
    score : float
        Root mean square residual of the stars that the search held back, in the unit of the labels.
    history : list of dict
        ``params`` and ``score`` of each trial, in the order in which they were tried.
    """

    regressor: Fitted
    params: Params
    score: float
    history: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained regressor of any of the packages, with one ``predict``."""

    algorithm: str
    estimator: Any

    def predict(self, x: NDArray) -> NDArray[np.float64]:
        """Labels (n,) of inputs (n, n_features), NaN where an input is missing."""
        import joblib

        rows = np.ascontiguousarray(x, dtype=np.float32)
        with joblib.parallel_config(backend="sequential"):
            # The booster itself: the wrapper for scikit-learn warns of column names that were never given.
            predict = self.estimator.booster_.predict if self.algorithm == "lightgbm" else self.estimator.predict
            return np.asarray(predict(rows), dtype=np.float64).reshape(len(rows))


def search_fit(
    x: NDArray,
    y: NDArray[np.float64],
    *,
    algorithm: str,
    trials: int,
    max_stars: int,
    seed: int,
    n_jobs: int = 1,
) -> Searched:
    """Search hyper-parameters by tree-structured Parzen estimators, then train on all stars with the best.

    The search draws at most ``max_stars`` of the stars, holds a fifth of them back to score each trial by the root
    mean square of the residuals, and starts with the packages' usual values, so that it never ends with worse ones.
    The same arguments give the same result where the package itself is deterministic on ``n_jobs`` threads; with one
    thread all four are.

    Parameters
    ----------
    x : ndarray, shape (n, n_features)
        Inputs of the training stars; NaN where one is missing.
    y : ndarray, shape (n,)
        Labels, finite.
    algorithm : str
        One of :data:`ALGORITHMS`.
    trials : int
        Sets of hyper-parameters.
    max_stars : int
        Stars that the search uses.
    seed : int
        Of every draw.
    n_jobs : int
        Threads.

    Raises
    ------
    ModelError
        If a package is not installed.
    InputError
        If there are too few stars, a label is missing, or a value is infinite.
    """
    require_packages([algorithm])
    x = _checked(x, y)
    rows = _drawn(len(y), max_stars, seed)
    tested, trained = np.split(rows, [max(round(TESTED_SHARE * len(rows)), 1)])

    def score(params: Params) -> float:
        fitted = _fit(algorithm, params | SMALLER.get(algorithm, {}), x[trained], y[trained], seed=seed, n_jobs=n_jobs)
        return float(np.sqrt(np.mean((fitted.predict(x[tested]) - y[tested]) ** 2)))

    params, best, history = _search(score, algorithm, trials=trials, seed=seed)
    return Searched(_fit(algorithm, params, x, y, seed=seed, n_jobs=n_jobs), params, best, history)


def _checked(x: NDArray, y: NDArray) -> NDArray[np.float32]:
    if len(x) != len(y) or len(y) < FEWEST_STARS:
        raise InputError(
            "too few stars to search hyper-parameters", seen=f"{len(x)} inputs, {len(y)} labels", needed=FEWEST_STARS
        )
    if not np.isfinite(y).all() or np.isinf(x).any():
        raise InputError("a label is not finite, or an input is infinite", needed="finite labels; NaN for no input")
    return np.ascontiguousarray(x, dtype=np.float32)


def _drawn(number: int, most: int, seed: int) -> NDArray[np.int64]:
    """Rows of the search in random order."""
    rng = np.random.default_rng(stream_seed(seed, "search", "stars"))
    return rng.permutation(number)[:most]


def _search(
    score: Callable[[Params], float], algorithm: str, *, trials: int, seed: int
) -> tuple[Params, float, list[dict[str, Any]]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # With few trials the sampler would draw all of them blindly: at most half of them are.
    startup = min(10, max(trials // 2, 1))
    sampler = optuna.samplers.TPESampler(seed=stream_seed(seed, "search", algorithm), n_startup_trials=startup)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    study.enqueue_trial(USUAL[algorithm])
    study.optimize(lambda trial: score(SPACES[algorithm](trial)), n_trials=trials)
    history = [{"params": trial.params, "score": trial.value} for trial in study.trials]
    return dict(study.best_params), float(study.best_value), history


def _fit(algorithm: str, params: Params, x: NDArray, y: NDArray, *, seed: int, n_jobs: int) -> Fitted:
    import joblib

    estimator = _MAKERS[algorithm](params, stream_seed(seed, "fit", algorithm), n_jobs)
    with joblib.parallel_config(backend="threading"):
        estimator.fit(x, y)
    return Fitted(algorithm, estimator)


def require_packages(algorithms: Sequence[str]) -> None:
    """Refuse a search whose packages are not installed; :class:`ModelError` names the first."""
    for package in ("optuna", *(ALGORITHMS[algorithm] for algorithm in algorithms)):
        if importlib.util.find_spec(package) is None:
            raise ModelError(
                f"the comparison needs {package}, which is not installed",
                needed=_EXTRA,
                cause="the extra 'comparisons' was left out",
            )


def _random_forest(params: Params, seed: int, n_jobs: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(**{"n_estimators": TREES, **params}, random_state=seed, n_jobs=n_jobs)


def _xgboost(params: Params, seed: int, n_jobs: int) -> Any:
    from xgboost import XGBRegressor

    return XGBRegressor(**params, tree_method="hist", random_state=seed, n_jobs=n_jobs, verbosity=0)


def _lightgbm(params: Params, seed: int, n_jobs: int) -> Any:
    from lightgbm import LGBMRegressor

    fixed: Params = {"subsample_freq": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}
    return LGBMRegressor(**params, **fixed, random_state=seed, n_jobs=n_jobs)


def _catboost(params: Params, seed: int, n_jobs: int) -> Any:
    from catboost import CatBoostRegressor

    fixed: Params = {"bootstrap_type": "Bayesian", "allow_writing_files": False, "verbose": False}
    return CatBoostRegressor(**params, **fixed, random_seed=seed, thread_count=n_jobs)


_MAKERS: dict[str, Callable[[Params, int, int], Any]] = {
    "random_forest": _random_forest,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
}

USUAL: dict[str, Params] = {
    "random_forest": {"max_depth": 20, "min_samples_leaf": 2, "max_features": 0.5},
    "xgboost": {
        "n_estimators": 300,
        "learning_rate": 0.1,
        "max_depth": 6,
        "min_child_weight": 1.0,
        "subsample": 0.8,
        "colsample_bytree": 1.0,
        "reg_lambda": 1.0,
    },
    "lightgbm": {
        "n_estimators": 300,
        "learning_rate": 0.1,
        "num_leaves": 31,
        "min_child_samples": 20,
        "subsample": 0.8,
        "colsample_bytree": 1.0,
        "reg_lambda": 0.01,
    },
    "catboost": {
        "iterations": 300,
        "learning_rate": 0.1,
        "depth": 6,
        "l2_leaf_reg": 3.0,
        "random_strength": 1.0,
        "bagging_temperature": 1.0,
    },
}
"""What the search tries first."""


def _forest_space(trial: Trial) -> Params:
    return {
        "max_depth": trial.suggest_int("max_depth", 6, 30),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 20, log=True),
        "max_features": trial.suggest_float("max_features", 0.2, 1.0),
    }


def _boosted(trial: Trial) -> Params:
    """Hyper-parameters that XGBoost and LightGBM have in common."""
    return {
        "n_estimators": trial.suggest_int("n_estimators", 100, 800, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.01, 20.0, log=True),
    }


def _xgboost_space(trial: Trial) -> Params:
    return _boosted(trial) | {
        "max_depth": trial.suggest_int("max_depth", 3, 10),
        "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 30.0, log=True),
    }


def _lightgbm_space(trial: Trial) -> Params:
    return _boosted(trial) | {
        "num_leaves": trial.suggest_int("num_leaves", 8, 255, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 5, 100, log=True),
    }


def _catboost_space(trial: Trial) -> Params:
    return {
        "iterations": trial.suggest_int("iterations", 100, 800, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
        "depth": trial.suggest_int("depth", 3, 9),
        "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 1.0, 30.0, log=True),
        "random_strength": trial.suggest_float("random_strength", 0.1, 10.0, log=True),
        "bagging_temperature": trial.suggest_float("bagging_temperature", 0.0, 1.0),
    }


SPACES: dict[str, Callable[[Trial], Params]] = {
    "random_forest": _forest_space,
    "xgboost": _xgboost_space,
    "lightgbm": _lightgbm_space,
    "catboost": _catboost_space,
}
"""Where the search looks."""
