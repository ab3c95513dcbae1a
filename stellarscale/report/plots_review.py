"""One spectrum under review, drawn over those that it should look like (paper II, section 2.4)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stellarscale.report.labels import literal
from stellarscale.report.plots_style import GREY, INK, VERMILION, Room, figure, limits, styled

_LEAST_SPAN = 0.3  # of the lower panel, in units of the median flux


@styled
def plot_review(
    wave_aa: NDArray, flux: NDArray, companions: NDArray, *, title: str, reason: str, others: str
) -> Figure:
    """The spectrum over its companions, and below the difference from their median.

    Parameters
    ----------
    wave_aa : ndarray, shape (n_pix,)
    flux : ndarray, shape (n_pix,)
        Unit median flux; NaN where a pixel carries no information: the line breaks there.
    companions : ndarray, shape (m, n_pix)
        The spectra to compare with, in the same form; there may be none.
    title, reason, others : str
        Which spectrum, why it is looked at, and what the companions are.
    """
    drawn = figure(11.0, 4.6)
    room = Room(left=0.72, right=0.2, bottom=0.52, top=0.62)
    grid = drawn.add_gridspec(
        2, 1, height_ratios=(3.0, 1.0), hspace=0.08, left=room.left / 11.0, right=1.0 - room.right / 11.0,
        bottom=room.bottom / 4.6, top=1.0 - room.top / 4.6,
    )  # fmt: skip
    top, below = drawn.add_subplot(grid[0]), drawn.add_subplot(grid[1])
    for number, companion in enumerate(companions):
        label = f"{others} ({len(companions)})" if number == 0 else None
        top.plot(wave_aa, companion, color=GREY, lw=0.6, alpha=0.7, label=label)
    top.plot(wave_aa, flux, color=VERMILION, lw=0.8, label="this spectrum")
    low, high = limits(np.concatenate([flux, companions.ravel()]), cut=0.5)
    top.set_ylim(min(low, 0.0), high)
    top.set_title(f"{literal(title)}\n{literal(reason)}", fontsize=9.5)
    top.set_ylabel("flux / median")
    top.legend(loc="upper left", ncols=2)
    top.set_xticklabels([])
    below.axhline(0.0, color=INK, lw=0.8, ls=":")
    below.set_ylabel("difference")
    if len(companions):
        difference = flux - _middle(companions)
        below.plot(wave_aa, difference, color=VERMILION, lw=0.6)
        below.set_ylim(*limits(difference, cut=0.5, least=_LEAST_SPAN))
    else:
        below.text(0.5, 0.5, "nothing to compare with", transform=below.transAxes, ha="center", color=GREY)
        below.set_yticks([])
    for axes in (top, below):
        axes.set_xlim(float(wave_aa[0]), float(wave_aa[-1]))
        axes.grid(True)
    below.set_xlabel("vacuum wavelength (Å)")
    drawn.align_ylabels([top, below])
    return drawn


def _middle(companions: NDArray) -> NDArray[np.float64]:
    """Median of the companions in each pixel; NaN where none has it."""
    result = np.full(companions.shape[1], np.nan)
    seen = np.isfinite(companions).any(axis=0)
    result[seen] = np.nanmedian(companions[:, seen], axis=0)
    return result
