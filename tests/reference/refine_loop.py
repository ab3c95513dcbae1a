"""Scores of one spectrum and predictions of a Gaussian process, as plain as they can be written."""

from __future__ import annotations

import numpy as np


def scores_of_one(residual, weight, vectors, precision):
    """Minimise sum(weight (residual - scores . vectors)^2) + scores' precision scores."""
    normal, right = np.array(precision, dtype=float), np.zeros(len(vectors))
    for pixel in range(len(residual)):
        for i in range(len(vectors)):
            right[i] += weight[pixel] * vectors[i][pixel] * residual[pixel]
            for j in range(len(vectors)):
                normal[i, j] += weight[pixel] * vectors[i][pixel] * vectors[j][pixel]
    return np.linalg.solve(normal, right)


def predict_one(process, point):
    """Value of a process at one point, point by point."""
    total = np.array(process.centre, dtype=float)
    for other, factors in zip(process.points.astype(float), process.factors, strict=True):
        r = np.sqrt(3.0 * np.sum((point - other) ** 2)) / process.length
        total += ((1.0 + r) * np.exp(-r) + process.slope * np.dot(point, other)) * factors
    return total
