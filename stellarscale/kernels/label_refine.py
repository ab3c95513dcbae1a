"""Labels of matched spectra better than the average of their best references: a regression on what sets them apart.

The k best references and their weights say where a spectrum lies; what is left between the spectrum and their
combination says where exactly. Both are expressed in the principal components of the references: the combination's
scores are known exactly, the difference is estimated by weighted least squares with a Gaussian prior whose width is
learned from the references themselves (each against the combination of its own best others). Noise drowns the
difference, and the scores fall back to those of the combination; masked pixels just carry no weight. A Gaussian
process then turns scores into labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from stellarscale.kernels.components import Components, find_components, likeliest_scores
from stellarscale.kernels.flatten import find_scale, flatten, scale_at
from stellarscale.kernels.gaussian_process import Process, fit_process, predict
from stellarscale.kernels.template_match import Matches, match_spectra, prepare

FEWEST = 20
"""References below which there is nothing to learn a regression from."""
_ROWS = 256  # spectra at a time: the work space stays within the processor's cache

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RefineConfig:
    """How labels are refined.

    Attributes
    ----------
    components : int
        Principal components of the references.
    whitening : float
        From 0 (components count by their variance) to 1 (all count alike) in the distance between spectra.
    length : float
        Over which labels change, in units of the median distance between references.
    furthest : float
        Share of the references that lie as close to the combination of their best others as any spectrum may.
    log_label : int or None
        The label whose logarithm is regressed; the effective temperature, which spans a factor.
    """

    components: int = 40
    whitening: float = 0.3
    length: float = 1.0
    furthest: float = 0.99
    log_label: int | None = 0


@dataclass(frozen=True, eq=False)
class Refiner:
    """References ready to refine labels with; from :func:`prepare_refiner`.

    Attributes
    ----------
    flat : ndarray of float32, shape (n_ref, n_pix)
        References without their smooth scale.
    order : int
        Of the scale.
    components : Components
    scores : ndarray of float64, shape (n_ref, k)
    precision : ndarray of float64, shape (k, k)
        Inverse covariance of a reference's scores about those of the combination of its best others.
    reach : float
        Largest squared distance from the combination, in that covariance.
    unit : ndarray of float64, shape (k,)
        What scores are divided by before the regression.
    process : Process
    limits : ndarray of float64, shape (2, n_labels)
        Smallest and largest label of the references.
    log_label : int or None
    """

    flat: NDArray[np.float32]
    order: int
    components: Components
    scores: Floats
    precision: Floats
    reach: float
    unit: Floats
    process: Process
    limits: Floats
    log_label: int | None


@dataclass(frozen=True, eq=False)
class Refined:
    """Labels and their spread, shape (n, n_labels); NaN for a spectrum without a match.

    ``spread`` is the root mean square by which the labels of the references nearby are missed when each is left out.
    """

    labels: Floats
    spread: Floats


def prepare_refiner(
    flux: ArrayLike, labels: ArrayLike, *, order: int, config: RefineConfig = RefineConfig()
) -> Refiner:
    """Learn from references how labels follow from spectra.

    Parameters
    ----------
    flux : array_like, shape (n_ref, n_pix)
        References in the order in which the matcher has them; finite, of high S/N, each star once.
    labels : array_like, shape (n_ref, n_labels)
        Finite.
    order : int
        Of the multiplicative polynomial that the matcher profiles out: 0, 1 or 2.
    config : RefineConfig

    Returns
    -------
    Refiner

    Raises
    ------
    ValueError
        If there are fewer than 20 references, shapes differ, a value is not finite, or the label whose logarithm
        is wanted is not positive.
    """
    spectra, known = np.asarray(flux, dtype=np.float32), np.asarray(labels, dtype=np.float64)
    _check(spectra, known, config)
    flat = flatten(spectra, order=order)
    components, scores = find_components(flat, config.components)
    off = scores - _combined(scores, _without_self(spectra, order))
    covariance = off.T @ off / len(off)
    precision: Floats = np.linalg.inv(covariance + 1e-3 * np.diag(np.diag(covariance))).astype(np.float64)
    # A few references are like no other and blow up the covariance; the prior is for the usual ones.
    distance = np.einsum("ij,jk,ik->i", off, precision, off)
    shrink = len(precision) / float(np.median(distance))
    deviation = scores.std(axis=0)
    unit = deviation**config.whitening * deviation[0] ** (1.0 - config.whitening)
    return Refiner(
        flat=flat.astype(np.float32),
        order=order,
        components=components,
        scores=scores,
        precision=precision * shrink,
        reach=float(np.quantile(distance, config.furthest)) * shrink,
        unit=unit,
        process=fit_process(scores / unit, _regressed(known, config.log_label), length=config.length),
        limits=np.array([known.min(axis=0), known.max(axis=0)]),
        log_label=config.log_label,
    )


def refine(flux: NDArray, ivar: NDArray, matches: Matches, refiner: Refiner) -> Refined:
    """Refined labels of matched spectra.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, n_pix)
        As given to the matcher. The inverse variances must be true to scale: with a weight of 1 all over, say
        how noisy the spectra are, or the regression takes them for pure noise.
    matches : Matches
        Of these spectra to the refiner's references, by a matcher of the refiner's order.
    refiner : Refiner

    Returns
    -------
    Refined
        Labels within the range of the references'.

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """
    n, n_pix = np.shape(flux)
    if np.shape(ivar) != (n, n_pix) or n_pix != refiner.flat.shape[1] or len(matches.index) != n:
        raise ValueError(
            f"flux {np.shape(flux)}, ivar {np.shape(ivar)}, {len(matches.index)} matches and references of "
            f"{refiner.flat.shape[1]} pixels do not belong together"
        )
    parts = [
        _refine_rows(flux[a : a + _ROWS], ivar[a : a + _ROWS], matches.index[a : a + _ROWS],
                     matches.weights[a : a + _ROWS], refiner)
        for a in range(0, n, _ROWS)
    ]  # fmt: skip
    empty = np.empty((0, refiner.limits.shape[1]))
    return Refined(*(np.concatenate([empty, *(part[i] for part in parts)]) for i in (0, 1)))


def _refine_rows(
    flux: NDArray, ivar: NDArray, index: NDArray, weights: NDArray, refiner: Refiner
) -> tuple[Floats, Floats]:
    combined = _combined(refiner.scores, (index, weights))
    residual, weight = _residuals(flux, ivar, index, weights, refiner.flat, refiner.order)
    off = likeliest_scores(residual, weight, refiner.components, refiner.precision)
    distance = np.einsum("ij,ij->i", off @ refiner.precision, off)
    off *= np.sqrt(np.minimum(1.0, refiner.reach / np.maximum(distance, 1e-300)))[:, None]
    labels, spread = predict(refiner.process, (combined + off) / refiner.unit)
    column = refiner.log_label
    labels = np.clip(labels, *_regressed(refiner.limits, column))
    if column is not None:
        labels[:, column] = np.exp(labels[:, column])
        spread[:, column] *= labels[:, column]
    missing = ~np.isfinite(combined).all(axis=1)
    labels = np.clip(labels, *refiner.limits)
    labels[missing], spread[missing] = np.nan, np.nan
    return labels, spread


def _check(flux: NDArray, labels: Floats, config: RefineConfig) -> None:
    if flux.ndim != 2 or labels.ndim != 2 or len(flux) != len(labels):
        raise ValueError(f"references {flux.shape} and labels {labels.shape} do not belong together")
    if len(flux) < FEWEST:
        raise ValueError(f"{len(flux)} references are too few to refine labels with; at least {FEWEST} are needed")
    if not np.all(np.isfinite(labels)):
        raise ValueError(f"reference {int(np.argmin(np.isfinite(labels).all(axis=1)))} has a label that is not finite")
    if config.log_label is not None and np.any(labels[:, config.log_label] <= 0):
        raise ValueError(f"label {config.log_label} is not positive everywhere and has no logarithm")


def _regressed(labels: Floats, log_label: int | None) -> Floats:
    values = labels.copy()
    if log_label is not None:
        values[:, log_label] = np.log(values[:, log_label])
    return values


def _without_self(flux: NDArray[np.float32], order: int) -> tuple[NDArray, NDArray]:
    """Best other references of each reference and their weights, by the matcher itself."""
    each = np.arange(len(flux))
    ivar = np.ones_like(flux)
    matches = match_spectra(flux, ivar, prepare(flux, order=order), groups=each, own=each)
    return matches.index, matches.weights


def _combined(scores: Floats, matched: tuple[NDArray, NDArray]) -> Floats:
    """Scores of the combinations of references, shape (n, k); NaN where there is no match."""
    index, weights = matched
    known = np.where(index >= 0, weights, 0.0)
    known[index[:, 0] < 0] = np.nan
    return np.einsum("nk,nkc->nc", known, scores[np.maximum(index, 0)])


@njit(nogil=True, cache=True)
def _residuals(flux, ivar, index, weights, flat, order):
    """Flat spectra less the combination of their references, and the inverse variance of the difference."""
    n, n_pix = flux.shape
    residual, weight = np.zeros((n, n_pix), np.float32), np.zeros((n, n_pix), np.float32)
    model, share, known = np.empty(n_pix), np.empty(n_pix), np.empty(n_pix)
    coefficients = np.zeros(order + 1)
    for s in range(n):
        if index[s, 0] < 0 or not _shares(flux[s], ivar[s], known, share):
            continue
        model[:] = 0.0
        for t in range(index.shape[1]):
            if index[s, t] >= 0 and weights[s, t] > 0:
                for pixel in range(n_pix):
                    model[pixel] += weights[s, t] * flat[index[s, t], pixel]
        if not find_scale(known, share, model, coefficients):
            continue
        for pixel in range(n_pix):
            if share[pixel] > 0:
                scale = scale_at(coefficients, pixel, n_pix)
                residual[s, pixel] = known[pixel] / scale - model[pixel]
                weight[s, pixel] = ivar[s, pixel] * scale * scale
    return residual, weight


@njit(nogil=True, cache=True)
def _shares(flux, ivar, known, share):
    """Share of each pixel in the scale: its weight over the median weight, at most one; 0 where masked."""
    n = 0
    for pixel in range(len(flux)):
        good = ivar[pixel] > 0 and np.isfinite(flux[pixel]) and np.isfinite(ivar[pixel])
        known[pixel], share[pixel] = 0.0, 0.0
        if good:
            share[n] = ivar[pixel]
            n += 1
    if n == 0:
        return False
    middle = np.median(share[:n])
    for pixel in range(len(flux)):
        good = ivar[pixel] > 0 and np.isfinite(flux[pixel]) and np.isfinite(ivar[pixel])
        known[pixel] = flux[pixel] if good else 0.0
        share[pixel] = min(1.0, ivar[pixel] / middle) if good else 0.0
    return True
