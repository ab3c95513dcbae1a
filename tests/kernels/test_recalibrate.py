"""Recalibration: known polynomials come off, pixels without weight have no say, models are found and interpolated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.cool_spectra import SMALL, labels_of, observed, spectra

from stellarscale.kernels.fluxes import filled, medians, weighted
from stellarscale.kernels.recalibrate import ModelGrid, recalibrate

X = np.linspace(-1.0, 1.0, SMALL.n_pix)


def tilted(n, *, snr, seed, masked=0.0):
    """Models, polynomials (n, n_pix) and noisy spectra that are their product."""
    rng = np.random.default_rng(seed)
    model = spectra(labels_of(n, rng))
    polynomial = 3e3 * (1.0 + rng.uniform(-0.4, 0.4, (n, 1)) * X + rng.uniform(-0.2, 0.2, (n, 1)) * X**2)
    flux, ivar = observed(model * polynomial, np.full(n, snr), rng, masked=masked)
    return model, polynomial, flux, ivar


@given(seed=st.integers(0, 10_000), degree=st.integers(0, 4))
def test_coefficients_are_those_of_a_plain_weighted_least_squares(seed, degree):
    model, _, flux, ivar = tilted(3, snr=30.0, seed=seed, masked=0.2)
    ivar *= np.random.default_rng(seed).uniform(0.1, 10.0, ivar.shape).astype(np.float32)
    done = recalibrate(flux, ivar, model, degree=degree)
    for row in range(3):
        root = np.sqrt(np.where(ivar[row] > 0, ivar[row], 0.0).astype(float))
        design = root[:, None] * model[row][:, None] * X[:, None] ** np.arange(degree + 1)
        plain = np.linalg.lstsq(design, root * np.nan_to_num(flux[row]), rcond=None)[0]
        np.testing.assert_allclose(done.coefficients[row], plain, rtol=1e-6, atol=1e-6 * np.abs(plain).max())


def test_a_known_tilt_comes_off_to_better_than_one_per_cent():
    # On ten times as many pixels, those of LAMOST, noise would leave as much at S/N 47.
    model, polynomial, flux, ivar = tilted(20, snr=150.0, seed=1, masked=0.1)
    done = recalibrate(flux, ivar, model)
    assert done.fitted.all()
    found = done.coefficients @ (X ** np.arange(3)[:, None])
    assert np.abs(found / polynomial - 1.0).max() < 0.01
    has = ivar > 0
    np.testing.assert_allclose(done.flux[has], (flux / found)[has], rtol=1e-5)
    np.testing.assert_allclose(done.ivar[has], (ivar * found**2)[has], rtol=1e-5)


def test_pixels_without_weight_are_neither_used_nor_given_back():
    model, _, flux, ivar = tilted(4, snr=50.0, seed=2)
    wild, holes = flux.copy(), ivar.copy()
    wild[:, 50:120], holes[:, 50:120] = 1e9, 0.0
    wild[:, 200], holes[:, 200] = np.nan, 7.0
    wild[:, 210], holes[:, 210] = 1.0, np.inf
    done, lone = recalibrate(wild, holes, model), recalibrate(flux, np.where(wild == flux, ivar, 0.0), model)
    np.testing.assert_array_equal(done.coefficients, lone.coefficients)
    assert (done.n_used == SMALL.n_pix - 72).all()
    assert not done.flux[:, 50:120].any()
    assert not done.ivar[:, [200, 210]].any()
    assert np.isfinite(done.flux).all()


def test_clipping_leaves_a_band_out_that_the_model_misses():
    model, polynomial, flux, ivar = tilted(5, snr=100.0, seed=3)
    band = slice(60, 85)
    flux[:, band] *= 0.5
    plain, clipped = (recalibrate(flux, ivar, model, clip_sigma=sigma) for sigma in (None, 4.0))
    wrong = [
        np.abs(each.coefficients @ (X ** np.arange(3)[:, None]) / polynomial - 1).max() for each in (plain, clipped)
    ]
    assert wrong[0] > 0.03
    assert wrong[1] < 0.01
    assert (clipped.n_used <= plain.n_used - 20).all()
    assert clipped.ivar[:, band].any(), "clipped pixels are still data"


def test_spectra_that_determine_no_polynomial_are_marked_and_unchanged():
    model, _, flux, ivar = tilted(4, snr=50.0, seed=4)
    ivar[0] = 0.0
    ivar[1, 2:] = 0.0
    flux[2] *= np.where(X < -0.5, -1.0, 1.0)
    flux[2] -= 1e4 * (X < 0)
    done = recalibrate(flux, ivar, model)
    assert done.fitted.tolist() == [False, False, False, True]
    assert not done.coefficients[:3].any()
    np.testing.assert_array_equal(done.flux[2], flux[2])
    np.testing.assert_array_equal(done.flux[1, :2], flux[1, :2])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda flux, ivar, model: (flux, ivar[:, 1:], model), "two equal"),
        (lambda flux, ivar, model: (flux, ivar, model[:, 1:]), "same pixels"),
        (lambda flux, ivar, model: (flux, ivar, model * np.nan), "finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(damage, message):
    model, _, flux, ivar = tilted(2, snr=50.0, seed=5)
    with pytest.raises(ValueError, match=message):
        recalibrate(*damage(flux, ivar, model))


def regular(method="linear"):
    teff, logg, m_h = np.meshgrid(np.arange(3000.0, 4101, 100), [4.5, 5.0, 5.5], [-0.5, 0.0, 0.5], indexing="ij")
    labels = np.column_stack([teff.ravel(), logg.ravel(), m_h.ravel()])
    flux = spectra(labels) * np.random.default_rng(0).uniform(1.0, 1e6, (len(labels), 1))
    return labels, ModelGrid(flux, labels, scales=(100.0, 0.5, 0.5), method=method)


def test_models_are_interpolated_between_those_around():
    labels, grid = regular()
    rng = np.random.default_rng(6)
    wanted = np.column_stack([rng.uniform(3000, 4100, 50), rng.uniform(4.5, 5.5, 50), rng.uniform(-0.5, 0.5, 50)])
    flux, inside = grid.at(wanted)
    truth = spectra(wanted)
    truth /= np.median(truth, axis=1, keepdims=True)
    assert inside.all()
    nearest = regular("nearest")[1].at(wanted)[0]
    assert np.median(np.abs(flux - truth)) < 0.25 * np.median(np.abs(nearest - truth))
    exact, _ = grid.at(labels[:20])
    np.testing.assert_allclose(exact, grid.flux[:20], atol=1e-5)


def test_outside_of_the_grid_the_nearest_model_stands_in():
    labels, grid = regular()
    flux, inside = grid.at(np.array([[2500.0, 5.0, 0.0], [3500.0, 5.0, 0.0], [3510.0, 9.0, 0.1]]))
    assert inside.tolist() == [False, True, False]
    np.testing.assert_array_equal(flux[0], grid.flux[np.flatnonzero((labels == [3000, 5.0, 0.0]).all(axis=1))[0]])
    np.testing.assert_array_equal(flux[2], grid.flux[np.flatnonzero((labels == [3500, 5.5, 0.0]).all(axis=1))[0]])


def test_a_label_that_the_models_share_is_not_interpolated_in():
    labels, _ = regular()
    solar = labels[labels[:, 2] == 0.0]
    grid = ModelGrid(spectra(solar), solar, scales=(100.0, 0.5, 0.5))
    flux, inside = grid.at(np.array([[3450.0, 5.0, 0.3]]))
    assert inside.all()
    expected = 0.5 * sum(grid.flux[(solar == [teff, 5.0, 0.0]).all(axis=1)][0] for teff in (3400, 3500))
    np.testing.assert_allclose(flux[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda flux, labels: (flux[:0], labels[:0]), "rows of labels"),
        (lambda flux, labels: (flux, labels[1:]), "rows of labels"),
        (lambda flux, labels: (flux * np.nan, labels), "finite"),
        (lambda flux, labels: (-flux, labels), "positive median"),
        (lambda flux, labels: (flux, labels * [1, 0, 0]), "fewer than two"),
        (lambda flux, labels: (flux[:3], labels[:3] * [1, 1, 0] + [0, 1, 0] * np.arange(3)[:, None]), "span no volume"),
    ],
)
def test_model_grids_that_cannot_serve_are_refused(change, message):
    labels, _ = regular()
    flux, labels = change(spectra(labels), labels)
    if "volume" in message:
        labels = np.column_stack([np.arange(3.0), 2 * np.arange(3.0), np.zeros(3)])
    with pytest.raises(ValueError, match=message):
        ModelGrid(flux, labels, scales=(100.0, 0.5, 0.5))


def test_gaps_are_bridged_and_what_stands_in_them_is_not_looked_at():
    flux, ivar = weighted(
        np.array([[1.0, 99.0, 3.0, 5.0], [np.nan, 2.0, 4.0, np.inf], [1.0, 1.0, 1.0, 1.0]]),
        np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, -1.0, np.nan]]),
    )
    np.testing.assert_array_equal(medians(flux, ivar), [2.5, 3.0, np.nan])
    whole, n_filled = filled(flux, ivar)
    np.testing.assert_array_equal(whole, [[1, 2, 3, 5], [2, 2, 4, 4], [0, 0, 0, 0]])
    assert n_filled.tolist() == [1, 2, 4]
