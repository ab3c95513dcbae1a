"""Which stars lie outside of a training sample: limits of each input, and a mixture of Gaussians of all of them.

The limits see a sample that ends abruptly, as at the red end of the label catalogue; the mixture sees combinations of
values that are each ordinary, as of a white dwarf among dwarfs, or of one bad magnitude. A star's score is that of its
best component alone, so that most stars are known to be inside after one or two components, and the mixture is fitted
the same way: each star belongs to its best component (classification EM, Celeux & Govaert 1992, Comput. Stat. Data
Anal. 14, 315). No random number enters, and no library whose sums depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.forest_walk import jit

Floats = NDArray[np.float64]

MAX_STARS = 25_000
"""Training stars, evenly spaced, that the mixture is fitted to; the limits see all."""

_DOUBLINGS = 4  # 16 components; 32 found hardly more of a mock sky's outliers, 8 found fewer
_STARS_PER_PARAMETER = 5
_FOLDS = 5
_ROUNDS = 30
_TAIL = 5  # stars beyond which an end of the sample is called its tail
_SMALLEST_VARIANCE = 1e-6  # of the largest: a colour that is the sum of two others has none of its own
_RIDGE = 1e-4  # added to the variances of a component, in units of those of the sample


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussians in the whitened inputs, the heaviest first.

    Attributes
    ----------
    means : ndarray of float64, shape (k, r)
    roots : ndarray of float64, shape (k, r, r)
        Inverse of the lower Cholesky factor of each covariance.
    heights : ndarray of float64, shape (k,)
        Half the logarithm of the determinant of the covariance, minus the logarithm of the weight.
    """

    means: Floats
    roots: Floats
    heights: Floats


@dataclass(frozen=True, eq=False)
class NoveltyModel:
    """The region of a training sample.

    Attributes
    ----------
    low, high : ndarray of float64, shape (d,)
        Limits of each input, in its unit.
    centre, axes : ndarray of float64, shapes (d,) and (d, r)
        ``(x - centre) @ axes`` are uncorrelated inputs of variance one.
    mixture : Mixture
        Density of the sample in those.
    threshold : float
        Scores (negative logarithms of the density, up to a constant) above this are outside.
    """

    low: Floats
    high: Floats
    centre: Floats
    axes: Floats
    mixture: Mixture
    threshold: float


def fit_novelty(x: NDArray, *, quantile: float) -> NoveltyModel:
    """Describe the region of a training sample.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Inputs of the training stars, finite, at least two stars.
    quantile : float
        Share of stars like the training ones that shall count as inside of the mixture. It is measured on stars that
        the mixture was not fitted to, in five folds; a sample of n stars cannot tell shares above n / (n + 1).

    Returns
    -------
    NoveltyModel
    """
    some = np.ascontiguousarray(x[:: -(-len(x) // MAX_STARS)], dtype=np.float64)
    low, high = _limits(np.asarray(x, dtype=np.float64))
    centre, axes = _whitening(some)
    rows = np.einsum("ni,ij->nj", some - centre, axes)
    inside = min(int(np.ceil(quantile * (len(rows) + 1))), len(rows))
    threshold = float(np.sort(_out_of_fold_scores(rows))[inside - 1])
    return NoveltyModel(low, high, centre, axes, fit_mixture(rows), threshold)


def is_novel(model: NoveltyModel, x: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which stars lie outside of the training sample; one with a missing input is not said to.

    Parameters
    ----------
    model : NoveltyModel
        From :func:`fit_novelty`.
    x : ndarray of float32, shape (n, n_inputs)
        Inputs of a forest, C-contiguous.
    columns : ndarray of int64, shape (d,)
        Which of them the model was fitted to, in its order.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    mixture = model.mixture
    limits, frame = (model.low, model.high), (model.centre, model.axes)
    return _is_novel(x, columns, limits, frame, (mixture.means, mixture.roots, mixture.heights), model.threshold)


def fit_mixture(rows: Floats) -> Mixture:
    """Fit Gaussians to whitened rows, shape (n, r): halves of halves along their longest axes, then rounds of EM."""
    member = np.zeros(len(rows), dtype=np.int64)
    for _ in range(_doublings(*rows.shape)):
        member = _halved(rows, member)
    mixture = _moments(rows, member)
    for _ in range(_ROUNDS):
        _, best = scores(rows, mixture)
        if np.array_equal(best, member):
            break
        member, mixture = best, _moments(rows, best)
    return mixture


def scores(rows: Floats, mixture: Mixture) -> tuple[Floats, NDArray[np.int64]]:
    """Score of each whitened row, shape (n, r), and the component that gives it; low scores are common rows."""
    return _scores(rows, mixture.means, mixture.roots, mixture.heights)


def _doublings(n: int, r: int) -> int:
    if not r:
        return 0
    parameters = 1 + r + r * (r + 1) // 2
    affordable = max(1, n // (_STARS_PER_PARAMETER * parameters))
    return min(_DOUBLINGS, int(np.log2(affordable)))


def _out_of_fold_scores(rows: Floats) -> Floats:
    """Score of each row by a mixture that was fitted to the other folds; at least two rows."""
    fold = np.arange(len(rows)) % _FOLDS
    result = np.empty(len(rows))
    for number in np.unique(fold):
        out = fold == number
        result[out] = scores(rows[out], fit_mixture(rows[~out]))[0]
    return result


def _limits(x: Floats) -> tuple[Floats, Floats]:
    """Ends of the sample, each moved out by the length of its tail: nothing where the sample ends abruptly."""
    ordered = np.sort(x, axis=0)
    tail = min(_TAIL, (len(x) - 1) // 2)
    return 2 * ordered[0] - ordered[tail], 2 * ordered[-1] - ordered[-1 - tail]


def _whitening(x: Floats) -> tuple[Floats, Floats]:
    """Mean, and the axes that carry variance, scaled to one; einsum sums in one order whatever the threads."""
    centre = np.einsum("ni->i", x) / len(x)
    covariance = np.einsum("ni,nj->ij", x - centre, x - centre) / len(x)
    sigma = np.sqrt(np.diag(covariance))
    sigma = np.where(sigma > 0, sigma, 1.0)
    variance, axes = np.linalg.eigh(covariance / np.outer(sigma, sigma))
    kept = variance > max(_SMALLEST_VARIANCE * variance[-1], np.finfo(float).tiny)
    return centre, axes[:, kept] / np.sqrt(variance[kept]) / sigma[:, None]


def _halved(rows: Floats, member: NDArray[np.int64]) -> NDArray[np.int64]:
    result = 2 * member
    for number in range(member.max() + 1):
        mine = np.flatnonzero(member == number)
        some = rows[mine] - rows[mine].mean(axis=0)
        axis = np.linalg.eigh(np.einsum("ni,nj->ij", some, some))[1][:, -1]
        along = np.einsum("ni,i->n", some, axis)
        result[mine] += along > np.median(along)
    return result


def _moments(rows: Floats, member: NDArray[np.int64]) -> Mixture:
    """Gaussians of the members; a component with too few of them is dropped, and its stars go elsewhere."""
    r = rows.shape[1]
    counts = np.bincount(member)
    kept = [number for number in np.argsort(-counts, kind="stable") if counts[number] > r + 1] or [counts.argmax()]
    means, roots, heights = np.empty((len(kept), r)), np.empty((len(kept), r, r)), np.empty(len(kept))
    for place, number in enumerate(kept):
        some = rows[member == number]
        means[place] = some.mean(axis=0)
        some = some - means[place]
        covariance = np.einsum("ni,nj->ij", some, some) / len(some) + _RIDGE * np.eye(r)
        factor = np.linalg.cholesky(covariance)
        roots[place] = np.linalg.inv(factor)
        heights[place] = np.log(np.diag(factor)).sum() - np.log(len(some) / len(rows))
    return Mixture(means, roots, heights)


@jit
def _half_square(row, mean, root):
    total = 0.0
    for i in range(len(row)):
        z = 0.0
        for j in range(i + 1):
            z += root[i, j] * (row[j] - mean[j])
        total += z * z
    return 0.5 * total


@jit
def _scores(rows, means, roots, heights):
    score, best = np.empty(len(rows)), np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        score[i] = np.inf
        for k in range(len(heights)):
            value = heights[k] + _half_square(rows[i], means[k], roots[k])
            if value < score[i]:
                score[i], best[i] = value, k
    return score, best


@jit
def _inside_limits(row, columns, low, high):
    """True also where a value is missing: comparisons with NaN are false."""
    inside = True
    for j in range(len(columns)):
        inside &= not (row[columns[j]] < low[j] or row[columns[j]] > high[j])
    return inside


@jit
def _is_novel(x, columns, limits, frame, mixture, threshold):
    (low, high), (centre, axes), (means, roots, heights) = limits, frame, mixture
    novel = np.empty(len(x), np.bool_)
    row = np.empty(axes.shape[1])
    for i in range(len(x)):
        missing = False
        row[:] = 0.0
        for j in range(len(columns)):
            value = x[i, columns[j]] - centre[j]
            missing |= np.isnan(value)
            for k in range(len(row)):
                row[k] += value * axes[j, k]
        inside = missing or _inside_limits(x[i], columns, low, high)
        novel[i] = not missing
        for k in range(len(heights) if inside and not missing else 0):
            if heights[k] + _half_square(row, means[k], roots[k]) <= threshold:
                novel[i] = False
                break
    return novel
