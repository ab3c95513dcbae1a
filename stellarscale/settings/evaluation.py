"""Settings of the comparisons that a finished catalogue goes through."""

from __future__ import annotations

from pydantic import Field

from stellarscale.schema import Frozen
from stellarscale.settings.matching import MatchStep


class External(Frozen):
    """Another catalogue of the same parameters to compare the value-added catalogue with (paper I, Figs 9 and 10)."""

    name: str
    match: MatchStep
    labels: dict[str, str] = Field(min_length=1, description="parameter: column of the matched table, prefix included")


class ClusterSettings(Frozen):
    """Star clusters as a test of [Fe/H] (paper I, section 3.5 and Fig. 11)."""

    file: str | None = Field(
        None, description="YAML with centres, motions and literature values; the shipped one if null"
    )
    label: str = "fe_h"
    max_motion_error: float = Field(0.3, gt=0, description="largest error of a proper motion, mas/yr")
    max_mag_error: dict[str, float] = Field(
        default_factory=dict, description="column of the catalogue: largest error; S/N > 20 is 0.054 mag"
    )
    min_members: int = Field(10, ge=3)


class Evaluation(Frozen):
    """What the finished catalogue is compared with."""

    external: tuple[External, ...] = ()
    clusters: ClusterSettings | None = None
    metallicity: str | None = Field(None, description="label of the histograms by class (paper I, Fig. 12)")
    metallicity_limits: tuple[float, ...] = (0.0, -1.0, -2.0)
