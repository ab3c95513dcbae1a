"""Plots, tables and sections of a report on images: their numbers, and that they draw whatever they are given."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.report.content import Evaluation
from stellarscale.report.image_numbers import (
    SUN_HEIGHT_KPC,
    SUN_RADIUS_KPC,
    density_at,
    galactocentric,
    kernel_density,
    quadratic_band,
    smooth_counts,
)
from stellarscale.report.image_sections import (
    comparison_section,
    gallery_section,
    map_section,
    residual_section,
    sample_section,
    training_section,
    uncertainty_section,
    value_line,
)
from stellarscale.report.plots_image_maps import plot_galaxy, plot_kiel_bins
from stellarscale.report.plots_image_stars import GalleryStar, plot_gallery, plot_parallaxes, plot_splits
from stellarscale.report.plots_images import (
    POINTS,
    TrainingCurve,
    Uncertainty,
    plot_label_panels,
    plot_training_curves,
    plot_uncertainties,
)
from stellarscale.report.plots_style import png
from stellarscale.report.sections import extra
from stellarscale.report.tables_images import comparison_rows, groups_in, table_rows

PNG = b"\x89PNG\r\n\x1a\n"
UNITS = {"teff": "K", "logg": "dex", "fe_h": "dex"}


def population(n=500, seed=1):
    rng = np.random.default_rng(seed)
    giant = rng.random(n) < 0.3
    teff = np.where(giant, rng.normal(4800, 150, n), rng.normal(5800, 400, n))
    logg = np.where(giant, 2.4, 4.3) + rng.normal(0, 0.1, n)
    return {"teff": teff, "logg": logg, "fe_h": rng.normal(-0.3, 0.4, n)}


def evaluation(label="teff", n=500, scatter=80.0, seed=1):
    truth = population(n)[label]
    predicted = truth + np.random.default_rng(seed).normal(0, scatter, n)
    return Evaluation(f"network {label}", label, UNITS[label], "held-out labels", predicted, truth)


def record(method, label, parallax, sigma, algorithm="network", features="image", **more):
    groups = {
        name: {"n": n, "bias": 0.0, "sigma": sigma, "std": 1.2 * sigma} for name, n in (("all", 100), ("low", 20))
    }
    about = {"label": label, "algorithm": algorithm, "features": features, "parallax": parallax}
    return {**about, "model": label, "method": method, "groups": groups, **more}


SEARCH = {
    "params": {"depth": 6, "rate": 0.1},
    "search_rmse": 91.0,
    "search_history": [1.0],
    "n_train": 9,
    "fit_seconds": 1.0,
}
RECORDS = [
    record("ACF", "teff", True, 80.0),
    record("ACPF", "teff", False, 100.0),
    record("catboost_both", "teff", True, 90.0, "catboost", "both", **SEARCH),
    record("catboost_both", "teff", False, 95.0, "catboost", "both", **SEARCH),
]


def test_the_smoothed_density_keeps_the_stars_and_peaks_where_they_are():
    rng = np.random.default_rng(2)
    x, y = rng.normal(1, 0.1, 4000), rng.normal(2, 0.1, 4000)
    extent = (0.0, 2.0, 1.0, 3.0)
    counts = smooth_counts(x, y, extent)
    assert counts.sum() == pytest.approx(4000, rel=1e-3)
    found = density_at(counts, np.array([1.0, 1.2, 5.0]), np.array([2.0, 2.0, 2.0]), extent)
    assert found[0] > 0.8
    # Two sigmas out, widened by the smoothing of two cells of 1/80.
    assert found[1] == pytest.approx(np.exp(-0.5 * 0.04 / (0.01 + 0.025**2)), abs=0.05)
    assert found[2] == 0.0


def test_the_kernel_density_is_normalised_and_of_the_right_width():
    values = np.random.default_rng(3).normal(0.5, 2.0, 20_000)
    place, density = kernel_density(values, -12, 12)
    step = place[1] - place[0]
    assert density.sum() * step == pytest.approx(1.0, abs=1e-3)
    assert (density * place).sum() * step == pytest.approx(0.5, abs=0.05)
    assert density.max() == pytest.approx(1 / (2.0 * np.sqrt(2 * np.pi)), rel=0.05)
    assert np.isfinite(kernel_density(np.zeros(5), -1, 1)[1]).all()


def test_the_quadratic_is_the_least_squares_one_and_its_band_covers():
    rng = np.random.default_rng(4)
    x = rng.uniform(4000, 8000, 60)

    def truth(at):
        return 30 + 4e-5 * (at - 5500) ** 2

    inside = 0
    for _ in range(300):
        found = quadratic_band(x, truth(x) + rng.normal(0, 5, len(x)), points=3)
        inside += int(abs(found.y[1] - truth(found.x[1])) <= found.half_width[1])
    assert 0.92 <= inside / 300 <= 0.98
    exact = quadratic_band(x, truth(x))
    np.testing.assert_allclose(exact.y, truth(exact.x), rtol=1e-9)
    assert quadratic_band(x[:3], x[:3]) is None
    assert quadratic_band(np.repeat([1.0, 2.0], 5), np.arange(10.0)) is None


def test_places_in_the_galaxy():
    radius, height = galactocentric(
        np.array([0.0, 180.0, 90.0, 0.0, 0.0]),
        np.array([0.0, 0.0, 0.0, 90.0, 0.0]),
        np.array([1.0, 1.0, 1.0, 0.5, -0.1]),
    )
    np.testing.assert_allclose(
        radius[:4], [SUN_RADIUS_KPC - 1, SUN_RADIUS_KPC + 1, np.hypot(SUN_RADIUS_KPC, 1), SUN_RADIUS_KPC]
    )
    np.testing.assert_allclose(height[:4], SUN_HEIGHT_KPC + np.array([0, 0, 0, 2.0]), atol=1e-12)
    assert np.isnan([radius[4], height[4]]).all()


def test_a_column_of_panels_per_label_with_its_figures():
    given = [evaluation("teff"), evaluation("logg", scatter=0.1), evaluation("fe_h", scatter=0.1)]
    drawn = plot_label_panels(given)
    titled = [axes for axes in drawn.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in titled] == ["network teff", "network logg", "network fe_h"]
    residual = given[0].predicted - given[0].truth
    told = titled[0].texts[0].get_text()
    assert f"n = {len(residual)}" in told
    assert f"std {np.std(residual):.1f}" in told
    assert png(drawn).startswith(PNG)


def test_figures_have_the_decimals_that_the_scatter_needs():
    truth = np.linspace(0, 1, 101)
    shifted = Evaluation("x", "logg", "dex", "labels", truth + np.linspace(-0.5, 0.5, 101) - 1e-6, truth)
    told = plot_label_panels([shifted]).axes[0].texts[0].get_text().splitlines()
    assert told == ["n = 101   median 0.000", "robust σ 0.371   std 0.292"]


@pytest.mark.parametrize("n", [0, 1, 3, POINTS + 500])
def test_panels_of_no_few_and_very_many_stars(n):
    drawn = plot_label_panels([evaluation(n=n)])
    assert png(drawn).startswith(PNG)
    images = [image for axes in drawn.axes for image in axes.images]
    assert bool(images) == (n > POINTS)


def test_uncertainty_with_its_parabola():
    stars = population()
    shown = [Uncertainty(name, UNITS[name], values, 0.1 + 0.01 * np.abs(values)) for name, values in stars.items()]
    shown[1].uncertainty[:3] = np.nan
    drawn = plot_uncertainties(shown)
    labels = [line.get_label() for line in drawn.axes[0].lines]
    assert "second-order polynomial" in labels
    assert png(plot_uncertainties([Uncertainty("teff", "K", np.full(3, np.nan), np.ones(3))])).startswith(PNG)
    section = uncertainty_section({"standard deviation": shown})
    assert section.numbers["standard deviation"]["logg"]["n"] == 497
    assert uncertainty_section({"none": []}) is None


def test_stars_with_one_error_are_points_that_no_line_hides():
    stars = population()["teff"]
    flat = Uncertainty("teff", "K", stars, np.linspace(300.3, 300.5, len(stars)))
    (line,) = plot_uncertainties([flat]).axes[0].lines
    assert (line.get_marker(), line.get_linestyle()) == ("o", "None")
    assert len(line.get_xdata()) == len(stars)


def test_figures_stand_above_the_axes():
    axes = plot_label_panels([evaluation()]).axes[0]
    axes.figure.canvas.draw()
    figures, title = axes.texts[0].get_window_extent(), axes._left_title.get_window_extent()
    assert axes.get_window_extent().y1 < figures.y0
    assert figures.y1 < title.y0
    assert title.y1 < axes.figure.bbox.y1


def test_training_curves_of_records():
    records = [{"epoch": n, "loss": 1.0 / n, "validation_loss": None if n == 2 else 1.2 / n} for n in range(1, 41)]
    curve = TrainingCurve.of("teff", records, 10)
    assert np.isnan(curve.validation[1])
    drawn = plot_training_curves([curve, TrainingCurve.of("logg", [])])
    assert drawn.axes[0].get_yscale() == "log"
    assert "least: 0.0300 at 40" in [line.get_label() for line in drawn.axes[0].lines]
    assert plot_training_curves([TrainingCurve.of("x", records[30:])]).axes[0].get_yscale() == "linear"
    look = {"epoch": 10, "labels": {"teff": {"n": 50, "bias": 1.0, "sigma": 90.0, "mean_predictor_sigma": 500.0}}}
    section = training_section([curve], {"teff": look})
    assert "Early look" in section.html
    assert "500" in section.html
    assert section.numbers["curves"]["teff"]["epochs"] == 40
    assert training_section([], {}) is None


def test_bins_of_the_kiel_diagram_are_25_k_and_a_twenty_fifth_of_a_dex():
    stars = population(3000)
    drawn = plot_kiel_bins(stars["teff"], stars["logg"], stars["fe_h"] - 3)
    counts, metals = drawn.axes[0].images[0], drawn.axes[1].images[0]
    left, right, low, high = counts.get_extent()
    rows, columns = counts.get_array().shape
    assert (right - left) / columns == pytest.approx(25.0)
    assert (high - low) / rows == pytest.approx(0.04)
    assert metals.norm.vmin == -2.0
    assert drawn.axes[0].get_xlim()[0] > drawn.axes[0].get_xlim()[1]
    assert png(plot_kiel_bins(*(np.full(3, np.nan),) * 3)).startswith(PNG)
    assert png(plot_galaxy(*(np.full(3, np.nan),) * 3)).startswith(PNG)


def test_the_section_of_maps():
    stars, rng = population(3000), np.random.default_rng(5)
    place = rng.uniform(0, 360, 3000), rng.uniform(-90, 90, 3000), rng.uniform(0.2, 3, 3000)
    section = map_section(stars, *place)
    assert len(section.figures) == 2
    assert section.numbers == {"stars": 3000}
    assert len(map_section({"fe_h": stars["fe_h"]}, *place).figures) == 1
    assert map_section({"teff": stars["teff"]}, *place) is None
    assert "⊙" in extra(section, 60)


def test_splits_and_parallaxes():
    stars = population()
    split = np.arange(500) % 3
    parallax = np.random.default_rng(6).normal(1.0, 0.6, 500)
    section = sample_section(stars, parallax, split, UNITS)
    assert section.numbers == {"training": 167, "validation": 167, "test": 166}
    drawn = plot_splits(stars, split, UNITS)
    assert [axes.get_ylabel() for axes in drawn.axes] == [r"$\log\,g$ (dex)", "[Fe/H] (dex)"]
    assert drawn.axes[0].yaxis_inverted()
    legend = plot_parallaxes(parallax, split).axes[0].get_legend()
    assert legend.get_title().get_text() == f"not above 0: {(parallax <= 0).sum()}"
    assert png(plot_splits({"teff": stars["teff"]}, split, UNITS)).startswith(PNG)
    assert png(plot_parallaxes(np.full(5, np.nan), split[:5])).startswith(PNG)


def test_the_gallery_shows_what_is_missing():
    stamp = np.random.default_rng(7).normal(0, 1, (3, 16, 16)).astype(np.float16)
    stamp[0] = np.nan
    stamp[1, :, :4] = np.nan
    star = GalleryStar("123 <$>", stamp, ["line"], ["INCOMPLETE_BANDS"])
    drawn = plot_gallery([star], "gri")
    assert [len(axes.images) for axes in drawn.axes] == [0, 1, 1]
    assert drawn.axes[1].images[0].get_array().mask.sum() == 64
    assert png(drawn).startswith(PNG)
    section = gallery_section([star] * 7, "gri")
    assert len(section.figures) == 2
    assert "<$>" not in extra(section, 60)
    assert gallery_section([], "gri") is None


def test_lines_of_the_gallery():
    assert value_line("teff", "K", 5012.4, 84.6, 5100.0) == r"$T_{\rm eff}$ 5,012 ± 85 K (label 5,100)"
    assert value_line("fe_h", "dex", -0.314, None) == "[Fe/H] −0.31 dex"
    assert value_line("logg", "dex", np.nan, 0.1) == r"$\log\,g$ unknown"


def test_the_best_bias_is_the_one_nearest_to_zero():
    far, near = record("ACF", "teff", True, 80.0), record("catboost_both", "teff", True, 90.0, "catboost", "both")
    far["groups"]["all"]["bias"], near["groups"]["all"]["bias"] = -20.0, 3.0
    html = comparison_rows([far, near], "all", "bias")
    assert "<b>3.00</b>" in html
    assert html.count("<b>") == 1


def test_rows_of_the_table_are_methods():
    rows = table_rows(RECORDS, "all")
    assert [row["method"] for row in rows] == ["ACF", "ACPF", "CatBoost_mag&color"]
    assert rows[0]["teff_sigma_with"] == 80.0
    assert "teff_sigma_without" not in rows[0]
    assert rows[2]["teff_sigma_without"] == 95.0
    html = comparison_rows(RECORDS, "all")
    assert "<b>80.0</b>" in html
    assert "<b>95.0</b>" in html
    assert "100 held-out stars" in html
    assert '<th scope="col">Teff<small>with parallax</small></th>' in html


def test_groups_that_are_the_whole_or_empty_have_no_table():
    assert groups_in(RECORDS) == ["all", "low"]
    same = [{**each, "groups": {**each["groups"], "high": each["groups"]["all"], "near": {"n": 0}}} for each in RECORDS]
    assert groups_in(same) == ["all", "low"]


def test_failures_and_hyper_parameters_are_shown():
    failed = {**{k: v for k, v in RECORDS[2].items() if k not in {"groups", *SEARCH}}, "failed": "no <package>"}
    section = comparison_section([*RECORDS[:2], failed, RECORDS[3]])
    assert "no &lt;package&gt;" in section.html
    assert "depth 6, rate 0.100" in section.html
    assert comparison_section([]) is None


def test_the_section_of_residuals():
    section = residual_section({"ACF": [evaluation()], "ACPF": []})
    assert len(section.figures) == 1
    assert section.numbers["ACF"]["teff"]["n"] == 500
    assert residual_section({}) is None
