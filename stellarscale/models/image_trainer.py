"""The epochs of a training on images, as one process of it runs them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from stellarscale.errors import ModelError
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models.ahead import ahead
from stellarscale.models.image_augment import epoch_order
from stellarscale.models.image_checkpoint import Checkpoint, adam_state, restore_adam, save_checkpoint
from stellarscale.models.image_inputs import standard_tensor
from stellarscale.models.image_network import ImageRegressor, build_network
from stellarscale.models.image_parallel import Rank
from stellarscale.models.image_stars import BatchMaker, StandardStars
from stellarscale.models.stopping import check_stop
from stellarscale.settings.image_network import ImageNetwork, ImageTraining

_AHEAD = 3  # batches that wait in memory while one is trained on
_LOOK_EVERY = 50  # batches: reading a loss makes the device wait
_WARM_UP = 0.05


class _Masked(nn.Module):
    """The network with the masks of its head as an input; the backbone in the precision of the training."""

    def __init__(self, network: ImageRegressor, device: torch.device, *, bf16: bool) -> None:
        super().__init__()
        self.network, self.kind, self.bf16 = network, device.type, bf16

    def forward(self, stamps: Tensor, parallax: Tensor | None, masks: Sequence[Tensor] | None) -> Tensor:
        """Standardised labels (n, n_outputs)."""
        with torch.autocast(self.kind, dtype=torch.bfloat16, enabled=self.bf16):
            features = self.network.features(stamps)
        return self.network.head(features.float(), parallax, masks)


@dataclass(frozen=True, eq=False)
class _HostBatch:
    """This process's share of a batch, as :class:`stellarscale.models.image_stars.Batch` has it, in host memory."""

    stamps: Tensor
    parallax: Tensor | None
    targets: Tensor
    weights: Tensor
    masks: list[Tensor] | None


class Trainer:
    """A network in training.

    Parameters
    ----------
    standard : StandardStars
    network : ImageNetwork
    training : ImageTraining
    rank : Rank
        This process: it takes its share of each batch.
    seed : int
        Of weights, order, orientations and dropout.
    where : str
        The network's name, for messages.
    """

    def __init__(
        self,
        standard: StandardStars,
        network: ImageNetwork,
        training: ImageTraining,
        *,
        rank: Rank,
        seed: int,
        where: str,
    ) -> None:
        self.standard, self.training, self.rank, self.seed, self.where = standard, training, rank, seed, where
        self.curve: list[dict[str, Any]] = []
        stamps = standard.stars.open_stamps()
        n_bands, size_px = stamps.shape[1:3]
        n_outputs = standard.targets.shape[1]
        fresh = build_network(network, n_bands=n_bands, size_px=size_px, n_outputs=n_outputs, seed=seed)
        self.network = fresh.to(rank.device)
        self.precision = _precision(training, rank.device)
        self._plain = _Masked(self.network, rank.device, bf16=self.precision == "bf16")
        self._model = rank.wrap(self._plain)
        self._names = [name for name, _ in self.network.named_parameters()]
        self._adam = torch.optim.Adam(
            self.network.parameters(),
            lr=training.learning_rate,
            betas=training.betas,
            weight_decay=training.weight_decay,
            fused=True,
        )
        dropout = (self.network.widths, network.head.dropout)
        share = (rank.index, rank.count)
        self._maker = BatchMaker(standard, stamps, seed, training.augment, dropout, share)
        self._best: dict[str, Tensor] = {}

    @property
    def device_name(self) -> str:
        """What a reader calls the device."""
        on_gpu = self.rank.device.type == "cuda"
        return torch.cuda.get_device_name(self.rank.device) if on_gpu else "CPU"

    def run_epoch(self, epoch: int) -> NDArray[np.float64]:
        """Train on every star once; returns the residuals of the validation, (n, n_labels), in units of the labels."""
        started = time.perf_counter()
        order = epoch_order(self.seed, epoch, self.standard.train)
        batches = np.array_split(order, math.ceil(len(order) / self.training.batch_size))
        total = len(batches) * self.training.epochs
        self._model.train()
        losses: list[Tensor] = []
        steps = [(epoch * len(batches) + number, rows) for number, rows in enumerate(batches)]
        made = ahead(map(partial(self._made, epoch), steps), most=_AHEAD)
        for (step, rows), batch in zip(steps, made, strict=True):
            check_stop()
            rate = self._learning_rate(epoch, step, total)
            try:
                losses.append(self._step(batch, rate))
            except torch.OutOfMemoryError as error:
                raise self._too_large(len(rows), error) from error
            if len(losses) % _LOOK_EVERY == 0 or len(losses) == len(batches):
                self._check_finite(losses, batches, epoch)
        seconds = time.perf_counter() - started
        loss = self._mean_loss(losses, batches)
        residuals = self._residuals()
        self._note(epoch, rate, loss, residuals, seconds)
        return residuals

    def final_weights(self) -> tuple[dict[str, Tensor], int]:
        """The weights to keep, and the epoch that they are of, counted from one."""
        if self.training.keep == "best":
            return self._best, 1 + self._best_epoch()
        return dict(self.network.state_dict()), len(self.curve)

    def save(self, path: Path, *, digest: str, seconds: float) -> None:
        """Write a checkpoint."""
        weights, adam = self.network.state_dict(), adam_state(self._adam, self._names)
        save_checkpoint(path, Checkpoint(digest, self.curve, seconds, weights, adam, self._best))

    def restore(self, known: Checkpoint) -> None:
        """Go on where a checkpoint was written."""
        self.curve = [dict(record) for record in known.curve]
        self.network.load_state_dict(dict(known.weights))
        restore_adam(self._adam, self._names, known.adam)
        self._best = dict(known.best)

    def _made(self, epoch: int, item: tuple[int, NDArray[np.int64]]) -> _HostBatch:
        step, rows = item
        batch = self._maker.batch(rows, epoch=epoch, step=step)
        masks = None if batch.masks is None else [self._host(mask) for mask in batch.masks]
        parallax = None if batch.parallax is None else self._host(batch.parallax)
        return _HostBatch(
            self._host(batch.stamps), parallax, self._host(batch.targets), self._host(batch.weights), masks
        )

    def _host(self, values: NDArray) -> Tensor:
        """Where the device can fetch it from while it works: a GPU from pinned memory only."""
        tensor = torch.from_numpy(values)
        return tensor.pin_memory() if self.rank.device.type == "cuda" else tensor

    def _learning_rate(self, epoch: int, step: int, total: int) -> float:
        return self.training.learning_rate * schedule(self.training, epoch, step, total)

    def _step(self, batch: _HostBatch, rate: float) -> Tensor:
        """One step of Adam; returns this process's part of the loss."""
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.zero_grad(set_to_none=True)
        masks = None if batch.masks is None else [self._sent(mask) for mask in batch.masks]
        parallax = None if batch.parallax is None else self._sent(batch.parallax)
        predicted = self._model(self._stamps(batch.stamps), parallax, masks)
        each = smooth_l1_loss(predicted, self._sent(batch.targets), reduction="none")
        loss = (each * self._sent(batch.weights)).sum()
        # DistributedDataParallel takes the mean over the processes; the loss is the sum of their shares.
        (loss * self.rank.count).backward()
        self._adam.step()
        return loss.detach()

    def _sent(self, values: Tensor) -> Tensor:
        return values.to(self.rank.device, non_blocking=True)

    def _stamps(self, stamps: Tensor) -> Tensor:
        return standard_tensor(self._sent(stamps), self.standard.scaling)

    def _mean_loss(self, losses: Sequence[Tensor], batches: Sequence[NDArray[np.int64]]) -> float:
        """Mean over all labels of the epoch, each by the network as it was at its batch."""
        labels = np.array([np.isfinite(self.standard.targets[rows]).sum() for rows in batches], dtype=np.float64)
        mean = self.rank.summed(torch.stack(list(losses)).double())
        return float(mean.cpu().numpy() @ labels / labels.sum())

    def _residuals(self) -> NDArray[np.float64]:
        """Of the stars of the validation, without dropout; each process predicts its share of them."""
        standard = self.standard
        said = torch.zeros((len(standard.validation), standard.targets.shape[1]), device=self.rank.device)
        mine = np.arange(len(said))[self.rank.index :: self.rank.count]
        self._model.eval()
        with torch.inference_mode():
            for start in range(0, len(mine), self.training.batch_size):
                places = mine[start : start + self.training.batch_size]
                rows = standard.validation[places]
                parallax = self._sent(self._host(standard.parallax[rows])) if standard.parallax is not None else None
                stamps = self._stamps(self._host(np.asarray(self._maker.stamps[rows])))
                said[self._sent(self._host(places))] = self._plain(stamps, parallax, None)
        told = standard.scaling.restore_labels(self.rank.summed(said).cpu().numpy())
        return told - standard.stars.labels[standard.validation]

    def _note(self, epoch: int, rate: float, loss: float, residuals: NDArray[np.float64], seconds: float) -> None:
        """Add the epoch to the curve; keep its weights if they are the best so far."""
        scaled = residuals / np.array(self.standard.scaling.label_std)
        size = np.abs(scaled[np.isfinite(scaled)])
        validation = float(np.where(size < 1, 0.5 * size**2, size - 0.5).mean()) if len(size) else None
        finite = [column[np.isfinite(column)] for column in residuals.T]
        sigmas = {
            name: robust_sigma(column) if len(column) else None
            for name, column in zip(self.standard.stars.names, finite, strict=True)
        }
        self.curve.append(
            {
                "epoch": epoch + 1,
                "learning_rate": rate,
                "loss": loss,
                "validation_loss": validation,
                "validation_sigma": sigmas,
                "stars_per_s": round(len(self.standard.train) / seconds, 1),
            }
        )
        if self.training.keep == "best" and self._best_epoch() == epoch:
            self._best = {name: weight.detach().cpu().clone() for name, weight in self.network.state_dict().items()}

    def _best_epoch(self) -> int:
        """Counted from zero, the first of equals."""
        return min(range(len(self.curve)), key=lambda number: self.curve[number]["validation_loss"])

    def _too_large(self, n_stars: int, error: Exception) -> ModelError:
        return ModelError(
            "the memory of the device is full",
            where=f"network {self.where}, {-(-n_stars // self.rank.count)} stars at a time on {self.device_name}",
            seen=str(error).splitlines()[0],
            cause="`training.batch_size` is too large for it, or others use it too: lower it, or take more devices",
        )

    def _check_finite(self, losses: Sequence[Tensor], batches: Sequence[NDArray[np.int64]], epoch: int) -> None:
        bad = np.flatnonzero(~torch.isfinite(torch.stack(list(losses))).cpu().numpy())
        if not len(bad):
            return
        rows = batches[bad[0]]
        pixels = self._maker.stamps[rows]
        infinite = rows[np.isinf(pixels).any(axis=(1, 2, 3))]
        cause = "the learning rate is too high for this network: lower it, or use the cosine schedule"
        if len(infinite):
            cause = f"infinite pixels: rows {', '.join(map(str, infinite[:5]))} of the training set"
        elif self.precision == "bf16":
            cause += ", or bf16 is too coarse for it (`precision: fp32`)"
        raise ModelError(
            "the loss of the training is not finite",
            where=f"network {self.where}, epoch {epoch + 1}, batch {bad[0] + 1} of {len(batches)}",
            seen=float(losses[bad[0]]),
            needed="a finite loss",
            cause=cause,
        )


def schedule(training: ImageTraining, epoch: int, step: int, total: int) -> float:
    """Learning rate over that at the start, for a batch.

    Parameters
    ----------
    training : ImageTraining
    epoch, step : int
        Numbers of the epoch and of the batch since the start, from zero.
    total : int
        Batches of the whole training.
    """
    if training.schedule == "step":
        return training.decay ** (epoch // training.decay_epochs)
    rise = max(1, round(_WARM_UP * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))


def _precision(training: ImageTraining, device: torch.device) -> str:
    if training.precision != "auto":
        return training.precision
    on_gpu = device.type == "cuda"
    return "bf16" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
