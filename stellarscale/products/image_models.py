"""The training set and the networks of a job on images: made, found finished, or taken from another run."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stellarscale.catalog.atomic import sweep
from stellarscale.catalog.reader import open_stored
from stellarscale.config import digest_of
from stellarscale.engine.gpu import gpu_resources, share_of_machine
from stellarscale.engine.image_scoring import GROUP_COLUMNS
from stellarscale.engine.image_training_rows import TrainingSetTask, check_training_set
from stellarscale.engine.image_training_set import build_training_set
from stellarscale.engine.image_training_tasks import NetworkSpec, NetworkTask, network_specs, record_path, train_one
from stellarscale.engine.ledger import Ledger, fingerprint, open_ledger
from stellarscale.engine.stage import run_stage
from stellarscale.errors import InputError, ModelError
from stellarscale.models.image_stars import decisive
from stellarscale.models.image_store import check_labels, check_stamps, load_image_model
from stellarscale.partition.noise import noise_columns
from stellarscale.products.image_files import check_trained, given_digest
from stellarscale.products.steps import Session, Summary
from stellarscale.settings.acf import AcfJob
from stellarscale.stamp_columns import format_of

TRAINING_SET = "training"
MODELS = "models"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network of the job and the numbers of its training."""

    spec: NetworkSpec
    path: Path
    numbers: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of the network and its files."""
        return self.spec.name

    @property
    def labels(self) -> tuple[str, ...]:
        """What it gives."""
        return self.spec.labels

    @property
    def parallax(self) -> bool:
        """Whether it looks at the parallax."""
        return self.spec.network.parallax

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return str(self.numbers["digest"])

    @property
    def curve(self) -> list[dict[str, Any]]:
        """A record of each epoch; empty for a network that came without."""
        path = record_path(self.path.parent, self.name)
        return json.loads(path.read_text())["curve"] if path.is_file() else []

    @property
    def summary(self) -> dict[str, Any]:
        """What the command line says of it."""
        names = ("n_train", "n_validation", "kept_epoch", "stars_per_s", "device", "precision", "processes")
        known = {name: self.numbers[name] for name in names if name in self.numbers}
        return {"network": self.name, **known, **self.numbers.get("last_epoch", {})}


def training_set(on: Session, job: AcfJob, labelled: Path, out: Path, steps: list[Summary]) -> Path:
    """Write the labelled stars and their stamps as arrays, in the directory ``training`` of the run.

    Raises
    ------
    StageError
        If they cannot be used, or are too few; the message says why.
    RunError
        If the directory was made with other settings.
    """
    started = time.perf_counter()
    task = training_set_task(job, labelled, out / TRAINING_SET)
    layout = check_training_set(task)
    settings = {name: value for name, value in asdict(task).items() if name not in {"source", "out", "labels"}}
    settings |= {"labels": {name: label.model_dump(mode="json") for name, label in task.labels.items()}}
    settings |= {"stamps": asdict(layout)}
    inputs = [fingerprint(labelled)]
    ledger = open_ledger(
        task.out,
        step="training set",
        digest=digest_of("training set", settings, inputs),
        about={"settings": settings, "inputs": inputs},
        update=on.update,
    )
    finished = ledger.finished
    if finished is not None:
        steps.append({**finished, "resumed": True})
        return task.out
    sweep(task.out)
    stage = run_stage(
        on.client, build_training_set, {"training set": task}, ledger=ledger, stage="training set", progress=on.progress
    )
    record = stage.receipts["training set"]
    summary = {
        "step": "training set",
        "name": TRAINING_SET,
        **{name: value for name, value in record.items() if name not in {"key", "host", "rows_out"}},
        "written": record["rows_out"],
        "partitions": 1,
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mb": stage.peak_memory_mb,
    }
    ledger.finish(summary)
    steps.append(summary)
    return task.out


def training_set_task(job: AcfJob, labelled: Path, out: Path) -> TrainingSetTask:
    """The columns and cuts of a job's training set."""
    return TrainingSetTask(
        source=labelled,
        out=out,
        labels=job.labels.labels,
        parallax=(job.parallax, job.parallax_error),
        needs_parallax=job.network.parallax,
        object_id=job.stamps.object_id,
        keep=carried_columns(job, open_stored(labelled).schema.names),
        split=job.training.split,
        seed=job.seed,
    )


def carried_columns(job: AcfJob, there: Collection[str]) -> tuple[str, ...]:
    """Columns that errors, comparisons and plots of the training stars need, beside those of the networks.

    ``there`` are the columns of the labelled stars: some are carried along only where they are.
    """
    magnitudes = list(job.comparisons.magnitudes.values()) if job.comparisons else []
    dust = job.stamps.reddening.column if job.stamps.reddening else None
    named = [job.magnitude, job.errors.magnitude, dust, *noise_columns(job.errors.noise), *magnitudes]
    named += [name for name in GROUP_COLUMNS if name in there]
    own = {job.parallax, job.parallax_error, job.stamps.object_id}
    return tuple(dict.fromkeys(name for name in named if name and name not in own))


def train_networks(on: Session, job: AcfJob, labelled: Path, out: Path, steps: list[Summary]) -> list[TrainedNetwork]:
    """Train every network of the job on the stars of a catalogue of stamps, in the directory ``models`` of the run.

    A network that is finished is not trained again, and one whose training was killed goes on from its checkpoint.

    Parameters
    ----------
    on : Session
    job : AcfJob
    labelled : Path
        HATS catalogue of the labelled stars with their stamps.
    out : Path
        Directory of the run.
    steps : list of dict
        Summaries, to which those of the training set and of the training are added.

    Raises
    ------
    StageError
        If a network could not be trained; it names the network and why.
    ModelError
        If the file of a finished network was altered since.
    """
    folder = training_set(on, job, labelled, out, steps)
    started = time.perf_counter()
    made = Ledger(folder).receipts("training set")["training set"]
    settings = _settings(job, made["digest"])
    ledger = open_ledger(
        out / MODELS, step="train", digest=digest_of("train", settings), about={"settings": settings}, update=on.update
    )
    finished = ledger.finished
    sweep(out / MODELS)
    check_trained(ledger, out / MODELS)
    specs = {spec.name: spec for spec in network_specs(tuple(job.labels.labels), job.network, job.training)}
    task = NetworkTask(
        folder=folder,
        out=out / MODELS,
        training=job.training,
        units=job.units,
        stamps=format_of(open_stored(labelled).schema),
        seed=job.seed,
        config_digest=ledger.run()["digest"],
        share=share_of_machine(on.client, tasks=len(specs)),
    )
    stage = run_stage(
        on.client,
        partial(train_one, task),
        specs,
        ledger=ledger,
        stage="train",
        progress=on.progress,
        counts="stars",
        resources=gpu_resources(on.client),
    )
    summary = {
        "step": "train",
        "name": "train",
        "models": list(specs),
        "rows_in": stage.total("rows_in"),
        "written": stage.total("rows_out"),
        "partitions": len(specs),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mb": stage.peak_memory_mb,
        "resumed_partitions": stage.resumed,
    }
    if finished is None or stage.resumed < len(specs):
        ledger.finish(summary)
        steps.append(summary)
    else:
        steps.append({**finished, "resumed": True})
    return [_network(specs[name], out / MODELS, receipt) for name, receipt in stage.receipts.items()]


def stored_networks(job: AcfJob, out: Path) -> list[TrainedNetwork]:
    """Networks that a run has trained, from their receipts.

    Raises
    ------
    InputError
        If one is missing.
    """
    receipts = Ledger(out / MODELS).receipts("train")
    specs = network_specs(tuple(job.labels.labels), job.network, job.training)
    missing = [spec.name for spec in specs if spec.name not in receipts]
    if missing:
        raise InputError("the run has not trained all its networks", where=out / MODELS, needed=", ".join(missing))
    return [_network(spec, out / MODELS, receipts[spec.name]) for spec in specs]


def given_networks(job: AcfJob) -> list[TrainedNetwork]:
    """Networks that another run has trained, checked against the job and used as they are.

    Those without parallax that are there for the comparison are not asked for: only their own run compares them.

    Raises
    ------
    ModelError
        If a file is missing or damaged or not the one of the record beside it, or its network is for other stamps,
        labels or units than the job's, or of another shape.
    """
    assert job.pretrained is not None, "called for a job that names a directory"
    folder = Path(job.pretrained).absolute()
    specs = network_specs(tuple(job.labels.labels), job.network, job.training)
    return [_given(job, folder, spec) for spec in specs if spec.network.parallax == job.network.parallax]


def _given(job: AcfJob, folder: Path, spec: NetworkSpec) -> TrainedNetwork:
    path = folder / f"{spec.name}.safetensors"
    digest = given_digest(path)
    model, _ = load_image_model(path)
    check_labels(model, {label: job.units[label] for label in spec.labels}, where=path)
    check_stamps(model, job.stamps.format, where=path)
    own, wanted = model.network.model_dump(mode="json"), spec.network.model_dump(mode="json")
    if own != wanted:
        differing = [name for name in wanted if own[name] != wanted[name]]
        raise ModelError(
            "the network is of another shape than the job's",
            where=path,
            seen=", ".join(f"{name} {own[name]}" for name in differing),
            needed=", ".join(f"{name} {wanted[name]}" for name in differing),
            cause="the job's `network` is not that of the job that trained it",
        )
    return TrainedNetwork(spec, path, {"digest": digest, "n_train": model.n_train})


def _network(spec: NetworkSpec, models: Path, receipt: Mapping[str, Any]) -> TrainedNetwork:
    return TrainedNetwork(spec, models / f"{spec.name}.safetensors", receipt)


def _settings(job: AcfJob, training_digest: str) -> dict[str, Any]:
    """What decides what the networks say: other devices or another early look train nothing again."""
    return {
        "network": job.network.model_dump(mode="json"),
        "training": decisive(job.training),
        "units": dict(job.units),
        "seed": job.seed,
        "training_set": training_digest,
    }
