"""Wavelengths of spectra: the log-linear grid that they are stored on, air and vacuum, rest frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LIGHT_KMS = 299792.458
_ALIGNED = 1e-3  # of a pixel: what grids may differ by and still count as the same


@dataclass(frozen=True)
class WaveGrid:
    """Vacuum wavelengths ``10 ** (start_dex + step_dex * i)`` in Angstrom, ``i`` from 0 to ``n_pix - 1``.

    Raises
    ------
    ValueError
        If the step is not positive or there is no pixel.
    """

    start_dex: float
    step_dex: float
    n_pix: int

    def __post_init__(self) -> None:
        if not (self.step_dex > 0 and self.n_pix >= 1 and math.isfinite(self.start_dex)):
            raise ValueError(f"no wavelength grid: start {self.start_dex}, step {self.step_dex}, {self.n_pix} pixels")

    @classmethod
    def covering(cls, first_aa: float, last_aa: float, step_dex: float = 1e-4) -> WaveGrid:
        """Pixels at whole multiples of the step that lie in a range; grids of one step then always align.

        LAMOST's own step of 1e-4 has 1663 of them from 6000 to 8800 Angstrom.
        """
        first = math.ceil(math.log10(first_aa) / step_dex - _ALIGNED)
        last = math.floor(math.log10(last_aa) / step_dex + _ALIGNED)
        return cls(first * step_dex, step_dex, last - first + 1)

    @classmethod
    def spanning(cls, first_aa: float, last_aa: float, n_pix: int) -> WaveGrid:
        """A number of pixels, the first and last at the ends of the range (paper II has 1657)."""
        start = math.log10(first_aa)
        return cls(start, (math.log10(last_aa) - start) / (n_pix - 1), n_pix)

    @property
    def log10_aa(self) -> NDArray[np.float64]:
        """Logarithm of the wavelengths, shape (n_pix,)."""
        return self.start_dex + self.step_dex * np.arange(self.n_pix, dtype=np.float64)

    @property
    def wave_aa(self) -> NDArray[np.float64]:
        """Wavelengths of the pixels' centres, shape (n_pix,)."""
        return 10.0**self.log10_aa

    @property
    def pixel_kms(self) -> float:
        """Width of a pixel as a velocity."""
        return LIGHT_KMS * (10.0**self.step_dex - 1.0)

    def window(self, first_aa: float, last_aa: float) -> slice:
        """Pixels whose centres lie in a range of wavelengths."""
        slack = _ALIGNED * self.step_dex
        log = self.log10_aa
        return slice(
            int(np.searchsorted(log, math.log10(first_aa) - slack)),
            int(np.searchsorted(log, math.log10(last_aa) + slack, side="right")),
        )

    def offset_in(self, other: WaveGrid) -> int | None:
        """Index in ``other`` of this grid's first pixel; None when the pixels of the two do not align."""
        shift = (self.start_dex - other.start_dex) / other.step_dex
        longest = max(self.n_pix, other.n_pix)
        drift = abs(self.step_dex - other.step_dex) / other.step_dex * longest
        return round(shift) if abs(shift - round(shift)) + drift < _ALIGNED else None

    def __str__(self) -> str:
        ends = self.wave_aa[[0, -1]]
        return f"{self.n_pix} pixels of {self.step_dex:g} dex, {ends[0]:.2f}-{ends[1]:.2f} Angstrom"


def air_to_vacuum(wave_aa: ArrayLike) -> NDArray[np.float64]:
    """Vacuum wavelengths of air wavelengths, by the inverse formula of N. Piskunov as VALD and SDSS use it.

    Parameters
    ----------
    wave_aa : array_like
        Wavelengths in standard air, Angstrom; above 2000.

    Notes
    -----
    Inverse of :func:`vacuum_to_air` to 2e-5 Angstrom between 2000 and 30000.
    """
    air = np.asarray(wave_aa, dtype=np.float64)
    s2 = (1e4 / air) ** 2
    dispersion = 0.02408926869968 / (130.1065924522 - s2) + 1.599740894897e-4 / (38.92568793293 - s2)
    return air * (1.0 + 8.336624212083e-5 + dispersion)


def vacuum_to_air(wave_aa: ArrayLike) -> NDArray[np.float64]:
    """Air wavelengths of vacuum wavelengths (Ciddor 1996 in the form of Birch and Downs 1994), Angstrom."""
    vacuum = np.asarray(wave_aa, dtype=np.float64)
    s2 = (1e4 / vacuum) ** 2
    index = 1.0 + 8.34254e-5 + 2.406147e-2 / (130.0 - s2) + 1.5998e-4 / (38.9 - s2)
    return vacuum / index
