"""The base of every configuration object."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of every configuration object: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
