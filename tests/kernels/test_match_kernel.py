"""The match of positions at rest agrees with a plain loop and with a tree of scipy's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.match_loop import match_loop
from reference.sky_clumps import CENTRES, KEEPS, as_sorted, assert_equal_to_loop, clump, keeps, quick, regions, seeds
from scipy.spatial import cKDTree

from stellarscale.kernels.match import match
from stellarscale.kernels.sphere import propagate, separation_arcsec, unit_vectors
from stellarscale.kernels.zones import build_index

radii = st.floats(-2.0, np.log10(3600.0)).map(lambda x: float(10.0**x))


def with_duplicates(rng, ra, dec):
    """Some rows put exactly on others."""
    if ra.size > 2:
        onto, taken = rng.integers(0, ra.size, (2, max(1, ra.size // 5)))
        ra[taken], dec[taken] = ra[onto], dec[onto]
    return ra, dec


def whole_sky(rng, n):
    return rng.uniform(0.0, 360.0, n), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n)))


@quick
@given(seeds, regions, keeps, radii, st.floats(0.1, 30.0), st.integers(0, 25), st.integers(0, 25))
def test_match_agrees_with_the_loop(seed, region, keep, radius, spread, n_left, n_right):
    rng = np.random.default_rng(seed)
    left = with_duplicates(rng, *clump(rng, region, n_left, radius * spread))
    right = with_duplicates(rng, *clump(rng, region, n_right, radius * spread))
    pairs = match(*left, *right, radius_arcsec=radius, keep=keep)
    assert_equal_to_loop(pairs, match_loop(*left, *right, [radius] * n_left, keep))


@quick
@given(seeds, keeps, st.floats(0.5, 179.0), st.integers(1, 20), st.integers(1, 20))
def test_match_over_the_whole_sky_agrees_with_the_loop(seed, keep, radius_deg, n_left, n_right):
    rng = np.random.default_rng(seed)
    left, right = whole_sky(rng, n_left), whole_sky(rng, n_right)
    pairs = match(*left, *right, radius_arcsec=radius_deg * 3600.0, keep=keep)
    rows, n_candidates = match_loop(*left, *right, [radius_deg * 3600.0] * n_left, keep)
    assert list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == [(i, j) for i, j, _ in rows]
    assert pairs.n_candidates.tolist() == n_candidates


@quick
@given(seeds, regions, keeps, st.integers(1, 20), st.integers(1, 20))
def test_every_left_row_has_its_own_radius(seed, region, keep, n_left, n_right):
    rng = np.random.default_rng(seed)
    left, right = clump(rng, region, n_left, 100.0), clump(rng, region, n_right, 100.0)
    radius = 10.0 ** rng.uniform(-1.0, 2.3, n_left)
    pairs = match(*left, *right, radius_arcsec=radius, keep=keep)
    assert_equal_to_loop(pairs, match_loop(*left, *right, radius.tolist(), keep))


@quick
@given(seeds, regions, st.floats(0.1, 100.0))
def test_all_pairs_are_the_same_from_either_side(seed, region, radius):
    rng = np.random.default_rng(seed)
    one, other = clump(rng, region, 30, 5 * radius), clump(rng, region, 30, 5 * radius)
    there = match(*one, *other, radius_arcsec=radius, keep="all")
    back = match(*other, *one, radius_arcsec=radius, keep="all")

    def found(left, right, separation):
        return sorted(zip(left.tolist(), right.tolist(), separation.tolist(), strict=True))

    assert found(*there[:3]) == found(back.right, back.left, back.separation_arcsec)


@quick
@given(seeds, regions, st.floats(0.1, 100.0))
def test_mutual_pairs_are_a_matching_and_part_of_the_nearest(seed, region, radius):
    rng = np.random.default_rng(seed)
    left, right = clump(rng, region, 40, 5 * radius), clump(rng, region, 40, 5 * radius)
    nearest = match(*left, *right, radius_arcsec=radius, keep="nearest")
    mutual = match(*left, *right, radius_arcsec=radius, keep="mutual")
    assert len(set(mutual.right.tolist())) == mutual.right.size
    assert set(zip(*map(np.ndarray.tolist, mutual[:2]), strict=True)) <= set(
        zip(*map(np.ndarray.tolist, nearest[:2]), strict=True)
    )
    if nearest.left.size:  # the closest pair of all is always mutual
        assert mutual.separation_arcsec.min() == nearest.separation_arcsec.min()


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("n_left, n_right", [(0, 0), (0, 3), (3, 0)])
def test_an_empty_side_gives_no_pairs(keep, n_left, n_right):
    left, right = np.zeros((2, n_left)), np.zeros((2, n_right))
    pairs = match(*left, *right, radius_arcsec=1.0, keep=keep)
    assert [part.size for part in pairs] == [0, 0, 0, n_left]
    assert [part.dtype for part in pairs] == [np.int64, np.int64, np.float64, np.int32]
    assert not pairs.n_candidates.any()


@pytest.mark.parametrize("keep", KEEPS)
def test_types_of_the_result(keep):
    pairs = match([10.0, 50.0], [0.0, 0.0], [10.0], [0.0], radius_arcsec=1.0, keep=keep)
    assert [part.dtype for part in pairs] == [np.int64, np.int64, np.float64, np.int32]
    assert pairs.n_candidates.tolist() == [1, 0]


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("ra, dec", [(0.0, 0.0), (359.999999, 70.0), (12.0, 89.99999), (3.0, -90.0)])
def test_a_pair_exactly_at_the_radius_counts(keep, ra, dec):
    other_ra, other_dec = propagate([ra], [dec], 600.0, 800.0, 1.0)
    radius = separation_arcsec(ra, dec, other_ra, other_dec)[0]
    assert match([ra], [dec], other_ra, other_dec, radius_arcsec=radius, keep=keep).left.size == 1
    below = np.nextafter(radius, 0.0)
    assert match([ra], [dec], other_ra, other_dec, radius_arcsec=below, keep=keep).left.size == 0


def test_identical_positions_match_at_radius_zero():
    ra, dec = whole_sky(np.random.default_rng(3), 50)
    pairs = match(ra, dec, ra, dec, radius_arcsec=0.0, keep="all")
    assert pairs.left.tolist() == pairs.right.tolist() == list(range(50))
    assert not pairs.separation_arcsec.any()


def test_of_equally_near_right_rows_the_lower_is_taken():
    pairs = match([10.0], [5.0], [10.1, 10.0, 10.0, 10.0], [5.0] * 4, radius_arcsec=1.0, keep="nearest")
    assert pairs.right.tolist() == [1]
    assert pairs.n_candidates.tolist() == [3]
    apart = 0.5 / 3600.0
    pairs = match([10.0], [0.0], [10.0, 10.0], [apart, -apart], radius_arcsec=1.0, keep="all")
    assert pairs.right.tolist() == [0, 1]
    assert pairs.separation_arcsec[0] == pairs.separation_arcsec[1]


def test_of_equally_near_left_rows_the_southern_one_is_mutual_in_any_order():
    apart = 0.5 / 3600.0
    left_ra, left_dec = np.array([10.0, 10.0]), np.array([apart, -apart])
    for order in ([0, 1], [1, 0]):
        pairs = match(left_ra[order], left_dec[order], [10.0], [0.0], radius_arcsec=1.0, keep="mutual")
        assert left_dec[order][pairs.left] == [-apart]


def test_of_left_rows_in_one_place_the_first_is_mutual():
    pairs = match([10.0] * 3, [4.0] * 3, [10.0], [4.0], radius_arcsec=1.0, keep="mutual")
    assert pairs.left.tolist() == [0]
    assert pairs.n_candidates.tolist() == [1, 1, 1]


def test_right_ascension_may_lie_in_any_turn():
    pairs = match([-0.0001, 360.0001, 719.9999], [0.0] * 3, [359.9999, 0.0001], [0.0] * 2, radius_arcsec=0.01)
    assert pairs.left.tolist() == [0, 1, 2]
    assert pairs.right.tolist() == [0, 1, 0]


@pytest.mark.parametrize("keep", KEEPS)
def test_a_cap_over_the_pole_reaches_every_right_ascension(keep):
    ra = np.arange(0.0, 360.0, 7.5)
    dec = np.full(ra.size, 90.0 - 3.0 / 3600.0)
    pairs = match([123.0], [90.0 - 1.0 / 3600.0], ra, dec, radius_arcsec=4.1, keep=keep)
    assert pairs.n_candidates.tolist() == [ra.size]


def expected_by_tree(left, right, radius_arcsec):
    """Sorted (left, right) of all pairs, from scipy."""
    chord = 2.0 * np.sin(np.radians(radius_arcsec / 3600.0) / 2.0)
    tree = cKDTree(unit_vectors(*right))
    near = tree.query_ball_point(unit_vectors(*left), chord)
    return [(i, j) for i, rows in enumerate(near) for j in sorted(rows)]


@pytest.mark.parametrize("keep", KEEPS)
def test_many_blocks_of_rows_agree_with_a_tree(keep):
    rng = np.random.default_rng(8)
    left, right = clump(rng, "ra zero", 20_000, 4000.0), clump(rng, "ra zero", 15_000, 4000.0)
    pairs = match(*left, *right, radius_arcsec=60.0, keep=keep)
    expected = expected_by_tree(left, right, 60.0)
    assert pairs.n_candidates.sum() == len(expected)
    np.testing.assert_array_equal(pairs.n_candidates, np.bincount([i for i, _ in expected], minlength=20_000))
    if keep == "all":
        assert as_sorted(pairs) == expected
        same_row = np.diff(pairs.left) == 0
        assert (np.diff(pairs.left) >= 0).all()
        assert (np.diff(pairs.separation_arcsec)[same_row] >= 0).all()
    if keep == "nearest":
        distance, row = cKDTree(unit_vectors(*right)).query(unit_vectors(*left))
        found = distance <= 2.0 * np.sin(np.radians(60.0 / 3600.0) / 2.0)
        np.testing.assert_array_equal(pairs.left, np.flatnonzero(found))
        np.testing.assert_array_equal(pairs.right, row[found])


def test_one_row_with_more_candidates_than_a_block_has_room_for():
    right = clump(np.random.default_rng(2), "equator", 100_000, 10.0)
    left = clump(np.random.default_rng(4), "equator", 3, 1.0)
    assert match(*left, *right, radius_arcsec=20.0, keep="nearest").n_candidates.tolist() == [100_000] * 3
    pairs = match(*left, *right, radius_arcsec=20.0, keep="all")
    assert pairs.left.size == 300_000
    assert sorted(pairs.right[:100_000].tolist()) == list(range(100_000))
    assert (np.diff(pairs.separation_arcsec[:100_000]) >= 0).all()


@pytest.mark.parametrize("region", sorted(CENTRES))
def test_a_crowd_and_a_stray_row_agree_with_a_tree(region):
    rng = np.random.default_rng(6)
    right = [
        np.append(crowd, stray) for crowd, stray in zip(clump(rng, region, 5000, 60.0), (99.0, -33.0), strict=True)
    ]
    left = clump(rng, region, 500, 60.0)
    assert build_index(*right).ordered
    pairs = match(*left, *right, radius_arcsec=2.0, keep="all")
    assert as_sorted(pairs) == expected_by_tree(left, right, 2.0)


@pytest.mark.parametrize("line", ["meridian", "parallel", "point"])
def test_right_rows_on_a_line_or_a_point_agree_with_a_tree(line):
    along = np.linspace(0.0, 1.0, 3000)
    still = np.full(3000, 0.5)
    ra, dec = {"meridian": (still, along), "parallel": (along, still), "point": (still, still)}[line]
    pairs = match(ra[::50], dec[::50], ra, dec, radius_arcsec=3.0, keep="all")
    assert as_sorted(pairs) == expected_by_tree((ra[::50], dec[::50]), (ra, dec), 3.0)


def test_an_index_never_needs_many_more_cells_than_rows():
    rng = np.random.default_rng(7)
    for ra, dec in (
        whole_sky(rng, 2000),
        clump(rng, "ra zero", 2000, 10.0),
        clump(rng, "north pole", 2000, 1e5),
    ):
        index = build_index(ra, dec)
        assert index.start.size < 5 * 2000
        assert index.start[-1] == 2000
        assert sorted(index.row.tolist()) == list(range(2000))
    assert build_index(*clump(rng, "ra zero", 100, 10.0)).signed


def test_separations_do_not_depend_on_what_else_is_matched():
    rng = np.random.default_rng(10)
    left, right = clump(rng, "ra zero", 400, 30.0), clump(rng, "ra zero", 400, 30.0)
    whole = match(*left, *right, radius_arcsec=3.0, keep="all")
    north = right[1] > 12.0
    half = match(*left, right[0][north], right[1][north], radius_arcsec=3.0, keep="all")
    mine = north[whole.right]
    np.testing.assert_array_equal(half.separation_arcsec, whole.separation_arcsec[mine])
    np.testing.assert_array_equal(np.flatnonzero(north)[half.right], whole.right[mine])


def test_threads_do_not_disturb_each_other():
    rng = np.random.default_rng(11)
    left, right = clump(rng, "anywhere", 3000, 300.0), clump(rng, "anywhere", 3000, 300.0)
    alone = match(*left, *right, radius_arcsec=5.0, keep="mutual")
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(match, *left, *right, radius_arcsec=5.0, keep="mutual") for _ in range(4)]
    for run in runs:
        for ours, theirs in zip(alone, run.result(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_inputs_are_left_as_they_were_and_may_be_read_only():
    ra, dec = clump(np.random.default_rng(1), "ra zero", 50, 10.0)
    before = ra.copy(), dec.copy()
    match(ra, dec, ra, dec, radius_arcsec=5.0)
    assert ra.flags.writeable
    ra.flags.writeable = dec.flags.writeable = False
    pairs = match(ra, dec, list(ra), list(dec), radius_arcsec=5.0)
    assert pairs.left.size == 50
    np.testing.assert_array_equal((ra, dec), before)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"left_ra": [np.nan, 1.0]}, "left row 0 has no usable position"),
        ({"right_dec": [0.0, np.inf]}, "right row 1 has no usable position"),
        ({"right_dec": [0.0, 90.1]}, "right row 1 has no usable position"),
        ({"left_dec": [0.0]}, "one length"),
        ({"radius_arcsec": -1.0}, "radius_arcsec"),
        ({"radius_arcsec": np.nan}, "radius_arcsec"),
        ({"keep": "best"}, "nearest, all, mutual"),
    ],
)
def test_unusable_input_is_refused(changes, message):
    good = {name: [0.0, 1.0] for name in ("left_ra", "left_dec", "right_ra", "right_dec")}
    with pytest.raises(ValueError, match=message):
        match(**{**good, "radius_arcsec": 1.0, "keep": "nearest", **changes})
