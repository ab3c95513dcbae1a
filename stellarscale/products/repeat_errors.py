"""Errors of the catalogue from stars observed several times (paper II, section 4.2, Eq. 1, Figs 17 and 18)."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.engine.ledger import write_json
from stellarscale.errors import ConfigError
from stellarscale.kernels.repeats import RepeatErrors, deviations, fit_repeats
from stellarscale.kernels.stats import FEWEST_FOR_A_FIT
from stellarscale.partition.features import floats
from stellarscale.partition.label_errors import ErrorsConfig
from stellarscale.products.inputs import run_directory
from stellarscale.products.leave_one_out import left_out_labels
from stellarscale.products.residuals import residual_numbers
from stellarscale.report.content import ExtraSection
from stellarscale.report.labels import short
from stellarscale.report.pieces import picture
from stellarscale.report.plots_repeats import describe, plot_deviations, plot_error_against_snr
from stellarscale.report.plots_style import DPI
from stellarscale.report.tables import table
from stellarscale.schema import load_product
from stellarscale.settings.laspm import LaspmJob
from stellarscale.settings.spectral_errors import RepeatSettings


def calibrate_errors(job: LaspmJob, source: Path) -> ErrorsConfig:
    """Measure how far repeated observations scatter; writes the section of the report into ``<out>/errors``.

    Parameters
    ----------
    job : LaspmJob
        With errors.
    source : Path
        The catalogue of matched spectra.

    Raises
    ------
    ConfigError
        If the catalogue has no column of stars or of signal to noise, or the leave-one-out is asked for and missing.
    InputError
        If too few stars were observed repeatedly; the numbers are told.
    """
    settings = job.errors
    assert settings is not None, "the caller looked"
    snr, _ = job.errors_by
    assert snr is not None, "checked by the settings"
    stored = open_stored(source)
    wanted = [settings.star, *([settings.split.column] if settings.split else [])]
    missing = [name for name in [snr, *wanted] if name not in stored.schema.names]
    if missing:
        raise ConfigError(
            "the errors need columns that the catalogue does not have",
            where="errors",
            seen=", ".join(stored.schema.names),
            needed=", ".join(missing),
            cause="they are kept by `matching.columns`, or attached by `attach`",
        )
    labels = job.matching.labels
    rows = read_columns(stored, list(dict.fromkeys([snr, *labels, *wanted])))
    rows = rows.filter(rows[settings.star].is_valid())
    models = tuple(_model(rows.filter(pa.array(kind)), settings, labels, snr) for kind in _kinds(rows, settings))
    config = ErrorsConfig(
        labels=labels,
        snr=snr,
        product=load_product(job.product),
        models=models,
        split=(settings.split.column, settings.split.limit) if settings.split else None,
        accuracy=accuracy_of(job),
    )
    _write(job, rows, models, settings, config)
    return config


def _kinds(rows: pa.Table, settings: RepeatSettings) -> list[NDArray[np.bool_]]:
    """The rows of each kind of stars: all, or those below and from the limit on."""
    if settings.split is None:
        return [np.ones(rows.num_rows, dtype=bool)]
    value = floats(rows, settings.split.column)
    return [value < settings.split.limit, value >= settings.split.limit]


def _arrays(rows: pa.Table, settings: RepeatSettings, labels: tuple[str, ...], snr: str) -> tuple[NDArray, ...]:
    star = rows[settings.star].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return np.stack([floats(rows, label) for label in labels], axis=1), floats(rows, snr), star


def _model(rows: pa.Table, settings: RepeatSettings, labels: tuple[str, ...], snr: str) -> RepeatErrors:
    return fit_repeats(*_arrays(rows, settings, labels, snr), names=labels, config=settings.config)


def accuracy_of(job: LaspmJob) -> tuple[tuple[float, ...], ...] | None:
    """What is added in quadrature, for each kind of stars one number for each label; None for nothing.

    Raises
    ------
    ConfigError
        If it is to be that of the leave-one-out and there is none.
    """
    settings, labels = job.errors, job.matching.labels
    if settings is None or settings.accuracy is None:
        return None
    if settings.accuracy != "leave_one_out":
        given = tuple(settings.accuracy.get(label, 0.0) for label in labels)
        return (given,) * (1 if settings.split is None else 2)
    table = left_out_labels(job)
    if table is None:
        raise ConfigError(
            "the accuracy is to be that of the leave-one-out, which the job does not make",
            where="errors.accuracy",
            needed="leave_one_out: true, or a number for each label",
        )
    renamed = table.select([f"{label}_left_out" for label in labels]).rename_columns(list(labels))
    residual = np.stack([floats(renamed, label) - floats(table, label) for label in labels], axis=1)
    kinds = [residual[kind] for kind in _kinds(renamed, settings)]
    everything = residual_numbers(labels, residual)
    # The scatter of a handful says nothing, that of a single one is 0: those of all kinds stand in.
    numbers = [residual_numbers(labels, each) if len(each) >= FEWEST_FOR_A_FIT else everything for each in kinds]
    return tuple(tuple({**everything, **each}[label]["robust_sigma"] for label in labels) for each in numbers)


def _write(
    job: LaspmJob, rows: pa.Table, models: tuple[RepeatErrors, ...], settings: RepeatSettings, config: ErrorsConfig
) -> None:
    """The models as JSON, and the section of the report."""
    names: tuple[str, ...] = ("all stars",)
    if settings.split is not None:
        column, limit = settings.split.column, settings.split.limit
        names = (f"{column} below {limit:g}", f"{column} from {limit:g}")
    html = [
        "<p>Scatter of stars observed repeatedly, by the paper's Eq. 1: the precision. It does not show what is wrong "
        "in every spectrum of a star alike.</p>"
    ]
    if config.accuracy is not None:
        html.append("<p>Added in quadrature, as the accuracy of the method:</p>")
        cells = [[escape(name), *map(short, each)] for name, each in zip(names, config.accuracy, strict=True)]
        html.append(table(["stars<", *(f"{label}|{job.units[label]}" for label in config.labels)], cells))
    for name, model, kind in zip(names, models, _kinds(rows, settings), strict=True):
        scatter = deviations(
            *_arrays(rows.filter(pa.array(kind)), settings, config.labels, config.snr), config=settings.config
        )
        html += [f"<h3>{escape(name.capitalize())}</h3>"]
        html.append(picture(plot_deviations(scatter, config.labels), describe(model), escape(describe(model)), DPI))
        caption = "Scatter in steps of S/N, and the curve that errors are read from."
        html.append(picture(plot_error_against_snr(model), "Error against S/N", caption, DPI))
    folder = run_directory(job) / "errors"
    numbers = {name: model.to_json() for name, model in zip(names, models, strict=True)}
    write_json(folder / "models.json", numbers)
    section = ExtraSection("repeats", "Errors from repeated observations", "\n".join(html), numbers=numbers)
    write_json(folder / "sections.json", [asdict(section)])
