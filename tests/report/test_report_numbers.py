"""Figures of merit against numpy, and names and numbers as they are shown."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from stellarscale.report.content import Evaluation, Importance, ReportContent, SkyCounts, StepRow
from stellarscale.report.labels import compact, duration, in_plot, on_page, several, short, with_unit
from stellarscale.report.numbers import numbers_json, pairs, summarise


def evaluation(predicted, truth, **options):
    return Evaluation("fe_h dwarf", "fe_h", "dex", "truth", np.asarray(predicted), np.asarray(truth), **options)


def gaussian(n=40_000, mean=-0.02, sigma=0.1, seed=1):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-2.5, 0.5, n)
    return truth + rng.normal(mean, sigma, n), truth


def test_figures_of_a_gaussian():
    predicted, truth = gaussian()
    figures = summarise(evaluation(predicted, truth, error=np.full(len(truth), 0.1)))
    residual = predicted - truth
    assert figures.n == len(truth)
    assert figures.n_missing == 0
    assert figures.bias == np.median(residual)
    assert figures.robust_sigma == pytest.approx(0.1, rel=0.02)
    assert figures.gaussian_converged
    assert figures.gaussian_mean == pytest.approx(-0.02, abs=0.003)
    assert figures.gaussian_sigma == pytest.approx(0.1, rel=0.02)
    assert figures.rmse == pytest.approx(np.sqrt(np.mean(residual**2)))
    assert figures.outlier_fraction == pytest.approx(0.0027, abs=0.001)
    assert figures.r_squared == pytest.approx(1 - np.mean(residual**2) / np.var(truth))
    assert figures.coverage_68 == pytest.approx(0.67, abs=0.02)


def test_outliers_show_in_rmse_and_fraction_only():
    predicted, truth = gaussian()
    predicted[::50] += 3.0
    figures = summarise(evaluation(predicted, truth))
    assert figures.gaussian_mean == pytest.approx(-0.02, abs=0.003)
    assert figures.gaussian_sigma == pytest.approx(0.1, rel=0.03)
    assert figures.robust_sigma == pytest.approx(0.1, rel=0.05)
    assert figures.rmse > 0.4
    assert figures.outlier_fraction == pytest.approx(0.02, abs=0.004)
    assert figures.coverage_68 is None


def test_missing_members_are_counted_and_left_out():
    predicted = np.array([1.0, np.nan, 3.0, 4.0])
    truth = np.array([0.0, 2.0, np.inf, 3.0])
    figures = summarise(evaluation(predicted, truth, error=np.array([2.0, 1.0, 1.0, np.nan])))
    assert (figures.n, figures.n_missing) == (2, 2)
    assert figures.bias == 1.0
    assert figures.coverage_68 == 1.0
    kept, residual = pairs(evaluation(predicted, truth))
    assert kept.tolist() == [0.0, 3.0]
    assert residual.tolist() == [1.0, 1.0]


def test_float32_does_not_lose_a_small_bias():
    truth = np.full(1000, 5772.0, dtype=np.float32)
    figures = summarise(evaluation((truth + np.float32(0.5)), truth))
    assert figures.bias == pytest.approx(0.5)
    assert math.isnan(figures.r_squared)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_stars_give_figures_and_no_fit(n):
    figures = summarise(evaluation(np.arange(n) + 0.5, np.arange(n, dtype=float)))
    assert figures.n == n
    assert not figures.gaussian_converged
    assert math.isnan(figures.rmse) == (n == 0)


def test_unequal_lengths_name_the_model():
    with pytest.raises(ValueError, match="fe_h dwarf"):
        summarise(evaluation(np.zeros(3), np.zeros(2)))


def test_json_holds_every_figure_and_no_nan():
    predicted, truth = gaussian(500)
    content = ReportContent(
        "run",
        steps=(StepRow("gaia", "import", 1000, 990, 10, 4, 2.0),),
        evaluations=(
            evaluation(predicted, truth, comparisons={"scikit-learn": 0.1}, oob_score=0.9, n_train=2000),
            evaluation([], []),
        ),
        importances=(Importance("fe_h", ("u_0", "v_0"), (0.75, np.float64(0.25))),),
        flag_counts={"BLEND": np.int64(3)},
        sky=SkyCounts(0, np.array([3, 4]), np.array([5, 6])),
    )
    read = json.loads(json.dumps(numbers_json(content), allow_nan=False))
    assert read["rows"] == 11
    assert read["steps"][0]["rows_per_second"] == 500.0
    assert read["steps"][0]["rejected"] == 10
    assert read["evaluations"][0]["n"] == 500
    assert read["evaluations"][0]["comparisons"] == {"scikit-learn": 0.1}
    assert read["evaluations"][0]["robust_sigma"] == pytest.approx(summarise(content.evaluations[0]).robust_sigma)
    assert read["evaluations"][1]["rmse"] is None
    assert read["importances"] == {"fe_h": {"u_0": 0.75, "v_0": 0.25}}
    assert read["flag_counts"] == {"BLEND": 3}


def test_rows_of_the_catalogue():
    assert ReportContent("run").rows is None
    assert ReportContent("run", steps=(StepRow("a", "b", 2, 1),)).rows == 1
    assert ReportContent("run", steps=(StepRow("a", "b", 2, 1),), rows_total=7).rows == 7


def test_the_rate_is_not_made_up():
    assert StepRow("a", "b", 10, 10, seconds=2.0).rate == 5.0
    assert StepRow("a", "b", 10, 10, seconds=2.0, resumed_partitions=1).rate is None
    assert StepRow("a", "b", 10, 10).rate is None
    assert StepRow("a", "b", 10, 10, rows_per_second=3.0).rate == 3.0


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0902, "0.0902"),
        (-0.01549, "−0.0155"),
        (71.34, "71.3"),
        (5772.3, "5,772"),
        (0.0, "0"),
        (None, "–"),
        (math.nan, "–"),
        (3.21e-7, "3.21e−07"),
    ],
)
def test_short(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    "value, text", [(0, "0"), (950, "950"), (12_345, "12.3k"), (999_990, "1M"), (21_071_305, "21.1M")]
)
def test_compact(value, text):
    assert compact(value) == text


@pytest.mark.parametrize(
    "seconds, text", [(0.01, "10 ms"), (0.5, "0.5 s"), (95.34, "95.3 s"), (600, "10.0 min"), (9000, "2.5 h")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_names():
    assert in_plot("bp_rp_0") == r"$(G_{\rm BP}-G_{\rm RP})_0$"
    assert in_plot("m_g_0") == "$M_{G,0}$"
    assert in_plot("u_0") == "$u_0$"
    assert (in_plot("g_mag"), in_plot("gaia_g_mag"), in_plot("smss_g_mag")) == ("$G$", "$G$", "SkyMapper $g$")
    assert in_plot("cost$") == r"cost\$"
    assert with_unit("teff", "K") == r"$T_{\rm eff}$ (K)"
    assert with_unit("m_h", "") == "[M/H]"
    assert on_page("<script>") == "&lt;script&gt;"
    assert several(1, "star") == "1 star"
    assert several(2000, "star") == "2,000 stars"
