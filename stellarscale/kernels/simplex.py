"""The point of a simplex where a quadratic form is smallest: exact weights of a linear combination."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

# Below this share of the largest diagonal element a pivot is rounding: the vector is a combination of those held.
_PIVOT = 1e-13
# A slope of less than this share of the value is rounding; what it could gain is at most as small.
_FLAT = 1e-15


def simplex_weights(gram: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minimise ``w' G w`` over weights that are not negative and sum to one.

    With ``G[i, j]`` the weighted product of the residuals of two models, the minimum is the smallest chi^2 that a
    linear combination of the models with such weights can have (LASPM, section 3).

    Parameters
    ----------
    gram : array_like, shape (n, k, k)
        Symmetric, positive semidefinite; singular is allowed (the same model twice).

    Returns
    -------
    weights : ndarray, shape (n, k)
    minimum : ndarray, shape (n,)

    Raises
    ------
    ValueError
        If the shape is another, or a value is not finite.
    """
    matrices = np.ascontiguousarray(gram, dtype=np.float64)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or matrices.shape[1] == 0:
        raise ValueError(f"gram must have the shape (n, k, k) with k > 0, not {matrices.shape}")
    if not np.all(np.isfinite(matrices)):
        raise ValueError("gram must be finite")
    weights = np.empty(matrices.shape[:2])
    minimum = np.empty(len(matrices))
    _all(matrices, weights, minimum)
    return weights, minimum


@njit(nogil=True, cache=True)
def _all(matrices, weights, minimum):
    for row in range(len(matrices)):
        minimum[row] = minimise_on_simplex(matrices[row], weights[row])


@njit(nogil=True, cache=True)
def minimise_on_simplex(gram, weights):
    """Fill the weights of one positive semidefinite matrix and return the minimum.

    An active-set method: it starts at the best corner; as long as some corner promises less, that corner joins
    the support, and the minimum over the affine hull of the support is found, dropping the corners whose weight
    would turn negative on the way. Every round ends lower than the one before, at the exact minimum of its
    support, so no support comes twice.
    """
    k = len(gram)
    support = np.empty(k, dtype=np.int64)
    target = np.empty(k)
    support[0] = _best_corner(gram)
    size = 1
    weights[:] = 0.0
    weights[support[0]] = 1.0
    value = gram[support[0], support[0]]
    banned = np.zeros(k, dtype=np.bool_)
    while True:
        corner = _most_promising(gram, weights, value, banned)
        if corner < 0:
            return value
        previous, before = weights.copy(), support[:size].copy()
        support[size] = corner
        size = _settle(gram, weights, support, size + 1, target)
        lower = _value(gram, weights)
        if lower < value:
            value = lower
            banned[:] = False
        else:  # rounding, or a copy of what the support holds: nothing is to be gained there
            weights[:] = previous
            size = len(before)
            support[:size] = before
            banned[corner] = True


@njit(nogil=True, cache=True)
def _best_corner(gram):
    best = 0
    for j in range(1, len(gram)):
        if gram[j, j] < gram[best, best]:
            best = j
    return best


@njit(nogil=True, cache=True)
def _value(gram, weights):
    total = 0.0
    for i in range(len(gram)):
        inner = 0.0
        for j in range(len(gram)):
            inner += gram[i, j] * weights[j]
        total += weights[i] * inner
    return total


@njit(nogil=True, cache=True)
def _most_promising(gram, weights, value, banned):
    """The corner outside the support towards which the form falls most steeply; -1 where it falls towards none."""
    best, least = -1, -_FLAT * value
    for j in range(len(gram)):
        if weights[j] > 0 or banned[j]:
            continue
        slope = -value
        for i in range(len(gram)):
            slope += gram[j, i] * weights[i]
        if slope < least:
            best, least = j, slope
    return best


@njit(nogil=True, cache=True)
def _settle(gram, weights, support, size, target):
    """Move the weights to the minimum over the support, which loses corners on the way; return its size."""
    while _affine_minimum(gram, support[:size], target):
        step = 1.0
        for s in range(size):
            if target[s] <= 0:
                now = weights[support[s]]
                step = min(step, now / (now - target[s]) if now > target[s] else 0.0)
        kept, total = 0, 0.0
        for s in range(size):
            j = support[s]
            weights[j] += step * (target[s] - weights[j])
            if target[s] <= 0 and weights[j] <= 1e-15:
                weights[j] = 0.0
            else:
                support[kept] = j
                total += weights[j]
                kept += 1
        for s in range(kept):
            weights[support[s]] /= total
        if kept == size:
            break
        size = kept
    return size


@njit(nogil=True, cache=True)
def _affine_minimum(gram, support, target):
    """Minimum of the form over weights of the support that sum to one, negative ones allowed; false if singular.

    The weight of the first corner is one minus the rest, and a Cholesky factor of the form in the rest solves it.
    """
    first, size = support[0], len(support) - 1
    factor = np.empty((size, size))
    right = np.empty(size)
    floor = 0.0
    for s in range(size + 1):
        floor = max(floor, _PIVOT * gram[support[s], support[s]])
    for a in range(size):
        i = support[a + 1]
        for b in range(a + 1):
            j = support[b + 1]
            total = gram[i, j] - gram[i, first] - gram[first, j] + gram[first, first]
            for c in range(b):
                total -= factor[a, c] * factor[b, c]
            if a > b:
                factor[a, b] = total / factor[b, b]
            elif total > floor:
                factor[a, a] = np.sqrt(total)
            else:
                return False
        total = gram[first, first] - gram[i, first]
        for c in range(a):
            total -= factor[a, c] * right[c]
        right[a] = total / factor[a, a]
    rest = 0.0
    for a in range(size - 1, -1, -1):
        total = right[a]
        for c in range(a + 1, size):
            total -= factor[c, a] * target[c + 1]
        target[a + 1] = total / factor[a, a]
        rest += target[a + 1]
    target[0] = 1.0 - rest
    return True
