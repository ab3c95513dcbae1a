"""Fluxes, sky, means and stretch of stamps against plain loops and what is put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference.stamp_loop import border_loop, mean_loop

from stellarscale.errors import InputError
from stellarscale.kernels.stamp_stack import border_sky, calibrate, mask_saturated, mean_stack, stretch, unstretch


@given(mag=st.floats(5, 25), zero_point=st.floats(20, 32), to=st.floats(0, 30), extinction=st.floats(0, 3))
def test_a_star_of_a_magnitude_has_the_flux_of_its_magnitude_before_the_dust(mag, zero_point, to, extinction):
    counts = 10 ** (-0.4 * (mag - zero_point))
    flux = calibrate(counts + 7.0, sky=7.0, zero_point=zero_point, to_zero_point=to, extinction_mag=extinction)
    unit = 10 ** (-0.4 * (zero_point - to - extinction))
    assert flux == pytest.approx(10 ** (-0.4 * (mag - extinction - to)), rel=1e-9, abs=1e-13 * unit)


def test_missing_pixels_stay_missing_and_the_image_is_left_alone():
    counts = np.array([[1.0, np.nan], [3.0, 4.0]], dtype=np.float32)
    flux = calibrate(counts, sky=1, zero_point=25, to_zero_point=25)
    np.testing.assert_array_equal(flux, [[0, np.nan], [2, 3]])
    assert flux.dtype == np.float64
    assert counts[0, 0] == 1


@pytest.mark.parametrize("name", ["sky", "zero_point", "to_zero_point", "extinction_mag"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_named(name, value):
    numbers = {"sky": 1.0, "zero_point": 25.0, "to_zero_point": 25.0, "extinction_mag": 0.1}
    with pytest.raises(InputError, match=rf"Where: {name}\."):
        calibrate(np.ones((2, 2)), **{**numbers, name: value})


def test_saturated_pixels_are_missing():
    counts = np.array([1, 99.9, 100, 5e4, np.inf, np.nan, -5])
    np.testing.assert_array_equal(mask_saturated(counts, 100), [1, 99.9, *[np.nan] * 4, -5])
    for limit in (0, -1, np.nan):
        with pytest.raises(InputError, match="limit of saturation"):
            mask_saturated(counts, limit)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    border=st.integers(1, 9),
    clip=st.sampled_from([2.0, 3.0, 5.0]),
)
def test_sky_equals_the_loop(seed, height, width, border, clip):
    rng = np.random.default_rng(seed)
    counts = rng.normal(50, 3, (height, width)) + 500 * (rng.random((height, width)) < 0.05)
    counts[rng.random(counts.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    counts[0, 0] = 50
    assert border_sky(counts, border_px=border, clip_sigma=clip) == pytest.approx(
        border_loop(counts, border, clip), rel=1e-12
    )


def test_sky_and_sigma_are_those_put_in_whatever_the_star_and_its_neighbours():
    rng = np.random.default_rng(3)
    found = []
    for _ in range(200):
        counts = rng.normal(120, 6, (56, 58))
        counts[12:44, 12:46] += 1e5
        counts[:5, 10:16] += 300
        counts[rng.random(counts.shape) < 0.01] = np.nan
        found.append(border_sky(counts))
    sky, sigma = np.transpose(found)
    assert sky.mean() == pytest.approx(120, abs=0.25)
    assert sigma.mean() == pytest.approx(6, rel=0.03)


def test_equal_counts_are_a_sky_without_noise():
    assert border_sky(np.full((20, 20), 7)) == (7.0, 0.0)


@pytest.mark.parametrize("counts", [np.full((20, 20), np.nan), np.pad(np.ones((9, 9)), 6, constant_values=np.nan)])
def test_no_sky_without_a_finite_border(counts):
    with pytest.raises(InputError, match="no finite pixel"):
        border_sky(counts)


@pytest.mark.parametrize("change", [{"border_px": 0}, {"clip_sigma": 0.0}, {"counts": np.ones(5)}])
def test_no_border(change):
    with pytest.raises(InputError, match="no border"):
        border_sky(**{"counts": np.ones((9, 9)), **change})


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 12), size=st.integers(1, 6), n_bands=st.integers(1, 4))
def test_mean_equals_the_loop(seed, n, size, n_bands):
    rng = np.random.default_rng(seed)
    images, band = rng.normal(size=(n, size, size)), rng.integers(0, n_bands, n)
    images[rng.random(images.shape) < 0.3] = rng.choice([np.nan, np.inf, -np.inf])
    mean, coverage = mean_stack(images, band, n_bands)
    expected, count = mean_loop(images, band, n_bands)
    np.testing.assert_allclose(mean, expected, rtol=1e-12)
    np.testing.assert_array_equal(coverage, count)
    assert coverage.dtype == np.uint8
    np.testing.assert_array_equal(np.isnan(mean), coverage == 0)


def test_coverage_counts_to_255_and_no_further():
    mean, coverage = mean_stack(np.ones((255, 2, 2)), np.zeros(255, dtype=int), 1)
    assert (coverage == 255).all()
    assert (mean == 1).all()
    with pytest.raises(InputError, match="256"):
        mean_stack(np.ones((256, 2, 2)), np.zeros(256, dtype=int), 1)


@pytest.mark.parametrize("band", [[0], [0, 2], [-1, 0]])
def test_bands_that_are_none_are_refused(band):
    with pytest.raises(InputError, match=r"no stack|no such band"):
        mean_stack(np.ones((2, 3, 3)), band, 2)


@given(
    flux=arrays(np.float64, (2, 3, 3), elements=st.floats(-1e12, 1e12)),
    softening=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
)
def test_stretch_and_back(flux, softening):
    stamp = stretch(flux, softening)
    back = unstretch(stamp, softening)
    scale = np.array(softening)[:, None, None]
    assert (np.abs(back - flux) <= 1e-13 * (np.abs(flux) + scale)).all()
    for band in range(2):
        order = np.argsort(flux[band].ravel(), kind="stable")
        assert (np.diff(stamp[band].ravel()[order]) >= 0).all()


@given(flux=arrays(np.float64, (1, 4, 4), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_no_finite_flux_overflows_a_half(flux):
    assert np.isfinite(stretch(np.clip(flux, -1.7e305, 1.7e305), [1e-3]).astype(np.float16)).all()


@given(magnitude=st.floats(10, 25), softening=st.floats(0.5, 50))
def test_a_half_keeps_the_flux_to_a_part_in_two_hundred(magnitude, softening):
    flux = np.full((1, 1, 1), 10 ** (-0.4 * (magnitude - 25)))
    back = unstretch(stretch(flux, [softening]).astype(np.float16), [softening])
    assert abs(back - flux).item() <= 0.005 * (flux.item() + softening)


def test_missing_pixels_and_stacks_of_stamps_in_the_stretch():
    flux = np.arange(2 * 3 * 2 * 2, dtype=float).reshape(2, 3, 2, 2)
    flux[0, 0, 0, 0] = np.nan
    stamp = stretch(flux, [1.0, 2.0, 4.0])
    np.testing.assert_allclose(stamp[1, 2], np.arcsinh(flux[1, 2] / 4))
    assert np.isnan(stamp[0, 0, 0, 0])
    np.testing.assert_allclose(unstretch(stamp.astype(np.float32), [1.0, 2.0, 4.0]), flux, rtol=1e-5)


@pytest.mark.parametrize("softening", [[1.0], [1.0, 0.0], [1.0, -2.0], [np.nan, 1.0], 1.0])
@pytest.mark.parametrize("function", [stretch, unstretch])
def test_a_softening_for_each_band(function, softening):
    with pytest.raises(InputError, match="no stretch"):
        function(np.ones((2, 3, 3)), softening)
