"""Spectra with labels as a FITS file: our own, and those of others."""

from __future__ import annotations

import warnings

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table

from stellarscale.catalog.spectra_fits import LabelledSpectra, read_spectra_fits, write_spectra_fits
from stellarscale.errors import InputError
from stellarscale.kernels.wavelength import WaveGrid

GRID = WaveGrid.covering(6000, 6100)
LABELS = ("teff", "logg", "m_h")


def spectra(n=6, *, ivar=True) -> LabelledSpectra:
    rng = np.random.default_rng(3)
    flux = rng.normal(1, 0.1, (n, GRID.n_pix)).astype(np.float32)
    kelvin = {b"unit": b"K", b"ucd": b"phys.temperature.effective", b"description": b"effective temperature"}
    fields = [
        pa.field("teff", pa.float32(), metadata=kelvin),
        pa.field("logg", pa.float64()),
        pa.field("m_h", pa.float32()),
        pa.field("source_id", pa.int64()),
        pa.field("label_source", pa.string()),
        pa.field("is_giant", pa.bool_()),
        pa.field("snr_i", pa.float32()),
        pa.field("bin", pa.list_(pa.int32(), 3)),
    ]
    columns = [
        np.linspace(3000, 4000, n).astype(np.float32),
        np.linspace(4.5, 5.2, n),
        np.linspace(-1, 0.3, n).astype(np.float32),
        pa.array([2**60 + i if i else None for i in range(n)], pa.int64()),
        pa.array([f"catalogue {i}" if i % 3 else None for i in range(n)]),
        pa.array([i % 2 == 0 for i in range(n)]),
        pa.array([float(i) if i else None for i in range(n)], pa.float32()),
        pa.array([[i, i + 1, i + 2] for i in range(n)], pa.list_(pa.int32(), 3)),
    ]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)], schema=pa.schema(fields))
    return LabelledSpectra(flux, np.abs(flux) if ivar else None, GRID, table)


def foreign(path, *, header=None, table=None, extra=(), n=4, n_pix=50):
    """A file as others write it."""
    flux = np.random.default_rng(1).normal(1, 0.1, (n, n_pix)).astype(np.float32)
    labels = table if table is not None else {"TEFF": np.full(n, 3500.0), "LOGG": np.full(n, 5.0), "M_H": np.zeros(n)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)  # of names like [M/H], which others do use
        hdus = [fits.PrimaryHDU(flux, fits.Header(header or [])), fits.BinTableHDU(Table(labels)), *extra]
        fits.HDUList(hdus).writeto(path)
    return flux


LOG_AXIS = [("CRVAL1", 3.8), ("CD1_1", 1e-4), ("CRPIX1", 1), ("DC-FLAG", 1)]


@pytest.mark.parametrize("with_ivar", [True, False])
def test_round_trip_keeps_everything(tmp_path, with_ivar):
    path, made = tmp_path / "references.fits", spectra(ivar=with_ivar)
    digest = write_spectra_fits(path, made, {"CONFIG": "abc123"})
    back = read_spectra_fits(path, labels=LABELS, expect_digest=digest)
    np.testing.assert_array_equal(back.flux, made.flux)
    assert back.flux.dtype == np.dtype("=f4")
    assert (back.ivar is None) == (not with_ivar)
    assert back.grid == GRID
    assert back.digest == digest
    assert back.table.to_pydict() == made.table.to_pydict()
    assert back.labels(LABELS)[2].tolist() == pytest.approx([3400.0, 4.78, -0.48])
    assert [each.name for each in tmp_path.iterdir()] == ["references.fits"]


def test_the_file_says_what_it_is(tmp_path):
    path = tmp_path / "references.fits"
    write_spectra_fits(path, spectra(), {"CONFIG": "abc123"})
    with fits.open(path) as hdus:
        hdus.verify("exception")
        header, table = hdus[0].header, hdus["LABELS"].header
        assert header["CRVAL1"] == GRID.start_dex
        assert header["CD1_1"] == header["CDELT1"] == 1e-4
        assert (header["CRPIX1"], header["DC-FLAG"], header["VACUUM"]) == (1, 1, True)
        assert header["CONFIG"] == "abc123"
        assert header["ORIGIN"] == "stellarscale"
        assert hdus[0].data.shape == (6, GRID.n_pix)
        assert (table["TUNIT1"], table["TUCD1"]) == ("K", "phys.temperature.effective")
    masked = Table.read(path, hdu="LABELS")
    assert masked["source_id"].mask.tolist() == [True] + 5 * [False]
    assert masked["is_giant"].tolist() == [True, False] * 3


def test_same_content_same_digest(tmp_path):
    digests = {write_spectra_fits(tmp_path / f"{i}.fits", spectra()) for i in range(2)}
    assert len(digests) == 1


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "references.fits"
    digest = write_spectra_fits(path, spectra())
    write_spectra_fits(path, spectra(5))
    with pytest.raises(InputError, match="changed"):
        read_spectra_fits(path, expect_digest=digest)


@pytest.mark.parametrize("names", [("Teff", "log_g", "[M/H]"), ("TEFF", "LOGG", "M_H"), ("t_eff", "logG", "mh")])
def test_columns_of_others_are_found(tmp_path, names):
    flux = foreign(tmp_path / "a.fits", header=LOG_AXIS, table=dict(zip(names, np.ones((3, 4)), strict=True)))
    back = read_spectra_fits(tmp_path / "a.fits", labels=LABELS)
    assert back.table.column_names == list(LABELS)
    np.testing.assert_array_equal(back.flux, flux)
    assert back.grid == WaveGrid(3.8, 1e-4, 50)


def test_columns_of_other_names_can_be_told(tmp_path):
    table = {"T": np.ones(4), "gravity": np.ones(4), "Fe_H": np.zeros(4)}
    foreign(tmp_path / "a.fits", header=LOG_AXIS, table=table)
    with pytest.raises(InputError, match=r"no such label.*Seen: t, gravity, fe_h\. Needed: teff"):
        read_spectra_fits(tmp_path / "a.fits", labels=LABELS)
    names = {"teff": "T", "logg": "gravity", "m_h": "Fe_H"}
    assert read_spectra_fits(tmp_path / "a.fits", labels=LABELS, names=names).table.column_names == list(LABELS)


def test_a_column_that_is_named_comes_before_one_of_the_label_s_name(tmp_path):
    table = {"teff": np.full(4, 3000.0), "teff_b": np.full(4, 3500.0), "m_h": np.full(4, 4.5), "logg": np.zeros(4)}
    foreign(tmp_path / "a.fits", header=LOG_AXIS, table=table)
    names = {"teff": "teff_b", "logg": "m_h", "m_h": "logg"}
    back = read_spectra_fits(tmp_path / "a.fits", labels=LABELS, names=names)
    assert sorted(back.table.column_names) == sorted(LABELS)
    np.testing.assert_array_equal(back.labels(("teff", "logg", "m_h")), [[3500.0, 4.5, 0.0]] * 4)


WAVE = 10 ** (3.8 + 1e-4 * np.arange(50))


@pytest.mark.parametrize(
    "extra",
    [
        [fits.ImageHDU(WAVE, name="WAVELENGTH")],
        [fits.ImageHDU(np.log10(WAVE), name="LOGLAM")],
        [fits.BinTableHDU(Table({"Wave": WAVE.astype(np.float64)}))],
    ],
)
def test_wavelengths_may_stand_in_an_hdu(tmp_path, extra):
    foreign(tmp_path / "a.fits", extra=[each.copy() for each in extra])
    assert read_spectra_fits(tmp_path / "a.fits").grid.offset_in(WaveGrid(3.8, 1e-4, 50)) == 0


def test_wavelengths_may_stand_in_a_column_of_the_labels(tmp_path):
    foreign(tmp_path / "a.fits", table={"TEFF": np.ones(4), "WAVELENGTH": np.tile(WAVE, (4, 1))})
    assert read_spectra_fits(tmp_path / "a.fits", labels=["teff"]).grid.offset_in(WaveGrid(3.8, 1e-4, 50)) == 0


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([], "have no wavelengths"),
        ([("CRVAL1", 6000.0), ("CDELT1", 1.5)], "not log-linear.*6000 to 6073.5"),
        ([*LOG_AXIS, ("VACUUM", False)], "in air"),
        ([("CRVAL1", 3.8), ("CD1_1", -1e-4), ("DC-FLAG", 1)], "not log-linear"),
    ],
)
def test_axes_that_cannot_be_used_are_refused(tmp_path, header, message):
    foreign(tmp_path / "a.fits", header=header)
    with pytest.raises(InputError, match=message):
        read_spectra_fits(tmp_path / "a.fits")


def test_spectra_without_labels_are_named(tmp_path):
    teff = np.full(4, 3500.0)
    teff[[1, 3]] = np.nan
    foreign(tmp_path / "a.fits", header=LOG_AXIS, table={"TEFF": teff})
    with pytest.raises(InputError, match=r"2 of 4 spectra have no teff.*rows 1, 3"):
        read_spectra_fits(tmp_path / "a.fits", labels=["teff"])


def test_files_of_another_shape_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_spectra_fits(tmp_path / "a.fits")
    foreign(tmp_path / "a.fits", header=LOG_AXIS, table={"TEFF": np.ones(7)})
    with pytest.raises(InputError, match=r"do not fit together.*\(4, 50\) fluxes, 7 rows"):
        read_spectra_fits(tmp_path / "a.fits")
    fits.PrimaryHDU(np.ones((2, 3, 4))).writeto(tmp_path / "b.fits")
    with pytest.raises(InputError, match=r"holds no spectra.*\(2, 3, 4\)"):
        read_spectra_fits(tmp_path / "b.fits")
    fits.PrimaryHDU(np.ones((3, 4))).writeto(tmp_path / "c.fits")
    with pytest.raises(InputError, match="no labels"):
        read_spectra_fits(tmp_path / "c.fits")
    (tmp_path / "d.fits").write_bytes(b"SIMPLE  = nonsense")
    with pytest.raises(InputError, match="damaged"):
        read_spectra_fits(tmp_path / "d.fits")


def test_shapes_that_do_not_fit_are_not_written(tmp_path):
    made = spectra()
    with pytest.raises(ValueError, match="needed"):
        write_spectra_fits(tmp_path / "a.fits", LabelledSpectra(made.flux[:3], None, GRID, made.table))
    assert list(tmp_path.iterdir()) == []
