"""One star cluster: its over-density of motions, its colour-magnitude diagram, its metallicity (paper I, Fig. 11)."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stellarscale.kernels.stats import gaussian_fit
from stellarscale.report.content import ClusterResult
from stellarscale.report.labels import literal, short, with_unit
from stellarscale.report.plots_style import BLUE, GREY, INK, VERMILION, Room, empty, limits, panels, round_ticks, styled

BINS = 24
SHOWN = 4.0  # mas/yr on each side of the cluster
LINE_TOP = 0.72  # of the height of a histogram: the legend is above


@styled
def plot_cluster(cluster: ClusterResult, colour_column: str, magnitude_column: str) -> Figure:
    """Proper motions, colour-magnitude diagram of the comoving stars, histogram of the label with its Gaussian."""
    drawn, grid = panels(11.5, 3.3, (1, 3), room=Room(between=0.85))
    motions, diagram, histogram = grid[0]
    _motions(motions, cluster)
    _diagram(diagram, cluster, colour_column, magnitude_column)
    _histogram(histogram, cluster)
    return drawn


def _motions(axes: Axes, cluster: ClusterResult) -> None:
    axes.set_title(literal(cluster.name))
    if len(cluster.motion) == 0:
        empty(axes, "no precise proper motions")
        return
    field, members = cluster.motion[~cluster.members], cluster.motion[cluster.members]
    axes.plot(field[:, 0], field[:, 1], "o", ms=1.8, mew=0, color=GREY, label=f"field ({len(field)})")
    axes.plot(members[:, 0], members[:, 1], "o", ms=2.2, mew=0, color=BLUE, label=f"members ({len(members)})")
    centre = np.median(members if len(members) else field, axis=0)
    axes.set_xlim(centre[0] - SHOWN, centre[0] + SHOWN)
    axes.set_ylim(centre[1] - SHOWN, centre[1] + SHOWN)
    axes.set_xlabel(r"$\mu_\alpha\cos\delta$ (mas/yr)")
    axes.set_ylabel(r"$\mu_\delta$ (mas/yr)")
    axes.legend(loc="upper left", borderpad=0.2, handletextpad=0.2)
    round_ticks(axes.xaxis, axes.yaxis)


def _diagram(axes: Axes, cluster: ClusterResult, colour: str, magnitude: str) -> None:
    axes.set_title("Comoving stars")
    if len(cluster.cmd) == 0:
        empty(axes, "no comoving stars")
        return
    x, y, on_ridge = cluster.cmd.T
    kept = on_ridge > 0
    axes.plot(x[~kept], y[~kept], "x", ms=4, color=VERMILION, label=f"off the ridge ({np.count_nonzero(~kept)})")
    axes.plot(x[kept], y[kept], "o", ms=2.4, mew=0, color=BLUE, label=f"on the ridge ({np.count_nonzero(kept)})")
    axes.set_ylim(*limits(y)[::-1])
    axes.set_xlabel(with_unit(colour, "mag"))
    axes.set_ylabel(with_unit(magnitude, "mag"))
    axes.legend(loc="upper left", borderpad=0.2, handletextpad=0.2)
    axes.grid(True)
    round_ticks(axes.xaxis, axes.yaxis)


def _histogram(axes: Axes, cluster: ClusterResult) -> None:
    axes.set_title(f"{len(cluster.values)} members")
    if not cluster.measured:
        empty(axes, literal(cluster.status))
        return
    fit = gaussian_fit(cluster.values)
    half = max(5 * fit.sigma, 1.3 * abs(fit.mean - cluster.literature), 0.2)
    low, high = fit.mean - half, fit.mean + half
    counts, edges = np.histogram(cluster.values, bins=BINS, range=(low, high))
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.35)
    text = f"μ {short(fit.mean)}, σ {short(fit.sigma)}"
    if fit.converged:
        fine = np.linspace(low, high, 300)
        height = fit.area * (edges[1] - edges[0]) / (fit.sigma * np.sqrt(2 * np.pi))
        curve = height * np.exp(-0.5 * ((fine - fit.mean) / fit.sigma) ** 2)
        axes.plot(fine, curve, color=VERMILION, ls="--", label=text)
    else:
        axes.axvline(fit.mean, ymax=LINE_TOP, color=VERMILION, ls="--", label=text)
    text = f"literature {short(cluster.literature)}"
    axes.axvline(cluster.literature, ymax=LINE_TOP, color=INK, ls="--", lw=1.2, label=text)
    axes.set_xlim(low, high)
    axes.set_ylim(0, max(counts.max(), 1) / LINE_TOP)
    axes.set_xlabel(with_unit(cluster.label, "dex"))
    axes.set_ylabel("stars per bin")
    axes.legend(loc="upper left", borderpad=0.2)
    round_ticks(axes.xaxis, axes.yaxis)
