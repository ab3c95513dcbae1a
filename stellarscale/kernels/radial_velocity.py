"""The velocity that is left between spectra and their templates, from chi-square on a small grid of shifts.

On a log-linear grid a velocity is a shift by the same part of a pixel everywhere. Each template is shifted by six-point
Lagrange interpolation, a multiplicative polynomial is profiled out, and a parabola through the lowest point of the grid
and its neighbours gives the minimum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from stellarscale.kernels.wavelength import LIGHT_KMS

TAPS = 6
_LEFT = 2  # taps before the pixel below a shifted position


class Velocities(NamedTuple):
    """Velocity and its error in km/s, NaN where there is none; whether the minimum is an end of the grid; each (n,)."""

    velocity_kms: NDArray[np.float64]
    err_kms: NDArray[np.float64]
    at_limit: NDArray[np.bool_]


def velocity_grid(half_range_kms: float, step_kms: float) -> NDArray[np.float64]:
    """Velocities from ``-half_range_kms`` to ``half_range_kms``, 0 among them; at least three."""
    steps = max(1, round(half_range_kms / step_kms))
    return np.linspace(-half_range_kms, half_range_kms, 2 * steps + 1)


def refine_velocity(
    flux: NDArray[np.float32],
    ivar: NDArray[np.float32],
    templates: NDArray[np.float32],
    which: NDArray[np.int32],
    *,
    step_dex: float,
    grid_kms: ArrayLike,
    order: int,
) -> Velocities:
    """Velocity of each spectrum relative to one of the templates; positive is away.

    Parameters
    ----------
    flux, ivar : ndarray of float32, shape (n, n_pix)
        Spectra on a log-linear grid; pixels with ``ivar`` 0 carry no weight, their flux must be finite.
    templates : ndarray of float32, shape (n_ref, n_pix)
        On the same pixels.
    which : ndarray of int32, shape (n,)
        Row of the template of each spectrum; -1 for none.
    step_dex : float
        Step of the grid in log10 of the wavelength.
    grid_kms : array_like, shape (n_grid,)
        Velocities to try: at least three, evenly spaced, as of `velocity_grid`.
    order : int
        Order of the multiplicative polynomial that is profiled out.

    Returns
    -------
    Velocities
        The error is where chi-square rises by 1, or by the reduced chi-square of the fit where that is larger, since
        a template that differs from the star makes the minimum less certain than the noise alone. At an end of the
        grid the velocity is that end and the error NaN. All are NaN for a spectrum without a template, with fewer
        weighted pixels than the fit has parameters, or with no curvature.

    Raises
    ------
    ValueError
        If the shapes do not fit, the velocities are no even grid, or shifts leave too few pixels.
    """
    grid = np.asarray(grid_kms, dtype=np.float64)
    steps = np.diff(grid)
    if grid.ndim != 1 or grid.size < 3 or not (steps > 0).all() or not np.allclose(steps, steps[0], rtol=1e-6):
        raise ValueError(f"no even grid of three velocities or more: {grid}")
    if flux.shape != ivar.shape or flux.shape[1:] != templates.shape[1:] or which.shape != flux.shape[:1]:
        raise ValueError(f"shapes {flux.shape}, {ivar.shape}, {templates.shape}, {which.shape} do not fit")
    shifts = np.log10(1.0 + grid / LIGHT_KMS) / step_dex
    margin = math.ceil(float(np.abs(shifts).max())) + TAPS // 2
    if flux.shape[1] - 2 * margin < 4 * (order + 2):
        raise ValueError(f"shifts by up to {margin} pixels leave too little of {flux.shape[1]} pixels")
    whole = np.floor(-shifts).astype(np.int64)
    taps = lagrange_taps(-shifts - whole)
    velocity, err = np.full(len(flux), np.nan), np.full(len(flux), np.nan)
    at_limit = np.zeros(len(flux), dtype=np.bool_)
    spectra = (_read_only(flux), _read_only(ivar))
    search = (whole, taps, grid, margin)
    _refine(spectra, _read_only(templates), which.astype(np.int32), search, order, (velocity, err, at_limit))
    return Velocities(velocity, err, at_limit)


def lagrange_taps(fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the pixels -2..3 for values at parts of a pixel after pixel 0, shape (n, 6)."""
    nodes = np.arange(TAPS, dtype=np.float64) - _LEFT
    taps = np.ones((len(fraction), TAPS))
    for tap, node in enumerate(nodes):
        for other in nodes[nodes != node]:
            taps[:, tap] *= (fraction - other) / (node - other)
    return taps


def _read_only(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A view that is not written to, so that the loop is compiled once for arrays of tables and of callers."""
    view = np.ascontiguousarray(values, dtype=np.float32).view()
    view.flags.writeable = False
    return view


@njit(nogil=True, cache=True)
def _refine(spectra, templates, which, search, order, out):
    flux, ivar = spectra
    whole, taps, grid, margin = search
    velocity, err, at_limit = out
    n_pix = flux.shape[1]
    first, last = margin, n_pix - margin
    x = np.linspace(-1.0, 1.0, n_pix)
    weight, weighted = np.empty(n_pix), np.empty(n_pix)
    chi2 = np.empty(grid.size)
    for row in range(flux.shape[0]):
        if which[row] < 0:
            continue
        total, used = 0.0, 0
        for i in range(first, last):
            weight[i] = ivar[row, i]
            weighted[i] = weight[i] * flux[row, i]
            total += weighted[i] * flux[row, i]
            used += weight[i] > 0.0
        if used <= order + 2:
            continue
        for j in range(grid.size):
            sums = _moments(weight, weighted, templates[which[row]], x, (first, last), whole[j], taps[j])
            chi2[j] = total - _explained(sums, order)
        velocity[row], err[row], at_limit[row] = _minimum(grid, chi2, used - order - 2)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _moments(weight, weighted, template, x, ends, whole, taps):
    """Sums over pixels of ``w f t x^k`` (k 0-2) and ``w t^2 x^k`` (k 0-4), with the shifted template t."""
    a0 = a1 = a2 = b0 = b1 = b2 = b3 = b4 = 0.0
    c0, c1, c2, c3, c4, c5 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5]
    first, last = ends
    near = template[first + whole - 2 : last + whole + 3]  # indices from 0 on are what lets the loop use vectors
    weighted, weight, x = weighted[first:last], weight[first:last], x[first:last]
    for i in range(last - first):
        t = c0 * near[i] + c1 * near[i + 1] + c2 * near[i + 2] + c3 * near[i + 3] + c4 * near[i + 4] + c5 * near[i + 5]
        a, b = weighted[i] * t, weight[i] * t * t
        x1 = x[i]
        x2 = x1 * x1
        a0 += a
        a1 += a * x1
        a2 += a * x2
        b0 += b
        b1 += b * x1
        b2 += b * x2
        b3 += b * x1 * x2
        b4 += b * x2 * x2
    return a0, a1, a2, b0, b1, b2, b3, b4


@njit(nogil=True, cache=True)
def _explained(sums, order):
    """What the best polynomial takes off chi-square, by the Cholesky factor of the normal equations."""
    a0, a1, a2, b0, b1, b2, b3, b4 = sums
    if b0 <= 0.0:
        return 0.0
    l00 = math.sqrt(b0)
    y0 = a0 / l00
    explained = y0 * y0
    if order == 0:
        return explained
    l10 = b1 / l00
    rest = b2 - l10 * l10
    if rest <= 1e-12 * b2:
        return explained
    l11 = math.sqrt(rest)
    y1 = (a1 - l10 * y0) / l11
    explained += y1 * y1
    if order == 1:
        return explained
    l20 = b2 / l00
    l21 = (b3 - l20 * l10) / l11
    rest = b4 - l20 * l20 - l21 * l21
    if rest <= 1e-12 * b4:
        return explained
    y2 = (a2 - l20 * y0 - l21 * y1) / math.sqrt(rest)
    return explained + y2 * y2


@njit(nogil=True, cache=True)
def _minimum(grid, chi2, dof):
    """Minimum, error, and whether it is an end; a parabola through the lowest point and its neighbours."""
    best = np.argmin(chi2)
    if best == 0 or best == grid.size - 1:
        flat = chi2.max() <= chi2.min()
        return (np.nan, np.nan, False) if flat else (grid[best], np.nan, True)
    step = grid[1] - grid[0]
    slope = (chi2[best + 1] - chi2[best - 1]) / (2.0 * step)
    curvature = (chi2[best + 1] - 2.0 * chi2[best] + chi2[best - 1]) / (step * step)
    if curvature <= 0.0:
        return np.nan, np.nan, False
    scale = max(1.0, (chi2[best] - 0.5 * slope * slope / curvature) / dof)
    return grid[best] - slope / curvature, math.sqrt(2.0 * scale / curvature), False
