"""What a worker does to finish one model: put its trees together, save it, predict the stars that did not train."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.config import ModelSpec, digest_of
from stellarscale.engine.growing import GrowTask, TreesOf, read_group, training_arrays
from stellarscale.engine.sampling import CALIBRATE, HELD_OUT, TRAIN
from stellarscale.engine.stars import sample_path
from stellarscale.kernels.conformal import FEWEST
from stellarscale.kernels.forest import predict
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models.calibrate import Calibration, Told, calibrate
from stellarscale.models.fit import fit_estimator
from stellarscale.models.forest import TrainedForest, assemble, describe
from stellarscale.models.store import StoredForest, load, save
from stellarscale.partition.features import floats, matrix
from stellarscale.partition.noise import noise_values

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishTask:
    """What the trees were grown with, and the groups of every model by its name.

    ``limit`` is a column of the samples and the value beyond which stars get no parameters: such stars train, and do
    not count as known (paper I sets their results aside).
    """

    grown: GrowTask
    groups: Mapping[str, tuple[TreesOf, ...]]
    limit: tuple[str, float] | None = None

    @property
    def out(self) -> Path:
        """Directory of the models."""
        return self.grown.out


def finish_model(task: FinishTask, spec: ModelSpec) -> dict[str, Any]:
    """Write a model, and the table of what it says of the stars that did not train.

    Raises
    ------
    ModelError
        If a group of trees is missing or damaged.
    """
    x, y = training_arrays(task.grown, spec)
    groups = [read_group(task.grown, item) for item in task.groups[spec.name]]
    names = task.grown.training.inputs
    trained = assemble(groups, x, y, feature_names=names, config=task.grown.config)
    stars = pq.read_table(sample_path(task.out, spec.name), partitioning=None)
    calibration = _calibrate(task, spec, trained, x, stars)
    path = task.out / f"{spec.name}.npz"
    digest = _save(task, spec, trained, calibration, path)
    others = stars.filter(pc.invert(pc.is_in(stars["role"], value_set=pa.array([TRAIN, CALIBRATE]))))
    evaluated = _evaluated(task, others, load(path, expect_digest=digest))
    with atomic_write(task.out / f"{spec.name}_evaluated.parquet") as temporary:
        pq.write_table(evaluated, temporary)
    test = pc.equal(others["role"], HELD_OUT)
    held_out, tested = others.filter(test), evaluated.filter(test)
    rows = stars.num_rows
    return {
        "rows_in": rows,
        "rows_out": rows,
        "digest": digest,
        "n_train": len(y),
        "n_test": held_out.num_rows,
        "oob_score": trained.oob_score,
        "oob_sigma": trained.sigma,
        "held_out_sigma": robust_sigma(floats(tested, "prediction") - floats(tested, "label")),
        "backend": trained.backend,
        "fit_seconds": round(trained.fit_seconds, 3),
        "importances": [float(value) for value in trained.feature_importances],
        **(_plain_sklearn(task, x, y, held_out) if task.grown.training.compare_with_sklearn else {}),
    }


def _magnitude(task: FinishTask, stars: pa.Table) -> NDArray[np.float64] | None:
    """What the errors depend on, if anything."""
    name = task.grown.training.errors.magnitude
    return floats(stars, name) if name else None


def _calibrate(
    task: FinishTask, spec: ModelSpec, trained: TrainedForest, x: NDArray[np.float32], stars: pa.Table
) -> Calibration | None:
    """Errors and novelty from the stars that the trees did not see; None of too few.

    Of the training stars each is told by the trees that did not see it, of the stars that only calibrate by all.
    """
    training = task.grown.training
    mine = stars.filter(pc.equal(stars["role"], TRAIN))
    told = _told(task, mine, trained.oob_prediction, trained.oob_spread)
    if told.complete.sum() < FEWEST:
        log.warning("model %s: %d stars are too few to calibrate errors on: no errors", spec.name, told.complete.sum())
        return None
    wide = stars.filter(pc.equal(stars["role"], CALIBRATE))
    prediction, spread = predict(trained.packed, matrix(wide, training.inputs))
    return calibrate(
        told,
        x,
        settings=training.errors,
        feature_names=training.inputs,
        n_trees=trained.packed.n_trees,
        further=_told(task, wide, prediction, spread),
        known=_within_limit(task, mine),
    )


def _within_limit(task: FinishTask, stars: pa.Table) -> NDArray[np.bool_]:
    if task.limit is None:
        return np.ones(stars.num_rows, dtype=bool)
    column, limit = task.limit
    return ~(floats(stars, column) > limit)


def _told(task: FinishTask, stars: pa.Table, prediction: NDArray[np.float64], spread: NDArray[np.float64]) -> Told:
    noise = noise_values(stars, task.grown.training.errors.noise)
    return Told(prediction, spread, floats(stars, "label"), _magnitude(task, stars), noise)


def _save(
    task: FinishTask, spec: ModelSpec, trained: TrainedForest, calibration: Calibration | None, path: Path
) -> str:
    training = task.grown.training
    provenance = describe(
        trained,
        label=spec.label,
        unit=training.labels[spec.label].unit,
        class_names=spec.classes,
        config_digest=digest_of(training.decisive, task.grown.seed),
        features_digest=task.grown.features_digest,
    )
    return save(path, trained.packed, provenance, calibration)


def _evaluated(task: FinishTask, stars: pa.Table, model: StoredForest) -> pa.Table:
    """What the model, as written, says of stars, beside their labels."""
    x, magnitude = matrix(stars, task.grown.training.inputs), _magnitude(task, stars)
    said = model.estimate(x, magnitude, noise_values(stars, model.noise))
    columns = {name: stars[name] for name in ("star", "ra", "dec", "role", "source", "label")}
    columns["magnitude"] = pa.nulls(len(x), pa.float32()) if magnitude is None else pa.array(magnitude, pa.float32())
    columns |= {"prediction": pa.array(said.value), "spread": pa.array(said.spread)}
    columns |= {name: pa.array(getattr(said, name), from_pandas=True) for name in ("err", "err95")}
    columns["novel"] = pa.array(said.novel)
    return pa.table(columns)


def _plain_sklearn(
    task: FinishTask, x: NDArray[np.float32], y: NDArray[np.float64], held_out: pa.Table
) -> dict[str, float]:
    """Robust sigma of scikit-learn's own fit and predict on the same split."""
    config = dataclasses.replace(task.grown.config, backend="sklearn", oob_score=False)
    estimator, _ = fit_estimator(x, y, config=config)
    predicted = estimator.predict(matrix(held_out, task.grown.training.inputs))
    return {"sklearn_sigma": robust_sigma(predicted - floats(held_out, "label"))}
