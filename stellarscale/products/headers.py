"""What the first file of each catalogue can give, looked up before any work: an import takes long to say so."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from stellarscale.config import Job, MatchChain
from stellarscale.errors import SchemaError
from stellarscale.schema import SurveySchema, load_survey
from stellarscale.surveys.plan import chosen_columns
from stellarscale.surveys.read import inspect, open_source

_TOLD = 40  # native names that an error lists


def check_headers(
    job: Job,
    files: Mapping[str, Sequence[Path]],
    match: MatchChain | None = None,
    named: Mapping[str, str] | None = None,
) -> None:
    """Look into the header of the first file of every catalogue of tables that a job imports.

    Parameters
    ----------
    job : Job
    files : mapping of str to sequence of Path
        Files of each catalogue, from :func:`stellarscale.products.inputs.checked_inputs`.
    match : MatchChain, optional
        Says which columns of the matched table come from which catalogue.
    named : mapping of str to str, optional
        Columns of the matched table that the job needs, and the setting that names each.

    Raises
    ------
    SchemaError
        If a file lacks a column that its survey requires, or one that the job needs.
    ConfigError
        If a column to import is not in the file.
    InputError
        If a file is empty, damaged or no table.
    """
    prefixes = {} if match is None else _prefixes(job, match)
    for name in job.used_catalogs:
        entry = job.catalogs[name]
        schema = None if entry.survey is None else load_survey(entry.survey)
        if schema is None or schema.spectrum is not None:
            continue
        first = files[name][0]
        given = chosen_columns(schema, inspect(first, schema), entry.columns)
        if name in prefixes:
            absent = {prefixes[name] + column: column for column in _declared(schema) if column not in given}
            needed = {absent[column]: setting for column, setting in (named or {}).items() if column in absent}
            if needed:
                raise _lacking(name, schema, first, needed)


def _prefixes(job: Job, match: MatchChain) -> dict[str, str]:
    """What the columns of each matched catalogue have in front, where the job itself says so."""
    found = {match.primary: ""}
    for step in match.chain:
        survey = job.catalogs[step.catalog].survey
        if step.prefix is not None or survey is not None:
            found[step.catalog] = step.prefix if step.prefix is not None else f"{load_survey(survey or '').alias}_"
    return found


def _declared(schema: SurveySchema) -> list[str]:
    return [name for name, column in schema.columns.items() if column.keep]


def _lacking(name: str, schema: SurveySchema, file: Path, needed: Mapping[str, str]) -> SchemaError:
    """The error of columns that the job needs and the file does not have, or that are not to be imported."""
    native = [column.name for column in open_source(file, schema).columns]
    lowered = {each.lower(): each for each in native}
    strange = set(lowered) - {each.lower() for column in schema.columns.values() for each in column.native}
    told, causes = [], []
    for column, setting in needed.items():
        accepted = schema.columns[column].native
        told.append(f"{column} (one of: {', '.join(accepted) or 'none'}), which {setting} names")
        there = [each for each in accepted if each.lower() in lowered]
        near = [close for each in accepted for close in difflib.get_close_matches(each.lower(), strange, n=1)]
        if there:
            causes.append(f"{column} is not among catalogs.{name}.columns")
        elif near:
            causes.append(f"{lowered[near[0]]!r} is near {accepted[0]!r}")
    return SchemaError(
        "the job needs columns that a catalogue will not have",
        where=f"catalogs.{name}, {file}",
        seen=", ".join(native[:_TOLD]) + (f" and {len(native) - _TOLD} more" if len(native) > _TOLD else ""),
        needed="; ".join(told),
        cause="; ".join(dict.fromkeys(causes)) or f"another table than {schema.title}, or a renamed column",
    )
