"""Compare the value-added catalogue with another catalogue of the same parameters (paper I, Figs 9 and 10)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.config import External, Job
from stellarscale.errors import InputError
from stellarscale.partition.features import floats
from stellarscale.products.estimates import class_codes, class_names, estimate_rows, evaluation_of, of_group
from stellarscale.products.matching import match_catalogs
from stellarscale.products.steps import Session, Summary
from stellarscale.report.content import Evaluation

FEWEST = 20


def external_path(job: Job, external: External) -> Path:
    """Where the catalogue matched with an external one is; in the run, because it holds the run's parameters."""
    return Path(job.out).absolute() / "catalogs" / f"external_{external.name}"


def match_externals(on: Session, job: Job, *, catalog: Path, others: Mapping[str, Path], steps: list[Summary]) -> None:
    """Match the value-added catalogue with every external one of the job.

    Parameters
    ----------
    on : Session
    job : Job
    catalog : Path
        The value-added catalogue.
    others : mapping of str to Path
        Catalogues of the job by name.
    steps : list of dict
        Gets the summary of each match.

    Raises
    ------
    InputError
        If a matched catalogue lacks a column that is to be compared, or as :func:`check_externals`.
    StellarscaleError
        As :func:`stellarscale.products.matching.match_catalogs`.
    """
    check_externals(job)
    for external in job.evaluation.external:
        out = external_path(job, external)
        done = match_catalogs(on, catalog, others[external.match.catalog], out, step=external.match)
        steps.append({**done, "name": f"compare with {external.name}"})
        _check_columns(external, open_stored(out))


def check_externals(job: Job) -> None:
    """Refuse comparisons of parameters, or offsets of classes, that the catalogue will not have, before any work.

    Raises
    ------
    InputError
        Naming the parameters or classes there are.
    """
    classes, labels = set(class_names(job).values()), set(job.units)
    branches = job.evaluation.branches
    if branches is not None:
        _check_known("evaluation.branches", {branches.column}, labels | set(job.columns))
    for external in job.evaluation.external:
        where = f"evaluation.external {external.name}"
        by_class = [offset for offset in external.offsets.values() if isinstance(offset, dict)]
        _check_known(where, set(external.labels), labels)
        _check_known(f"{where}, offsets by class", {name for offset in by_class for name in offset}, classes)


def _check_known(where: str, named: set[str], known: set[str]) -> None:
    unknown = sorted(named - known)
    if unknown:
        raise InputError(
            "the evaluation names what there will not be",
            where=where,
            seen=", ".join(unknown),
            needed=f"one of {', '.join(sorted(known))}" if known else "evaluation.branches, or a column of classes",
        )


def external_evaluations(job: Job, external: External) -> list[Evaluation]:
    """One evaluation per parameter and class of an external catalogue that is matched already, ours beside theirs.

    The job's offsets are added to their values first (paper II, Figs 21 and 22).
    """
    stored = open_stored(external_path(job, external))
    _check_columns(external, stored)
    stars, note = estimate_rows(job, stored, list(external.labels), list(external.labels.values()))
    note = " ".join(text for text in (note, _offsets_told(job, external)) if text)
    found = []
    for label, column in external.labels.items():
        theirs = floats(stars, column) + _offset(job, stars, external.offsets.get(label, 0.0))
        every = evaluation_of(job, stars, label, theirs, against=external.name, kind="external", note=note)
        found += [of_group(every, chosen, group) for group, chosen in _groups(job, every)]
    return found


def _offset(job: Job, stars: pa.Table, offset: float | dict[str, float]) -> NDArray[np.float64]:
    """What is added to each row; 0 for classes without an offset."""
    result = np.zeros(stars.num_rows)
    if not isinstance(offset, dict):
        return result + offset
    codes = class_codes(job, stars)
    for code, name in class_names(job).items() if codes is not None else ():
        result[codes == code] = offset.get(name, 0.0)
    return result


def _offsets_told(job: Job, external: External) -> str:
    """The offsets in words, for the page."""
    told = []
    for label, offset in external.offsets.items():
        by_class = offset if isinstance(offset, dict) else {"": offset}
        told += [f"{label} {value:+g} {job.units[label]} {name}".strip() for name, value in by_class.items()]
    return f"Added to the values of {external.name} first: {', '.join(told)}." if told else ""


def _groups(job: Job, evaluation: Evaluation) -> list[tuple[str, NDArray[np.bool_]]]:
    """Classes with enough complete pairs, and those pairs; all pairs as one group where no class has them."""
    complete = np.isfinite(evaluation.predicted) & np.isfinite(evaluation.truth)
    names = class_names(job) if evaluation.code is not None else {}
    masks = [(name, complete & (evaluation.code == code)) for code, name in names.items()]
    return [(name, mask) for name, mask in masks if np.count_nonzero(mask) >= FEWEST] or [("", complete)]


def _check_columns(external: External, stored: StoredCatalog) -> None:
    missing = sorted({*external.labels, *external.labels.values()} - set(stored.schema.names))
    if missing:
        raise InputError(
            "the match with an external catalogue lacks columns",
            where=f"evaluation.external {external.name}, {stored.root}",
            seen=", ".join(stored.schema.names),
            needed=", ".join(missing),
            cause="the prefix of the match is part of the column's name",
        )
