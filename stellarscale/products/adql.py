"""A job's cuts as ADQL: the queries that give its tables from a survey's TAP service (paper III, section 6)."""

from __future__ import annotations

from collections.abc import Sequence

from stellarscale.config import Job
from stellarscale.errors import ConfigError
from stellarscale.schema import SurveySchema, load_survey
from stellarscale.settings.acf import AcfJob
from stellarscale.settings.cuts import Cut, Selection

_SIGNS = {"equals": "=", "min": ">=", "max": "<=", "below": "<", "above": ">"}
_SERVICE = "SkyMapper's TAP service, https://api.skymapper.nci.org.au/public/tap/"
_TABLES = {
    "skymapper_dr4": "dr4.master",
    "skymapper_dr4_photometry": "dr4.photometry",
    "skymapper_dr4_images": "dr4.images",
}


def selection_query(selection: Selection, *, schema: SurveySchema, table: str = "dr4.master") -> str:
    """The query of the stars of a survey's table that a selection can take.

    Parameters
    ----------
    selection : Selection
        Cuts that read other catalogues too, and those that the stars may fail, are told in comments only.
    schema : SurveySchema
        Gives the native name of each column: the first one that the schema accepts.
    table : str
        Name of the table at the service.

    Returns
    -------
    str
        ADQL 2.0. It takes the rows that pass the told cuts and no others; the job's own selection goes on from there.
    """
    conditions, notes = _conditions(_strict(selection), schema)
    if selection.quality != "high":
        notes += [f"may fail: {name}" for name in selection.relaxed]
    return _query(["SELECT *", f"FROM {table}"], conditions, notes)


def detections_query(
    selection: Selection,
    use: Sequence[Cut],
    *,
    schemas: tuple[SurveySchema, SurveySchema],
    tables: tuple[str, str] = ("dr4.master", "dr4.photometry"),
) -> str:
    """The query of the detections of those stars; ``schemas`` and ``tables`` are the stars' and the detections'."""
    stars, detections = schemas
    conditions, notes = _conditions(_strict(selection), stars, "m.")
    further, more = _conditions(use, detections, "p.")
    names = [f"p.{column.native[0]}" for column in detections.columns.values() if column.native]
    key, their_key = stars.columns[stars.id].native[0], detections.columns[stars.id].native[0]
    head = [
        f"SELECT {', '.join(names)}",
        f"FROM {tables[1]} AS p JOIN {tables[0]} AS m ON p.{their_key} = m.{key}",
    ]
    return _query(head, conditions + further, notes + more)


def job_queries(job: Job) -> str:
    """The queries of a job: stars, detections and, where the job uses them, exposures; and where to submit them.

    Raises
    ------
    ConfigError
        If the job is of another product, or a catalogue of a survey whose TAP tables are not known.
    """
    job = acf_job(job)
    (stars, star_table), (found, found_table) = _survey(job, job.match.primary), _survey(job, job.stamps.detections)
    tables = (star_table, found_table)
    parts = f"too many rows for one answer? ask for ranges of m.{stars.columns[stars.position.ra].native[0]}"
    queries = {
        f"{job.match.primary}: the stars": selection_query(job.selection, schema=stars, table=star_table),
        f"{job.stamps.detections}: their detections; {parts}": detections_query(
            job.selection, job.stamps.use, schemas=(stars, found), tables=tables
        ),
    }
    if job.stamps.images:
        queries[f"{job.stamps.images}: all exposures"] = f"SELECT *\nFROM {_survey(job, job.stamps.images)[1]}"
    told = "\n\n".join(f"-- {title}\n{query}" for title, query in queries.items())
    return f"-- submit each query to {_SERVICE}, e.g. with TOPCAT or pyvo\n{told}"


def acf_job(job: Job) -> AcfJob:
    """The job; :class:`ConfigError` if it is of another product."""
    if not isinstance(job, AcfJob):
        raise ConfigError("the job makes no stamps", where=job.name, seen=f"product {job.product}", needed="acf")
    return job


def _strict(selection: Selection) -> list[Cut]:
    """Cuts that every selected star passes."""
    free = () if selection.quality == "high" else selection.relaxed
    return [cut for cut in selection.cuts if cut.name not in free]


def _conditions(cuts: Sequence[Cut], schema: SurveySchema, prefix: str = "") -> tuple[list[str], list[str]]:
    """Conditions of the cuts, a line for each; notes on those that read more than this table."""
    native = {name: prefix + column.native[0] for name, column in schema.columns.items() if column.native}
    lines, notes = [], []
    for cut in cuts:
        needed = {*cut.columns, *([cut.over] if cut.over else [])}
        if needed <= set(native):
            over = native[cut.over] if cut.over else None
            lines.append(" AND ".join(_condition(cut, native[column], over) for column in cut.columns))
        else:
            notes.append(f"left to the job, it needs other tables: {cut.name}")
    return lines, notes


def _condition(cut: Cut, column: str, over: str | None) -> str:
    value = f"ABS({column})" if cut.absolute else column
    # A ratio is asked for as a product: the order in which a service evaluates conditions is not ours.
    ends = {test: f"{limit:.15g}" + (f" * {over}" if over else "") for test, limit in cut.tests.items()}
    told = " AND ".join(f"{value} {_SIGNS[test]} {end}" for test, end in ends.items())
    if over:
        told = f"{over} > 0 AND {told}"
    if cut.null == "fail":
        return told
    if over is None:
        whole = f"({told})" if len(cut.tests) > 1 else told
        return f"({whole} OR {column} IS NULL)"
    return f"(({told}) OR {over} IS NULL OR ({column} IS NULL AND {over} > 0))"


def _query(head: list[str], conditions: list[str], notes: list[str]) -> str:
    words = ["WHERE", *["AND"] * (len(conditions) - 1)]
    where = [f"{word} {condition}" for word, condition in zip(words, conditions, strict=False)]
    return "\n".join([*(f"-- {note}" for note in notes), *head, *where])


def _survey(job: AcfJob, name: str) -> tuple[SurveySchema, str]:
    survey = job.catalogs[name].survey
    if survey is None or survey not in _TABLES:
        raise ConfigError(
            "no TAP table is known for a catalogue of the job",
            where=f"catalogs.{name}",
            seen=survey or "a catalogue by its path",
            needed=f"a survey of: {', '.join(_TABLES)}",
        )
    return load_survey(survey), _TABLES[survey]
