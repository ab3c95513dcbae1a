"""Isochrones from a table of the user's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.report.plots_kiel import IsochroneLine, isochrone_lines

if TYPE_CHECKING:
    from stellarscale.settings.laspm import Isochrones

_FORMATS = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits"}


def read_isochrones(settings: Isochrones) -> tuple[IsochroneLine, ...]:
    """Lines for the Kiel diagram, one per metallicity.

    Raises
    ------
    InputError
        If the file is missing or damaged, of another format, lacks a column, or one holds no numbers.
    """
    path = Path(settings.file)
    names = (settings.teff, settings.logg, settings.m_h)
    if not path.is_file():
        raise InputError("there is no such file of isochrones", where=path.absolute())
    columns = _read(path)
    missing = sorted(set(names) - set(columns))
    if missing:
        seen, needed = ", ".join(columns), ", ".join(missing)
        raise InputError("the isochrones lack columns", where=path, seen=seen, needed=needed)
    try:
        teff, logg, m_h = (_floats(columns[name]) for name in names)
    except (TypeError, ValueError) as error:
        raise InputError("the isochrones are no numbers", where=path, seen=error, needed=", ".join(names)) from error
    return isochrone_lines(teff, logg, m_h)


def _read(path: Path) -> dict[str, Any]:
    """Every column of a small table."""
    from astropy.table import Table

    kind = path.suffix.lower()
    try:
        if kind == ".parquet":
            table = pq.read_table(path)
            return {name: table[name].to_numpy() for name in table.column_names}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units that astropy does not know
            found = Table.read(path, format=_FORMATS[kind])
    except KeyError as error:
        needed = ", ".join([*_FORMATS, ".parquet"])
        raise InputError("isochrones of an unknown format", where=path, seen=kind, needed=needed) from error
    except (OSError, ValueError, TypeError, pa.ArrowInvalid) as error:
        raise InputError("the file of isochrones is damaged", where=path, seen=error) from error
    return {name: found[name] for name in found.colnames}


def _floats(values: Any) -> NDArray[np.float64]:
    """Numbers with NaN for what is masked or null."""
    return np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)
