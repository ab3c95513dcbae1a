"""Principal components of spectra, and the scores of a noisy, masked spectrum on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Components:
    """The directions in which spectra differ most.

    Attributes
    ----------
    vectors : ndarray of float32, shape (k, n_pix)
        Orthonormal, the strongest first.
    pairs : ndarray of float32, shape (n_pix, k (k + 1) / 2)
        Products of two components pixel by pixel (lower triangle, row by row): a spectrum's weights times these are
        the normal equations of its scores, for many spectra in one matrix product.
    """

    vectors: NDArray[np.float32]
    pairs: NDArray[np.float32]

    @property
    def count(self) -> int:
        """Number of components."""
        return len(self.vectors)


def find_components(spectra: Floats, count: int) -> tuple[Components, Floats]:
    """The leading components of spectra about their mean, and the spectra's scores on them.

    Parameters
    ----------
    spectra : ndarray of float64, shape (n, n_pix)
        Finite.
    count : int
        Components wanted; fewer come back where the spectra differ in fewer ways.

    Returns
    -------
    Components
    ndarray of float64, shape (n, k)
        Scores of the spectra, mean zero.
    """
    offset = spectra - spectra.mean(axis=0)
    values, turned = np.linalg.eigh(offset @ offset.T)
    kept = [i for i in np.argsort(-values)[:count] if values[i] > 1e-10 * values[-1]]
    vectors = (turned[:, kept].T @ offset) / np.sqrt(values[kept])[:, None]
    vectors *= np.sign(vectors[np.arange(len(kept)), np.argmax(np.abs(vectors), axis=1)])[:, None]
    row, column = np.tril_indices(len(kept))
    pairs = np.ascontiguousarray((vectors[row] * vectors[column]).T, dtype=np.float32)
    return Components(vectors.astype(np.float32), pairs), offset @ vectors.T


def likeliest_scores(
    residual: NDArray[np.float32], weight: NDArray[np.float32], components: Components, precision: Floats
) -> Floats:
    """Scores of residual spectra under noise of known variance and a Gaussian prior about zero, shape (n, k).

    Parameters
    ----------
    residual, weight : ndarray of float32, shape (n, n_pix)
        Spectrum less the expected one, and inverse variance; 0 where a pixel is masked (its residual finite).
    components : Components
    precision : ndarray of float64, shape (k, k)
        Inverse covariance of the prior.
    """
    normal = weight @ components.pairs
    right = (weight * residual) @ components.vectors.T
    return _solve_rows(normal, right, precision)


@njit(nogil=True, cache=True)
def _solve_rows(normal, right, precision):
    n, k = right.shape
    scores, root = np.empty((n, k)), np.empty((k, k))
    for s in range(n):
        place = 0
        for i in range(k):
            for j in range(i + 1):
                total = normal[s, place] + precision[i, j]
                place += 1
                for q in range(j):
                    total -= root[i, q] * root[j, q]
                if i == j:
                    root[i, i] = np.sqrt(max(total, 1e-300))
                else:
                    root[i, j] = total / root[j, j]
        _substitute(root, right[s], scores[s])
    return scores


@njit(nogil=True, cache=True)
def _substitute(root, right, x):
    """Solve ``root root' x = right`` by forward and backward substitution."""
    k = len(right)
    for i in range(k):
        total = np.float64(right[i])
        for j in range(i):
            total -= root[i, j] * x[j]
        x[i] = total / root[i, i]
    for i in range(k - 1, -1, -1):
        total = x[i]
        for j in range(i + 1, k):
            total -= root[j, i] * x[j]
        x[i] = total / root[i, i]
