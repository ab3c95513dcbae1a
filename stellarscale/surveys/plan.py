"""What to do with one file, decided once from its header: the columns to read, derive, test and write."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from stellarscale.errors import ConfigError, SchemaError
from stellarscale.flags import COLUMN
from stellarscale.schema import (
    DTYPES,
    Column,
    Derivation,
    QualityRule,
    SurveySchema,
    arrow_field,
    field_metadata,
)
from stellarscale.surveys.mapping import Mapping
from stellarscale.surveys.native import Found
from stellarscale.surveys.units import conversion_factor


@dataclass(frozen=True)
class Step:
    """How one canonical column is made: from a native one (times ``factor``), a derivation, or both."""

    name: str
    column: Column
    native: str | None
    factor: float
    derivation: Derivation | None


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which they can run, and what leaves the house."""

    schema: SurveySchema
    steps: tuple[Step, ...]
    rules: tuple[QualityRule, ...]
    output: pa.Schema
    spread: bool

    def native_types(self) -> dict[str, pa.DataType]:
        """Type to parse each native text column to; where two columns disagree it is text."""
        types: dict[str, pa.DataType] = {}
        for step in self.steps:
            if step.native is None:
                continue
            dtype = DTYPES[step.column.dtype]
            if dtype in (pa.int16(), pa.int32()):
                dtype = pa.float64()  # exact for them, and `5.0`, which some files hold, is then a 5
            if types.setdefault(step.native, dtype) != dtype:
                types[step.native] = pa.string()
        return types


def column_names(schema: SurveySchema, mapping: Mapping) -> tuple[str, ...]:
    """Canonical columns that a file with this mapping can give, in the schema's order."""
    names = [name for name, column in schema.columns.items() if column.keep and mapping.gives(name)]
    if schema.position.placeholder:
        names += [name for name in (schema.position.ra, schema.position.dec) if name not in names]
    return tuple(names)


def chosen_columns(schema: SurveySchema, available: Sequence[str], chosen: Sequence[str]) -> tuple[str, ...]:
    """Of the canonical columns that the files can give, those to import; all of them when none is chosen.

    What the sky needs comes along unasked: id, position, motion and epoch, and what the schema requires.

    Raises
    ------
    ConfigError
        If a chosen column is not one that the schema declares and keeps (the nearest name is told), or one that
        the files cannot give.
    """
    if not chosen:
        return tuple(available)
    check_names(schema, chosen)
    absent = [name for name in chosen if name not in {*available, COLUMN}]
    if absent:
        raise ConfigError(
            f"columns chosen of survey {schema.name} are not in its files",
            where="columns to import",
            seen=", ".join(absent),
            needed=f"some of: {', '.join(available)}",
        )
    always = {schema.id, schema.position.ra, schema.position.dec, schema.epoch.column}
    always |= {schema.motion.pmra, schema.motion.pmdec} if schema.motion else set()
    always |= {name for name, column in schema.columns.items() if column.required}
    return tuple(name for name in available if name in always or name in chosen)


def check_names(schema: SurveySchema, chosen: Sequence[str]) -> None:
    """Raise :class:`ConfigError` if a column to import is not one that the schema declares and keeps."""
    kept = [name for name, column in schema.columns.items() if column.keep]
    for name in chosen:
        if name not in {*kept, schema.position.ra, schema.position.dec, COLUMN}:
            raise _no_such_column(name, schema, kept)


def _no_such_column(name: str, schema: SurveySchema, kept: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(name, kept, n=1, cutoff=0.5)
    causes = [f"did you mean {near[0]!r}?"] if near else []
    if name in schema.columns:
        causes.insert(0, "it is read for other columns and flags only, and never stored")
    return ConfigError(
        f"survey {schema.name} has no such column to import",
        where="columns to import",
        seen=repr(name),
        needed=f"some of: {', '.join(kept)}",
        cause="; ".join(causes) or None,
    )


def canonical_schema(schema: SurveySchema, columns: Sequence[str]) -> pa.Schema:
    """Arrow schema of the canonical batches: id and position, the columns asked for, ``quality_flags``.

    Columns come in the schema's order, whatever the order asked for, with unit, UCD and description.

    Raises
    ------
    SchemaError
        If a column is not one that the schema declares and keeps.
    """
    position = (schema.position.ra, schema.position.dec)
    known = [name for name, column in schema.columns.items() if column.keep]
    unknown = sorted(set(columns) - set(known) - set(position) - {COLUMN})
    if unknown:
        raise SchemaError(
            f"survey {schema.name} has no such column",
            seen=", ".join(unknown),
            needed=f"some of: {', '.join(known)}",
        )
    wanted = {*columns, schema.id, *position} - {COLUMN}
    order = [name for name in [*schema.columns, *(p for p in position if p not in schema.columns)] if name in wanted]
    fields = [_field(schema, name) for name in order]
    description = "sum of the bits of the quality flag table"
    return pa.schema(
        [*fields, pa.field(COLUMN, pa.int32(), metadata=field_metadata("", "meta.code.qual", description))]
    )


def make_plan(source: Found, schema: SurveySchema, mapping: Mapping, columns: Sequence[str]) -> Plan:
    """Plan the reading of one file; columns that it cannot give will be null.

    Raises
    ------
    SchemaError
        If a column is unknown, or a unit cannot be converted.
    """
    output = canonical_schema(schema, columns)
    position = (schema.position.ra, schema.position.dec)
    spread = schema.position.placeholder and not all(mapping.gives(name) for name in position)
    wanted = [name for name in output.names if name != COLUMN and not (spread and name in position)]
    rules = tuple(rule for rule in schema.quality if all(mapping.gives(condition.column) for condition in rule.when))
    steps: dict[str, Step] = {}
    for name in [*wanted, *(condition.column for rule in rules for condition in rule.when)]:
        _add_step(name, source, schema, mapping, steps)
    if all(step.native is None for step in steps.values()):
        raise SchemaError(
            f"the file has none of the columns asked of survey {schema.name}",
            where=source.path,
            seen=", ".join(column.name for column in source.columns),
        )
    return Plan(schema, tuple(steps.values()), rules, output, spread)


def _add_step(name: str, source: Found, schema: SurveySchema, mapping: Mapping, steps: dict[str, Step]) -> None:
    if name in steps:
        return
    column, derivation, native = schema.columns[name], mapping.derived.get(name), mapping.native.get(name)
    for item in derivation.inputs if derivation else ():
        if item != name and mapping.gives(item):
            _add_step(item, source, schema, mapping, steps)
    factor = 1.0
    if native is not None and column.dtype.startswith("float"):
        where = f"{source.path}, column {native.name}"
        factor = conversion_factor(native.unit, column.unit, where=where)
    steps[name] = Step(name, column, native.name if native else None, factor, derivation)


def _field(schema: SurveySchema, name: str) -> pa.Field:
    if name in schema.columns:
        return arrow_field(name, schema.columns[name])
    ucd = "pos.eq.ra" if name == schema.position.ra else "pos.eq.dec"
    return pa.field(name, pa.float64(), metadata=field_metadata("deg", ucd, "placeholder: means nothing on the sky"))
