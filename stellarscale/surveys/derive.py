"""Canonical columns computed from others: magnitude errors, epochs, radial velocities, row numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.surveys.cells import Cells, Value, valid_of

MAG_PER_LN_FLUX = 2.5 / np.log(10.0)
SPEED_OF_LIGHT_KM_S = 299_792.458
_JULIAN_YEAR_DAYS = 365.25
_J2000_JD = 2_451_545.0
_MJD_ZERO_JD = 2_400_000.5
_UNIX_ZERO_JD = 2_440_587.5


def flux_error_to_mag_error(inputs: Sequence[Value], constant: float) -> Cells:
    """Magnitude error sqrt((2.5/ln 10 sigma_F/F)^2 + s0^2) of flux and error (rows,); flux <= 0 gives null.

    Source: Gaia (E)DR3 photometric zero points, where s0 is the zero point's uncertainty (the `constant`).
    """
    (flux, _), (error, _) = _numbers(inputs[0]), _numbers(inputs[1])
    positive = flux > 0
    valid = valid_of(inputs[0]) & valid_of(inputs[1]) & positive
    ratio = np.divide(error, flux, out=np.zeros(len(flux)), where=valid)
    return Cells(np.hypot(MAG_PER_LN_FLUX * ratio, constant), valid)


def jd_to_year(inputs: Sequence[Value], constant: float = 0.0) -> Cells:
    """Julian year of the mean of the Julian dates (rows,) that a row has; `constant` (days) is added."""
    return _mean_year(inputs, constant)


def mjd_to_year(inputs: Sequence[Value], constant: float = 0.0) -> Cells:
    """Julian year of the mean of the modified Julian dates (rows,) that a row has."""
    return _mean_year(inputs, constant + _MJD_ZERO_JD)


def date_to_year(inputs: Sequence[Value], constant: float = 0.0) -> Cells:
    """Julian year of noon of ISO dates (``1999-10-19``, rows of strings); what is not a date gives null."""
    codes = pa.array(inputs[0]).dictionary_encode()
    years = np.array([_year_of_date(text.as_py()) for text in codes.dictionary] or [np.nan])
    index = codes.indices.fill_null(0).to_numpy()
    values = years[index]
    return Cells(values, valid_of(inputs[0]) & np.isfinite(values))


def redshift_to_rv(inputs: Sequence[Value], constant: float = 0.0) -> Cells:
    """Radial velocity c z in km/s of redshifts (rows,)."""
    values, valid = _numbers(inputs[0])
    return Cells(SPEED_OF_LIGHT_KM_S * values, valid)


def row_number(first_id: int, rows: int) -> Cells:
    """Numbers (rows,) of the rows across all files of an import."""
    return Cells(np.arange(first_id, first_id + rows, dtype=np.int64), None)


FUNCTIONS: dict[str, Callable[[Sequence[Value], float], Cells]] = {
    "flux_error_to_mag_error": flux_error_to_mag_error,
    "jd_to_year": jd_to_year,
    "mjd_to_year": mjd_to_year,
    "date_to_year": date_to_year,
    "redshift_to_rv": redshift_to_rv,
}


def _numbers(value: Value) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if not isinstance(value, Cells):
        raise TypeError("a derivation that needs numbers was given strings")
    valid = valid_of(value)
    return np.where(valid, value.values, 0).astype(np.float64), valid


def _mean_year(inputs: Sequence[Value], offset_days: float) -> Cells:
    total = np.zeros(0)
    count = np.zeros(0, np.int64)
    for item in inputs:
        values, valid = _numbers(item)
        total, count = (total + values, count + valid) if len(count) else (values, valid.astype(np.int64))
    valid = count > 0
    mean = np.divide(total, count, out=np.zeros(len(total)), where=valid)
    return Cells(2000.0 + (mean + (offset_days - _J2000_JD)) / _JULIAN_YEAR_DAYS, valid)


def _year_of_date(text: str | None) -> float:
    try:
        day = np.datetime64((text or "").strip()[:10].replace("/", "-"), "D")
    except ValueError:
        return np.nan
    if np.isnat(day):
        return np.nan
    jd = day.astype(np.int64) + _UNIX_ZERO_JD + 0.5  # noon halves the worst error of a date without a time
    return 2000.0 + (jd - _J2000_JD) / _JULIAN_YEAR_DAYS
