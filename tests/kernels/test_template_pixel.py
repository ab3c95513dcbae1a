"""The second score of the matcher: chi^2 on all pixels, a known share off at most, or a lower bound above the limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.template_loop import chi2_loop

from stellarscale.kernels.template_pixel import DOUBT, pixel_scores
from stellarscale.kernels.template_work import Spectrum


def case(order, error, seed, *, n_pix=300, snr=30.0):
    """A spectrum, templates, and their moments with a matrix that is off by at most the share ``error``."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1.7, 1.7, n_pix).astype(np.float32)
    templates = (1 + 0.4 * rng.normal(size=(20, 1)) * np.sin(3 * x) + rng.normal(0, 0.03, (20, n_pix))).astype(
        np.float32
    )
    flux = (templates[0] * (1 + 0.1 * x) * (1 + rng.normal(0, 1 / snr, n_pix))).astype(np.float32)
    ivar = np.where(rng.random(n_pix) < 0.05, 0, snr**2 * rng.uniform(0.5, 2, n_pix)).astype(np.float32)
    power = x.astype(np.float64) ** np.arange(5)[:, None]
    wide, weight = templates.astype(np.float64), ivar.astype(np.float64)
    b, a = np.zeros((3, 20), np.float32), np.zeros((5, 20), np.float32)
    b[: order + 1] = ((wide * flux * weight) @ power[: order + 1].T).T * (1 + rng.normal(0, 1e-3, 20))
    off = 1 + error * rng.uniform(-1, 1, 20)  # of the whole matrix: no quadratic polynomial sees more
    a[: 2 * order + 1] = ((wide**2 * weight) @ power[: 2 * order + 1].T).T * off
    errors = np.full(20, error, dtype=np.float32)
    return Spectrum(flux, ivar, x), templates, (b, a), errors


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2),
    st.sampled_from([0.0, 1e-3, 0.05, 0.3, 0.6]),
    st.sampled_from([3.0, 30.0, 300.0]),
    st.integers(0, 10**6),
)
def test_the_score_is_chi2_or_a_lower_bound_above_the_limit(order, error, snr, seed):
    spectrum, templates, moments, errors = case(order, error, seed, snr=snr)
    chi2, _ = chi2_loop(spectrum.y, spectrum.weight, templates, order=order)
    size = float(np.sum(spectrum.weight * spectrum.y**2.0))
    rounding = 2e-6 * np.sqrt(chi2 * size) + 1e-12 * size
    for limit in (np.inf, float(np.median(chi2))):
        score = np.full(20, np.nan, dtype=np.float32)
        pixel_scores(spectrum, templates, np.arange(20), moments, errors, limit, order, score)
        below = chi2 <= limit
        assert (np.abs(score - chi2)[below] <= (DOUBT * chi2 + rounding)[below]).all()
        assert (score <= chi2 * (1 + DOUBT) + rounding).all()
        assert (score[~below] > limit - rounding[~below] - DOUBT * chi2[~below]).all()


def test_only_the_templates_asked_for_are_scored():
    spectrum, templates, moments, errors = case(2, 0.01, 1)
    score = np.full(20, np.nan, dtype=np.float32)
    pixel_scores(spectrum, templates, np.array([3, 17]), moments, errors, np.inf, 2, score)
    assert np.flatnonzero(np.isfinite(score)).tolist() == [3, 17]


@pytest.mark.parametrize("order", [0, 1, 2])
def test_moments_that_mean_nothing_are_not_trusted(order):
    spectrum, templates, (b, a), errors = case(order, 0.0, 4)
    errors[:] = 3.0
    a[:, :10] *= 0.05
    a[0, 10:] *= 40
    score = np.empty(20, dtype=np.float32)
    pixel_scores(spectrum, templates, np.arange(20), (b, a), errors, 10.0, order, score)
    chi2, _ = chi2_loop(spectrum.y, spectrum.weight, templates, order=order)
    size = float(np.sum(spectrum.weight * spectrum.y**2.0))
    assert (np.abs(score - chi2) <= 1e-5 * chi2 + 2e-6 * np.sqrt(chi2 * size)).all()
