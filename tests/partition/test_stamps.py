"""Stamps of stars from their detections, held in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from reference.fake_cutouts import SCALE_DEG, image_of
from reference.stamp_shelf import (
    BANDS,
    CONFIG,
    DEC,
    MAG,
    RA,
    SETTINGS,
    SHOTS,
    SIZE,
    TWO_EACH,
    Shelf,
    detections,
    flags,
    flux,
    made,
    reasons,
    stars,
    with_settings,
)

from stellarscale.errors import SchemaError
from stellarscale.flags import Flag
from stellarscale.partition.stamp_config import output_schema
from stellarscale.partition.stamps import make_stamps
from stellarscale.stamp_columns import COVERAGE, STAMP, binary_rows, format_of, stamps_of


def test_the_flux_of_a_star_arrives_whatever_the_exposure():
    result = made()
    for number, band in enumerate(BANDS):
        expected = 10 ** (0.4 * (25.0 - MAG[band]))
        assert flux(result)[number].sum() == pytest.approx(expected, rel=2e-3), band
    assert flags(result) == 0
    assert result.table["n_detections_g"].to_pylist() == result.table["n_detections_r"].to_pylist() == [2]
    assert (result.used, result.rejects.num_rows) == (4, 0)
    assert result.table.schema.equals(output_schema(stars().schema, CONFIG), check_metadata=True)


def test_the_star_is_in_the_middle_of_the_stamp_in_the_pixels_of_the_reference():
    image = flux(made())
    y, x = np.mgrid[:SIZE, :SIZE]
    # The reference is exposure 3, of the better seeing, in which the star is at 23.5 - 0.4, 23.5 + 0.8.
    for plane in image:
        assert (x * plane).sum() / plane.sum() == pytest.approx(SIZE // 2 + 0.1, abs=0.01)
        assert (y * plane).sum() / plane.sum() == pytest.approx(SIZE // 2 + 0.3, abs=0.01)
    exact = image_of(SHOTS[3], [(RA, DEC, 10 ** (0.4 * (25 - MAG["r"])))]) - 100.0
    only = flux(made(table=detections((7, 3, 3, "r"), (7, 1, 3, "g"))))
    assert np.allclose(only[1], exact[8:40, 7:39], atol=1e-3 * exact.max())  # float32 in asinh; sky from the border


@pytest.mark.parametrize("known", [True, False])
def test_the_reference_has_the_best_seeing_then_the_first_exposure(known):
    shots = {number: replace(shot, fwhm_arcsec=2.5 if known else None) for number, shot in SHOTS.items()}
    shots[4] = replace(shots[4], shift_px=(1.9, 0.1))
    image = flux(made(shots, table=TWO_EACH.take([3, 2, 0])))[1]
    assert (np.arange(SIZE) * image.sum(axis=0)).sum() / image.sum() == pytest.approx(SIZE // 2 + 0.1, abs=0.02)


def test_the_order_of_the_tables_threads_and_other_stars_do_not_matter():
    alone = made().table
    sky = stars((9, 7, None), (150.1, RA, RA), (DEC, DEC, DEC))
    table = pa.concat_tables([detections((8, 1, 3, "g")), TWO_EACH.take([2, 0, 3, 1])])
    with ThreadPoolExecutor(3) as pool:
        result = made(table=table, sky=sky, over=pool.map)
    assert result.table.slice(1, 1).equals(alone)
    assert result.table[STAMP].null_count == 2
    assert flags(result, 0) == flags(result, 2) == Flag.INCOMPLETE_BANDS
    assert result.rejects.num_rows == 0


def test_nan_and_saturated_pixels_do_not_enter_the_mean():
    shelf = Shelf(SHOTS)

    def holes(object_id, image_id, ccd, band):
        cutout = shelf(object_id, image_id, ccd, band)
        if image_id == 3:
            cutout.image[10:13, 20] = np.nan
        if image_id == 4:
            cutout.image[23, 24] = 1e7
        return cutout

    config = with_settings(saturation=1e6)
    result = make_stamps(stars(), TWO_EACH, None, config, holes)
    assert flags(result) == Flag.SATURATED
    coverage = binary_rows(result.table[COVERAGE], "u1", (2, SIZE, SIZE))[0]
    assert coverage[0].min() == 2
    assert 3 <= (coverage[1] == 1).sum() <= 8
    clean = flux(made())
    assert np.allclose(flux(result)[0], clean[0])
    assert np.abs(flux(result)[1] - clean[1]).max() < 0.05 * clean[1].max()
    only = make_stamps(stars(), TWO_EACH.take([0, 2]), None, config, holes)
    assert flags(only) == Flag.MISSING_PIXELS
    assert np.isnan(flux(only)[1]).sum() == 3


def test_saturation_far_from_the_star_is_not_its_own():
    shots = {number: replace(shot, size=96) for number, shot in SHOTS.items()}
    far = (RA + 40 * SCALE_DEG / np.cos(np.radians(DEC)), DEC, 1e9)
    config = with_settings(saturation=1e6)
    result = make_stamps(stars(), TWO_EACH, None, config, Shelf(shots, [far]))
    assert not flags(result) & Flag.SATURATED


def test_too_many_missing_pixels_make_a_band_incomplete():
    cut = SHOTS | {1: replace(SHOTS[1], shift_px=(12.0, 0.0)), 2: replace(SHOTS[2], shift_px=(12.0, 0.0))}
    result = made(cut, config=with_settings(max_missing=0.5))
    assert flags(result) == Flag.MISSING_PIXELS
    assert 0.05 < np.isnan(flux(result)[0]).mean() < 0.3
    assert flags(made(cut, config=with_settings(max_missing=0.01))) == Flag.MISSING_PIXELS | Flag.INCOMPLETE_BANDS


def test_tables_go_before_headers_and_detections_before_exposures():
    images = pa.table(
        {
            "image_id": pa.array([4, 3, 99], pa.int64()),
            "zpapprox": [26.0, None, 1.0],
            "background": pa.array([100.0, 100.0, 0.0], pa.float32()),
            "fwhm_arcsec": [0.5, 2.0, 0.1],
        }
    )
    config = with_settings(images="images")
    wrong = SHOTS | {4: replace(SHOTS[4], fwhm_arcsec=4.5)}
    result = made(wrong, config=config, images=images)
    middle = (np.arange(SIZE) * flux(result)[1].sum(axis=0)).sum() / flux(result)[1].sum()
    assert middle == pytest.approx(SIZE // 2 - 0.3, abs=0.02)  # exposure 4 is the reference now
    own = with_settings(
        images="images", columns={"zero_point": "zp", "background": "sky", "fwhm": "width"}, reference_band="g"
    )
    table = TWO_EACH.append_column("zp", pa.array([24.0, 25.5, None, 28.5]))
    table = table.append_column("sky", pa.array([80.0, None, 100.0, 100.0])).append_column("width", pa.array([2.0] * 4))
    brighter = made(wrong, table=table.take([0, 3]), config=own, images=images)
    assert flux(brighter)[1].sum() == pytest.approx(0.1 * 10 ** (0.4 * (25.0 - MAG["r"])), rel=5e-3)
    empty = made(table=table, config=own, images=images.slice(0, 0))
    assert empty.used == 4


def test_fluxes_are_those_before_the_dust():
    reddened = stars(ebv=[0.3])
    config = with_settings(reddening={"column": "ebv"})
    result = made(config=config, sky=reddened)
    ratio = flux(result).sum(axis=(1, 2)) / flux(made()).sum(axis=(1, 2))
    assert ratio == pytest.approx([10 ** (0.4 * SETTINGS.extinction[band] * 0.3) for band in BANDS], rel=1e-5)
    assert format_of(result.table.schema).dereddened
    mapped = with_settings(reddening={"sfd98": "maps"})
    from_maps = made(config=mapped, ebv=np.array([0.3]))
    assert np.array_equal(stamps_of(from_maps.table), stamps_of(result.table))
    assert np.array_equal(
        stamps_of(made(config=with_settings(reddening={"value": 0.3})).table), stamps_of(result.table)
    )
    with pytest.raises(SchemaError, match="not handed over"):
        made(config=mapped)
    unknown = made(config=config, sky=stars(ebv=pa.array([None], pa.float32())))
    assert flags(unknown) == Flag.INCOMPLETE_BANDS | Flag.MISSING_FEATURE
    assert set(reasons(unknown).values()) == {"no E(B-V) of the star"}
    assert unknown.rejects.num_rows == 4


def test_flags_are_added_to_those_that_were_there():
    sky = stars((7, 9), (RA, RA), (DEC, DEC), quality_flags=pa.array([int(Flag.BLEND), None], pa.int32()))
    result = made(sky=sky)
    assert result.table["quality_flags"].to_pylist() == [int(Flag.BLEND), int(Flag.INCOMPLETE_BANDS)]
    assert result.table.column_names[:4] == ["object_id", "ra", "dec", "quality_flags"]


def test_stored_as_float16_within_its_precision():
    result = made(config=with_settings(dtype="float16"))
    stored = stamps_of(result.table)
    assert stored.dtype == np.float16
    assert np.allclose(stored, stamps_of(made().table), rtol=1e-3, atol=1e-3)


def test_nothing_in_nothing_out():
    result = made(sky=stars((), (), ()).cast(stars().schema))
    assert (result.table.num_rows, result.rejects.num_rows, result.used) == (0, 0, 0)
    assert result.table.schema.equals(output_schema(stars().schema, CONFIG))
    no_detections = made(table=TWO_EACH.slice(0, 0))
    assert flags(no_detections) == Flag.INCOMPLETE_BANDS


def test_more_detections_than_the_coverage_counts():
    table = detections(*((7, 3, ccd, "r") for ccd in range(257)), (7, 1, 3, "g"))
    result = made(table=table)
    assert result.table["n_detections_r"].to_pylist() == [255]
    assert set(result.rejects["reason"].to_pylist()) == {"more than 255 of the band"}


@pytest.mark.parametrize(
    ("sky", "table", "config", "words"),
    [
        (stars().drop_columns(["object_id"]), TWO_EACH, CONFIG, "stars.*object_id"),
        (stars().drop_columns(["dec"]), TWO_EACH, CONFIG, "dec"),
        (stars(), TWO_EACH, with_settings(reddening={"column": "ebv"}), "ebv"),
        (stars(), TWO_EACH.drop_columns(["ccd", "use"]), CONFIG, "detections.*ccd, use"),
        (stars(stamp=[b"x"]), TWO_EACH, CONFIG, "hold.*stamps already|stamp"),
        (stars().set_column(0, "object_id", pa.array(["7"])), TWO_EACH, CONFIG, "string and int64"),
    ],
)
def test_tables_that_do_not_fit_are_told(sky, table, config, words):
    with pytest.raises(SchemaError, match=words):
        made(table=table, config=config, sky=sky)
