"""Settings of a match of two catalogues."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stellarscale.schema import Frozen


class MatchStep(Frozen):
    """One match of a chain: the catalogue to add and how."""

    catalog: str
    radius_arcsec: float = Field(1.0, gt=0, le=3600)
    keep: Literal["nearest", "all", "mutual"] = "nearest"
    how: Literal["inner", "left"] = "inner"
    epoch: float | Literal["rows"] | None = Field(None, description="a year, `rows`, or null for raw positions")
    prefix: str | None = Field(None, description="prefix of the added columns; the catalogue's alias when absent")
