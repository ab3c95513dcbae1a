"""The job of the product ``laspm``: parameters of M stars from spectra (paper II)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from stellarscale.frozen import Frozen
from stellarscale.settings.cleaning import SampleCleaning
from stellarscale.settings.job import Job, MatchChain
from stellarscale.settings.sample import LABELS, SampleSelection
from stellarscale.settings.spectra_matching import SpectraMatching
from stellarscale.settings.spectral_errors import RepeatSettings

UNITS = {"teff": "K", "subtype": ""}
OTHER_UNIT = "dex"


class Attach(Frozen):
    """Columns of another catalogue for the spectra that share a key with it."""

    catalog: str = Field(description="name of the catalogue")
    key: str = Field("obsid", description="column of the rows that get the columns")
    their_key: str = Field("obsid", description="column of the other one")
    radius_arcsec: float = Field(60.0, gt=0, le=3600, description="how far apart two rows of one key may stand")
    columns: dict[str, str] = Field(min_length=1, description="column of the catalogue: column of the other one")


class EmpiricalSample(Frozen):
    """How the empirical sample and its reference grid are made (paper II, section 2)."""

    match: MatchChain = Field(description="the table that lists the spectra, and what is matched to it by position")
    attach: tuple[Attach, ...] = Field((), description="what is attached to it by a key, after the matches")
    selection: SampleSelection
    spectra: str = Field(description="catalogue of the spectra; they are found by `selection.cuts.id`")
    cleaning: SampleCleaning = SampleCleaning()
    models: dict[str, str] = Field(
        default_factory=dict,
        description="branch: FITS file of model spectra with labels, which its spectra are recalibrated to",
    )
    review: str | None = Field(
        None,
        description="directory of the review table, which you edit; `<out>_review` if null",
    )


class Library(Frozen):
    """Labelled spectra of your own as references, as they are."""

    spectra: str = Field(description="catalogue of the spectra")
    labels: str = Field(description="table of labels: CSV, ECSV, FITS or Parquet")
    id: str = Field("spectrum_id", description="column of the labels that names the spectrum")
    columns: dict[str, str] = Field(description="parameter: column of the labels")
    star: str | None = Field(None, description="column of the labels that names the star; each spectrum's own if null")


class References(Frozen):
    """Where the reference spectra come from: exactly one of the three."""

    file: str | None = Field(None, description="FITS file of labelled spectra")
    sample: EmpiricalSample | None = None
    library: Library | None = None
    columns: dict[str, str] = Field(default_factory=dict, description="of `file`: parameter: its column there")

    @model_validator(mode="after")
    def _one_source(self) -> References:
        if sum(item is not None for item in (self.file, self.sample, self.library)) != 1:
            raise ValueError("give exactly one of `file`, `sample`, `library`")
        if self.columns and self.file is None:
            raise ValueError("`columns` are those of a `file`: a library has columns of its own")
        return self


class LaspmOutput(Frozen):
    """The value-added catalogue."""

    name: str = Field("catalog", description="directory of the value-added catalogue, in the run")


class Isochrones(Frozen):
    """Lines over the Kiel diagram."""

    file: str = Field(description="table of points in order along each line: CSV, ECSV, FITS or Parquet")
    teff: str = Field("teff", description="column of the effective temperature, K")
    logg: str = Field("logg", description="column of log g, dex")
    m_h: str = Field("m_h", description="column of [M/H], dex: points of one value make a line")


class LaspmReport(Frozen):
    """What the report shows besides the evaluation."""

    isochrones: Isochrones | None = None
    examples: int = Field(6, ge=0, le=50, description="spectra drawn with their best fit")


class LaspmJob(Job):
    """A whole run of the product ``laspm``."""

    product: Literal["laspm"] = Field(description="what to make")
    spectra: str = Field(description="catalogue of the spectra that get parameters")
    references: References
    matching: SpectraMatching = SpectraMatching()
    leave_one_out: bool = Field(False, description="match the references against one another and report it")
    attach: tuple[Attach, ...] = ()
    errors: RepeatSettings | None = Field(None, description="null: no errors, only spreads")
    output: LaspmOutput = LaspmOutput()
    report: LaspmReport = LaspmReport()

    @property
    def used_catalogs(self) -> tuple[str, ...]:
        """Catalogues that a step of the job reads, in the order in which it needs them."""
        named = []
        if sample := self.references.sample:
            named += [sample.match.primary, *(step.catalog for step in sample.match.chain)]
            named += [*(each.catalog for each in sample.attach), sample.spectra]
        if library := self.references.library:
            named.append(library.spectra)
        named += [self.spectra, *(each.catalog for each in self.attach)]
        named += [external.match.catalog for external in self.evaluation.external]
        return tuple(dict.fromkeys(named))

    @property
    def columns(self) -> Mapping[str, str]:
        """Column of the value-added catalogue: column of the spectra's, or of an attached one."""
        return {**self.matching.columns, **{name: name for each in self.attach for name in each.columns}}

    @property
    def units(self) -> Mapping[str, str]:
        """Unit of each parameter."""
        return {label: UNITS.get(label, OTHER_UNIT) for label in self.matching.labels}

    @property
    def errors_by(self) -> tuple[str | None, str]:
        """The signal to noise."""
        name = self.column_of(self.matching.snr) if self.matching.snr else None
        return name, "S/N" if name else ""

    @property
    def primary(self) -> str:
        """The spectra."""
        return self.spectra

    @model_validator(mode="after")
    def _labels_are_given(self) -> LaspmJob:
        library = self.references.library
        missing = sorted(set(self.matching.labels) - set(library.columns)) if library else []
        if missing:
            raise ValueError(f"`references.library.columns` has no column for {', '.join(missing)}")
        if self.references.sample and not set(self.matching.labels) <= set(LABELS):
            raise ValueError(f"the labels of a sample are {', '.join(LABELS)}, not {', '.join(self.matching.labels)}")
        return self

    @model_validator(mode="after")
    def _errors_can_be_made(self) -> LaspmJob:
        if self.errors is None:
            return self
        if self.errors_by[0] is None:
            raise ValueError("`errors` go by the S/N: `matching.snr` names its column, which `matching.columns` keeps")
        accuracy, split = self.errors.accuracy, self.errors.split
        if accuracy == "leave_one_out" and not self.leave_one_out:
            raise ValueError("`errors.accuracy` is to be that of the leave-one-out: `leave_one_out` must be true")
        if accuracy == "leave_one_out" and split is not None and split.column not in self.matching.labels:
            raise ValueError(f"the leave-one-out has no {split.column} to split `errors.accuracy` by, only the labels")
        unknown = sorted(set(accuracy) - set(self.matching.labels)) if isinstance(accuracy, dict) else []
        if unknown:
            raise ValueError(f"`errors.accuracy` names {', '.join(unknown)}: no label of the matching")
        return self

    @model_validator(mode="after")
    def _columns_differ(self) -> LaspmJob:
        attached = [name for each in self.attach for name in each.columns]
        taken = sorted(
            {name for name in attached if attached.count(name) > 1} | set(attached) & set(self.matching.columns)
        )
        if taken:
            raise ValueError(f"two columns of the catalogue have one name: {', '.join(taken)}")
        return self
