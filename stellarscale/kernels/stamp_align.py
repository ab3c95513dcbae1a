"""Images of a star brought to the pixels of one of them: the map between the pixels, and bilinear sampling.

The map from a reference pixel by the sky to a pixel of an image is evaluated at 5 x 5 points of the stamp. An affine
map is fitted to them; its largest error is the distortion over the stamp. Where that is small, the affine map plus
the quadratic and cubic terms of the same fit stand for the full map of every pixel. An affine map alone would err by
about a tenth of the peak for each pixel of distortion: by 1e-6 of it even where there is none but the tangent planes'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.forest_walk import jit
from stellarscale.kernels.stamp_map import (
    N_POINTS,
    find_points,
    fit_map,
    largest_error,
    pixel_of,
    project,
    reference_points,
    row_of_map,
    tangent_of,
    turn_between,
)
from stellarscale.kernels.tpv import ImageWcs, first_guess, terms, tolerance_deg, undistort

_SMOOTH_PX = 3e-7  # error of the cubic map above which the full map is used
_SNAP_PX = 1e-7  # positions this close to a pixel's centre take its value alone

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AlignedStack:
    """Images on the grid of a reference.

    Attributes
    ----------
    images : ndarray of float64, shape (n, size, size)
        NaN where an image does not cover the reference pixel, or one of the four pixels around it is NaN.
    distortion_px : ndarray of float64, shape (n,)
        Largest error of the affine map over the stamp; infinite where the stamp is not wholly in front of the image's
        tangent plane or its map has no solution.
    full_wcs : ndarray of bool, shape (n,)
        Whether the full map of every pixel was used.
    """

    images: Floats
    distortion_px: Floats
    full_wcs: NDArray[np.bool_]


def align_stack(
    images: Sequence[Floats],
    wcs: Sequence[ImageWcs],
    reference: ImageWcs,
    corner: tuple[float, float],
    *,
    size_px: int,
    max_distortion_px: float = 0.01,
) -> AlignedStack:
    """Sample images at the pixels of a stamp of a reference image (paper III, section 2.3).

    Parameters
    ----------
    images : sequence of n ndarray of float64, shape (height, width) each
        NaN where a pixel is missing.
    wcs : sequence of n ImageWcs
        World coordinates of each image.
    reference : ImageWcs
        World coordinates of the reference.
    corner : tuple of float
        Column and row, from 0, of the reference pixel that is the stamp's first.
    size_px : int
        Rows and columns of the stamp, two or more.
    max_distortion_px : float
        Error of the affine map above which the full map of every pixel is used.

    Returns
    -------
    AlignedStack
        Pixel ``[k, j, i]`` is image ``k`` at the sky position of the reference's column ``corner[0] + i``, row
        ``corner[1] + j``.

    Raises
    ------
    InputError
        If images and coordinates differ in number, an image has not two dimensions or no pixels, or the corner, the
        size or the limit is none.

    Notes
    -----
    Values and edges are those of ``reproject.reproject_interp(order='bilinear')``: an image reaches half a pixel
    beyond the centres of its outermost pixels, where it is constant, and a NaN among the four pixels around a
    position makes the value NaN. One exception: a position within 1e-7 pixels of a pixel's centre takes that pixel
    alone, so that missing pixels of the reference's own image do not spread by rounding.
    """
    _check(images, wcs, corner, size_px, max_distortion_px)
    aligned = np.empty((len(images), size_px, size_px))
    distortion, full = np.empty(len(images)), np.zeros(len(images), dtype=np.bool_)
    if len(images):
        _align(
            np.concatenate([np.ravel(image) for image in images], dtype=np.float64),
            np.array([image.shape for image in images], dtype=np.int64),
            (reference.crpix, reference.crval, reference.cd, reference.pv),
            tuple(np.array([getattr(each, name) for each in wcs]) for name in ("crpix", "crval", "cd", "pv")),
            (float(corner[0]), float(corner[1])),
            float(max_distortion_px),
            (aligned, distortion, full),
        )
    return AlignedStack(aligned, distortion, full)


def _check(images: Sequence[Floats], wcs: Sequence, corner: tuple[float, float], size_px: int, limit: float) -> None:
    if len(images) != len(wcs):
        raise InputError("images without coordinates", seen=f"{len(images)} images, {len(wcs)} world coordinates")
    for number, image in enumerate(images):
        if np.ndim(image) != 2 or not np.size(image):
            raise InputError(
                "no image", where=f"image {number}", seen=f"shape {np.shape(image)}", needed="rows, columns"
            )
    if size_px < 2 or not limit > 0 or not all(math.isfinite(value) for value in corner):
        raise InputError("no stamp", seen=f"corner {corner}, size {size_px}, largest distortion {limit}")


@jit
def _align(pixels, shapes, reference, others, corner, max_distortion, out):
    aligned, distortion, full = out
    size = aligned.shape[1]
    half = 0.5 * (size - 1)
    points = np.empty((2, N_POINTS, N_POINTS))
    ahead = reference_points(reference, corner, half)
    columns, rows = np.empty(size), np.empty(size)
    first = 0
    for k in range(len(shapes)):
        height, width = shapes[k]
        image = pixels[first : first + height * width].reshape(height, width)
        first += height * width
        other = others[0][k], others[1][k], others[2][k], others[3][k]
        turn = turn_between(other[1], reference[1])
        find_points(ahead, other, turn, points)
        fit = fit_map(points)
        distortion[k] = largest_error(fit, points, 1)
        full[k] = not (distortion[k] <= max_distortion and largest_error(fit, points, 3) <= _SMOOTH_PX)
        if full[k]:
            _sample_all(image, reference, other, turn, corner, aligned[k])
            continue
        for j in range(size):
            row_of_map(fit, (j - half) / half, half, columns, rows)
            _sample_row(image, columns, rows, aligned[k, j])


@jit
def _sample_row(image, columns, rows, out):
    height, width = image.shape
    for i in range(len(out)):
        x, y = columns[i], rows[i]
        if 0.0 <= x < width - 1.0 and 0.0 <= y < height - 1.0:
            left, low = int(x), int(y)
            tx, ty = x - left, y - low
            below = image[low, left] * (1.0 - tx) + image[low, left + 1] * tx
            above = image[low + 1, left] * (1.0 - tx) + image[low + 1, left + 1] * tx
            out[i] = below * (1.0 - ty) + above * ty
            if out[i] == out[i]:
                continue
        out[i] = sample(image, x, y)  # an edge or a NaN


@jit
def _sample_all(image, reference, other, turn, corner, out):
    """Sample with the full map of every pixel."""
    crpix, _, cd, pv = other
    poly, radial, degree = terms(pv)
    poly_0, radial_0, degree_0 = terms(reference[3])
    tolerance = tolerance_deg(cd)
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            x, y = corner[0] + i, corner[1] + j
            xi, eta = tangent_of(reference[0], reference[2], poly_0, radial_0, degree_0, x, y)
            xi, eta = project(turn, xi, eta)
            u, v = undistort(poly, radial, degree, xi, eta, first_guess(poly, xi, eta), tolerance)
            x, y = pixel_of(crpix, cd, u, v)
            out[j, i] = sample(image, x, y)


@jit
def _beside(position, n):
    """The two pixels of an axis around a position, and the weight of the second."""
    nearest = math.floor(position + 0.5)
    if abs(position - nearest) < _SNAP_PX:
        return int(nearest), int(nearest), 0.0
    inside = min(max(position, 0.0), n - 1.0)
    low = max(min(int(inside), n - 2), 0)
    return low, min(low + 1, n - 1), inside - low


@jit
def sample(image, x, y):
    """Bilinear value of an image at a column and row; NaN outside, and next to a NaN."""
    height, width = image.shape
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        return math.nan
    left, right, tx = _beside(x, width)
    low, high, ty = _beside(y, height)
    below = image[low, left] * (1.0 - tx) + image[low, right] * tx
    above = image[high, left] * (1.0 - tx) + image[high, right] * tx
    return below * (1.0 - ty) + above * ty
