"""The job of the product ``sages``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from stellarscale.settings.features import ClassRule, FeatureConfig
from stellarscale.settings.job import Job, MatchChain, Output
from stellarscale.settings.training import Training


class SagesOutput(Output):
    """The value-added catalogue of photometric parameters."""

    colour_limit: tuple[str, float] | None = Field(
        None, description="feature and value beyond which parameters are blanked (paper I: bp_rp_0, 1.598)"
    )


class SagesJob(Job):
    """A whole run of the product ``sages``."""

    product: Literal["sages"] = Field(description="what to make")
    match: MatchChain
    features: FeatureConfig = FeatureConfig()
    training: Training
    output: SagesOutput

    @property
    def used_catalogs(self) -> tuple[str, ...]:
        """Catalogues that a step of the job reads, in the order in which it needs them."""
        named = [self.match.primary, *(step.catalog for step in self.match.chain)]
        if self.training.pretrained is None:
            named += [self.training.match.catalog] if self.training.match else []
            named += [source.match.catalog for source in self.training.sources]
        named += [external.match.catalog for external in self.evaluation.external]
        return tuple(dict.fromkeys(named))

    @property
    def columns(self) -> Mapping[str, str]:
        """Column of the value-added catalogue: column of the matched table, or feature."""
        return self.output.columns

    @property
    def units(self) -> Mapping[str, str]:
        """Unit of each parameter that a model gives."""
        return {spec.label: self.training.labels[spec.label].unit for spec in self.training.models}

    @property
    def class_rules(self) -> tuple[ClassRule, ...]:
        """The classes of the features."""
        return self.features.classes.rules if self.features.classes else ()

    @property
    def errors_by(self) -> tuple[str | None, str]:
        """The feature that the errors are calibrated by if the catalogue has it, else the magnitude it comes from."""
        feature = self.training.errors.magnitude
        band = self.features.bands.get((feature or "").removesuffix("_0")) or self.features.bands.get("g")
        for source in (feature, band.mag if band else None):
            name = self.column_of(source) if source else None
            if source and name:
                return name, source
        return None, ""

    @property
    def primary(self) -> str:
        """The first catalogue of the match."""
        return self.match.primary

    @model_validator(mode="after")
    def _classes_exist(self) -> SagesJob:
        known = {rule.name for rule in self.class_rules}
        strange = sorted({name for model in self.training.models for name in model.classes} - known)
        if strange:
            raise ValueError(f"classes of models that features.classes does not define: {', '.join(strange)}")
        return self
