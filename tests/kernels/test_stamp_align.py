"""Alignment of stamps against reproject, the full map in plain loops, and what it says of the distortion."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.stamp_loop import SCALE_DEG, align_loop, bilinear_loop, cutout_wcs, header_of

from stellarscale.errors import InputError
from stellarscale.kernels.stamp_align import align_stack, sample
from stellarscale.kernels.tpv import ImageWcs, identity_pv, pixel_to_sky, sky_to_pixel

SIZE = 48
CORNER = (5, 6)


def scene(rng, shape, *, missing=0.0):
    """Stars of 2 to 6 pixels full width on noise; one near the centre, some beyond the edges."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = rng.normal(0, 0.003, shape)
    places = rng.uniform(-4, np.array(shape) + 4, (6, 2))
    places[0] = np.array(shape) / 2 + rng.uniform(-2, 2, 2)
    for (row, column), flux in zip(places, [1, *rng.uniform(0, 2, 5)], strict=True):
        image += flux * np.exp(-4 * np.log(2) * ((y - row) ** 2 + (x - column) ** 2) / rng.uniform(2, 6) ** 2)
    image[rng.random(shape) < missing] = np.nan
    return image


def by_reproject(image, wcs, reference, corner=CORNER, size=SIZE):
    reproject = pytest.importorskip("reproject", reason="reproject is not installed")
    here = header_of(reference, (size, size))
    here["CRPIX1"], here["CRPIX2"] = reference.crpix[0] - corner[0], reference.crpix[1] - corner[1]
    source = image, WCS(header_of(wcs, image.shape))
    return reproject.reproject_interp(source, WCS(here), shape_out=(size, size), order="bilinear")


def compare(image, wcs, reference, **limit):
    """Align one image, and compare values and footprint with reproject."""
    found = align_stack([image], [wcs], reference, CORNER, size_px=SIZE, **limit)
    values, footprint = by_reproject(image, wcs, reference)
    np.testing.assert_array_equal(np.isfinite(found.images[0]), footprint == 1)
    np.testing.assert_allclose(found.images[0], values, rtol=0, atol=1e-6 * np.nanmax(image))
    return found, footprint.mean()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    ra=st.sampled_from([0.0, 0.0001, 123.4, 359.9999]),
    dec=st.sampled_from([-89.99, -70.0, -12.3, 0.0, 5.0]),
    distortion=st.floats(0, 10),
    missing=st.sampled_from([0.0, 0.002, 0.05]),
)
def test_equals_reproject(seed, ra, dec, distortion, missing):
    rng = np.random.default_rng(seed)
    shape, at = rng.integers(52, 61, 2), rng.uniform(22, 34, 2)
    reference = cutout_wcs(rng, ra, dec, (29, 30), distortion_px=distortion)
    wcs = cutout_wcs(rng, ra, dec, at, distortion_px=distortion)
    found, _ = compare(scene(rng, shape, missing=missing), wcs, reference)
    # Once in a thousand the affine map is near enough, but the cubic terms are not: the full map it is then, too.
    assert found.full_wcs[0] or found.distortion_px[0] <= 0.01


@pytest.mark.parametrize("at", [(2, 30), (-10, 5), (55, 56), (30, 70)])
def test_a_star_near_or_beyond_the_edge(at):
    rng = np.random.default_rng(8)
    reference = cutout_wcs(rng, 50, -20, (29, 30))
    _, covered = compare(scene(rng, (57, 55)), cutout_wcs(rng, 50, -20, at), reference)
    assert 0 < covered < 0.8


@pytest.mark.parametrize("ra, dec", [(50.1, -20), (230, 20), (50, 70)])
def test_an_image_that_does_not_cover_the_star(ra, dec):
    rng = np.random.default_rng(9)
    reference = cutout_wcs(rng, 50, -20, (29, 30))
    found = align_stack([scene(rng, (57, 55))], [cutout_wcs(rng, ra, dec, (25, 25))], reference, CORNER, size_px=SIZE)
    assert np.isnan(found.images).all()
    assert ra != 230 or (np.isinf(found.distortion_px[0]) and found.full_wcs[0])


@pytest.mark.parametrize("order, distortion, limit", [(3, 3, 1e-9), (3, 100, 0.01), (5, 10, 0.01), (7, 20, 1.0)])
def test_the_full_map_where_the_stamp_is_distorted(order, distortion, limit):
    rng = np.random.default_rng(10)
    for _ in range(4):
        reference, wcs = (cutout_wcs(rng, 50, -20, (29, 30), distortion_px=distortion, order=order) for _ in range(2))
        found, _ = compare(scene(rng, (58, 58), missing=0.01), wcs, reference, max_distortion_px=limit)
        if found.distortion_px[0] > limit:
            assert found.full_wcs[0]


@pytest.mark.parametrize("number, power", [(3, 1), (11, 3), (23, 5), (39, 7)])
@pytest.mark.parametrize("shift_px", [1e-7, 1e-4, 0.3])
def test_radial_terms_whose_origin_lies_in_the_stamp(number, power, shift_px):
    rng = np.random.default_rng(15)
    reference, wcs = (cutout_wcs(rng, 50, -20, (29, 30), order=1) for _ in range(2))
    pv = wcs.pv.copy()
    pv[:, number] = shift_px * SCALE_DEG / (40 * SCALE_DEG) ** power * np.array([1, -1])
    wcs = ImageWcs([30.3, 28.9], [50, -20], wcs.cd, pv)
    found, _ = compare(scene(rng, (58, 58)), wcs, reference)
    assert found.full_wcs[0] == (shift_px > 1e-5)


def test_distortion_is_the_largest_error_of_the_affine_map():
    rng = np.random.default_rng(11)
    reference, wcs = cutout_wcs(rng, 50, -20, (29, 30)), cutout_wcs(rng, 50, -20, (29, 30))
    found = align_stack([scene(rng, (58, 58))], [wcs], reference, CORNER, size_px=SIZE)
    step = np.linspace(0, SIZE - 1, 5)
    x, y = (values.ravel() for values in np.meshgrid(CORNER[0] + step, CORNER[1] + step))
    there = np.stack(sky_to_pixel(wcs, *pixel_to_sky(reference, x, y)), axis=1)
    design = np.stack([np.ones(25), x, y], axis=1)
    error = there - design @ np.linalg.lstsq(design, there, rcond=None)[0]
    assert found.distortion_px[0] == pytest.approx(np.hypot(*error.T).max(), abs=1e-8)
    assert 1e-5 < found.distortion_px[0] < 0.01
    assert not found.full_wcs[0]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), limit=st.sampled_from([1e-12, 0.01]))
def test_equals_the_loop(seed, limit):
    rng = np.random.default_rng(seed)
    reference = cutout_wcs(rng, 300, -45, (9, 9))
    images = [scene(rng, rng.integers(14, 22, 2), missing=0.01) for _ in range(3)]
    wcs = [cutout_wcs(rng, 300, -45, rng.uniform(4, 14, 2)) for _ in images]
    found = align_stack(images, wcs, reference, (3, 2), size_px=12, max_distortion_px=limit)
    for image, its, aligned, full in zip(images, wcs, found.images, found.full_wcs, strict=True):
        np.testing.assert_allclose(
            aligned, align_loop(image, its, reference, (3, 2), 12), rtol=0, atol=1e-6 * np.nanmax(image)
        )
        assert full == (limit < 1e-6)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    x=st.floats(-2, 9) | st.integers(-1, 8).map(lambda i: i / 2),
    y=st.floats(-2, 9) | st.integers(-1, 8).map(lambda i: i / 2),
)
def test_sampling_equals_the_loop(seed, x, y):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=rng.integers(1, 8, 2))
    image[rng.random(image.shape) < 0.15] = np.nan
    assert sample(image, x, y) == pytest.approx(bilinear_loop(image, x, y), abs=1e-12, nan_ok=True)


def test_the_reference_itself_comes_back_and_its_missing_pixels_do_not_spread():
    rng = np.random.default_rng(12)
    for place in ((0.0, -89.99), (123, -20)):
        reference = cutout_wcs(rng, *place, (29, 30), distortion_px=5)
        image = scene(rng, (60, 59), missing=0.05)
        for limit in (0.01, 1e-12):
            found = align_stack([image], [reference], reference, CORNER, size_px=SIZE, max_distortion_px=limit)
            expected = image[CORNER[1] : CORNER[1] + SIZE, CORNER[0] : CORNER[0] + SIZE]
            np.testing.assert_allclose(found.images[0], expected, rtol=0, atol=1e-8)


def test_a_star_lands_where_the_reference_has_it():
    rng = np.random.default_rng(13)
    y, x = np.mgrid[:60, :60]
    reference = cutout_wcs(rng, 80, -33, (29, 30))
    at = sky_to_pixel(reference, 80, -33)
    wcs, images = [cutout_wcs(rng, 80, -33, rng.uniform(24, 36, 2)) for _ in range(6)], []
    for each in wcs:
        column, row = sky_to_pixel(each, 80, -33)
        images.append(np.exp(-0.5 * ((x - column) ** 2 + (y - row) ** 2) / 2.0**2))
    for stamp in align_stack(images, wcs, reference, CORNER, size_px=SIZE).images:
        stamp = np.nan_to_num(stamp)
        rows, columns = np.mgrid[:SIZE, :SIZE]
        assert (stamp * columns).sum() / stamp.sum() == pytest.approx(at[0] - CORNER[0], abs=0.02)
        assert (stamp * rows).sum() / stamp.sum() == pytest.approx(at[1] - CORNER[1], abs=0.02)


def test_images_of_any_type_and_order_give_the_same_and_none_gives_none():
    rng = np.random.default_rng(14)
    reference, wcs = cutout_wcs(rng, 80, -33, (29, 30)), cutout_wcs(rng, 80, -33, (29, 30))
    image = scene(rng, (57, 52)).astype(np.float32)
    kinds = [image, image.astype(">f4"), np.asfortranarray(image), image.astype(np.float64)[::-1][::-1]]
    found = align_stack(kinds, [wcs] * 4, reference, CORNER, size_px=SIZE).images
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    none = align_stack([], [], reference, CORNER, size_px=SIZE)
    assert none.images.shape == (0, SIZE, SIZE)
    assert none.full_wcs.shape == none.distortion_px.shape == (0,)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"images": []}, "0 images, 1 world"),
        ({"images": [np.zeros(5)]}, r"image 0.*\(5,\)"),
        ({"images": [np.zeros((0, 5))]}, "image 0"),
        ({"size_px": 1}, "size 1"),
        ({"corner": (np.nan, 0)}, "corner"),
        ({"max_distortion_px": 0.0}, "no stamp"),
        ({"max_distortion_px": np.nan}, "no stamp"),
    ],
)
def test_bad_input_is_refused(change, words):
    wcs = ImageWcs([30, 30], [10, -30], SCALE_DEG * np.eye(2), identity_pv())
    good = {"images": [np.zeros((9, 9))], "wcs": [wcs], "reference": wcs, "corner": (0, 0), "size_px": 4}
    with pytest.raises(InputError, match=words):
        align_stack(**{**good, **change})
