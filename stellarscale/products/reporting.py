"""Fill the report of a run: evaluations against held-out labels and truth, importances, counts, provenance."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.config import Job, Truth, digest_of, job_text
from stellarscale.engine.ledger import write_json
from stellarscale.errors import InputError
from stellarscale.flags import COLUMN, flag_table
from stellarscale.partition.features import floats
from stellarscale.products.forests import TrainedModel
from stellarscale.products.inspect import sample_rows, sky_counts
from stellarscale.products.steps import Summary
from stellarscale.report.content import Evaluation, Importance, ReportContent, StepRow
from stellarscale.report.numbers import numbers_json, summarise
from stellarscale.report.page import write_report

PACKAGES = ("stellarscale", "dask", "pyarrow", "numpy", "scikit-learn", "astropy", "healpy", "numba")


def evaluate(job: Job, catalog: Path, models: Sequence[TrainedModel]) -> list[Evaluation]:
    """Compare each model with its held-out labels and, when the job names a truth, the catalogue with it."""
    found = [_against_labels(job, model) for model in models]
    return found + (_against_truth(job, job.truth, catalog) if job.truth else [])


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


def write_run_report(
    job: Job, out: Path, *, steps: list[Summary], models: Sequence[TrainedModel], evaluations: Sequence[Evaluation]
) -> Path:
    """Write ``report.html`` and ``report.json`` into the run directory; returns the page's path."""
    stored = open_stored(out / job.output.name)
    classes = job.features.classes
    content = ReportContent(
        title=f"stellarscale: {job.name}",
        subtitle=f"product {job.product}, {stored.num_rows:,} stars",
        job_text=job_text(job),
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        digests={"job": digest_of(job), **{f"model {model.spec.name}": model.digest for model in models}},
        steps=tuple(_step_row(step) for step in steps),
        evaluations=tuple(evaluations),
        importances=tuple(
            Importance(model.spec.name, tuple(job.training.inputs), tuple(model.numbers["importances"]))
            for model in models
        ),
        stars=sample_rows(stored),
        class_names={rule.code: rule.name.replace("_", " ") for rule in classes.rules} if classes else {},
        sky=sky_counts(stored),
        flag_counts=_flag_counts(stored),
        rows_total=stored.num_rows,
        notes=_notes(stored),
    )
    write_json(out / "report.json", numbers_json(content))
    return write_report(content, out / "report.html")


def _against_labels(job: Job, model: TrainedModel) -> Evaluation:
    table = pq.read_table(model.held_out)
    numbers = model.numbers
    comparisons = {"scikit-learn robust sigma": numbers["sklearn_sigma"]} if "sklearn_sigma" in numbers else {}
    return Evaluation(
        model=model.spec.name.replace("_", " "),
        label=model.spec.label,
        unit=job.training.labels[model.spec.label].unit,
        against="held-out labels",
        predicted=table["prediction"].to_numpy(),
        truth=table["label"].to_numpy(),
        error=table["spread"].to_numpy(),
        comparisons=comparisons,
        oob_score=numbers["oob_score"],
        n_train=numbers["n_train"],
    )


def _against_truth(job: Job, truth: Truth, catalog: Path) -> list[Evaluation]:
    """Join by id; an id that the truth has twice would count a star twice, so it is refused."""
    labels = [label for label in truth.labels if label in {spec.label for spec in job.training.models}]
    columns = [truth.id, *labels, *(f"{label}_err" for label in labels)]
    stars = read_columns(open_stored(catalog), columns)
    known = pq.read_table(truth.file, columns=[truth.truth_id, *truth.labels.values()])
    known = known.rename_columns([truth.truth_id, *(f"true {label}" for label in truth.labels)])
    known = known.filter(pc.is_valid(known[truth.truth_id]))
    if pc.count_distinct(known[truth.truth_id]).as_py() != known.num_rows:
        raise InputError("the ids of the truth table are not unique", where=truth.file, seen=truth.truth_id)
    # Looked up in the order of the catalogue: a threaded join gives rows, and so the last digits of sums, as they come.
    found = pc.index_in(stars[truth.id], value_set=known[truth.truth_id])
    joined = stars.filter(pc.is_valid(found))
    partners = known.take(found.drop_null())
    for label in labels:
        joined = joined.append_column(f"true {label}", partners[f"true {label}"])
    return [_truth_evaluation(job, joined, label) for label in labels]


def _truth_evaluation(job: Job, joined: pa.Table, label: str) -> Evaluation:
    return Evaluation(
        model=f"{label} catalogue",
        label=label,
        unit=job.training.labels[label].unit,
        against="truth",
        predicted=floats(joined, label),
        truth=floats(joined, f"true {label}"),
        error=floats(joined, f"{label}_err"),
    )


def _step_row(step: Summary) -> StepRow:
    rejected = step.get("rejected", 0)
    reasons = rejected if isinstance(rejected, dict) else {}
    return StepRow(
        name=step["name"],
        kind=step["step"],
        rows_in=step["rows_in"],
        rows_out=step["written"],
        rejected=sum(reasons.values()) if isinstance(rejected, dict) else int(rejected),
        partitions=step.get("partitions", 0),
        seconds=step["seconds"],
        peak_memory_mb=step.get("peak_memory_mb"),
        resumed_partitions=step.get("resumed_partitions", 0),
        note="; ".join(f"{reason}: {rows:,}" for reason, rows in sorted(reasons.items())),
    )


def _flag_counts(stored: Any) -> dict[str, int]:
    if COLUMN not in stored.schema.names:
        return {}
    flags = read_columns(stored, [COLUMN])[COLUMN].fill_null(0).to_numpy()
    return {row.name: int(np.count_nonzero(flags & (1 << row.bit))) for row in flag_table()}


def _notes(stored: Any) -> tuple[str, ...]:
    if stored.properties.extra.get("stellarscale_placeholder_positions") == "true":
        return ("The survey file has no positions: ra and dec are placeholders, and the sky map means nothing.",)
    return ()
