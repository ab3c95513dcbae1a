"""Fill the report of an acf run: residuals, uncertainties, comparisons, maps, gallery (paper III, sections 4 to 6)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from stellarscale.catalog.reader import open_stored
from stellarscale.config import digest_of
from stellarscale.engine.image_scoring import held_out_file
from stellarscale.products.acf_scale import planned_section
from stellarscale.products.acf_sections import (
    calibration_notes,
    curves_of,
    detections_of,
    gallery_of,
    maps_of,
    sample_of,
    uncertainties_of,
)
from stellarscale.products.estimates import class_names, magnitude_title
from stellarscale.products.external import external_evaluations
from stellarscale.products.image_models import TrainedNetwork
from stellarscale.products.reporting import evaluation_rows, run_content, write_files
from stellarscale.products.stamp_steps import stamps_of_run
from stellarscale.products.steps import Summary
from stellarscale.products.truth import against_truth
from stellarscale.report.content import Evaluation, ExtraSection
from stellarscale.report.image_novelty import novelty_section
from stellarscale.report.image_sections import comparison_section, residual_section
from stellarscale.settings.acf import AcfJob

PACKAGES = ("stellarscale", "dask", "pyarrow", "numpy", "torch", "scikit-learn", "astropy", "healpy", "numba")
LEARNED = (
    "Rows against the truth or another catalogue include stars that trained the networks; "
    "only 'held-out labels' do not."
)
WITH, WITHOUT = "with parallax (ACF)", "without parallax (ACPF)"  # in brackets the paper's names of the networks
TABLES = ("image_stamps", "image_methods", "image_uncertainty", "image_novelty", "image_training", "planned")


def report_run(job: AcfJob, out: Path, steps: Sequence[Summary], networks: Sequence[TrainedNetwork]) -> Summary:
    """Evaluate the networks and the catalogue and write the page; says where it is and the main figures.

    Raises
    ------
    InputError, CatalogError
        If the truth cannot be joined, or the catalogue is not there.
    """
    held_out = {name: held_out_evaluations(job, out / "models", part) for name, part in _by_kind(networks).items()}
    stored = open_stored(out / job.output.name)
    others = against_truth(job, stored)
    others += [each for external in job.evaluation.external for each in external_evaluations(job, external)]
    evaluations = [each for found in held_out.values() for each in found]
    evaluations += [replace(each, note=f"{LEARNED} {each.note}".strip()) for each in others]
    page = write_acf_report(job, out, steps=steps, networks=networks, evaluations=evaluations, held_out=held_out)
    return {"report": str(page), "evaluations": evaluation_rows(evaluations)}


def held_out_evaluations(job: AcfJob, models: Path, networks: Sequence[TrainedNetwork]) -> list[Evaluation]:
    """Each label against the stars that neither trained nor calibrated, or against the validation without such stars.

    Nothing for networks of another run: their held-out stars are there.
    """
    found = []
    for network in networks:
        path = held_out_file(models, network.name)
        if not path.is_file():
            continue
        table = pq.read_table(path)
        split = table["split"].to_numpy()
        table = table.filter(split == split.max()) if len(split) else table
        names = set(table.column_names)  # an older run does not tell the novel ones
        for label in network.labels:
            rows = table.filter(np.array(table["label"].to_pylist()) == label)
            found.append(_evaluation(job, network, label, {n: rows[n].to_numpy() for n in _COLUMNS if n in names}))
    return found


_COLUMNS = ("prediction", "truth", "err", "err95", "magnitude", "novel")


def _evaluation(job: AcfJob, network: TrainedNetwork, label: str, values: dict[str, np.ndarray]) -> Evaluation:
    kind = WITH if network.parallax else WITHOUT
    return Evaluation(
        model=f"{label} {kind}",
        group=kind,
        label=label,
        unit=job.units[label],
        against="held-out labels",
        predicted=values["prediction"],
        truth=values["truth"],
        error=values["err"],
        error95=values["err95"],
        magnitude=values["magnitude"],
        magnitude_name=magnitude_title(job, job.errors.magnitude or job.magnitude or ""),
        novel=values.get("novel"),
        n_train=network.numbers.get("n_train"),
    )


def _by_kind(networks: Sequence[TrainedNetwork]) -> dict[str, list[TrainedNetwork]]:
    kinds = {WITH: [n for n in networks if n.parallax], WITHOUT: [n for n in networks if not n.parallax]}
    return {name: part for name, part in kinds.items() if part}


def write_acf_report(
    job: AcfJob,
    out: Path,
    *,
    steps: Sequence[Summary],
    networks: Sequence[TrainedNetwork],
    evaluations: Sequence[Evaluation],
    held_out: dict[str, list[Evaluation]],
) -> Path:
    """Write ``report.html``, ``report.json`` and the tables of ``evaluation/`` into the run directory.

    Parameters
    ----------
    job : AcfJob
    out : Path
        Directory of the run, with the value-added catalogue in it.
    steps : sequence of dict
        Summaries of the steps, in order.
    networks : sequence of TrainedNetwork
    evaluations : sequence of Evaluation
        All comparisons.
    held_out : dict of str to list of Evaluation
        Those with held-out labels, with and without parallax.

    Returns
    -------
    Path
        The page.
    """
    stored = open_stored(out / job.output.name)
    content = run_content(job, stored, steps=steps, evaluations=evaluations, packages=PACKAGES)
    compared = out / "image_comparison.json"
    made = (
        detections_of(steps),
        sample_of(job, out),
        curves_of(networks, out / "models"),
        residual_section({f"Networks {name}, held-out stars": found for name, found in held_out.items()}),
        uncertainties_of(job, stored),
        novelty_section(evaluations, flagged=content.flag_counts["EXTRAPOLATED"], stars=stored.num_rows),
        comparison_section(json.loads(compared.read_text()) if job.comparisons and compared.is_file() else []),
        maps_of(job, stored),
        gallery_of(job, stored, stamps_of_run(job)),
        planned_section(steps, networks, job),
    )
    extras: tuple[ExtraSection, ...] = tuple(section for section in made if section is not None)
    content = replace(
        content,
        digests={"job": digest_of(job), **{f"network {network.name}": network.digest for network in networks}},
        extras=extras,
        notes=(*content.notes, *calibration_notes(job, steps)),
        class_names=class_names(job),
    )
    return write_files(content, out, tables=TABLES)
