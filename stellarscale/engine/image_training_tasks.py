"""What a worker does to train one network on images. No Dask here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stellarscale.engine.gpu import Share
from stellarscale.engine.image_training_set import read_training_set
from stellarscale.engine.ledger import write_json
from stellarscale.settings.image_network import ImageNetwork, ImageTraining
from stellarscale.stamp_columns import StampFormat

log = logging.getLogger(__name__)
JOINT, NO_PARALLAX = "joint", "_no_parallax"
_ONE_AT_A_TIME = threading.Lock()
"""A training takes all cores, or all GPUs, of its process: two of them side by side would only wait for each other."""


@dataclass(frozen=True)
class NetworkSpec:
    """A network to train: its name, the labels that it gives, and its shape."""

    name: str
    labels: tuple[str, ...]
    network: ImageNetwork


@dataclass(frozen=True)
class NetworkTask:
    """What the networks of a job have in common.

    Attributes
    ----------
    folder, out : Path
        The training set, and the directory of the models.
    training : ImageTraining
    units : mapping of str to str
        Of the labels.
    stamps : StampFormat
        What the pixels mean.
    seed : int
        Of the job.
    config_digest : str
        Digest of the settings that decide what the networks say, to be kept in the models.
    share : Share
        What a process that trains may take of its machine's cores.
    """

    folder: Path
    out: Path
    training: ImageTraining
    units: Mapping[str, str]
    stamps: StampFormat
    seed: int
    config_digest: str
    share: Share = field(default_factory=Share)


def network_specs(labels: Sequence[str], network: ImageNetwork, training: ImageTraining) -> list[NetworkSpec]:
    """The networks of a job: one for each label or one for all, and the same without parallax if that is asked for."""
    named = [(JOINT, tuple(labels))] if network.joint else [(label, (label,)) for label in labels]
    specs = [NetworkSpec(name, mine, network) for name, mine in named]
    if network.parallax and training.without_parallax:
        blind = network.model_copy(update={"parallax": False})
        specs += [NetworkSpec(f"{name}{NO_PARALLAX}", mine, blind) for name, mine in named]
    return specs


def record_path(out: Path, name: str) -> Path:
    """Where the record of a training is: numbers, and the curve."""
    return out / f"{name}.json"


def train_one(task: NetworkTask, spec: NetworkSpec) -> dict[str, Any]:
    """Train a network, and write it and the record of its training; one at a time in a process.

    The residuals of the early look go to ``<name>_early_look.json`` while the training runs.

    Raises
    ------
    CatalogError
        If the training set is damaged.
    InputError, ModelError
        As :func:`stellarscale.models.image_training.train_network` and
        :func:`stellarscale.models.image_parallel.plan_devices`.
    """
    # Here, because torch takes a second to load, and reading a job should not.
    from stellarscale.models.image_parallel import plan_devices
    from stellarscale.models.image_passes import say_no_gpu
    from stellarscale.models.image_training import TrainingPlan, train_network

    stars = read_training_set(task.folder, spec.labels)
    plan = TrainingPlan(
        name=spec.name,
        units=tuple(task.units[label] for label in spec.labels),
        network=spec.network,
        training=task.training,
        stamps=task.stamps,
        seed=task.seed,
        out=task.out,
        config_digest=task.config_digest,
    )

    def listen(message: dict[str, Any]) -> None:
        if message["kind"] == "early_look":
            look = {"epoch": message["epoch"], "labels": message["labels"]}
            write_json(task.out / f"{spec.name}_early_look.json", look)

    with _ONE_AT_A_TIME:
        devices = plan_devices(task.training.devices, threads=task.share.threads)
        if devices.kind == "cpu":
            say_no_gpu()
        log.info(
            "network %s: trains on %s, processes: %d, threads of the CPU in all: %d",
            spec.name,
            devices.kind,
            devices.processes,
            devices.threads,
        )
        record = train_network(stars, plan, devices, listen=listen)
    write_json(record_path(task.out, spec.name), record)
    numbers = {name: value for name, value in record.items() if name not in {"curve", "seconds"}}
    rows = record["n_train"] + record["n_validation"]
    return {**numbers, "last_epoch": record["curve"][-1], "rows_in": rows, "rows_out": rows}
