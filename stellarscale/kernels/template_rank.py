"""The first score of all templates: chi^2 from a short basis, in float32, with a lower bound of the true one.

The moments of the fit of the polynomial are small matrix products: of the spectrum with the basis, and of that with
what each template has of the basis.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Sums may be taken in any order (so that they use vector registers); NaN and infinity keep their meaning.
SUMS = {"reassoc", "contract", "nsz", "arcp"}
# Columns of a matrix that are worked on at a time: what a product reads again and again stays in the fast cache.
_CHUNK = 512
_SINGULAR = np.float32(1e-5)
_TINY = np.float32(1e-30)
_SIGMAS = 5.0


@njit(nogil=True, cache=True, fastmath=SUMS)
def weigh(y, weight, x, flux_rows, weight_rows):
    """Fill ``w y x^j`` and ``w x^m``, for as many powers as there are rows."""
    for pixel in range(len(y)):
        flux_rows[0, pixel] = weight[pixel] * y[pixel]
        weight_rows[0, pixel] = weight[pixel]
    for power in range(1, len(flux_rows)):
        for pixel in range(len(y)):
            flux_rows[power, pixel] = flux_rows[power - 1, pixel] * x[pixel]
    for power in range(1, len(weight_rows)):
        for pixel in range(len(y)):
            weight_rows[power, pixel] = weight_rows[power - 1, pixel] * x[pixel]


@njit(nogil=True, cache=True)
def project(rows, basis, out):
    """Products of every row (m, n_pix) with every vector of a basis (r, n_pix), r a multiple of four.

    Rows go by three and two: with four vectors at a time, each number that is read serves several products.
    """
    row = 0
    while row < len(rows):
        n_left = len(rows) - row
        if n_left >= 3:
            _project_three(rows[row], rows[row + 1], rows[row + 2], basis, out[row : row + 3])
            row += 3
        elif n_left == 2:
            _project_two(rows[row], rows[row + 1], basis, out[row:])
            row += 2
        else:
            _project_one(rows[row], basis, out[row])
            row += 1


@njit(nogil=True, cache=True, fastmath=SUMS)
def _project_one(row, basis, out):
    for j in range(0, len(basis), 4):
        v0, v1, v2, v3 = basis[j], basis[j + 1], basis[j + 2], basis[j + 3]
        s0 = s1 = s2 = s3 = np.float32(0)
        for pixel in range(len(row)):
            value = row[pixel]
            s0 += value * v0[pixel]
            s1 += value * v1[pixel]
            s2 += value * v2[pixel]
            s3 += value * v3[pixel]
        out[j], out[j + 1], out[j + 2], out[j + 3] = s0, s1, s2, s3


@njit(nogil=True, cache=True, fastmath=SUMS)
def _project_two(first, second, basis, out):
    for j in range(0, len(basis), 4):
        v0, v1, v2, v3 = basis[j], basis[j + 1], basis[j + 2], basis[j + 3]
        s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0)
        for pixel in range(len(first)):
            s, t = first[pixel], second[pixel]
            a0, a1, a2, a3 = v0[pixel], v1[pixel], v2[pixel], v3[pixel]
            s0 += s * a0
            s1 += s * a1
            s2 += s * a2
            s3 += s * a3
            t0 += t * a0
            t1 += t * a1
            t2 += t * a2
            t3 += t * a3
        out[0, j], out[0, j + 1], out[0, j + 2], out[0, j + 3] = s0, s1, s2, s3
        out[1, j], out[1, j + 1], out[1, j + 2], out[1, j + 3] = t0, t1, t2, t3


@njit(nogil=True, cache=True, fastmath=SUMS)
def _project_three(first, second, third, basis, out):
    for j in range(0, len(basis), 4):
        v0, v1, v2, v3 = basis[j], basis[j + 1], basis[j + 2], basis[j + 3]
        s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = u0 = u1 = u2 = u3 = np.float32(0)
        for pixel in range(len(first)):
            s, t, u = first[pixel], second[pixel], third[pixel]
            a0, a1, a2, a3 = v0[pixel], v1[pixel], v2[pixel], v3[pixel]
            s0 += s * a0
            s1 += s * a1
            s2 += s * a2
            s3 += s * a3
            t0 += t * a0
            t1 += t * a1
            t2 += t * a2
            t3 += t * a3
            u0 += u * a0
            u1 += u * a1
            u2 += u * a2
            u3 += u * a3
        out[0, j], out[0, j + 1], out[0, j + 2], out[0, j + 3] = s0, s1, s2, s3
        out[1, j], out[1, j + 1], out[1, j + 2], out[1, j + 3] = t0, t1, t2, t3
        out[2, j], out[2, j + 1], out[2, j + 2], out[2, j + 3] = u0, u1, u2, u3


@njit(nogil=True, cache=True, fastmath=SUMS)
def expand(rows, loadings, out):
    """Rows (m, r) times loadings (r, n_ref), r a multiple of eight.

    Not by BLAS: for products as small as these it is hardly faster, and its threads would compete with the caller's.
    """
    out[:] = np.float32(0)
    for start in range(0, loadings.shape[1], _CHUNK):
        end = min(start + _CHUNK, loadings.shape[1])
        for j in range(0, len(loadings), 8):
            t0, t1 = loadings[j, start:end], loadings[j + 1, start:end]
            t2, t3 = loadings[j + 2, start:end], loadings[j + 3, start:end]
            t4, t5 = loadings[j + 4, start:end], loadings[j + 5, start:end]
            t6, t7 = loadings[j + 6, start:end], loadings[j + 7, start:end]
            for row in range(len(rows)):
                r0, r1, r2, r3 = rows[row, j], rows[row, j + 1], rows[row, j + 2], rows[row, j + 3]
                r4, r5, r6, r7 = rows[row, j + 4], rows[row, j + 5], rows[row, j + 6], rows[row, j + 7]
                target = out[row, start:end]
                for i in range(len(target)):
                    lower = r0 * t0[i] + r1 * t1[i] + r2 * t2[i] + r3 * t3[i]
                    target[i] += lower + r4 * t4[i] + r5 * t5[i] + r6 * t6[i] + r7 * t7[i]


@njit(nogil=True, cache=True, fastmath=SUMS)
def first_scores(total, b, a, score):
    """Chi^2 by the basis, ``total - b' A^-1 b``, by LDL' of the 3 x 3 moments; terms without support left out.

    Parameters
    ----------
    total : float32
        Sum of ``w y^2``.
    b, a : ndarray, shapes (3, n_ref) and (5, n_ref)
        Sums of ``w y T x^j`` and ``w T^2 x^m``; zero above the order.
    score : ndarray, shape (n_ref,)
        Filled.
    """
    zero, one = np.float32(0), np.float32(1)
    for i in range(len(score)):
        a0, a1, a2, a3, a4 = a[0, i], a[1, i], a[2, i], a[3, i], a[4, i]
        # Quotients are formed whether they count or not: without branches, sixteen templates go at a time.
        i0 = (one if a0 > _TINY else zero) / max(a0, _TINY)
        l1, l2 = a1 * i0, a2 * i0
        d1 = a2 - l1 * a1
        i1 = (one if d1 > _SINGULAR * a2 else zero) / max(d1, _TINY)
        e = a3 - l2 * a1
        l3 = e * i1
        d2 = a4 - l2 * a2 - l3 * e
        i2 = (one if d2 > _SINGULAR * a4 else zero) / max(d2, _TINY)
        z0 = b[0, i]
        z1 = b[1, i] - l1 * z0
        z2 = b[2, i] - l2 * z0 - l3 * z1
        score[i] = total - (z0 * z0 * i0 + z1 * z1 * i1 + z2 * z2 * i2)


@njit(nogil=True, cache=True, fastmath=SUMS)
def bin_power(y, weight, edges, row):
    """Sums of ``w y^2`` over bins: what a relative error of the model weighs there.

    Returns their sum, and the root of the sum of the squares of ``w y^2``: equal if one pixel has all the weight.
    """
    whole = square = 0.0
    for b in range(len(row)):
        total = np.float32(0)
        for pixel in range(edges[b], edges[b + 1]):
            value = weight[pixel] * y[pixel] * y[pixel]
            total += value
            square += np.float64(value) * np.float64(value)
        row[b] = total
        whole += np.float64(total)
    return whole, np.sqrt(square)


@njit(nogil=True, cache=True, fastmath=SUMS)
def lower_bounds(score, left_out, allowance, n_pix, bound):
    """What chi^2 on all pixels is at least, for every template.

    Chi^2 is that by the basis, R, plus d, the weighted square of what the basis leaves out of the template, less twice
    the product of that with the residuals. The product with noise has the standard deviation sqrt(d): five times as
    much is allowed. The product with a signal that the basis leaves out of the spectrum is at most the root of
    d times the square of the signal (Cauchy and Schwarz), and that square is at most R less the number of pixels.

    Parameters
    ----------
    score, left_out, allowance : ndarray, shape (n_ref,)
        R, d, and how far R may be off.
    n_pix : int
        Pixels with weight.
    bound : ndarray, shape (n_ref,)
        Filled.
    """
    zero, sigmas = np.float32(0), np.float32(_SIGMAS)
    for i in range(len(score)):
        reach = np.sqrt(max(score[i] + allowance[i] - np.float32(n_pix), zero)) + sigmas
        part = min(np.sqrt(max(left_out[i], zero)), reach)
        bound[i] = score[i] + part * part - np.float32(2) * part * reach - allowance[i]


@njit(nogil=True, cache=True, fastmath=SUMS)
def square_errors(left_out, allowance, total, error):
    """How far the sums of ``w T^2 x^m`` by the basis may be off, as a share.

    The square of what the basis leaves out, relative to that of the template, is the square of the error of the
    template; a quadratic polynomial can have nine times its mean square at the pixels where that is.
    """
    zero, share_of_one = np.float32(0), np.float32(1) / max(total, _TINY)
    for i in range(len(error)):
        share = max(left_out[i], zero) * share_of_one
        error[i] = np.float32(6) * np.sqrt(share) + np.float32(9) * (share + allowance[i] * share_of_one)
