"""Velocity shifts by a plain loop: numpy interpolation weights and least squares, one spectrum and shift at a time."""

from __future__ import annotations

import numpy as np

from stellarscale.kernels.wavelength import LIGHT_KMS


def shifted(template, pixels):
    """A spectrum moved right by a part of pixels: the polynomial of degree five through the six nearest, by solving."""
    n_pix = len(template)
    out = np.full(n_pix, np.nan)
    nodes = np.arange(-2, 4)
    for i in range(n_pix):
        below = int(np.floor(i - pixels))
        if below - 2 < 0 or below + 3 >= n_pix:
            continue
        coefficients = np.linalg.solve(np.vander(nodes, increasing=True).astype(float), template[below + nodes])
        out[i] = np.polyval(coefficients[::-1], i - pixels - below)
    return out


def chi2_curve(flux, ivar, template, step_dex, grid_kms, order):
    """Chi-square at each velocity, over the pixels that every shift reaches, with a polynomial fitted each time."""
    shifts = np.log10(1.0 + grid_kms / LIGHT_KMS) / step_dex
    margin = int(np.ceil(np.abs(shifts).max())) + 3
    inside = slice(margin, len(flux) - margin)
    powers = np.vander(np.linspace(-1, 1, len(flux)), order + 1, increasing=True)[inside]
    root = np.sqrt(ivar[inside].astype(float))
    curve = []
    for shift in shifts:
        design = powers * shifted(template.astype(float), shift)[inside, None]
        solution = np.linalg.lstsq(design * root[:, None], flux[inside] * root, rcond=None)[0]
        curve.append(float((((flux[inside] - design @ solution) * root) ** 2).sum()))
    return np.array(curve)
