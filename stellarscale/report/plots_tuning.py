"""The scan of hyper-parameters as paper I, Fig. 4 shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from stellarscale.report.labels import literal
from stellarscale.report.plots_style import (
    BLUE,
    CYCLE,
    GREY,
    INK,
    MARKERS,
    VERMILION,
    Room,
    empty,
    panels,
    round_ticks,
    styled,
)
from stellarscale.report.tuning import TuningScan, share_text

_STAR: dict[str, Any] = {
    "marker": "*",
    "ms": 15,
    "color": VERMILION,
    "mec": "white",
    "mew": 0.8,
    "ls": "none",
    "zorder": 5,
}
_RING: dict[str, Any] = {"marker": "o", "ms": 13, "mfc": "none", "mec": INK, "mew": 1.4, "ls": "none", "zorder": 6}


@styled
def plot_tuning(scan: TuningScan) -> Figure:
    """Two panels: 1 - OOB against trees, a line per share of the features; and against depth, averaged over repeats.

    A filled star marks what the scan speaks for, a ring what the job uses, where the scan covers it.
    """
    drawn, ((left, right),) = panels(9.6, 3.9, (1, 2), room=Room(left=0.85, between=1.0, top=0.4))
    left.set_title(literal(scan.model))
    right.set_title(f"{scan.used['n_estimators']} trees, {_features(scan.used['max_features'])}")
    _over_trees(left, scan)
    _over_depth(right, scan)
    return drawn


def _over_trees(axes: Axes, scan: TuningScan) -> None:
    shares = list(dict.fromkeys(score.max_features for score in scan.trees))
    for number, share in enumerate(shares):
        trees, errors = scan.curve(share)
        colour, marker = CYCLE[number % len(CYCLE)], MARKERS[number % len(MARKERS)]
        axes.plot(trees, errors, ms=4.5, lw=1.3, color=colour, marker=marker, label=_features(share))
    ticks = sorted({score.n_estimators for score in scan.trees})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    for setting, look in ((scan.chosen, _STAR), (scan.used, _RING)):
        trees, errors = scan.curve(setting["max_features"])
        _mark(axes, trees, errors, setting["n_estimators"], look)
    axes.set_xlabel("trees")
    _finish(axes)
    axes.legend(loc="upper right", title="tried at each split", title_fontsize=8.5)


def _over_depth(axes: Axes, scan: TuningScan) -> None:
    if not scan.depths:
        empty(axes, "no depths were tried")
        return
    for repeat in sorted({score.repeat for score in scan.depths}):
        scores = [score for score in scan.depths if score.repeat == repeat]
        depth, error = [score.max_depth for score in scores], [score.error for score in scores]
        axes.plot(
            depth, error, color=BLUE, lw=1.0, alpha=0.4, marker="o", ms=3, label="repeats" if not repeat else None
        )
    depths, means = scan.mean_by_depth()
    axes.plot(depths, means, color=INK, lw=1.6, ls="--", label="mean")
    _mark(axes, depths, means, scan.chosen["max_depth"], {**_STAR, "label": "the scan's choice"})
    _mark(axes, depths, means, scan.used["max_depth"], {**_RING, "label": "the job's setting"})
    axes.set_xlabel("largest depth")
    axes.xaxis.set_major_locator(FixedLocator(depths.tolist()))
    _finish(axes)
    axes.legend(loc="upper right", markerscale=0.7)


def _mark(axes: Axes, places: np.ndarray, values: np.ndarray, place: int | None, look: dict[str, Any]) -> None:
    at = np.flatnonzero(places == place)
    if len(at):
        axes.plot(places[at], values[at], **look)


def _finish(axes: Axes) -> None:
    axes.set_ylabel("1 − OOB score")
    axes.grid(True, color=GREY, alpha=0.25)
    axes.margins(x=0.06, y=0.12)
    round_ticks(axes.yaxis)


def _features(share: float | None) -> str:
    return "all features" if share is None else f"{share_text(share)} of the features"
