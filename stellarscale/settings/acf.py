"""The job of the product ``acf``: parameters from images (paper III)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from stellarscale.frozen import Frozen
from stellarscale.settings.cuts import Cut, Selection
from stellarscale.settings.image_network import ImageNetwork, ImagePrediction, ImageTraining
from stellarscale.settings.job import Job, MatchChain, Output
from stellarscale.settings.matching import MatchStep
from stellarscale.settings.stamps import StampSettings
from stellarscale.settings.training import Errors, Label

Algorithm = Literal["random_forest", "xgboost", "lightgbm", "catboost"]
LIMITS: dict[str, tuple[float | None, float | None]] = {
    "teff": (4000.0, 8000.0),
    "logg": (1.0, None),
    "fe_h": (-1.0, None),
}
FeatureSet = Literal["magnitudes", "colours", "both", "image"]


class ImageLabels(Frozen):
    """Stars of known parameters that the networks learn from (paper III, section 2.2)."""

    match: MatchStep = Field(description="how labels reach the stars")
    cuts: tuple[Cut, ...] = Field((), description="further cuts that a labelled star must pass")
    labels: dict[str, Label] = Field(min_length=1, description="parameters and where the catalogue has them")


class ImageComparisons(Frozen):
    """Other methods on the same split (paper III, section 5.2, Tables 1 and 2)."""

    algorithms: tuple[Algorithm, ...] = Field(
        ("random_forest", "xgboost", "lightgbm", "catboost"), min_length=1, description="regressors"
    )
    features: tuple[FeatureSet, ...] = Field(
        ("magnitudes", "colours", "both", "image"), min_length=1, description="what they are given"
    )
    magnitudes: dict[str, str] = Field(description="band: column of the magnitude")
    colours: tuple[str, ...] = Field(
        ("u-v", "v-g", "g-r", "r-i", "i-z"), description="pairs of bands, of dereddened magnitudes"
    )
    components: int = Field(16, ge=1, description="principal components of the image features")
    trials: int = Field(30, ge=1, description="sets of hyper-parameters that the Bayesian search tries")
    max_stars: int = Field(30_000, ge=100, description="training stars, drawn at random, that the search uses")


class AcfJob(Job):
    """A whole run of the product ``acf``."""

    product: Literal["acf"] = Field(description="what to make")
    match: MatchChain
    parallax: str = Field("gaia_parallax", description="column of the parallax, mas")
    parallax_error: str = Field("gaia_parallax_error", description="column of its error, mas")
    magnitude: str | None = Field("g_mag", description="magnitude by which errors and comparisons are looked at")
    selection: Selection = Selection()
    stamps: StampSettings
    labels: ImageLabels
    network: ImageNetwork = ImageNetwork()
    training: ImageTraining = ImageTraining()
    pretrained: str | None = Field(None, description="directory of another run's models, to be used as they are")
    prediction: ImagePrediction = ImagePrediction()
    errors: Errors = Errors()
    comparisons: ImageComparisons | None = None
    limits: dict[str, tuple[float | None, float | None]] = Field(
        LIMITS,
        description="parameter: range outside of which it is flagged (paper III, section 6)",
    )
    gallery: int = Field(12, ge=0, le=60, description="stamps that the report shows with their parameters")
    output: Output

    @property
    def used_catalogs(self) -> tuple[str, ...]:
        """Catalogues that a step of the job reads, in the order in which it needs them."""
        named = [self.match.primary, *(step.catalog for step in self.match.chain), self.stamps.detections]
        named += [self.stamps.images] if self.stamps.images else []
        named += [self.labels.match.catalog] if self.pretrained is None else []
        named += [external.match.catalog for external in self.evaluation.external]
        return tuple(dict.fromkeys(named))

    @property
    def columns(self) -> Mapping[str, str]:
        """Column of the value-added catalogue: column of the selected table."""
        return self.output.columns

    @property
    def units(self) -> Mapping[str, str]:
        """Unit of each parameter."""
        return {name: label.unit for name, label in self.labels.labels.items()}

    @property
    def errors_by(self) -> tuple[str | None, str]:
        """The magnitude that the errors are calibrated by, if the catalogue has it."""
        source = self.errors.magnitude or self.magnitude
        name = self.column_of(source) if source else None
        return name, (source or "") if name else ""

    @property
    def primary(self) -> str:
        """The first catalogue of the match."""
        return self.match.primary

    @model_validator(mode="after")
    def _labels_known(self) -> AcfJob:
        strange = sorted(set(self.limits) - set(self.labels.labels))
        if strange and "limits" in self.model_fields_set:
            raise ValueError(f"`limits` names parameters that are not learned: {', '.join(strange)}")
        for label, (low, high) in self.limits.items():
            if low is not None and high is not None and low >= high:
                raise ValueError(f"`limits` of {label}: {low:g} is not below {high:g}")
        return self
