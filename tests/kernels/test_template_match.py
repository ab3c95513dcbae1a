from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.template_loop import chi2_loop, match_loop

from stellarscale.kernels.template_match import Matches, match_spectra, prepare


def star_like(n, n_pix, rng, *, snr=80.0):
    """Smooth spectra with bands and lines that vary with three hidden quantities, and noise of their own."""
    x = np.linspace(-1, 1, n_pix)
    hidden = rng.normal(size=(n, 3))
    features = np.array([np.exp(-0.5 * ((x - c) / w) ** 2) for c, w in zip(*_places(), strict=True)])
    strength = np.exp(0.25 * hidden @ np.random.default_rng(8).normal(size=(3, len(features))))
    spectra = (1 + 0.3 * hidden[:, :1] * x) ** 2 * np.exp(-0.15 * strength @ features)
    return (spectra * (1 + rng.normal(size=spectra.shape) / snr)).astype(np.float32)


def _places():
    rng = np.random.default_rng(7)
    return rng.uniform(-1, 1, 30), 10.0 ** rng.uniform(-2.5, -0.7, 30)


def observed(spectra, snr, rng, *, masked=0.05):
    """Spectra with another flux calibration, noise of changing level, and pixels without weight that hold rubbish."""
    x = np.linspace(-1, 1, spectra.shape[1])
    n = len(spectra)
    bent = spectra * (1 + rng.normal(0, 0.1, (n, 1)) * x + rng.normal(0, 0.05, (n, 1)) * x**2)
    bent = bent * 10.0 ** rng.uniform(-3, 5, (n, 1))
    noise = bent.mean(axis=1, keepdims=True) / snr * rng.uniform(0.7, 2.5, spectra.shape)
    flux, ivar = (bent + noise * rng.normal(size=bent.shape)).astype(np.float32), (noise**-2).astype(np.float32)
    bad = rng.random(flux.shape) < masked
    flux[bad] = rng.choice(np.array([np.nan, np.inf, -1e30, 0.0], dtype=np.float32), bad.sum())
    ivar[bad] = 0
    return flux, ivar


def assert_as_loop(flux, ivar, templates, found: Matches, *, order, k=5, allowed=None, exact=True):
    """Every row as the loop has it; with ``exact=False``, templates may change places whose chi^2 rounding decides."""
    for row in range(len(flux)):
        loop = match_loop(
            flux[row], ivar[row], templates, order=order, k=k, allowed=None if allowed is None else allowed[row]
        )
        assert found.n_pix[row] == loop.n_pix
        used = (ivar[row] > 0) & np.isfinite(flux[row])
        size = np.sum(ivar[row][used] * flux[row][used].astype(np.float64) ** 2)
        if exact:
            assert found.index[row].tolist() == loop.index.tolist()
        np.testing.assert_allclose(found.chi2[row], loop.chi2, rtol=1e-9, atol=1e-13 * size)
        np.testing.assert_allclose(found.chi2_combined[row], loop.chi2_combined, rtol=1e-8, atol=1e-12 * size)
        if loop.index[0] >= 0:
            assert (found.weights[row] >= 0).all()
            assert found.weights[row].sum() == pytest.approx(1, abs=1e-12)
        else:
            assert np.isnan(found.weights[row]).all()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2),
    st.integers(1, 7),
    st.integers(1, 40),
    st.integers(5, 70),
    st.floats(0, 0.8),
    st.integers(0, 10**6),
)
def test_equals_the_loop(order, k, n_ref, n_pix, masked, seed):
    rng = np.random.default_rng(seed)
    templates = rng.normal(rng.choice([0, 1, 5]), 1, (n_ref, n_pix)).astype(np.float32)
    templates *= 10.0 ** rng.uniform(-3, 3, (n_ref, 1)).astype(np.float32)
    flux, ivar = observed(templates[rng.integers(0, n_ref, 3)], 10.0 ** rng.uniform(0, 3), rng, masked=masked)
    found = match_spectra(flux, ivar, prepare(templates, order=order), k=k)
    assert_as_loop(flux, ivar, templates, found, order=order, k=k, exact=False)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("snr", [5, 30, 200, 1000])
def test_the_five_best_are_those_of_the_loop_at_any_signal_to_noise(order, snr):
    rng = np.random.default_rng(snr + order)
    templates = star_like(250, 400, rng)
    flux, ivar = observed(star_like(3, 400, rng, snr=1e9), snr, rng)
    found = match_spectra(flux, ivar, prepare(templates, order=order))
    assert_as_loop(flux, ivar, templates, found, order=order)
    assert found.scored[:, 1].max() < 100  # the cheap scores did their part


@pytest.mark.parametrize("snr", [10, 1000])
@pytest.mark.parametrize("difference", [1e-2, 1e-4, 1e-6])
def test_near_copies_are_told_apart(snr, difference):
    rng = np.random.default_rng(3)
    few = star_like(12, 400, rng)
    templates = np.concatenate([few * (1 + difference * rng.normal(size=few.shape)) for _ in range(25)]).astype(
        np.float32
    )
    flux, ivar = observed(few[:2], snr, rng)
    found = match_spectra(flux, ivar, prepare(templates, order=2))
    assert_as_loop(flux, ivar, templates, found, order=2)


def test_the_full_size():
    rng = np.random.default_rng(11)
    templates = star_like(1365, 1657, rng, snr=50.0)
    flux, ivar = observed(star_like(3, 1657, rng, snr=1e9), np.array([[5.0], [50.0], [1000.0]]), rng)
    found = match_spectra(flux, ivar, prepare(templates, order=2))
    assert_as_loop(flux, ivar, templates, found, order=2)
    assert found.scored[:, 0].max() < 1365
    assert found.scored[2, 0] < 500


def test_templates_that_share_nothing_are_all_tried():
    rng = np.random.default_rng(2)
    templates = rng.normal(size=(300, 250)).astype(np.float32)
    flux, ivar = observed(templates[:2] + templates[10:12], 20, rng)
    found = match_spectra(flux, ivar, prepare(templates, order=2))
    assert_as_loop(flux, ivar, templates, found, order=2)
    assert found.scored[:, 0].min() > 250


@pytest.mark.parametrize("snr", [30, 300])
def test_a_line_that_few_templates_have_is_found(snr):
    rng = np.random.default_rng(6)
    templates = star_like(300, 400, rng)
    line = 4 * np.exp(-0.5 * ((np.arange(400) - 222) / 1.5) ** 2).astype(np.float32)
    flaring = np.array([17, 201, 299])
    templates[flaring] += line
    truth = star_like(4, 400, rng, snr=1e9) + line
    flux, ivar = observed(truth, snr, rng, masked=0)
    ready = prepare(templates, order=2)
    found = match_spectra(flux, ivar, ready)
    assert_as_loop(flux, ivar, templates, found, order=2)
    assert np.isin(flaring, found.index).all()


@pytest.mark.parametrize("order", [0, 2])
def test_a_template_finds_itself(order):
    rng = np.random.default_rng(9)
    templates = star_like(300, 400, rng, snr=30)
    found = match_spectra(templates * 7, np.ones_like(templates), prepare(templates, order=order))
    assert found.index[:, 0].tolist() == list(range(300))
    assert found.chi2[:, 0].max() < 1e-9
    assert found.weights[:, 0].min() > 1 - 1e-6
    assert found.coefficients[:, 0, 0] == pytest.approx(7, rel=1e-6)
    assert np.abs(found.coefficients[:, 0, 1:]).max(initial=0) < 1e-5


def test_copies_go_by_number():
    rng = np.random.default_rng(5)
    few = star_like(20, 300, rng)
    templates = few[np.arange(200) % 20]
    flux, ivar = observed(few[3:5], 50, rng)
    found = match_spectra(flux, ivar, prepare(templates, order=2))
    assert found.index.tolist() == [[3, 23, 43, 63, 83], [4, 24, 44, 64, 84]]
    assert found.weights.sum(axis=1) == pytest.approx([1, 1])
    assert found.chi2_combined == pytest.approx(found.chi2[:, 0])


def test_pixels_without_weight_never_enter():
    rng = np.random.default_rng(12)
    templates = prepare(star_like(100, 300, rng), order=2)
    flux, ivar = observed(star_like(4, 300, rng), 30, rng, masked=0)
    ivar[:, 40:60], ivar[:, 100] = 0, np.nan
    ivar[:, 101], ivar[:, 102] = -1, np.inf
    expected = match_spectra(flux, ivar, templates)
    for rubbish in (np.nan, np.inf, -np.inf, 1e30):
        flux[:, 40:60] = flux[:, 100:103] = rubbish
        found = match_spectra(flux, ivar, templates)
        assert (found.index == expected.index).all()
        assert (found.chi2 == expected.chi2).all()
        assert (found.n_pix == 277).all()
    flux[:, 0] = np.nan  # has weight by its ivar, but is no number
    assert (match_spectra(flux, ivar, templates).n_pix == 276).all()


@pytest.mark.parametrize("window", [slice(0, 60), slice(340, 400), slice(100, 300)])
def test_a_window_by_columns_is_the_window_by_weight(window):
    rng = np.random.default_rng(13)
    templates = star_like(150, 400, rng)
    flux, ivar = observed(star_like(4, 400, rng), 60, rng)
    inside = match_spectra(flux[:, window], ivar[:, window], prepare(templates[:, window], order=2))
    outside = np.ones(400, dtype=bool)
    outside[window] = False
    ivar[:, outside] = 0
    weighted = match_spectra(flux, ivar, prepare(templates, order=2))
    assert (inside.index == weighted.index).all()
    assert inside.chi2 == pytest.approx(weighted.chi2, rel=1e-11)
    assert_as_loop(flux, ivar, templates, weighted, order=2)


def test_one_pixel_may_outweigh_all_others():
    rng = np.random.default_rng(14)
    templates = star_like(80, 200, rng)
    flux, ivar = observed(star_like(3, 200, rng), 20, rng)
    ivar[:, 77] *= 1e6
    found = match_spectra(flux, ivar, prepare(templates, order=2))
    assert_as_loop(flux, ivar, templates, found, order=2)


@pytest.mark.parametrize("order", [0, 2])
def test_too_few_pixels_have_no_match(order):
    rng = np.random.default_rng(15)
    templates = star_like(30, 100, rng)
    flux, ivar = observed(templates[:4], 50, rng, masked=0)
    for row, n_pix in enumerate((0, 1, order + 6, order + 7)):
        ivar[row, n_pix:] = 0
    found = match_spectra(flux, ivar, prepare(templates, order=order))
    assert found.n_pix.tolist() == [0, 1, order + 6, order + 7]
    assert (found.index[:3] == -1).all()
    for values in (found.weights, found.chi2, found.coefficients, found.chi2_combined):
        assert np.isnan(values[:3]).all()
    assert_as_loop(flux, ivar, templates, found, order=order, exact=False)
    assert (found.index[3] >= 0).all()


def test_a_star_is_not_matched_with_itself():
    rng = np.random.default_rng(16)
    templates = star_like(90, 250, rng)
    groups = np.arange(90) // 3
    flux, ivar = observed(templates[:6], 100, rng)
    own = np.array([0, 0, 0, 1, 1, -5])
    found = match_spectra(flux, ivar, prepare(templates, order=2), groups=groups, own=own)
    assert not (groups[found.index] == own[:, None]).any()
    assert_as_loop(flux, ivar, templates, found, order=2, allowed=groups[None] != own[:, None])


def test_fewer_templates_than_asked_for():
    rng = np.random.default_rng(17)
    templates = star_like(3, 120, rng)
    flux, ivar = observed(templates[:2], 40, rng)
    found = match_spectra(flux, ivar, prepare(templates, order=1), groups=[0, 0, 1], own=[9, 1])
    assert sorted(found.index[0].tolist()) == [-1, -1, 0, 1, 2]
    assert found.index[1, 2:].tolist() == [-1, -1, -1]
    assert (found.weights[:, 3:] == 0).all()
    assert np.isnan(found.chi2[:, 3:]).all()
    assert found.weights.sum(axis=1) == pytest.approx([1, 1])
    nobody = match_spectra(flux, ivar, prepare(templates, order=1), groups=[4, 4, 4], own=[4, 4])
    assert (nobody.index == -1).all()
    assert np.isnan(nobody.weights).all()


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_coefficients_give_the_model(order):
    rng = np.random.default_rng(18)
    templates = star_like(60, 300, rng) * np.float32(1e-14)
    flux, ivar = observed(star_like(3, 300, rng), 40, rng, masked=0)
    found = match_spectra(flux, ivar, prepare(templates, order=order))
    x = np.linspace(-1, 1, 300)
    for row in range(3):
        curves = np.stack([np.polynomial.polynomial.polyval(x, c) for c in found.coefficients[row]])
        models = curves * templates[found.index[row]].astype(np.float64)
        residuals = flux[row] - models
        assert (ivar[row] * residuals**2).sum(axis=1) == pytest.approx(found.chi2[row], rel=1e-10)
        combined = flux[row] - found.weights[row] @ models
        assert (ivar[row] * combined**2).sum() == pytest.approx(found.chi2_combined[row], rel=1e-9)


def test_units_do_not_matter():
    rng = np.random.default_rng(19)
    templates = star_like(80, 200, rng)
    flux, ivar = observed(star_like(3, 200, rng), 30, rng, masked=0)
    flux, ivar = flux / flux.mean(), ivar * flux.mean() ** 2
    expected = match_spectra(flux, ivar, prepare(templates, order=2))
    tiny = np.float32(2.0**-40)
    found = match_spectra(flux * tiny, ivar / tiny**2, prepare(templates * tiny, order=2))
    assert (found.index == expected.index).all()
    assert (found.chi2 == expected.chi2).all()
    assert (found.coefficients == expected.coefficients).all()


def test_a_spectrum_of_zeros_or_below_is_matched_all_the_same():
    rng = np.random.default_rng(20)
    templates = star_like(40, 100, rng)
    flux = np.stack([np.zeros(100), -templates[7]]).astype(np.float32)
    found = match_spectra(flux, np.ones_like(flux), prepare(templates, order=0))
    assert found.chi2[0].tolist() == [0] * 5
    assert found.index[1, 0] == 7
    assert found.coefficients[1, 0, 0] == pytest.approx(-1)


def test_a_template_may_be_zero_where_the_spectrum_has_weight():
    rng = np.random.default_rng(21)
    templates = star_like(10, 100, rng)
    templates[4, :50] = 0
    flux, ivar = observed(templates[:2], 50, rng, masked=0)
    ivar[:, 50:] = 0
    found = match_spectra(flux, ivar, prepare(templates, order=2), k=10)
    assert found.index[:, -1].tolist() == [4, 4]
    assert_as_loop(flux, ivar, templates, found, order=2, k=10)


def test_two_threads_give_what_one_gives():
    rng = np.random.default_rng(22)
    templates = prepare(star_like(200, 300, rng), order=2)
    flux, ivar = observed(star_like(40, 300, rng), 20, rng)
    whole = match_spectra(flux, ivar, templates)
    with ThreadPoolExecutor(2) as pool:
        parts = list(
            pool.map(lambda part: match_spectra(flux[part], ivar[part], templates), (slice(0, 15), slice(15, 40)))
        )
    for name in ("index", "weights", "chi2", "coefficients"):
        assert (np.concatenate([getattr(part, name) for part in parts]) == getattr(whole, name)).all()


def test_no_spectra_give_no_matches():
    templates = prepare(np.ones((3, 20)), order=0)
    found = match_spectra(np.empty((0, 20)), np.empty((0, 20)), templates)
    assert found.index.shape == (0, 5)


@pytest.mark.parametrize(
    "flux, order, message",
    [
        (np.ones((3, 20)), 3, "order must be 0, 1 or 2"),
        (np.ones(20), 2, "must have the shape"),
        (np.ones((0, 20)), 2, "must have the shape"),
        (np.array([[1.0, 1.0], [1.0, np.nan]]), 0, "template 1 has flux that is not finite"),
        (np.array([[1.0, 1.0], [0.0, 0.0]]), 0, "template 1 has no flux"),
    ],
)
def test_bad_templates_are_refused(flux, order, message):
    with pytest.raises(ValueError, match=message):
        prepare(flux, order=order)


def test_arguments_that_do_not_fit_are_refused():
    templates = prepare(np.ones((3, 20)), order=0)
    good = np.ones((2, 20))
    for arguments, options, message in (
        ((np.ones((2, 21)), np.ones((2, 21))), {}, "shape of the templates|of the templates"),
        ((good, good[:1]), {}, "same shape"),
        ((good, good), {"k": 0}, "must be positive"),
        ((good, good), {"candidates": 0}, "must be positive"),
        ((good, good), {"groups": [0, 1, 2]}, "given together"),
        ((good, good), {"groups": [0, 1], "own": [0, 1]}, "must have the shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            match_spectra(*arguments, templates, **options)


def test_the_loop_itself_leaves_out_what_has_no_weight():
    flux, ivar = np.array([1.0, np.nan, 2.0, 3.0]), np.array([1.0, 0.0, 1.0, 1.0])
    chi2, residuals = chi2_loop(flux, ivar, np.array([[1.0, 5.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]]), order=0)
    assert chi2 == pytest.approx([0, 2])
    assert residuals.shape == (2, 3)
