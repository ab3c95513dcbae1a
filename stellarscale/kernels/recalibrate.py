"""Recalibration of observed spectra: a multiplicative polynomial fitted to a model's spectral energy distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import Delaunay, QhullError, cKDTree

from stellarscale.kernels.fluxes import weighted
from stellarscale.kernels.stats import MAD_TO_SIGMA


@dataclass(frozen=True, eq=False)
class Recalibrated:
    """Spectra on the shape of their models.

    Attributes
    ----------
    flux, ivar : ndarray of float32, shape (n, n_pix)
        Observed flux over the polynomial, in the model's unit, and the inverse variance that goes with it; zero
        where the pixel carries no information. Unchanged where the fit failed.
    coefficients : ndarray, shape (n, degree + 1)
        Of the powers of x, which runs from -1 to 1 along the pixels; zero where the fit failed.
    fitted : ndarray of bool, shape (n,)
        Whether there is a polynomial and it is positive on every pixel.
    n_used : ndarray of int64, shape (n,)
        Pixels with weight in the last round of the fit.
    """

    flux: NDArray[np.float32]
    ivar: NDArray[np.float32]
    coefficients: NDArray[np.float64]
    fitted: NDArray[np.bool_]
    n_used: NDArray[np.int64]


def recalibrate(
    flux: NDArray,
    ivar: NDArray,
    model: NDArray,
    *,
    degree: int = 2,
    clip_sigma: float | None = None,
    iterations: int = 5,
) -> Recalibrated:
    """Divide each spectrum by the polynomial that makes its model look like it (paper II, section 2.3.2).

    The polynomial P minimises sum ivar (flux - P model)^2: it multiplies the model, which has no noise, so that the
    noise of faint blue pixels does not draw it towards zero. A low degree leaves features alone.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, n_pix)
        Observed spectra; pixels with ``ivar`` 0 have no say.
    model : ndarray, shape (n, n_pix)
        The model of each spectrum, finite, on the same pixels.
    degree : int
        Of the polynomial in log wavelength.
    clip_sigma : float, optional
        Leave out pixels whose residual is further than this many robust sigmas from the median residual, as in
        crowded bands that the models miss, and fit again.
    iterations : int
        Most rounds of clipping.

    Raises
    ------
    ValueError
        If the shapes differ or a model is not finite.
    """
    flux, ivar = weighted(flux, ivar)
    if model.shape != flux.shape:
        raise ValueError(f"one model per spectrum on the same pixels, not {model.shape} for {flux.shape}")
    if not np.isfinite(model).all():
        raise ValueError("model spectra must be finite in every pixel")
    powers = np.linspace(-1.0, 1.0, flux.shape[1])[:, None] ** np.arange(2 * degree + 1)
    shape = np.asarray(model, dtype=np.float64)
    weights = ivar.astype(np.float64)
    coefficients, solved = _solve(flux, weights, shape, powers)
    for _ in range(0 if clip_sigma is None else iterations):
        clipped = _clip(flux, ivar, coefficients @ powers[:, : degree + 1].T * shape, clip_sigma or 0.0)
        if np.array_equal(clipped > 0, weights > 0):
            break
        weights = clipped
        coefficients, solved = _solve(flux, weights, shape, powers)
    polynomial = coefficients @ powers[:, : degree + 1].T
    fitted = solved & (polynomial > 0).all(axis=1)
    polynomial[~fitted], coefficients[~fitted] = 1.0, 0.0
    n_used = np.count_nonzero(weights, axis=1).astype(np.int64)
    new_flux, new_ivar = flux / polynomial, ivar * polynomial**2
    return Recalibrated(new_flux.astype(np.float32), new_ivar.astype(np.float32), coefficients, fitted, n_used)


def _solve(
    flux: NDArray, weights: NDArray[np.float64], model: NDArray[np.float64], powers: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Coefficients (n, degree + 1) of the least squares, and whether the pixels with weight determine them."""
    terms = powers.shape[1] // 2 + 1
    moments = (weights * model**2) @ powers  # sums of w m^2 x^(k+l)
    normal = moments[:, np.arange(terms)[:, None] + np.arange(terms)]
    right = (weights * model * flux) @ powers[:, :terms]
    size = np.where(moments[:, 0] > 0, moments[:, 0], 1.0)  # brings the matrices to the order of one
    normal, right = normal / size[:, None, None], right / size[:, None]
    # With enough pixels of weight that stand apart the smallest eigenvalue is far from rounding errors.
    solved = np.linalg.eigvalsh(normal)[:, 0] > 1e-10
    normal[~solved] = np.eye(terms)
    return np.where(solved[:, None], np.linalg.solve(normal, right[:, :, None])[:, :, 0], 0.0), solved


def _clip(flux: NDArray, ivar: NDArray, fit: NDArray[np.float64], clip_sigma: float) -> NDArray[np.float64]:
    """The weights, zero for pixels too far off; every pixel with weight gets a new chance in each round."""
    clipped = ivar.astype(np.float64)
    residual = (flux - fit) * np.sqrt(clipped)
    for row in range(len(flux)):
        counts = ivar[row] > 0
        if counts.any():
            off = np.abs(residual[row] - np.median(residual[row, counts]))
            clipped[row, off > clip_sigma * MAD_TO_SIGMA * np.median(off[counts])] = 0.0
    return clipped


class ModelGrid:
    """Model spectra with labels, to be had at any labels.

    Parameters
    ----------
    flux : ndarray, shape (m, n_pix)
        Finite model spectra with a positive median, each in a unit of its own: they are scaled to a median of one.
    labels : ndarray, shape (m, n_labels)
        Their labels (teff, logg, m_h).
    scales : array_like, shape (n_labels,)
        Steps in the labels that count as equally far.
    method : {'linear', 'nearest'}
        Linear interpolation between the models around, or the nearest model.

    Raises
    ------
    ValueError
        If the arrays do not belong together, hold numbers that are not finite, or cannot be interpolated in.
    """

    def __init__(self, flux: NDArray, labels: NDArray, *, scales: ArrayLike, method: str = "linear") -> None:
        if flux.ndim != 2 or labels.ndim != 2 or len(flux) != len(labels) or len(flux) == 0:
            raise ValueError(f"models of shape {flux.shape} need as many rows of labels, not {labels.shape}")
        if not (np.isfinite(flux).all() and np.isfinite(labels).all()):
            raise ValueError("model spectra and their labels must be finite")
        middle = np.median(flux, axis=1, keepdims=True)
        if not (middle > 0).all():
            raise ValueError("model spectra must have a positive median flux")
        self.flux = (flux / middle).astype(np.float32)
        self._scales = np.asarray(scales, dtype=np.float64)
        self._tree = cKDTree(labels / self._scales)
        # A label in which the models do not differ cannot be interpolated in, and need not be.
        self._varying = np.ptp(labels, axis=0) > 0
        self._mesh = _mesh(labels[:, self._varying] / self._scales[self._varying]) if method == "linear" else None

    def at(self, labels: NDArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Models at labels (n, n_labels): spectra (n, n_pix), and whether the labels lie among the models'.

        Outside of the grid the nearest model stands in.
        """
        place = labels / self._scales
        nearest = self._tree.query(place)[1]
        result = self.flux[nearest]
        if self._mesh is None:
            return result, np.ones(len(labels), dtype=bool)
        corner, weights = _barycentric(self._mesh, place[:, self._varying])
        inside = corner[:, 0] >= 0
        result[inside] = np.einsum("ij,ijk->ik", weights[inside].astype(np.float32), self.flux[corner[inside]])
        return result, inside


def _mesh(place: NDArray[np.float64]) -> Delaunay:
    try:
        if place.shape[1] < 2:
            raise ValueError("the models differ in fewer than two labels: take the nearest model instead")
        return Delaunay(place)
    except QhullError as error:
        raise ValueError("the models' labels span no volume: take the nearest model instead") from error


def _barycentric(mesh: Delaunay, place: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Corners (n, d + 1) of the simplex around each place, -1 where there is none, and their weights."""
    simplex = mesh.find_simplex(place)
    dimensions = place.shape[1]
    transform = mesh.transform[simplex]
    part = np.einsum("ijk,ik->ij", transform[:, :dimensions], place - transform[:, dimensions])
    weights = np.column_stack([part, 1.0 - part.sum(axis=1)])
    # A flat simplex, which regular grids can give, has no weights; the nearest model serves there too.
    found = (simplex >= 0) & np.isfinite(weights).all(axis=1)
    corner = np.where(found[:, None], mesh.simplices[simplex], -1).astype(np.int64)
    return corner, np.where(found[:, None], weights, 0.0)
