"""The match of positions that move agrees with a plain loop, and with the match of positions at rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.match_loop import match_moving_loop
from reference.sky_clumps import CENTRES, KEEPS, as_sorted, assert_equal_to_loop, clump, keeps, quick, regions, seeds

from stellarscale.kernels.match import Sky, match, match_moving
from stellarscale.kernels.sphere import propagate


def movers(rng, region, n, speed_masyr):
    """A clump with motions in random directions and epochs of its own."""
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    speed = speed_masyr * rng.uniform(0.0, 1.0, n)
    pmra, pmdec = speed * np.cos(angle), speed * np.sin(angle)
    return Sky(*clump(rng, region, n, 30.0), pmra, pmdec, rng.uniform(2014.0, 2017.0, n))


@quick
@given(
    seeds,
    regions,
    keeps,
    st.sampled_from(["left", "right", "both"]),
    st.sampled_from([0.0, 100.0, 10_000.0]),
    st.floats(0.0, 25.0),
)
def test_moving_match_agrees_with_the_loop(seed, region, keep, moving, speed, years):
    rng = np.random.default_rng(seed)
    left, right = movers(rng, region, 15, speed), movers(rng, region, 12, speed)
    if moving == "left":
        right = right._replace(pmra=None, pmdec=None, epoch=rng.uniform(1999.0 - years, 1999.0, 12))
    if moving == "right":
        left = left._replace(pmra=None, pmdec=None, epoch=rng.uniform(1999.0 - years, 1999.0, 15))
    pairs = match_moving(left, right, radius_arcsec=10.0, keep=keep)
    assert_equal_to_loop(pairs, match_moving_loop(left, right, 10.0, keep))


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("swap", [False, True])
def test_one_epoch_for_all_is_the_same_as_one_per_row(keep, swap):
    rng = np.random.default_rng(20)
    moving = movers(rng, "north pole", 60, 3000.0)._replace(epoch=2016.0)
    still = Sky(*clump(rng, "north pole", 60, 30.0), epoch=1999.5)
    rows = moving._replace(epoch=np.full(60, 2016.0)), still._replace(epoch=np.full(60, 1999.5))
    ours = match_moving(*((still, moving) if swap else (moving, still)), radius_arcsec=5.0, keep=keep)
    theirs = match_moving(*(rows[::-1] if swap else rows), radius_arcsec=5.0, keep=keep)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("swap", [False, True])
def test_moving_to_one_epoch_is_a_match_of_propagated_positions(keep, swap):
    rng = np.random.default_rng(21)
    moving = movers(rng, "ra zero", 80, 2000.0)
    still = Sky(*clump(rng, "ra zero", 80, 30.0), epoch=1999.5)
    moved = propagate(*moving[:4], 1999.5 - moving.epoch)
    pair = (still, moving) if swap else (moving, still)
    positions = (still[:2], moved) if swap else (moved, still[:2])
    ours = match_moving(*pair, radius_arcsec=5.0, keep=keep)
    theirs = match(*positions[0], *positions[1], radius_arcsec=5.0, keep=keep)
    assert ours.left.size > 10
    np.testing.assert_array_equal(ours.left, theirs.left)
    np.testing.assert_array_equal(ours.right, theirs.right)
    np.testing.assert_array_equal(ours.n_candidates, theirs.n_candidates)
    np.testing.assert_allclose(ours.separation_arcsec, theirs.separation_arcsec, rtol=0, atol=1e-9)


@pytest.mark.parametrize("region", sorted(CENTRES))
def test_fast_stars_are_found_where_they_were_fifty_years_ago(region):
    rng = np.random.default_rng(22)
    ra, dec = clump(rng, region, 200, 5e4)
    angle = rng.uniform(0.0, 2.0 * np.pi, 200)
    pmra, pmdec = 10_000.0 * np.cos(angle), 10_000.0 * np.sin(angle)
    epoch = rng.uniform(1966.0, 2016.0, 200)
    seen = Sky(*propagate(ra, dec, pmra, pmdec, epoch - 2016.0), epoch=epoch)
    stars = Sky(ra, dec, pmra, pmdec, 2016.0)
    for left, right in ((stars, seen), (seen, stars)):
        pairs = match_moving(left, right, radius_arcsec=1e-3, keep="mutual")
        assert pairs.left.tolist() == pairs.right.tolist() == list(range(200))
        assert pairs.separation_arcsec.max() < 1e-7
        assert match_moving(left, right, radius_arcsec=1e-3, keep="all").left.size == 200


def test_without_motion_it_is_the_plain_match():
    rng = np.random.default_rng(23)
    left, right = clump(rng, "equator", 300, 60.0), clump(rng, "equator", 300, 60.0)
    plain = match(*left, *right, radius_arcsec=3.0, keep="all")
    still = np.zeros(300)
    moving = match_moving(Sky(*left, still, still, 2016.0), Sky(*right, epoch=1950.0), radius_arcsec=3.0, keep="all")
    assert as_sorted(moving) == as_sorted(plain)
    np.testing.assert_allclose(moving.separation_arcsec, plain.separation_arcsec, rtol=0, atol=1e-9)


def test_when_both_sides_move_the_right_one_is_moved():
    left = Sky([10.0], [0.0], [5000.0], [0.0], [2000.0])
    right = Sky([10.0], [10.0 / 3600.0], [0.0], [1000.0], [2010.0])
    pairs = match_moving(left, right, radius_arcsec=0.01, keep="nearest")
    assert pairs.left.tolist() == [0]
    assert pairs.separation_arcsec[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("n_left, n_right", [(0, 3), (3, 0)])
@pytest.mark.parametrize("swap", [False, True])
def test_an_empty_side_gives_no_moving_pairs(keep, n_left, n_right, swap):
    left, right = Sky(*np.zeros((2, n_left)), epoch=2000.0), Sky(*np.zeros((2, n_right)), epoch=2000.0)
    if swap:
        right = right._replace(pmra=np.zeros(n_right), pmdec=np.zeros(n_right))
    else:
        left = left._replace(pmra=np.zeros(n_left), pmdec=np.zeros(n_left))
    pairs = match_moving(left, right, radius_arcsec=1.0, keep=keep)
    assert [part.size for part in pairs] == [0, 0, 0, n_left]


@pytest.mark.parametrize(
    "left, message",
    [
        (Sky([0.0], [0.0], [np.nan], [0.0], 2016.0), "left pmra of row 0"),
        (Sky([0.0], [0.0], [1.0], [np.inf], 2016.0), "left pmdec of row 0"),
        (Sky([0.0], [0.0], [1.0], None, 2016.0), "left pmdec is needed"),
        (Sky([0.0], [0.0], [1.0], [1.0], None), "left epoch is needed"),
        (Sky([0.0], [0.0], [1.0], [1.0], [np.nan]), "left epoch of row 0"),
        (Sky([0.0], [np.nan], [1.0], [1.0], 2016.0), "left row 0 has no usable position"),
        (Sky([0.0], [0.0], epoch=2016.0), "left pmra is needed"),
    ],
)
def test_unusable_motion_is_refused(left, message):
    with pytest.raises(ValueError, match=message):
        match_moving(left, Sky([0.0], [0.0], epoch=2000.0), radius_arcsec=1.0, keep="nearest")
