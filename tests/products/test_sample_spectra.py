"""Spectra of a sample copied to disk, and models brought to their grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from reference.mock_catalog import mock_table, write_mock
from reference.mock_laspm import mock_run

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.errors import InputError, SchemaError, StellarscaleError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products.sample_spectra import copy_spectra, missing_spectra, on_grid
from stellarscale.spectra_columns import spectra_of

GRID = WaveGrid.covering(6000, 6200)
N = 500  # in several partitions of several row groups


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    return mock_run(tmp_path_factory.mktemp("spectra"), n=N, n_ref=40, grid=GRID).spectra


@pytest.fixture(scope="module")
def stored(catalog) -> pa.Table:
    return read_columns(open_stored(catalog), ["obsid", "spectrum_id", "flux", "ivar"])


def column(values, kind=None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def test_spectra_are_copied_in_the_order_of_the_ids(catalog, stored, tmp_path):
    rows = np.random.default_rng(1).permutation(N)[:200]
    ids = stored["obsid"].to_numpy()[rows]
    copied = copy_spectra(catalog, "obsid", column(ids), tmp_path)
    assert copied.grid == GRID
    for name in ("flux", "ivar"):
        np.testing.assert_array_equal(getattr(copied, name), spectra_of(stored, name)[rows])
    some = np.array([7, 3, 7])
    flux, ivar = copied.load(some)
    np.testing.assert_array_equal(flux, spectra_of(stored, "flux")[rows[some]])
    np.testing.assert_array_equal(ivar, spectra_of(stored, "ivar")[rows[some]])
    assert not isinstance(flux, np.memmap)


def test_ids_may_be_text_or_integers_of_another_width(catalog, stored, tmp_path):
    names = stored["spectrum_id"].to_pylist()[:5]
    by_name = copy_spectra(catalog, "spectrum_id", column(names), tmp_path / "a")
    by_id = copy_spectra(catalog, "obsid", column(stored["obsid"].to_pylist()[:5], pa.int32()), tmp_path / "b")
    np.testing.assert_array_equal(by_name.flux, by_id.flux)


def test_of_several_spectra_of_one_id_the_first_counts(stored, tmp_path):
    table = read_columns(open_stored_copy(stored, tmp_path), ["obsid", "flux"])
    copied = copy_spectra(tmp_path / "twice", "obsid", column([4]), tmp_path / "out")
    first = next(row for row, one in enumerate(table["obsid"].to_pylist()) if one == 4)
    np.testing.assert_array_equal(copied.flux[0], spectra_of(table, "flux")[first])


def open_stored_copy(stored: pa.Table, folder: Path):
    """A catalogue in which every spectrum is called 4."""
    sky = mock_table(N)
    table = stored.select(["flux", "ivar"]).append_column("obsid", pa.array(np.full(N, 4)))
    for place, name in enumerate(("_healpix_29", "ra", "dec")):
        table = table.add_column(place, name, sky[name])
    return write_mock(folder / "twice", table, max_rows=200, stellarscale_id="obsid")[0]


def test_missing_spectra_are_told_before_and_refused_when_copied(catalog, tmp_path):
    ids = column([3, 10**6, 5])
    assert missing_spectra(catalog, "obsid", ids).tolist() == [False, True, False]
    with pytest.raises(InputError, match="1000000"):
        copy_spectra(catalog, "obsid", ids, tmp_path)


def test_what_cannot_be_asked_is_told(catalog, tmp_path):
    with pytest.raises(StellarscaleError, match="starname"):
        missing_spectra(catalog, "starname", column([1]))
    with pytest.raises(InputError, match=r"another kind.*column obsid.*spec-1"):
        missing_spectra(catalog, "obsid", column(["spec-1"]))
    write_mock(tmp_path / "stars", mock_table(20))
    with pytest.raises(SchemaError, match="flux"):
        missing_spectra(tmp_path / "stars", "source_id", column([1]))


def test_models_on_an_aligned_grid_are_cut():
    wide = WaveGrid.covering(5900, 6300)
    flux = np.random.default_rng(0).random((3, wide.n_pix))
    offset = GRID.offset_in(wide)
    cut = on_grid(flux, wide, GRID, where=Path("m.fits"))
    np.testing.assert_array_equal(cut, flux[:, offset : offset + GRID.n_pix])
    assert cut.dtype == np.float64


@pytest.mark.parametrize(("step", "close"), [(2e-5, 2e-3), (3e-4, 2e-2)])
def test_models_on_another_grid_are_rebinned(step, close):
    other = WaveGrid.covering(5900, 6300, step)
    shape = 1.0 + 0.3 * np.sin(other.wave_aa / 25.0)
    found = on_grid(shape[None], other, GRID, where=Path("m.fits"))
    expected = 1.0 + 0.3 * np.sin(GRID.wave_aa / 25.0)
    assert found.shape == (1, GRID.n_pix)
    np.testing.assert_allclose(found[0], expected, atol=close)


@pytest.mark.parametrize("ends", [(6050, 6300), (5900, 6150)])
def test_models_that_end_too_early_are_refused(ends):
    short = WaveGrid.covering(*ends)
    with pytest.raises(InputError, match=r"do not cover.*m\.fits"):
        on_grid(np.ones((1, short.n_pix)), short, GRID, where=Path("m.fits"))
