"""Residuals of labels in a few numbers, and as a table of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.stats import robust_sigma
from stellarscale.report.labels import count, short
from stellarscale.report.tables import table

Numbers = dict[str, dict[str, float]]


def residual_numbers(labels: Sequence[str], residual: NDArray[np.float64]) -> Numbers:
    """Number, median and robust sigma of the finite residuals (n, n_labels) of each label."""
    found = {}
    for label, column in zip(labels, residual.T, strict=True):
        known = column[np.isfinite(column)]
        if len(known):
            found[label] = {
                "n": len(known),
                "bias": float(np.median(known)),
                "robust_sigma": float(robust_sigma(known)),
            }
    return found


def residual_table(numbers: Numbers, units: Mapping[str, str]) -> str:
    """The numbers of :func:`residual_numbers` as HTML."""
    rows = [
        [escape(name), count(each["n"]), short(each["bias"]), short(each["robust_sigma"]), escape(units[name])]
        for name, each in numbers.items()
    ]
    return table(["label<", "spectra", "median", "robust σ", "unit<"], rows)
