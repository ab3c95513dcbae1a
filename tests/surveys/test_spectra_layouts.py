"""Every layout of spectrum files: the same numbers come out of each."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from reference.lamost_files import COEFF0, COEFF1, LAYOUTS, some_spectrum, write_lamost, write_sdss, write_units

from stellarscale.errors import InputError
from stellarscale.kernels.wavelength import WaveGrid, vacuum_to_air
from stellarscale.schema import load_survey
from stellarscale.surveys.spectra import read_spectrum
from stellarscale.surveys.spectra.spectrum import on_grid

LAMOST, TABLE = load_survey("lamost_spectra"), load_survey("spectrum_table")
GRID = WaveGrid.covering(6000, 8800)


def with_layout(schema, **changes):
    return schema.model_copy(update={"spectrum": schema.spectrum.model_copy(update=changes)})


def wave_of(n):
    return 10 ** (COEFF0 + COEFF1 * np.arange(n))


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_lamost_layouts_give_their_flux_weights_and_wavelengths(tmp_path, layout, suffix):
    flux, ivar, _, _ = parts = some_spectrum()
    spectrum = read_spectrum(write_lamost(tmp_path / f"s{suffix}", layout, parts), LAMOST)
    np.testing.assert_array_equal(spectrum.flux, flux.astype(np.float32))
    np.testing.assert_array_equal(spectrum.ivar, ivar.astype(np.float32))
    np.testing.assert_allclose(np.sqrt(spectrum.edges_aa[1:] * spectrum.edges_aa[:-1]), wave_of(3904), rtol=1e-12)
    assert spectrum.has_errors
    assert not spectrum.air


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_and_bad_weights_take_the_weight_only(tmp_path, layout):
    flux, ivar, and_mask, or_mask = some_spectrum()
    and_mask[5], or_mask[6] = 4, 8
    ivar[7:11] = [0, -1, np.nan, np.inf]
    flux[12] = np.nan
    path = write_lamost(tmp_path / "s.fits", layout, (flux, ivar, and_mask, or_mask))
    assert np.flatnonzero(read_spectrum(path, LAMOST).ivar == 0).tolist() == [5, 7, 8, 9, 10, 12]
    both = read_spectrum(path, with_layout(LAMOST, or_bits=-1)).ivar
    assert np.flatnonzero(both == 0).tolist() == [5, 6, 7, 8, 9, 10, 12]
    some = read_spectrum(path, with_layout(LAMOST, and_bits=~4)).ivar
    assert np.flatnonzero(some == 0).tolist() == [7, 8, 9, 10, 12]


def test_rows_stand_where_the_header_names_them(tmp_path):
    flux, ivar, _, _ = some_spectrum()
    zeros = np.zeros_like(flux)
    header = fits.Header({"COEFF0": COEFF0, "COEFF1": COEFF1, "EXTEN0": "Andmask, Flux, Ormask, Inverse, Wavelength"})
    rows = np.array([zeros, flux, zeros, ivar, wave_of(3904)], np.float32)
    spectrum = read_spectrum(write_units(tmp_path / "s.fits", [fits.PrimaryHDU(rows, header)]), LAMOST)
    np.testing.assert_array_equal(spectrum.flux, flux.astype(np.float32))


def test_a_header_that_says_air_is_believed(tmp_path):
    assert read_spectrum(write_lamost(tmp_path / "s.fits", "rows", VACUUM=False), LAMOST).air


def test_the_vector_of_wavelengths_serves_where_the_keywords_are_missing(tmp_path):
    spectrum = read_spectrum(write_lamost(tmp_path / "s.fits", "coadd", COEFF0=None, COEFF1=None), LAMOST)
    np.testing.assert_allclose((spectrum.edges_aa[1:] + spectrum.edges_aa[:-1]) / 2, wave_of(3904), rtol=1e-7)


@pytest.mark.parametrize("keys", [{"COEFF1": None}, {"COEFF0": "none"}, {"COEFF1": 0.0}, {"COEFF0": 6000.0}])
def test_a_header_without_usable_wavelengths_is_refused(tmp_path, keys):
    with pytest.raises(InputError, match=r"COEFF0|layout"):
        read_spectrum(write_lamost(tmp_path / "s.fits", "coadd", **keys), LAMOST)
    with pytest.raises(InputError, match=r"COEFF0|layout"):
        read_spectrum(write_lamost(tmp_path / "s.fits", "rows", **keys), LAMOST)


def test_sdss(tmp_path):
    flux, ivar, and_mask, or_mask = some_spectrum()
    and_mask[3], or_mask[4], ivar[5] = 1 << 23, 1 << 23, 0
    path = write_sdss(tmp_path / "spec.fits", (flux, ivar, and_mask, or_mask), Z=2e-4)
    spectrum = read_spectrum(path, load_survey("sdss_spectra"))
    np.testing.assert_array_equal(spectrum.flux, flux.astype(np.float32))
    assert np.flatnonzero(spectrum.ivar == 0).tolist() == [3, 5]
    assert spectrum.header["Z"] == 2e-4
    assert spectrum.header["SUBCLASS"] == "M3"
    single = np.float32(COEFF0 + COEFF1 * np.arange(3904))  # the file holds the logarithms in single precision
    np.testing.assert_allclose(spectrum.edges_aa[:-1], 10 ** (single - 5e-5), rtol=1e-6)


def test_pyhammer_errors_are_those_of_independent_pixels(tmp_path):
    log = 3.6 + 7.26e-6 * np.arange(5000)
    error = np.full(5000, 0.02)
    error[:3] = np.inf, 0, np.nan
    columns = [fits.Column(n, "E", array=v) for n, v in (("LogLam", log), ("Flux", log * 0 + 1), ("PropErr", error),
                                                        ("Std", log * 0))]  # fmt: skip
    photometry = fits.BinTableHDU.from_columns([fits.Column("u", "E", array=[1, 2, 3])])
    units = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns), photometry]
    schema = load_survey("pyhammer_spectra")
    spectrum = read_spectrum(write_units(tmp_path / "M0.fits", units), schema)
    assert np.flatnonzero(spectrum.ivar == 0).tolist() == [0, 1, 2]
    grid = WaveGrid.covering(10**3.605, 10**3.63)
    _, ivar = on_grid(spectrum, grid, z=0, where="M0")
    np.testing.assert_allclose(ivar, 0.02**-2, rtol=0.06)  # an output pixel holds 13.8 of them


@pytest.mark.parametrize("shape", [(4300,), (1, 4300)])
def test_an_image_of_one_row_is_in_air_and_has_unit_weights(tmp_path, shape):
    flux = np.ones(shape)
    flux[..., 10], flux[..., 11] = 0, np.nan
    header = fits.Header({"CRVAL1": 3540.5, "CDELT1": 0.9, "CRPIX1": 1, "FWHM": 2.5})
    path = write_units(tmp_path / "m.fits", [fits.PrimaryHDU(flux, header)])
    spectrum = read_spectrum(path, load_survey("miles_spectra"))
    assert spectrum.air
    assert not spectrum.has_errors
    assert np.flatnonzero(spectrum.ivar == 0).tolist() == [10, 11]
    np.testing.assert_allclose(spectrum.edges_aa, 3540.5 + 0.9 * (np.arange(4301) - 0.5))
    grid = WaveGrid.covering(5000, 5100)
    _, ivar = on_grid(spectrum, grid, z=0, where="m")
    assert (ivar == 1).all()


def test_images_say_their_own_air_units_and_logarithms(tmp_path):
    schema = load_survey("miles_spectra")
    linear = fits.Header({"CRVAL1": 500.0, "CD1_1": 0.1, "CUNIT1": "nm", "CTYPE1": "WAVE"})
    spectrum = read_spectrum(write_units(tmp_path / "a.fits", [fits.PrimaryHDU(np.ones(9), linear)]), schema)
    assert not spectrum.air
    np.testing.assert_allclose(spectrum.edges_aa[[0, -1]], [4999.5, 5008.5])
    log = fits.Header({"CRVAL1": 3.7, "CDELT1": 1e-4, "DC-FLAG": 1})
    spectrum = read_spectrum(write_units(tmp_path / "b.fits", [fits.PrimaryHDU(np.ones(9), log)]), schema)
    np.testing.assert_allclose(spectrum.edges_aa[0], 10 ** (3.7 - 5e-5))


def plain_columns():
    wave = np.linspace(5990, 8810, 2000)
    flux = 1 + 0.1 * np.sin(wave / 40)
    return wave, flux, np.full(2000, 0.02)


def write_plain(folder, kind):
    wave, flux, error = plain_columns()
    table = Table({"Wavelength": wave / 10, "flux": flux, "flux_err": error}, units={"Wavelength": "nm"})
    if kind == "csv":
        path = folder / "s.csv"
        rows = np.column_stack([wave, flux, error]).tolist()
        lines = ["# z = 0.001", "# a comment", "Wavelength,flux,flux_err", *(",".join(map(str, row)) for row in rows)]
        path.write_text("\n".join(lines))
        return path
    if kind == "parquet":
        path = folder / "s.parquet"
        fields = [pa.field("Wavelength", pa.float64(), metadata={"unit": "nm"}), pa.field("flux", pa.float64())]
        fields.append(pa.field("flux_err", pa.float64()))
        pq.write_table(pa.table([wave / 10, flux, error], schema=pa.schema(fields, metadata={"z": "0.001"})), path)
        return path
    if kind == "votable":
        table.write(folder / "s.vot", format="votable")
        return folder / "s.vot"
    if kind == "fits":
        table.meta["Z"] = 0.001
        table.write(folder / "s.fits")
        return folder / "s.fits"
    table.meta = {"z": 0.001, "object": "star"}
    table.write(folder / "s.ecsv", format="ascii.ecsv")
    if kind == "ecsv.gz":
        path = folder / "s.ecsv.gz"
        path.write_bytes(gzip.compress((folder / "s.ecsv").read_bytes()))
        return path
    return folder / "s.ecsv"


@pytest.mark.parametrize("kind", ["csv", "ecsv", "ecsv.gz", "fits", "parquet", "votable"])
def test_plain_tables_of_every_format(tmp_path, kind):
    wave, flux, _ = plain_columns()
    spectrum = read_spectrum(write_plain(tmp_path, kind), TABLE)
    np.testing.assert_allclose(spectrum.flux, flux, rtol=1e-6)
    np.testing.assert_allclose(spectrum.ivar, 2500, rtol=1e-6)
    np.testing.assert_allclose((spectrum.edges_aa[1:] + spectrum.edges_aa[:-1]) / 2, wave, rtol=1e-9)
    values = {key.lower(): value for key, value in spectrum.header.items()}
    if kind != "votable":  # it has no place for them that is read
        assert float(values["z"]) == 0.001


def test_a_plain_table_may_fall_have_ivar_a_mask_and_holes(tmp_path):
    wave = np.concatenate([np.arange(6000.0, 6100), [6150.0], np.arange(6200.0, 6300)])[::-1]
    flux, mask = wave / 6000, (wave == 6050).astype(int)
    Table({"lambda": wave, "FLUX": flux, "ivar": np.full(201, 4.0), "mask": mask}).write(tmp_path / "s.fits")
    spectrum = read_spectrum(tmp_path / "s.fits", TABLE)
    centre, width = (spectrum.edges_aa[1:] + spectrum.edges_aa[:-1]) / 2, np.diff(spectrum.edges_aa)
    holes = np.flatnonzero(width > 2)
    np.testing.assert_allclose(spectrum.edges_aa[holes], [6099.5, 6150.5])
    np.testing.assert_allclose(spectrum.edges_aa[holes + 1], [6149.5, 6199.5])
    assert (spectrum.ivar[holes] == 0).all()
    assert centre[spectrum.ivar == 0].tolist() == [6050, *centre[holes]]
    assert (np.delete(spectrum.ivar, [50, *holes]) == 4).all()


def test_without_errors_the_weights_are_one(tmp_path):
    (tmp_path / "s.txt").write_text("wave flux\n" + "\n".join(f"{6000 + i} {i % 3}" for i in range(99)))
    spectrum = read_spectrum(tmp_path / "s.txt", TABLE)
    assert not spectrum.has_errors
    np.testing.assert_array_equal(spectrum.ivar, spectrum.flux != 0)


@pytest.mark.parametrize("waves", [[6000, 6002, 6001], [6000, 6000, 6001], [6000, 6001], [6000, np.nan, 6002]])
def test_wavelengths_out_of_order_are_refused(tmp_path, waves):
    Table({"wave": np.array(waves, float), "flux": np.ones(len(waves))}).write(tmp_path / "s.fits")
    with pytest.raises(InputError, match="do not rise"):
        read_spectrum(tmp_path / "s.fits", TABLE)


def test_wavelengths_of_another_meaning_are_refused(tmp_path):
    Table({"wave": np.arange(9.0), "flux": np.ones(9)}, units={"wave": "mag"}).write(tmp_path / "s.fits")
    with pytest.raises(ValueError, match="unit"):
        read_spectrum(tmp_path / "s.fits", TABLE)


def test_a_table_of_many_spectra_is_refused(tmp_path):
    Table({"wave": np.ones((3, 9)), "flux": np.ones((3, 9))}).write(tmp_path / "s.fits")
    with pytest.raises(InputError, match="several spectra"):
        read_spectrum(tmp_path / "s.fits", TABLE)


@pytest.mark.parametrize("schema", ["miles_spectra", "pyhammer_spectra", "spectrum_table", "sdss_spectra"])
def test_the_wrong_layout_is_told_with_what_was_found(tmp_path, schema):
    path = write_lamost(tmp_path / "s.fits", "rows")
    with pytest.raises(InputError, match="image of 5 x 3904"):
        read_spectrum(path, load_survey(schema))
    (tmp_path / "s.json").write_text(json.dumps({"flux": 1}))
    with pytest.raises(InputError):
        read_spectrum(tmp_path / "s.json", load_survey(schema))


def test_air_and_rest_frame_bring_a_line_to_its_place(tmp_path):
    z, line = 0.001, 7000.0
    wave = np.arange(5900.0, 9000, 0.5)  # in air, redshifted
    flux = 1 - 0.9 * np.exp(-0.5 * ((wave - vacuum_to_air(line * (1 + z))) / 3) ** 2)
    Table({"wave": wave, "flux": flux}).write(tmp_path / "s.fits")
    spectrum = read_spectrum(tmp_path / "s.fits", with_layout(TABLE, air=True))
    rest, _ = on_grid(spectrum, GRID, z=z, where="s")
    near = np.abs(GRID.wave_aa - line) < 30
    depth = 1 - rest[near]
    assert np.sum(depth * GRID.wave_aa[near]) / np.sum(depth) == pytest.approx(line, abs=0.02)
