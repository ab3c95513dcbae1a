"""Settings of spectra: the wavelength grid that they are stored on."""

from __future__ import annotations

from pydantic import Field, model_validator

from stellarscale.frozen import Frozen
from stellarscale.kernels.wavelength import WaveGrid


class Grid(Frozen):
    """A log-linear grid of vacuum wavelengths, given by its range and either a step or a number of pixels."""

    wave_aa: tuple[float, float] = Field((6000.0, 8800.0), description="first and last vacuum wavelength in Angstrom")
    step_dex: float = Field(1e-4, gt=0, description="step in log10 of the wavelength; 1e-4 is LAMOST's own")
    n_pix: int | None = Field(
        None, ge=2, description="pixels from end to end, instead of a step (paper II: 1657 from 6000 to 8800)"
    )

    @model_validator(mode="after")
    def _range_rises(self) -> Grid:
        if not 0 < self.wave_aa[0] < self.wave_aa[1]:
            raise ValueError(f"the range {self.wave_aa[0]:g}-{self.wave_aa[1]:g} Angstrom holds no wavelength")
        return self

    @property
    def wave_grid(self) -> WaveGrid:
        """The grid itself."""
        if self.n_pix is not None:
            return WaveGrid.spanning(*self.wave_aa, self.n_pix)
        return WaveGrid.covering(*self.wave_aa, self.step_dex)
