"""Estimates against the values they should have: three panels per model and reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import ndtr

from stellarscale.kernels.stats import gaussian_fit, robust_sigma
from stellarscale.report.content import Evaluation
from stellarscale.report.labels import (
    literal,
    model_in_plot,
    model_in_text,
    reference_name,
    several,
    short,
    with_unit,
)
from stellarscale.report.numbers import pairs, trend_of
from stellarscale.report.plots_style import (
    BLUE,
    HALO,
    INK,
    VERMILION,
    density,
    empty,
    limits,
    panels,
    plain_counts,
    round_ticks,
    styled,
)


@styled
def plot_residuals(evaluation: Evaluation) -> Figure:
    """Three panels for one model (paper I, Figs 6 and 7).

    Estimate against truth with the one-to-one line; histogram of the residuals with the fitted Gaussian;
    residual against truth with the median and the robust sigma in bins.
    """
    truth, residual = pairs(evaluation)
    drawn, grid = panels(11.5, 3.5, (1, 3))
    left, middle, right = grid[0]
    left.set_title(model_in_plot(evaluation.model))
    middle.set_title("Residuals")
    right.set_title("Trend")
    if len(truth) == 0:
        for axes in (left, middle, right):
            empty(axes, "no star has both values")
    else:
        _one_to_one(left, truth, residual, evaluation)
        _histogram(middle, residual, evaluation.unit)
        _against_truth(right, truth, residual, evaluation)
    return drawn


def _one_to_one(axes: Axes, truth: NDArray, residual: NDArray, evaluation: Evaluation) -> None:
    low, high = limits(np.concatenate([truth, truth + residual]))
    density(axes, truth, truth + residual, (low, high, low, high))
    axes.plot([low, high], [low, high], color=VERMILION, lw=1.4, ls="--", label="one to one", path_effects=HALO)
    axes.set_xlabel(_reference(evaluation))
    axes.set_ylabel(f"{with_unit(evaluation.label, evaluation.unit)}, predicted")
    round_ticks(axes.xaxis, axes.yaxis)
    axes.legend(loc="upper left")


def _reference(evaluation: Evaluation) -> str:
    against = literal(reference_name(evaluation.against)).replace("labels", "label")
    return f"{with_unit(evaluation.label, evaluation.unit)}, {against}"


def _histogram(axes: Axes, residual: NDArray, unit: str) -> None:
    fit = gaussian_fit(residual)
    spread = max(robust_sigma(residual), fit.sigma)
    if spread > 0:
        reach = np.array([fit.mean - 5 * spread, fit.mean + 5 * spread])
    else:
        reach = np.array(limits(residual))
    bins = int(np.clip(2 * np.sqrt(len(residual)), 8, 80))
    counts, edges = np.histogram(residual, bins=bins, range=(float(reach[0]), float(reach[1])))
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.35)
    axes.stairs(counts, edges, color=BLUE, lw=1.0)
    lines = [f"n = {len(residual):,}", f"median {short(float(np.median(residual)))}"]
    if len(residual) > 1:
        lines.append(f"robust σ {short(robust_sigma(residual))}")
    if fit.converged:
        fine = np.linspace(edges[0], edges[-1], 400)
        width = edges[1] - edges[0]
        curve = fit.area * (
            ndtr((fine + width / 2 - fit.mean) / fit.sigma) - ndtr((fine - width / 2 - fit.mean) / fit.sigma)
        )
        axes.plot(fine, curve, color=VERMILION, lw=1.6)
        lines += [f"fit μ {short(fit.mean)}", f"fit σ {short(fit.sigma)}"]
    else:
        lines.append("no Gaussian fitted")
    axes.axvline(0.0, color=INK, lw=0.8, ls=":")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, max(counts.max(), 1) * 1.45)
    axes.text(0.03, 0.97, "\n".join(lines[:3]), transform=axes.transAxes, va="top", fontsize=8.5, linespacing=1.45)
    axes.text(
        0.97, 0.97, "\n".join(lines[3:]), transform=axes.transAxes, va="top", ha="right", fontsize=8.5,
        linespacing=1.45, color=VERMILION,
    )  # fmt: skip
    axes.set_xlabel(with_unit("residual", unit))
    axes.set_ylabel("stars per bin")
    round_ticks(axes.xaxis)
    plain_counts(axes.yaxis)


def _against_truth(axes: Axes, truth: NDArray, residual: NDArray, evaluation: Evaluation) -> None:
    half = max(5 * robust_sigma(residual), 1.2 * float(np.abs(np.median(residual))))
    if half <= 0:
        half = max(float(np.abs(residual).max()) * 1.1, 1e-3)
    left, right = limits(truth)
    density(axes, truth, residual, (left, right, -half, half))
    axes.axhline(0.0, color=INK, lw=0.8, ls=":")
    trend = trend_of(truth, residual)
    if trend is not None:
        kept = np.isfinite(trend.bias)
        x, bias, sigma = trend.centres[kept], trend.bias[kept], trend.sigma[kept]
        look: dict[str, Any] = {"color": VERMILION, "path_effects": HALO}
        axes.plot(x, bias, lw=1.8, label="median", **look)
        axes.plot(x, bias + sigma, lw=1.2, ls="--", label="± robust σ", **look)
        axes.plot(x, bias - sigma, lw=1.2, ls="--", **look)
        axes.legend(loc="lower right", bbox_to_anchor=(1.03, 0.985), ncols=2, borderpad=0.2, columnspacing=1.0)
    axes.set_xlabel(_reference(evaluation))
    axes.set_ylabel(with_unit("residual", evaluation.unit))
    round_ticks(axes.xaxis, axes.yaxis)


def describe(evaluation: Evaluation) -> str:
    """One line for the plot's alternative text."""
    truth, residual = pairs(evaluation)
    model = model_in_text(evaluation.model)
    if len(residual) == 0:
        return f"{model}: no stars to compare"
    return (
        f"{model} against {reference_name(evaluation.against)}: {several(len(truth), 'star')}, median residual "
        f"{short(float(np.median(residual)))}, robust σ {short(robust_sigma(residual))} {evaluation.unit}"
    ).rstrip()
