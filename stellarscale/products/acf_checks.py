"""What can be wrong with a job on images, told before the steps that take long."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.engine.stamp_tasks import check_template
from stellarscale.errors import ConfigError, InputError, SchemaError
from stellarscale.partition.features import floats
from stellarscale.partition.image_predict import output_schema
from stellarscale.partition.select import selected_schema
from stellarscale.partition.stamp_config import StampConfig
from stellarscale.partition.stamp_config import output_schema as stamps_schema
from stellarscale.products.featured import output_properties
from stellarscale.products.image_models import carried_columns
from stellarscale.products.image_prediction import prediction_config
from stellarscale.products.steps import Summary
from stellarscale.settings.acf import AcfJob

log = logging.getLogger(__name__)


def check_cutouts(job: AcfJob) -> None:
    """Refuse a job whose cut-outs lie nowhere: every star would be one without a stamp.

    Raises
    ------
    ConfigError
        If the path has a name in braces that is none, or is the same for every star.
    InputError
        If the directory before the first name in braces does not exist, or is empty.
    """
    check_template(job.stamps.files)
    fixed = job.stamps.files.partition("{")[0]
    folder = (Path(fixed) if fixed.endswith("/") else Path(fixed).parent).absolute()
    if folder.is_dir() and any(folder.iterdir()):
        return
    raise InputError(
        "the directory of the cut-outs is empty" if folder.is_dir() else "the cut-outs of the job do not exist",
        where="stamps.files",
        seen=job.stamps.files,
        needed=f"files in {folder}",
        cause=f"not downloaded yet (`stellarscale cutouts`), or {{data}}, which is {job.data!r}, is another directory",
    )


def named_columns(job: AcfJob) -> dict[str, str]:
    """Columns of the matched table that the job names, and the setting that does."""
    named = {column: f"selection.cuts.{cut.name}" for cut in job.selection.cuts for column in cut.columns}
    named |= {job.parallax: "parallax", job.parallax_error: "parallax_error"}
    if job.comparisons is not None:
        named |= {column: f"comparisons.magnitudes.{band}" for band, column in job.comparisons.magnitudes.items()}
    return named | {column: f"output.columns.{name}" for name, column in job.output.columns.items()}


def check_inputs_of_novelty(job: AcfJob) -> None:
    """Refuse columns that a network on images does not look at; :class:`ConfigError` names them."""
    if job.errors.novelty:
        raise ConfigError(
            "stars unlike the training stars are told by their stamps and parallaxes, not by columns",
            where="errors.novelty",
            seen=", ".join(job.errors.novelty),
            needed="no names; errors.novelty_quantile may be given",
        )


def check_columns(job: AcfJob, matched: Path) -> None:
    """Look for every column that a later step needs among those of the matched catalogue.

    Raises
    ------
    SchemaError
        If cuts, strata, stamps, errors, comparisons or the output name a column that there will not be, or a
        parameter is none of the product's.
    ConfigError
        If edges of strata do not ascend, or a parameter that has no flag has limits.
    InputError
        If the output leaves out the position.
    """
    stored = open_stored(matched)
    output_properties(stored.properties, job.output.name, job.output.columns)
    config = StampConfig(job.stamps, stored.properties.ra, stored.properties.dec)
    schema = stamps_schema(selected_schema(stored.schema, job.selection), config)
    output_schema(schema, prediction_config(job, {}))  # errors are not there yet, and make no columns
    if job.pretrained is None:
        _check_there(set(carried_columns(job, schema.names)), set(schema.names), where="errors, comparisons")


def check_labels(job: AcfJob, labelled: Path) -> None:
    """Look for the columns of the labels; :class:`SchemaError` if one is missing."""
    named = {name for label in job.labels.labels.values() for name in (label.column, label.error) if name}
    _check_there(named, set(open_stored(labelled).schema.names), where="labels.labels")


def check_used(job: AcfJob, stamps: Path, step: Summary) -> None:
    """Refuse stamps that no detection went into; warn of a band that no star has.

    Raises
    ------
    InputError
        If there are stars and no detection was used, with the counts by reason.
    """
    if not step["written"]:
        return
    if not step["used"]:
        raise InputError(
            "no star has a stamp: no detection could be used",
            where=f"{step['name']}, {stamps}",
            seen=", ".join(f"{reason}: {count:,}" for reason, count in step["unused"].items()) or "no detections",
            needed=f"cut-outs as in {job.stamps.files}, and detections of these stars",
            cause="`stamps.files` is not how the files are named, or the detections are of other stars",
        )
    counts = read_columns(open_stored(stamps), [f"n_detections_{band}" for band in job.stamps.bands])
    for band in job.stamps.bands:
        if not np.nansum(floats(counts, f"n_detections_{band}")):
            log.warning("%s: none of %d stars has a detection in the band %s", step["name"], step["written"], band)


def _check_there(named: set[str], there: set[str], *, where: str) -> None:
    missing = sorted(named - there)
    if missing:
        raise SchemaError(
            "the job names columns that the matched stars do not have",
            where=where,
            seen=", ".join(sorted(there)),
            needed=", ".join(missing),
            cause="a typing error, a column that was not imported, or the prefix of the match is missing",
        )
