"""Files of spectra as canonical batches: columns, rest frame, flags, and a reason for every file that fails."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.lamost_files import LAYOUTS, some_spectrum, write_lamost, write_sdss, write_units

from stellarscale.errors import InputError, SchemaError
from stellarscale.flags import Flag
from stellarscale.kernels.wavelength import LIGHT_KMS, WaveGrid
from stellarscale.schema import load_survey
from stellarscale.spectra_columns import FLUX, IVAR, grid_of, spectra_of
from stellarscale.surveys.placeholder import spread_positions
from stellarscale.surveys.spectra import available_columns, read_spectra, read_spectrum, spectra_schema
from stellarscale.surveys.spectra import read as reading
from stellarscale.surveys.spectra.hdus import Cards, parse_hdus
from stellarscale.surveys.spectra.headers import stem_of

LAMOST = load_survey("lamost_spectra")
GRID = WaveGrid.covering(6000, 8800)


def read(paths, schema=LAMOST, grid=GRID, **options):
    return read_spectra(paths, schema, grid, available_columns(schema), **options)


def reason_of(path, schema=LAMOST, grid=GRID):
    batch = read([path], schema, grid)
    assert batch.table.num_rows == 0
    (row,) = batch.rejects.to_pylist()
    assert (row["file"], row["row"], row["id"]) == (str(path), 0, stem_of(path))
    return row["reason"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_of_a_header(tmp_path, layout):
    batch = read([write_lamost(tmp_path / "spec-1.fits.gz", layout)])
    (row,) = batch.table.drop_columns([FLUX, IVAR]).to_pylist()
    assert row["spectrum_id"] == "spec-1"
    assert row["obsid"] == (None if layout == "pilot" else 353301003)
    assert (row["ra"], row["dec"], row["mjd"], row["lmjd"]) == (99.316263, 27.23237, 55863, 55862)
    assert (row["planid"], row["spid"], row["fiberid"]) == ("B6212", 6, 3)
    assert (row["class"], row["subclass"], row["designation"]) == ("STAR", "M0", "LAMOST J063715.90+271356.5")
    assert [row[f"snr_{band}"] for band in "ugriz"] == [10, 11, 12, 13, 14]
    assert row["rv"] == pytest.approx(-7.138e-05 * LIGHT_KMS, rel=1e-6)
    assert row["quality_flags"] == 0
    assert batch.table.schema.equals(spectra_schema(LAMOST, available_columns(LAMOST), GRID), check_metadata=True)
    assert grid_of(batch.table.schema) == GRID


def test_sdss_columns(tmp_path):
    schema = load_survey("sdss_spectra")
    batch = read([write_sdss(tmp_path / "spec-4055-55863-0007.fits", ZWARNING=4)], schema)
    (row,) = batch.table.drop_columns([FLUX, IVAR]).to_pylist()
    assert (row["ra"], row["dec"], row["plate"], row["snr"]) == (10.5, -3.25, 4055, 12.5)
    assert (row["class"], row["subclass"], row["z"]) == ("STAR", "M3", 1e-4)
    assert row["quality_flags"] == Flag.SURVEY_FLAG


@pytest.mark.parametrize("z", [0.0, 0.002, -0.0012])
def test_the_rest_frame_undoes_the_redshift(tmp_path, z):
    table = read([write_lamost(tmp_path / "a.fits", "rows", Z=z)]).table
    wave, place = GRID.wave_aa, 6564.61 / (1 + z)  # the line stands at 6564.61 in the file
    near = np.abs(wave - place) < 15
    flux = spectra_of(table, FLUX)[0]
    depth = 1 - flux[near] / np.median(flux[np.abs(wave - place) < 60])
    assert np.sum(depth * wave[near]) / np.sum(depth) == pytest.approx(place, abs=0.3)


def test_chosen_columns_only_and_the_redshift_is_read_all_the_same(tmp_path):
    path = write_lamost(tmp_path / "a.fits", "rows", Z=0.002)
    batch = read_spectra([path], LAMOST, GRID, ["snr_i"])
    assert batch.table.column_names == ["spectrum_id", "ra", "dec", "snr_i", "quality_flags", FLUX, IVAR]
    assert batch.table[FLUX].equals(read([path]).table[FLUX])


def test_sentinels_and_odd_values(tmp_path):
    path = write_lamost(tmp_path / "a.fits", "rows", OBSID=-9999, SNRI=-9999, SUBCLASS="", SPID="6", PLANID=12)
    (row,) = read([path]).table.drop_columns([FLUX, IVAR]).to_pylist()
    assert row["obsid"] is row["snr_i"] is row["subclass"] is None
    assert (row["spid"], row["planid"]) == (6, "12")
    assert row["quality_flags"] == Flag.SENTINEL_NULL


def test_masked_and_negative_spectra_are_kept_and_flagged(tmp_path):
    flux, ivar, and_mask, or_mask = some_spectrum()
    dark = write_lamost(tmp_path / "dark.fits", "coadd", (flux, ivar, and_mask + 1, or_mask))
    below = write_lamost(tmp_path / "below.fits", "coadd", (-flux, ivar, and_mask, or_mask))
    half = write_lamost(
        tmp_path / "half.fits", "coadd", (flux, np.where(np.arange(3904) < 3000, 0, ivar), *[and_mask] * 2)
    )
    batch = read([dark, below, half])
    assert batch.rejects.num_rows == 0
    assert batch.table["quality_flags"].to_pylist() == [
        Flag.MASKED_PIXELS,
        Flag.NOT_POSITIVE_FLUX,
        Flag.MASKED_PIXELS,
    ]
    assert (spectra_of(batch.table, IVAR)[0] == 0).all()
    assert (spectra_of(batch.table, FLUX)[0] == 0).all()


def test_a_grid_that_is_half_covered_has_no_weight_beyond(tmp_path):
    grid = WaveGrid.covering(8800, 9400)
    ivar = spectra_of(read([write_lamost(tmp_path / "a.fits", "rows", Z=0.0)], grid=grid).table, IVAR)[0]
    last = 10 ** (3.5682 + 1e-4 * 3903)
    assert (ivar[grid.wave_aa < last - 1] > 0).all()
    assert (ivar[grid.wave_aa > last + 2] == 0).all()


@pytest.mark.parametrize("z", [None, -9999.0, -9999, float("nan"), "", -1.5])
def test_without_a_redshift_there_is_no_rest_frame(tmp_path, z):
    keys = {"Z": None if isinstance(z, float) and z != z else z}
    assert "no redshift" in reason_of(write_lamost(tmp_path / "a.fits", "pilot", **keys))


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"RA": None}, "does not give ra"),
        ({"RA": 400.0}, "right ascension out of range"),
        ({"DEC": -91.0}, "declination out of range"),
        ({"RA": "06:37:15"}, "is not a number"),
        ({"SNRI": "good"}, "is not a number"),
        ({"OBSID": 3.5}, "no whole number"),
        ({"FIBERID": 1 << 40}, "does not fit"),
        ({"COEFF1": None}, "COEFF1"),
    ],
)
def test_a_wrong_header_rejects_its_own_file(tmp_path, keys, words):
    good = write_lamost(tmp_path / "good.fits", "coadd")
    batch = read([good, write_lamost(tmp_path / "bad.fits", "coadd", **keys), good])
    assert (batch.rows_in, batch.table.num_rows) == (3, 2)
    (row,) = batch.rejects.to_pylist()
    assert words in row["reason"]
    assert row["id"] == "bad"


def test_files_that_are_not_spectra_tell_why(tmp_path):
    good = write_lamost(tmp_path / "good.fits", "rows")
    (tmp_path / "empty.fits").write_bytes(b"")
    assert "empty" in reason_of(tmp_path / "empty.fits")
    assert "not a file" in reason_of(tmp_path / "absent.fits")
    (tmp_path / "cut.fits").write_bytes(good.read_bytes()[:50_000])
    assert "truncated" in reason_of(tmp_path / "cut.fits")
    packed = write_lamost(tmp_path / "s.fits.gz", "rows").read_bytes()
    (tmp_path / "cut.fits.gz").write_bytes(packed[: len(packed) // 2])
    assert "truncated or damaged" in reason_of(tmp_path / "cut.fits.gz")
    assert "no spectrum in a layout" in reason_of(write_units(tmp_path / "x.fits", [fits.PrimaryHDU(np.ones((3, 9)))]))
    assert "covers nothing" in reason_of(good, grid=WaveGrid.covering(12000, 13000))
    flux, ivar, *masks = some_spectrum()
    tiny = write_sdss(tmp_path / "tiny.fits", (flux * 1e-30, ivar * 1e30, *masks))
    assert len(read([tiny], load_survey("sdss_spectra")).table) == 1


def test_weights_beyond_single_precision_are_refused(tmp_path):
    rows = "\n".join(f"{5990 + i},1e-20,1e-22" for i in range(2900))
    (tmp_path / "a.csv").write_text(f"# z = 0\nwave,flux,flux_err\n{rows}\n")
    assert "single precision" in reason_of(tmp_path / "a.csv", load_survey("spectrum_table"))


def test_files_without_positions_are_spread_by_their_number(tmp_path):
    schema, grid = load_survey("miles_spectra"), WaveGrid.covering(4000, 7000)
    header = fits.Header({"CRVAL1": 3540.5, "CDELT1": 0.9})
    paths = [write_units(tmp_path / f"m{i}.fits", [fits.PrimaryHDU(np.ones(4300), header)]) for i in range(4)]
    paths[1].write_bytes(b"")
    batch = read(paths, schema, grid, first_id=10)
    ra, dec = spread_positions(10, 4)
    np.testing.assert_array_equal(batch.table["ra"].to_numpy(), ra[[0, 2, 3]])
    np.testing.assert_array_equal(batch.table["dec"].to_numpy(), dec[[0, 2, 3]])
    assert batch.rejects["ra"].to_pylist() == [None]


def test_some_files_without_positions_are_spread_and_the_others_keep_theirs(tmp_path):
    schema = load_survey("spectrum_table")
    rows = "\n".join(f"{5990 + i},1,10" for i in range(2900))
    (tmp_path / "a.csv").write_text(f"# z = 0\n# ra = 12.5\n# dec = -4\nwave,flux,ivar\n{rows}\n")
    (tmp_path / "b.csv").write_text(f"# z = 0\nwave,flux,ivar\n{rows}\n")
    table = read([tmp_path / "a.csv", tmp_path / "b.csv"], schema).table
    assert table["ra"].to_pylist() == [12.5, spread_positions(1, 1)[0][0]]


def test_chunks_do_not_change_the_result(tmp_path, monkeypatch):
    paths = [write_lamost(tmp_path / f"s{i}.fits", LAYOUTS[i % 3], some_spectrum(seed=i), Z=i * 1e-4) for i in range(7)]
    paths.insert(3, tmp_path / "absent.fits")
    whole = read(paths)
    monkeypatch.setattr(reading, "_CHUNK", 3)
    parts = read(paths)
    assert parts.table.equals(whole.table)
    assert parts.rejects.equals(whole.rejects)
    assert whole.table["spectrum_id"].to_pylist() == [f"s{i}" for i in range(7)]


def test_no_files_give_an_empty_table():
    batch = read([])
    assert batch.rows_in == batch.table.num_rows == batch.rejects.num_rows == 0
    assert grid_of(batch.table.schema) == GRID


def test_a_survey_of_tables_is_refused(tmp_path):
    with pytest.raises(SchemaError, match="not files of spectra"):
        read_spectra([write_lamost(tmp_path / "a.fits", "rows")], load_survey("lamost_lrs_mstellar"), GRID, ["z"])


def test_header_cards_are_read_as_astropy_reads_them(tmp_path):
    header = fits.Header()
    cards = {
        "A": "it's / a 'string'",
        "B": "",
        "C": -12,
        "D": 1.5e-7,
        "E": True,
        "F": False,
        "G": 1 << 40,
        "H": "x" * 40,
    }
    for key, value in cards.items():
        header[key] = (value, "a comment / with a slash")
    path = write_units(tmp_path / "s.fits", [fits.PrimaryHDU(np.arange(6, dtype=np.int16).reshape(2, 3), header)])
    (unit,) = parse_hdus(path.read_bytes(), path)
    assert {key: unit.cards[key] for key in cards} == cards
    np.testing.assert_array_equal(unit.image(), np.arange(6).reshape(2, 3))
    assert parse_hdus(b"no FITS file", path) == []


@pytest.fixture(scope="module")
def a_file(tmp_path_factory):
    parts = tuple(column[:300] for column in some_spectrum())
    return write_lamost(tmp_path_factory.mktemp("damage") / "s.fits", "coadd", parts)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 11_520), value=st.integers(32, 126), cut=st.one_of(st.none(), st.integers(0, 14_400)))
def test_damage_is_an_input_error_and_nothing_else(a_file, tmp_path, place, value, cut):
    raw = bytearray(a_file.read_bytes())
    raw[place] = value
    path = tmp_path / "damaged.fits"
    path.write_bytes(raw[:cut])
    try:
        spectrum = read_spectrum(path, LAMOST)
    except InputError:
        return
    assert spectrum.flux.shape == spectrum.ivar.shape == (len(spectrum.edges_aa) - 1,)
    assert np.isfinite(spectrum.ivar).all()


@pytest.mark.parametrize("name, stem", [("a.b.fits.gz", "a.b"), ("M0_+0.0_Dwarf.fits", "M0_+0.0_Dwarf"), ("x", "x")])
def test_stems(tmp_path, name, stem):
    assert stem_of(tmp_path / name) == stem


def test_available_columns_hold_the_position_of_surveys_without():
    assert available_columns(load_survey("miles_spectra")) == ("spectrum_id", "resolution", "ra", "dec")
    assert pa.types.is_fixed_size_list(spectra_schema(LAMOST, [], GRID).field(IVAR).type)


@pytest.mark.parametrize(
    "spelled", ["1.5", "-3", "+7", "1.0E-3", "1.0D5", "'12'", "T", "nan", "123456789012345678901", "2 / x"]
)
def test_numbers_of_cards_are_the_same_one_by_one_and_together(spelled):
    text = "".join(line.ljust(80) for line in ("A       = 1.0", f"B       = {spelled}", "B       = 9", "END"))
    cards = Cards(text, "header")
    one_by_one = [float(cards[key]) for key in ("A", "B")]
    assert np.array_equal(cards.floats(("A", "B")), one_by_one, equal_nan=True)
    assert cards.get("C") is None
    assert cards.get("C", 3) == 3
    assert list(cards) == ["B", "A"]


@pytest.mark.parametrize(("spelled", "error"), [("", TypeError), ("none", InputError), ("'north'", ValueError)])
def test_cards_that_are_no_numbers_are_told(spelled, error):
    cards = Cards(f"A       = {spelled}".ljust(80), "header")
    with pytest.raises(error):
        cards.floats(["A"])
