"""How networks on images do: residuals, uncertainties by parameter, training curves (paper III, Figs 8 to 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from stellarscale.kernels.stats import robust_sigma
from stellarscale.report.content import Evaluation
from stellarscale.report.image_numbers import Extent, density_at, kernel_density, quadratic_band, smooth_counts
from stellarscale.report.labels import compact, in_plot, literal, model_in_plot, short, with_unit
from stellarscale.report.numbers import pairs
from stellarscale.report.plots_style import (
    BLUE,
    DENSITY,
    HALO,
    INK,
    VERMILION,
    Room,
    empty,
    figure,
    image,
    limits,
    panels,
    round_ticks,
    styled,
)

POINTS = 20_000  # above this the density itself is drawn instead of a point for each star
_FAINTEST = 0.25  # stars per smoothed cell that still show
_WIDTH, _LEFT, _RIGHT, _BETWEEN = 11.5, 0.78, 0.75, 0.85  # inches
_HEIGHT, _BOTTOM, _TOP = 5.6, 0.58, 0.66


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What a network says of its own uncertainty, for one parameter; arrays of shape (n,), NaN where unknown."""

    label: str
    unit: str
    value: NDArray[np.float64]
    uncertainty: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainingCurve:
    """Loss of one network by epoch.

    Attributes
    ----------
    name : str
    training, validation : ndarray, shape (n_epochs,)
        NaN where an epoch has none.
    look : int
        Epoch after which the residuals were looked at; 0 for none.
    first : int
        Number of the first epoch of the arrays.
    """

    name: str
    training: NDArray[np.float64]
    validation: NDArray[np.float64]
    look: int = 0
    first: int = 1

    @classmethod
    def of(cls, name: str, records: Sequence[Mapping[str, Any]], look: int = 0) -> TrainingCurve:
        """From a training's records: ``epoch``, ``loss`` and ``validation_loss`` (None: no stars) of each epoch."""

        def column(key: str) -> NDArray[np.float64]:
            values = [record.get(key) for record in records]
            return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

        first = int(records[0]["epoch"]) if records else 1
        return cls(name, column("loss"), column("validation_loss"), look, first)


def cloud(axes: Axes, x: NDArray, y: NDArray, extent: Extent) -> None:
    """Stars coloured by their density relative to its peak; the density alone where there are very many."""
    counts = smooth_counts(x, y, extent)
    height = density_at(counts, x, y, extent)
    order = np.argsort(height, kind="stable")
    if len(x) > POINTS:
        peak = max(float(counts.max()), 1e-300)
        image(axes, np.ma.masked_less(counts, _FAINTEST) / peak, extent, cmap=DENSITY, norm=Normalize(0, 1), zorder=2)
        order = order[height[order] < 1.5 * _FAINTEST / peak]  # few, and all around the image
    if len(order):
        size = 14.0 if len(x) < 300 else 6.0 if len(x) < 3000 else 3.0
        axes.scatter(x[order], y[order], c=height[order], s=size, lw=0, cmap=DENSITY, norm=Normalize(0, 1))
    axes.set_xlim(*extent[:2])
    axes.set_ylim(*extent[2:])


@styled
def plot_label_panels(evaluations: Sequence[Evaluation]) -> Figure:
    """A column per parameter: estimate against label, residual against label, density of the residuals.

    As paper III, Figs 8, 10 and 13: colour is the density of the stars relative to its peak.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        At least one, of one network or one set of stars.
    """
    columns = len(evaluations)
    width = _width(columns)
    drawn = figure(width, _HEIGHT)
    each = (width - _LEFT - _RIGHT - (columns - 1) * _BETWEEN) / columns
    for number, evaluation in enumerate(evaluations):
        left = _LEFT + number * (each + _BETWEEN)
        grid = drawn.add_gridspec(
            2, 2, width_ratios=(1, 0.26), height_ratios=(1.75, 1), hspace=0.08, wspace=0.06, left=left / width,
            right=(left + each) / width, bottom=_BOTTOM / _HEIGHT, top=1 - _TOP / _HEIGHT,
        )  # fmt: skip
        top = drawn.add_subplot(grid[0, 0])
        below = drawn.add_subplot(grid[1, 0], sharex=top)
        beside = drawn.add_subplot(grid[1, 1], sharey=below)
        _label_panel(top, below, beside, evaluation)
    _relative_bar(drawn, drawn.axes[3 * len(evaluations) - 3])
    return drawn


def _width(columns: int) -> float:
    return {1: 5.2, 2: 8.6}.get(columns, _WIDTH)


def _label_panel(top: Axes, below: Axes, beside: Axes, evaluation: Evaluation) -> None:
    truth, residual = pairs(evaluation)
    top.set_title(model_in_plot(evaluation.model), pad=31)  # above the figures of the residuals
    if len(truth) == 0:
        for axes in (top, below, beside):
            empty(axes, "no star has both" if axes is top else "")
        return
    low, high = limits(np.concatenate([truth, truth + residual]), cut=0.05)
    half = max(5.0 * robust_sigma(residual), 1.5 * abs(float(np.median(residual))), 1e-6)
    cloud(top, truth, truth + residual, (low, high, low, high))
    cloud(below, truth, residual, (low, high, -half, half))
    top.plot([low, high], [low, high], color=INK, lw=1.2, ls="--", path_effects=HALO)
    below.axhline(0.0, color=VERMILION, lw=1.2, ls="--", path_effects=HALO)
    top.text(0.0, 1.03, _figures(residual), transform=top.transAxes, va="bottom", fontsize=8, linespacing=1.3)
    place, height = kernel_density(residual, -half, half)
    beside.fill_betweenx(place, height, color=BLUE, alpha=0.3, lw=0)
    beside.plot(height, place, color=BLUE, lw=1.2)
    beside.axhline(0.0, color=VERMILION, lw=1.2, ls="--")
    beside.set_xlim(0, None)
    beside.set_xticks([])
    beside.tick_params(labelleft=False)
    beside.set_xlabel("density", fontsize=8.5)
    top.tick_params(labelbottom=False)
    top.set_ylabel(f"{with_unit(evaluation.label, evaluation.unit)}, network")
    below.set_ylabel("network − label")
    below.set_xlabel(f"{with_unit(evaluation.label, evaluation.unit)}, label")
    round_ticks(top.xaxis, top.yaxis, below.yaxis)


def _figures(residual: NDArray) -> str:
    """Number, median, robust sigma and standard deviation on two lines, with as many decimals as the last needs."""
    spread = float(np.std(residual))
    decimals = max(2 - int(np.floor(np.log10(spread))), 0) if spread > 0 else 3
    named = {"median": float(np.median(residual)), "robust σ": robust_sigma(residual), "std": spread}
    # Adding 0 makes nothing of the sign of a zero.
    values = [f"{name} {round(value, decimals) + 0.0:,.{decimals}f}".replace("-", "−") for name, value in named.items()]
    return f"n = {len(residual):,}   {values[0]}\n{values[1]}   {values[2]}"


def _relative_bar(drawn: Figure, axes: Axes) -> None:
    """Colour bar of the relative density in the free corner beside the last large panel."""
    inset = axes.inset_axes((1.10, 0.0, 0.06, 1.0))
    bar = drawn.colorbar(ScalarMappable(Normalize(0, 1), DENSITY), cax=inset)
    bar.set_label("density / peak", fontsize=8.5)
    bar.set_ticks([0, 0.5, 1])


@styled
def plot_uncertainties(uncertainties: Sequence[Uncertainty], name: str = "uncertainty") -> Figure:
    """A panel per parameter: uncertainty against the estimate, a parabola through it with its 95 per cent band.

    As paper III, Fig. 9.

    Parameters
    ----------
    uncertainties : sequence of Uncertainty
        At least one.
    name : str
        What the axis calls the uncertainty.
    """
    columns = len(uncertainties)
    drawn, grid = panels(_width(columns), 3.7, (1, columns), room=Room(right=0.8, left=0.8))
    for axes, each in zip(grid[0], uncertainties, strict=True):
        _uncertainty_panel(axes, each, name)
    inset = grid[0][-1].inset_axes((1.03, 0.0, 0.04, 1.0))
    bar = drawn.colorbar(ScalarMappable(Normalize(0, 1), DENSITY), cax=inset)
    bar.set_label("density / peak")
    return drawn


def _uncertainty_panel(axes: Axes, each: Uncertainty, name: str) -> None:
    good = np.isfinite(each.value) & np.isfinite(each.uncertainty)
    x, y = each.value[good], each.uncertainty[good]
    axes.set_title(f"{in_plot(each.label)}: {compact(len(x))} stars")
    if len(x) == 0:
        empty(axes, "no star has both")
        return
    left, right = limits(x, cut=0.05)
    top = 1.25 * limits(y, cut=0.2)[1]  # room for the legend
    same = bool(np.ptp(y) <= 0.01 * np.abs(y).max())
    if same:  # the line would hide the stars, and tells no more
        axes.plot(x, y, "o", ms=2.5, color=BLUE, alpha=0.5, mew=0, label="the same for all stars, to 1 %")
        axes.set_xlim(left, right)
        axes.set_ylim(0.0, top)
        axes.legend(loc="upper center")
    else:
        cloud(axes, x, y, (left, right, 0.0, top))
    curve = None if same else quadratic_band(x, y)
    if curve is not None:
        low, high = curve.y - curve.half_width, curve.y + curve.half_width
        axes.fill_between(curve.x, low, high, color=VERMILION, alpha=0.3, lw=0, label="95 % band")
        axes.plot(curve.x, curve.y, color=VERMILION, lw=1.8, path_effects=HALO, label="second-order polynomial")
        axes.legend(loc="upper center")
    axes.set_xlabel(with_unit(each.label, each.unit))
    axes.set_ylabel(f"{name} ({literal(each.unit)})" if each.unit else name)
    round_ticks(axes.xaxis, axes.yaxis)


@styled
def plot_training_curves(curves: Sequence[TrainingCurve]) -> Figure:
    """A panel per network: loss of the training and validation stars by epoch.

    Parameters
    ----------
    curves : sequence of TrainingCurve
        At least one.
    """
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    room = Room(left=0.85, between=0.8, rows=0.85)
    height = room.bottom + room.top + 2.7 * rows + room.rows * (rows - 1)
    drawn, grid = panels(_width(columns), height, (rows, columns), room=room)
    flat = list(grid.ravel())
    for axes, curve in zip(flat, curves, strict=False):
        _curve_panel(axes, curve)
    for axes in flat[len(curves) :]:
        axes.set_axis_off()
    return drawn


def _curve_panel(axes: Axes, curve: TrainingCurve) -> None:
    axes.set_title(literal(curve.name))
    epoch = np.arange(len(curve.training)) + curve.first
    if len(epoch) == 0:
        empty(axes, "no epoch was finished")
        return
    look: dict[str, Any] = {"marker": "o", "ms": 3.0} if len(epoch) < 30 else {}
    axes.plot(epoch, curve.training, color=BLUE, lw=1.3, label="training", **look)
    if np.isfinite(curve.validation).any():
        axes.plot(epoch, curve.validation, color=VERMILION, lw=1.3, label="validation", **look)
        best = int(np.nanargmin(curve.validation))
        text = f"least: {short(float(curve.validation[best]))} at {epoch[best]}"
        axes.plot(epoch[best], curve.validation[best], "o", ms=7, mfc="none", mec=INK, label=text)
    if curve.look and curve.look in epoch:
        axes.axvline(curve.look, color=INK, lw=0.8, ls=":", label="early look")
    seen = np.concatenate([curve.training, curve.validation])
    seen = seen[np.isfinite(seen)]
    if len(seen) and 0 < 3 * seen.min() < seen.max():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(True)
    axes.legend(loc="upper right")
