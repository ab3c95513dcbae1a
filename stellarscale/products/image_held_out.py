"""Stars that no network was trained on: predicted once, and the errors of the catalogue calibrated on some of them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write, sweep
from stellarscale.catalog.writer import write_table
from stellarscale.config import Errors, digest_of
from stellarscale.engine.gpu import gpu_resources, share_of_machine
from stellarscale.engine.image_scoring import held_out_file
from stellarscale.engine.image_tasks import HeldOutPart, HeldOutTask, Networks, measure_precision, predict_held_out
from stellarscale.engine.image_training_set import PARALLAX, PARALLAX_ERROR, TABLE_FILE
from stellarscale.engine.image_training_tasks import NO_PARALLAX
from stellarscale.engine.ledger import Ledger, fingerprint, open_ledger, write_json
from stellarscale.engine.stage import run_stage
from stellarscale.models.calibrate import CalibratedErrors, Told
from stellarscale.models.image_errors import calibrate_label, write_errors
from stellarscale.models.image_stars import TRAIN, VALIDATION
from stellarscale.partition.features import floats
from stellarscale.partition.noise import noise_values
from stellarscale.products.image_models import MODELS, TrainedNetwork
from stellarscale.products.image_novelty import learn_novelties, novelty_file
from stellarscale.products.steps import Session, Summary
from stellarscale.schema import field_metadata
from stellarscale.settings.acf import AcfJob
from stellarscale.settings.image_network import ImagePrediction

log = logging.getLogger(__name__)
PRECISION_FILE = "precision.json"
MOST_CHANGE = 0.01
"""Of a label's error: what a lower precision or a compilation may change it by."""

_PART_ROWS = 2048


def errors_file(folder: Path, label: str, *, without_parallax: bool = False) -> Path:
    """Calibrated errors of a label, in the directory of the networks."""
    return folder / f"errors_{label}{NO_PARALLAX if without_parallax else ''}.npz"


def calibrate_image_errors(
    on: Session, job: AcfJob, models: Sequence[TrainedNetwork], training_folder: Path, out: Path, steps: list[Summary]
) -> Summary:
    """Predict the stars that no network was trained on, and calibrate errors on those of the validation.

    Writes ``models/held_out_<name>.parquet`` for each network
    (:func:`stellarscale.engine.image_scoring.held_out_file`), ``models/errors_<label>.npz`` for each label
    (:func:`errors_file`), and ``models/novelty_<name>.npz``, the region of a network's training stars
    (:func:`stellarscale.products.image_novelty.novelty_file`), in the run's directory.
    Before, the change of labels by bf16 and by compilation is measured: where the job leaves the precision open and
    it is more than 1 % of a label's error, fp32 it is (``models/precision.json``).

    Returns
    -------
    dict
        The step's summary: stars predicted, ``calibrated`` stars by label (0: too few, its errors are null),
        ``extrapolated`` stars by network (held-out ones that lie outside of its region), device, precision and its
        change.
    """
    started = time.perf_counter()
    folder = out / MODELS
    settings = _errors_of(job)
    about = {
        "settings": {
            "prediction": job.prediction.model_dump(mode="json", exclude={"batch_size"}),
            "errors": settings.model_dump(mode="json"),
            "models": {model.name: model.digest for model in models},
        },
        "inputs": [fingerprint(training_folder / TABLE_FILE)],
    }
    digest = digest_of("held_out", about)
    ledger = open_ledger(out / "held_out", step="held_out", digest=digest, about=about, update=on.update)
    if ledger.finished and all(path.is_file() for path in _files_of(ledger.finished, folder, models)):
        steps.append({**ledger.finished, "resumed": True})
        return steps[-1]
    sweep(ledger.out)
    networks = {model.name: networks_of(on, [model], job.prediction) for model in models}
    precision = _settled_precision(on, job, HeldOutTask(training_folder, ledger.out, networks), ledger, folder)
    chosen = job.prediction.model_copy(update={"precision": precision["precision"]})
    networks = {model.name: networks_of(on, [model], chosen) for model in models}
    stars = _as_in_the_job(pq.read_table(training_folder / TABLE_FILE, partitioning=None), job)
    n = int((stars["split"].to_numpy() != TRAIN).sum())
    found, peak_memory_mb = _predict_held_out(on, HeldOutTask(training_folder, ledger.out, networks), n, ledger)
    novel = learn_novelties(models, training_folder, folder, quantile=settings.novelty_quantile)
    calibrated: dict[str, int] = {}
    for model in models:
        name = model.name
        found[name] = found[name].append_column("novel", pa.array(novel[name][found[name]["row"].to_numpy()]))
        calibrated |= _calibrate(stars, found[name], model, settings, folder)
    rows = sum(table.num_rows for table in found.values())
    summary = {
        "step": "held_out",
        "name": "calibrate errors",
        "rows_in": rows,
        "written": rows,
        "partitions": len(models),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mb": peak_memory_mb,
        "calibrated": calibrated,
        "extrapolated": {name: pc.sum(table["novel"]).as_py() or 0 for name, table in found.items()},
        **precision,
    }
    ledger.finish(summary)
    steps.append(summary)
    return summary


def _files_of(finished: Summary, folder: Path, models: Sequence[TrainedNetwork]) -> list[Path]:
    """What a finished calibration has left in the directory of the networks."""
    errors = [folder / f"errors_{name}.npz" for name, stars in finished["calibrated"].items() if stars]
    return [*(of(folder, model.name) for of in (held_out_file, novelty_file) for model in models), *errors]


def networks_of(on: Session, models: Sequence[TrainedNetwork], settings: ImagePrediction) -> Networks:
    """Networks as the tasks of this session take them."""
    files = tuple((Path(model.path), model.digest) for model in models)
    return Networks(files, settings, share_of_machine(on.client))


def settled_prediction(job: AcfJob, folder: Path) -> ImagePrediction:
    """The settings of the prediction, with the precision that was settled on where the networks were calibrated."""
    path = folder / PRECISION_FILE
    if job.prediction.precision != "auto" or not path.is_file():
        return job.prediction
    return job.prediction.model_copy(update={"precision": json.loads(path.read_text())["precision"]})


def _errors_of(job: AcfJob) -> Errors:
    """The settings of the errors; their magnitude is the job's where they name none."""
    return job.errors.model_copy(update={"magnitude": job.errors.magnitude or job.magnitude})


def _settled_precision(on: Session, job: AcfJob, task: HeldOutTask, ledger: Ledger, folder: Path) -> dict[str, Any]:
    """The precision for all that follows, the device it was measured on, and the change of each label, told."""
    stage = run_stage(
        on.client,
        partial(measure_precision, task),
        {name: name for name in task.networks},
        ledger=ledger,
        stage="precision",
        progress=on.progress,
        counts="stars",
        resources=gpu_resources(on.client),
    )
    receipts = stage.receipts
    change = {f"{name} {label}": value for name, each in receipts.items() for label, value in each["change"].items()}
    precision = next(iter(receipts.values()))["precision"]
    worst = max(change.values(), default=0.0)
    if not worst <= MOST_CHANGE:
        told = "labels change by up to %.2g %% of their error by %s%s"
        log.warning(told, 100 * worst, precision, " and compilation" if job.prediction.compile else "")
        if job.prediction.precision == "auto" and precision != "fp32":
            log.warning("the precision is left open by the job: fp32 is used")
            precision = "fp32"
    found = {"precision": precision, "change": change, "device": next(iter(receipts.values()))["device"]}
    write_json(folder / PRECISION_FILE, found)
    return found


def _predict_held_out(on: Session, task: HeldOutTask, n: int, ledger: Ledger) -> tuple[dict[str, pa.Table], float]:
    """Rows of the training set, predictions and deviations of each network; and the peak memory of a worker, MB."""
    parts = [
        HeldOutPart(name, first, min(first + _PART_ROWS, n))
        for name in task.networks
        for first in range(0, max(n, 1), _PART_ROWS)
    ]
    stage = run_stage(
        on.client,
        partial(predict_held_out, task),
        {part.name: part for part in parts},
        ledger=ledger,
        stage="held_out",
        progress=on.progress,
        counts="stars",
        resources=gpu_resources(on.client),
    )
    read = {part: pq.read_table(task.out / f"{part.name}.parquet", partitioning=None) for part in parts}
    tables = {
        name: pa.concat_tables([table for part, table in read.items() if part.network == name])
        for name in task.networks
    }
    return tables, stage.peak_memory_mb


def _as_in_the_job(stars: pa.Table, job: AcfJob) -> pa.Table:
    """The training set with parallax and error also under the names that the job's noise may call them by."""
    for source, name in ((job.parallax, PARALLAX), (job.parallax_error, PARALLAX_ERROR)):
        if source not in stars.column_names:
            stars = stars.append_column(source, stars[name])
    return stars


def _calibrate(
    stars: pa.Table, found: pa.Table, model: TrainedNetwork, settings: Errors, folder: Path
) -> dict[str, int]:
    """Errors of a network's labels and the file of its held-out stars; how many stars calibrated each."""
    rows = stars.take(found["row"])
    validation = rows["split"].to_numpy() == VALIDATION
    magnitude = floats(rows, settings.magnitude) if settings.magnitude else None
    noise = noise_values(rows, settings.noise, where="errors.noise")
    variant = model.name.endswith(NO_PARALLAX)
    tables, counts = [], {}
    for label in model.labels:
        told = Told(floats(found, label), floats(found, f"{label}_std"), floats(rows, label), magnitude, noise)
        path = errors_file(folder, label, without_parallax=variant)
        errors = calibrate_label(path.stem, _some(told, validation), settings)
        if errors is None:
            path.unlink(missing_ok=True)  # of an earlier training
        else:
            with atomic_write(path) as temporary:
                write_errors(temporary, label, errors)
        counts[path.stem.removeprefix("errors_")] = int((told.complete & validation).sum()) if errors else 0
        tables.append(_held_out_table(rows, found, label, told, errors))
    write_table(held_out_file(folder, model.name), pa.concat_tables(tables))
    return counts


def _some(told: Told, chosen: NDArray[np.bool_]) -> Told:
    magnitude = None if told.magnitude is None else told.magnitude[chosen]
    return Told(told.prediction[chosen], told.spread[chosen], told.label[chosen], magnitude, told.noise[chosen])


def _held_out_table(
    rows: pa.Table, found: pa.Table, label: str, told: Told, errors: CalibratedErrors | None
) -> pa.Table:
    unknown = np.full(len(told.label), np.nan)
    err, err95 = (
        (unknown, unknown) if errors is None else errors.apply(told.prediction, told.spread, told.magnitude, told.noise)
    )
    numbers = {"truth": told.label, "prediction": told.prediction, "std": told.spread, "err": err, "err95": err95}
    numbers["magnitude"] = unknown if told.magnitude is None else told.magnitude
    columns = {
        "object_id": rows["object_id"],
        "split": rows["split"],
        "label": pa.array([label] * rows.num_rows, pa.string()),
        **{name: pa.array(values, from_pandas=True) for name, values in numbers.items()},
        "parallax": rows["parallax"],
        "novel": found["novel"],
        "row": found["row"],
    }
    fields = [
        pa.field(name, column.type, metadata=field_metadata("", "", _HELD_OUT[name]) or None)
        for name, column in columns.items()
    ]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


_HELD_OUT = {
    "object_id": "id of the star",
    "split": "1 validation, 2 test",
    "label": "name of the parameter",
    "truth": "the label that the star has",
    "prediction": "mean over the networks drawn by dropout",
    "std": "standard deviation over the networks drawn by dropout",
    "err": "half width of the interval that is to hold 68.27 % of the labels",
    "err95": "half width of the interval that is to hold 95 % of the labels",
    "magnitude": "magnitude by which the errors are calibrated",
    "parallax": "parallax, mas",
    "novel": "whether the star is unlike the training stars of the network",
    "row": "row of the training set",
}
