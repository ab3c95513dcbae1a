"""The part of a survey schema that says how the files of its spectra are read."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from stellarscale.frozen import Frozen
from stellarscale.settings.spectra import Grid

Layout = Literal["lamost_rows", "lamost_coadd", "sdss", "pyhammer", "image", "table"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
ALL_BITS = -1


class SpectrumLayout(Frozen):
    """How the files of a survey hold one spectrum each."""

    layouts: tuple[Layout, ...] = Field(
        LAYOUTS, description="accepted layouts; the first that fits a file's content reads it"
    )
    air: bool = Field(False, description="the wavelengths of the files are those in standard air")
    rest: bool = Field(False, description="the files are in the rest frame already: no redshift is needed")
    and_bits: int = Field(ALL_BITS, description="bits of the mask of all exposures that take a pixel's weight")
    or_bits: int = Field(0, description="bits of the mask of any exposure that take a pixel's weight; -1: every bit")
    oversampling: float = Field(
        1.0, ge=1, description="pixels for each independent one, where a file was interpolated to finer ones"
    )
    grid: Grid = Grid()
    redshift: str = Field("z", description="canonical column, read from the header, that the rest frame is made with")

    @field_validator("layouts")
    @classmethod
    def _some_layout(cls, value: tuple[Layout, ...]) -> tuple[Layout, ...]:
        if not value:
            raise ValueError(f"no layout is accepted; there are {', '.join(LAYOUTS)}")
        return value
