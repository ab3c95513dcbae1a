"""Templates made ready for matching: scaled, and compressed for the first look."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter1d

# Length of the two bases. Squares of spectra need more vectors than the spectra: they hold products of pairs.
RANK = 24
SQUARED_RANK = 40
_ORDERS = (0, 1, 2)
_SUBSPACE_ROUNDS = 3
_SMOOTH_PIXELS = 64
# A template whose rest has a peak this many times its rms, or an rms this many times the usual, has features that
# the basis does not know: the first look could be wrong about it in a way that it is about no other.
_ODD_PEAK = 10.0
_ODD_RMS = 4.0


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
        Their product is close to the square of the product of the others, plus the smooth square of what that product
        leaves out: noise of a template makes its chi^2 larger by so much, while its products with template and
        spectrum cancel, so that they may be missing, but only from both.
    odd : ndarray of bool, shape (n_ref,)
        Templates that the basis represents badly; the first look may not drop them.
    """

    flux: NDArray[np.float32]
    scale: NDArray[np.float64]
    order: int
    basis: NDArray[np.float32]
    loadings: NDArray[np.float32]
    squared_basis: NDArray[np.float32]
    squared_loadings: NDArray[np.float32]
    odd: NDArray[np.bool_]


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
    rest = scaled - near
    squares = near * near + uniform_filter1d(rest * rest, _SMOOTH_PIXELS, axis=1)
    return Templates(scaled, scale, int(order), basis, loadings, *_compressed(squares, SQUARED_RANK), _odd(rest))


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


def _odd(rest: NDArray[np.float32]) -> NDArray[np.bool_]:
    rms = np.sqrt(np.mean(rest * rest, axis=1))
    return (np.abs(rest).max(axis=1) > _ODD_PEAK * rms) | (rms > _ODD_RMS * np.median(rms))
