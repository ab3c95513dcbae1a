"""How well parameters are recovered at each signal to noise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from stellarscale.report.coverage import SNR, CoverageRow
from stellarscale.report.labels import compact, in_plot, literal, reference_name, with_unit
from stellarscale.report.plots_style import CYCLE, INK, MARKERS, Room, panels, round_ticks, styled

LEGEND_COLUMNS = 5


def snr_axis(axes: Axes) -> None:
    """A logarithmic axis of S/N with ticks such as 5, 10, 20."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


@styled
def plot_by_snr(rows: Sequence[CoverageRow]) -> Figure:
    """Robust sigma (above) and median residual (below) in bins of S/N; a panel per label, a line per class.

    Parameters
    ----------
    rows : sequence of CoverageRow
        At least one, each of a bin.
    """
    labels = list(dict.fromkeys(row.label for row in rows))
    lines = list(dict.fromkeys((row.against, row.group) for row in rows))
    looks = dict(zip(lines, cycle(zip(CYCLE, MARKERS, strict=True)), strict=False))
    room = Room(rows=0.2, between=0.75, top=0.35, bottom=0.85)
    width = max(3.8 * len(labels), 5.0)
    drawn, grid = panels(width, 5.2, (2, len(labels)), room=room, share=("col", False))
    for column, label in enumerate(labels):
        above, below = grid[:, column]
        chosen = [row for row in rows if row.label == label]
        _draw(above, below, chosen, looks)
        above.set_title(in_plot(label))
        above.set_ylabel(with_unit("robust σ", chosen[0].unit))
        below.set_ylabel(with_unit("median residual", chosen[0].unit))
        below.set_xlabel(SNR)
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=4.5, label=literal(f"{reference_name(against)}, {group}"))
        for (against, group), (colour, marker) in looks.items()
    ]
    drawn.legend(handles=handles, loc="lower center", ncols=LEGEND_COLUMNS, borderaxespad=0.1)
    return drawn


def _draw(above: Axes, below: Axes, rows: Sequence[CoverageRow], looks: dict[tuple[str, str], tuple[str, str]]) -> None:
    for key, (colour, marker) in looks.items():
        mine = [row for row in rows if (row.against, row.group) == key]
        x = [np.sqrt(max(row.low or 0.0, 1.0) * (row.high or 1.0)) for row in mine]
        for axes, values in ((above, [row.sigma for row in mine]), (below, [row.bias for row in mine])):
            axes.plot(x, values, color=colour, marker=marker, ms=4.5, lw=1.3)
    below.axhline(0.0, color=INK, lw=0.8, ls=":")
    above.set_ylim(bottom=0.0)
    snr_axis(below)
    for axes in (above, below):
        round_ticks(axes.yaxis)
        axes.grid(True)
