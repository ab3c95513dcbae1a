"""Errors and the novelty of stars for a trained forest, learned from stars that its trees did not see."""

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
from stellarscale.kernels.error_scale import ScaleModel
from stellarscale.kernels.novelty import Mixture, NoveltyModel, fit_novelty, is_novel

__all__ = ["CalibratedErrors", "Calibration", "Novelty", "Told", "calibrate"]

_NAMES = "names"
_SCALE = "scale_"  # begins the names of the arrays of the scale
_SCALE_ARRAYS = tuple(field.name for field in fields(ScaleModel))
_ERROR_ARRAYS = tuple(field.name for field in fields(ErrorModel) if field.name != "scale")
_MIXTURE_ARRAYS = tuple(field.name for field in fields(Mixture))
_REGION_ARRAYS = ("low", "high", "centre", "axes", "threshold")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Told:
    """What a forest tells of labelled stars by trees that did not see them.

    Attributes
    ----------
    prediction, spread : ndarray of float64, shape (n,)
        Mean over these trees, and the standard deviation over all trees as these tell it.
    label : ndarray of float64, shape (n,)
    magnitude : ndarray, shape (n,), or None
        Values of ``Errors.magnitude``; None where it names none.
    noise : ndarray of float64, shape (n, k)
        Values of ``Errors.noise``.
    """

    prediction: Floats
    spread: Floats
    label: Floats
    magnitude: NDArray[np.floating] | None
    noise: Floats

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which stars lack nothing, shape (n,); the others calibrate no errors."""
        known = np.isfinite(self.prediction) & np.isfinite(self.spread) & np.isfinite(self.label)
        known &= np.isfinite(self.noise).all(axis=1)
        return known if self.magnitude is None else known & np.isfinite(self.magnitude)


@dataclass(frozen=True, eq=False)
class CalibratedErrors:
    """Errors of a forest's predictions.

    Attributes
    ----------
    model : ErrorModel
        From spread and noise to errors.
    magnitude : str or None
        Feature on which they depend.
    noise : tuple of str
        Noise that they grow with.
    """

    model: ErrorModel
    magnitude: str | None
    noise: tuple[str, ...] = ()

    def apply(
        self, prediction: Floats, spread: Floats, magnitude: NDArray[np.floating] | None, noise: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """Half widths of the intervals that hold the labels of 68.27 and 95 % of stars, each of shape (n,).

        Parameters
        ----------
        prediction, spread : ndarray of float64, shape (n,)
            Mean and standard deviation over all trees.
        magnitude : ndarray, shape (n,), or None
            None where the errors do not depend on it; a star with NaN takes the factor of all stars.
        noise : ndarray of float64, shape (n, k), or None
            None where the errors depend on none; a star with NaN gets no errors.

        Raises
        ------
        ModelError
            If the errors depend on a magnitude or on noise that is not given.
        """
        if magnitude is None and self.magnitude is not None:
            raise ModelError("the errors of the model depend on a magnitude and none was given", needed=self.magnitude)
        if noise is None:
            noise = np.empty((len(prediction), 0))
        if noise.shape != (len(prediction), len(self.noise)):
            raise ModelError(
                "the errors of the model depend on other noise than was given",
                seen=f"shape {noise.shape} for {len(prediction)} stars",
                needed=", ".join(self.noise) or "none",
            )
        if magnitude is None or self.magnitude is None:
            magnitude = np.zeros(len(prediction))
        return half_widths(self.model, prediction, spread, magnitude, noise)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The errors as named arrays, to be stored."""
        names = json.dumps({"magnitude": self.magnitude, "noise": self.noise}).encode()
        arrays = {name: getattr(self.model, name) for name in _ERROR_ARRAYS}
        arrays |= {f"{_SCALE}{name}": getattr(self.model.scale, name) for name in _SCALE_ARRAYS}
        return {_NAMES: np.frombuffer(names, dtype=np.uint8), **{k: np.atleast_1d(v) for k, v in arrays.items()}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> CalibratedErrors:
        """Read what :meth:`to_arrays` gave; arrays of other names do not count.

        Raises
        ------
        KeyError, ValueError
            If an array is missing, or their shapes do not fit each other.
        """
        names = json.loads(bytes(arrays[_NAMES]))
        _check_error_shapes(arrays, len(names["noise"]))
        coefficients: dict[str, Any] = {name: arrays[f"{_SCALE}{name}"] for name in _SCALE_ARRAYS}
        scale = ScaleModel(**coefficients | {name: float(coefficients[name][0]) for name in ("spread", "floor")})
        return cls(
            ErrorModel(scale, **{name: arrays[name] for name in _ERROR_ARRAYS}),
            names["magnitude"],
            tuple(names["noise"]),
        )


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
        region = self.novelty.model
        arrays = {name: getattr(region, name) for name in _REGION_ARRAYS}
        arrays |= {name: getattr(region.mixture, name) for name in _MIXTURE_ARRAYS}
        arrays["columns"] = self.novelty.columns
        return self.errors.to_arrays() | {name: np.atleast_1d(array) for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], *, n_inputs: int) -> Calibration:
        """Read what :meth:`to_arrays` gave.

        Raises
        ------
        KeyError, ValueError
            If an array is missing, or their shapes do not fit each other or a forest of ``n_inputs``.
        """
        errors = CalibratedErrors.from_arrays(arrays)
        _check_region_shapes(arrays, n_inputs)
        region: dict[str, Any] = {name: arrays[name] for name in _REGION_ARRAYS}
        mixture = Mixture(**{name: arrays[name] for name in _MIXTURE_ARRAYS})
        known = NoveltyModel(mixture=mixture, **region | {"threshold": float(arrays["threshold"][0])})
        return cls(errors, Novelty(known, arrays["columns"]))


def calibrate(
    trained: Told,
    x: NDArray[np.float32],
    *,
    settings: Errors,
    feature_names: Sequence[str],
    n_trees: int | None = None,
    further: Told | None = None,
    known: NDArray[np.bool_] | None = None,
) -> Calibration:
    """Learn errors and novelty from a training sample, and errors from further labelled stars as well.

    Parameters
    ----------
    trained : Told
        The training stars; one that is not complete is left out.
    x : ndarray of float32, shape (n, n_inputs)
        Their inputs, in the order of ``feature_names``.
    settings : Errors
        Bins, and the inputs and share of the novelty.
    feature_names : sequence of str
        Names of the inputs.
    n_trees : int, optional
        Trees of the forest, where predictions are out-of-bag. Without it they are taken for those of the whole
        forest, as for stars held out.
    further : Told, optional
        Stars that did not train, by the whole forest.
    known : ndarray of bool, shape (n,), optional
        Training stars that the novelty learns from; all without it.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If a magnitude is named but not given, or there are fewer than 20 stars to learn from.
    """
    if (trained.magnitude is None) != (settings.magnitude is None):
        raise InputError(
            "the magnitude of the error calibration does not fit the settings",
            where="training.errors.magnitude",
            seen="no values" if trained.magnitude is None else "values",
            needed=settings.magnitude or "none",
        )
    columns = np.array([list(feature_names).index(name) for name in settings.novelty or feature_names], dtype=np.int64)
    complete = np.all(np.isfinite(x[:, columns]), axis=1) & (True if known is None else known)
    _check_number(trained.complete, complete)
    stars = [_arrays(trained, n_trees), *([_arrays(further, None)] if further else [])]
    bins = Bins(settings.magnitude_bins, settings.label_bins, settings.min_stars)
    errors = fit_errors(*(np.concatenate(arrays) for arrays in zip(*stars, strict=True)), bins=bins)
    region = fit_novelty(x[:, columns][complete], quantile=settings.novelty_quantile)
    return Calibration(CalibratedErrors(errors, settings.magnitude, settings.noise), Novelty(region, columns))


def _arrays(stars: Told, n_trees: int | None) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Residual, spread, prediction, magnitude and noise of the complete stars."""
    known = stars.complete
    residual, spread = (stars.label - stars.prediction)[known], stars.spread[known]
    if n_trees is not None:
        residual = as_of_whole_forest(residual, spread, n_trees)
    magnitude = np.zeros(len(known)) if stars.magnitude is None else np.asarray(stars.magnitude, dtype=np.float64)
    return residual, spread, stars.prediction[known], magnitude[known], stars.noise[known]


def _check_number(known: np.ndarray, complete: np.ndarray) -> None:
    for stars, kind in (
        (known, "an out-of-bag prediction, a magnitude and noise"),
        (complete, "all inputs of the novelty, within the limit of the output"),
    ):
        if stars.sum() < conformal.FEWEST:
            raise InputError(
                "too few stars to calibrate errors on",
                seen=f"{stars.sum()} of {len(stars)} with {kind}",
                needed=f"at least {conformal.FEWEST}",
                cause="the training sample is tiny, the forest has few trees, or hardly a star has the magnitude",
            )


def _check_error_shapes(arrays: Mapping[str, np.ndarray], n_noise: int) -> None:
    m, n, q = (len(arrays[name]) for name in ("magnitude", "label", "scale_nodes"))
    expected = {
        "scale_spread": (1,), "scale_floor": (1,), "scale_nodes": (q,), "scale_noise": (q, n_noise),
        "magnitude": (m,), "label": (n,), "factors": (2, m, n), "overall": (2,),
    }  # fmt: skip
    _check_shapes(arrays, expected)
    if not (m and n and q):
        raise ValueError("the errors have no bins, or their scale no nodes")


def _check_region_shapes(arrays: Mapping[str, np.ndarray], n_inputs: int) -> None:
    d, (k, r) = len(arrays["columns"]), arrays["means"].shape
    expected = {
        "low": (d,), "high": (d,), "centre": (d,), "axes": (d, r), "threshold": (1,),
        "means": (k, r), "roots": (k, r, r), "heights": (k,),
    }  # fmt: skip
    _check_shapes(arrays, expected)
    columns = arrays["columns"]
    if not k or columns.dtype != np.int64 or np.any((columns < 0) | (columns >= n_inputs)):
        raise ValueError(f"the calibration does not fit a forest of {n_inputs} inputs")


def _check_shapes(arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float64:
            raise ValueError(f"calibration array {name} is {arrays[name].dtype} {arrays[name].shape}, not {shape}")
