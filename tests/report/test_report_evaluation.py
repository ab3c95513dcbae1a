"""Coverage, flagged stars, clusters, classes and samples: their numbers, plots and sections of the page."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from stellarscale.report.content import (
    ClassHistograms,
    ClusterResult,
    Evaluation,
    ExtraSection,
    ReportContent,
    SampleStars,
)
from stellarscale.report.coverage import coverage_rows, novelty_row, share_range
from stellarscale.report.numbers import class_rows, cluster_row, numbers_json, sample_rows, summarise, trend_rows
from stellarscale.report.page import render
from stellarscale.report.plots_clusters import plot_cluster
from stellarscale.report.plots_coverage import has_coverage, plot_coverage
from stellarscale.report.plots_samples import plot_class_histograms, plot_sample
from stellarscale.report.plots_style import figure, png
from stellarscale.report.tables_evaluation import role_table

NAMES = {0: "giant", 1: "dwarf"}
PNG = b"\x89PNG\r\n\x1a\n"


def evaluation(n=4000, seed=1, **options):
    """Honest errors that grow with magnitude; one star in twenty flagged, with three times the scatter."""
    rng = np.random.default_rng(seed)
    magnitude = rng.uniform(11, 17, n)
    error, novel = 0.05 * (magnitude - 9), rng.random(n) < 0.05
    truth = rng.uniform(-2, 0.5, n)
    predicted = truth + rng.normal(0, error * np.where(novel, 3, 1))
    fields = {"error": error, "error95": 1.96 * error, "magnitude": magnitude, "magnitude_name": "g_0", "novel": novel}
    fields |= {"against": "held-out labels", "predicted": predicted, "truth": truth}
    return Evaluation("fe_h dwarf", "fe_h", "dex", **(fields | options))


def cluster(n=60, status="measured"):
    rng = np.random.default_rng(3)
    return ClusterResult(
        name="NGC $1$",
        label="fe_h",
        literature=-1.5,
        reference="Somebody 2010",
        status=status,
        counts={"in_cone": 300, "used": n},
        values=rng.normal(-1.45, 0.1, n),
        motion=rng.normal(0, 3, (200, 2)),
        members=np.arange(200) < n,
        cmd=np.stack([rng.normal(1, 0.1, n), rng.uniform(12, 16, n), np.ones(n)], axis=1),
    )


def histograms():
    return ClassHistograms(
        label="fe_h",
        unit="",
        names=("all stars", "giant"),
        edges=np.linspace(-2, 1, 4),
        counts=np.array([[1, 5, 4], [0, 0, 0]]),
        total=np.array([10, 0]),
        limits=(0.0, -1.0),
        below=np.array([[6, 1], [0, 0]]),
    )


def sample(n=500, diagram=True):
    rng = np.random.default_rng(4)
    kinds = (("apogee", "test:apogee"), ("lamost", "held_out"), ("lamost", "train"))
    kind = rng.choice(3, n, p=[0.1, 0.2, 0.7]) if n else np.empty(0, np.int64)
    colour, absolute = (rng.normal(0.9, 0.1, n), rng.normal(5, 1, n)) if diagram else (None, None)
    return SampleStars("fe_h dwarf", "fe_h", "", rng.normal(-0.5, 0.3, n), kinds, kind, colour, absolute)


def test_coverage_by_magnitude_is_that_of_a_loop():
    each = evaluation()
    rows = coverage_rows(each)
    assert (rows[0].low, rows[0].n) == (None, 4000)
    residual = each.predicted - each.truth
    assert [(row.low, row.high) for row in rows[1:]] == [(float(m), float(m + 1)) for m in range(11, 17)]
    for row in rows[1:]:
        inside = (each.magnitude >= row.low) & (each.magnitude < row.high)
        assert row.n == inside.sum()
        assert row.bias == np.median(residual[inside])
        assert row.coverage_68 == np.mean(np.abs(residual[inside]) <= each.error[inside])
        assert row.coverage_95 == np.mean(np.abs(residual[inside]) <= each.error95[inside])


def test_classes_come_after_all_stars_and_small_groups_not_at_all():
    code = np.where(np.arange(4000) < 10, 0.0, 1.0)
    groups = {row.group for row in coverage_rows(evaluation(code=code), NAMES)}
    assert groups == {"all", "dwarf"}


def test_missing_values_and_errors_are_no_misses():
    each = evaluation()
    holes = np.arange(4000) % 3 == 0
    lost = replace(
        each, error=np.where(holes, np.nan, each.error), truth=np.where(np.arange(4000) < 100, np.nan, each.truth)
    )
    row = coverage_rows(lost)[0]
    assert row.n == 3900
    assert row.coverage_68 == pytest.approx(0.66, abs=0.03)
    assert coverage_rows(replace(each, error=None, error95=None))[0].coverage_68 is None
    assert summarise(lost).coverage_68 == row.coverage_68


def test_flagged_stars_stand_beside_the_others():
    row = novelty_row(evaluation())
    assert row.n_inside + row.n_flagged == 4000
    assert row.sigma_flagged > 2 * row.sigma_inside
    assert row.coverage_68_flagged < 0.4 < row.coverage_68_inside
    assert novelty_row(evaluation(novel=None)) is None
    assert novelty_row(evaluation(novel=np.zeros(4000, bool))) is None


def test_trend_rows_leave_empty_bins_out():
    rows = trend_rows(evaluation())
    assert len(rows) == 14
    assert all(row["n"] >= 10 and np.isfinite(row["sigma"]) for row in rows)
    assert trend_rows(evaluation(10)) == []


def test_a_cluster_has_numbers_only_when_measured():
    row = cluster_row(cluster())
    assert row["mean"] == pytest.approx(-1.45, abs=0.05)
    assert row["difference"] == pytest.approx(row["mean"] + 1.5)
    missing = cluster_row(cluster(0, "outside of the footprint"))
    assert missing["mean"] is missing["difference"] is None
    assert missing["status"] == "outside of the footprint"


def test_shares_of_metal_poor_stars():
    whole, giant = class_rows(histograms())
    assert (whole["n_below_0"], whole["share_below_0"], whole["share_below_-1"]) == (6, 0.6, 0.1)
    assert giant["share_below_0"] is None


def test_samples_are_told_by_catalogue_and_role():
    stars = sample()
    rows = sample_rows(stars)
    assert sum(row["n"] for row in rows) == 500
    assert stars.trains().sum() == next(row["n"] for row in rows if row["role"] == "train")
    assert sample_rows(sample(0)) == []


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_coverage(coverage_rows(evaluation()), "g_0"),
        lambda: plot_coverage([], ""),
        lambda: plot_cluster(cluster(), "bp_rp_0", "g_mag"),
        lambda: plot_cluster(cluster(4, "too few members"), "bp_rp_0", "g_mag"),
        lambda: plot_sample(sample(), "bp_rp_0", "m_g_0"),
        lambda: plot_sample(sample(3000), "bp_rp_0", "m_g_0"),
        lambda: plot_sample(sample(0), "bp_rp_0", "m_g_0"),
        lambda: plot_sample(sample(diagram=False), "bp_rp_0", "m_g_0"),
        lambda: plot_class_histograms(histograms().edges, histograms().counts, ("a", "b"), "fe_h", ""),
        lambda: plot_class_histograms(histograms().edges, np.zeros((2, 3)), ("a", "b"), "fe_h", ""),
    ],
)
def test_figures_draw(draw):
    assert png(draw(), 40).startswith(PNG)


def test_every_line_of_the_coverage_has_a_look_of_its_own_in_a_legend_that_fits():
    against = ("held-out labels", "held-out labels beyond the training cuts", "labels of apogee")
    each = [evaluation(against=name, group=f"class {number}") for name in against for number in range(9)]
    drawn = plot_coverage([row for one in each for row in coverage_rows(one)], "g_0")
    drawn.canvas.draw()
    legend = drawn.legends[0]
    looks = {(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}
    assert len(looks) == len(legend.get_lines()) == 9
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= drawn.bbox.x1
    assert box.y1 < min(axes.get_window_extent().y0 for axes in drawn.axes)


def test_the_stars_of_each_model_are_counted_by_role():
    html = role_table([replace(sample(), roles={"test:apogee": 4, "held_out": 30, "train": 1200, "calibrate": 50})])
    assert re.findall("<td>(.*?)</td>", html) == ["1,200", "50", "30", "4"]
    assert "Held-out<small>labels</small>" in html
    assert "Labels<small>of apogee</small>" in html


def test_bright_stars_are_at_the_top():
    drawn = plot_sample(sample(), "bp_rp_0", "m_g_0")
    assert drawn.axes[0].yaxis_inverted()
    assert drawn.axes[1].yaxis_inverted()
    assert plot_cluster(cluster(), "bp_rp_0", "g_mag").axes[1].yaxis_inverted()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.68, 1.0])
def test_the_range_of_a_share_is_that_of_the_binomial(share):
    low, high = share_range(share, 20)
    assert 0 <= low <= share <= high <= 1
    assert low < high
    for edge in {low, high} - {0.0, 1.0}:  # one sigma of a true share at the edge reaches the one found
        assert abs(share - edge) == pytest.approx(np.sqrt(edge * (1 - edge) / 20))
    assert np.diff(share_range(share, 20000)) < 0.05 * (high - low)


def test_the_coverage_has_bars():
    axes = plot_coverage(coverage_rows(evaluation()), "g_0").axes[0]
    assert len(axes.collections) == 2, "bars of the 68 and of the 95 % intervals"
    assert {line.get_marker() for line in axes.lines} >= {"o", "s"}


def test_coverage_needs_bins_with_errors():
    assert has_coverage(coverage_rows(evaluation()))
    assert not has_coverage(coverage_rows(evaluation(error=None)))
    assert not has_coverage(coverage_rows(evaluation(magnitude=None)))


@pytest.fixture(scope="module")
def content():
    external = replace(evaluation(seed=2), against="huang2023", kind="external", group="dwarf", note="Every 3rd star.")
    extra = ExtraSection("tuning", "Tuning <x>", "<p>told</p>", ((figure(2, 1), "alt", "a < b"),), {"best": 17})
    return ReportContent(
        "Run",
        evaluations=(evaluation(), external),
        clusters=(cluster(), cluster(0, "outside of the footprint")),
        metallicity=histograms(),
        samples=(sample(),),
        extras=(extra,),
        class_names=NAMES,
    )


def test_the_page_has_a_section_for_each_part(content):
    html = render(content)
    for key in ("evaluation", "errors", "external", "clusters", "metallicity", "samples", "tuning"):
        assert f'<section id="{key}"' in html, key
    shown = ["huang2023", "Every 3rd star.", "Somebody 2010", "outside of the footprint", "6 (60", "Tuning &lt;x&gt;"]
    shown += ["our errors alone", "<p>told</p>", "a &lt; b", "By magnitude", "EXTRAPOLATED", "NGC $1$"]
    assert [text for text in shown if text not in html] == []
    empty = render(ReportContent("Run"))
    assert not [key for key in ("errors", "external", "clusters", "tuning") if f'<section id="{key}"' in empty]


def test_metallicities_are_said_to_be_by_class_only_where_there_are_classes(content):
    found = histograms()
    alone = replace(found, names=("all stars",), counts=found.counts[:1], total=found.total[:1], below=found.below[:1])
    assert "Metallicities by class" in render(content)
    assert "by class" not in render(replace(content, metallicity=alone))


def test_every_number_of_the_parts_is_in_the_json(content):
    read = json.loads(json.dumps(numbers_json(content), allow_nan=False))
    for key in ("coverage", "extrapolated", "trends", "samples", "clusters", "metallicity"):
        assert read[key], key
    assert read["tuning"] == {"best": 17}
    assert {row["kind"] for row in read["evaluations"]} == {"labels", "external"}
