"""Calibrated errors and novelty as plain loops over stars: what the kernels must equal."""

from __future__ import annotations

import math

import numpy as np


def quantile_loop(scores, level: float) -> float:
    """The (n + 1) level-th smallest score, linear between two; the extremes beyond the ends."""
    ordered = sorted(float(score) for score in scores)
    rank = (len(ordered) + 1) * level - 1
    if rank <= 0:
        return ordered[0]
    if rank >= len(ordered) - 1:
        return ordered[-1]
    below = math.floor(rank)
    return ordered[below] + (rank - below) * (ordered[below + 1] - ordered[below])


def factor_loop(nodes_y, nodes_x, table, y: float, x: float) -> float:
    """Bilinear interpolation of a table, constant beyond its ends."""
    rows = [float(np.interp(x, nodes_x, row)) for row in table]
    return float(np.interp(y, nodes_y, rows))


def scale_loop(model, spread: float, magnitude: float, noise) -> float:
    """Root of the sum of terms; the mean coefficients without a magnitude."""
    square = model.spread * spread**2 + model.floor
    for number, value in enumerate(noise):
        of_noise = model.noise[:, number]
        known = not math.isnan(magnitude)
        square += float(np.interp(magnitude, model.nodes, of_noise) if known else np.mean(of_noise)) * value**2
    return math.sqrt(square)


def half_widths_loop(model, prediction, spread, magnitude, noise) -> tuple[np.ndarray, np.ndarray]:
    """Half widths of the 68 and 95 % intervals, star by star."""
    result = np.full((2, len(prediction)), np.nan)
    for star, (value, width, mag) in enumerate(zip(prediction, spread, magnitude, strict=True)):
        scale = scale_loop(model.scale, width, mag, noise[star])
        for level in range(0 if math.isnan(value) else 2):
            if math.isnan(mag):
                factor = model.overall[level]
            else:
                factor = factor_loop(model.magnitude, model.label, model.factors[level], mag, value)
            result[level, star] = scale * factor
    return result[0], result[1]


def novel_loop(model, x, columns) -> np.ndarray:
    """Whether each star is outside: beyond a limit, or in no component above the threshold; never with a NaN."""
    result = np.zeros(len(x), dtype=bool)
    mixture = model.mixture
    for star, row in enumerate(np.asarray(x, dtype=np.float64)[:, columns]):
        if np.isnan(row).any():
            continue
        place = (row - model.centre) @ model.axes
        scores = [
            height + 0.5 * np.sum((root @ (place - mean)) ** 2)
            for mean, root, height in zip(mixture.means, mixture.roots, mixture.heights, strict=True)
        ]
        beyond = np.any(row < model.low) or np.any(row > model.high)
        result[star] = beyond or min(scores) > model.threshold
    return result
