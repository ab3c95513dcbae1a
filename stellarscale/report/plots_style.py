"""How every plot looks, and figures to PNG bytes; no pyplot state, so plots can be drawn in any thread."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image  # comes with matplotlib

from stellarscale.report.labels import compact

P = ParamSpec("P")
Shared = bool | Literal["none", "all", "row", "col"]

# Okabe & Ito (2008): told apart by readers with any common colour vision.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY_BLUE, PURPLE, GREY, INK = "#56B4E9", "#CC79A7", "#8A8F98", "#22262B"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, GREY)
MARKERS = "os^Dv<>"
DENSITY = "viridis"
DPI = 150  # one and a half times the size on the page
HALO = [withStroke(linewidth=3.2, foreground="white", alpha=0.85)]  # lines stay readable on dense colour
MANY = 2000  # above this, points hide one another: draw their density

STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": "#5A6068",
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": "#3A4047",
    "ytick.color": "#3A4047",
    "grid.color": "#D5D9DE",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def _settings() -> Any:
    return {**matplotlib.rcParamsDefault, "backend": "agg", **STYLE}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under the house style, whatever the caller's matplotlib settings are."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_settings()):
            return draw(*args, **kwargs)

    return inner


def figure(width: float, height: float) -> Figure:
    """An empty figure (inches) with an Agg canvas."""
    result = Figure(figsize=(width, height))
    FigureCanvasAgg(result)
    return result


@dataclass(frozen=True)
class Room:
    """Space around and between the panels of a figure, inches; known beforehand, so no layout has to be solved."""

    left: float = 0.72
    right: float = 0.2
    bottom: float = 0.55
    top: float = 0.32
    between: float = 0.85
    rows: float = 0.55


def panels(
    width: float,
    height: float,
    shape: tuple[int, int],
    *,
    room: Room = Room(),
    widths: Sequence[float] | None = None,
    share: tuple[Shared, Shared] = (False, False),
) -> tuple[Figure, NDArray[Any]]:
    """A figure (inches) with a grid of panels, array of Axes of the shape (rows, columns).

    ``widths`` are the relative widths of the columns; ``share`` is as ``sharex`` and ``sharey`` of matplotlib.
    """
    rows, columns = shape
    drawn = figure(width, height)
    across = (width - room.left - room.right - (columns - 1) * room.between) / columns
    down = (height - room.bottom - room.top - (rows - 1) * room.rows) / rows
    place = {
        "left": room.left / width,
        "right": 1.0 - room.right / width,
        "bottom": room.bottom / height,
        "top": 1.0 - room.top / height,
        "wspace": room.between / across,
        "hspace": room.rows / down,
    }
    axes = drawn.subplots(
        rows, columns, squeeze=False, sharex=share[0], sharey=share[1], width_ratios=widths, gridspec_kw=place
    )
    return drawn, axes


def png(drawn: Figure, dpi: int = DPI) -> bytes:
    """PNG bytes with a palette of 256 colours; the same figure gives the same bytes."""
    canvas = FigureCanvasAgg(drawn)
    drawn.set_dpi(dpi)
    with matplotlib.rc_context(_settings()):
        canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    # The eye cannot tell a palette made for the picture from full colour; it takes a third of the bytes.
    buffer = io.BytesIO()
    picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, format="PNG")
    return buffer.getvalue()


def limits(values: NDArray, *, cut: float = 0.2, pad: float = 0.05, least: float = 1e-3) -> tuple[float, float]:
    """Axis range that leaves out ``cut`` per cent of the values at each end, with some air around.

    Where that would be less than one value, all are kept.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite, [cut, 100 - cut]) if cut * len(finite) >= 100 else (finite.min(), finite.max())
    span = max(float(high - low), least, 0.02 * abs(float(low)))
    middle = 0.5 * float(low + high)
    half = 0.5 * span + pad * span
    return middle - half, middle + half


def density(axes: Axes, x: NDArray, y: NDArray, extent: tuple[float, float, float, float], *, grid: int = 110) -> Any:
    """Points when they are few, else log density as an image; returns what a colour bar needs, or None.

    ``grid`` is the number of cells along x; they are about square on the page.
    """
    left, right, low, high = extent
    if len(x) <= MANY:
        size = 14.0 if len(x) < 300 else 5.0
        axes.plot(x, y, "o", ms=size**0.5, color=BLUE, alpha=0.6, mew=0)
        drawn = None
    else:
        counts = _counts(x, y, extent, cells_of(axes, grid))
        drawn = image(axes, np.ma.masked_equal(counts, 0), extent, cmap=DENSITY, norm=LogNorm(1, max(counts.max(), 2)))
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    return drawn


def cells_of(axes: Axes, grid: int) -> tuple[int, int]:
    """Cells along x and y that are about square on the page."""
    box = axes.get_window_extent()
    return grid, max(int(grid * box.height / max(box.width, 1.0)), 10)


def _counts(x: NDArray, y: NDArray, extent: tuple[float, float, float, float], cells: tuple[int, int]) -> NDArray:
    left, right, low, high = extent
    counts, _, _ = np.histogram2d(x, y, bins=cells, range=((left, right), (low, high)))
    return counts.T


def image(axes: Axes, values: NDArray, extent: tuple[float, float, float, float], **look: Any) -> Any:
    """Cells of a grid, shape (rows, columns) from the lower left, as sharp squares."""
    return axes.imshow(values, origin="lower", extent=extent, aspect="auto", interpolation="nearest", **look)


def binned_median(
    x: NDArray, y: NDArray, values: NDArray, extent: tuple[float, float, float, float], cells: tuple[int, int]
) -> NDArray[np.float64]:
    """Median of the values in each cell, shape (rows, columns); NaN where a cell is empty."""
    left, right, low, high = extent
    column = np.floor((x - left) / (right - left) * cells[0]).astype(np.int64)
    row = np.floor((y - low) / (high - low) * cells[1]).astype(np.int64)
    inside = (column >= 0) & (column < cells[0]) & (row >= 0) & (row < cells[1])
    place, values = (row * cells[0] + column)[inside], values[inside]
    order = np.lexsort((values, place))
    place, values = place[order], values[order]
    filled, first, count = np.unique(place, return_index=True, return_counts=True)
    result = np.full(cells[0] * cells[1], np.nan)
    result[filled] = 0.5 * (values[first + (count - 1) // 2] + values[first + count // 2])
    return result.reshape(cells[1], cells[0])


def colour_bar(drawn: Any, axes: Axes, label: str, *, below: bool = False) -> None:
    """A slim colour bar as long as the axes, at its right or below; none when there is nothing to explain."""
    if drawn is None:
        return
    place = (0.2, -0.1, 0.6, 0.03) if below else (1.025, 0.0, 0.035, 1.0)
    inset = axes.inset_axes(place)
    bar = axes.figure.colorbar(drawn, cax=inset, orientation="horizontal" if below else "vertical")
    bar.set_label(label)
    for spine in inset.spines.values():
        spine.set_linewidth(0.5)
    if isinstance(drawn.norm, LogNorm):
        _log_ticks(inset.xaxis if below else inset.yaxis, *drawn.get_clim())


def _log_ticks(axis: Any, low: float, high: float) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    axis.set_minor_formatter(NullFormatter())


def round_ticks(*axes: Any, bins: int = 5) -> None:
    """Few ticks, at multiples of 1, 2, 2.5 or 5, on each axis (``axes.xaxis`` or ``axes.yaxis``)."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10]))


def plain_counts(axis: Any, bins: int = 5) -> None:
    """Ticks such as 20k and 1.5M on an axis of counts."""
    axis.set_major_locator(MaxNLocator(bins, integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))


def log_counts(axes: Axes) -> None:
    """A logarithmic axis of counts that starts below one star, with ticks such as 10 and 100k."""
    axes.set_yscale("log")
    axes.set_ylim(0.7, max(axes.get_ylim()[1], 10.0))
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def empty(axes: Axes, text: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])
