"""Plots of repeat observations draw for many and for few spectra."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.kernels.repeats import deviations, fit_repeats
from stellarscale.report.plots_repeats import describe, plot_deviations, plot_error_against_snr
from stellarscale.report.plots_style import png

NAMES = ("teff", "logg", "m_h")


def repeats(n_stars):
    rng = np.random.default_rng(1)
    star = np.repeat(np.arange(n_stars), 4)
    snr = rng.uniform(10, 80, len(star))
    return (
        rng.normal(size=(len(star), 3)) * np.hypot([40, 0.05, 0.08], np.array([800, 1.2, 2]) / snr[:, None]),
        snr,
        star,
    )


@pytest.mark.parametrize("n_stars", [10, 2000])
def test_plots_draw(n_stars):
    drawn = plot_deviations(deviations(*repeats(n_stars)), NAMES)
    assert len(drawn.axes) == 3
    assert "(K)" in drawn.axes[0].get_xlabel()
    assert png(drawn, 40).startswith(b"\x89PNG")
    errors = fit_repeats(*repeats(n_stars))
    curves = plot_error_against_snr(errors)
    assert all(axes.get_ylim()[0] == 0 for axes in curves.axes)
    assert png(curves, 40).startswith(b"\x89PNG")
    assert f"{4 * n_stars:,} spectra of {n_stars:,} stars" in describe(errors)
