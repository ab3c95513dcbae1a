"""Settings of the errors of labels from spectra: precision by repeats, and an accuracy floor."""

from __future__ import annotations

from pydantic import Field

from stellarscale.kernels.repeats import RepeatConfig
from stellarscale.schema import Frozen


class RepeatSettings(Frozen):
    """Errors from stars observed several times (paper II, section 4.2)."""

    star: str = Field("source_id", description="column equal for the observations of one star")
    snr: str = Field("snr_i", description="column of the signal-to-noise ratio that errors are a function of")
    min_observations: int = Field(3, ge=2, description="observations that a star must have")
    min_snr: float = Field(10.0, gt=0, description="observations below this S/N do not count")
    step_snr: float = Field(5.0, gt=0, description="width of the steps in S/N")
    min_in_step: int = Field(30, ge=20, description="a step with fewer observations is joined with the next")
    branch: str | None = Field(None, description="column, such as dwarf or giant, whose values have their own errors")
    accuracy_floor: dict[str, float] = Field(
        default_factory=dict,
        description="label: sigma added in quadrature, for instance that of the leave-one-out; repeats show precision "
        "only, so the catalogue keeps both: <label>_precision and <label>_err",
    )

    @property
    def config(self) -> RepeatConfig:
        """What the fit needs."""
        return RepeatConfig(self.min_observations, self.min_snr, self.step_snr, self.min_in_step)
