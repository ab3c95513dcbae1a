"""The map from the pixels of a stamp to those of an image, and the polynomials that stand for it over the stamp.

From a reference pixel to its tangent plane, by a rotation to the image's tangent plane, to the image's pixel: the
angles of the sky are never needed. The map is evaluated at 5 x 5 points of the stamp, and fitted there.
"""

from __future__ import annotations

import math

import numpy as np

from stellarscale.kernels.forest_walk import jit
from stellarscale.kernels.sphere import RADIANS_PER_DEGREE
from stellarscale.kernels.tpv import distort, first_guess, frame, terms, tolerance_deg, undistort

N_POINTS = 5
"""Points of the fit along an axis, the stamp's corners among them."""


@jit
def reference_points(reference, corner, half):
    """Tangent-plane coordinates (2, 5, 5), radians, of points of the stamp on the reference's own plane."""
    crpix, _, cd, pv = reference
    poly, radial, degree = terms(pv)
    ahead = np.empty((2, N_POINTS, N_POINTS))
    for j in range(N_POINTS):
        for i in range(N_POINTS):
            x, y = corner[0] + 2.0 * half * i / (N_POINTS - 1), corner[1] + 2.0 * half * j / (N_POINTS - 1)
            ahead[0, j, i], ahead[1, j, i] = tangent_of(crpix, cd, poly, radial, degree, x, y)
    return ahead


@jit
def tangent_of(crpix, cd, poly, radial, degree, x, y):
    """Tangent-plane coordinates of a pixel, radians."""
    dx, dy = x + 1.0 - crpix[0], y + 1.0 - crpix[1]
    u, v = cd[0, 0] * dx + cd[0, 1] * dy, cd[1, 0] * dx + cd[1, 1] * dy
    xi, eta, _, _, _, _ = distort(poly, radial, degree, u, v)
    return xi * RADIANS_PER_DEGREE, eta * RADIANS_PER_DEGREE


@jit
def turn_between(crval, from_crval):
    """Rotation (3, 3) from the frame of one tangent plane to that of another; no angles are needed after it."""
    to, come = frame(crval), frame(from_crval)
    turn = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            turn[i, j] = to[i, 0] * come[j, 0] + to[i, 1] * come[j, 1] + to[i, 2] * come[j, 2]
    return turn


@jit
def project(turn, xi, eta):
    """Tangent-plane coordinates (degrees) on the other plane; NaN behind it."""
    depth = turn[2, 0] * xi + turn[2, 1] * eta + turn[2, 2]
    if not depth > 0.0:
        return math.nan, math.nan
    scale = 1.0 / (depth * RADIANS_PER_DEGREE)
    east = (turn[0, 0] * xi + turn[0, 1] * eta + turn[0, 2]) * scale
    return east, (turn[1, 0] * xi + turn[1, 1] * eta + turn[1, 2]) * scale


@jit
def pixel_of(crpix, cd, u, v):
    """Column and row of intermediate coordinates."""
    scale = 1.0 / (cd[0, 0] * cd[1, 1] - cd[0, 1] * cd[1, 0])
    x = (cd[1, 1] * u - cd[0, 1] * v) * scale + crpix[0] - 1.0
    return x, (cd[0, 0] * v - cd[1, 0] * u) * scale + crpix[1] - 1.0


@jit
def find_points(ahead, other, turn, points):
    """Columns and rows (2, 5, 5) of the points in an image."""
    crpix, _, cd, pv = other
    poly, radial, degree = terms(pv)
    tolerance = tolerance_deg(cd)
    for j in range(N_POINTS):
        for i in range(N_POINTS):
            xi, eta = project(turn, ahead[0, j, i], ahead[1, j, i])
            u, v = undistort(poly, radial, degree, xi, eta, first_guess(poly, xi, eta), tolerance)
            points[0, j, i], points[1, j, i] = pixel_of(crpix, cd, u, v)


@jit
def _base(t):
    """Polynomials of degree 0 to 3, orthogonal over -1, -0.5, 0, 0.5, 1; so the fit needs no matrix."""
    return 1.0, t, t * t - 0.5, t * (t * t - 0.85)


@jit
def fit_map(points):
    """Least-squares coefficients (2, 4, 4) of the products of base polynomials up to degree 3 in all."""
    values, squares = np.empty((N_POINTS, 4)), np.zeros(4)
    for i in range(N_POINTS):
        base = _base(2.0 * i / (N_POINTS - 1) - 1.0)
        for a in range(4):
            values[i, a] = base[a]
            squares[a] += base[a] ** 2
    fit = np.zeros((2, 4, 4))
    for axis in range(2):
        for b in range(4):
            for a in range(4 - b):
                for j in range(N_POINTS):
                    for i in range(N_POINTS):
                        fit[axis, b, a] += values[j, b] * values[i, a] * points[axis, j, i]
                fit[axis, b, a] /= squares[a] * squares[b]
    return fit


@jit
def largest_error(fit, points, degree):
    """Largest distance of the fitted map, up to some degree, from the points; infinite where they are not finite."""
    largest = 0.0
    for j in range(N_POINTS):
        across = _base(2.0 * j / (N_POINTS - 1) - 1.0)
        for i in range(N_POINTS):
            along = _base(2.0 * i / (N_POINTS - 1) - 1.0)
            dx, dy = points[0, j, i], points[1, j, i]
            for b in range(degree + 1):
                for a in range(degree + 1 - b):
                    dx -= fit[0, b, a] * across[b] * along[a]
                    dy -= fit[1, b, a] * across[b] * along[a]
            error = math.hypot(dx, dy)
            if not error < math.inf:
                return math.inf
            largest = max(largest, error)
    return largest


@jit
def row_of_map(fit, s, half, columns, rows):
    """Columns and rows in an image of a row of the stamp, at ``s`` from -1 to 1."""
    across = _base(s)
    for axis in range(2):
        c0, c1, c2, c3 = 0.0, 0.0, 0.0, 0.0
        for b in range(4):
            c0 += fit[axis, b, 0] * across[b]
            c1 += fit[axis, b, 1] * across[b]
            c2 += fit[axis, b, 2] * across[b]
            c3 += fit[axis, b, 3] * across[b]
        c0, c1 = c0 - 0.5 * c2, c1 - 0.85 * c3  # from the base polynomials to powers
        target = columns if axis == 0 else rows
        for i in range(len(target)):
            t = (i - half) / half
            target[i] = c0 + t * (c1 + t * (c2 + t * c3))
