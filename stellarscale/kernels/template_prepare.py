"""Templates made ready for matching: scaled, and compressed for the first look."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Length of the two bases. Squares of spectra need more vectors than the spectra: they hold products of pairs.
RANK = 24
SQUARED_RANK = 48
# Bins of pixels for what the bases leave out.
N_BINS = 32
_ORDERS = (0, 1, 2)
_SUBSPACE_ROUNDS = 3
# What sums over pixels that differ much in weight may miss: of errors, in standard deviations; of squares, in means.
_SLACK_SIGMAS = 2.0
_REST_TIMES = 5.0
# Where a scaled template is fainter, errors relative to it say nothing.
_FAINT = 0.03


class Templates(NamedTuple):
    """Templates as the matcher wants them; made by `prepare`.

    Attributes
    ----------
    flux : ndarray of float32, shape (n_ref, n_pix)
        Flux divided by ``scale``.
    scale : ndarray of float64, shape (n_ref,)
        A power of two near the rms of the template: dividing by it rounds nothing.
    order : int
        Order of the polynomial.
    basis, loadings : ndarray of float32, shapes (r, n_pix) and (r, n_ref)
        Their product is close to the scaled flux.
    squared_basis, squared_loadings : ndarray of float32, shapes (r2, n_pix) and (r2, n_ref)
        Their product is close to the square of the product of the others: the same spectra, so that what the basis
        leaves out is missing from both.
    rest, off : ndarray of float32, shape (N_BINS, n_ref)
        Means in bins of pixels, relative to the square of the template: the square of what the basis leaves out, and
        the error of the product that stands for the square.
    edges : ndarray of int64, shape (N_BINS + 1,)
        First pixel of each bin.
    off_slack, rest_slack : ndarray of float32, shape (n_ref,)
        What the means in bins may miss of both where a few pixels have most of the weight, for one such pixel.
    """

    flux: NDArray[np.float32]
    scale: NDArray[np.float64]
    order: int
    basis: NDArray[np.float32]
    loadings: NDArray[np.float32]
    squared_basis: NDArray[np.float32]
    squared_loadings: NDArray[np.float32]
    rest: NDArray[np.float32]
    off: NDArray[np.float32]
    edges: NDArray[np.int64]
    off_slack: NDArray[np.float32]
    rest_slack: NDArray[np.float32]


def prepare(flux: ArrayLike, *, order: int) -> Templates:
    """Make templates ready for `match_spectra`; once for many calls.

    Parameters
    ----------
    flux : array_like, shape (n_ref, n_pix)
        Template spectra on the pixels of the spectra to match, in any unit; held in float32. To match in windows
        of wavelength, give the columns inside (and the same of the spectra), or leave pixels without weight.
    order : int
        Order of the multiplicative polynomial: 0, 1 or 2.

    Raises
    ------
    ValueError
        If the order is another, there is no template or pixel, a flux is not finite, or a template is zero.
    """
    spectra = np.asarray(flux, dtype=np.float32)
    if order not in _ORDERS:
        raise ValueError(f"order must be 0, 1 or 2, not {order}")
    if spectra.ndim != 2 or 0 in spectra.shape:
        raise ValueError(f"templates must have the shape (n_ref, n_pix), not {spectra.shape}")
    bad = np.flatnonzero(~np.isfinite(spectra).all(axis=1))
    if len(bad):
        raise ValueError(f"template {bad[0]} has flux that is not finite ({len(bad)} of {len(spectra)} have)")
    rms = np.asarray(np.sqrt(np.mean(np.square(spectra, dtype=np.float64), axis=1)), dtype=np.float64)
    if not rms.all():
        raise ValueError(f"template {np.argmin(rms)} has no flux")
    scale = np.exp2(np.round(np.log2(rms)))
    scaled = np.ascontiguousarray(spectra / scale[:, None], dtype=np.float32)
    basis, loadings = _compressed(scaled, RANK)
    near = loadings.T @ basis
    squares = near * near
    squared_basis, squared_loadings = _compressed(squares, SQUARED_RANK)
    edges = np.linspace(0, scaled.shape[1], N_BINS + 1).astype(np.int64)
    level = np.maximum(squares, _FAINT**2)
    off = (squared_loadings.T @ squared_basis - squares) / level
    rest = (scaled - near) ** 2 / level
    return Templates(
        scaled,
        scale,
        int(order),
        basis,
        loadings,
        squared_basis,
        squared_loadings,
        _bin_means(rest, edges),
        _bin_means(off, edges),
        edges,
        (_SLACK_SIGMAS * np.sqrt(np.mean(off * off, axis=1))).astype(np.float32),
        (_REST_TIMES * np.mean(rest, axis=1)).astype(np.float32),
    )


def _bin_means(values: NDArray[np.floating], edges: NDArray[np.int64]) -> NDArray[np.float32]:
    """Means over bins of columns, zero in empty ones; bins by rows."""
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1, dtype=np.float64)], axis=1)
    means = np.diff(total[:, edges], axis=1) / np.maximum(np.diff(edges), 1)
    return np.ascontiguousarray(means.T, dtype=np.float32)


def _compressed(matrix: NDArray[np.float32], rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An orthonormal basis of the rows' main subspace and the loadings of each row, zeros where it is smaller.

    Randomised subspace iteration (Halko, Martinsson & Tropp 2011, SIAM Review 53, 217); the start is always the same.
    """
    small = min(rank, *matrix.shape)
    start = np.random.default_rng(0).normal(size=(len(matrix), small)).astype(np.float32)
    for _ in range(_SUBSPACE_ROUNDS):
        vectors = np.linalg.qr(matrix.T @ start)[0]
        start = matrix @ vectors
    basis = np.zeros((rank, matrix.shape[1]), dtype=np.float32)
    loadings = np.zeros((rank, len(matrix)), dtype=np.float32)
    basis[:small], loadings[:small] = vectors.T, start.T
    return basis, loadings
