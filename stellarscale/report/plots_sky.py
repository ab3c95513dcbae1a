"""Sky maps of counts, equatorial, right ascension growing to the left."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stellarscale.kernels.dust import galactic
from stellarscale.kernels.healpix import pixel_centre, pixel_of, resolution_arcsec
from stellarscale.report.content import SkyCounts
from stellarscale.report.plots_style import DENSITY, INK, VERMILION, colour_bar, figure, round_ticks, styled

SMALL_DEG = 60.0


@styled
def plot_sky(sky: SkyCounts, *, title: str = "") -> Figure:
    """Counts per square degree on the whole sky, and a close-up where the footprint is small.

    The map is a raster of positions, each coloured by the HEALPix pixel it falls into.
    """
    filled = sky.counts > 0
    kept = SkyCounts(sky.order, sky.ipix[filled], sky.counts[filled])
    box = _footprint(kept)
    small = box is not None and max(box[2], box[3]) < SMALL_DEG
    drawn = figure(11.0, 4.0) if small else figure(9.5, 5.4)
    if small and box is not None:
        whole = drawn.add_axes((0.05, 0.06, 0.52, 0.88), projection="mollweide")
        _draw_close(drawn.add_axes((0.65, 0.14, 0.25, 0.78)), kept, box, _norm(kept))
        _mark(whole, box)
    else:
        whole = drawn.add_axes((0.07, 0.21, 0.88, 0.77), projection="mollweide")
    _draw_whole(whole, kept, _norm(kept), bar=not small)
    if title:
        drawn.suptitle(title, fontsize=10.5, fontweight="bold")
    return drawn


def _norm(sky: SkyCounts) -> LogNorm:
    per_square_degree = sky.counts / (resolution_arcsec(sky.order) / 3600.0) ** 2
    if len(per_square_degree) == 0:
        return LogNorm(1, 10)
    low, high = np.percentile(per_square_degree, [2, 100])
    return LogNorm(low, max(high, low * 1.5))


def _density_at(sky: SkyCounts, ra_deg: NDArray, dec_deg: NDArray) -> NDArray[np.float64]:
    """Rows per square degree at positions (any shape), NaN where there are none."""
    result = np.full(ra_deg.size, np.nan)
    if len(sky.ipix):
        order = np.argsort(sky.ipix)
        pixels = pixel_of(ra_deg.ravel(), dec_deg.ravel(), sky.order)
        index = np.minimum(np.searchsorted(sky.ipix, pixels, sorter=order), len(order) - 1)
        hit = sky.ipix[order[index]] == pixels
        result[hit] = sky.counts[order[index[hit]]] / (resolution_arcsec(sky.order) / 3600.0) ** 2
    return result.reshape(ra_deg.shape)


def _draw_whole(axes: Axes, sky: SkyCounts, norm: LogNorm, *, bar: bool) -> None:
    lon = np.radians(np.linspace(-180, 180, 541))
    lat = np.radians(np.linspace(-90, 90, 271))
    middle_lon, middle_lat = np.meshgrid(0.5 * (lon[1:] + lon[:-1]), 0.5 * (lat[1:] + lat[:-1]))
    ra = np.degrees(-middle_lon) % 360.0
    values = np.ma.masked_invalid(_density_at(sky, ra, np.degrees(middle_lat)))
    mesh = axes.pcolormesh(lon, lat, values, norm=norm, cmap=DENSITY, rasterized=True)
    _, b = galactic(ra.ravel(), np.degrees(middle_lat).ravel())
    axes.contour(middle_lon, middle_lat, b.reshape(ra.shape), levels=[0.0], colors=[VERMILION], linewidths=1.1)
    axes.plot([], [], color=VERMILION, lw=1.1, label="Galactic plane")
    axes.legend(loc="lower right", bbox_to_anchor=(1.02, -0.08))
    axes.grid(True)
    axes.set_axisbelow(False)
    hours = np.arange(-150, 180, 30)
    axes.set_xticks(np.radians(hours), [f"{-value % 360:.0f}°" if value % 60 == 0 else "" for value in hours])
    axes.set_yticks(np.radians([-60, -30, 0, 30, 60]), ["−60°", "−30°", "0°", "+30°", "+60°"])
    axes.tick_params(axis="x", labelsize=8, colors=INK)
    for text in axes.get_xticklabels():
        text.set_bbox({"facecolor": "white", "alpha": 0.65, "edgecolor": "none", "pad": 0.8})
    axes.set_ylabel("declination")
    if bar:
        colour_bar(mesh, axes, "stars per square degree", below=True)


def _footprint(sky: SkyCounts) -> tuple[float, float, float, float] | None:
    """Centre (ra, dec) and size (along ra on the sky, dec) in degrees of a box around the filled pixels."""
    if len(sky.ipix) == 0:
        return None
    ra, dec = pixel_centre(sky.order, sky.ipix)
    pad = resolution_arcsec(sky.order) / 3600.0
    ordered = np.sort(ra)
    gaps = np.diff(np.concatenate([ordered, [ordered[0] + 360.0]]))
    widest = int(np.argmax(gaps))
    start, width = ordered[(widest + 1) % len(ordered)], 360.0 - gaps[widest]
    low, high = max(dec.min() - pad, -90.0), min(dec.max() + pad, 90.0)
    squeeze = max(math.cos(math.radians(0.5 * (low + high))), 0.05)
    return (start + 0.5 * width) % 360.0, 0.5 * (low + high), width * squeeze + 2 * pad, high - low


def _mark(axes: Axes, box: tuple[float, float, float, float]) -> None:
    """A ring around a footprint that would otherwise be a speck."""
    lon = math.radians(-((box[0] + 180.0) % 360.0 - 180.0))
    axes.plot([lon], [math.radians(box[1])], "o", ms=18, mfc="none", mec=INK, mew=1.2)


def _draw_close(axes: Axes, sky: SkyCounts, box: tuple[float, float, float, float], norm: LogNorm) -> None:
    ra0, dec0, width, height = box
    half = 0.5 * max(width, height) * 1.08
    squeeze = max(math.cos(math.radians(dec0)), 0.05)
    across = np.linspace(-half, half, 501)
    east, dec = np.meshgrid(0.5 * (across[1:] + across[:-1]) / squeeze, dec0 + 0.5 * (across[1:] + across[:-1]))
    on_sky = np.abs(dec) <= 90.0
    values = _density_at(sky, (ra0 + east) % 360.0, np.clip(dec, -90, 90))
    values[~on_sky | (np.abs(east) > 180.0)] = np.nan
    mesh = axes.pcolormesh(
        ra0 + across / squeeze,
        dec0 + across,
        np.ma.masked_invalid(values),
        norm=norm,
        cmap=DENSITY,
        rasterized=True,
    )
    axes.invert_xaxis()
    axes.set_aspect(1.0 / squeeze)
    axes.set_xlabel("right ascension (deg)")
    axes.set_ylabel("declination (deg)")
    axes.grid(True)
    round_ticks(axes.xaxis, axes.yaxis)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value % 360.0:g}")
    colour_bar(mesh, axes, "stars per square degree")
