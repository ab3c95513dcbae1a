"""The selection of stars as a step: from the matched catalogue to the stars that get stamps."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.subset import parse_subset
from stellarscale.engine.select_tasks import SelectTask, select_pixel
from stellarscale.errors import ConfigError, InputError
from stellarscale.partition.select import selected_schema
from stellarscale.products.inputs import run_directory
from stellarscale.products.matching import match_catalogs
from stellarscale.products.steps import Mapped, Session, Summary, inherited, map_catalog
from stellarscale.settings.acf import AcfJob
from stellarscale.settings.cuts import Selection

log = logging.getLogger(__name__)


def select_stars(
    on: Session,
    job: AcfJob,
    matched: Path,
    out: Path,
    steps: list[Summary],
    *,
    labels: bool = False,
    subset: str | None = None,
) -> Path:
    """Keep the stars of a matched catalogue that the job selects (paper III, sections 2.2, 5.4 and 6).

    Parameters
    ----------
    on : Session
    job : AcfJob
    matched, out : Path
        Catalogue to read, and the one to make.
    steps : list of dict
        Gets the step's summary: ``rows_in``, ``written``, ``rejected`` by reason, ``seconds`` and more.
    labels : bool
        Whether the stars are those with labels: then the cuts of the labels count too, and no star is left out for
        the strata.
    subset : str, optional
        Part of the sky, as ``--subset``.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    SchemaError
        If a column of a cut or stratum is missing.
    ConfigError
        If a cut of the labels has the name of one of the selection, or edges of strata do not ascend.
    """
    selection = labelled_selection(job) if labels else job.selection
    seed = job.seed if selection.strata is not None else 0  # without a draw another seed changes nothing
    stored = open_stored(matched)
    mapped = Mapped(
        step="select",
        source=matched,
        out=out,
        schema=selected_schema(stored.schema, selection),
        properties=inherited(stored.properties, out.name),
        settings={**selection.model_dump(mode="json"), "seed": seed},
    )
    part = parse_subset(subset) if subset is not None else None
    task = SelectTask(matched, out, selection, seed, part)
    done = map_catalog(on, partial(select_pixel, task), mapped, subset=subset)
    name = "select stars with labels" if labels else "select stars"
    lost = done["rejected"]
    if done["written"]:
        told = ", ".join(f"{reason} {lost[reason]:,}" for reason in sorted(lost, key=lost.__getitem__, reverse=True))
        counts = f"{done['written']:,} of {done['rows_in']:,} stars"
        log.info("%s: %s; left out by cuts (each star by its first): %s", name, counts, told or "none")
    else:
        log.warning("%s: none of %s stars is left (%s)", name, f"{done['rows_in']:,}", lost or "none there")
    steps.append({**done, "name": name})
    return out


def labelled_stars(on: Session, job: AcfJob, catalogs: Mapping[str, Path], matched: Path, steps: list[Summary]) -> Path:
    """The stars that the job learns from: those of the matched catalogue with a label that pass all cuts.

    Parameters
    ----------
    on : Session
    job : AcfJob
    catalogs : mapping of str to Path
        Catalogues by name.
    matched : Path
        The matched catalogue.
    steps : list of dict
        Gets the summaries of the match and of the selection.

    Returns
    -------
    Path
        ``<run>/catalogs/labelled``.

    Raises
    ------
    InputError
        If no star has a partner among the labels.
    """
    name, folder = job.labels.match.catalog, run_directory(job) / "catalogs"
    joined = folder / f"labelled_{name}"
    done = match_catalogs(on, matched, catalogs[name], joined, step=job.labels.match)
    steps.append({**done, "name": f"labels from {name}"})
    if not done["matched"]:
        raise InputError(
            "no star has a partner in the label catalogue",
            where=f"catalogs.{name} ({catalogs[name]})",
            seen=f"{done['rows_in']:,} stars, {open_stored(catalogs[name]).num_rows:,} labels, no pair",
            needed=f"stars in common within {job.labels.match.radius_arcsec} arcsec",
            cause="the two cover different parts of the sky, or the positions are of another epoch or unit",
        )
    return select_stars(on, job, joined, folder / "labelled", steps, labels=True)


def labelled_selection(job: AcfJob) -> Selection:
    """What a star with labels must pass: the job's selection and the cuts of the labels, without strata.

    Raises
    ------
    ConfigError
        If two cuts have one name.
    """
    known = {cut.name for cut in job.selection.cuts}
    twice = [cut.name for cut in job.labels.cuts if cut.name in known]
    if twice:
        raise ConfigError(
            "a cut of the labels has the name of a cut of the selection", where="labels.cuts", seen=", ".join(twice)
        )
    return job.selection.model_copy(update={"cuts": (*job.selection.cuts, *job.labels.cuts), "strata": None})
