"""Rebinning as plain loops over every pair of pixels: what the kernel must equal."""

from __future__ import annotations

import math

import numpy as np


def rebin_loop(flux, ivar, edges, out_edges):
    """Flux and inverse variance (m,) of the wanted pixels; 0 where less than half of the width has weight."""
    out_flux, out_ivar = np.zeros(len(out_edges) - 1), np.zeros(len(out_edges) - 1)
    for j in range(len(out_flux)):
        low, high = out_edges[j], out_edges[j + 1]
        shares = []
        for i in range(len(flux)):
            width = min(high, edges[i + 1]) - max(low, edges[i])
            if width > 0 and math.isfinite(ivar[i]) and ivar[i] > 0 and math.isfinite(flux[i]):
                shares.append((width, flux[i], 1.0 / ivar[i]))
        cover = sum(width for width, _, _ in shares)
        if shares and cover >= 0.5 * (high - low) * (1 - 2e-6):
            out_flux[j] = sum(width * value for width, value, _ in shares) / cover
            out_ivar[j] = cover**2 / sum(width**2 * variance for width, _, variance in shares)
    return out_flux, out_ivar
