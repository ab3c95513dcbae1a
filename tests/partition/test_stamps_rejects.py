"""Detections that are in no stamp, each with its reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from reference.stamp_shelf import (
    BASE,
    CONFIG,
    RA,
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

from stellarscale.errors import InputError
from stellarscale.flags import Flag
from stellarscale.partition.stamps import make_stamps
from stellarscale.stamp_columns import COVERAGE, STAMP, binary_rows, stamps_of


def test_a_missing_band_is_told():
    result = made(table=detections((7, 3, 3, "r")))
    assert flags(result) == Flag.INCOMPLETE_BANDS | Flag.MISSING_PIXELS
    assert np.isnan(flux(result)[0]).all()
    assert result.table["n_detections_g"].to_pylist() == [0]
    assert binary_rows(result.table[COVERAGE], "u1", (2, SIZE, SIZE))[0, 0].max() == 0


def test_without_a_reference_there_is_no_stamp():
    result = made(table=detections((7, 1, 3, "g"), (7, 2, 3, "g")))
    assert result.table[STAMP].null_count == result.table[COVERAGE].null_count == 1
    assert flags(result) == Flag.INCOMPLETE_BANDS
    assert reasons(result) == {1: "no reference image", 2: "no reference image"}
    assert result.table["n_detections_g"].to_pylist() == [0]


@pytest.mark.parametrize(
    ("shot", "reason", "detail"),
    [
        (FileNotFoundError("there/is/none.fits"), "no file", "none.fits"),
        (InputError("the FITS file is truncated", where="a.fits"), "unreadable file", "truncated.*a.fits"),
        (replace(BASE, zero_point=None), "no zero-point", None),
        (replace(BASE, ra=RA + 1.0), "does not cover the star", None),
        (replace(BASE, ra=RA + 180.0, dec=30.0), "does not cover the star", None),
        (replace(BASE, shift_px=(30.0, 0.0)), "does not cover the star", None),
    ],
)
def test_a_detection_that_cannot_be_used_is_recorded(shot, reason, detail):
    result = made(SHOTS | {2: shot})
    assert result.rejects.num_rows == result.rejects["image_id"].to_pylist().count(2) == 1
    (row,) = result.rejects.to_pylist()
    assert (row["object_id"], row["ccd"], row["band"], row["reason"]) == (7, 3, "g", reason)
    if detail is None:
        assert row["detail"] is None
    else:
        assert all(word in row["detail"] for word in detail.split(".*"))
    assert result.table["n_detections_g"].to_pylist() == [1]
    assert flags(result) == 0
    expected = made(table=TWO_EACH.take([0, 2, 3]))
    assert np.array_equal(stamps_of(result.table), stamps_of(expected.table))


def other_cutout(image_id: int, **changes):
    """The cut-outs, one of which is another."""
    shelf = Shelf(SHOTS)

    def fetch(object_id, exposure, ccd, band):
        cutout = shelf(object_id, exposure, ccd, band)
        return replace(cutout, **changes) if exposure == image_id else cutout

    return fetch


@pytest.mark.parametrize(
    ("header", "table", "detail"),
    [
        (0.0, None, "0 in the header; needed: 10 to 40"),
        (-99.0, None, "-99 in the header; needed: 10 to 40"),
        (41.0, 0.0, "0 in the tables, 41 in the header; needed: 10 to 40"),
        (None, -99.0, "-99 in the tables; needed: 10 to 40"),
        (None, float("nan"), None),
    ],
)
def test_a_zero_point_that_cannot_be_is_none(header, table, detail):
    config = with_settings(columns={"zero_point": "zp"})
    rows = TWO_EACH.append_column("zp", pa.array([None, table, None, None], pa.float32()))
    result = make_stamps(stars(), rows, None, config, other_cutout(2, zero_point=header))
    (row,) = result.rejects.to_pylist()
    assert (row["image_id"], row["reason"], row["detail"]) == (2, "no zero-point", detail)
    assert (result.used, result.other_zero_points) == (3, 0)
    assert np.array_equal(stamps_of(result.table), stamps_of(made(table=TWO_EACH.take([0, 2, 3])).table))


def test_a_zero_point_of_a_table_that_cannot_be_gives_way_to_the_next():
    expected = stamps_of(made().table)
    images = pa.table({"image_id": pa.array([1, 2, 3], pa.int64()), "zpapprox": [24.0, 25.5, 0.0]})
    config = with_settings(
        images="images",
        columns={"zero_point": "zp"},
        image_columns={"background": None, "fwhm": None},
    )
    rows = TWO_EACH.append_column("zp", pa.array([24.0, -99.0, None, float("inf")]))
    result = make_stamps(stars(), rows, images, config, other_cutout(2, zero_point=None))
    assert np.array_equal(stamps_of(result.table), expected), "the exposure's for 2, the header's for 3 and 4"
    assert (result.used, result.other_zero_points, result.rejects.num_rows) == (4, 2, 0)
    asked = with_settings(zero_points=[25.0, 26.0])
    assert reasons(made(config=asked)) == {1: "no zero-point"}


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (0.0, "constant image", "every pixel is 0"),
        (83.5, "constant image", "every pixel is 83.5"),
        (np.nan, "no finite pixel", None),
        (np.inf, "no finite pixel", None),
    ],
)
@pytest.mark.parametrize("sky", [None, 100.0])
@pytest.mark.parametrize("exposure", [2, 3])
def test_a_cutout_that_shows_nothing_is_not_used(value, reason, detail, sky, exposure):
    config = with_settings(columns={"background": "sky"})
    rows = TWO_EACH.append_column("sky", pa.array([sky] * 4, pa.float64()))
    image = np.full((48, 48), value)
    result = make_stamps(stars(), rows, None, config, other_cutout(exposure, image=image))
    (row,) = result.rejects.to_pylist()
    assert (row["image_id"], row["reason"], row["detail"]) == (exposure, reason, detail)
    others = [number for number in range(4) if number != exposure - 1]
    expected = made(table=rows.take(others), config=config)
    assert np.array_equal(stamps_of(result.table), stamps_of(expected.table))
    assert flags(result) == 0


def test_constant_but_for_missing_pixels_is_constant():
    image = np.zeros((48, 48))
    image[:, :5] = np.nan
    result = make_stamps(stars(), TWO_EACH, None, CONFIG, other_cutout(1, image=image))
    assert reasons(result) == {1: "constant image"}


def test_a_small_cutout_has_a_reason_only_where_its_band_stays_incomplete():
    small = SHOTS | {number: replace(SHOTS[number], size=10, psf_px=2.0) for number in (1, 2)}
    result = made(small)
    assert reasons(result) == {1: "covers too little of the stamp", 2: "covers too little of the stamp"}
    assert set(result.rejects["detail"].to_pylist()) <= {f"covers {share} % of the stamp" for share in (7, 8, 9)}
    assert flags(result) == Flag.INCOMPLETE_BANDS | Flag.MISSING_PIXELS
    assert (result.used, result.table["n_detections_g"].to_pylist()) == (2, [0])
    assert np.array_equal(stamps_of(result.table), stamps_of(made(table=TWO_EACH.take([2, 3])).table), equal_nan=True)
    assert binary_rows(result.table[COVERAGE], "u1", (2, SIZE, SIZE))[0, 0].max() == 0
    beside = made(small | {2: SHOTS[2]})
    assert (beside.used, beside.rejects.num_rows, flags(beside)) == (4, 0, 0)
    assert binary_rows(beside.table[COVERAGE], "u1", (2, SIZE, SIZE))[0, 0].max() == 2, "used as any other"
    all_small = made({number: replace(shot, size=10, psf_px=2.0) for number, shot in SHOTS.items()})
    assert (all_small.used, all_small.rejects.num_rows) == (0, 4)
    assert np.isnan(stamps_of(all_small.table)).all()


def test_cuts_bands_and_repeats_are_recorded():
    table = pa.concat_tables(
        [TWO_EACH, detections((7, 2, 3, "g"), (7, 5, 1, "i")), detections((7, 1, 4, "g"), (7, 2, 3, "g"), use=0)]
    )
    table = table.append_column("more", pa.array(range(table.num_rows)))
    result = made(table=table)
    found = sorted(zip(*(result.rejects[name].to_pylist() for name in ("image_id", "ccd", "reason")), strict=True))
    assert found == [
        (1, 4, "cut clipped"),
        (2, 3, "cut clipped"),
        (2, 3, "given twice"),
        (5, 1, "band not asked for"),
    ]
    assert np.array_equal(stamps_of(result.table), stamps_of(made().table))


def test_nulls_in_a_detection_are_recorded():
    table = detections((7, 3, 3, "r"), (7, None, 3, "r"), (7, 4, None, "r"), (7, 4, 3, None), (None, 4, 3, "r"))
    result = made(table=table)
    assert sorted(result.rejects["reason"].to_pylist()) == ["no band", "no ccd", "no image_id"]
    assert result.used == 1
