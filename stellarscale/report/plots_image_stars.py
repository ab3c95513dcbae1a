"""The stars behind networks on images: labels and parallaxes of the splits, and a gallery (paper III, Figs 1 and 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from stellarscale.report.labels import compact, in_plot, literal, with_unit
from stellarscale.report.plots_style import (
    BLUE,
    INK,
    ORANGE,
    VERMILION,
    Room,
    empty,
    figure,
    limits,
    panels,
    plain_counts,
    round_ticks,
    styled,
)

SPLITS = ("training", "validation", "test")
_COLOURS = {"training": INK, "validation": VERMILION, "test": BLUE}
_SHOWN = 20_000  # stars of one split that a panel draws
_STAMP, _GAP, _TEXT, _EDGE = 1.12, 0.05, 3.7, 0.12  # inches
_HEAD, _LINE = 0.34, 0.172
_FLAGS = 60  # characters of a line
_GREYS = "gray"


@dataclass(frozen=True, eq=False)
class GalleryStar:
    """One row of the gallery.

    Attributes
    ----------
    title : str
        Name of the star; plain text.
    stamp : ndarray, shape (n_bands, size, size)
        Stretched fluxes; NaN where no detection covers a pixel.
    lines : sequence of str
        What is known of the star, such as ``teff 5012 ± 85 K``; may hold formulas.
    flags : sequence of str
        Names of its flags.
    """

    title: str
    stamp: NDArray[np.floating]
    lines: Sequence[str]
    flags: Sequence[str] = ()


@styled
def plot_gallery(stars: Sequence[GalleryStar], bands: Sequence[str]) -> Figure:
    """A row per star: its stamp in each band, then its parameters.

    Each picture is scaled from its 2nd to its 99.7th percentile; orange pixels are covered by no detection.

    Parameters
    ----------
    stars : sequence of GalleryStar
        At least one.
    bands : sequence of str
        Names of the planes.
    """
    each = _STAMP + _GAP
    width = _EDGE + len(bands) * each + _TEXT
    height = _HEAD + len(stars) * (each + _GAP) + _EDGE
    drawn = figure(width, height)
    for row, star in enumerate(stars):
        bottom = height - _HEAD - (row + 1) * (each + _GAP) + _GAP
        for column, band in enumerate(bands):
            left = _EDGE + column * each
            axes = drawn.add_axes((left / width, bottom / height, _STAMP / width, _STAMP / height))
            _stamp(axes, star.stamp[column])
            if row == 0:
                axes.set_title(f"${literal(band)}$", loc="center", fontsize=11)
        _words(drawn, star, ((_EDGE + len(bands) * each + 0.12) / width, (bottom + _STAMP) / height))
    return drawn


def _stamp(axes: Axes, plane: NDArray) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    values = np.asarray(plane, dtype=np.float64)
    seen = values[np.isfinite(values)]
    if len(seen) == 0:
        empty(axes, "no data")
        axes.set_facecolor("#F3E3C3")
        return
    low, high = np.percentile(seen, [2, 99.7])
    colours = colormaps[_GREYS].with_extremes(bad=ORANGE)
    axes.imshow(
        np.ma.masked_invalid(values), origin="lower", cmap=colours, vmin=low, vmax=max(high, low + 1e-6),
        interpolation="nearest",
    )  # fmt: skip


def _words(drawn: Figure, star: GalleryStar, place: tuple[float, float]) -> None:
    left, top = place
    look: dict[str, Any] = {"va": "top", "linespacing": 1.4}
    step = _LINE / float(drawn.get_size_inches()[1])
    drawn.text(left, top, literal(star.title), fontweight="bold", fontsize=9, **look)
    drawn.text(left, top - 1.1 * step, "\n".join(star.lines), fontsize=8.5, **look)
    if star.flags:
        below = top - step * (1.3 + len(star.lines))
        names = "\n".join(wrap(literal(", ".join(star.flags)), _FLAGS))
        drawn.text(left, below, names, fontsize=7.5, color=VERMILION, **look)


@styled
def plot_splits(
    labels: Mapping[str, NDArray], split: NDArray[np.integer], units: Mapping[str, str], across: str = "teff"
) -> Figure:
    """Stars of each split in the plane of one label and each of the others (paper III, Fig. 1).

    Parameters
    ----------
    labels : mapping of str to ndarray, shape (n,)
        NaN where unknown.
    split : ndarray of int, shape (n,)
        0 training, 1 validation, 2 test.
    units : mapping of str to str
    across : str
        Label of the horizontal axis; the first one where the stars do not have it.
    """
    across = across if across in labels else next(iter(labels))
    others = [name for name in labels if name != across]
    drawn, grid = panels(4.9 * max(len(others), 1) + 0.6, 4.3, (1, max(len(others), 1)), room=Room(bottom=0.85))
    for axes, name in zip(grid[0], others, strict=False):
        for number, part in enumerate(SPLITS):
            chosen = np.flatnonzero((split == number) & np.isfinite(labels[across]) & np.isfinite(labels[name]))
            # Evenly spaced rows, so that the picture is the same whenever it is drawn.
            chosen = chosen[:: max(1, -(-len(chosen) // _SHOWN))]
            size, above = (1.6, 2) if number == 0 else (2.2, 3)
            axes.plot(
                labels[across][chosen], labels[name][chosen], "o", ms=size, mew=0, color=_COLOURS[part],
                alpha=0.35 if number == 0 else 0.6, zorder=above,
            )  # fmt: skip
        _split_axes(axes, labels, (across, name), units)
    if not others:
        empty(grid[0][0], "one label alone")
    handles = [
        Line2D([], [], marker="o", ls="", ms=5, color=_COLOURS[part], label=f"{part} ({compact(float(n))})")
        for number, part in enumerate(SPLITS)
        if (n := int((split == number).sum()))
    ]
    drawn.legend(handles=handles, loc="lower center", ncols=3)
    return drawn


def _split_axes(axes: Axes, labels: Mapping[str, NDArray], names: tuple[str, str], units: Mapping[str, str]) -> None:
    axes.set_title(f"{in_plot(names[0])} and {in_plot(names[1])}")
    axes.set_xlim(limits(labels[names[0]], cut=0.0))
    axes.set_ylim(limits(labels[names[1]], cut=0.0))
    axes.set_xlabel(with_unit(names[0], units.get(names[0], "")))
    axes.set_ylabel(with_unit(names[1], units.get(names[1], "")))
    round_ticks(axes.xaxis, axes.yaxis, bins=6)
    axes.grid(True)
    if names[0] == "teff":
        axes.invert_xaxis()
    if names[1] == "logg":
        axes.invert_yaxis()


@styled
def plot_parallaxes(parallax_mas: NDArray, split: NDArray[np.integer]) -> Figure:
    """Stars of each split by parallax on a logarithmic axis, as numbers and as shares (paper III, Fig. 6).

    Parameters
    ----------
    parallax_mas : ndarray, shape (n,)
        Values not above 0 have no place on the axis; the legend counts them.
    split : ndarray of int, shape (n,)
        0 training, 1 validation, 2 test.
    """
    drawn, grid = panels(11.5, 3.5, (1, 2), room=Room(between=0.95))
    counted, share = grid[0]
    good = np.isfinite(parallax_mas) & (parallax_mas > 0)
    counted.set_title("Stars by parallax")
    share.set_title("Share of each split")
    if not good.any():
        for axes in (counted, share):
            empty(axes, "no parallax above 0")
        return drawn
    low, high = limits_of_parallax(parallax_mas[good])
    edges = np.geomspace(low, high, int(np.clip(0.5 * np.sqrt(good.sum()), 12, 40)) + 1)
    for number, part in enumerate(SPLITS):
        mine = parallax_mas[good & (split == number)]
        if not len(mine):
            continue
        counts, _ = np.histogram(mine, bins=edges)
        look: dict[str, Any] = {"color": _COLOURS[part], "lw": 1.4, "ls": "-" if number == 0 else "--"}
        counted.stairs(counts, edges, label=f"{part} ({compact(float(len(mine)))})", **look)
        share.stairs(100 * counts / len(mine), edges, **look)
    left_out = int((~good).sum())
    for axes in (counted, share):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel("parallax (mas)")
        axes.grid(True)
    counted.set_ylabel("stars per bin")
    plain_counts(counted.yaxis)
    share.set_ylabel("stars per bin (%)")
    counted.legend(loc="upper right", title=f"not above 0: {left_out:,}" if left_out else None, title_fontsize=8.5)
    return drawn


def limits_of_parallax(parallax_mas: NDArray) -> tuple[float, float]:
    """Ends of an axis that holds 99.8 per cent of the parallaxes, mas."""
    low, high = np.percentile(parallax_mas, [0.1, 99.9])
    return float(low) * 0.9, max(float(high) * 1.1, float(low) * 2)
