"""What stamps say without a network: brightness, brighter neighbours, missing pixels; a plain loop beside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.stamp_summary_loop import plain_summary
from reference.tiny_networks import tiny_stamps

from stellarscale.kernels.stamp_summary import stamp_summary

SIZE, SOFTENING = 32, 5.0


def stamp(*stars: tuple[float, int, int], sky: float = 0.0) -> np.ndarray:
    """One band with stars of some peak flux at pixels (row, column)."""
    y, x = np.mgrid[:SIZE, :SIZE]
    flux = sum((peak * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8) for peak, row, column in stars), sky)
    return np.arcsinh(flux / SOFTENING)[None, None]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), size=st.integers(1, 40), n=st.integers(1, 4), dtype=st.sampled_from(["f2", "f4", "f8"]),
    missing=st.sampled_from([0.0, 0.2, 0.9, 1.0]),
)  # fmt: skip
def test_the_summary_equals_the_plain_loop(seed, size, n, dtype, missing):
    rng = np.random.default_rng(seed)
    stamps = rng.normal(1, 2, (n, 2, size, size)).astype(dtype)
    stamps[rng.random(stamps.shape) < missing] = np.nan
    np.testing.assert_allclose(stamp_summary(stamps), plain_summary(stamps), rtol=1e-12, atol=1e-12)


def test_the_brightness_is_that_of_the_mean_flux_whatever_the_softening():
    bright, faint = (stamp_summary(stamp((peak, 16, 16)))[0, 0] for peak in (1e5, 1e4))
    assert bright - faint == pytest.approx(np.log(10), abs=1e-3), "2.5 mag"
    assert stamp_summary(np.full((1, 1, SIZE, SIZE), -0.01))[0, 0] == pytest.approx(-0.01), "noise may be below zero"


def test_a_brighter_star_beside_shows_and_a_fainter_or_distant_one_does_not():
    alone, fainter, brighter, distant = (
        stamp_summary(stamp((1e3, 16, 16), *others))[0, 1]
        for others in ([], [(300.0, 16, 24)], [(1e4, 16, 24)], [(1e4, 2, 2)])
    )
    assert abs(alone) < 0.2
    assert fainter == pytest.approx(alone, abs=0.01)
    assert brighter == pytest.approx(alone + np.log(10), abs=0.1)
    assert distant < alone + 0.5


def test_missing_pixels_do_not_count_and_a_band_without_any_says_nothing():
    stamps = np.repeat(stamp((1e4, 16, 16)), 2, axis=1)
    stamps[0, 0, 16, 18] = np.nan
    stamps[0, 1] = np.nan
    found = stamp_summary(stamps)
    assert found[0, 0] == pytest.approx(stamp_summary(stamp((1e4, 16, 16)))[0, 0], abs=0.02)
    assert np.isnan(found[0]).tolist() == [False, True, False, True]
    assert stamp_summary(stamps[:0]).shape == (0, 4)


def test_a_stamps_numbers_do_not_depend_on_the_others():
    stamps = tiny_stamps(50)
    whole = stamp_summary(stamps)
    parts = np.concatenate([stamp_summary(stamps[row : row + 7]) for row in range(0, 50, 7)])
    assert np.array_equal(whole, parts)
    assert np.array_equal(whole, stamp_summary(stamps[::-1])[::-1])


def test_an_absurd_pixel_is_an_infinite_flux_and_no_error():
    stamps = stamp((1e4, 16, 16))
    stamps[0, 0, 16, 16] = 2000.0
    assert stamp_summary(stamps)[0, 0] == np.inf
