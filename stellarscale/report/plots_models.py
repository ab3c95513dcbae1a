"""Plots that compare models: bias and sigma against each label, importances of the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stellarscale.report.content import Evaluation, Importance
from stellarscale.report.labels import in_plot, literal, with_unit
from stellarscale.report.numbers import pairs
from stellarscale.report.plots_residuals import trend_of
from stellarscale.report.plots_style import BLUE, CYCLE, INK, MARKERS, empty, figure, round_ticks, styled

MOST_INPUTS = 20


def has_trend(evaluation: Evaluation) -> bool:
    """Whether there are enough stars for bias and sigma in bins."""
    return trend_of(*pairs(evaluation)) is not None


@styled
def plot_trends(evaluations: Sequence[Evaluation]) -> Figure:
    """Sigma (above) and bias (below) against each label, a line per model and reference (paper I, Fig. 8)."""
    labels = list(dict.fromkeys(each.label for each in evaluations))
    drawn = figure(max(3.75 * len(labels), 5.5), 5.4)
    if not labels:
        empty(drawn.add_subplot(), "nothing to compare")
        return drawn
    panels = drawn.subplots(2, len(labels), sharex="col", squeeze=False)
    for column, label in enumerate(labels):
        chosen = [each for each in evaluations if each.label == label]
        _trend_column(panels[0, column], panels[1, column], chosen)
    return drawn


def _trend_column(above: Axes, below: Axes, evaluations: Sequence[Evaluation]) -> None:
    unit = evaluations[0].unit
    highest = 0.0
    for number, evaluation in enumerate(evaluations):
        trend = trend_of(*pairs(evaluation))
        if trend is None:
            continue
        kept = np.isfinite(trend.bias)
        highest = max(highest, float(trend.sigma[kept].max()))
        look: dict[str, Any] = {
            "color": CYCLE[number % len(CYCLE)],
            "marker": MARKERS[number % len(MARKERS)],
            "ms": 4.5,
            "lw": 1.3,
        }
        name = literal(f"{evaluation.model}, {evaluation.against}")
        above.plot(trend.centres[kept], trend.sigma[kept], label=name, **look)
        below.plot(trend.centres[kept], trend.bias[kept], **look)
    if not above.lines:
        empty(above, "too few stars for bins")
        empty(below, "too few stars for bins")
    else:
        above.set_ylim(0, 1.15 * highest or 1.0)
        below.axhline(0.0, color=INK, lw=0.8, ls=":")
        above.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderpad=0.2, handlelength=1.6)
        for axes in (above, below):
            axes.grid(True)
            round_ticks(axes.yaxis)
    above.set_ylabel(with_unit("robust σ", unit))
    below.set_ylabel(with_unit("bias", unit))
    below.set_xlabel(with_unit(evaluations[0].label, unit))
    round_ticks(below.xaxis)


@styled
def plot_importances(importances: Sequence[Importance]) -> Figure:
    """Horizontal bars of the inputs of each model, the most important on top; at most 20 per model."""
    if not importances:
        drawn = figure(6.0, 2.0)
        empty(drawn.add_subplot(), "no model tells importances")
        return drawn
    columns = min(3, len(importances))
    rows = -(-len(importances) // columns)
    most = max(min(len(each.names), MOST_INPUTS) for each in importances)
    drawn = figure(3.85 * columns, rows * (0.85 + 0.19 * max(most, 3)))
    panels = drawn.subplots(rows, columns, squeeze=False).ravel()
    for axes, importance in zip(panels, importances, strict=False):
        _bars(axes, importance)
    for axes in panels[len(importances) :]:
        axes.set_axis_off()
    return drawn


def _bars(axes: Axes, importance: Importance) -> None:
    axes.set_title(literal(importance.model))
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
