"""Parameters of M stars from spectra by template matching (paper II), from files to the value-added catalogue."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.spectra_fits import read_spectra_fits
from stellarscale.catalog.subset import parse_subset
from stellarscale.config import digest_of
from stellarscale.engine.spectra_tasks import (
    ErrorsTask,
    ReferenceFile,
    SpectraTask,
    check_spectra,
    errors_pixel,
    match_spectra_pixel,
)
from stellarscale.errors import InputError
from stellarscale.models.network import require_torch
from stellarscale.partition.label_errors import ErrorsConfig, errors_schema
from stellarscale.partition.spectra_match import SpectraMatchConfig
from stellarscale.products.attaching import attach_catalog
from stellarscale.products.empirical_sample import build_sample
from stellarscale.products.external import check_externals, match_externals
from stellarscale.products.headers import check_headers
from stellarscale.products.inputs import checked_inputs, close_run, import_catalogs, open_run, run_directory
from stellarscale.products.leave_one_out import leave_one_out
from stellarscale.products.library import build_library
from stellarscale.products.repeat_errors import calibrate_errors
from stellarscale.products.steps import Mapped, Session, Summary, inherited, map_catalog, session
from stellarscale.products.truth import check_truth
from stellarscale.schema import load_product, load_survey
from stellarscale.settings.laspm import LaspmJob


def run(
    job: LaspmJob, *, cluster: str = "threads", subset: str | None = None, fresh: bool = False, update: bool = False
) -> Summary:
    """Run the whole job; a killed run goes on where it stopped.

    Parameters
    ----------
    job : LaspmJob
    cluster : str
        As ``--cluster``.
    subset : str, optional
        Part of the spectra that get parameters, as ``--subset``; the references are made of all.
    fresh : bool
        Throw away what an earlier run left; in a store that jobs share, only what was made otherwise.
    update : bool
        Redo the steps whose settings or inputs changed, the review table among them, and what follows from them.

    Returns
    -------
    dict
        Rows of the value-added catalogue, where it and the report are, seconds.

    Raises
    ------
    StellarscaleError
        One of its kinds, each naming what, where, seen and needed.
    """
    started = time.perf_counter()
    out = run_directory(job)
    plan(job, subset)
    open_run(job, others=map(Path, _other_files(job).values()), fresh=fresh)
    with session(cluster, update=update or fresh) as on:
        catalogs, steps = import_catalogs(on, job)
        references = _references(on, job, catalogs, steps)
        if job.leave_one_out:
            steps.append(leave_one_out(job, references, update=on.update))
        catalog = _match(on, job, catalogs[job.spectra], references, subset, steps)
        for number, attach in enumerate(job.attach):
            steps.append(attach_catalog(on, catalog, catalogs[attach.catalog], out / f"attached_{number}", attach))
            catalog = out / f"attached_{number}"
        catalog = _finish(on, job, catalog, steps)
        match_externals(on, job, catalog=catalog, others=catalogs, steps=steps)
    exports = close_run(job, steps, catalog)
    return {
        "catalog": str(catalog),
        "references": str(references.path),
        "rows_in": next(step["rows_in"] for step in steps if step["step"] == "match_spectra"),
        "written": open_stored(catalog).properties.rows,
        "exports": exports,
        **_report(job, out, steps),
        "seconds": round(time.perf_counter() - started, 2),
    }


def rebuild_report(job: LaspmJob, run_dir: Path) -> Summary:
    """Write the report of a finished run again; see :func:`stellarscale.products.dispatch.rebuild_report`."""
    return _report(job, run_dir, json.loads((run_dir / "steps.json").read_text()))


def plan(job: LaspmJob, subset: str | None = None) -> Summary:
    """Check what can be checked before any work: files exist, subset parses; and say what would be done.

    Raises
    ------
    InputError
        If an input file or catalogue does not exist.
    """
    if subset is not None:
        parse_subset(subset)
    files = checked_inputs(job)
    for where, name in _spectra_of(job).items():
        survey = job.catalogs[name].survey
        if survey is not None and load_survey(survey).spectrum is None:
            raise InputError(
                "a catalogue of spectra is wanted and a table is named",
                where=where,
                seen=f"{name}, of the survey {survey}",
                needed="a survey whose schema has a `spectrum` section",
            )
    check_headers(job, files)
    inputs = {name: [str(path) for path in paths] for name, paths in files.items()}
    for where, file in _other_files(job).items():
        if not Path(file).exists():
            raise InputError("a file of the job does not exist", where=where, seen=Path(file).absolute())
    check_truth(job)
    check_externals(job)
    given = job.references
    if given.sample:
        require_torch()  # told now, not after the selection
    source = "the empirical sample" if given.sample else "the library" if given.library else str(given.file)
    return {
        "job": job.name,
        "out": job.out,
        "inputs": {name: _told(paths) for name, paths in inputs.items()},
        "references": source,
        "spectra": job.spectra,
        "digest": digest_of(job)[:16],
    }


def _spectra_of(job: LaspmJob) -> dict[str, str]:
    """Catalogues that must hold spectra, by the setting that names them."""
    given = job.references
    found = {"spectra": job.spectra}
    found |= {"references.sample.spectra": given.sample.spectra} if given.sample else {}
    return found | ({"references.library.spectra": given.library.spectra} if given.library else {})


def _told(paths: list[str]) -> list[str]:
    """Spectra are many: the first and the last file stand for them."""
    return paths if len(paths) <= 10 else [paths[0], f"... {len(paths) - 2:,} more ...", paths[-1]]


def _other_files(job: LaspmJob) -> dict[str, str]:
    """Files that the job names besides those of the catalogues, by the setting that names them."""
    given, found = job.references, {}
    if given.file:
        found["references.file"] = given.file
    if given.library:
        found["references.library.labels"] = given.library.labels
    if given.sample:
        found |= {f"references.sample.models {branch}": file for branch, file in given.sample.models.items()}
        excluded = given.sample.selection.exclusions
        found |= {f"references.sample.selection.exclusions {e.name}": e.file for e in excluded if e.file}
        maps = given.sample.selection.cuts.reddening.sfd98
        found |= {"references.sample.selection.cuts.reddening.sfd98": maps} if maps else {}
    if job.truth:
        found["truth.file"] = job.truth.file
    if job.report.isochrones:
        found["report.isochrones.file"] = job.report.isochrones.file
    return found


def _references(on: Session, job: LaspmJob, catalogs: dict[str, Path], steps: list[Summary]) -> ReferenceFile:
    """The references of the job: made of an empirical sample or a library, or a file that is there."""
    given = job.references
    if given.sample is not None:
        path = build_sample(on, job, catalogs, steps)
    elif given.library is not None:
        path = build_library(on, job, catalogs, steps)
    else:
        assert given.file is not None, "checked by the settings"
        path = Path(given.file).absolute()
    names = tuple(sorted(given.columns.items()))
    found = read_spectra_fits(path, labels=job.matching.labels, names=given.columns)
    return ReferenceFile(path, found.digest, names)


def _match(
    on: Session, job: LaspmJob, spectra: Path, references: ReferenceFile, subset: str | None, steps: list[Summary]
) -> Path:
    """Labels of every spectrum from the references that resemble it most."""
    stored, out = open_stored(spectra), run_directory(job) / "matched"
    config = SpectraMatchConfig(job.matching, load_product(job.product))
    task = SpectraTask(spectra, out, config, references, parse_subset(subset) if subset else None)
    schema = check_spectra(task)
    properties = inherited(stored.properties, "matched", references_digest=references.digest)
    mapped = Mapped(
        step="match_spectra",
        source=spectra,
        out=out,
        schema=schema,
        properties=replace(properties, extra=_kept_roles(properties.extra, schema.names)),
        settings={
            "matching": job.matching.model_dump(mode="json"),
            "references": references.digest,
            "columns": dict(references.names),
        },
    )
    done = map_catalog(on, partial(match_spectra_pixel, task), mapped, subset=subset)
    steps.append({**done, "name": "match spectra"})
    return out


def _kept_roles(extra: dict[str, str], names: list[str]) -> dict[str, str]:
    """What the properties say of columns, as far as these are still there."""
    roles = {f"stellarscale_{role}" for role in ("id", "pmra", "pmdec", "epoch_column")}
    return {key: value for key, value in extra.items() if key not in roles or value in names}


def _finish(on: Session, job: LaspmJob, source: Path, steps: list[Summary]) -> Path:
    """The value-added catalogue: with errors, where the job wants them."""
    stored, out = open_stored(source), run_directory(job) / job.output.name
    config = ErrorsConfig((), "", load_product(job.product), ())
    about: Summary = {}
    if job.errors is not None:
        config = calibrate_errors(job, source)
        about = json.loads((run_directory(job) / "errors" / "models.json").read_text()) | {"accuracy": config.accuracy}
    mapped = Mapped(
        step="errors",
        source=source,
        out=out,
        schema=errors_schema(stored.schema, config),
        properties=inherited(stored.properties, job.output.name, job_digest=digest_of(job), product=job.product),
        settings={"errors": job.errors.model_dump(mode="json") if job.errors else None, "measured": digest_of(about)},
    )
    done = map_catalog(on, partial(errors_pixel, ErrorsTask(source, out, config)), mapped)
    steps.append({**done, "name": "errors" if job.errors else "catalogue"})
    return out


def _report(job: LaspmJob, out: Path, steps: list[Summary]) -> Summary:
    from stellarscale.products.laspm_reporting import report_run

    return report_run(job, out, steps)
