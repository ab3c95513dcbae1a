"""Fill the report of a run: evaluations, samples, clusters, importances, counts, provenance."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.config import Job, SagesJob, digest_of, job_text
from stellarscale.engine.ledger import write_json
from stellarscale.partition.features import colour_name
from stellarscale.products.clusters import compare_clusters
from stellarscale.products.evaluation import evaluate, model_name, sample_stars, write_tables
from stellarscale.products.forests import TrainedModel
from stellarscale.products.scan import scan_catalog, thinned
from stellarscale.products.steps import Summary
from stellarscale.products.tuning import read_scans
from stellarscale.report.comparison import comparison_section
from stellarscale.report.content import Evaluation, ExtraSection, Importance, ReportContent, StepRow
from stellarscale.report.numbers import numbers_json, summarise
from stellarscale.report.page import write_report
from stellarscale.report.tuning import tuning_section

__all__ = ["evaluate", "evaluation_rows", "extra_sections", "write_run_report"]

PLOT_ROWS = 200_000
PACKAGES = ("stellarscale", "dask", "pyarrow", "numpy", "scikit-learn", "astropy", "healpy", "numba")


def evaluation_rows(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """The main figures of each evaluation, for the command line."""
    rows = []
    for item in evaluations:
        numbers = summarise(item)
        rows.append(
            {
                "model": item.model,
                "against": item.against,
                "n": numbers.n,
                "bias": numbers.bias,
                "robust_sigma": numbers.robust_sigma,
                "unit": item.unit,
                **item.comparisons,
            }
        )
    return rows


def extra_sections(job: SagesJob, out: Path) -> list[ExtraSection]:
    """The scan of hyper-parameters and the other methods, as far as the run has them."""
    names = {spec.name: model_name(spec) for spec in job.training.models}
    scans = [replace(scan, model=names[scan.model]) for scan in read_scans(job, out)]
    compared = out / "comparison.json"
    sections = [tuning_section(scans)] if scans else []
    if job.training.comparators and compared.is_file():
        records = json.loads(compared.read_text())
        sections.append(comparison_section([record | {"model": names[record["model"]]} for record in records]))
    return sections


def write_run_report(
    job: SagesJob,
    out: Path,
    *,
    steps: list[Summary],
    models: Sequence[TrainedModel],
    evaluations: Sequence[Evaluation],
    extras: Sequence[ExtraSection] = (),
) -> Path:
    """Write ``report.html``, ``report.json`` and the tables of ``evaluation/`` into the run directory.

    Returns
    -------
    Path
        The page.
    """
    stored = open_stored(out / job.output.name)
    clusters, members = compare_clusters(stored, job.evaluation.clusters) if job.evaluation.clusters else ([], None)
    classes = job.features.classes
    content = replace(
        run_content(job, stored, steps=steps, evaluations=evaluations),
        digests={"job": digest_of(job), **{f"model {model_name(model.spec)}": model.digest for model in models}},
        models=len(models),
        samples=tuple(sample_stars(job, model) for model in models if model.is_tested),
        clusters=tuple(clusters),
        extras=tuple(extras),
        importances=tuple(
            Importance(model_name(model.spec), tuple(job.training.inputs), tuple(model.numbers["importances"]))
            for model in models
            if "importances" in model.numbers
        ),
        stars=_diagram_stars(job, stored),
        class_names={rule.code: rule.name.replace("_", " ") for rule in classes.rules} if classes else {},
        **_axes(job),
    )
    return write_files(content, out, members=members)


def run_content(
    job: Job,
    stored: StoredCatalog,
    *,
    steps: Sequence[Summary],
    evaluations: Sequence[Evaluation],
    rows_are: str = "stars",
    packages: Sequence[str] = PACKAGES,
) -> ReportContent:
    """What the page of every product holds: the run, its evaluations, and counts over the whole catalogue.

    Parameters
    ----------
    job : Job
    stored : StoredCatalog
        The catalogue that the run made.
    steps : sequence of dict
        Summaries of the steps, in order.
    evaluations : sequence of Evaluation
    rows_are : str
        What a row of the catalogue is, in the plural.
    packages : sequence of str
        Distributions whose versions are told.

    Returns
    -------
    ReportContent
        To be filled up by the product; no models are counted.
    """
    scan = scan_catalog(job, stored)
    return ReportContent(
        title=f"stellarscale: {job.name}",
        subtitle=f"product {job.product}, {stored.num_rows:,} {rows_are}",
        job_text=job_text(job),
        versions={"python": platform.python_version(), **{name: version(name) for name in packages}},
        digests={"job": digest_of(job)},
        steps=tuple(step_row(step) for step in steps),
        evaluations=tuple(evaluations),
        models=None,
        metallicity=scan.metallicity,
        sky=scan.sky,
        flag_counts=scan.flags,
        rows_total=stored.num_rows,
        notes=notes_of(stored),
    )


def write_files(
    content: ReportContent, out: Path, *, members: pa.Table | None = None, tables: Sequence[str] = ()
) -> Path:
    """Write ``report.html``, ``report.json`` and the tables of ``evaluation/``; returns the page.

    Parameters
    ----------
    content : ReportContent
    out : Path
        Directory of the run.
    members : Table, optional
        Members of star clusters.
    tables : sequence of str
        Entries of the report's numbers that are files of their own beside the tables of every product.
    """
    numbers = numbers_json(content)
    write_json(out / "report.json", numbers)
    write_tables(numbers, members, out / "evaluation")
    for name in tables:
        if name in numbers:
            write_json(out / "evaluation" / f"{name}.json", numbers[name])
    return write_report(content, out / "report.html")


def _axes(job: SagesJob) -> dict[str, Any]:
    """Names of the features that the diagrams have on their axes."""
    classes, clusters = job.features.classes, job.evaluation.clusters
    axes = {"magnitude_column": clusters.columns.magnitude} if clusters else {}
    if classes:
        axes |= {"colour_column": colour_name(classes.colour), "absolute_column": f"m_{classes.absolute}_0"}
    return axes


def _diagram_stars(job: SagesJob, stored: StoredCatalog) -> pa.Table:
    """A sample of the catalogue with what the diagrams need, under the names of the features."""
    classes = job.features.classes
    features = ["class_code", colour_name(classes.colour), f"m_{classes.absolute}_0"] if classes else []
    columns = {name: source for source in features if (name := job.column_of(source))}
    columns |= {label: label for label in dict.fromkeys(spec.label for spec in job.training.models)}
    table, _ = thinned(stored, list(columns), PLOT_ROWS)
    return table.select(list(columns)).rename_columns(list(columns.values()))


def step_row(step: Summary) -> StepRow:
    """A step as the page has it: only what an import refuses is rejected, and an earlier run's time is not ours."""
    rejected = step.get("rejected", 0)
    reasons = rejected if isinstance(rejected, dict) else {}
    lost = sum(reasons.values()) if isinstance(rejected, dict) else int(rejected)
    imports, made_before, partitions = step["step"] == "import", bool(step.get("resumed")), step.get("partitions", 0)
    return StepRow(
        name=step["name"],
        kind=step["step"],
        rows_in=step["rows_in"],
        rows_out=step["written"],
        rejected=lost if imports else 0,
        left_out=0 if imports else lost,
        made_before=made_before,
        partitions=partitions,
        seconds=0.0 if made_before else step["seconds"],
        peak_memory_mb=None if made_before else step.get("peak_memory_mb"),
        resumed_partitions=partitions if made_before else step.get("resumed_partitions", 0),
        note="; ".join(f"{reason}: {rows:,}" for reason, rows in sorted(reasons.items())),
    )


def notes_of(stored: StoredCatalog) -> tuple[str, ...]:
    """What a reader has to know of the catalogue's rows."""
    extra = stored.properties.extra
    notes = []
    if "stellarscale_subset" in extra:
        notes.append(f"Only a part of the sky: the run was started with --subset {extra['stellarscale_subset']}.")
    if extra.get("stellarscale_placeholder_positions") == "true":
        notes.append("The survey file has no positions: ra and dec are placeholders, and the sky map means nothing.")
    return tuple(notes)
