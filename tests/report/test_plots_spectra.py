"""Spectra with their fits, the recovery by S/N, and the tables of both."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.report.content import Evaluation
from stellarscale.report.coverage import SNR, SNR_EDGES, coverage_rows
from stellarscale.report.plots_coverage import plot_coverage
from stellarscale.report.plots_snr import plot_by_snr
from stellarscale.report.plots_spectra import SpectrumFit, plot_fits
from stellarscale.report.plots_style import png
from stellarscale.report.tables_spectra import example_table, label_table, snr_table, source_table

PNG = b"\x89PNG\r\n\x1a\n"


def fit(title="star: $T_{\\rm eff}$ 3400 K", scale=50.0, first=6000.0, last=8800.0):
    rng = np.random.default_rng(2)
    wave = np.linspace(first, last, 700)
    model = scale * (wave / 7000) ** 2
    flux = model + rng.normal(0, 0.02 * scale, len(wave))
    flux[100:120] = np.nan
    return SpectrumFit(title, wave, flux, np.full(len(wave), 0.02 * scale), model)


def evaluation(n=6000, **options):
    rng = np.random.default_rng(7)
    snr = 10 ** rng.uniform(0.8, 2.5, n)
    truth = rng.uniform(3100, 4100, n)
    predicted = truth + rng.normal(0, 600 / snr)
    fields = {"error": 600 / snr, "magnitude": snr, "magnitude_name": SNR, "code": (truth > 3500).astype(float)}
    return Evaluation("teff", "teff", "K", "truth", predicted, truth, **(fields | options), kind="truth")


def test_each_spectrum_has_a_panel_and_its_residuals():
    drawn = plot_fits([fit(), fit("other $")])
    assert len(drawn.axes) == 4
    above, below = drawn.axes[:2]
    assert above.get_title(loc="left").startswith("star")
    flux, model = above.lines[0].get_ydata(), above.lines[1].get_ydata()
    assert np.nanmedian(flux) == pytest.approx(1.0)
    assert below.lines[0].get_ydata() == pytest.approx(flux - model, nan_ok=True)
    assert np.isnan(flux[100:120]).all()
    assert {"TiO", "CaH2", "CaH3", "Na I"} <= {text.get_text() for text in above.texts}
    assert png(drawn).startswith(PNG)


def test_only_bands_inside_of_the_wavelengths_are_marked():
    above = plot_fits([fit(first=6700.0, last=7000.0)]).axes[0]
    assert [text.get_text() for text in above.texts] == ["CaH2", "CaH3"]


def test_a_spectrum_without_any_pixel_or_with_zero_flux_is_drawn():
    wave = np.linspace(6000, 6100, 50)
    nothing = SpectrumFit("none", wave, np.full(50, np.nan), np.full(50, np.nan), np.zeros(50))
    zero = SpectrumFit("zero", wave, np.zeros(50), np.ones(50), np.zeros(50))
    assert png(plot_fits([nothing, zero])).startswith(PNG)


def test_errors_by_snr_are_looked_at_in_its_own_steps():
    rows = [row for row in coverage_rows(evaluation(), {0: "cool", 1: "warm"}) if row.low is not None]
    edges = set(SNR_EDGES)
    assert {row.group for row in rows} == {"all", "cool", "warm"}
    assert all(row.low in edges and row.high in edges for row in rows)
    every = {row.low: row for row in rows if row.group == "all"}
    assert every[10].sigma > 2 * every[40].sigma
    assert every[10].coverage_68 == pytest.approx(0.68, abs=0.06)
    within = (evaluation().magnitude >= 10) & (evaluation().magnitude < 15)
    assert every[10].n == within.sum()


def test_recovery_and_coverage_by_snr_have_a_logarithmic_axis():
    rows = [row for row in coverage_rows(evaluation(), {0: "cool", 1: "warm"}) if row.low is not None]
    drawn = plot_by_snr(rows)
    above, below = drawn.axes[:2]
    assert below.get_xscale() == "log"
    assert below.get_xlabel() == SNR
    assert above.lines[0].get_ydata()[0] > above.lines[0].get_ydata()[-1]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["truth, all", "truth, cool", "truth, warm"]
    assert png(drawn).startswith(PNG)
    axes = plot_coverage(rows, SNR).axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == SNR


def test_tables_escape_and_show_what_they_should():
    rows = [row for row in coverage_rows(evaluation()) if row.low is not None]
    assert "10 – 15" in snr_table(rows)
    row = {"spectrum": "a<b", "snr": None, "chi2_reduced": 1.23, "flags": ["BAD_FIT"], "references": [4, 7]}
    html = example_table([row | {"weights": [0.75, 0.25]}])
    assert "a&lt;b" in html
    assert "BAD_FIT" in html
    assert "4: 0.750, 7: 0.250" in html
    lines = [{"label": "teff", "unit": "K", "n": 3, "lowest": 3100.0, "median": None, "highest": 4000.0}]
    assert "3,100" in label_table(lines)
    assert "<small>K</small>" in label_table(lines)
    assert "75.0 %" in source_table({"a & b": 3, "c": 1})
    assert "a &amp; b" in source_table({"a & b": 3, "c": 1})
