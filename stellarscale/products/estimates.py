"""Rows of the value-added catalogue beside reference values, as the report wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.reader import StoredCatalog
from stellarscale.config import Job
from stellarscale.flags import COLUMN, Flag
from stellarscale.partition.features import floats
from stellarscale.products.scan import thinned
from stellarscale.report.content import Evaluation
from stellarscale.schema import load_survey

MOST_STARS = 1_000_000


def estimate_rows(
    job: Job, stored: StoredCatalog, labels: Sequence[str], others: Sequence[str]
) -> tuple[pa.Table, str]:
    """What a comparison of some parameters reads, of at most a million rows along the sky.

    Parameters
    ----------
    job : Job
    stored : StoredCatalog
        The value-added catalogue, or what was made from it by a match.
    labels, others : sequence of str
        Parameters, and further columns.

    Returns
    -------
    Table, str
        The rows; a note when they are not all rows, else empty.
    """
    names = [*others, *labels, *(f"{label}_{kind}" for label in labels for kind in ("err", "err95")), COLUMN]
    branches = job.evaluation.branches
    names += [name for name in (job.errors_by[0], job.column_of("class_code")) if name]
    names += [branches.column] if branches else []
    there = [name for name in dict.fromkeys(names) if name in stored.schema.names]
    stars, step = thinned(stored, there, MOST_STARS)
    return stars, f"Of {stored.num_rows:,} rows every {step}th is compared." if step > 1 else ""


def class_names(job: Job) -> dict[int, str]:
    """Names of the codes of :func:`class_codes`."""
    if job.column_of("class_code"):
        return {rule.code: rule.name.replace("_", " ") for rule in job.class_rules}
    branches = job.evaluation.branches
    return {0: branches.below, 1: branches.above} if branches else {}


def class_codes(job: Job, stars: pa.Table) -> NDArray[np.float64] | None:
    """Class of each row: the catalogue's, or the side of ``evaluation.branches`` it lies on; NaN for unknown."""
    classes, branches = job.column_of("class_code"), job.evaluation.branches
    if classes or branches is None:
        return _optional(stars, classes)
    value = _optional(stars, branches.column)
    if value is None:
        return None
    return np.where(np.isfinite(value), (value >= branches.limit).astype(np.float64), np.nan)


def evaluation_of(
    job: Job, stars: pa.Table, label: str, reference: NDArray[np.float64], *, against: str, kind: str, note: str
) -> Evaluation:
    """A parameter of the catalogue beside reference values of the same rows."""
    magnitude, magnitude_name = job.errors_by
    return Evaluation(
        model=f"{label} catalogue",
        label=label,
        unit=job.units[label],
        against=against,
        kind=kind,
        note=note,
        predicted=floats(stars, label),
        truth=reference,
        error=_optional(stars, f"{label}_err"),
        error95=_optional(stars, f"{label}_err95"),
        magnitude=_optional(stars, magnitude),
        magnitude_name=magnitude_title(job, magnitude_name),
        code=class_codes(job, stars),
        novel=_novel(stars),
    )


def magnitude_title(job: Job, source: str) -> str:
    """What a report calls a column: the survey's alias in front of the primary catalogue's, ``smss_g_mag``.

    Gaia's G and SkyMapper's g are both ``g_mag`` where their catalogue is the first of the match.
    """
    survey = job.catalogs[job.primary].survey
    schema = load_survey(survey) if survey is not None else None
    return f"{schema.alias}_{source}" if schema is not None and source in schema.columns else source


def of_group(evaluation: Evaluation, chosen: NDArray[np.bool_], group: str) -> Evaluation:
    """The part of an evaluation that some stars make; they need no class codes any more."""

    def part(values: NDArray | None) -> NDArray | None:
        return None if values is None else values[chosen]

    return replace(
        evaluation,
        model=f"{evaluation.label} {group}".strip(),
        group=group,
        predicted=evaluation.predicted[chosen],
        truth=evaluation.truth[chosen],
        error=part(evaluation.error),
        error95=part(evaluation.error95),
        magnitude=part(evaluation.magnitude),
        novel=part(evaluation.novel),
        code=None,
    )


def _novel(stars: pa.Table) -> NDArray[np.bool_] | None:
    if COLUMN not in stars.column_names:
        return None
    return (stars[COLUMN].fill_null(0).to_numpy() & int(Flag.EXTRAPOLATED)) != 0


def _optional(table: pa.Table, name: str | None) -> NDArray[np.float64] | None:
    return floats(table, name) if name is not None and name in table.column_names else None
