"""Settings of a match of two catalogues."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stellarscale.schema import Frozen


class MatchStep(Frozen):
    """One match of a chain: the catalogue to add and how."""

    catalog: str = Field(description="name of the catalogue to match")
    radius_arcsec: float = Field(1.0, gt=0, le=3600, description="largest separation of a pair, arcsec")
    keep: Literal["nearest", "all", "mutual"] = Field(
        "nearest", description="the nearest partner, all of them, or the nearest if that holds both ways"
    )
    how: Literal["inner", "left"] = Field("inner", description="rows that have a partner, or all rows")
    epoch: float | Literal["rows"] | None = Field(None, description="a year, `rows`, or null for raw positions")
    prefix: str | None = Field(None, description="prefix of the added columns; the catalogue's alias when absent")
