"""Stamps of stars from their detections, held in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from reference.fake_cutouts import SCALE_DEG, Shot, image_of, wcs_of

from stellarscale.errors import InputError, SchemaError
from stellarscale.flags import Flag
from stellarscale.kernels.stamp_stack import unstretch
from stellarscale.partition.stamp_config import StampConfig, output_schema
from stellarscale.partition.stamps import make_stamps
from stellarscale.settings.stamps import StampSettings
from stellarscale.stamp_columns import COVERAGE, STAMP, binary_rows, format_of, stamps_of
from stellarscale.surveys.cutouts import Cutout

BANDS = ("g", "r")
SIZE = 32
RA, DEC = 150.0, -30.0
SETTINGS = StampSettings(
    files="{object_id}/{image_id}",
    bands=BANDS,
    size_px=SIZE,
    softening={"g": 5.0, "r": 4.0},
    use=({"name": "clipped", "columns": ["use"], "equals": 1},),
    dtype="float32",
    images=None,
)
CONFIG = StampConfig(SETTINGS)
MAG = {"g": 15.0, "r": 14.2}
BASE = Shot(RA, DEC, size=48)


def with_settings(**changes) -> StampConfig:
    return StampConfig(StampSettings.model_validate(SETTINGS.model_dump() | changes))


def stars(ids=(7,), ra=(RA,), dec=(DEC,), **more) -> pa.Table:
    return pa.table({"object_id": pa.array(ids, pa.int64()), "ra": ra, "dec": dec, **more})


def detections(*rows: tuple[int, int, int, str], use=1, **more) -> pa.Table:
    """Rows (object_id, image_id, ccd, band)."""
    columns = list(zip(*rows, strict=True)) or [()] * 4
    kinds = (pa.int64(), pa.int64(), pa.int16(), pa.string())
    named = zip(("object_id", "image_id", "ccd", "band"), columns, kinds, strict=True)
    table = {name: pa.array(values, kind) for name, values, kind in named}
    return pa.table(table | {"use": pa.array(np.broadcast_to(use, len(rows)), pa.int16())} | more)


class Shelf:
    """Cut-outs by exposure: shots, or errors to raise."""

    def __init__(self, shots: dict[int, Shot | Exception], neighbours=()):
        self.shots, self.neighbours = shots, list(neighbours)

    def __call__(self, object_id, image_id, ccd, band) -> Cutout:
        shot = self.shots[image_id]
        if isinstance(shot, Exception):
            raise shot
        counts = 10 ** (0.4 * ((shot.zero_point or 25.0) - MAG[band]))
        image = image_of(shot, [(RA, DEC, counts), *self.neighbours])
        wcs = wcs_of(shot)
        return Cutout(image, wcs, shot.zero_point, shot.fwhm_arcsec, "")


TWO_EACH = detections((7, 1, 3, "g"), (7, 2, 3, "g"), (7, 3, 3, "r"), (7, 4, 3, "r"))
SHOTS = {
    1: replace(BASE, sky=80.0, zero_point=24.0),
    2: replace(BASE, shift_px=(2.3, -1.7), turn_deg=3.0, zero_point=25.5),
    3: replace(BASE, shift_px=(-0.4, 0.8), turn_deg=-2.0, fwhm_arcsec=2.0),
    4: replace(BASE, shift_px=(1.2, 0.1), zero_point=26.0, fwhm_arcsec=3.0),
}


def made(shots=None, table=TWO_EACH, config=CONFIG, sky=None, **options):
    return make_stamps(
        stars() if sky is None else sky, table, options.pop("images", None), config, Shelf(shots or SHOTS), **options
    )


def flux(result, row=0) -> np.ndarray:
    """Fluxes (bands, size, size) of a star's stamp."""
    layout = format_of(result.table.schema)
    return unstretch(stamps_of(result.table)[row], layout.softening)


def flags(result, row=0) -> Flag:
    return Flag(result.table["quality_flags"][row].as_py())


def reasons(result) -> dict[int, str]:
    return dict(zip(result.rejects["image_id"].to_pylist(), result.rejects["reason"].to_pylist(), strict=True))


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
