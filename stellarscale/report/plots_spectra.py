"""Spectra with the combination of references that fits them best, and what is left over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stellarscale.report.plots_style import BLUE, GREY, INK, VERMILION, figure, limits, round_ticks, styled

# Features that tell M stars apart, vacuum wavelengths in Angstrom: bands of TiO and CaH, the doublet of sodium.
BANDS = (
    ("TiO", 6160.0, 6240.0),
    ("CaH1", 6382.0, 6392.0),
    ("TiO", 6653.0, 6720.0),
    ("CaH2", 6816.0, 6848.0),
    ("CaH3", 6962.0, 6992.0),
    ("TiO", 7055.0, 7160.0),
    ("TiO", 7592.0, 7700.0),
    ("Na I", 8180.0, 8202.0),
    ("TiO", 8434.0, 8475.0),
)
_WIDTH, _EACH, _TOP, _BOTTOM, _GAP = 11.0, 2.75, 0.42, 0.8, 0.62  # inches
_LEFT, _RIGHT = 0.78, 0.2
_LEAST_SPAN = 0.1  # of the residuals' axis, in units of the median flux


@dataclass(frozen=True, eq=False)
class SpectrumFit:
    """One spectrum and its fit, in any one unit of flux; NaN where a pixel was not compared.

    Attributes
    ----------
    title : str
        Name of the spectrum, its parameters, S/N, chi-square and flags; may hold formulas.
    wave_aa, flux, error, model : ndarray, shape (n_pix,)
        Vacuum wavelengths at rest; flux, its standard error, and the fit.
    """

    title: str
    wave_aa: NDArray[np.float64]
    flux: NDArray[np.float64]
    error: NDArray[np.float64]
    model: NDArray[np.float64]


@styled
def plot_fits(fits: Sequence[SpectrumFit]) -> Figure:
    """Spectra below one another, each with its fit and the residuals, in units of its median flux.

    Parameters
    ----------
    fits : sequence of SpectrumFit
        At least one.
    """
    height = _TOP + _BOTTOM + len(fits) * _EACH + (len(fits) - 1) * _GAP
    drawn = figure(_WIDTH, height)
    for number, fit in enumerate(fits):
        top = height - _TOP - number * (_EACH + _GAP)
        grid = drawn.add_gridspec(
            2, 1, height_ratios=(2.6, 1.0), hspace=0.06, left=_LEFT / _WIDTH, right=1.0 - _RIGHT / _WIDTH,
            bottom=(top - _EACH) / height, top=top / height,
        )  # fmt: skip
        above = drawn.add_subplot(grid[0])
        below = drawn.add_subplot(grid[1], sharex=above)
        _spectrum(above, below, fit)
    handles = [*drawn.axes[0].lines[:2], drawn.axes[1].collections[0]]
    drawn.legend(handles=handles, loc="lower left", ncols=3, borderaxespad=0.1)
    drawn.axes[-1].set_xlabel("vacuum wavelength at rest (Å)")
    drawn.align_ylabels(drawn.axes)
    return drawn


def _spectrum(above: Axes, below: Axes, fit: SpectrumFit) -> None:
    seen = fit.flux[np.isfinite(fit.flux)]
    unit = abs(float(np.median(seen))) if len(seen) else 1.0
    unit = unit or 1.0
    flux, error, model = fit.flux / unit, fit.error / unit, fit.model / unit
    above.plot(fit.wave_aa, flux, color=INK, lw=0.7, label="spectrum")
    above.plot(fit.wave_aa, model, color=VERMILION, lw=1.1, alpha=0.9, label="best combination of references")
    above.set_title(fit.title, fontsize=9)
    above.set_ylabel("flux / median")
    low, high = limits(np.concatenate([flux, model]), cut=0.3)
    above.set_ylim(low, high + 0.12 * (high - low))  # names of the bands, and the legend
    above.tick_params(labelbottom=False)
    residual = flux - model
    below.fill_between(fit.wave_aa, -error, error, color=GREY, alpha=0.35, lw=0, label="± 1σ")
    below.plot(fit.wave_aa, residual, color=BLUE, lw=0.6)
    below.axhline(0.0, color=INK, lw=0.8, ls=":")
    reach = max(-limits(residual, cut=0.3)[0], limits(residual, cut=0.3)[1], _LEAST_SPAN / 2)
    below.set_ylim(-reach, reach)
    below.set_ylabel("residual")
    below.set_xlim(float(fit.wave_aa[0]), float(fit.wave_aa[-1]))
    round_ticks(above.yaxis)
    round_ticks(below.yaxis, bins=3)
    for axes in (above, below):
        axes.grid(True, axis="y")
    _bands(above, below, fit.wave_aa)


def _bands(above: Axes, below: Axes, wave_aa: NDArray) -> None:
    """Shade the molecular bands and lines that the compared wavelengths cover, and name them at the top."""
    for name, low, high in BANDS:
        if low < wave_aa[0] or high > wave_aa[-1]:
            continue
        for axes in (above, below):
            axes.axvspan(low, high, color=GREY, alpha=0.16, lw=0)
        place = (0.5 * (low + high), 0.97)
        above.text(*place, name, transform=above.get_xaxis_transform(), ha="center", va="top", fontsize=7.5)
