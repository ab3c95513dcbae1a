"""Settings of the empirical sample's cleaning: recalibration, parameter bins, clustering, network, reference grid."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from stellarscale.frozen import Frozen

Keep = Literal["keep", "drop"]
Triple = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
"""One number for each of Teff (K), logg (dex) and [M/H] (dex)."""


def _rises(wave_aa: tuple[float, float]) -> tuple[float, float]:
    if not 0 < wave_aa[0] < wave_aa[1]:
        raise ValueError(f"the range {wave_aa[0]:g}-{wave_aa[1]:g} Angstrom holds no wavelength")
    return wave_aa


WaveRange = Annotated[tuple[float, float], AfterValidator(_rises)]


class Recalibration(Frozen):
    """A multiplicative polynomial that brings a spectrum to the shape of a model's (paper II, section 2.3.2)."""

    degree: int = Field(2, ge=0, le=6, description="of the polynomial in log wavelength; the paper has 2")
    method: Literal["linear", "nearest"] = Field(
        "linear", description="model interpolated in the labels, or the nearest one; outside the grid always the latter"
    )
    label_scales: Triple = Field(
        (100.0, 0.5, 0.5), description="steps in Teff (K), logg and [M/H] that count as equally far"
    )
    clip_sigma: float | None = Field(
        None, gt=0, description="leave out pixels this many robust sigmas off: crowded bands that models miss"
    )
    iterations: int = Field(5, ge=1, description="most rounds of clipping")


class Bins(Frozen):
    """Cells of the three labels (paper II, sections 2.4 and 4)."""

    teff_k: float = Field(50.0, gt=0, description="width in Teff, K")
    logg_dex: float = Field(0.1, gt=0, description="width in log g, dex")
    m_h_dex: float = Field(0.1, gt=0, description="width in [M/H], dex")
    best: int = Field(150, ge=1, description="spectra of highest S/N per bin that are clustered")

    @property
    def steps(self) -> tuple[float, float, float]:
        """Widths in the order of the labels: K, dex, dex."""
        return self.teff_k, self.logg_dex, self.m_h_dex


class Clustering(Frozen):
    """DBSCAN of the spectra of a bin (paper II, section 2.4).

    Spectra are scaled to a median flux of one over all pixels of the grid, so two copies of one spectrum with noise
    are sqrt(2 n_pix) / (S/N) apart: at 3540 pixels (3900-8800 Angstrom) an ``eps`` of 1 joins equal spectra of S/N
    above 84 only, and 2 those above 42. The paper does not say what unit its 1.0 is in. With ``noise: subtracted``
    eps is how much two stars differ, whatever the S/N; it rests on inverse variances that are right.
    """

    wave_aa: WaveRange = Field((3900.0, 8800.0), description="vacuum wavelengths compared, Angstrom")
    eps: float = Field(1.0, gt=0, description="radius of a neighbourhood, in units of the median flux")
    noise: Literal["included", "subtracted"] = Field(
        "included", description="whether the distance that noise alone explains counts; the paper's counts it"
    )
    min_points: tuple[tuple[int, int], ...] = Field(
        ((0, 2), (6, 3), (16, 4), (41, 5)),
        min_length=1,
        description="pairs: from this population of the bin on, so many spectra (itself included) make a cluster",
    )
    most: int = Field(7, ge=1, description="spectra kept of the largest cluster, by S/N")
    reviewed: int = Field(7, ge=1, description="spectra of highest S/N put under review where a bin has no cluster")
    pictures: int = Field(300, ge=0, description="spectra under review that are drawn, those of highest S/N")
    undecided: Keep = Field("drop", description="what becomes of a spectrum under review that nobody has decided on")

    @model_validator(mode="after")
    def _steps_rise(self) -> Clustering:
        populations = [population for population, _ in self.min_points]
        if populations[0] != 0 or sorted(set(populations)) != populations:
            raise ValueError(f"populations of min_points must rise from 0, not {populations}")
        if min(points for _, points in self.min_points) < 2:
            raise ValueError("a cluster needs two spectra at least: every min_points must be 2 or more")
        return self


class NetworkCleaning(Frozen):
    """Sessions of a network that must give the labels back (paper II, section 2.5)."""

    wave_aa: WaveRange = Field((6000.0, 8800.0), description="vacuum wavelengths seen, Angstrom")
    hidden: tuple[PositiveInt, ...] = Field((512, 64), min_length=1, description="units of the hidden layers")
    sessions: int = Field(5, ge=1, description="trainings, each with a split of its own")
    iterations: int = Field(10_000, ge=1, description="steps of the optimiser in a session")
    batch_size: int = Field(128, ge=1, description="stars per step")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam at the start; falls to zero along a cosine")
    weight_decay: float = Field(1e-2, ge=0, description="of Adam: keeps noise from being learnt by heart")
    test_share: float = Field(0.2, gt=0, lt=1, description="stars held out of a session")
    sample_every: int = Field(100, ge=1, description="iterations between two points of the training curve")
    limits: Triple = Field(
        (100.0, 0.2, 0.2), description="differences in Teff (K), logg and [M/H] beyond which a star is dropped"
    )
    most_dropped: float = Field(
        0.2, gt=0, le=1, description="share of the test stars beyond the limits above which the network is at fault"
    )


class LeaveOneOut(Frozen):
    """Every star of the sample matched against the others (paper II, section 2.6)."""

    wave_aa: WaveRange = Field((6000.0, 8800.0), description="vacuum wavelengths matched, Angstrom")


class ReferenceGrid(Frozen):
    """The spectra that the matcher compares with: the best of each parameter bin (paper II, section 4)."""

    wave_aa: WaveRange = Field((6000.0, 8800.0), description="vacuum wavelengths that must be complete")
    max_filled: float = Field(
        0.02, ge=0, le=1, description="largest share of masked pixels, which are filled from their neighbours"
    )


class SampleCleaning(Frozen):
    """All steps from labelled spectra to the empirical sample and its reference grid."""

    recalibration: Recalibration = Recalibration()
    bins: Bins = Bins()
    clustering: Clustering = Clustering()
    network: NetworkCleaning = NetworkCleaning()
    leave_one_out: LeaveOneOut = LeaveOneOut()
    reference: ReferenceGrid = ReferenceGrid()
    seed: int | None = Field(None, ge=0, description="of the network's splits and weights; the job's if null")
