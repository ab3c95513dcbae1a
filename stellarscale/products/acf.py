"""Stellar parameters from image stamps by a network (paper III), from cut-outs to the value-added catalogue."""

from __future__ import annotations

import json
import time
from pathlib import Path

from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.subset import parse_subset
from stellarscale.config import digest_of
from stellarscale.models.image_network import empty_network
from stellarscale.models.network import require_torch
from stellarscale.products.acf_checks import (
    check_columns,
    check_cutouts,
    check_inputs_of_novelty,
    check_labels,
    check_used,
    named_columns,
)
from stellarscale.products.comparators import raise_failed
from stellarscale.products.external import check_externals, match_externals
from stellarscale.products.headers import check_headers
from stellarscale.products.image_comparisons import check_comparisons, compare_methods
from stellarscale.products.image_models import TrainedNetwork, given_networks, stored_networks, train_networks
from stellarscale.products.image_novelty import novelty_beside
from stellarscale.products.image_prediction import calibrate_image_errors, predict_images
from stellarscale.products.inputs import checked_inputs, close_run, import_catalogs, open_run, run_directory, store_of
from stellarscale.products.matching import match_chain
from stellarscale.products.selection import labelled_selection, labelled_stars, select_stars
from stellarscale.products.stamp_steps import make_stamp_catalog, stamps_of_run
from stellarscale.products.steps import Session, Summary, session
from stellarscale.products.truth import check_truth
from stellarscale.settings.acf import AcfJob


def run(
    job: AcfJob, *, cluster: str = "threads", subset: str | None = None, fresh: bool = False, update: bool = False
) -> Summary:
    """Run the whole job; a killed run goes on where it stopped.

    Parameters
    ----------
    job : AcfJob
    cluster : str
        As ``--cluster``.
    subset : str, optional
        Part of the stars that get parameters, as ``--subset``; the networks learn from all that have labels.
    fresh : bool
        Throw away what an earlier run left; in a store that jobs share, only what was made otherwise.
    update : bool
        Redo the steps whose settings or inputs changed, and what follows from them.

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
    open_run(job, fresh=fresh)
    with session(cluster, update=update or fresh) as on:
        catalogs, steps = import_catalogs(on, job)
        matched = match_chain(on, job.match, catalogs, store_of(job), steps=steps)
        check_columns(job, matched)
        selected = select_stars(on, job, matched, out / "catalogs" / "selected", steps, subset=subset)
        networks, compared = _networks(on, job, catalogs, matched, steps)
        stamps = make_stamp_catalog(on, job, selected, catalogs, stamps_of_run(job), name="stamps", steps=steps)
        check_used(job, stamps, steps[-1])
        catalog = predict_images(on, job, stamps, networks, out, steps)
        match_externals(on, job, catalog=catalog, others=catalogs, steps=steps)
    exports = close_run(job, steps, catalog)
    reported = _report(job, out, steps, networks)
    raise_failed(compared)
    return {
        "catalog": str(catalog),
        "rows_in": next(step["rows_in"] for step in steps if step["name"] == "select stars"),
        "written": open_stored(catalog).properties.rows,
        "networks": [network.summary for network in networks],
        "exports": exports,
        **reported,
        "seconds": round(time.perf_counter() - started, 2),
    }


def rebuild_report(job: AcfJob, run_dir: Path) -> Summary:
    """Write the report of a finished run again; see :func:`stellarscale.products.dispatch.rebuild_report`."""
    networks = stored_networks(job, run_dir) if job.pretrained is None else given_networks(job)
    return _report(job, run_dir, json.loads((run_dir / "steps.json").read_text()), networks)


def plan(job: AcfJob, subset: str | None = None) -> Summary:
    """Check what can be checked before any work: files exist, subset parses; and say what would be done.

    Raises
    ------
    InputError
        If an input file or catalogue, or the directory of the cut-outs, does not exist.
    ConfigError, ModelError
        If settings contradict each other, networks that are given do not fit the job, or torch is not installed.
    """
    if subset is not None:
        parse_subset(subset)
    require_torch()
    empty_network(job.network, n_bands=len(job.stamps.bands), size_px=job.stamps.size_px, n_outputs=1)
    labelled_selection(job)
    files = checked_inputs(job)
    check_headers(job, files, job.match, named_columns(job))
    inputs = {name: [str(path) for path in paths] for name, paths in files.items()}
    if job.pretrained is not None:
        novelty_beside(job, given_networks(job))
    check_inputs_of_novelty(job)
    check_comparisons(job)
    check_cutouts(job)
    check_truth(job)
    check_externals(job)
    return {
        "job": job.name,
        "out": job.out,
        "inputs": inputs,
        "match": " x ".join([job.match.primary, *(step.catalog for step in job.match.chain)]),
        "labels": job.labels.match.catalog if job.pretrained is None else f"networks of {job.pretrained}",
        "stamps": f"{job.stamps.size_px} px, bands {' '.join(job.stamps.bands)}, {job.stamps.files}",
        "digest": digest_of(job)[:16],
    }


def _networks(
    on: Session, job: AcfJob, catalogs: dict[str, Path], matched: Path, steps: list[Summary]
) -> tuple[list[TrainedNetwork], list[Summary]]:
    """Networks and errors, trained or given, and the comparisons with other methods."""
    if job.pretrained is not None:
        return given_networks(job), []
    out = run_directory(job)
    labelled = labelled_stars(on, job, catalogs, matched, steps)
    check_labels(job, labelled)
    target = labelled.with_name("stamps_labelled")
    stamps = make_stamp_catalog(on, job, labelled, catalogs, target, name="stamps of labelled stars", steps=steps)
    check_used(job, stamps, steps[-1])
    networks = train_networks(on, job, stamps, out, steps)
    calibrate_image_errors(on, job, networks, out / "training", out, steps)
    return networks, compare_methods(on, job, out / "training", out / "models", out, steps)


def _report(job: AcfJob, out: Path, steps: list[Summary], networks: list[TrainedNetwork]) -> Summary:
    from stellarscale.products.acf_reporting import report_run

    return report_run(job, out, steps, networks)
