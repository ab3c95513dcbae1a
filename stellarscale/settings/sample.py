"""Settings of the empirical sample of M stars: cuts, branches of the colour-magnitude diagram, label catalogues.

The defaults are the numbers of paper II, sections 2.1 and 2.2. Columns carry the prefixes of the match chain; those
without a default must be named by the job.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from stellarscale.frozen import Frozen

LABELS = ("teff", "logg", "m_h")
"""The labels of a star, in the order of every array of them: K, dex, dex."""

PLACE = ("branch", "distance_pc", "bp_rp_0", "m_g_0")
"""Columns that the cuts of single rows add."""

MADE = ("source_id", "snr_i", *PLACE, *LABELS, "label_source", "supplement")
"""Columns of the sample beside the id of the spectrum and those carried along."""


def _rising(value: tuple[float, float] | None) -> tuple[float, float] | None:
    if value is not None and not value[0] < value[1]:
        raise ValueError(f"the range {value[0]:g} to {value[1]:g} holds no value")
    return value


Range = Annotated[tuple[float, float] | None, AfterValidator(_rising)]


class Photometry(Frozen):
    """Magnitude, error and extinction of one Gaia band."""

    mag: str = Field(description="column of the magnitude")
    err: str = Field(description="column of its error")
    extinction: float = Field(ge=0, description="R = A / E(B-V), E(B-V) on the scale of SFD98, unscaled")


class SampleReddening(Frozen):
    """Where E(B-V) comes from: exactly one of the four; the scale is that of SFD98, unscaled (as Bayestar's)."""

    column: str | None = Field(None, description="column of E(B-V)")
    av_column: str | None = Field(None, description="column of A_V, e.g. that of StarHorse")
    sfd98: str | None = Field(None, description="directory of SFD_dust_4096_ngp.fits and _sgp.fits")
    value: float | None = Field(None, description="one E(B-V) for all stars")
    av_per_ebv: float = Field(2.742, gt=0, description="A_V / E(B-V) on that scale (Schlafly & Finkbeiner 2011)")

    @model_validator(mode="after")
    def _exactly_one(self) -> SampleReddening:
        if sum(item is not None for item in (self.column, self.av_column, self.sfd98, self.value)) != 1:
            raise ValueError("give exactly one of `column`, `av_column`, `sfd98`, `value`")
        return self


class SampleCuts(Frozen):
    """Columns of a matched spectrum, and the cuts that a row passes or fails by itself (paper II, section 2.1)."""

    id: str = Field("obsid", description="column that identifies a spectrum")
    star: str = Field(description="column that identifies its star, e.g. gaia_source_id")
    subclass: str = Field("subclass", description="column of the spectral subclass")
    snr: str = Field("snr_i", description="column of the signal to noise in the i band")
    g: Photometry
    bp: Photometry
    rp: Photometry
    ruwe: str = Field(description="column of Gaia's RUWE")
    parallax: str = Field(description="column of the parallax, mas")
    parallax_error: str = Field(description="column of its error, mas")
    distance_pc: str = Field(description="column of the photogeometric distance, pc")
    reddening: SampleReddening
    min_snr: float = Field(10.0, ge=0, description="least signal to noise in the i band")
    max_mag_error: float = Field(0.08, gt=0, description="errors of G, BP and RP are smaller, mag")
    max_relative_mag_error: float = Field(0.05, gt=0, description="error / magnitude is smaller in G, BP and RP")
    max_ruwe: float = Field(1.4, gt=0, description="RUWE is smaller")
    max_relative_parallax_error: float = Field(0.2, gt=0, description="error / parallax is smaller")

    @property
    def bands(self) -> dict[str, Photometry]:
        """The three bands by name."""
        return {"G": self.g, "BP": self.bp, "RP": self.rp}


class LabelColumns(Frozen):
    """Columns of effective temperature (K), log g and [M/H] (dex), or numbers that go with each of them."""

    teff: str = Field(description="column of the effective temperature, K")
    logg: str = Field(description="column of log g, dex")
    m_h: str = Field(description="column of [M/H], dex")

    @property
    def names(self) -> tuple[str, str, str]:
        """The three columns in the order of ``LABELS``."""
        return (self.teff, self.logg, self.m_h)


class Tolerance(Frozen):
    """Labels count where they differ less than this from the reference, offsets applied."""

    teff: float = Field(100.0, gt=0, description="K")
    logg: float = Field(0.2, gt=0, description="dex")
    m_h: float = Field(0.2, gt=0, description="dex")

    @property
    def values(self) -> tuple[float, float, float]:
        """The three limits in the order of ``LABELS``."""
        return (self.teff, self.logg, self.m_h)


class CmdBranch(Frozen):
    """One branch of the colour - absolute magnitude diagram and the stars that belong on it."""

    name: str = Field(min_length=1, description="name of the branch, e.g. dwarf")
    subclasses: tuple[str, ...] = Field(min_length=1, description="what subclasses begin with, e.g. dM")
    max_distance_pc: float = Field(gt=0, description="stars are nearer")
    colour: Range = Field(None, description="range of the dereddened BP - RP, mag; null: all")
    magnitude: Range = Field(None, description="range of the absolute magnitude in G; null: all")
    bin_width: float = Field(0.5, gt=0, description="width of the colour bins, mag")
    min_per_bin: int = Field(20, ge=2, description="bins with fewer stars take no part in the fit")
    degree: int = Field(1, ge=1, le=3, description="of the polynomial through the means: 1 dwarfs, 3 giants")
    half_width: float | None = Field(
        0.8, gt=0, description="half width of the band, mag; null: the mean standard deviation of the bins"
    )
    tolerance: Tolerance = Tolerance()


DWARFS = CmdBranch(name="dwarf", subclasses=("dM",), max_distance_pc=2000.0, magnitude=(7.0, 12.0))
GIANTS = CmdBranch(
    name="giant",
    subclasses=("gM",),
    max_distance_pc=5000.0,
    colour=(1.25, 4.0),
    # The paper gives no range. Its scatter of 0.8 mag rules out that the dwarfs and white dwarfs, which it sees
    # among its giants, entered the means; plain means need this range to leave them out.
    magnitude=(-6.0, 4.0),
    degree=3,
    tolerance=Tolerance(teff=70.0),
)


class LabelCatalog(Frozen):
    """A catalogue of labels: its columns, the branches it serves, and its offsets when they are known."""

    name: str = Field(min_length=1, description="what the sample calls it")
    columns: LabelColumns
    branches: tuple[str, ...] = Field((), description="branches it gives labels to; all if empty")
    offsets: dict[str, tuple[float, float, float]] = Field(
        default_factory=dict,
        description="branch: what is added to Teff (K), log g and [M/H]; fitted to the reference where not given "
        "(paper II, ASPCAP: dwarf [-87, 0.05, 0.02], giant [-156, -0.16, 0.17])",
    )

    def serves(self, branch: str) -> bool:
        """Whether it gives labels to a branch."""
        return not self.branches or branch in self.branches


class Supplement(Frozen):
    """Stars that join without lying on a branch, for their good spectra and labels (paper II, section 2.1.3)."""

    errors: LabelColumns = Field(description="columns of the label errors (ASPCAP's in the paper)")
    min_snr: float = Field(50.0, ge=0, description="signal to noise is higher")
    max_errors: Tolerance = Field(Tolerance(teff=10.0, logg=0.05, m_h=0.02), description="errors are smaller")


class Exclusion(Frozen):
    """A list of stars that are left out, e.g. variable stars: a matched column, or a file of ids."""

    name: str = Field("variable star", min_length=1, description="reason that the record of rejects gives")
    column: str | None = Field(None, description="column of the list, matched to the spectra; not null: left out")
    file: str | None = Field(None, description="a .csv or .parquet file of star ids, instead of a matched column")
    id: str = Field("source_id", description="column of the ids in the file")

    @model_validator(mode="after")
    def _one_source(self) -> Exclusion:
        if (self.column is None) == (self.file is None):
            raise ValueError("give either `column` or `file`")
        return self


class SampleSelection(Frozen):
    """Everything that makes the empirical sample out of matched spectra (paper II, sections 2.1 and 2.2)."""

    cuts: SampleCuts
    branches: tuple[CmdBranch, ...] = Field((DWARFS, GIANTS), min_length=1)
    reference: LabelColumns = Field(description="labels that the others are brought to (StarHorse in the paper)")
    catalogs: tuple[LabelCatalog, ...] = Field(min_length=1, description="label catalogues, the preferred one first")
    supplement: Supplement | None = None
    exclusions: tuple[Exclusion, ...] = ()
    keep_all_spectra: bool = Field(False, description="keep every spectrum of a star, not only the best")
    keep: tuple[str, ...] = Field((), description="further columns to carry along")

    @property
    def carried(self) -> tuple[str, ...]:
        """Columns of the matched table that the selection needs after the cuts of single rows, without repeats."""
        names = [self.cuts.id, self.cuts.star, self.cuts.snr, *self.reference.names]
        names += [name for catalog in self.catalogs for name in catalog.columns.names]
        names += self.supplement.errors.names if self.supplement else ()
        names += [exclusion.column for exclusion in self.exclusions if exclusion.column]
        return tuple(dict.fromkeys([*names, *self.keep]))

    @model_validator(mode="after")
    def _names_fit(self) -> SampleSelection:
        names = [branch.name for branch in self.branches]
        _no_repeats(names, "two branches have one name")
        _no_repeats([catalog.name for catalog in self.catalogs], "two label catalogues have one name")
        _no_repeats([e.name for e in self.exclusions if e.file], "two lists of stars to leave out have one name")
        for catalog in self.catalogs:
            unknown = sorted({*catalog.branches, *catalog.offsets} - set(names))
            if unknown:
                raise ValueError(f"{catalog.name} names branches that do not exist: {', '.join(unknown)}")
        idle = [name for name in names if not any(catalog.serves(name) for catalog in self.catalogs)]
        if idle:
            raise ValueError(f"no label catalogue serves the branch {', '.join(idle)}")
        return self

    @model_validator(mode="after")
    def _columns_free(self) -> SampleSelection:
        hidden = set(self.carried) & set(PLACE) | {self.cuts.id, *self.keep} & set(MADE)
        if hidden:
            raise ValueError(
                f"the sample makes columns of these names itself: {', '.join(sorted(hidden))}: match with a prefix"
            )
        return self

    @model_validator(mode="after")
    def _subclasses_told_apart(self) -> SampleSelection:
        given = [(prefix, branch.name) for branch in self.branches for prefix in branch.subclasses]
        for first, owner in given:
            for second, other in given:
                if owner != other and first.startswith(second):
                    raise ValueError(f"subclasses {first} would belong to {owner} and {other}")
        return self


def _no_repeats(names: list[str], message: str) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{message}: {', '.join(names)}")
