"""Compare the value-added catalogue with another catalogue of the same parameters (paper I, Figs 9 and 10)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.config import External, Job
from stellarscale.errors import InputError
from stellarscale.partition.features import floats
from stellarscale.products.estimates import estimate_rows, evaluation_of, of_group
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
        If a matched catalogue lacks a column that is to be compared.
    StellarscaleError
        As :func:`stellarscale.products.matching.match_catalogs`.
    """
    for external in job.evaluation.external:
        out = external_path(job, external)
        done = match_catalogs(on, catalog, others[external.match.catalog], out, step=external.match)
        steps.append({**done, "name": f"compare with {external.name}"})
        _check_columns(external, open_stored(out))


def external_evaluations(job: Job, external: External) -> list[Evaluation]:
    """One evaluation per parameter and class of an external catalogue that is matched already, ours beside theirs."""
    stored = open_stored(external_path(job, external))
    _check_columns(external, stored)
    stars, note = estimate_rows(job, stored, list(external.labels), list(external.labels.values()))
    found = []
    for label, column in external.labels.items():
        theirs = floats(stars, column)
        every = evaluation_of(job, stars, label, theirs, against=external.name, kind="external", note=note)
        found += [of_group(every, chosen, group) for group, chosen in _groups(job, every)]
    return found


def _groups(job: Job, evaluation: Evaluation) -> list[tuple[str, NDArray[np.bool_]]]:
    """Classes with enough complete pairs, and those pairs; all pairs as one group where no class has them."""
    complete = np.isfinite(evaluation.predicted) & np.isfinite(evaluation.truth)
    rules = job.class_rules if evaluation.code is not None else ()
    masks = [(rule.name.replace("_", " "), complete & (evaluation.code == rule.code)) for rule in rules]
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
