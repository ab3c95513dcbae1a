"""Spectra between numpy and Arrow."""

import numpy as np
import pyarrow as pa
import pytest

from stellarscale.errors import SchemaError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.spectra_columns import FLUX, IVAR, grid_of, spectra_of, spectrum_array, spectrum_field

GRID = WaveGrid.covering(6000, 6010)


def table_of(values):
    fields = [spectrum_field(FLUX, GRID), spectrum_field(IVAR, GRID)]
    return pa.table([spectrum_array(values, FLUX, GRID), spectrum_array(values, IVAR, GRID)], schema=pa.schema(fields))


def test_round_trip_keeps_values_and_grid():
    values = np.arange(3 * GRID.n_pix, dtype=np.float32).reshape(3, -1)
    table = table_of(values)
    np.testing.assert_array_equal(spectra_of(table, FLUX), values)
    assert grid_of(table.schema) == GRID
    assert table.schema.field(IVAR).metadata[b"description"].startswith(b"inverse variance")


def test_slices_and_chunks_give_their_own_rows():
    values = np.arange(5 * GRID.n_pix, dtype=np.float32).reshape(5, -1)
    table = table_of(values)
    np.testing.assert_array_equal(spectra_of(table.slice(2, 2), FLUX), values[2:4])
    np.testing.assert_array_equal(spectra_of(table.to_batches()[0].slice(1, 3), FLUX), values[1:4])
    joined = pa.concat_tables([table.slice(3), table.slice(0, 3)])
    np.testing.assert_array_equal(spectra_of(joined, FLUX), values[[3, 4, 0, 1, 2]])


def test_no_rows_keep_the_width():
    assert spectra_of(table_of(np.empty((0, GRID.n_pix), dtype=np.float32)), FLUX).shape == (0, GRID.n_pix)


def test_null_spectra_come_as_zeros_without_weight():
    kind = spectrum_field(FLUX, GRID).type
    table = pa.table({FLUX: pa.array([[1.0] * GRID.n_pix, None], type=kind)})
    np.testing.assert_array_equal(spectra_of(table, FLUX)[1], np.zeros(GRID.n_pix))


def test_wrong_width_names_both():
    with pytest.raises(ValueError, match=rf"\(2, 3\).*{GRID.n_pix}"):
        spectrum_array(np.zeros((2, 3)), FLUX, GRID)


def test_columns_that_are_no_spectra_are_refused():
    with pytest.raises(SchemaError, match="holds no spectra"):
        grid_of(pa.schema([("teff", pa.float32())]))
    with pytest.raises(SchemaError, match="no wavelength grid"):
        grid_of(pa.schema([(FLUX, pa.list_(pa.float32(), 4))]))
