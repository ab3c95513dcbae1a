"""Plots that compare models: bias and sigma against each label, importances of the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from stellarscale.report.content import Evaluation, Importance
from stellarscale.report.labels import in_plot, literal, model_in_plot, reference_name, with_unit
from stellarscale.report.numbers import pairs, trend_of
from stellarscale.report.plots_style import BLUE, CYCLE, INK, MARKERS, Room, empty, panels, round_ticks, styled

MOST_INPUTS = 20
LEGEND_COLUMNS = 4


def has_trend(evaluation: Evaluation) -> bool:
    """Whether there are enough stars for bias and sigma in bins."""
    return trend_of(*pairs(evaluation)) is not None


@styled
def plot_trends(evaluations: Sequence[Evaluation]) -> Figure:
    """Sigma (above) and bias (below) against each label: colours by test sample, markers by class (paper I, Fig. 8)."""
    labels = list(dict.fromkeys(each.label for each in evaluations))
    if not labels:
        drawn, grid = panels(5.5, 3.0, (1, 1))
        empty(grid[0, 0], "nothing to compare")
        return drawn
    samples = list(dict.fromkeys(each.against for each in evaluations))
    groups = list(dict.fromkeys(each.group for each in evaluations))
    looks = _Looks(dict(zip(samples, cycle(CYCLE))), dict(zip(groups, cycle(MARKERS))))
    entries = len(samples) + (len(groups) if len(groups) > 1 else 0)
    room = Room(rows=0.18, between=0.75, top=0.2, bottom=0.6 + 0.22 * -(-entries // LEGEND_COLUMNS))
    size = (max(3.7 * len(labels), 6.0), 4.9 + room.bottom)
    drawn, grid = panels(*size, (2, len(labels)), room=room, share=("col", False))
    for column, label in enumerate(labels):
        chosen = [each for each in evaluations if each.label == label]
        _trend_column(grid[0, column], grid[1, column], chosen, looks)
    drawn.legend(handles=looks.legend(), loc="lower center", ncols=LEGEND_COLUMNS, borderaxespad=0.1)
    return drawn


@dataclass(frozen=True)
class _Looks:
    """Colours by test sample, markers by class."""

    colours: dict[str, str]
    markers: dict[str, str]

    def of(self, evaluation: Evaluation) -> dict[str, Any]:
        """How the points of an evaluation are drawn."""
        look = {"color": self.colours[evaluation.against], "marker": self.markers[evaluation.group]}
        return look | {"ms": 4.5, "lw": 1.3}

    def legend(self) -> list[Line2D]:
        """A line per sample, and a marker per class where there are several."""
        lines = [
            Line2D([], [], color=colour, lw=2.0, label=literal(reference_name(name)))
            for name, colour in self.colours.items()
        ]
        if len(self.markers) > 1:
            lines += [
                Line2D([], [], color=INK, lw=0, marker=marker, ms=5, label=literal(name or "all stars"))
                for name, marker in self.markers.items()
            ]
        return lines


def _trend_column(above: Axes, below: Axes, evaluations: Sequence[Evaluation], looks: _Looks) -> None:
    unit = evaluations[0].unit
    highest = 0.0
    for evaluation in evaluations:
        trend = trend_of(*pairs(evaluation))
        if trend is None:
            continue
        kept = np.isfinite(trend.bias)
        highest = max(highest, float(trend.sigma[kept].max()))
        look = looks.of(evaluation)
        above.plot(trend.centres[kept], trend.sigma[kept], **look)
        below.plot(trend.centres[kept], trend.bias[kept], **look)
    if not above.lines:
        empty(above, "too few stars for bins")
        empty(below, "too few stars for bins")
    else:
        above.set_ylim(0, 1.15 * highest or 1.0)
        below.axhline(0.0, color=INK, lw=0.8, ls=":")
        for axes in (above, below):
            axes.grid(True)
            round_ticks(axes.yaxis)
    above.set_ylabel(with_unit("robust σ", unit))
    below.set_ylabel(with_unit("bias", unit))
    for axes in (above, below):
        axes.yaxis.set_label_coords(-0.17, 0.5)
    below.set_xlabel(with_unit(evaluations[0].label, unit))
    round_ticks(below.xaxis)


@styled
def plot_importances(importances: Sequence[Importance]) -> Figure:
    """Horizontal bars of the inputs of each model, the most important on top; at most 20 per model."""
    if not importances:
        drawn, grid = panels(6.0, 2.0, (1, 1))
        empty(grid[0, 0], "no model tells importances")
        return drawn
    columns = min(3, len(importances))
    rows = -(-len(importances) // columns)
    most = max(min(len(each.names), MOST_INPUTS) for each in importances)
    room = Room(left=1.05, between=1.15, rows=0.85, top=0.35)
    height = room.bottom + room.top + rows * 0.17 * max(most, 4) + (rows - 1) * room.rows
    drawn, grid = panels(3.85 * columns, height, (rows, columns), room=room)
    for axes, importance in zip(grid.ravel(), importances, strict=False):
        _bars(axes, importance)
    for axes in grid.ravel()[len(importances) :]:
        axes.set_axis_off()
    return drawn


def _bars(axes: Axes, importance: Importance) -> None:
    axes.set_title(model_in_plot(importance.model))
    values = np.asarray(importance.values, dtype=np.float64)
    if len(values) == 0:
        empty(axes, "no inputs")
        return
    order = np.argsort(-values, kind="stable")[:MOST_INPUTS]
    place = np.arange(len(order))
    axes.barh(place, values[order], color=BLUE, height=0.72)
    for y, value in zip(place, values[order], strict=True):
        axes.text(float(value), float(y), f" {100 * value:.1f} %", va="center", fontsize=7.5)
    axes.set_yticks(place, [in_plot(importance.names[i]) for i in order], fontsize=8.5)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, max(float(values.max()), 1e-9) * 1.22)
    axes.set_xlabel(f"importance (top {len(order)} of {len(values)})" if len(order) < len(values) else "importance")
    axes.spines[["top", "right"]].set_visible(False)
