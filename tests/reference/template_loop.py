"""Template matching as the textbook says: per spectrum, per reference, least squares; then every support in turn."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np


class LoopMatch(NamedTuple):
    """The k best of one spectrum, best first, -1 and NaN where there is none."""

    index: np.ndarray
    chi2: np.ndarray
    weights: np.ndarray
    chi2_combined: float
    n_pix: int


def chi2_loop(flux, ivar, references, *, order: int):
    """Chi^2 of one spectrum to every reference, and the weighted residuals; polynomial by least squares."""
    used = np.flatnonzero(np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0))
    weight = np.sqrt(ivar[used].astype(np.float64))
    x = np.linspace(-1, 1, len(used)) if len(used) > 1 else np.zeros(len(used))
    place = used.astype(np.float64)
    if len(used) > 1:  # orthogonal enough wherever the pixels are
        x = 2 * (place - place[0]) / (place[-1] - place[0]) - 1
    chi2, residuals = np.empty(len(references)), np.empty((len(references), len(used)))
    for number, reference in enumerate(references):
        model = reference[used].astype(np.float64)
        design = np.stack([weight * model * x**power for power in range(order + 1)], axis=1)
        target = weight * flux[used].astype(np.float64)
        solution = np.linalg.lstsq(design, target, rcond=None)[0]
        residuals[number] = target - design @ solution
        chi2[number] = residuals[number] @ residuals[number]
    return chi2, residuals


def simplex_loop(gram):
    """Weights and minimum of w'Gw over the simplex: the best of the minima of every support."""
    k = len(gram)
    best, best_weights = np.inf, None
    for size in range(1, k + 1):
        for support in combinations(range(k), size):
            part = gram[np.ix_(support, support)]
            kkt = np.block([[part / np.trace(part), np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            solution = np.linalg.lstsq(kkt, np.append(np.zeros(size), 1.0), rcond=1e-13)[0][:size]
            if np.any(solution < 0) or abs(solution.sum() - 1) > 1e-9:
                continue
            value = solution @ part @ solution
            if value < best:
                best, best_weights = value, np.zeros(k)
                best_weights[list(support)] = solution
    return best_weights, best


def match_loop(flux, ivar, references, *, order: int, k: int, allowed=None) -> LoopMatch:
    """Match one spectrum; equal chi^2 go by the number of the reference."""
    n_pix = int(np.sum(np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)))
    index, chi2, weights = np.full(k, -1), np.full(k, np.nan), np.full(k, np.nan)
    if n_pix < order + 2 + k:
        return LoopMatch(index, chi2, weights, np.nan, n_pix)
    numbers = np.arange(len(references)) if allowed is None else np.flatnonzero(allowed)
    if len(numbers) == 0:
        return LoopMatch(index, chi2, weights, np.nan, n_pix)
    every, residuals = chi2_loop(flux, ivar, references[numbers], order=order)
    best = np.argsort(every, kind="stable")[:k]
    found = len(best)
    index[:found], chi2[:found], weights[:] = numbers[best], every[best], 0.0
    weights[:found], combined = simplex_loop(residuals[best] @ residuals[best].T)
    return LoopMatch(index, chi2, weights, float(combined), n_pix)
