"""Subsets: what the text says, the cover holds every row of the part, the mask holds these rows only."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.mock_catalog import mock_table

from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.subset import Subset, parse_subset
from stellarscale.errors import ConfigError
from stellarscale.kernels.healpix import in_ranges, pixel_of
from stellarscale.kernels.sphere import separation_arcsec, unit_vectors

TABLE = mock_table(20_000, seed=8)
RA, DEC = TABLE.column("ra").to_numpy(), TABLE.column("dec").to_numpy()
SKY = TABLE.column("_healpix_29").to_numpy()


def mask_of(subset: Subset) -> np.ndarray:
    return subset.mask(TABLE, "ra", "dec")


def near(ra: float, dec: float, size_deg: float, rows: int = 4000) -> pa.Table:
    """Rows close to a place, so that small regions hold some; repeated where the place is a pole."""
    rng = np.random.default_rng(0)
    centre = unit_vectors(np.array([ra]), np.array([dec]))[0]
    vectors = centre + rng.normal(0, np.radians(size_deg), (rows, 3))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    ras = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360.0
    decs = np.degrees(np.arcsin(np.clip(vectors[:, 2], -1, 1)))
    return pa.table({"_healpix_29": pixel_of(ras, decs), "ra": ras, "dec": decs})


ra_values = st.one_of(st.floats(0, 360), st.sampled_from([0.0, 360.0, 359.999, 1e-6, 45.0, 180.0]))
dec_values = st.one_of(st.floats(-90, 90), st.sampled_from([90.0, -90.0, 0.0, 41.81, 89.9]))


@given(ra_values, dec_values, st.floats(0.01, 180.0))
def test_a_cone_holds_what_is_within_its_radius(ra, dec, radius_deg):
    subset = parse_subset(f"cone:{ra},{dec},{radius_deg}")
    for table in (TABLE, near(ra, dec, radius_deg)):
        expected = separation_arcsec(table["ra"].to_numpy(), table["dec"].to_numpy(), ra, dec) <= radius_deg * 3600
        mask = subset.mask(table, "ra", "dec")
        assert np.array_equal(mask, expected)
        assert in_ranges(table["_healpix_29"].to_numpy(), subset.ranges())[mask].all()


def test_a_cones_cover_is_not_the_whole_sky():
    ranges = parse_subset("cone:10,20,1").ranges()
    assert (ranges[:, 1] - ranges[:, 0]).sum() / (12 << 58) < 3 * (np.pi / 41253.0)


@settings(max_examples=100)
@given(ra_values, ra_values, dec_values, dec_values)
def test_a_box_holds_what_lies_between_its_sides(ra1, ra2, dec1, dec2):
    if dec1 == dec2 or ra1 == ra2:
        return
    dec1, dec2 = min(dec1, dec2), max(dec1, dec2)
    subset = parse_subset(f"box:{ra1!r},{ra2!r},{dec1!r},{dec2!r}")
    start, end = (0.0, 360.0) if abs(ra2 - ra1) >= 360 else (ra1 % 360.0, ra2 % 360.0)
    for table in (TABLE, near(ra1, dec1, 0.3), near(ra2, dec2, 0.01)):
        ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
        across = (ra >= start) & (ra <= end) if start < end else (ra >= start) | (ra <= end)
        mask = subset.mask(table, "ra", "dec")
        assert np.array_equal(mask, across & (dec >= dec1) & (dec <= dec2))
        assert in_ranges(table["_healpix_29"].to_numpy(), subset.ranges())[mask].all()


def test_a_small_boxs_cover_is_small():
    ranges = parse_subset("box:359.5,0.5,10,11").ranges()
    assert (ranges[:, 1] - ranges[:, 0]).sum() / (12 << 58) < 4.0 / 41253.0


@settings(max_examples=60)
@given(ra_values, st.floats(-89, 89), st.floats(0.1, 40.0), st.integers(3, 8), st.booleans())
def test_a_polygon_holds_what_is_inside_of_every_edge(ra, dec, size_deg, corners, clockwise):
    centre = unit_vectors(np.array([ra]), np.array([dec]))[0]
    east = np.cross([0.0, 0.0, 1.0], centre)
    east /= np.linalg.norm(east)
    north = np.cross(centre, east)
    angles = np.arange(corners) * 2 * np.pi / corners * (-1 if clockwise else 1)
    radius = np.tan(np.radians(size_deg))
    points = centre + radius * (np.cos(angles)[:, None] * east + np.sin(angles)[:, None] * north)
    points /= np.linalg.norm(points, axis=1)[:, None]
    ras, decs = np.degrees(np.arctan2(points[:, 1], points[:, 0])) % 360, np.degrees(np.arcsin(points[:, 2]))
    subset = parse_subset(
        "polygon:" + ";".join(f"{a!r},{d!r}" for a, d in zip(ras.tolist(), decs.tolist(), strict=True))
    )
    table = near(ra, dec, size_deg)
    stars = unit_vectors(table["ra"].to_numpy(), table["dec"].to_numpy())
    # On the tangent plane great circles are straight lines: a regular polygon is its edges' half planes.
    depth = stars @ centre
    x, y = stars @ east / depth, stars @ north / depth
    middle = (np.arange(corners) + 0.5) * 2 * np.pi / corners * (-1 if clockwise else 1)
    apothem = radius * np.cos(np.pi / corners)
    margin = apothem - (np.cos(middle)[:, None] * x + np.sin(middle)[:, None] * y).max(axis=0)
    sure = np.abs(margin) > 1e-9
    mask = subset.mask(table, "ra", "dec")
    assert np.array_equal(mask[sure], ((margin > 0) & (depth > 0))[sure])
    assert in_ranges(table["_healpix_29"].to_numpy(), subset.ranges())[mask].all()


def test_pixels_hold_their_rows():
    subset = parse_subset("pixels:1/3, 3/500")
    expected = (pixel_of(RA, DEC, 1) == 3) | (pixel_of(RA, DEC, 3) == 500)
    assert np.array_equal(mask_of(subset), expected)
    assert np.array_equal(in_ranges(SKY, subset.ranges()), expected)
    assert subset.pixels == (Pixel(1, 3), Pixel(3, 500))


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.9])
def test_a_sample_has_its_size_and_does_not_cluster(fraction):
    subset = parse_subset(f"sample:{fraction}")
    mask = mask_of(subset)
    error = 4.5 * np.sqrt(fraction * (1 - fraction) / len(mask))
    assert mask.mean() == pytest.approx(fraction, abs=error)
    halves = [
        mask[::2].mean(),
        mask[1::2].mean(),
        mask[: len(mask) // 2].mean(),
        mask[len(mask) // 2 :].mean(),
    ]
    assert halves == pytest.approx([fraction] * 4, abs=1.5 * error)
    assert subset.ranges() is None


def test_a_sample_does_not_depend_on_the_partitions():
    subset = parse_subset("sample:0.2")
    pieces = [subset.mask(TABLE.slice(i, 777), "ra", "dec") for i in range(0, len(TABLE), 777)]
    assert np.array_equal(np.concatenate(pieces), mask_of(subset))


def test_samples_are_nested_and_seeds_differ():
    small, large = mask_of(parse_subset("sample:0.1")), mask_of(parse_subset("sample:0.4"))
    assert not (small & ~large).any()
    other = mask_of(Subset("sample", (0.1,), seed=1))
    assert (other & small).mean() == pytest.approx(0.01, abs=0.004)
    assert mask_of(parse_subset("sample:1")).all()


@pytest.mark.parametrize(
    "text",
    ["cone:10.25,-3,0.5", "box:350,20,-1,1", "polygon:0,0;10,0;5,8", "pixels:3/7,5/1", "sample:0.25"],
)
def test_the_text_of_a_subset_makes_it_again(text):
    subset = parse_subset(text)
    assert parse_subset(str(subset)) == subset
    assert str(subset) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "circle:1,2,3",
        "cone:1,2",
        "cone:1,2,3,4",
        "cone:1,2,-3",
        "cone:1,2,0",
        "cone:1,95,1",
        "cone:a,b,c",
        "cone:nan,0,1",
        "box:1,2,3",
        "box:1,2,5,4",
        "box:1,1,4,5",
        "box:0,1,-91,5",
        "polygon:1,2;3,4",
        "polygon:1,2;3,4;5",
        "polygon:0,0;10,0;5,1;5,10",
        "polygon:0,0;10,10;10,0;0,10",
        "polygon:0,0;0,0;10,10",
        "pixels:",
        "pixels:3",
        "pixels:3/768",
        "pixels:30/1",
        "sample:0",
        "sample:1.5",
        "sample:-0.1",
        "sample:0.1,0.2",
    ],
)
def test_what_makes_no_sense_is_told_with_the_accepted_forms(text):
    with pytest.raises(ConfigError, match=r"cone:RA,DEC,RADIUS_DEG.*sample:FRACTION"):
        parse_subset(text)


def test_right_ascensions_of_any_turn_are_understood():
    assert parse_subset("cone:-10,0,1") == parse_subset("cone:350,0,1")
    assert np.array_equal(mask_of(parse_subset("box:-10,10,-5,5")), mask_of(parse_subset("box:350,10,-5,5")))
    assert mask_of(parse_subset("box:0,360,-90,90")).all()
