"""The references matched against one another: the method where the answer is known (paper II, section 2.6)."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.spectra_fits import LabelledSpectra, read_spectra_fits
from stellarscale.config import digest_of
from stellarscale.engine.ledger import open_ledger, write_json
from stellarscale.engine.spectra_tasks import ReferenceFile, load_references
from stellarscale.kernels.template_match import Matches, match_spectra, prepare
from stellarscale.partition.references import References
from stellarscale.partition.refinement import label_refinement
from stellarscale.products.inputs import run_directory
from stellarscale.products.residuals import Numbers, residual_numbers, residual_table
from stellarscale.products.steps import Summary
from stellarscale.report.content import ExtraSection
from stellarscale.report.pieces import picture
from stellarscale.report.plots_cleaning import plot_leave_one_out
from stellarscale.report.plots_style import DPI
from stellarscale.settings.laspm import LaspmJob
from stellarscale.settings.sample import LABELS

TABLE = "labels.parquet"
FOLDS = 10
Floats = NDArray[np.float64]
NAMES = ("spectrum_id", "obsid")
"""Columns of a file of references that name its spectra; the first that is there goes along."""
STARS = ("star", "source_id")
"""Columns of a file of references that tell its stars apart; the first that is there counts."""


def leave_one_out(job: LaspmJob, file: ReferenceFile, *, update: bool) -> Summary:
    """Match each reference against those of all other stars, and write the labels that this gives.

    Parameters
    ----------
    job : LaspmJob
    file : ReferenceFile
    update : bool
        Redo it if the references or the settings changed.

    Returns
    -------
    dict
        ``sigma`` and ``bias`` of each label besides what every step tells.
    """
    started = time.perf_counter()
    out = run_directory(job) / "leave_one_out"
    settings = {"matching": job.matching.model_dump(mode="json"), "references": file.digest}
    about = {"settings": settings | {"columns": dict(file.names), "seed": job.seed}}
    ledger = open_ledger(out, step="leave_one_out", digest=digest_of(about), about=about, update=update)
    if ledger.finished:
        return {**ledger.finished, "resumed": True}
    with ledger.working("leave_one_out", 1):
        references = load_references(file, job.matching)
        spectra = read_spectra_fits(file.path, labels=job.matching.labels, names=dict(file.names))
        plain, refined = _derived(job, references, spectra)
    methods = {"plain": plain} | ({"refined": refined} if refined is not None else {})
    final = plain if refined is None else refined
    _write_table(job, references, final, spectra.table, out / TABLE)
    numbers = {name: residual_numbers(job.matching.labels, each - references.labels) for name, each in methods.items()}
    write_json(out / "sections.json", [asdict(_section(job, references, final, numbers))])
    summary = {
        "step": "leave_one_out",
        "name": "leave one out",
        "rows_in": len(references.labels),
        "written": len(references.labels),
        "numbers": numbers["plain" if refined is None else "refined"],
        "seconds": round(time.perf_counter() - started, 3),
    }
    ledger.finish(summary)
    return summary


def left_out_labels(job: LaspmJob) -> pa.Table | None:
    """What the leave-one-out of a job wrote: the labels and ``<label>_left_out``; None where it has made none."""
    path = run_directory(job) / "leave_one_out" / TABLE
    return pq.read_table(path) if job.leave_one_out and path.is_file() else None


def _derived(job: LaspmJob, references: References, spectra: LabelledSpectra) -> tuple[Floats, Floats | None]:
    """Labels of each reference from the others: by the combination of the best, and refined where the job refines."""
    stars = _stars(spectra.table)[references.rows]
    weight = np.ones_like(references.flux)
    if spectra.ivar is not None:
        first = references.grid.offset_in(spectra.grid)
        assert first is not None, "the references are a part of the file"
        weight = spectra.ivar[references.rows, first : first + references.grid.n_pix]
    weight = weight * references.window.astype(np.float32)
    limits = {"k": job.matching.k, "candidates": job.matching.candidates}
    matches = match_spectra(references.flux, weight, references.templates, groups=stars, own=stars, **limits)
    plain = _combined(matches, references.labels)
    if job.matching.refinement is None:
        return plain, None
    # What is learned must not have seen the star: it is learned anew for every tenth of them.
    fold = np.random.default_rng(job.seed).permutation(stars.max() + 1)[stars] % FOLDS
    refined = plain.copy()
    for number in range(FOLDS):
        kept, left = fold != number, fold == number
        if not left.any():
            continue
        refine = label_refinement(references.flux[kept], references.labels[kept], job.matching)
        assert refine is not None, "the job refines"
        templates = prepare(references.flux[kept], order=job.matching.order)
        flux, ivar = references.flux[left], weight[left]
        better = refine(flux, ivar, match_spectra(flux, ivar, templates, **limits))
        refined[left] = np.where(np.isfinite(better), better, plain[left])
    return plain, refined


def _combined(matches: Matches, labels: Floats) -> Floats:
    weights = np.where(matches.index >= 0, matches.weights, 0.0)
    derived: Floats = np.einsum("ij,ijk->ik", weights, labels[np.maximum(matches.index, 0)])
    derived[matches.index[:, 0] < 0] = np.nan
    return derived


def _stars(table: pa.Table) -> NDArray[np.int64]:
    """A number for each row, equal for rows of one star."""
    name = next((name for name in STARS if name in table.column_names), None)
    if name is None:
        return np.arange(table.num_rows)
    codes = table[name].combine_chunks().dictionary_encode().indices
    known = codes.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    # A row without a star's name is a star of its own.
    return np.where(known < 0, table.num_rows + np.arange(table.num_rows), known)


def _write_table(job: LaspmJob, references: References, derived: Floats, spectra: pa.Table, path: Path) -> None:
    name = next((name for name in NAMES if name in spectra.column_names), None)
    columns: dict[str, Any] = {name: spectra[name].take(pa.array(references.rows))} if name else {}
    columns["row"] = references.rows
    for place, label in enumerate(job.matching.labels):
        columns |= {label: references.labels[:, place], f"{label}_left_out": derived[:, place]}
    with atomic_write(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def _section(job: LaspmJob, references: References, derived: Floats, numbers: dict[str, Numbers]) -> ExtraSection:
    html = [
        "<p>Each reference matched against those of the other stars.</p>",
        residual_table(numbers["plain"], job.units),
    ]
    if "refined" in numbers:
        html.append(f"<p>Refined, what is learned never from the star itself ({FOLDS} parts):</p>")
        html.append(residual_table(numbers["refined"], job.units))
    if job.matching.labels == LABELS:
        drawn = plot_leave_one_out(references.labels, derived)
        html.append(picture(drawn, "Leave-one-out", "Lines lead from the labels to what the others give.", DPI))
    return ExtraSection("leave_one_out", "References, each left out", "\n".join(html), numbers=numbers)
