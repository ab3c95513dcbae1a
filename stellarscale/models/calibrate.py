"""Errors and the novelty of stars for a trained forest, learned from its out-of-bag predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.config import Errors
from stellarscale.errors import InputError, ModelError
from stellarscale.kernels import conformal
from stellarscale.kernels.conformal import Bins, ErrorModel, as_of_whole_forest, fit_errors, half_widths
from stellarscale.kernels.novelty import Mixture, NoveltyModel, fit_novelty, is_novel

__all__ = ["CalibratedErrors", "Calibration", "Novelty", "calibrate"]

_NAMES = "names"
_ERROR_ARRAYS = tuple(field.name for field in fields(ErrorModel))
_MIXTURE_ARRAYS = tuple(field.name for field in fields(Mixture))
_REGION_ARRAYS = ("low", "high", "centre", "axes", "threshold")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CalibratedErrors:
    """Errors of a forest's predictions.

    Attributes
    ----------
    model : ErrorModel
        Factors from spread to error.
    magnitude : str or None
        Feature on which they depend.
    """

    model: ErrorModel
    magnitude: str | None

    def apply(
        self, prediction: Floats, spread: Floats, magnitude: NDArray[np.floating] | None
    ) -> tuple[Floats, Floats]:
        """Half widths of the intervals that hold the labels of 68.27 and 95 % of stars, each of shape (n,).

        Parameters
        ----------
        prediction, spread : ndarray of float64, shape (n,)
            Mean and standard deviation over all trees.
        magnitude : ndarray, shape (n,), or None
            None where the errors do not depend on it; a star with NaN takes the factor of all stars.

        Raises
        ------
        ModelError
            If the errors depend on a magnitude and none is given.
        """
        if magnitude is None and self.magnitude is not None:
            raise ModelError("the errors of the model depend on a magnitude and none was given", needed=self.magnitude)
        if magnitude is None or self.magnitude is None:
            magnitude = np.zeros(len(prediction))
        return half_widths(self.model, prediction, spread, magnitude)


@dataclass(frozen=True, eq=False)
class Novelty:
    """The region of the training sample.

    Attributes
    ----------
    model : NoveltyModel
        Its limits and density.
    columns : ndarray of int64, shape (d,)
        Inputs of the forest that it looks at.
    """

    model: NoveltyModel
    columns: NDArray[np.int64]

    def is_novel(self, x: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rows of the forest's inputs, shape (n, n_inputs), lie outside; a row with a missing value does not."""
        return is_novel(self.model, np.ascontiguousarray(x, dtype=np.float32), self.columns)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What turns the spread of a forest into errors, and tells the stars that it does not know."""

    errors: CalibratedErrors
    novelty: Novelty

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The calibration as named arrays, to be stored."""
        names = json.dumps({"magnitude": self.errors.magnitude}).encode()
        region = self.novelty.model
        arrays = {name: getattr(self.errors.model, name) for name in _ERROR_ARRAYS}
        arrays |= {name: getattr(region, name) for name in _REGION_ARRAYS}
        arrays |= {name: getattr(region.mixture, name) for name in _MIXTURE_ARRAYS}
        arrays["columns"] = self.novelty.columns
        return {_NAMES: np.frombuffer(names, dtype=np.uint8), **{k: np.atleast_1d(v) for k, v in arrays.items()}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], *, n_inputs: int) -> Calibration:
        """Read what :meth:`to_arrays` gave.

        Raises
        ------
        KeyError, ValueError
            If an array is missing, or their shapes do not fit each other or a forest of ``n_inputs``.
        """
        _check_shapes(arrays, n_inputs)
        magnitude = json.loads(bytes(arrays[_NAMES]))["magnitude"]
        error_arrays: dict[str, Any] = {name: arrays[name] for name in _ERROR_ARRAYS}
        region: dict[str, Any] = {name: arrays[name] for name in _REGION_ARRAYS}
        errors = ErrorModel(**error_arrays | {"damping": float(arrays["damping"][0])})
        mixture = Mixture(**{name: arrays[name] for name in _MIXTURE_ARRAYS})
        known = NoveltyModel(mixture=mixture, **region | {"threshold": float(arrays["threshold"][0])})
        return cls(CalibratedErrors(errors, magnitude), Novelty(known, arrays["columns"]))


def calibrate(
    prediction: Floats,
    spread: Floats,
    label: Floats,
    magnitude: NDArray[np.floating] | None,
    x: NDArray[np.float32],
    *,
    settings: Errors,
    feature_names: Sequence[str],
    n_trees: int | None = None,
) -> Calibration:
    """Learn errors and novelty from a training sample.

    Parameters
    ----------
    prediction, spread : ndarray of float64, shape (n,)
        Mean over the trees that did not see the star, and the standard deviation over all trees as these tell it; a
        star with NaN is left out.
    label : ndarray of float64, shape (n,)
        Labels.
    magnitude : ndarray, shape (n,), or None
        Values of ``settings.magnitude``, None where it names none. A star without one is left out of the errors.
    x : ndarray of float32, shape (n, n_inputs)
        Inputs of the forest, in the order of ``feature_names``.
    settings : Errors
        Bins, and the inputs and share of the novelty.
    feature_names : sequence of str
        Names of the inputs.
    n_trees : int, optional
        Trees of the forest, where predictions are out-of-bag. Without it they are taken for those of the whole
        forest, as for stars held out.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If a magnitude is named but not given, or there are fewer than 20 stars to learn from.
    """
    if (magnitude is None) != (settings.magnitude is None):
        raise InputError(
            "the magnitude of the error calibration does not fit the settings",
            where="training.errors.magnitude",
            seen="no values" if magnitude is None else "values",
            needed=settings.magnitude or "none",
        )
    given = np.zeros(len(label)) if magnitude is None else np.asarray(magnitude, dtype=np.float64)
    known = np.isfinite(prediction) & np.isfinite(spread) & np.isfinite(label) & np.isfinite(given)
    columns = np.array([list(feature_names).index(name) for name in settings.novelty or feature_names], dtype=np.int64)
    complete = np.all(np.isfinite(x[:, columns]), axis=1)
    _check_number(known, complete)
    residual, width = (label - prediction)[known], spread[known]
    if n_trees is not None:
        residual = as_of_whole_forest(residual, width, n_trees)
    bins = Bins(settings.magnitude_bins, settings.label_bins, settings.min_stars)
    errors = fit_errors(residual, width, prediction[known], given[known], bins=bins)
    region = fit_novelty(x[:, columns][complete], quantile=settings.novelty_quantile)
    return Calibration(CalibratedErrors(errors, settings.magnitude), Novelty(region, columns))


def _check_number(known: np.ndarray, complete: np.ndarray) -> None:
    for stars, kind in ((known, "an out-of-bag prediction and a magnitude"), (complete, "all inputs of the novelty")):
        if stars.sum() < conformal.FEWEST:
            raise InputError(
                "too few stars to calibrate errors on",
                seen=f"{stars.sum()} of {len(stars)} with {kind}",
                needed=f"at least {conformal.FEWEST}",
                cause="the training sample is tiny, the forest has few trees, or hardly a star has the magnitude",
            )


def _check_shapes(arrays: Mapping[str, np.ndarray], n_inputs: int) -> None:
    m, n, d = (len(arrays[name]) for name in ("magnitude", "label", "columns"))
    k, r = arrays["means"].shape
    expected = {
        "damping": (1,), "magnitude": (m,), "label": (n,), "factors": (2, m, n), "overall": (2,),
        "low": (d,), "high": (d,), "centre": (d,), "axes": (d, r), "threshold": (1,),
        "means": (k, r), "roots": (k, r, r), "heights": (k,),
    }  # fmt: skip
    for name, shape in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float64:
            raise ValueError(f"calibration array {name} is {arrays[name].dtype} {arrays[name].shape}, not {shape}")
    columns = arrays["columns"]
    if not (m and n and k) or columns.dtype != np.int64 or np.any((columns < 0) | (columns >= n_inputs)):
        raise ValueError(f"the calibration does not fit a forest of {n_inputs} inputs")
