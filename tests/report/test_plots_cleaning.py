"""Plots of the sample's cleaning: they draw what they are given, also when that is little."""

from __future__ import annotations

import numpy as np
import pytest
from reference.cool_spectra import SMALL, labels_of, observed, spectra

from stellarscale.report.plots_cleaning import (
    ClusterExample,
    plot_clusterings,
    plot_leave_one_out,
    plot_predictions,
    plot_training,
)
from stellarscale.report.plots_review import plot_review
from stellarscale.report.plots_style import GREY, VERMILION, png

PNG = b"\x89PNG\r\n\x1a\n"


def lines(n, seed=0):
    rng = np.random.default_rng(seed)
    flux, _ = observed(spectra(labels_of(n, rng, spread=0.1)), np.full(n, 80.0), rng, masked=0.02)
    return flux / np.nanmedian(flux, axis=1, keepdims=True)


def test_members_are_red_and_the_rest_grey():
    flux, member = lines(12), np.arange(12) < 5
    examples = [ClusterExample("a bin", 1.0, flux, member), ClusterExample("a bin", 2.0, flux, np.ones(12, dtype=bool))]
    drawn = plot_clusterings(SMALL.wave_aa, examples)
    colours = [[line.get_color() for line in axes.lines] for axes in drawn.axes]
    assert [each.count(VERMILION) for each in colours] == [5, 12]
    assert [each.count(GREY) for each in colours] == [7, 0]
    assert drawn.axes[0].get_title(loc="left") == "eps = 1: 5 of 12 spectra in the cluster"
    assert png(drawn, 40).startswith(PNG)


def test_no_clustering_is_said():
    assert png(plot_clusterings(SMALL.wave_aa, []), 40).startswith(PNG)


def test_the_training_curve_has_both_losses_on_a_logarithmic_axis():
    curve = np.column_stack([np.arange(1, 101) * 100.0, np.geomspace(1, 0.01, 100), np.geomspace(1, 0.02, 100)])
    axes = plot_training(curve).axes[0]
    assert axes.get_yscale() == "log"
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), curve[:, 2])
    assert png(plot_training(curve[:1]), 40).startswith(PNG)


@pytest.mark.parametrize("n", [0, 1, 5, 300, 3000])
def test_predictions_and_leave_one_out_draw_any_number(n):
    rng = np.random.default_rng(n)
    labels = labels_of(n, rng)
    derived = labels + rng.normal(0, 1, (n, 3)) * [20.0, 0.05, 0.05]
    if n > 1:
        derived[0] = np.nan
    for drawn in (plot_predictions(labels, derived), plot_leave_one_out(labels, derived)):
        assert png(drawn, 40).startswith(PNG)


def test_the_kiel_diagram_runs_hot_to_the_left_and_giants_up():
    labels = labels_of(50, np.random.default_rng(0))
    drawn = plot_leave_one_out(labels, labels + np.array([30.0, 0.05, 0.02]))
    kiel, metal = drawn.axes[-2:]
    assert kiel.xaxis_inverted()
    assert kiel.yaxis_inverted()
    assert not metal.yaxis_inverted()
    segments = kiel.collections[0].get_segments()
    np.testing.assert_allclose(segments[7], [labels[7, :2], labels[7, :2] + [30.0, 0.05]])


def test_identical_labels_need_no_special_case():
    labels = labels_of(30, np.random.default_rng(1))
    assert png(plot_leave_one_out(labels, labels), 40).startswith(PNG)
    assert png(plot_predictions(labels, labels), 40).startswith(PNG)


@pytest.mark.parametrize("n", [0, 1, 6])
def test_a_review_shows_the_spectrum_over_its_companions(n):
    flux = lines(n + 1)
    drawn = plot_review(
        SMALL.wave_aa, flux[0], flux[1:], title="spec $1$", reason="alone in its bin", others="nearest accepted"
    )
    top, below = drawn.axes
    assert len(top.lines) == n + 1
    assert top.lines[-1].get_color() == VERMILION
    assert len(below.lines) == (2 if n else 1)
    assert png(drawn, 40).startswith(PNG)


def test_an_empty_spectrum_can_be_reviewed():
    nothing = np.full(SMALL.n_pix, np.nan)
    drawn = plot_review(SMALL.wave_aa, nothing, nothing[None], title="a", reason="b", others="c")
    assert png(drawn, 40).startswith(PNG)
