"""Rendering and aperture sums against plain loops, noise, saturation, cosmic rays and lost pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarscale.simulate import smss_pixels
from stellarscale.simulate.smss_exposures import FULL_WELL, GAIN, READ_NOISE_E
from stellarscale.simulate.smss_pixels import Box, add_stars, aperture_sums, expose, moffat, rays_seen

RADIUS = 10.0


def point_spread(fwhm_px: float, beta: float, stretch: float = 0.0, angle: float = 0.0) -> np.ndarray:
    inverse2 = 4 * (2 ** (1 / beta) - 1) / fwhm_px**2
    cosine, sine = np.cos(2 * angle), np.sin(2 * angle)
    return np.array(
        [inverse2 * (1 + stretch * cosine), inverse2 * stretch * sine, inverse2 * (1 - stretch * cosine), beta]
    )


def plain_image(shape, corner, place, flux, psf) -> np.ndarray:
    """The sum of the profiles, a pixel and a star at a time."""
    image = np.zeros(shape)
    a, b, c, beta = psf
    norm = (beta - 1) / np.pi * np.sqrt(a * c - b * b)
    for (row, column), _ in np.ndenumerate(image):
        for (x, y), counts in zip(place, flux, strict=True):
            dx, dy = corner[0] + column - x, corner[1] + row - y
            image[row, column] += counts * norm * (1 + a * dx * dx + 2 * b * dx * dy + c * dy * dy) ** -beta
    return image


PROFILE = point_spread(5.0, 3.0, 0.08, 0.6)


@given(
    st.integers(1, 4), st.floats(3.0, 8.0), st.floats(2.2, 4.0), st.floats(0, 0.12), st.floats(0, 3.1), st.integers(0)
)
@settings(max_examples=30)
def test_stars_are_rendered_as_by_a_plain_loop(n, fwhm, beta, stretch, angle, seed):
    rng = np.random.default_rng(seed)
    corner, psf = rng.uniform(0, 2000, 2).round(), point_spread(fwhm, beta, stretch, angle)
    place, flux = corner + rng.uniform(-5, 25, (n, 2)), 10 ** rng.uniform(1, 6, n)
    image = np.zeros((17, 21))
    add_stars(image, corner, place, flux, psf)
    assert image == pytest.approx(plain_image(image.shape, corner, place, flux, psf), rel=1e-10)


def test_the_profile_has_unit_sum_and_the_width_told():
    axis = np.arange(-150, 151)
    psf = point_spread(4.0, 3.0)
    total = sum(moffat(float(x), float(y), psf) for x in axis for y in axis)
    assert total == pytest.approx(1.0, abs=1e-3)
    assert moffat(2.0, 0.0, psf) == pytest.approx(moffat(0.0, 0.0, psf) / 2)


def test_apertures_give_the_flux_of_a_star_and_the_share_of_its_neighbour():
    corner, place = np.array([100.0, 200.0]), np.array([[128.3, 227.6], [136.0, 227.6]])
    flux = np.array([1e5, 3e4])
    image = np.zeros((56, 56))
    add_stars(image, corner, place[:1], flux[:1], PROFILE)
    alone = aperture_sums(image + 7.0, corner, place[:1], flux[:1], psf=PROFILE, sky=7.0, radius_px=RADIUS)
    assert alone.counts / alone.own == pytest.approx(flux[:1], rel=1e-9)
    assert 0.85 < alone.own[0] < 0.99
    assert alone.others[0] == 0
    assert alone.lost_px[0] == 0
    add_stars(image, corner, place[1:], flux[1:], PROFILE)
    both = aperture_sums(image + 7.0, corner, place, flux, psf=PROFILE, sky=7.0, radius_px=RADIUS)
    assert both.counts / (both.own * flux) == pytest.approx(1 + both.others, rel=1e-9)
    assert 0.1 < both.others[0] < 0.3 < both.others[1]
    assert both.peak[0] == pytest.approx(image.max() + 7.0)


def test_missing_pixels_and_those_off_the_image_are_counted():
    corner, place, flux = np.zeros(2), np.array([[28.0, 28.0], [2.0, 28.0]]), np.array([1e4, 1e4])
    image = np.zeros((56, 56))
    image[28, 30] = np.nan
    sums = aperture_sums(image, corner, place, flux, psf=PROFILE, sky=0.0, radius_px=RADIUS)
    assert sums.lost_px[0] == 1
    assert sums.lost_px[1] > 80
    assert np.isfinite(sums.counts).all()


def test_noise_is_that_of_electrons_and_of_reading():
    rng = np.random.default_rng(2)
    box, nobody = Box(0, 0, 60, 60), (np.array([[500.0, 500.0]]), np.array([1.0]))
    values = np.concatenate([expose(box, *nobody, psf=PROFILE, sky=200.0, rng=rng).image.ravel() for _ in range(40)])
    clean = values[np.isfinite(values) & (np.abs(values - 200.0) < 200.0)]
    assert clean.mean() == pytest.approx(200.0, abs=0.5)
    assert clean.std() == pytest.approx(np.sqrt(200.0 / GAIN + (READ_NOISE_E / GAIN) ** 2), rel=0.02)


def test_bright_stars_saturate_at_the_full_well():
    rng = np.random.default_rng(1)
    image = expose(Box(0, 0, 56, 56), np.array([[28.0, 28.0]]), np.array([1e7]), psf=PROFILE, sky=10.0, rng=rng).image
    assert np.nanmax(image) == FULL_WELL
    assert (image == FULL_WELL).sum() > 10


def test_cosmic_rays_and_dead_pixels_are_few_and_rays_are_told(monkeypatch):
    rng = np.random.default_rng(4)
    star = (np.array([[28.0, 28.0]]), np.array([1e4]))
    seen = [expose(Box(0, 0, 56, 56), *star, psf=PROFILE, sky=10.0, rng=rng) for _ in range(600)]
    assert 0.02 < np.mean([one.struck.any() for one in seen]) < 0.07
    assert 0.02 < np.mean([np.isnan(one.image).any() for one in seen]) < 0.07
    brightest = np.array([np.nanmax(np.where(one.struck, one.image, 0.0)) for one in seen if one.struck.any()])
    assert np.median(brightest) > 500
    struck = np.zeros((20, 20), bool)
    struck[10, 8:12] = True
    monkeypatch.setattr(smss_pixels, "RAY_SEEN_SHARE", 1.0)
    assert rays_seen(struck, np.array([10.0, 10.0]), 5.0, rng) == 4
    assert rays_seen(struck, np.array([0.0, 0.0]), 5.0, rng) == 0
    monkeypatch.setattr(smss_pixels, "RAY_SEEN_SHARE", 0.0)
    assert rays_seen(struck, np.array([10.0, 10.0]), 5.0, rng) == 0
