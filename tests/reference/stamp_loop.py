"""Stamps as plain loops and textbook formulas: what the kernels of coordinates, alignment and stacks must equal.

Also headers like SkyMapper's for the tests that compare with astropy and reproject.
"""

from __future__ import annotations

import math

import numpy as np
from astropy.io import fits

from stellarscale.kernels.tpv import ImageWcs, identity_pv, pixel_to_sky, sky_to_pixel

SCALE_DEG = 0.4976 / 3600
CHIP_PX = (2048, 4096)  # columns, rows

# The registered terms of axis 1: powers of u and v, or a power of r. Axis 2 has u and v exchanged.
TERMS = (
    *((0, 0), (1, 0), (0, 1), "r1"),
    *((2, 0), (1, 1), (0, 2)),
    *((3, 0), (2, 1), (1, 2), (0, 3), "r3"),
    *((4, 0), (3, 1), (2, 2), (1, 3), (0, 4)),
    *((5, 0), (4, 1), (3, 2), (2, 3), (1, 4), (0, 5), "r5"),
    *((6, 0), (5, 1), (4, 2), (3, 3), (2, 4), (1, 5), (0, 6)),
    *((7, 0), (6, 1), (5, 2), (4, 3), (3, 4), (2, 5), (1, 6), (0, 7), "r7"),
)


def tpv_loop(pv, u, v):
    """Tangent-plane coordinates of intermediate ones, degrees."""
    result = []
    for axis, (first, second) in enumerate(((u, v), (v, u))):
        total = 0.0
        for coefficient, term in zip(pv[axis], TERMS, strict=True):
            if isinstance(term, str):
                total += coefficient * math.hypot(u, v) ** int(term[1])
            else:
                total += coefficient * first ** term[0] * second ** term[1]
        result.append(total)
    return tuple(result)


def untpv_loop(pv, xi, eta):
    """Intermediate coordinates, by adding what is missing again and again; for polynomials close to identity."""
    u, v = xi, eta
    while True:
        x, y = tpv_loop(pv, u, v)
        u, v = u + xi - x, v + eta - y
        if math.hypot(xi - x, eta - y) < 1e-11 * SCALE_DEG:
            return u, v


def sky_loop(wcs, x, y):
    """Right ascension and declination of a pixel."""
    u, v = wcs.cd @ (np.array([x, y]) + 1 - wcs.crpix)
    xi, eta = np.radians(tpv_loop(wcs.pv, u, v))
    ra_0, dec_0 = np.radians(wcs.crval)
    depth = math.cos(dec_0) - eta * math.sin(dec_0)
    ra = ra_0 + math.atan2(xi, depth)
    dec = math.atan2(math.sin(dec_0) + eta * math.cos(dec_0), math.hypot(xi, depth))
    return math.degrees(ra) % 360, math.degrees(dec)


def pixel_loop(wcs, ra, dec):
    """Pixel of a position; NaN behind the tangent plane."""
    (ra_0, dec_0), ra, dec = np.radians(wcs.crval), math.radians(ra), math.radians(dec)
    depth = math.sin(dec) * math.sin(dec_0) + math.cos(dec) * math.cos(dec_0) * math.cos(ra - ra_0)
    if depth <= 0:
        return math.nan, math.nan
    xi = math.cos(dec) * math.sin(ra - ra_0) / depth
    eta = (math.sin(dec) * math.cos(dec_0) - math.cos(dec) * math.sin(dec_0) * math.cos(ra - ra_0)) / depth
    x, y = np.linalg.solve(wcs.cd, untpv_loop(wcs.pv, math.degrees(xi), math.degrees(eta))) + wcs.crpix - 1
    return float(x), float(y)


def bilinear_loop(image, x, y):
    """Value of an image at a position: NaN outside, the outermost pixels are constant over their outer halves."""
    height, width = image.shape
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        return math.nan
    total = 0.0
    for row, row_weight in neighbours_loop(y, height):
        for column, weight in neighbours_loop(x, width):
            total += row_weight * weight * image[row, column]
    return total


def neighbours_loop(position, n):
    """Pixels of an axis and their weights; one of weight zero still counts when it is NaN, unless at a centre."""
    if abs(position - round(position)) < 1e-7:
        return [(round(position), 1.0)]
    position = min(max(position, 0), n - 1)
    low = min(math.floor(position), max(n - 2, 0))
    return [(low, 1 - (position - low)), (min(low + 1, n - 1), position - low)]


def align_loop(image, wcs, reference, corner, size):
    """A stamp by the full map of every pixel."""
    out = np.empty((size, size))
    for j in range(size):
        for i in range(size):
            out[j, i] = bilinear_loop(image, *pixel_loop(wcs, *sky_loop(reference, corner[0] + i, corner[1] + j)))
    return out


def mean_loop(images, band, n_bands):
    """Mean and number of the finite values of each pixel in each band."""
    shape = (n_bands, *images.shape[1:])
    mean, count = np.full(shape, np.nan), np.zeros(shape, dtype=np.uint8)
    for b, j, i in np.ndindex(shape):
        values = [image[j, i] for image, of in zip(images, band, strict=True) if of == b and math.isfinite(image[j, i])]
        count[b, j, i] = len(values)
        if values:
            mean[b, j, i] = sum(values) / len(values)
    return mean, count


def border_loop(counts, border_px, clip_sigma):
    """Clipped median and robust sigma of the border's finite pixels."""
    height, width = counts.shape
    kept = np.array(
        [
            counts[j, i]
            for j, i in np.ndindex(counts.shape)
            if min(j, height - 1 - j, i, width - 1 - i) < border_px and math.isfinite(counts[j, i])
        ]
    )
    while True:
        sky = float(np.median(kept))
        sigma = 1.4826 * float(np.median(np.abs(kept - sky)))
        near = kept[np.abs(kept - sky) <= clip_sigma * sigma]
        if len(near) == len(kept) or sigma == 0:
            return sky, sigma
        kept = near


def chip_wcs(rng, ra, dec, *, distortion_px=3.0, order=3):
    """A chip like SkyMapper's, turned and flipped at will, whose reference pixel has the position.

    The polynomial moves pixels at 2000 pixels from the reference by about ``distortion_px``.
    """
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    pv = identity_pv()
    pv[:, 1:3] += rng.normal(0, 1e-3, (2, 2))
    for number, term in enumerate(TERMS):
        degree = int(term[1]) if isinstance(term, str) else sum(term)
        if 2 <= degree <= order:
            pv[:, number] = rng.normal(0, distortion_px / 3, 2) * SCALE_DEG / (2000 * SCALE_DEG) ** degree
    cd = SCALE_DEG * turn @ np.diag([rng.choice([-1.0, 1.0]), 1.0])
    crpix = np.array(CHIP_PX) * rng.uniform(0.3, 0.7, 2)
    return ImageWcs(crpix, np.array([ra % 360, dec]), cd, pv)


def cutout_wcs(rng, ra, dec, at, **chip):
    """A cut-out of a chip, its star anywhere on the chip and at about the pixel ``at`` of the cut-out."""
    wcs = chip_wcs(rng, ra, dec, **chip)
    elsewhere = pixel_to_sky(wcs, *rng.uniform(0, CHIP_PX))
    wcs = ImageWcs(wcs.crpix, np.array(elsewhere), wcs.cd, wcs.pv)
    return ImageWcs(wcs.crpix - np.floor(sky_to_pixel(wcs, ra, dec)) + at, wcs.crval, wcs.cd, wcs.pv)


def header_of(wcs, shape=(60, 60), kind="TPV"):
    """FITS header of an image; TAN leaves the polynomial out."""
    header = fits.Header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, shape[1], shape[0]
    header["CTYPE1"], header["CTYPE2"] = f"RA---{kind}", f"DEC--{kind}"
    for i in (1, 2):
        header[f"CUNIT{i}"], header[f"CRPIX{i}"], header[f"CRVAL{i}"] = "deg", wcs.crpix[i - 1], wcs.crval[i - 1]
        for j in (1, 2):
            header[f"CD{i}_{j}"] = wcs.cd[i - 1, j - 1]
        for j in np.flatnonzero(wcs.pv[i - 1]) if kind == "TPV" else ():
            header[f"PV{i}_{j}"] = wcs.pv[i - 1, j]
    return header
