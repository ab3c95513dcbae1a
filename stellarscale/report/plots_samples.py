"""The stars that train and the stars that test: where they are in the CMD, and their labels (paper I, Figs 2 and 3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stellarscale.report.content import SampleStars
from stellarscale.report.labels import compact, in_plot, literal, sample_name, with_unit
from stellarscale.report.plots_style import (
    CYCLE,
    Room,
    density,
    empty,
    limits,
    log_counts,
    panels,
    plain_counts,
    round_ticks,
    styled,
)

_LOOKS = {"train": "-", "held_out": "--"}  # a colour per catalogue; dotted: other catalogues that test


@styled
def plot_sample(sample: SampleStars, colour_column: str, absolute_column: str) -> Figure:
    """Density of training stars, density of test stars, and histograms of the label by catalogue.

    Parameters
    ----------
    sample : SampleStars
    colour_column, absolute_column : str
        Features on the axes of the diagrams.
    """
    train = sample.trains()
    diagrams = sample.colour is not None and sample.absolute is not None
    columns, lines = (3, 4) if diagrams else (1, 2)
    legend = 0.2 * -(-len(sample.kinds) // lines)
    room = Room(between=0.75, bottom=0.6 + legend)
    drawn, grid = panels(11.5 if diagrams else 6.0, 3.5 + legend, (1, columns), room=room)
    _histograms(grid[0, -1], sample, train)
    drawn.legend(*grid[0, -1].get_legend_handles_labels(), loc="lower center", ncols=lines, borderaxespad=0.1)
    if sample.colour is None or sample.absolute is None:
        return drawn
    x, y = np.asarray(sample.colour, dtype=np.float64), np.asarray(sample.absolute, dtype=np.float64)
    extent = (*limits(x, cut=0.05, least=0.1), *limits(y, cut=0.05, least=0.5))
    for axes, chosen, name in ((grid[0, 0], train, "Training"), (grid[0, 1], ~train, "Held out and test")):
        chosen = chosen & np.isfinite(x) & np.isfinite(y)
        axes.set_title(f"{name}: {compact(chosen.sum())} stars")
        if chosen.any():
            density(axes, x[chosen], y[chosen], extent)
        else:
            empty(axes, "no stars")
        axes.set_xlabel(with_unit(colour_column, "mag"))
        axes.grid(True)
        axes.set_xlim(extent[:2])
        axes.set_ylim(extent[3], extent[2])  # bright stars at the top
    grid[0, 0].set_ylabel(with_unit(absolute_column, "mag"))
    return drawn


def _histograms(axes: Axes, sample: SampleStars, train: NDArray[np.bool_]) -> None:
    """A line per catalogue and role; the filled one is the training sample as a whole."""
    value = np.asarray(sample.value, dtype=np.float64)
    finite = np.isfinite(value)
    if not finite.any():
        empty(axes, "no labels")
        return
    edges = np.linspace(*limits(value, least=1e-2), int(np.clip(np.sqrt(finite.sum()), 8, 60)) + 1)
    all_train, _ = np.histogram(value[finite & train], bins=edges)
    axes.stairs(all_train, edges, fill=True, color=CYCLE[0], alpha=0.15)
    sources = sorted({source for source, _ in sample.kinds})
    for number in sorted(range(len(sample.kinds)), key=lambda i: (_LOOKS.get(sample.kinds[i][1], ":"), i)):
        source, role = sample.kinds[number]
        chosen = finite & (sample.kind == number)
        counts, _ = np.histogram(value[chosen], bins=edges)
        name = sample_name(role) if role.startswith("test:") else f"{source}, {sample_name(role)}"
        look: dict[str, Any] = {"ls": _LOOKS.get(role, ":"), "color": CYCLE[sources.index(source) % len(CYCLE)]}
        axes.stairs(counts, edges, lw=1.4, label=literal(f"{name} ({compact(chosen.sum())})"), **look)
    log_counts(axes)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(with_unit(sample.label, sample.unit))
    axes.set_title(f"{in_plot(sample.label)} by catalogue, stars per bin")
    round_ticks(axes.xaxis)


@styled
def plot_class_histograms(edges: NDArray, counts: NDArray, names: tuple[str, ...], label: str, unit: str) -> Figure:
    """Histograms of a label by class over the whole catalogue, linear and logarithmic (paper I, Fig. 12)."""
    drawn, grid = panels(11.0, 3.6, (1, 2), room=Room(between=0.8))
    filled = np.flatnonzero(counts.sum(axis=0))
    for axes, logarithmic in zip(grid[0], (False, True), strict=True):
        if len(filled) == 0:
            empty(axes, "no star has a value")
            continue
        first, last = int(filled[0]), int(filled[-1]) + 1
        for number, name in enumerate(names):
            line = counts[number, first:last]
            if line.any():
                text = literal(f"{name} ({compact(line.sum())})")
                axes.stairs(line, edges[first : last + 1], color=CYCLE[number % len(CYCLE)], lw=1.4, label=text)
        if logarithmic:
            log_counts(axes)
        else:
            axes.set_ylim(bottom=0)
            plain_counts(axes.yaxis)
        axes.set_xlim(edges[first], edges[last])
        axes.set_xlabel(with_unit(label, unit or "dex"))
        axes.grid(True, axis="y")
        round_ticks(axes.xaxis)
    grid[0, 0].set_ylabel("stars per bin")
    if len(filled):
        grid[0, 0].legend(loc="upper left")
    return drawn
