"""Settings of the errors of labels from spectra: precision by repeats, and the accuracy of the method."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stellarscale.frozen import Frozen
from stellarscale.kernels.repeats import RepeatConfig


class Split(Frozen):
    """Two kinds of stars with errors of their own, told apart by a parameter."""

    column: str = Field("logg", description="column of the catalogue")
    limit: float = Field(3.5, description="stars below are of one kind, those from here on of the other")


class RepeatSettings(Frozen):
    """Errors from stars observed several times (paper II, section 4.2)."""

    star: str = Field("source_id", description="column equal for the observations of one star")
    min_observations: int = Field(3, ge=2, description="observations that a star must have")
    min_snr: float = Field(10.0, gt=0, description="observations below this S/N do not count")
    step_snr: float = Field(5.0, gt=0, description="width of the steps in S/N")
    min_in_step: int = Field(30, ge=20, description="a step with fewer observations is joined with the next")
    split: Split | None = Field(None, description="null: all stars together, as in the paper")
    accuracy: dict[str, float] | Literal["leave_one_out"] | None = Field(
        None,
        description="label: sigma added in quadrature, because repeats show precision only; or that of the "
        "leave-one-out. The catalogue then has both, <label>_err and <label>_precision; null: the precision alone",
    )

    @property
    def config(self) -> RepeatConfig:
        """What the fit needs."""
        return RepeatConfig(self.min_observations, self.min_snr, self.step_snr, self.min_in_step)
