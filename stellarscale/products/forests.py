"""Train the job's forests as tasks, groups of trees of every model, and find the ones that are trained."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stellarscale.catalog.atomic import sweep
from stellarscale.config import ModelSpec, SagesJob, digest_of
from stellarscale.engine.growing import TREES, GrowTask, grow_group, plan_groups
from stellarscale.engine.ledger import Ledger, fingerprint, open_ledger
from stellarscale.engine.sampling import SampleTask, build_sample
from stellarscale.engine.stage import StageResult, run_stage
from stellarscale.engine.training import FinishTask, finish_model
from stellarscale.errors import InputError
from stellarscale.products.featured import features_digest
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
        """Table of the stars that did not train, with their role, label, prediction, spread and errors."""
        return self.path.with_name(f"{self.spec.name}_evaluated.parquet")

    @property
    def is_tested(self) -> bool:
        """Whether there is such a table: a model that was given to the job may come without."""
        return self.held_out.is_file()

    @property
    def summary(self) -> dict[str, Any]:
        """What the command line says of it."""
        names = ("n_train", "n_test", "held_out_sigma", "sklearn_sigma", "oob_score", "backend")
        return {"model": self.spec.name, **{name: self.numbers[name] for name in names if name in self.numbers}}


def train_models(on: Session, job: SagesJob, samples: SampleTask, steps: list[Summary]) -> list[TrainedModel]:
    """Train every model of the job: put its sample together, grow its trees in groups, assemble and test it.

    A training that is killed goes on with the groups that are missing.

    Raises
    ------
    StageError
        If a model could not be trained; it names the model and why.
    """
    started = time.perf_counter()
    out, models = samples.out, {spec.name: spec for spec in job.training.models}
    ledger = _ledger(on, job, samples)
    finished = ledger.finished
    stages = list(_train(on, job, samples, ledger))
    trained = stages[-1]
    rows = trained.total("rows_in")
    summary = {
        "step": "train",
        "name": "train",
        "models": sorted(models),
        "rows_in": rows,
        "written": rows,
        "partitions": len(models),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mb": max(stage.peak_memory_mb for stage in stages),
        "resumed_partitions": trained.resumed,
    }
    if finished is None:
        ledger.finish(summary)
    steps.append({**finished, "resumed": True} if finished else summary)
    return [TrainedModel(models[name], out / f"{name}.npz", receipt) for name, receipt in trained.receipts.items()]


def _ledger(on: Session, job: SagesJob, samples: SampleTask) -> Ledger:
    """Claim the directory of the models for these settings, or take it up."""
    out, training = samples.out, job.training
    inputs = [fingerprint(source.path) for source in samples.sources]
    backend = GrowTask(out, training, job.seed).config.backend
    limit = job.output.model_dump(mode="json", include={"colour_limit"})
    settings = {"training": training.decisive, "seed": job.seed, "backend": backend, **limit}
    digest = digest_of("train", settings, job.features.classes, inputs)
    return open_ledger(
        out, step="train", digest=digest, about={"settings": settings, "inputs": inputs}, update=on.update
    )


def _train(on: Session, job: SagesJob, samples: SampleTask, ledger: Ledger) -> Iterator[StageResult]:
    """The three stages: samples, groups of trees of all models, models."""
    out, training, models = samples.out, job.training, {spec.name: spec for spec in job.training.models}
    task = GrowTask(out, training, job.seed, features_digest(job.features))
    sweep(out)
    stage = partial(run_stage, on.client, ledger=ledger, progress=on.progress)
    sampled = stage(partial(build_sample, samples), models, stage="sample")
    yield sampled
    groups = {name: tuple(plan_groups(task, spec, sampled.receipts[name]["n_train"])) for name, spec in models.items()}
    trees = {item.key: item for items in groups.values() for item in items}
    yield stage(partial(grow_group, task), trees, stage="grow", counts="trees")
    yield stage(partial(finish_model, FinishTask(task, groups, job.output.colour_limit)), models, stage="train")
    shutil.rmtree(out / TREES, ignore_errors=True)  # only now: a model that has to be assembled again needs them


def stored_models(job: SagesJob, out: Path) -> list[TrainedModel]:
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
