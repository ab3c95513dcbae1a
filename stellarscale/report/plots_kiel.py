"""Kiel diagrams coloured by metallicity, with isochrones over them (paper II, Figs 11 and 16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from stellarscale.report.labels import compact, in_plot, literal, with_unit
from stellarscale.report.plots_style import (
    INK,
    MANY,
    Room,
    binned_median,
    cells_of,
    colour_bar,
    empty,
    image,
    limits,
    panels,
    round_ticks,
    styled,
)

COLOURS = "cividis"
CELLS = 90
COLUMNS = 3
LEGEND_COLUMNS = 8
# A step between neighbouring points of a line is a jump where it is this many times the usual one, and this long as
# a part of the whole diagram.
_JUMP, _LEAST_JUMP = 8.0, 0.08
_CLOSE_CUT = 0.5  # per cent of the stars at either end that a close view leaves out

Extent = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class KielStars:
    """Stars of one panel: Teff (K), log g and [M/H] (dex), each of shape (n,); NaN where unknown.

    ``logg_range`` limits the axis, so that a panel can show one branch closely; None for all.
    """

    title: str
    teff: NDArray[np.float64]
    logg: NDArray[np.float64]
    m_h: NDArray[np.float64]
    logg_range: tuple[float, float] | None = None

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Stars with all three, inside of the range."""
        good = np.isfinite(self.teff) & np.isfinite(self.logg) & np.isfinite(self.m_h)
        if self.logg_range is not None:
            good &= (self.logg >= self.logg_range[0]) & (self.logg < self.logg_range[1])
        return good


@dataclass(frozen=True, eq=False)
class IsochroneLine:
    """Points of one metallicity in order; NaN where the line breaks."""

    m_h: float
    teff: NDArray[np.float64]
    logg: NDArray[np.float64]


def isochrone_lines(teff: NDArray, logg: NDArray, m_h: NDArray) -> tuple[IsochroneLine, ...]:
    """One line per metallicity, in rising order, broken where its points jump to the start of another sequence.

    Parameters
    ----------
    teff, logg, m_h : ndarray, shape (n,)
        K, dex, dex: points in order along each line; those with a missing value are left out.
    """
    good = np.isfinite(teff) & np.isfinite(logg) & np.isfinite(m_h)
    teff, logg, m_h = (np.asarray(values, dtype=np.float64)[good] for values in (teff, logg, m_h))
    if len(teff) == 0:
        return ()
    span = max(float(np.ptp(teff)), 1.0), max(float(np.ptp(logg)), 0.01)
    return tuple(_line(float(value), teff[m_h == value], logg[m_h == value], span) for value in np.unique(m_h))


def _line(m_h: float, teff: NDArray, logg: NDArray, span: tuple[float, float]) -> IsochroneLine:
    step = np.hypot(np.diff(teff) / span[0], np.diff(logg) / span[1])
    usual = float(np.median(step)) if len(step) else 0.0
    breaks = np.flatnonzero((step > _JUMP * usual) & (step > _LEAST_JUMP)) + 1
    return IsochroneLine(m_h, np.insert(teff, breaks, np.nan), np.insert(logg, breaks, np.nan))


@styled
def plot_kiel_metals(samples: Sequence[KielStars], lines: Sequence[IsochroneLine] = ()) -> Figure:
    """A panel per sample, coloured by [M/H] on one scale: stars when they are few, else the median per cell.

    Parameters
    ----------
    samples : sequence of KielStars
        At least one. Panels without a range of their own in log g share their axes.
    lines : sequence of IsochroneLine
        Drawn over every panel, coloured on the scale of the stars; a legend names them.
    """
    chosen = [sample.complete for sample in samples]
    scale = _scale(np.concatenate([each.m_h[good] for each, good in zip(samples, chosen, strict=True)]), lines)
    whole = _extent(samples, chosen)
    drawn, axes = _grid(len(samples), legend=bool(lines))
    for place, sample, good in zip(axes, samples, chosen, strict=True):
        extent = whole if sample.logg_range is None else _extent([sample], [good], _CLOSE_CUT)
        _panel(place, sample, good, extent, scale)
        _draw_lines(place, lines, scale)
        place.set_xlim(extent[1], extent[0])
        place.set_ylim(extent[3], extent[2])
    colour_bar(ScalarMappable(scale, COLOURS), axes[-1], with_unit("m_h", "dex"))
    if lines:
        handles = [_handle(line, scale) for line in lines]
        drawn.legend(
            handles=handles, loc="lower center", ncols=LEGEND_COLUMNS, borderaxespad=0.1,
            title=f"isochrones, {in_plot('m_h')}", title_fontsize=8.5,
        )  # fmt: skip
    return drawn


def _grid(number: int, *, legend: bool) -> tuple[Figure, list[Axes]]:
    columns = min(number, COLUMNS)
    rows = -(-number // columns)
    room = Room(right=0.95, between=0.75, bottom=1.05 if legend else 0.55, top=0.4, rows=0.85)
    width = {1: 6.4, 2: 9.6}.get(columns, 11.5)
    height = room.bottom + room.top + rows * 3.9 + (rows - 1) * room.rows
    drawn, grid = panels(width, height, (rows, columns), room=room)
    for axes in grid.ravel()[number:]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(with_unit("logg", "dex"))
    for axes in grid.ravel()[:number]:
        axes.set_xlabel(with_unit("teff", "K"))
        axes.grid(True)
    return drawn, list(grid.ravel()[:number])


def _scale(values: NDArray, lines: Sequence[IsochroneLine]) -> Normalize:
    """Colours of the bulk of the stars; of the lines where there are no stars."""
    if len(values) == 0:
        values = np.array([line.m_h for line in lines])
    return Normalize(*limits(values, cut=1.0, pad=0.0, least=0.1))


def _extent(samples: Sequence[KielStars], chosen: Sequence[NDArray[np.bool_]], cut: float = 0.02) -> Extent:
    teff, logg = (
        np.concatenate([getattr(each, name)[good] for each, good in zip(samples, chosen, strict=True)])
        for name in ("teff", "logg")
    )
    return (*limits(teff, cut=cut, least=100.0), *limits(logg, cut=cut, least=0.2))


def _panel(axes: Axes, sample: KielStars, good: NDArray[np.bool_], extent: Extent, scale: Normalize) -> None:
    number = int(good.sum())
    name = literal(sample.title)
    if number == 0:
        axes.set_title(name)
        empty(axes, "no star with all three parameters")
        return
    teff, logg, m_h = sample.teff[good], sample.logg[good], sample.m_h[good]
    axes.set_title(f"{name} ({compact(number)})")
    if number > MANY:
        median = binned_median(teff, logg, m_h, extent, cells_of(axes, CELLS))
        image(axes, median, extent, cmap=COLOURS, norm=scale, zorder=1)
    else:
        size = 16.0 if number < 300 else 7.0
        axes.scatter(teff, logg, c=m_h, s=size, linewidths=0, cmap=COLOURS, norm=scale)
    round_ticks(axes.xaxis)
    round_ticks(axes.yaxis, bins=7)


def _look(line: IsochroneLine, scale: Normalize) -> dict[str, Any]:
    # Two edges: a line stands out from stars of its own colour, be they dark or light.
    edge = [withStroke(linewidth=2.8, foreground="white"), withStroke(linewidth=1.8, foreground=INK)]
    return {"color": colormaps[COLOURS](float(scale(line.m_h))), "lw": 0.9, "path_effects": edge}


def _draw_lines(axes: Axes, lines: Sequence[IsochroneLine], scale: Normalize) -> None:
    for line in lines:
        axes.plot(line.teff, line.logg, **_look(line, scale))


def _handle(line: IsochroneLine, scale: Normalize) -> Line2D:
    name = f"{line.m_h:+.2g}".replace("-", "−") if line.m_h else "0"
    return Line2D([], [], label=name, **_look(line, scale))
