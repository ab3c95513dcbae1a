"""Train the job's forests as tasks, one per model, and find the ones that are trained."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stellarscale.catalog.reader import open_stored
from stellarscale.config import Job, ModelSpec, digest_of
from stellarscale.engine.ledger import Ledger, fingerprint, open_ledger
from stellarscale.engine.stage import run_stage
from stellarscale.engine.training import TrainTask, train_one
from stellarscale.errors import InputError
from stellarscale.products.steps import Session, Summary


@dataclass(frozen=True)
class TrainedModel:
    """A model of the job and the numbers of its training."""

    spec: ModelSpec
    path: Path
    numbers: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the model file."""
        return self.numbers["digest"]

    @property
    def held_out(self) -> Path:
        """Table of the held-out stars: label, prediction, spread."""
        return self.path.with_name(f"{self.spec.name}_held_out.parquet")

    @property
    def summary(self) -> dict[str, Any]:
        """What the command line says of it."""
        names = ("n_train", "n_test", "held_out_sigma", "sklearn_sigma", "oob_score", "backend")
        return {"model": self.spec.name, **{name: self.numbers[name] for name in names if name in self.numbers}}


def train_models(on: Session, job: Job, source: Path, out: Path, steps: list[Summary]) -> list[TrainedModel]:
    """Train every model of the job on a catalogue of training rows.

    Raises
    ------
    RunError
        If a model could not be trained; it names the model and why.
    """
    started = time.perf_counter()
    digest = digest_of("train", job.training, job.features.classes, job.seed, fingerprint(source))
    ledger = open_ledger(out, step="train", digest=digest, about={"inputs": [fingerprint(source)]})
    parallel = min(len(job.training.models), on.threads)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    task = TrainTask(source, out, job.training, job.features.classes, job.seed, max(1, cores // parallel))
    tasks = {spec.name: spec for spec in job.training.models}
    stage = run_stage(on.client, partial(train_one, task), tasks, ledger=ledger, stage="train", progress=on.progress)
    if not ledger.finished:
        ledger.finish({"step": "train", "models": sorted(tasks), "seconds": round(stage.seconds, 3)})
    rows = open_stored(source).properties.rows
    steps.append(
        {
            "step": "train",
            "name": "train",
            "rows_in": rows,
            "written": rows,
            "partitions": len(tasks),
            "seconds": round(time.perf_counter() - started, 3),
            "peak_memory_mb": stage.peak_memory_mb,
            "resumed_partitions": stage.resumed,
        }
    )
    return [TrainedModel(tasks[name], out / f"{name}.npz", receipt) for name, receipt in stage.receipts.items()]


def stored_models(job: Job, out: Path) -> list[TrainedModel]:
    """Models that a run has trained, from their receipts.

    Raises
    ------
    InputError
        If one is missing.
    """
    receipts = Ledger(out).receipts("train")
    missing = [spec.name for spec in job.training.models if spec.name not in receipts]
    if missing:
        raise InputError("the run has not trained all its models", where=out, needed=", ".join(missing))
    return [TrainedModel(spec, out / f"{spec.name}.npz", receipts[spec.name]) for spec in job.training.models]
