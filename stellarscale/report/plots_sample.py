"""How the empirical sample was chosen: branches of the colour-magnitude diagram, labels against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import ndtr

from stellarscale.kernels.cmd import Branch, in_band
from stellarscale.kernels.label_transfer import LabelOffset
from stellarscale.kernels.photometry import line
from stellarscale.report.labels import in_plot, literal, several, short, with_unit
from stellarscale.report.plots_style import (
    BLUE,
    HALO,
    INK,
    ORANGE,
    VERMILION,
    Room,
    colour_bar,
    density,
    empty,
    limits,
    panels,
    plain_counts,
    round_ticks,
    styled,
)

LABELS = (("teff", "K"), ("logg", "dex"), ("m_h", "dex"))
ROW_INCHES = 2.55


@dataclass(frozen=True, eq=False)
class DiagramOfBranch:
    """A branch to draw: its stars and what was fitted to them.

    Attributes
    ----------
    name : str
        Name of the branch.
    colour, magnitude : ndarray, shape (n,)
        Dereddened BP - RP and absolute magnitude in G of its stars, mag.
    branch : Branch
        Means, polynomial and band.
    colour_range, magnitude_range : tuple of float or None
        Ranges that the selection is limited to.
    """

    name: str
    colour: NDArray
    magnitude: NDArray
    branch: Branch
    colour_range: tuple[float, float] | None = None
    magnitude_range: tuple[float, float] | None = None


@styled
def plot_branches(diagrams: Sequence[DiagramOfBranch]) -> Figure:
    """Colour-magnitude diagram of each branch with binned means, fit and selected region (paper II, Figs 2 and 3)."""
    count = max(len(diagrams), 1)
    drawn, grid = panels(0.9 + 5.4 * count, 5.0, (1, count), room=Room(right=0.95, between=1.6))
    if not diagrams:
        empty(grid[0, 0], "no branch was fitted")
    for axes, diagram in zip(grid[0], diagrams, strict=False):
        _diagram(axes, diagram)
    return drawn


def _diagram(axes: Axes, diagram: DiagramOfBranch) -> None:
    colour, magnitude = np.asarray(diagram.colour, dtype=np.float64), np.asarray(diagram.magnitude, dtype=np.float64)
    axes.set_xlabel(with_unit("bp_rp_0", "mag"))
    axes.set_ylabel(with_unit("m_g_0", "mag"))
    if len(colour) == 0:
        axes.set_title(literal(diagram.name))
        empty(axes, "no stars")
        return
    extent = (*limits(colour), *limits(magnitude))
    colour_bar(density(axes, colour, magnitude, extent), axes, "stars per cell")
    _means(axes, diagram)
    chosen = _region(axes, diagram)
    axes.set_title(f"{literal(diagram.name)}: {chosen:,} of {several(len(colour), 'star')} selected")
    axes.invert_yaxis()
    axes.grid(True)
    round_ticks(axes.xaxis, axes.yaxis, bins=7)
    axes.legend(loc="upper right", frameon=True, framealpha=0.85, edgecolor="none")


def _colours(diagram: DiagramOfBranch) -> tuple[float, float]:
    """Colours of the selected region: those that the fit covers and the range allows."""
    left, right = diagram.colour_range or (-np.inf, np.inf)
    return max(left, diagram.branch.colour[0]), min(right, diagram.branch.colour[1])


def _means(axes: Axes, diagram: DiagramOfBranch) -> None:
    branch, bins = diagram.branch, diagram.branch.bins
    axes.errorbar(
        bins.colour[bins.used], bins.mean[bins.used], bins.sigma[bins.used], fmt="o", ms=5, color=ORANGE, capsize=3,
        lw=1.6, mec=INK, mew=0.6, label="mean ± σ of a bin", zorder=4, path_effects=HALO,
    )  # fmt: skip
    if not bins.used.all():
        axes.plot(
            bins.colour[~bins.used], bins.mean[~bins.used], "x", ms=5, color=INK, label="bin not used", zorder=4,
            path_effects=HALO,
        )  # fmt: skip
    x = np.linspace(*_colours(diagram), 200)
    axes.plot(x, line(x, branch.coefficients), color=INK, lw=1.5, ls="--", label="fit", zorder=5, path_effects=HALO)


def _region(axes: Axes, diagram: DiagramOfBranch) -> int:
    """Draw the outline of the selected region and count the stars inside."""
    branch, (left, right) = diagram.branch, _colours(diagram)
    low, high = diagram.magnitude_range or (-np.inf, np.inf)
    x = np.linspace(left, right, 300)
    centre = line(x, branch.coefficients)
    bright, faint = (np.clip(centre + side * branch.half_width, low, high) for side in (-1, 1))
    open_ = bright < faint  # elsewhere the band has left the magnitude range
    outline = np.append(x[open_], x[open_][::-1]), np.append(bright[open_], faint[open_][::-1])
    if open_.any():
        closed = [np.append(values, values[0]) for values in outline]
        label = f"selected (± {short(branch.half_width)} mag)"
        axes.plot(*closed, color=VERMILION, lw=1.8, label=label, zorder=5, path_effects=HALO)
    colour, magnitude = diagram.colour, diagram.magnitude
    inside = (colour >= left) & (colour <= right) & (magnitude >= low) & (magnitude <= high)
    return int(np.count_nonzero(inside & in_band(branch, colour, magnitude)))


@styled
def plot_offsets(branch: str, reference: str, catalogs: Sequence[tuple[str, Sequence[LabelOffset]]]) -> Figure:
    """Differences to the reference with their Gaussian fits, a row per catalogue (paper II, Figs 5 and 6).

    Parameters
    ----------
    branch, reference : str
        Names of the branch and of the reference catalogue.
    catalogs : sequence of (str, sequence of LabelOffset)
        Name of each catalogue and its offsets in Teff (K), log g and [M/H] (dex).
    """
    rows = max(len(catalogs), 1)
    drawn, grid = panels(11.5, 0.95 + ROW_INCHES * rows, (rows, 3), room=Room(between=0.8, rows=0.75))
    if not catalogs:
        for axes in grid[0]:
            empty(axes, "no catalogue was compared")
    for line_of_axes, (name, offsets) in zip(grid, catalogs, strict=False):
        line_of_axes[0].set_title(f"{literal(name)}, branch {literal(branch)}")
        for axes, (label, unit), offset in zip(line_of_axes, LABELS, offsets, strict=True):
            _differences(axes, offset, unit)
            axes.set_xlabel(f"Δ{in_plot(label)} ({unit}), {literal(name)} − {literal(reference)}")
        line_of_axes[0].set_ylabel("stars per bin")
    return drawn


def _differences(axes: Axes, offset: LabelOffset, unit: str) -> None:
    fit, edges = offset.fit, offset.edges
    if fit is None or len(offset.counts) == 0:
        empty(axes, f"no star in common; {_number(offset.added, unit)} added, as given")
        return
    axes.stairs(offset.counts, edges, fill=True, color=BLUE, alpha=0.35)
    axes.stairs(offset.counts, edges, color=BLUE, lw=1.0)
    if fit.converged:
        fine, half = np.linspace(edges[0], edges[-1], 400), 0.5 * (edges[1] - edges[0])
        curve = fit.area * (ndtr((fine + half - fit.mean) / fit.sigma) - ndtr((fine - half - fit.mean) / fit.sigma))
        axes.plot(fine, curve, color=VERMILION, lw=1.6, ls="--")
        found = [f"μ {_number(fit.mean, unit)}", f"σ {_number(fit.sigma, unit)}"]
    else:
        found = ["no Gaussian fitted", f"median {_number(fit.mean, unit)}", f"robust σ {_number(fit.sigma, unit)}"]
    axes.axvline(0.0, ymax=0.72, color=INK, lw=0.8, ls=":")  # below the notes
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, max(int(offset.counts.max()), 1) * 1.45)
    added = f"added {_number(offset.added, unit)}" + (", as given" if offset.given else "")
    _note(axes, "\n".join([f"n = {fit.n:,}", added]), INK, left=True)
    _note(axes, "\n".join(found), VERMILION, left=False)
    round_ticks(axes.xaxis)
    plain_counts(axes.yaxis)


def _number(value: float, unit: str) -> str:
    """A difference to a tenth of a kelvin or a thousandth of a dex, and no negative zero."""
    digits = 1 if unit == "K" else 3
    return f"{round(value, digits) + 0.0:.{digits}f} {unit}".replace("-", "−")


def _note(axes: Axes, text: str, ink: str, *, left: bool) -> None:
    place, side = (0.03, "left") if left else (0.97, "right")
    axes.text(
        place, 0.96, text, transform=axes.transAxes, va="top", ha=side, fontsize=8.5, linespacing=1.4, color=ink
    )  # fmt: skip
