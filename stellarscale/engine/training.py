"""What a worker does to train one model: collect the rows, hold some out, fit, save, test. No Dask here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.config import Classes, ModelSpec, Training, digest_of
from stellarscale.errors import InputError
from stellarscale.kernels.forest import predict
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models.forest import ForestConfig, describe, fit_estimator, train
from stellarscale.models.split import held_out
from stellarscale.models.store import load, save
from stellarscale.partition.features import class_code, floats, matrix

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainTask:
    """Where training rows are, where models go, and the settings of all models."""

    source: Path
    out: Path
    training: Training
    classes: Classes | None
    seed: int
    n_jobs: int


@dataclass(frozen=True)
class Sample:
    """Arrays of one model's stars, in catalogue order."""

    x: NDArray[np.float32]
    y: NDArray[np.float64]
    test: NDArray[np.bool_]


def train_one(task: TrainTask, spec: ModelSpec) -> dict[str, Any]:
    """Train one forest; write the model and what it says of the stars held out.

    Raises
    ------
    InputError
        If fewer stars than ``training.min_stars`` are left for the model.
    """
    sample = _sample(task, spec)
    settings = task.training.forest
    config = ForestConfig(**settings.model_dump(), seed=task.seed, n_jobs=task.n_jobs)
    trained = train(sample.x[~sample.test], sample.y[~sample.test], feature_names=task.training.inputs, config=config)
    label = task.training.labels[spec.label]
    provenance = describe(
        trained,
        label=spec.label,
        unit=label.unit,
        class_names=spec.classes,
        config_digest=digest_of(task.training, task.classes, task.seed),
    )
    path = task.out / f"{spec.name}.npz"
    digest = save(path, trained.packed, provenance)
    sigma = _test(task, spec, sample, path, digest)
    comparison = _plain_sklearn(sample, config) if task.training.compare_with_sklearn else {}
    return {
        "rows_in": len(sample.y),
        "rows_out": len(sample.y),
        "digest": digest,
        "n_train": int((~sample.test).sum()),
        "n_test": int(sample.test.sum()),
        "oob_score": trained.oob_score,
        "oob_sigma": trained.sigma,
        "held_out_sigma": sigma,
        "backend": trained.backend,
        "fit_seconds": round(trained.fit_seconds, 3),
        "importances": [float(value) for value in trained.feature_importances],
        **comparison,
    }


def _sample(task: TrainTask, spec: ModelSpec) -> Sample:
    """The stars that have the label and are of the model's classes."""
    label = f"label_{spec.label}"
    columns = [*task.training.inputs, label, *(["class_code"] if spec.classes else [])]
    table = read_columns(open_stored(task.source), list(dict.fromkeys(columns)))
    keep = np.isfinite(floats(table, label))
    if spec.classes and task.classes is not None:
        codes = [class_code(task.classes, name) for name in spec.classes]
        keep &= np.isin(floats(table, "class_code"), codes)
    if keep.sum() < task.training.min_stars:
        raise InputError(
            "too few stars to train a model",
            where=f"model {spec.name}",
            seen=int(keep.sum()),
            needed=f"{task.training.min_stars} (training.min_stars)",
            cause="the label catalogue hardly overlaps, the cuts are too tight, or the class is rare",
        )
    table = table.filter(pa.array(keep))
    test = held_out(table.num_rows, test_fraction=task.training.test_fraction, seed=task.seed)
    return Sample(matrix(table, task.training.inputs), floats(table, label), test)


def _test(task: TrainTask, spec: ModelSpec, sample: Sample, path: Path, digest: str) -> float:
    """Predict the held-out stars with the model as written, keep the table, and return the robust sigma."""
    stored = load(path, expect_digest=digest)
    mean, spread = predict(stored.packed, np.ascontiguousarray(sample.x[sample.test]))
    truth = sample.y[sample.test]
    table = pa.table({"label": truth, "prediction": mean, "spread": spread})
    with atomic_write(task.out / f"{spec.name}_held_out.parquet") as temporary:
        pq.write_table(table, temporary)
    return robust_sigma(mean - truth)


def _plain_sklearn(sample: Sample, config: ForestConfig) -> dict[str, float]:
    """Robust sigma of scikit-learn's own fit and predict on the same split."""
    plain = ForestConfig(**{**config.__dict__, "backend": "sklearn", "oob_score": False})
    estimator, _ = fit_estimator(sample.x[~sample.test], sample.y[~sample.test], config=plain)
    residual = estimator.predict(sample.x[sample.test]) - sample.y[sample.test]
    return {"sklearn_sigma": robust_sigma(residual)}
