"""How every plot looks, and figures to PNG bytes; no pyplot state, so plots can be drawn in any thread."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

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

# Okabe & Ito (2008): told apart by readers with any common colour vision.
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY_BLUE, PURPLE, GREY, INK = "#56B4E9", "#CC79A7", "#8A8F98", "#22262B"
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, GREY)
MARKERS = "os^Dv<>"
DENSITY = "viridis"
DPI = 200  # twice the size on the page
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
    "axes.formatter.use_mathtext": True,
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
    """An empty figure (inches) with a constrained layout and an Agg canvas."""
    result = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(result)
    return result


def png(drawn: Figure, dpi: int = DPI) -> bytes:
    """PNG bytes with a palette of 256 colours; the same figure gives the same bytes."""
    canvas = FigureCanvasAgg(drawn)
    drawn.set_dpi(dpi)
    with matplotlib.rc_context(_settings()):
        canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    # The eye cannot tell a palette made for the picture from full colour; it takes a third of the bytes.
    buffer = io.BytesIO()
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buffer, format="PNG")
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


def density(axes: Axes, x: NDArray, y: NDArray, extent: tuple[float, float, float, float], *, grid: int = 90) -> Any:
    """Points when they are few, else log density in hexagons; returns what a colour bar needs, or None."""
    left, right, low, high = extent
    inside = (x >= left) & (x <= right) & (y >= low) & (y <= high)
    x, y = x[inside], y[inside]
    if len(x) <= MANY:
        size = 14.0 if len(x) < 300 else 5.0
        axes.plot(x, y, "o", ms=size**0.5, color=BLUE, alpha=0.6, mew=0)
        drawn = None
    else:
        box = axes.get_window_extent()
        rows = max(int(grid * box.height / max(box.width, 1.0) / 1.7), 10)
        drawn = axes.hexbin(
            x, y, gridsize=(grid, rows), extent=extent, norm=LogNorm(), mincnt=1, cmap=DENSITY, linewidths=0.1
        )
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    return drawn


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


def empty(axes: Axes, text: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])
