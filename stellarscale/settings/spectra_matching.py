"""Settings of template matching: which wavelengths, how many references, what gets flagged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stellarscale.frozen import Frozen


class RvRefinement(Frozen):
    """A search for the velocity that the pipeline's redshift leaves, on a small grid around zero."""

    half_range_kms: float = Field(50.0, gt=0, description="velocities searched, to both sides of the pipeline's")
    step_kms: float = Field(5.0, gt=0, description="step of the grid; a parabola finds the minimum between its points")

    @model_validator(mode="after")
    def _has_an_inside(self) -> RvRefinement:
        if self.step_kms > self.half_range_kms / 2:
            raise ValueError(f"a step of {self.step_kms:g} km/s leaves no grid in +-{self.half_range_kms:g} km/s")
        return self


class Refinement(Frozen):
    """A regression of the labels on what sets a spectrum apart from the combination of its best references.

    In leave-one-out on MILES with a free scale (``order: 0``) it takes the scatter of Teff, log g and [Fe/H] from
    106 K, 0.296, 0.187 to 92 K, 0.223, 0.137. With ``order: 2`` it does not help Teff: leave that out of ``labels``.
    """

    labels: tuple[str, ...] = Field((), description="labels that are refined; all if empty")
    components: int = Field(40, ge=1, description="principal components of the references")
    whitening: float = Field(
        0.3, ge=0, le=1, description="0: components count by their variance, 1: alike, in the distance of spectra"
    )
    length: float = Field(1.0, gt=0, description="over which labels change, in median distances of references")
    assumed_snr: float = Field(
        100.0, gt=0, description="S/N of spectra whose errors nobody gave: every inverse variance of theirs is 0 or 1"
    )


class EdgeRule(Frozen):
    """Which references are at the edge of the grid: with none beyond them, in the direction of some label.

    A reference is at the upper (lower) edge of a label when no other one lies more than a ``bin`` above (below) it
    among those whose other labels are within ``reach``. A spectrum is flagged when references at one and the same edge
    make up more than half of its weights.
    """

    bins: dict[str, float] = Field(
        {"teff": 50.0, "m_h": 0.1}, description="labels whose edges count, with the size of a bin of the grid"
    )
    reach: dict[str, float] = Field(
        {"teff": 100.0, "logg": 0.5, "m_h": 0.2}, description="how near a reference is in the other labels"
    )


class SpectraMatching(Frozen):
    """Template matching against empirical references (paper II, section 3)."""

    labels: tuple[str, ...] = Field(("teff", "logg", "m_h"), min_length=1, description="labels of the references")
    columns: dict[str, str] = Field(
        {"spectrum_id": "spectrum_id", "obsid": "obsid", "ra": "ra", "dec": "dec", "mjd": "mjd", "snr_i": "snr_i"},
        description="columns of the spectra that the catalogue keeps: its name, theirs",
    )
    snr: str | None = Field(
        "snr_i", description="column of the signal to noise; measured in the spectrum where null, or not named"
    )
    rv: str | None = Field("rv", description="column of the velocity (km/s) that the spectra were brought to rest with")
    rv_err: str | None = Field(None, description="column of its error (km/s), given when the velocity is not refined")
    windows_aa: tuple[tuple[float, float], ...] = Field(
        ((6000.0, 8800.0),), min_length=1, description="vacuum wavelengths that are compared, rest frame"
    )
    order: Literal[0, 1, 2] = Field(2, description="order of the multiplicative polynomial; 0 is a free scale")
    k: int = Field(5, ge=1, le=8, description="references that are combined")
    candidates: int = Field(8, ge=1, description="references of the fast ranking that are compared in full precision")
    min_pixels: int = Field(300, ge=20, description="pixels with information that a spectrum needs for parameters")
    snr_min: float = Field(5.0, ge=0, description="below: LOW_SNR")
    chi2_reduced_max: float = Field(
        3.0, gt=0, description="above: BAD_FIT, once the references' mismatch is allowed for"
    )
    mismatch: float = Field(
        0.03, ge=0, description="part of the flux by which references may differ from a real star without BAD_FIT"
    )
    masked_max: float = Field(
        0.1, ge=0, le=1, description="part of a reference's pixels that may lack information; they are interpolated"
    )
    edge: EdgeRule | None = Field(EdgeRule(), description="null: no spectrum is flagged EDGE_OF_GRID")
    refine_rv: RvRefinement | None = Field(None, description="null: the pipeline's velocity is kept as it is")

    refinement: Refinement | None = Field(None, description="null: the weighted mean of the best references' labels")

    @model_validator(mode="after")
    def _makes_sense(self) -> SpectraMatching:
        for first, last in self.windows_aa:
            if not 0 < first < last:
                raise ValueError(f"the window {first:g}-{last:g} Angstrom holds no wavelength")
        if self.k > self.candidates:
            raise ValueError(f"{self.k} references cannot be combined of {self.candidates} candidates")
        if self.edge is not None and not set(self.edge.bins) <= set(self.labels):
            raise ValueError(f"`edge.bins` names {', '.join(sorted(set(self.edge.bins) - set(self.labels)))}: no label")
        if self.refinement is not None and not set(self.refinement.labels) <= set(self.labels):
            strange = sorted(set(self.refinement.labels) - set(self.labels))
            raise ValueError(f"`refinement.labels` names {', '.join(strange)}: no label")
        return self

    @property
    def span_aa(self) -> tuple[float, float]:
        """First and last wavelength of all windows."""
        return min(first for first, _ in self.windows_aa), max(last for _, last in self.windows_aa)
