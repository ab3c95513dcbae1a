"""What two stored catalogues say about how to match them: column roles, prefixes, epoch, margin."""

from __future__ import annotations

import numpy as np

from stellarscale.catalog.reader import StoredCatalog, extremes, read_columns
from stellarscale.config import MatchStep
from stellarscale.errors import CatalogError, ConfigError
from stellarscale.partition.match import MatchConfig, SkyColumns, margin_arcsec


def match_config(left: StoredCatalog, right: StoredCatalog, step: MatchStep) -> MatchConfig:
    """The partition function's settings: columns by role, prefixes, epoch."""
    prefix = step.prefix if step.prefix is not None else f"{_alias(right)}_"
    chained = "separation_arcsec" in left.schema.names
    config = MatchConfig(
        left=sky_columns(left),
        right=sky_columns(right),
        radius_arcsec=step.radius_arcsec,
        keep=step.keep,
        how=step.how,
        epoch=step.epoch,
        right_prefix=prefix,
        pair_prefix=prefix if chained else "",
    )
    if step.epoch is not None and config.left.pmra is None and config.right.pmra is None:
        raise ConfigError(
            "an epoch was asked for, but neither catalogue carries proper motions",
            where=f"{left.root} and {right.root}",
            seen=step.epoch,
            cause="the schema of the survey names no motion columns, or the wrong catalogue was given",
        )
    return config


def pair_properties(config: MatchConfig) -> dict[str, str]:
    """What a matched catalogue says of itself: with every pair kept, ids may repeat."""
    return {"repeated_ids": "true"} if config.keep == "all" else {}


def sky_columns(catalog: StoredCatalog) -> SkyColumns:
    """Which columns hold id, position, motion and epoch, from the catalogue's own properties.

    Raises
    ------
    CatalogError
        If the positions are placeholders: such a catalogue cannot be matched by position.
    """
    properties = catalog.properties
    extra = {key.removeprefix("stellarscale_"): value for key, value in properties.extra.items()}
    if extra.get("placeholder_positions") == "true":
        raise CatalogError(
            "the catalogue has no positions and cannot be matched",
            where=catalog.root,
            cause="its survey file came without; its ra and dec are placeholders",
        )
    year = extra.get("epoch_yr")
    return SkyColumns(
        id=extra.get("id"),
        ra=properties.ra,
        dec=properties.dec,
        pmra=extra.get("pmra"),
        pmdec=extra.get("pmdec"),
        epoch=extra.get("epoch_column"),
        epoch_yr=float(year) if year else None,
    )


def _alias(catalog: StoredCatalog) -> str:
    return catalog.properties.extra.get("stellarscale_alias") or catalog.properties.name


def match_margin_arcsec(left: StoredCatalog, right: StoredCatalog, config: MatchConfig) -> float:
    """How far outside a left partition its partners may be: radius, largest motion times longest time."""
    return margin_arcsec(
        config,
        _largest_motion(left, config.left),
        _largest_motion(right, config.right),
        _epochs(left, config.left),
        _epochs(right, config.right),
    )


def _largest_motion(catalog: StoredCatalog, sky: SkyColumns) -> float:
    """An upper bound: the largest motions in right ascension and declination need not belong to one star."""
    names = [name for name in (sky.pmra, sky.pmdec) if name is not None]
    largest = [max(abs(value) for value in _extremes(catalog, name) or (0.0,)) for name in names]
    return float(np.linalg.norm(largest))


def _epochs(catalog: StoredCatalog, sky: SkyColumns) -> tuple[float, float] | None:
    """Earliest and latest epoch, the one for rows without an epoch of their own among them."""
    years = list(_extremes(catalog, sky.epoch) or ()) if sky.epoch is not None else []
    years += [sky.epoch_yr] if sky.epoch_yr is not None else []
    return (min(years), max(years)) if years else None


def _extremes(catalog: StoredCatalog, name: str) -> tuple[float, float] | None:
    """From the statistics of the files, or from the values where a file has none; None for no values at all."""
    found = extremes(catalog, name)
    if found is not None:
        return found
    values = read_columns(catalog, [name])[name].drop_null().to_numpy()
    return (float(values.min()), float(values.max())) if len(values) else None
