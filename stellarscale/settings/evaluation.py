"""Settings of the comparisons that a finished catalogue goes through."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from stellarscale.schema import Frozen
from stellarscale.settings.matching import MatchStep


class External(Frozen):
    """Another catalogue of the same parameters to compare the value-added catalogue with (paper I, Figs 9 and 10)."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="names the matched catalogue `external_<name>`")
    match: MatchStep
    labels: dict[str, str] = Field(min_length=1, description="parameter: column of the matched table, prefix included")
    offsets: dict[str, float | dict[str, float]] = Field(
        default_factory=dict,
        description="parameter: what is added to their values first; by class where that differs: {dwarf: -87}",
    )

    @model_validator(mode="after")
    def _offsets_of_labels(self) -> External:
        unknown = sorted(set(self.offsets) - set(self.labels))
        if unknown:
            raise ValueError(f"`offsets` names what `labels` does not: {', '.join(unknown)}")
        return self


class Branches(Frozen):
    """Two classes of stars told apart by a parameter, for comparisons of a catalogue without a column of classes."""

    column: str = Field("logg", description="column of the catalogue")
    limit: float = Field(3.5, description="values from here on are `above`")
    below: str = Field("giant", description="name of the stars below the limit")
    above: str = Field("dwarf", description="name of those at or above it")


class ClusterColumns(Frozen):
    """Columns of the value-added catalogue that the members of a star cluster are chosen by."""

    pmra: str = Field("pmra", description="proper motion in right ascension, times cos dec, mas/yr")
    pmdec: str = Field("pmdec", description="proper motion in declination, mas/yr")
    pmra_error: str = Field("pmra_error", description="error of pmra, mas/yr")
    pmdec_error: str = Field("pmdec_error", description="error of pmdec, mas/yr")
    parallax: str = Field("parallax", description="parallax, mas")
    parallax_error: str = Field("parallax_error", description="error of the parallax, mas")
    colour: str = Field("bp_rp_0", description="colour of the ridge line")
    magnitude: str = Field("g_mag", description="apparent: distant clusters have no useful parallax")


class ClusterSettings(Frozen):
    """Star clusters as a test of [Fe/H] (paper I, section 3.5 and Fig. 11)."""

    file: str | None = Field(
        None, description="YAML with centres, motions and literature values; the shipped one if null"
    )
    label: str = Field("fe_h", description="parameter that is compared with the literature")
    columns: ClusterColumns = ClusterColumns()
    max_motion_error: float = Field(0.3, gt=0, description="largest error of a proper motion, mas/yr")
    motion_window: float = Field(
        10.0, gt=0, description="stars this far from the cluster's motion are left out, mas/yr"
    )
    min_probability: float = Field(0.7, gt=0, lt=1, description="of membership, by proper motion")
    parallax_sigmas: float = Field(3.0, gt=0, description="largest distance from the members' parallax")
    cmd_sigmas: float = Field(4.0, gt=0, description="largest distance in colour from the members' ridge line")
    max_mag_error: dict[str, float] = Field(
        default_factory=dict, description="column of the catalogue: largest error; S/N > 20 is 0.054 mag"
    )
    min_members: int = Field(10, ge=3, description="a cluster with fewer members is not fitted")

    @property
    def needed(self) -> list[str]:
        """Columns of the catalogue that the clusters need."""
        return list(dict.fromkeys([*self.columns.model_dump().values(), *self.max_mag_error, self.label]))


class Evaluation(Frozen):
    """What the finished catalogue is compared with."""

    external: tuple[External, ...] = ()
    branches: Branches | None = Field(None, description="what comparisons keep apart, where there are no classes")
    clusters: ClusterSettings | None = None
    metallicity: str | None = Field(None, description="label of the histograms by class (paper I, Fig. 12)")
    metallicity_limits: tuple[float, ...] = Field(
        (0.0, -1.0, -2.0), description="fractions at or below these are given"
    )

    @field_validator("external")
    @classmethod
    def _names_differ(cls, value: tuple[External, ...]) -> tuple[External, ...]:
        names = [external.name for external in value]
        if len(set(names)) < len(names):
            raise ValueError(f"two external catalogues have one name: {', '.join(names)}")
        return value
