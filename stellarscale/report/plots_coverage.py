"""Whether claimed errors hold: coverage against magnitude for each model and reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stellarscale.kernels.stats import ONE_SIGMA
from stellarscale.report.coverage import SNR, CoverageRow, share_range
from stellarscale.report.labels import in_plot, literal, reference_name
from stellarscale.report.plots_snr import snr_axis
from stellarscale.report.plots_style import CYCLE, GREEN, GREY, INK, Room, empty, panels, round_ticks, styled

COLUMNS, LEGEND_COLUMNS = 3, 6
# What a calibrated error may miss its level by.
BAND_68, BAND_95 = 0.02, 0.01


def has_coverage(rows: Sequence[CoverageRow]) -> bool:
    """Whether any bin of magnitude tells a coverage."""
    return any(row.low is not None and row.coverage_68 is not None for row in rows)


@styled
def plot_coverage(rows: Sequence[CoverageRow], magnitude_name: str) -> Figure:
    """Share of stars within the 68 % and the 95 % interval in bins of magnitude.

    A panel per label and reference, a line per class. Honest errors lie on the dashed lines; the bands are +- 2 and
    +- 1 per cent; the bars are the one-sigma range of a share of so few stars.
    """
    chosen = [row for row in rows if row.low is not None and row.coverage_68 is not None]
    shown = sorted({(row.against, row.label) for row in chosen}, key=_in_order(chosen))
    if not shown:
        drawn, grid = panels(6.0, 2.5, (1, 1))
        empty(grid[0, 0], "no errors to check by magnitude")
        return drawn
    classes = list(dict.fromkeys(row.group for row in chosen))
    looks = dict(zip(classes, cycle(product(("-", "--", ":"), CYCLE)), strict=False))
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    room = Room(bottom=0.6 + 0.2 * -(-len(classes) // LEGEND_COLUMNS), between=0.6, rows=0.55, top=0.5)
    height = room.bottom + room.top + lines * 2.3 + (lines - 1) * room.rows
    drawn, grid = panels(max(3.8 * columns, 6.0), height, (lines, columns), room=room)
    for axes, (against, label) in zip(grid.ravel(), shown, strict=False):
        _panel(axes, [row for row in chosen if (row.against, row.label) == (against, label)], looks)
        axes.set_title(f"{in_plot(label)}   {literal(reference_name(against))}", fontsize=8.5)
        if magnitude_name == SNR:
            snr_axis(axes)
        else:
            round_ticks(axes.xaxis)
    for axes in grid.ravel()[len(shown) :]:
        axes.set_axis_off()
    for axes in grid.ravel()[max(len(shown) - columns, 0) : len(shown)]:
        axes.set_xlabel(axis_name(magnitude_name))
    for axes in grid[:, 0]:
        axes.set_ylabel("share inside (%)")
    handles = [Line2D([], [], color=looks[name][1], ls=looks[name][0], lw=1.6, label=literal(name)) for name in classes]
    drawn.legend(handles=handles, loc="lower center", ncols=LEGEND_COLUMNS, borderaxespad=0.1)
    return drawn


def axis_name(magnitude_name: str) -> str:
    """Label of the axis by which errors are looked at."""
    if magnitude_name == SNR:
        return SNR
    return in_plot(magnitude_name) + " (mag)" if magnitude_name else "magnitude"


def _in_order(rows: Sequence[CoverageRow]) -> Callable[[tuple[str, str]], tuple[int, int]]:
    """Sorts references and labels as they come in the rows, each reference with all its labels."""
    references = list(dict.fromkeys(row.against for row in rows))
    labels = list(dict.fromkeys(row.label for row in rows))
    return lambda panel: (references.index(panel[0]), labels.index(panel[1]))


def _panel(axes: Axes, rows: Sequence[CoverageRow], looks: dict[str, tuple[str, str]]) -> None:
    for level, band in ((ONE_SIGMA, BAND_68), (0.95, BAND_95)):
        axes.axhspan(100 * (level - band), 100 * (level + band), color=GREEN, alpha=0.15, lw=0)
        axes.axhline(100 * level, color=INK, lw=0.8, ls="--")
    for name in dict.fromkeys(row.group for row in rows):
        mine = [row for row in rows if row.group == name]
        line: dict[str, Any] = {"ms": 4, "lw": 1.2, "ls": looks[name][0], "color": looks[name][1]}
        x = [0.5 * ((row.low or 0.0) + (row.high or 0.0)) for row in mine]
        _line(axes, x, [row.coverage_68 for row in mine], mine, marker="o", **line)
        _line(axes, x, [row.coverage_95 for row in mine], mine, marker="s", **line)
    axes.set_ylim(max(0.0, min(45.0, axes.get_ylim()[0])), 101.0)
    axes.grid(True, color=GREY, alpha=0.25)
    round_ticks(axes.yaxis)


def _line(
    axes: Axes, x: Sequence[float], shares: Sequence[float | None], rows: Sequence[CoverageRow], **look: Any
) -> None:
    """A line through the shares that there are, with bars of their own scatter."""
    known = [(at, share, row.n) for at, share, row in zip(x, shares, rows, strict=True) if share is not None]
    if not known:
        return
    ranges = [share_range(share, n) for _, share, n in known]
    bars = [
        [100 * (share - low) for (_, share, _), (low, _) in zip(known, ranges, strict=True)],
        [100 * (high - share) for (_, share, _), (_, high) in zip(known, ranges, strict=True)],
    ]
    places, found = [at for at, _, _ in known], [100 * share for _, share, _ in known]
    axes.errorbar(places, found, bars, elinewidth=0.8, capsize=0, **look)
