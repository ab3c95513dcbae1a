"""Whether claimed errors hold: coverage against magnitude for each model and reference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stellarscale.kernels.stats import ONE_SIGMA
from stellarscale.report.coverage import CoverageRow
from stellarscale.report.labels import in_plot, literal
from stellarscale.report.plots_style import CYCLE, GREEN, GREY, INK, Room, empty, panels, round_ticks, styled

LEGEND_COLUMNS = 4
# What a calibrated error may miss its level by.
BAND_68, BAND_95 = 0.02, 0.01


def has_coverage(rows: Sequence[CoverageRow]) -> bool:
    """Whether any bin of magnitude tells a coverage."""
    return any(row.low is not None and row.coverage_68 is not None for row in rows)


@styled
def plot_coverage(rows: Sequence[CoverageRow], magnitude_name: str) -> Figure:
    """Share of stars within the 68 % and the 95 % interval in bins of magnitude, a panel per label.

    Honest errors lie on the dashed lines; the bands are +- 2 and +- 1 per cent.
    """
    chosen = [row for row in rows if row.low is not None and row.coverage_68 is not None]
    labels = list(dict.fromkeys(row.label for row in chosen))
    lines = list(dict.fromkeys(_line(row) for row in chosen))
    if not labels:
        drawn, grid = panels(6.0, 2.5, (1, 1))
        empty(grid[0, 0], "no errors to check by magnitude")
        return drawn
    colours = dict(zip(lines, cycle(CYCLE), strict=False))
    legend_rows = -(-len(lines) // LEGEND_COLUMNS)
    room = Room(bottom=0.65 + 0.2 * legend_rows, between=0.7)
    drawn, grid = panels(max(3.8 * len(labels), 6.0), 3.2 + room.bottom, (1, len(labels)), room=room)
    for axes, label in zip(grid[0], labels, strict=True):
        _panel(axes, [row for row in chosen if row.label == label], colours)
        axes.set_title(in_plot(label))
        axes.set_xlabel(in_plot(magnitude_name) + " (mag)" if magnitude_name else "magnitude")
    grid[0, 0].set_ylabel("share inside the interval (%)")
    handles = [Line2D([], [], color=colours[line], marker="o", ms=4, label=literal(", ".join(line))) for line in lines]
    drawn.legend(handles=handles, loc="lower center", ncols=LEGEND_COLUMNS, borderaxespad=0.1)
    return drawn


def _line(row: CoverageRow) -> tuple[str, str]:
    """What the stars of a line are compared with, and their class."""
    return row.against, row.group


def _panel(axes: Axes, rows: Sequence[CoverageRow], colours: dict[tuple[str, str], str]) -> None:
    for level, band in ((ONE_SIGMA, BAND_68), (0.95, BAND_95)):
        axes.axhspan(100 * (level - band), 100 * (level + band), color=GREEN, alpha=0.15, lw=0)
        axes.axhline(100 * level, color=INK, lw=0.8, ls="--")
    for line in dict.fromkeys(_line(row) for row in rows):
        mine = [row for row in rows if _line(row) == line]
        x = [0.5 * ((row.low or 0.0) + (row.high or 0.0)) for row in mine]
        axes.plot(x, [100 * (row.coverage_68 or 0.0) for row in mine], "o-", ms=4, lw=1.2, color=colours[line])
        second = [(at, 100 * row.coverage_95) for at, row in zip(x, mine, strict=True) if row.coverage_95 is not None]
        if second:
            axes.plot(*zip(*second, strict=True), "s-", ms=4, lw=1.2, color=colours[line])
    axes.set_ylim(max(0.0, min(45.0, axes.get_ylim()[0])), 101.0)
    axes.grid(True, color=GREY, alpha=0.25)
    round_ticks(axes.xaxis, axes.yaxis)
