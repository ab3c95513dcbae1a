"""How the empirical sample was cleaned: clusterings, the network's labels, leave-one-out (paper II, Figs 7-10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from scipy.special import ndtr

from stellarscale.kernels.stats import gaussian_fit, robust_sigma
from stellarscale.report.labels import literal, short, with_unit
from stellarscale.report.plots_style import (
    BLUE,
    GREY,
    HALO,
    INK,
    VERMILION,
    Room,
    density,
    empty,
    figure,
    limits,
    panels,
    plain_counts,
    round_ticks,
    styled,
)

LABELS = (("teff", "K"), ("logg", "dex"), ("m_h", "dex"))


@dataclass(frozen=True, eq=False)
class ClusterExample:
    """One clustering of one parameter bin.

    Attributes
    ----------
    bin : str
        What the bin is called.
    eps : float
        Radius of a neighbourhood.
    flux : ndarray, shape (n, n_pix)
        All spectra of the bin, unit median flux; NaN where a pixel carries no information.
    member : ndarray of bool, shape (n,)
        Those in the cluster.
    """

    bin: str
    eps: float
    flux: NDArray[np.float32]
    member: NDArray[np.bool_]


@styled
def plot_clusterings(wave_aa: NDArray, examples: Sequence[ClusterExample]) -> Figure:
    """All spectra of a bin in grey and the members of the cluster in red, a panel per example (Fig. 7)."""
    room = Room(top=0.55, rows=0.58, bottom=0.5)
    drawn, grid = panels(11.0, 0.6 + 2.5 * max(len(examples), 1), (max(len(examples), 1), 1), room=room)
    if not examples:
        empty(grid[0, 0], "no bin was clustered")
    for axes, example in zip(grid[:, 0], examples, strict=False):
        for member, colour, alpha in ((False, GREY, 0.5), (True, VERMILION, 0.8)):
            for line in example.flux[example.member == member]:
                axes.plot(wave_aa, line, color=colour, lw=0.5, alpha=alpha, rasterized=True)
        n = int(example.member.sum())
        axes.set_title(literal(f"eps = {example.eps:g}: {n} of {len(example.flux)} spectra in the cluster"))
        axes.set_xlim(float(wave_aa[0]), float(wave_aa[-1]))
        low, high = limits(example.flux.ravel(), cut=0.5)
        axes.set_ylim(min(low, 0.0), high)
        axes.set_ylabel("flux / median")
        axes.grid(True)
    if examples:
        drawn.suptitle(literal(examples[0].bin), x=room.left / 11.0, ha="left", fontsize=9.5)
        grid[-1, 0].set_xlabel("vacuum wavelength (Å)")
    return drawn


@styled
def plot_training(curve: NDArray, *, title: str = "Training curve") -> Figure:
    """Loss on the training and on the test stars against the iteration (Fig. 8).

    Parameters
    ----------
    curve : ndarray, shape (k, 3)
        Iteration, training loss, test loss.
    """
    drawn, grid = panels(6.2, 3.6, (1, 1), room=Room(left=0.85, right=0.3))
    axes = grid[0, 0]
    axes.plot(curve[:, 0], curve[:, 1], color=BLUE, lw=1.4, label="training stars")
    axes.plot(curve[:, 0], curve[:, 2], color=VERMILION, lw=1.4, label="test stars")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(0, float(curve[-1, 0]))
    axes.set_title(literal(title))
    axes.set_xlabel("iteration")
    axes.set_ylabel("mean squared error (standardised)")
    axes.legend(loc="upper right")
    axes.grid(True)
    round_ticks(axes.xaxis)
    return drawn


@styled
def plot_predictions(truth: NDArray, predicted: NDArray, *, what: str = "network") -> Figure:
    """Predicted labels against the labels, and histograms of the differences, a row per label (Fig. 9).

    Parameters
    ----------
    truth, predicted : ndarray, shape (n, 3)
        teff (K), logg, m_h (dex); stars without a prediction (NaN) are left out.
    what : str
        Who predicts, for the axes.
    """
    drawn, grid = panels(8.2, 9.6, (3, 2), room=Room(rows=0.62, between=0.85))
    truth, predicted = _complete(truth, predicted)
    for (name, unit), (left, right), seen, given in zip(LABELS, grid, truth.T, predicted.T, strict=True):
        if len(seen) == 0:
            empty(left, "no star has both values")
            empty(right, "no star has both values")
            continue
        low, high = limits(np.concatenate([seen, given]))
        density(left, seen, given, (low, high, low, high))
        left.plot([low, high], [low, high], color=VERMILION, lw=1.4, ls="--", path_effects=HALO)
        left.set_xlabel(f"{with_unit(name, unit)}, label")
        left.set_ylabel(f"{with_unit(name, unit)}, {literal(what)}")
        round_ticks(left.xaxis, left.yaxis)
        _differences(right, given - seen, name, unit)
    return drawn


@styled
def plot_leave_one_out(labels: NDArray, derived: NDArray) -> Figure:
    """Histograms of derived minus label, and lines from label to derived in the Kiel diagram (Fig. 10).

    Parameters
    ----------
    labels, derived : ndarray, shape (n, 3)
        teff (K), logg, m_h (dex); stars that could not be matched (NaN) are left out.
    """
    labels, derived = _complete(labels, derived)
    drawn = figure(11.5, 8.0)
    outer = {"left": 0.065, "right": 0.985, "bottom": 0.07, "top": 0.955}
    grid = drawn.add_gridspec(3, 3, hspace=0.42, wspace=0.3, **outer)
    for row, (name, unit) in enumerate(LABELS):
        axes = drawn.add_subplot(grid[row, 0])
        if len(labels):
            _differences(axes, derived[:, row] - labels[:, row], name, unit)
        else:
            empty(axes, "no star was matched")
    right = grid[:, 1:].subgridspec(2, 1, hspace=0.22)
    _arrows(drawn.add_subplot(right[0]), labels, derived, 1, "Kiel diagram: from the label to the match")
    _arrows(drawn.add_subplot(right[1]), labels, derived, 2, "")
    return drawn


def _complete(truth: NDArray, predicted: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = np.isfinite(truth).all(axis=1) & np.isfinite(predicted).all(axis=1)
    return np.asarray(truth, dtype=np.float64)[both], np.asarray(predicted, dtype=np.float64)[both]


def _differences(axes: Axes, residual: NDArray, name: str, unit: str) -> None:
    """Histogram of differences with a Gaussian of the fitted mean and sigma."""
    fit = gaussian_fit(residual)
    spread = max(robust_sigma(residual), fit.sigma)
    low, high = (fit.mean - 5 * spread, fit.mean + 5 * spread) if spread > 0 else limits(residual)
    counts, edges = np.histogram(residual, bins=int(np.clip(2 * np.sqrt(len(residual)), 8, 60)), range=(low, high))
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.35)
    axes.stairs(counts, edges, color=BLUE, lw=1.0)
    text = f"n = {len(residual):,}\nμ {short(fit.mean)}\nσ {short(fit.sigma)}"
    if fit.converged:
        fine = np.linspace(low, high, 300)
        half = 0.5 * (edges[1] - edges[0])
        curve = fit.area * (ndtr((fine + half - fit.mean) / fit.sigma) - ndtr((fine - half - fit.mean) / fit.sigma))
        axes.plot(fine, curve, color=VERMILION, lw=1.6)
    else:
        text += "\n(median, MAD)"
    axes.axvline(0.0, color=INK, lw=0.8, ls=":")
    axes.text(0.03, 0.96, text, transform=axes.transAxes, va="top", fontsize=8.5, linespacing=1.4)
    axes.set_xlim(low, high)
    axes.set_ylim(0, max(int(counts.max()), 1) * 1.3)
    axes.set_xlabel(f"difference in {with_unit(name, unit)}")
    axes.set_ylabel("stars per bin")
    round_ticks(axes.xaxis)
    plain_counts(axes.yaxis)


def _arrows(axes: Axes, labels: NDArray, derived: NDArray, column: int, title: str) -> None:
    """Points at the labels, lines to where the matcher put the stars; hot to the left, giants up."""
    axes.set_title(title)
    if len(labels) == 0:
        empty(axes, "no star was matched")
        return
    both = np.stack([labels[:, [0, column]], derived[:, [0, column]]], axis=1)
    axes.add_collection(LineCollection(list(both), colors=VERMILION, linewidths=0.6, alpha=0.7, zorder=2))
    axes.plot(labels[:, 0], labels[:, column], "o", ms=1.8, mew=0, color=INK, zorder=3)
    axes.set_xlim(*limits(both[:, :, 0].ravel(), cut=0.0)[::-1])
    low, high = limits(both[:, :, 1].ravel(), cut=0.0)
    axes.set_ylim(*((high, low) if LABELS[column][0] == "logg" else (low, high)))
    axes.set_xlabel(with_unit(*LABELS[0]))
    axes.set_ylabel(with_unit(*LABELS[column]))
    axes.grid(True)
    round_ticks(axes.xaxis, axes.yaxis)
