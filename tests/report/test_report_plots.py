"""Plots: axes run as astronomers read them, tiny inputs draw, the same input gives the same bytes."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pyarrow as pa
import pytest

from stellarscale.kernels.healpix import pixel_centre, pixel_of
from stellarscale.report.content import Evaluation, Importance, SkyCounts, StepRow
from stellarscale.report.numbers import trend_of
from stellarscale.report.plots import plot_catalog, star_figures
from stellarscale.report.plots_models import has_trend, plot_importances, plot_trends
from stellarscale.report.plots_residuals import plot_residuals
from stellarscale.report.plots_run import plot_steps
from stellarscale.report.plots_sky import _density_at, _footprint, plot_sky
from stellarscale.report.plots_stars import column_values, plot_colour_magnitude, plot_kiel, plot_parameters
from stellarscale.report.plots_style import binned_median, limits, png

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = {0: "giant", 1: "dwarf"}


def sample(n, seed=1):
    rng = np.random.default_rng(seed)
    blank = rng.random(n) < 0.1
    return pa.table(
        {
            "teff": pa.array(rng.normal(5500, 600, n).astype(np.float32), mask=blank),
            "logg": pa.array(rng.normal(4.0, 0.7, n).astype(np.float32), mask=blank),
            "fe_h": pa.array(rng.normal(-0.5, 0.4, n).astype(np.float32), mask=blank),
            "bp_rp_0": rng.normal(0.9, 0.3, n).astype(np.float32),
            "m_g_0": rng.normal(4, 2, n).astype(np.float32),
            "class": pa.array((rng.random(n) < 0.8).astype(np.int8), mask=rng.random(n) < 0.05),
        }
    )


def evaluation(n, label="fe_h", model="fe_h dwarf"):
    rng = np.random.default_rng(n)
    truth = rng.uniform(-2, 0.5, n)
    return Evaluation(model, label, "dex", "truth", truth + rng.normal(0, 0.1, n), truth)


@pytest.mark.parametrize("n", [0, 1, 3, 400, 3000])
def test_kiel_runs_hot_to_the_left_and_giants_up(n):
    drawn = plot_kiel(sample(n))
    axes = drawn.axes[0]
    if n:
        assert axes.xaxis_inverted()
        assert axes.yaxis_inverted()
    assert axes.get_xlabel().endswith("(K)")
    assert axes.get_ylabel().endswith("(dex)")
    assert png(drawn, 40).startswith(PNG)


def test_kiel_without_metallicity_has_one_panel():
    assert len(plot_kiel(sample(50).drop_columns(["fe_h"])).axes) == 1


@pytest.mark.parametrize("n", [0, 1, 400, 3000])
def test_colour_magnitude_runs_bright_up_and_names_the_classes(n):
    drawn = plot_colour_magnitude(sample(n), "bp_rp_0", "m_g_0", NAMES)
    assert drawn.axes[0].get_ylabel().endswith("(mag)")
    assert png(drawn, 40).startswith(PNG)
    if n >= 400:
        assert drawn.axes[0].yaxis_inverted()
        assert not drawn.axes[0].xaxis_inverted()
        shown = [text.get_text() for text in drawn.legends[0].get_texts()]
        assert len(shown) == 3
        assert shown[0].startswith("dwarf")
        assert any(text.startswith("no class") for text in shown)


def test_parameters_with_one_all_null():
    stars = sample(200).set_column(1, "logg", pa.nulls(200, pa.float32()))
    drawn = plot_parameters(stars, NAMES)
    assert png(drawn, 40).startswith(PNG)
    assert any("no star" in text.get_text() for text in drawn.axes[1].texts)


def test_nulls_become_nan():
    assert np.isnan(column_values(pa.table({"a": pa.array([1, None], pa.int8())}), "a")).tolist() == [
        False,
        True,
    ]


def test_sky_density_is_looked_up_by_pixel():
    ipix = np.array([700, 3, 41], dtype=np.int64)
    sky = SkyCounts(3, ipix, np.array([10, 20, 30]))
    ra, dec = pixel_centre(3, ipix)
    area = 41252.96 / 768
    np.testing.assert_allclose(_density_at(sky, ra, dec) * area, [10, 20, 30], rtol=1e-4)
    elsewhere = np.setdiff1d(np.arange(768), ipix)
    assert np.isnan(_density_at(sky, *pixel_centre(3, elsewhere))).all()


def test_the_footprint_knows_the_wrap_of_right_ascension():
    ra = np.concatenate([np.linspace(356, 359.9, 40), np.linspace(0, 4, 40)])
    pixels, counts = np.unique(pixel_of(ra, np.full(80, 20.0), 8), return_counts=True)
    centre, dec, width, height = _footprint(SkyCounts(8, pixels, counts))
    assert min(centre, 360 - centre) < 0.5
    assert dec == pytest.approx(20, abs=0.3)
    assert 7 < width < 9
    assert height < 1


@pytest.mark.parametrize("where", ["nothing", "one pixel", "pole", "all"])
def test_sky_draws(where):
    pixels = {
        "nothing": np.empty(0, np.int64),
        "one pixel": np.array([100]),
        "pole": pixel_of(np.arange(0.0, 360, 30), np.full(12, 89.0), 6),
        "all": np.arange(192),
    }[where]
    drawn = plot_sky(SkyCounts(2 if where == "all" else 6, pixels, np.ones(len(pixels), np.int64)), title="Map")
    maps = [axes for axes in drawn.axes if axes.name in ("mollweide", "rectilinear")]
    assert maps[0].name == "mollweide"
    assert len(maps) == (2 if where in ("one pixel", "pole") else 1)
    assert png(drawn, 30).startswith(PNG)


@pytest.mark.parametrize("n", [0, 1, 3, 200, 5000])
def test_residual_panels(n):
    drawn = plot_residuals(evaluation(n))
    assert png(drawn, 40).startswith(PNG)
    words = " ".join(text.get_text() for text in drawn.axes[1].texts)
    assert {0: "no star", 1: "n = 1", 3: "no Gaussian", 200: "fit σ", 5000: "n = 5,000"}[n] in words


def test_residuals_that_are_all_equal():
    truth = np.linspace(0, 1, 100)
    assert png(plot_residuals(Evaluation("m", "logg", "", "truth", truth, truth)), 40).startswith(PNG)


def test_trend_follows_a_slope():
    truth = np.linspace(0, 10, 5000)
    trend = trend_of(truth, 0.1 * truth)
    assert trend is not None
    np.testing.assert_allclose(trend.bias, 0.1 * trend.centres, atol=0.01)
    assert trend_of(truth[:20], truth[:20]) is None
    assert has_trend(evaluation(500))
    assert not has_trend(evaluation(20))


def test_trends_have_a_column_per_label():
    drawn = plot_trends([evaluation(500), evaluation(500, model="fe_h giant"), evaluation(3, "logg", "logg")])
    assert len(drawn.axes) == 4
    assert len(drawn.axes[0].lines) == 2
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["truth"]
    assert png(plot_trends([]), 40).startswith(PNG)


def test_trends_tell_samples_by_colour_and_classes_by_marker():
    chosen = [
        replace(evaluation(500), against=against, group=group) for against in ("a", "b") for group in ("dwarf", "giant")
    ]
    lines = plot_trends(chosen).axes[0].lines
    assert len({line.get_color() for line in lines}) == 2
    assert len({line.get_marker() for line in lines}) == 2
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 4


def test_importances_show_the_largest_on_top_and_at_most_twenty():
    names = tuple(f"f{i}" for i in range(30))
    drawn = plot_importances([Importance("many", names, tuple(i / 435 for i in range(30))), Importance("none", (), ())])
    axes = drawn.axes[0]
    ticks = [text.get_text() for text in axes.get_yticklabels()]
    assert ticks == [f"f{i}" for i in range(29, 9, -1)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert png(drawn, 40).startswith(PNG)
    assert png(plot_importances([]), 40).startswith(PNG)


@pytest.mark.parametrize(
    "steps", [(), (StepRow("a$b", "import", 0, 0),), (StepRow("gaia", "import", 9, 8, 1, 1, 0.5),)]
)
def test_steps_draw(steps):
    assert png(plot_steps(steps), 40).startswith(PNG)


def test_limits_leave_outliers_out_and_keep_small_samples_whole():
    x = np.random.default_rng(3).normal(0, 1, 10_000)
    x[0] = 1e9
    assert limits(x)[1] < 5
    assert limits(np.array([1.0, 2.0, 50.0]))[1] > 50
    assert limits(np.array([])) == (0.0, 1.0)
    low, high = limits(np.array([5.0]))
    assert low < 5 < high


def test_medians_per_cell_are_those_of_a_loop():
    rng = np.random.default_rng(8)
    x, y, values = rng.uniform(-0.2, 1.2, (3, 900))
    fast = binned_median(x, y, values, (0.0, 1.0, 0.0, 1.0), (7, 5))
    for row in range(5):
        for column in range(7):
            inside = (np.floor(x * 7) == column) & (np.floor(y * 5) == row)
            slow = np.median(values[inside]) if inside.any() else np.nan
            np.testing.assert_allclose(fast[row, column], slow)


def test_same_input_same_bytes_and_settings_left_alone():
    before = dict(matplotlib.rcParams)
    first, second = (png(plot_kiel(sample(3000)), 60) for _ in range(2))
    assert first == second
    assert dict(matplotlib.rcParams) == before


def test_plots_of_a_catalogue(tmp_path):
    sky = SkyCounts(0, np.arange(12), np.arange(1, 13))
    written = plot_catalog(sample(300), sky, tmp_path / "plots", class_names=NAMES)
    assert [path.name for path in written] == [
        "sky.png",
        "kiel.png",
        "colour_magnitude.png",
        "parameters.png",
    ]
    assert all(path.read_bytes().startswith(PNG) for path in written)
    assert plot_catalog(pa.table({"ra": [1.0]}), None, tmp_path / "none") == []


def test_only_figures_with_their_columns():
    chosen = star_figures(sample(10).select(["teff", "logg"]), colour_column="bp_rp_0", absolute_column="m_g_0")
    assert set(chosen) == {"kiel", "parameters"}
