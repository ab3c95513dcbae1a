"""What the steps that make features share: where dust maps are, what an empty feature table looks like, sky columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import StoredCatalog
from stellarscale.config import FeatureConfig, SagesJob, digest_of
from stellarscale.errors import InputError
from stellarscale.partition.features import add_features
from stellarscale.products.steps import inherited
from stellarscale.surveys.dust import dust_files

SKY_ROLES = ("id", "pmra", "pmdec", "epoch_column")


def located(features: FeatureConfig) -> FeatureConfig:
    """The same features with the dust maps named by an absolute path, for workers that run elsewhere."""
    if features.ebv is None or features.ebv.sfd98 is None:
        return features
    maps = str(Path(features.ebv.sfd98).absolute())
    return features.model_copy(update={"ebv": features.ebv.model_copy(update={"sfd98": maps})})


def feature_inputs(features: FeatureConfig) -> tuple[Path, ...]:
    """Files that the features are made of, besides the catalogue: the dust maps, where the job names some."""
    maps = located(features).ebv
    return dust_files(maps.sfd98) if maps and maps.sfd98 else ()


def features_digest(features: FeatureConfig) -> str:
    """Digest of what the features mean: extinction, colours, absolute magnitudes and classes, not names of columns."""
    bands = {name: band.extinction for name, band in features.bands.items()}
    kept = features.model_dump(mode="json", include={"colours", "absolute", "classes"})
    return digest_of({"extinction": bands, **kept})


def no_features(job: SagesJob, stored: StoredCatalog) -> pa.Table:
    """The feature table of no rows: what columns there will be, asked for before any work.

    Raises
    ------
    SchemaError
        If the catalogue lacks a column that the features need.
    """
    ebv = np.empty(0) if job.features.ebv and job.features.ebv.sfd98 else None
    return add_features(stored.schema.empty_table(), job.features, ebv)


def only_position(properties: CatalogProperties) -> CatalogProperties:
    """Properties of a table that keeps no other sky column than the position."""
    roles = {f"stellarscale_{role}" for role in SKY_ROLES}
    return replace(properties, extra={key: value for key, value in properties.extra.items() if key not in roles})


def output_properties(
    properties: CatalogProperties, name: str, columns: Mapping[str, str], **extra: str
) -> CatalogProperties:
    """Properties of a value-added catalogue: sky columns under the names of the output, and ``extra`` about it.

    Parameters
    ----------
    properties : CatalogProperties
        Of the catalogue that it is made from.
    name : str
        Of the new one.
    columns : mapping of str to str
        Column of the output: column of the source.

    Raises
    ------
    InputError
        If the output leaves out the position.
    """
    renamed = {source: name for name, source in columns.items()}
    missing = [column for column in (properties.ra, properties.dec) if column not in renamed]
    if missing:
        raise InputError("the output leaves out the position", where="output.columns", needed=", ".join(missing))
    result = inherited(properties, name, **extra)
    roles = {f"stellarscale_{role}": properties.extra.get(f"stellarscale_{role}") for role in SKY_ROLES}
    kept = only_position(result).extra | {role: renamed[source] for role, source in roles.items() if source in renamed}
    return replace(result, ra=renamed[properties.ra], dec=renamed[properties.dec], extra=kept)
