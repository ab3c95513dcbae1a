"""Training of a network on images: smooth L1 loss, Adam, augmentation, checkpoints (paper III, section 3.4)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import stellarscale
from stellarscale.config import digest_of
from stellarscale.errors import InputError
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models.image_checkpoint import ENDING, load_checkpoint
from stellarscale.models.image_parallel import Devices, Message, Rank, Tell, run_ranks
from stellarscale.models.image_stars import StandardStars, TrainingStars, decisive, training_seed
from stellarscale.models.image_store import ImageModel, save_image_model
from stellarscale.models.image_trainer import Trainer
from stellarscale.models.stopping import stop_is_asked
from stellarscale.settings.image_network import ImageNetwork, ImageTraining
from stellarscale.stamp_columns import StampFormat

log = logging.getLogger(__name__)
_TOLD_EVERY_S = 20.0
_CHECKPOINT_SHARE = 0.02  # of the time, that checkpoints may take beyond those that the settings ask for


@dataclass(frozen=True)
class TrainingPlan:
    """A network to train.

    Attributes
    ----------
    name : str
        Of the network and its files.
    units : tuple of str
        Of the labels.
    network : ImageNetwork
    training : ImageTraining
    stamps : StampFormat
        What the pixels mean.
    seed : int
        Of the job.
    out : Path
        Directory of the models.
    config_digest : str
        Digest of the job's settings, to be kept in the model.
    """

    name: str
    units: tuple[str, ...]
    network: ImageNetwork
    training: ImageTraining
    stamps: StampFormat
    seed: int
    out: Path
    config_digest: str = ""

    @property
    def model_path(self) -> Path:
        """Where the network is when it is finished."""
        return self.out / f"{self.name}.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        """Where the training is kept until then."""
        return self.out / f"{self.name}{ENDING}"

    def digest(self, stars: TrainingStars) -> str:
        """Of all that decides the weights."""
        arrays = [sha256(array.tobytes()).hexdigest() for array in (stars.labels, stars.parallax, stars.split)]
        return digest_of(
            self.name, self.network, decisive(self.training), repr(self.stamps), self.seed, stars.names, arrays
        )


def train_network(
    stars: TrainingStars, plan: TrainingPlan, devices: Devices, *, listen: Callable[[Message], None] | None = None
) -> dict[str, Any]:
    """Train a network, or go on with its training, and write it.

    The weights depend on the settings, the seed and the stars. A training that was stopped or killed goes on from its
    last checkpoint and gives the same weights as one that was not; on several devices they differ by rounding.

    Parameters
    ----------
    stars : TrainingStars
        With the labels of this network.
    plan : TrainingPlan
    devices : Devices
        From :func:`stellarscale.models.image_parallel.plan_devices`.
    listen : callable, optional
        Told of each epoch, ``{"kind": "epoch", ...}``, and of the early look, ``{"kind": "early_look", ...}``.

    Returns
    -------
    dict
        ``digest`` of the model's file, ``n_train``, ``n_validation``, ``left_out``, ``curve`` (a record of each
        epoch), ``kept_epoch``, ``seconds``, ``stars_per_s``, ``parameters``, ``device``, ``processes``,
        ``precision``.

    Raises
    ------
    InputError
        If too few stars can train, or the best epoch is to be kept and no star tells which that is.
    ModelError
        If the loss is not finite, or the checkpoint cannot be used.
    StoppedError
        After :func:`stellarscale.models.stopping.ask_to_stop`, at the next step; the checkpoint is there.
    """
    standard = StandardStars.of(stars, plan.network)
    if plan.training.keep == "best" and not len(standard.validation):
        raise InputError(
            "no stars tell which epoch is best",
            where=f"network {plan.name}",
            seen="no stars of the validation",
            needed="a share for them in training.split, or `keep: last`",
        )
    plan.out.mkdir(parents=True, exist_ok=True)
    arguments = (standard, plan, plan.digest(stars))
    record = run_ranks(_work, arguments, devices, _told(plan, listen or _nobody))
    plan.checkpoint_path.unlink(missing_ok=True)
    return record


def _work(rank: Rank, tell: Tell, standard: StandardStars, plan: TrainingPlan, digest: str) -> dict[str, Any]:
    """What each process does; only the first one writes."""
    started = time.perf_counter()
    trainer = Trainer(
        standard, plan.network, plan.training, rank=rank, seed=training_seed(plan.seed, plan.name), where=plan.name
    )
    known = load_checkpoint(plan.checkpoint_path, digest=digest)
    before = 0.0
    if known is not None:
        trainer.restore(known)
        before = known.seconds
    first = len(trainer.curve)
    keep = partial(trainer.save, plan.checkpoint_path, digest=digest)
    saving = _Saving(plan.training.checkpoint_epochs)
    if rank.leads and first:
        log.info("network %s: goes on after epoch %d of %d", plan.name, first, plan.training.epochs)
    for epoch in range(first, plan.training.epochs):
        residuals = trainer.run_epoch(epoch)
        if not rank.leads:
            continue
        tell({"kind": "epoch", **trainer.curve[-1]})
        if epoch + 1 == min(plan.training.early_look, plan.training.epochs):
            tell({"kind": "early_look", **_early_look(standard, residuals, epoch + 1)})
        if epoch + 1 < plan.training.epochs and saving.is_due(epoch + 1):
            saving.time(partial(keep, seconds=before + time.perf_counter() - started))
    seconds = time.perf_counter() - started
    if not rank.leads:
        return {}
    weights, kept = trainer.final_weights()
    return {
        "digest": save_image_model(plan.model_path, weights, _model(standard, plan)),
        "n_train": len(standard.train),
        "n_validation": len(standard.validation),
        "left_out": standard.left_out,
        "curve": trainer.curve,
        "kept_epoch": kept,
        "seconds": round(before + seconds, 3),
        "stars_per_s": round(len(standard.train) * (plan.training.epochs - first) / seconds, 1),
        "parameters": sum(weight.numel() for weight in weights.values()),
        "device": trainer.device_name,
        "processes": rank.count,
        "precision": trainer.precision,
    }


class _Saving:
    """When a checkpoint is due: after so many epochs, and earlier where it takes next to no time, or work is to end."""

    def __init__(self, every_epochs: int) -> None:
        self._every = every_epochs
        self._took_s, self._last = 0.0, time.perf_counter()

    def is_due(self, epochs: int) -> bool:
        """Whether to write one after so many epochs."""
        cheap = self._took_s <= _CHECKPOINT_SHARE * (time.perf_counter() - self._last)
        return epochs % self._every == 0 or cheap or stop_is_asked()

    def time(self, save: Callable[[], None]) -> None:
        """Write one, and note what it takes."""
        started = time.perf_counter()
        save()
        self._last = time.perf_counter()
        self._took_s = self._last - started


def _model(standard: StandardStars, plan: TrainingPlan) -> ImageModel:
    return ImageModel(
        labels=standard.stars.names,
        units=plan.units,
        network=plan.network,
        stamps=plan.stamps,
        scaling=standard.scaling,
        n_train=len(standard.train),
        seed=plan.seed,
        config_digest=plan.config_digest,
        versions={"stellarscale": stellarscale.__version__, "torch": str(torch.__version__)},
    )


def _early_look(standard: StandardStars, residuals: NDArray[np.float64], epoch: int) -> dict[str, Any]:
    """Residuals of the validation beside those of a predictor that says the mean of the training stars."""
    labels = standard.stars.labels[standard.validation]
    told: dict[str, Any] = {}
    for column, name in enumerate(standard.stars.names):
        known = np.isfinite(labels[:, column])
        if not known.any():
            continue
        residual = residuals[known, column]
        by_mean = standard.scaling.label_mean[column] - labels[known, column]
        told[name] = {
            "n": int(known.sum()),
            "bias": float(np.median(residual)),
            "sigma": robust_sigma(residual),
            "mean_predictor_sigma": robust_sigma(by_mean),
            "better_than_mean": bool(np.abs(residual).mean() < np.abs(by_mean).mean()),
        }
    return {"epoch": epoch, "labels": told}


def _told(plan: TrainingPlan, listen: Tell) -> Tell:
    """Log what the training tells, an epoch now and then and the last one, and pass it on."""
    due = 0.0

    def told(message: Message) -> None:
        """Log one message, if it is time for one."""
        nonlocal due
        if message["kind"] != "epoch":
            _warn(plan, message)
        elif time.perf_counter() >= due or message["epoch"] == plan.training.epochs:
            due = time.perf_counter() + _TOLD_EVERY_S
            log.info(
                "network %s: epoch %d of %d, loss %.5f, validation %.5f, %.0f stars/s",
                plan.name,
                message["epoch"],
                plan.training.epochs,
                message["loss"],
                np.nan if message["validation_loss"] is None else message["validation_loss"],
                message["stars_per_s"],
            )
        listen(message)

    return told


def _warn(plan: TrainingPlan, look: Mapping[str, Any]) -> None:
    for name, told in look["labels"].items():
        if not told["better_than_mean"]:
            log.warning(
                "network %s: after %d epochs it tells %s no better than the mean of the training stars (residuals of "
                "%d stars: bias %.3g, sigma %.3g, by the mean %.3g): look at the stamps, the labels and the learning "
                "rate",
                plan.name,
                look["epoch"],
                name,
                told["n"],
                told["bias"],
                told["sigma"],
                told["mean_predictor_sigma"],
            )


def _nobody(message: Message) -> None:
    """Who listens when nobody does."""
