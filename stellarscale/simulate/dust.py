"""Extinction of the mock Galaxy: a patchy exponential layer, and its map to infinity as SFD-like files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stellarscale.simulate.galaxy import unit_vector

E_BV_PER_PC = 1.5e-4
DUST_HEIGHT_PC = 120.0
SIN_B_FLOOR = 0.02

# Direction (Galactic x, y, z), angular frequency, phase, strength of each ripple of the dust column.
_RIPPLES = (
    ((0.8, 0.6, 0.0), 3.1, 0.4, 0.35),
    ((-0.3, 0.5, 0.8), 4.7, 1.9, 0.30),
    ((0.1, -0.9, 0.4), 7.3, 2.7, 0.25),
    ((0.6, 0.2, -0.8), 11.9, 5.1, 0.20),
)


def patchiness(l_deg: NDArray, b_deg: NDArray) -> NDArray[np.float64]:
    """Smooth positive factor of the dust column over the sky, about 0.4 to 2.5."""
    direction = unit_vector(l_deg, b_deg)
    log_factor = np.zeros(len(direction))
    for axis, frequency, phase, strength in _RIPPLES:
        log_factor += strength * np.sin(frequency * (direction @ np.asarray(axis)) + phase)
    return np.exp(log_factor)


def e_bv(l_deg: NDArray, b_deg: NDArray, distance_pc: NDArray | float) -> NDArray[np.float64]:
    """Colour excess E(B-V) in magnitudes up to a distance (``np.inf`` for the whole column).

    An exponential dust layer of height 120 pc with 0.15 mag per kpc in the plane (0.018 mag at the poles,
    as the real sky has) gives the closed form k (h/sin|b|) (1 - exp(-d sin|b|/h)); a floor on sin|b| stands
    for the edge of the disc.
    """
    sin_b = np.hypot(np.sin(np.radians(b_deg)), SIN_B_FLOOR)
    column = E_BV_PER_PC * DUST_HEIGHT_PC / sin_b * -np.expm1(-np.asarray(distance_pc) * sin_b / DUST_HEIGHT_PC)
    return column * patchiness(l_deg, b_deg)


def write_sfd_maps(folder: Path, *, pixels: int = 512) -> list[Path]:
    """Write the whole-column map as two Lambert polar FITS images, keywords as in the SFD98 files.

    Parameters
    ----------
    folder : Path
        Where ``SFD_dust_4096_ngp.fits`` and ``SFD_dust_4096_sgp.fits`` go: the real names, whatever the size.
    pixels : int
        Side of each image; the real maps have 4096. The mock column is smooth and needs fewer.

    Returns
    -------
    list of Path
        The two files, unscaled E(B-V) in magnitudes, float32.

    Notes
    -----
    Projection of SFD98 (Schlegel, Finkbeiner & Davis 1998, ApJ 500, 525, appendix C).
    """
    from astropy.io import fits

    folder.mkdir(parents=True, exist_ok=True)
    half = pixels / 2.0
    offset = (np.arange(pixels) - (half - 0.5)) / half
    x, y = np.meshgrid(offset, offset)
    written = []
    for name, pole in (("ngp", 1), ("sgp", -1)):
        radius2 = np.minimum(x**2 + y**2, 1.0)
        latitude = pole * np.degrees(np.arcsin(1.0 - radius2))
        longitude = np.degrees(np.arctan2(-pole * y, x)) % 360.0
        image = e_bv(longitude.ravel(), latitude.ravel(), np.inf).reshape(x.shape)
        header = fits.Header({"LAM_NSGP": pole, "LAM_SCAL": half, "CRPIX1": half + 0.5, "CRPIX2": half + 0.5})
        header.update({"CTYPE1": "GLON-ZEA", "CTYPE2": "GLAT-ZEA", "CRVAL1": 0.0, "CRVAL2": 90.0 * pole})
        header["OBJECT"] = "E(B-V)"
        path = folder / f"SFD_dust_4096_{name}.fits"
        fits.PrimaryHDU(image.astype(">f4"), header=header).writeto(path, overwrite=True)
        written.append(path)
    return written
