"""``skymap.fits``: rows per HEALPix pixel, in the explicit or implicit NESTED form that HATS readers know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stellarscale.catalog import atomic


def write_skymap(path: Path, counts: NDArray[np.int64]) -> None:
    """Write counts per NESTED pixel as a HEALPix FITS map.

    Maps that are more than half empty are written as (pixel, count) pairs of the pixels that hold rows.

    Parameters
    ----------
    path : Path
        Replaced atomically.
    counts : ndarray of int64, shape (12 * 4**order,)
    """
    from astropy.io import fits

    order = order_of(counts)
    filled = np.flatnonzero(counts)
    sparse = 2 * len(filled) < len(counts)
    columns = [fits.Column("PIXEL", "K", array=filled)] if sparse else []
    columns.append(fits.Column("VALUE", "K", array=counts[filled] if sparse else counts))
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update(
        {
            "PIXTYPE": "HEALPIX",
            "ORDERING": "NESTED",
            "COORDSYS": "C",
            "NSIDE": 1 << order,
            "FIRSTPIX": 0,
            "LASTPIX": len(counts) - 1,
            "INDXSCHM": "EXPLICIT" if sparse else "IMPLICIT",
            "OBJECT": "PARTIAL" if sparse else "FULLSKY",
        }
    )
    with atomic.atomic_write(path) as temporary, temporary.open("wb") as file:
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(file)


def read_skymap(path: Path) -> NDArray[np.int64]:
    """Counts per NESTED pixel of a map that :func:`write_skymap` wrote."""
    from astropy.io import fits

    with fits.open(path) as file:
        header, data = file[1].header, file[1].data
        counts = np.zeros(12 * header["NSIDE"] ** 2, dtype=np.int64)
        where = data["PIXEL"] if header["INDXSCHM"] == "EXPLICIT" else slice(None)
        counts[where] = data["VALUE"]
    return counts


def order_of(counts: NDArray[np.int64]) -> int:
    """HEALPix order of a full map."""
    return ((len(counts) // 12).bit_length() - 1) // 2
