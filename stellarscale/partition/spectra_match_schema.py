"""Columns that the matching of spectra reads and makes."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from stellarscale.errors import SchemaError
from stellarscale.flags import COLUMN
from stellarscale.schema import ProductSchema, arrow_field
from stellarscale.settings.spectra_matching import SpectraMatching
from stellarscale.spectra_columns import FLUX, IVAR

SKY_COLUMN = "_healpix_29"
_LISTS = ("reference_ids", "reference_weights")


@dataclass(frozen=True)
class SpectraMatchConfig:
    """How spectra are matched, and what the columns of the catalogue mean."""

    matching: SpectraMatching
    product: ProductSchema

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the matching makes, in the order of the catalogue."""
        settings = self.matching
        labels = [name for label in settings.labels for name in (label, f"{label}_spread")]
        velocity = ["rv", "rv_err"] if settings.rv is not None else []
        shift = ["rv_shift", "rv_shift_err"] if settings.refine_rv is not None else []
        return (*labels, *velocity, *shift, "chi2", "chi2_reduced", "n_pix", *_LISTS)


def needed_columns(schema: pa.Schema, config: SpectraMatching) -> list[str]:
    """Columns that :func:`match_partition` looks at; those that a table may lack only where it has them.

    Raises
    ------
    SchemaError
        If one that it must have is not there.
    """
    wanted = [FLUX, IVAR, *config.columns.values()]
    wanted += [name for name in (config.snr, config.rv, config.rv_err) if name is not None]
    missing = sorted(set(wanted) - set(schema.names))
    if missing:
        raise SchemaError(
            "columns that the matching needs are missing",
            seen=", ".join(schema.names),
            needed=", ".join(missing),
            cause="the matching's `columns`, `snr`, `rv` or `rv_err` name columns of another catalogue",
        )
    optional = [name for name in (SKY_COLUMN, COLUMN) if name in schema.names]
    return list(dict.fromkeys([*optional, *wanted]))


def output_schema(table_schema: pa.Schema, config: SpectraMatchConfig) -> pa.Schema:
    """Schema of the catalogue for a table of spectra.

    Raises
    ------
    SchemaError
        If a needed column is missing, a kept one has the name of a made one, or the product schema lacks one of these.
    """
    needed_columns(table_schema, config.matching)
    made = (*config.columns, COLUMN)
    taken = sorted(set(config.matching.columns) & set(made))
    if taken:
        raise SchemaError("output columns have the names of those that the matching makes", seen=", ".join(taken))
    unknown = sorted(set(made) - set(config.product.columns))
    if unknown:
        raise SchemaError(
            "the product schema does not describe a column of the matching",
            seen=", ".join(unknown),
            needed=f"in schemas/product_{config.product.name}.yaml, with unit, UCD and description",
        )
    fields = [table_schema.field(SKY_COLUMN)] if SKY_COLUMN in table_schema.names else []
    fields += [table_schema.field(source).with_name(name) for name, source in config.matching.columns.items()]
    return pa.schema([*fields, *(_made_field(name, config) for name in made)])


def _made_field(name: str, config: SpectraMatchConfig) -> pa.Field:
    field = arrow_field(name, config.product.columns[name])
    if name not in _LISTS:
        return field
    return field.with_type(pa.list_(pa.field("element", field.type), config.matching.k))
