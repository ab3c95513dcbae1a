"""Which native column gives which canonical one, and what the file cannot give."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from stellarscale.errors import SchemaError
from stellarscale.schema import Derivation, SurveySchema
from stellarscale.surveys.native import Found, NativeColumn

_ANY_INPUT_SUFFICES = {"jd_to_year", "mjd_to_year", "date_to_year"}


@dataclass(frozen=True)
class Mapping:
    """Native column, and derivation, of each canonical column that the file can give."""

    native: dict[str, NativeColumn]
    derived: dict[str, Derivation]

    def gives(self, name: str) -> bool:
        return name in self.native or name in self.derived


def match_columns(source: Found, schema: SurveySchema) -> Mapping:
    """Match a file's columns with a schema.

    Raises
    ------
    SchemaError
        If a required column is missing (the accepted names, the columns found and the nearest name are told),
        or an accepted name fits several columns when case is ignored.
    """
    native = {}
    for name, column in schema.columns.items():
        found = _find(column.native, source.columns, where=f"{source.path}, column {name}")
        if found is not None:
            native[name] = found
    derived = {}
    for name, column in schema.columns.items():
        for derivation in column.derive:
            have = [item in native for item in derivation.inputs]
            if any(have) if derivation.function in _ANY_INPUT_SUFFICES else all(have):
                derived[name] = derivation
                break
    mapping = Mapping(native, derived)
    missing = [name for name, column in schema.columns.items() if column.required and not mapping.gives(name)]
    if missing:
        raise _missing(missing, source, schema)
    return mapping


def _find(accepted: Sequence[str], columns: Sequence[NativeColumn], *, where: str) -> NativeColumn | None:
    for exact in (True, False):
        for name in accepted:
            if exact:
                found = [column for column in columns if column.name == name]
            else:
                found = [column for column in columns if column.name.lower() == name.lower()]
            if len(found) > 1:
                raise SchemaError(
                    "several columns of the file answer to one accepted name",
                    where=where,
                    seen=", ".join(repr(column.name) for column in found),
                    needed=f"one column {name!r}",
                    cause="names that differ in case only; rename one, or name one exactly in the schema",
                )
            if found:
                return found[0]
    return None


def _missing(names: Sequence[str], source: Found, schema: SurveySchema) -> SchemaError:
    have = [column.name for column in source.columns]
    lowered = {name.lower(): name for name in have}
    needs, near = [], []
    for name in names:
        accepted = schema.columns[name].native
        needs.append(f"{name} (one of: {', '.join(accepted)})")
        for item in accepted:
            close = difflib.get_close_matches(item.lower(), lowered, n=1, cutoff=0.6)
            near += [f"{lowered[close[0]]!r} is near {item!r}"] if close else []
    hints = "; ".join(near[:3])
    return SchemaError(
        f"the file lacks {len(names)} column(s) that survey {schema.name} requires",
        where=source.path,
        seen=", ".join(f"{column.name} ({column.dtype})" for column in source.columns),
        needed="; ".join(needs),
        cause=f"another table than {schema.title}" + (f", or a renamed column: {hints}" if hints else ""),
    )
