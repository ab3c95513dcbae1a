"""Derived columns against independent formulas and astropy's time scales."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from astropy.time import Time

from stellarscale.surveys import derive
from stellarscale.surveys.cells import Cells


def test_magnitude_error_agrees_with_a_simulation():
    rng = np.random.default_rng(2)
    flux = Cells(np.array([1000.0]), None)
    cells = derive.flux_error_to_mag_error([flux, Cells(np.array([10.0]), None)], 0.0)
    spread = np.std(-2.5 * np.log10(1000.0 + 10.0 * rng.normal(size=200_000)))
    assert cells.values[0] == pytest.approx(spread, rel=0.01)


@pytest.mark.parametrize("s0", [0.0027553202, 0.0027901700, 0.0037793818])
def test_the_zero_point_error_is_the_floor(s0):
    cells = derive.flux_error_to_mag_error([Cells(np.array([1e9]), None), Cells(np.array([1e-3]), None)], s0)
    assert cells.values[0] == pytest.approx(s0)


def test_flux_that_is_missing_or_not_positive_gives_null():
    flux = Cells(np.array([0.0, -1.0, 5.0, 5.0]), np.array([True, True, False, True]))
    error = Cells(np.array([1.0, 1.0, 1.0, np.nan]), np.array([True, True, True, False]))
    assert derive.flux_error_to_mag_error([flux, error], 0.003).valid.tolist() == [False] * 4


def test_epochs_agree_with_astropy():
    mjd = np.array([51544.5, 55555.25, 58000.0])
    expected = Time(mjd, format="mjd", scale="tdb").jyear
    assert derive.mjd_to_year([Cells(mjd, None)]).values == pytest.approx(expected, abs=1e-9)
    assert derive.jd_to_year([Cells(mjd + 2400000.5, None)]).values == pytest.approx(expected, abs=1e-9)


def test_epoch_is_the_mean_of_what_there_is():
    first = Cells(np.array([58000.0, 58000.0, 1.0]), np.array([True, True, False]))
    second = Cells(np.array([58010.0, 1.0, 1.0]), np.array([True, False, False]))
    cells = derive.mjd_to_year([first, second])
    expected = Time([58005.0, 58000.0], format="mjd", scale="tdb").jyear
    assert cells.values[:2] == pytest.approx(expected, abs=1e-9)
    assert cells.valid.tolist() == [True, True, False]


def test_dates():
    texts = pa.array(["1999-10-19", "2000-01-01", "2000/01/01", "1999-10-19 03:04", None, "soon", ""])
    cells = derive.date_to_year([texts])
    assert cells.valid.tolist() == [True, True, True, True, False, False, False]
    expected = Time("1999-10-19T12:00", scale="tdb").jyear
    assert cells.values[[0, 3]] == pytest.approx([expected] * 2, abs=1e-9)
    assert cells.values[[1, 2]].tolist() == [2000.0, 2000.0]
    assert derive.date_to_year([pa.nulls(2, pa.string())]).valid.tolist() == [False, False]


def test_redshift():
    cells = derive.redshift_to_rv([Cells(np.array([1e-4, 5.0]), np.array([True, False]))])
    assert cells.values[0] == pytest.approx(29.9792458)
    assert cells.valid.tolist() == [True, False]


def test_numbers_are_needed():
    with pytest.raises(TypeError, match="needs numbers"):
        derive.redshift_to_rv([pa.array(["a"])])
