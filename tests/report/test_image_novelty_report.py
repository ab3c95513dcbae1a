"""The section on stars unlike the training stars: bins by magnitude, few stars, nothing flagged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stellarscale.report.content import Evaluation
from stellarscale.report.image_novelty import novelty_bins, novelty_section


@pytest.fixture
def evaluation() -> Evaluation:
    """Stars of g 12 to 17; those beyond 15, and every 50th one, are flagged and wrong by three times as much."""
    rng = np.random.default_rng(1)
    magnitude = np.repeat(np.arange(12, 17), 200) + rng.uniform(0, 1, 1000)
    novel = (magnitude >= 15) | (np.arange(1000) % 50 == 0)
    truth = rng.uniform(4500, 6500, 1000)
    predicted = truth + rng.normal(size=1000) * np.where(novel, 300, 100)
    predicted[7] = np.nan
    return Evaluation(
        "teff catalogue", "teff", "K", "truth", predicted, truth, error=np.full(1000, 100.0), magnitude=magnitude,
        magnitude_name="g_mag", novel=novel, kind="truth",
    )  # fmt: skip


def test_bins_tell_flagged_stars_and_the_others_apart(evaluation):
    found = novelty_bins(evaluation)
    assert [row.low for row in found] == [12, 13, 14, 15, 16]
    assert [row.n_flagged for row in found] == [4, 4, 4, 200, 200]
    assert found[0].n_others == 195, "a star without a value is in none"
    assert [row.sigma_flagged is None for row in found] == [True] * 3 + [False] * 2, "four stars have no scatter"
    assert found[4].sigma_others is found[4].coverage_68_others is None
    assert found[4].sigma_flagged == pytest.approx(300, rel=0.2)
    assert found[0].sigma_others == pytest.approx(100, rel=0.2)
    assert found[0].coverage_68_others == pytest.approx(0.68, abs=0.1)
    assert found[4].coverage_68_flagged < 0.4


def test_few_stars_make_no_bin_and_unclaimed_errors_no_share(evaluation):
    few = replace(evaluation, magnitude=np.where(np.arange(1000) < 19, 20.5, np.nan))
    assert novelty_bins(few) == []
    assert all(row.coverage_68_flagged is None for row in novelty_bins(replace(evaluation, error=None)))


def test_evaluations_that_tell_nothing_have_no_bins(evaluation):
    for changed in ({"novel": None}, {"magnitude": None}, {"novel": np.zeros(1000, bool)}):
        assert novelty_bins(replace(evaluation, **changed)) == []


def test_the_section_counts_the_stars_of_the_catalogue(evaluation):
    section = novelty_section([evaluation], flagged=412, stars=2000)
    for part in ("412 of 2,000 stars", "20.6 %", "EXTRAPOLATED", "By magnitude", "16 – 17", "truth"):
        assert part in section.html
    assert (section.numbers["flagged"], section.numbers["stars"]) == (412, 2000)
    assert len(section.numbers["by_magnitude"]) == 5
    assert "By magnitude" not in novelty_section([], flagged=1, stars=2).html
    assert novelty_section([replace(evaluation, novel=None)], flagged=0, stars=2000) is None
