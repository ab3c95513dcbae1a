"""Rows and time of the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stellarscale.report.content import StepRow
from stellarscale.report.labels import compact, count, duration, literal
from stellarscale.report.plots_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILION,
    Room,
    empty,
    panels,
    plain_counts,
    styled,
)

PALE = "#D3D8DF"


@styled
def plot_steps(steps: Sequence[StepRow]) -> Figure:
    """Rows into, out of and rejected by each step (left), and the time each step took (right)."""
    names = max((len(step.title) for step in steps), default=0)
    room = Room(left=min(0.35 + 0.068 * names, 4.2), between=0.45, top=0.6)
    drawn, grid = panels(
        11.5, 1.35 + 0.3 * max(len(steps), 2), (1, 2), room=room, widths=(1.55, 1), share=(False, True)
    )
    rows, times = grid[0]
    if not steps:
        empty(rows, "no steps recorded")
        empty(times, "no steps recorded")
        return drawn
    place = np.arange(len(steps))
    _rows(rows, place, steps)
    _times(times, place, steps)
    rows.set_yticks(place, [literal(step.title) for step in steps])
    rows.set_ylim(len(steps) - 0.45, -0.55)
    for axes in (rows, times):
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(True, axis="x")
    return drawn


def _rows(axes: Axes, place: np.ndarray, steps: Sequence[StepRow]) -> None:
    rows_in = np.array([step.rows_in for step in steps], dtype=np.float64)
    rows_out = np.array([step.rows_out for step in steps], dtype=np.float64)
    rejected = np.array([step.rejected for step in steps], dtype=np.float64)
    left_out = np.array([step.left_out for step in steps], dtype=np.float64)
    longest = max(rows_in.max(), (rows_out + rejected + left_out).max(), 1.0)
    axes.barh(place, rows_in, height=0.74, color=PALE, label="rows in")
    axes.barh(place, rows_out, height=0.4, color=BLUE, label="rows out")
    if rejected.any():
        axes.barh(place, rejected, left=rows_out, height=0.4, color=VERMILION, label="rejected")
    if left_out.any():
        axes.barh(place, left_out, left=rows_out + rejected, height=0.4, color=ORANGE, label="left out by cuts")
    for y, step in zip(place, steps, strict=True):
        lost = step.rejected + step.left_out
        end = max(step.rows_in, step.rows_out + lost)
        text = f"{count(step.rows_in)} → {count(step.rows_out)}" + (f"  (−{count(lost)})" if lost else "")
        axes.text(end + 0.01 * longest, y, text, va="center", fontsize=8, color=INK)
    axes.set_xlim(0, longest * 1.55)
    axes.set_xlabel("rows")
    plain_counts(axes.xaxis)
    axes.set_title("Rows through each step", pad=20)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.995), ncols=4, borderpad=0.1, columnspacing=1.2)


def _times(axes: Axes, place: np.ndarray, steps: Sequence[StepRow]) -> None:
    seconds = np.array([0.0 if step.made_before else step.seconds for step in steps], dtype=np.float64)
    resumed = np.array([step.resumed_partitions > 0 and not step.made_before for step in steps])
    axes.barh(place[~resumed], seconds[~resumed], height=0.55, color=GREEN)
    axes.barh(place[resumed], seconds[resumed], height=0.55, color=ORANGE, label="partly resumed")
    longest = max(float(seconds.max()), 1e-6)
    for y, taken, step in zip(place, seconds, steps, strict=True):
        text = duration(step.seconds) + (f" · {compact(step.rate)} rows/s" if step.rate else "")
        text, colour = ("made by an earlier run", GREY) if step.made_before else (text, INK)
        axes.text(taken + 0.015 * longest, y, text, va="center", fontsize=8, color=colour)
    axes.set_xlim(0, longest * 1.6)
    axes.set_xlabel("wall-clock time (s)")
    axes.set_title("Time of each step", pad=20)
    if resumed.any():
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.995), borderpad=0.1)
