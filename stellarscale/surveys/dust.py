"""Reader of the SFD98 dust maps."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from stellarscale.errors import InputError
from stellarscale.kernels.dust import DustMaps


def dust_files(directory: str | Path) -> tuple[Path, Path]:
    """The two maps of a directory, of the northern and the southern Galactic hemisphere."""
    north, south = (Path(directory) / f"SFD_dust_4096_{side}.fits" for side in ("ngp", "sgp"))
    return north, south


@lru_cache(maxsize=2)
def load_dust_maps(directory: str) -> DustMaps:
    """Read ``SFD_dust_4096_ngp.fits`` and ``_sgp.fits``, once per process.

    Parameters
    ----------
    directory : str
        Where the two files are.

    Raises
    ------
    InputError
        If a file is missing, damaged, or not a square image.
    """
    north, south = (_load(path) for path in dust_files(directory))
    return DustMaps(north, south)


def _load(path: Path) -> np.ndarray:
    from astropy.io import fits

    if not path.is_file():
        raise InputError(
            "a dust map is missing",
            where=path,
            needed="SFD_dust_4096_ngp.fits and SFD_dust_4096_sgp.fits (Schlegel, Finkbeiner & Davis 1998)",
        )
    try:
        image = fits.getdata(path)
    except (OSError, TypeError, ValueError) as error:
        raise InputError("the dust map cannot be read", where=path, seen=error, cause="a truncated download") from error
    if image is None or image.ndim != 2 or image.shape[0] != image.shape[1]:
        shape = None if image is None else image.shape
        raise InputError("a dust map must be a square image", where=path, seen=shape, needed="(4096, 4096)")
    return np.ascontiguousarray(image, dtype=np.float32)
