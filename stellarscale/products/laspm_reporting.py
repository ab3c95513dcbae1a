"""Fill the report of a laspm run: comparisons, Kiel diagrams, example spectra, references (paper II, section 4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.config import digest_of
from stellarscale.engine.spectra_tasks import ReferenceFile
from stellarscale.products.estimates import class_codes, class_names
from stellarscale.products.external import external_evaluations
from stellarscale.products.inputs import input_files, store_of
from stellarscale.products.laspm_examples import example_spectra
from stellarscale.products.laspm_sections import (
    by_snr_section,
    example_section,
    kiel_section,
    reference_section,
)
from stellarscale.products.reporting import evaluation_rows, run_content, write_files
from stellarscale.products.scan import thinned
from stellarscale.products.steps import Summary
from stellarscale.products.truth import against_truth
from stellarscale.report.content import Evaluation, ExtraSection

if TYPE_CHECKING:
    from stellarscale.settings.laspm import LaspmJob

PLOT_ROWS = 200_000
REFERENCES, SECTIONS = "references.fits", "sections.json"
STEPS_WITH_SECTIONS = ("sample/cleaned", "library", "leave_one_out", "errors")
# Beside the tables of every product, in `<out>/evaluation/`.
TABLES = ("kiel", "by_snr", "examples", "references")
PER_SPECTRUM = "Every spectrum is compared: a star observed several times counts as often."
INTERVALS = (
    "The errors come from stars observed repeatedly, so they hold what differs from one spectrum of a star to the "
    "next. What the references and their labels do to all spectra of a star is not in them, and the truth knows it."
)
WITH_ACCURACY = (
    "The errors are the scatter of stars observed repeatedly, with that of the references matched against one another "
    "on top. The latter holds the errors of the references' labels too: where these are large, more stars lie inside."
)


def report_run(job: LaspmJob, out: Path, steps: Sequence[Summary]) -> Summary:
    """Evaluate the catalogue of a run and write the page; says where it is and the main figures.

    Sections that earlier steps left as ``sections.json`` in their directories of the run are part of the page.

    Raises
    ------
    InputError, CatalogError
        As :func:`laspm_evaluations` and :func:`write_laspm_report`.
    """
    evaluations = laspm_evaluations(job, out / job.output.name)
    page = write_laspm_report(
        job,
        out,
        steps=steps,
        spectra=_spectra(job),
        references=_references(job, out),
        evaluations=evaluations,
        extras=_left_sections(job, out),
    )
    return {"report": str(page), "evaluations": evaluation_rows(evaluations)}


def laspm_evaluations(job: LaspmJob, catalog: Path) -> list[Evaluation]:
    """The catalogue against the truth and the external catalogues, spectrum by spectrum.

    Raises
    ------
    InputError
        If the truth cannot be joined, or a match with an external catalogue lacks columns.
    """
    found = against_truth(job, open_stored(catalog))
    found += [each for external in job.evaluation.external for each in external_evaluations(job, external)]
    return [replace(each, note=f"{PER_SPECTRUM} {each.note}".strip()) for each in found]


def write_laspm_report(
    job: LaspmJob,
    out: Path,
    *,
    steps: Sequence[Summary],
    spectra: Path,
    references: ReferenceFile,
    evaluations: Sequence[Evaluation],
    extras: Sequence[ExtraSection] = (),
) -> Path:
    """Write ``report.html``, ``report.json`` and the tables of ``evaluation/`` into the run directory.

    Parameters
    ----------
    job : LaspmJob
    out : Path
        Directory of the run, with the value-added catalogue in it.
    steps : sequence of dict
        Summaries of the steps, in order.
    spectra : Path
        Catalogue of the spectra.
    references : ReferenceFile
        What they were matched against.
    evaluations : sequence of Evaluation
        Of :func:`laspm_evaluations`.
    extras : sequence of ExtraSection
        Sections on how the sample, the references and the errors were made.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError, CatalogError
        If the references, the spectra or the isochrones are not there, or not those of the run.
    """
    stored = open_stored(out / job.output.name)
    stars = _stars(job, stored)
    examples = example_spectra(job, stored, spectra=spectra, references=references)
    made = (
        kiel_section(job, stars),
        by_snr_section(evaluations, class_names(job)),
        example_section(examples),
        *extras,
        reference_section(job, references),
    )
    content = replace(
        run_content(job, stored, steps=steps, evaluations=evaluations, rows_are="spectra"),
        digests={"job": digest_of(job), "references": references.digest},
        truth_intervals=WITH_ACCURACY if job.errors and job.errors.accuracy else INTERVALS,
        extras=tuple(section for section in made if section is not None),
        stars=_named(job, stars),
        class_names=class_names(job),
    )
    return write_files(content, out, tables=TABLES)


def _spectra(job: LaspmJob) -> Path:
    """The catalogue of the spectra: given, or imported."""
    entry = job.catalogs[job.spectra]
    return input_files(job, job.spectra, entry)[0] if entry.survey is None else store_of(job) / job.spectra


def _references(job: LaspmJob, out: Path) -> ReferenceFile:
    """The references that the catalogue was made with, by what its properties say of their file."""
    given = job.references
    path = (
        Path(given.file).absolute()
        if given.file
        else out / ("sample/cleaned" if given.sample else "library") / REFERENCES
    )
    digest = open_stored(out / job.output.name).properties.extra.get("stellarscale_references_digest", "")
    return ReferenceFile(path, digest, tuple(sorted(given.columns.items())))


def _left_sections(job: LaspmJob, out: Path) -> list[ExtraSection]:
    """Sections that steps left, in the order of the run; their pictures are in the HTML already."""
    given = job.references
    idle = {"leave_one_out": not job.leave_one_out, "errors": job.errors is None}  # what is there is of an earlier job
    idle |= {"sample/cleaned": given.sample is None, "library": given.library is None}
    paths = [out / step / SECTIONS for step in STEPS_WITH_SECTIONS if not idle.get(step, False)]
    return [ExtraSection(**section) for path in paths if path.is_file() for section in json.loads(path.read_text())]


def _stars(job: LaspmJob, stored: StoredCatalog) -> pa.Table:
    """A sample of the catalogue with what the diagrams need."""
    names = [*job.matching.labels, "quality_flags", job.errors_by[0], job.column_of("class_code")]
    if job.evaluation.branches:
        names.append(job.evaluation.branches.column)
    there = [name for name in dict.fromkeys(names) if name is not None and name in stored.schema.names]
    return thinned(stored, there, PLOT_ROWS)[0]


def _named(job: LaspmJob, stars: pa.Table) -> pa.Table:
    """The parameters, with the classes under the name that the diagrams know."""
    table = stars.select(list(job.matching.labels))
    codes: Any = class_codes(job, stars)
    if codes is None:
        return table
    missing = ~np.isfinite(codes)
    return table.append_column("class_code", pa.array(np.where(missing, 0, codes).astype(np.int8), mask=missing))
