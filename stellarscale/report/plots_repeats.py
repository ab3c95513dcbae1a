"""Scatter of repeat observations: histograms with their Gaussians, and the error against S/N."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtr

from stellarscale.kernels.repeats import Deviations, RepeatErrors, gaussians
from stellarscale.kernels.stats import GaussianFit
from stellarscale.report.labels import several, short, with_unit
from stellarscale.report.plots_style import BLUE, INK, VERMILION, panels, plain_counts, round_ticks, styled

UNITS = {"teff": "K", "logg": "dex", "m_h": "dex", "fe_h": "dex"}


@styled
def plot_deviations(scatter: Deviations, names: tuple[str, ...]) -> Figure:
    """Histogram of the repeats' deviations for each label, with the fitted Gaussian (paper II, Fig. 18)."""
    drawn, grid = panels(3.9 * len(names), 3.2, (1, len(names)))
    for axes, name, values, fit in zip(grid[0], names, scatter.values.T, gaussians(scatter), strict=True):
        _histogram(axes, name, values, fit)
    grid[0][0].set_ylabel("spectra per bin")
    return drawn


def _histogram(axes: Axes, name: str, values: Any, fit: GaussianFit) -> None:
    reach = 5 * fit.sigma if fit.sigma > 0 else max(float(np.abs(values).max(initial=0.0)), 1e-3)
    counts, edges = np.histogram(values, bins=int(np.clip(2 * np.sqrt(len(values)), 8, 80)), range=(-reach, reach))
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.35)
    axes.stairs(counts, edges, color=BLUE, lw=1.0)
    if fit.converged:
        fine, half = np.linspace(-reach, reach, 400), 0.5 * (edges[1] - edges[0])
        curve = ndtr((fine + half - fit.mean) / fit.sigma) - ndtr((fine - half - fit.mean) / fit.sigma)
        axes.plot(fine, fit.area * curve, color=VERMILION, lw=1.6)
    unit = UNITS.get(name, "")
    axes.text(0.03, 0.97, f"n = {len(values):,}", transform=axes.transAxes, va="top", fontsize=8.5)
    axes.text(
        0.97, 0.97, f"{'fit' if fit.converged else 'robust'} σ {short(fit.sigma)} {unit}", transform=axes.transAxes,
        va="top", ha="right", fontsize=8.5, color=VERMILION,
    )  # fmt: skip
    axes.axvline(0.0, color=INK, lw=0.8, ls=":")
    axes.set_xlim(-reach, reach)
    axes.set_ylim(0, max(int(counts.max()), 1) * 1.25)
    axes.set_xlabel(with_unit(name, unit) + ", deviation")
    round_ticks(axes.xaxis)
    plain_counts(axes.yaxis)


@styled
def plot_error_against_snr(errors: RepeatErrors) -> Figure:
    """Error of each label in steps of S/N, and the curve through them (paper II, Fig. 17)."""
    drawn, grid = panels(3.9 * len(errors.names), 3.2, (1, len(errors.names)))
    fine = np.geomspace(errors.snr.min() / 1.1, errors.snr.max() * 1.1, 200)
    curves = errors.errors(fine)
    for k, (axes, name) in enumerate(zip(grid[0], errors.names, strict=True)):
        sigma = errors.step_sigma[:, k]
        axes.errorbar(
            errors.snr, sigma, sigma / np.sqrt(2 * errors.step_count), fmt="o", ms=4.5, color=BLUE, lw=1.0,
            label="steps of S/N",
        )  # fmt: skip
        text = f"floor {short(errors.floor[k])}, {short(errors.noise[k])} / (S/N)"
        axes.plot(fine, curves[:, k], color=VERMILION, lw=1.6, label=text)
        axes.set_xlim(fine[0] - 1, fine[-1] + 1)
        axes.set_ylim(0, 1.35 * max(float(sigma.max()), float(curves[:, k].max()), 1e-9))
        axes.set_xlabel("S/N")
        axes.set_ylabel("error of " + with_unit(name, UNITS.get(name, "")))
        axes.legend(loc="upper right")
        round_ticks(axes.xaxis, axes.yaxis)
    return drawn


def describe(errors: RepeatErrors) -> str:
    """One line for the plots' alternative text."""
    parts = [
        f"{name} {short(value)} {UNITS.get(name, '')}".rstrip()
        for name, value in zip(errors.names, errors.sigma, strict=True)
    ]
    return f"Repeats: {errors.n_spectra:,} spectra of {several(errors.n_stars, 'star')}, sigma {', '.join(parts)}"
