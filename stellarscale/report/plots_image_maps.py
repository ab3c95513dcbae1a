"""Maps of a catalogue made from images: Kiel diagram and the Galaxy, by density and metallicity (paper III, 15, 16)."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stellarscale.report.image_numbers import SUN_HEIGHT_KPC, SUN_RADIUS_KPC, Extent
from stellarscale.report.labels import compact, with_unit
from stellarscale.report.plots_style import (
    DENSITY,
    INK,
    Room,
    binned_median,
    colour_bar,
    empty,
    image,
    limits,
    panels,
    round_ticks,
    styled,
)

TEFF_BIN_K, LOGG_BIN_DEX = 25.0, 0.04
RADIUS_BIN_KPC, HEIGHT_BIN_KPC = 0.2, 0.15
LOWEST_METALLICITY = -2.0
METALS = "plasma"


@styled
def plot_kiel_bins(teff: NDArray, logg: NDArray, fe_h: NDArray) -> Figure:
    """Number of stars, and their median [Fe/H], in bins of 25 K and 0.04 dex of Teff and log g (paper III, Fig. 15).

    Parameters
    ----------
    teff, logg, fe_h : ndarray, shape (n,)
        K, dex, dex; stars without all three are left out.
    """
    good = np.isfinite(teff) & np.isfinite(logg) & np.isfinite(fe_h)
    x, y, metal = (np.asarray(values, dtype=np.float64)[good] for values in (teff, logg, fe_h))
    drawn, grid = panels(11.5, 4.9, (1, 2), room=Room(right=1.05, between=1.45))
    left, right = grid[0]
    left.set_title(f"Stars ({compact(len(x))})")
    right.set_title("Median metallicity")
    if len(x) == 0:
        for axes in (left, right):
            empty(axes, "no star with all three parameters")
        return drawn
    extent, cells = _bins((x, TEFF_BIN_K), (y, LOGG_BIN_DEX))
    _counts(left, x, y, extent, cells)
    _metals(right, (x, y, metal), extent, cells)
    for axes in (left, right):
        axes.set_xlim(extent[1], extent[0])
        axes.set_ylim(extent[3], extent[2])
        axes.set_xlabel(with_unit("teff", "K"))
        axes.set_ylabel(with_unit("logg", "dex"))
        round_ticks(axes.xaxis, axes.yaxis, bins=6)
    return drawn


@styled
def plot_galaxy(radius_kpc: NDArray, height_kpc: NDArray, fe_h: NDArray) -> Figure:
    """Number of stars, and their median [Fe/H], in the plane of radius and height, 0.2 x 0.15 kpc (paper III, Fig. 16).

    Parameters
    ----------
    radius_kpc, height_kpc, fe_h : ndarray, shape (n,)
        Distance from the axis of the Galaxy, height above its plane, dex; stars without all three are left out.
    """
    good = np.isfinite(radius_kpc) & np.isfinite(height_kpc) & np.isfinite(fe_h)
    x, y, metal = (np.asarray(values, dtype=np.float64)[good] for values in (radius_kpc, height_kpc, fe_h))
    drawn, grid = panels(11.5, 4.6, (1, 2), room=Room(right=1.05, between=1.45))
    left, right = grid[0]
    left.set_title(f"Stars ({compact(len(x))})")
    right.set_title("Median metallicity")
    if len(x) == 0:
        for axes in (left, right):
            empty(axes, "no star with parallax and metallicity")
        return drawn
    extent, cells = _bins((x, RADIUS_BIN_KPC), (y, HEIGHT_BIN_KPC), cut=0.3)
    _counts(left, x, y, extent, cells)
    _metals(right, (x, y, metal), extent, cells)
    for axes in (left, right):
        axes.plot(SUN_RADIUS_KPC, SUN_HEIGHT_KPC, "o", ms=8, mfc="none", mec=INK, mew=1.2)
        axes.plot(SUN_RADIUS_KPC, SUN_HEIGHT_KPC, ".", ms=3, color=INK)
        axes.set_xlabel("R (kpc)")
        axes.set_ylabel("z (kpc)")
        round_ticks(axes.xaxis, axes.yaxis, bins=7)
    return drawn


def _bins(
    across: tuple[NDArray, float], up: tuple[NDArray, float], cut: float = 0.05
) -> tuple[Extent, tuple[int, int]]:
    """Range of whole bins around the bulk of the stars, and the number of bins along each axis."""
    ends, number = [], []
    for values, step in (across, up):
        low, high = limits(values, cut=cut, pad=0.01, least=10 * step)
        low, high = np.floor(low / step) * step, np.ceil(high / step) * step
        ends += [float(low), float(high)]
        number.append(round((high - low) / step))
    return (ends[0], ends[1], ends[2], ends[3]), (number[0], number[1])


def _counts(axes: Axes, x: NDArray, y: NDArray, extent: Extent, cells: tuple[int, int]) -> None:
    left, right, low, high = extent
    counts, _, _ = np.histogram2d(x, y, bins=cells, range=((left, right), (low, high)))
    shown = np.ma.masked_equal(counts.T, 0)
    drawn = image(axes, shown, extent, cmap=DENSITY, norm=LogNorm(1, max(float(counts.max()), 2.0)))
    colour_bar(drawn, axes, "stars per bin")


def _metals(axes: Axes, stars: tuple[NDArray, NDArray, NDArray], extent: Extent, cells: tuple[int, int]) -> None:
    """Median per bin; the colours end at -2, below which all look alike."""
    x, y, metal = stars
    median = binned_median(x, y, metal, extent, cells)
    seen = median[np.isfinite(median)]
    low, high = limits(seen, cut=1.0, pad=0.0, least=0.1)
    scale = Normalize(max(low, LOWEST_METALLICITY), max(high, LOWEST_METALLICITY + 0.1))
    drawn = image(axes, np.ma.masked_invalid(median), extent, cmap=METALS, norm=scale)
    colour_bar(drawn, axes, with_unit("fe_h", "dex"))
