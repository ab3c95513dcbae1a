"""Precision of labels from stars observed several times (paper II, section 4.2, Eq. 1, Figs 17 and 18).

Repeats show how far estimates scatter, not how far they are from the truth: what is wrong in every spectrum of a star
alike stays hidden.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.stats import FEWEST_FOR_A_FIT, GaussianFit, gaussian_fit

_ROUNDS = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RepeatConfig:
    """Which repeats count, and the steps of their calibration."""

    min_observations: int = 3
    min_snr: float = 10.0
    step_snr: float = 5.0
    min_in_step: int = 30


@dataclass(frozen=True, eq=False)
class RepeatErrors:
    """The error of each label as a function of the signal-to-noise ratio.

    ``errors(snr)`` is ``sqrt(floor^2 + (noise / snr)^2)``, which never rises with S/N; a S/N below the range of the
    repeats is taken at its word, one above it gets nearly the floor.

    Attributes
    ----------
    names : tuple of str
    floor, noise : ndarray of float64, shape (m,)
        Unit of the label; ``noise`` is the error at S/N 1 without the floor.
    sigma : ndarray of float64, shape (m,)
        Of one Gaussian through all repeats: the precision that the paper quotes.
    snr, step_sigma : ndarray of float64, shape (s,), (s, m)
        Median S/N of each step, and the Gaussian sigma of its repeats.
    step_count : ndarray of int64, shape (s,)
    n_stars, n_spectra : int
        That counted.
    """

    names: tuple[str, ...]
    floor: Floats
    noise: Floats
    sigma: Floats
    snr: Floats
    step_sigma: Floats
    step_count: NDArray[np.int64]
    n_stars: int
    n_spectra: int

    def errors(self, snr: ArrayLike) -> Floats:
        """Errors of spectra, shape (n, m); NaN where the S/N is not a positive number."""
        ratio = np.asarray(snr, dtype=np.float64)
        ratio = np.where(np.isfinite(ratio) & (ratio > 0), ratio, np.nan)
        return np.hypot(self.floor, self.noise / ratio[:, None])

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        fields = {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(self).items()
        }
        return {**fields, "names": list(self.names)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> RepeatErrors:
        """What :meth:`to_json` gave."""
        values = {name: np.asarray(value) for name, value in stored.items() if isinstance(value, list)}
        return cls(**{**stored, **values, "names": tuple(stored["names"])})


@dataclass(frozen=True, eq=False)
class Deviations:
    """Deviations of repeats from their star's mean, by Eq. 1.

    Attributes
    ----------
    values : ndarray of float64, shape (n, m)
    snr : ndarray of float64, shape (n,)
        That the deviation belongs to: its observation's own where all of a star have the same. Otherwise the mean that
        is subtracted brings in the noise of the others, and this is the S/N of one observation as noisy as that.
    n_stars : int
    """

    values: Floats
    snr: Floats
    n_stars: int


def deviations(
    labels: ArrayLike, snr: ArrayLike, star: ArrayLike, *, config: RepeatConfig = RepeatConfig()
) -> Deviations:
    """``sqrt(N / (N - 1)) (P_i - mean)`` of every observation that counts.

    Parameters
    ----------
    labels : array_like, shape (n, m)
        An observation with a label that is not finite does not count.
    snr : array_like, shape (n,)
    star : array_like, shape (n,)
        What identifies the star; equal for the observations of one star.
    config : RepeatConfig

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    values, ratio, names = np.asarray(labels, dtype=np.float64), np.asarray(snr, dtype=np.float64), np.asarray(star)
    if values.ndim != 2 or not len(values) == len(ratio) == len(names):
        raise ValueError(f"labels {values.shape}, S/N {ratio.shape} and stars {names.shape} do not belong together")
    good = np.isfinite(values).all(axis=1) & np.isfinite(ratio) & (ratio >= config.min_snr)
    _, index, count = np.unique(names[good], return_inverse=True, return_counts=True)
    enough = count[index] >= max(config.min_observations, 2)
    values, ratio, index = values[good][enough], ratio[good][enough], index[enough]
    sums = np.stack([np.bincount(index, column, len(count)) for column in values.T], axis=1)
    times = count[index][:, None]
    n, noise = count[index], 1.0 / ratio**2
    mean_noise = np.bincount(index, noise, len(count))[index] / n
    variance = n / (n - 1) * ((1 - 2 / n) * noise + mean_noise / n)
    scaled = np.sqrt(times / (times - 1)) * (values - sums[index] / times)
    return Deviations(scaled, 1.0 / np.sqrt(variance), len(np.unique(index)))


def fit_repeats(
    labels: ArrayLike,
    snr: ArrayLike,
    star: ArrayLike,
    *,
    names: tuple[str, ...] = ("teff", "logg", "m_h"),
    config: RepeatConfig = RepeatConfig(),
) -> RepeatErrors:
    """Errors against S/N from repeat observations; one call per branch (dwarfs, giants) where they differ.

    Parameters
    ----------
    labels, snr, star : array_like
        As for :func:`deviations`.
    names : tuple of str
        Of the labels.
    config : RepeatConfig

    Raises
    ------
    InputError
        If too few observations of too few stars count.
    """
    scatter = deviations(labels, snr, star, config=config)
    n = len(scatter.snr)
    if n < max(config.min_in_step, FEWEST_FOR_A_FIT):
        raise InputError(
            "there are too few repeat observations to measure errors by",
            seen=f"{n} spectra of {scatter.n_stars} stars, out of {len(np.asarray(snr))} spectra",
            needed=f"{max(config.min_in_step, FEWEST_FOR_A_FIT)} spectra of stars with {config.min_observations} or "
            f"more observations of S/N >= {config.min_snr:g}",
            cause="few stars were observed often enough, a part of the sky has too few of them, or the column that "
            "identifies stars is one of spectra; with `errors: null` the catalogue comes without errors",
        )
    centres, sigmas, counts = _steps(scatter, config)
    fitted = [_floor_and_noise(centres, column, counts) for column in sigmas.T]
    return RepeatErrors(
        names=names,
        floor=np.array([floor for floor, _ in fitted]),
        noise=np.array([noise for _, noise in fitted]),
        sigma=np.array([fit.sigma for fit in gaussians(scatter)]),
        snr=centres,
        step_sigma=sigmas,
        step_count=counts,
        n_stars=scatter.n_stars,
        n_spectra=n,
    )


def gaussians(scatter: Deviations) -> list[GaussianFit]:
    """A Gaussian through all deviations of each label (Fig. 18)."""
    return [gaussian_fit(column) for column in scatter.values.T]


def _steps(scatter: Deviations, config: RepeatConfig) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Median S/N, sigmas and count of each step; one with too few goes with the next, the last with the one before."""
    order = np.argsort(scatter.snr, kind="stable")
    step = np.floor((scatter.snr[order] - config.min_snr) / config.step_snr)
    ends = np.append(np.flatnonzero(np.diff(step)) + 1, len(order))
    groups: list[NDArray[np.int64]] = []
    start = 0
    for end in ends:
        if end - start >= config.min_in_step:
            groups.append(order[start:end])
            start = int(end)
    if start < len(order):
        groups[-1:] = [np.concatenate([*groups[-1:], order[start:]])]
    sigmas = [[gaussian_fit(column).sigma for column in scatter.values[group].T] for group in groups]
    centres = [float(np.median(scatter.snr[group])) for group in groups]
    return np.array(centres), np.array(sigmas), np.array([len(group) for group in groups], dtype=np.int64)


def _floor_and_noise(snr: Floats, sigma: Floats, count: NDArray[np.int64]) -> tuple[float, float]:
    """Floor and noise term closest to the steps; a variance is known to within its own size over sqrt(count / 2)."""
    from scipy.optimize import nnls

    variance = np.maximum(sigma, 1e-6 * max(float(sigma.max()), 1e-12)) ** 2
    terms = np.column_stack([np.ones(len(snr)), 1.0 / snr**2])
    size = terms.max(axis=0)
    expected = np.full(len(snr), float(np.mean(variance)))
    for _ in range(_ROUNDS):  # weighed by the variance of the curve: a step that is low by chance must not pull
        weight = np.sqrt(count) / expected
        solved, _ = nnls(weight[:, None] * terms / size, weight * variance)
        expected = np.maximum(terms / size @ solved, 1e-12 * variance.max())
    floor, noise = np.sqrt(solved / size)
    return float(floor), float(noise)
