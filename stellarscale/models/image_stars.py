"""The stars of a training on images, as arrays, and the batches that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError, ModelError
from stellarscale.models.image_augment import keep_masks, orientations, turned
from stellarscale.models.image_inputs import ImageScaling, standard_parallax
from stellarscale.models.scaling import Scaling
from stellarscale.models.streams import stream_seed
from stellarscale.settings.image_network import ImageNetwork, ImageTraining

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Values of a star's split."""

FEWEST_STARS = 50
_SCALED_STAMPS = 2000


@dataclass(frozen=True, eq=False)
class TrainingStars:
    """Labelled stars with stamps.

    Attributes
    ----------
    stamps : Path
        File of numpy, (n, n_bands, size, size), stretched as stored, NaN where missing.
    names : tuple of str
        Labels.
    labels : ndarray of float64, shape (n, n_labels)
        NaN where a star has none.
    parallax : ndarray of float64, shape (n, 2)
        Parallax and its error, mas; NaN where missing.
    split : ndarray of int8, shape (n,)
        0 training, 1 validation, 2 test.
    """

    stamps: Path
    names: tuple[str, ...]
    labels: NDArray[np.float64]
    parallax: NDArray[np.float64]
    split: NDArray[np.int8]

    def only(self, names: Sequence[str]) -> TrainingStars:
        """The same with some of the labels."""
        columns = [self.names.index(name) for name in names]
        return replace(self, names=tuple(names), labels=self.labels[:, columns])

    def open_stamps(self) -> NDArray:
        """The stamps, mapped into memory.

        Raises
        ------
        ModelError
            If there is not one for each star.
        """
        stamps = np.load(self.stamps, mmap_mode="r", allow_pickle=False)
        if stamps.ndim != 4 or len(stamps) != len(self.labels):
            raise ModelError(
                "stamps do not fit the stars", where=self.stamps, seen=stamps.shape, needed=f"{len(self.labels)} stamps"
            )
        return stamps


@dataclass(frozen=True, eq=False)
class StandardStars:
    """Stars as a network takes them.

    Attributes
    ----------
    stars : TrainingStars
    scaling : ImageScaling
        From the training stars.
    targets : ndarray of float32, shape (n, n_labels)
        Standardised labels, NaN where missing.
    parallax : ndarray of float32, shape (n, 2), or None
        Standardised; None for a network without.
    train, validation : ndarray of int64
        Rows of the stars that take part.
    left_out : int
        Stars of both that cannot: a label, but no usable parallax.
    """

    stars: TrainingStars
    scaling: ImageScaling
    targets: NDArray[np.float32]
    parallax: NDArray[np.float32] | None
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    left_out: int

    @classmethod
    def of(cls, stars: TrainingStars, network: ImageNetwork) -> StandardStars:
        """Standardise by the training stars.

        Raises
        ------
        InputError
            If fewer than 50 stars can train.
        """
        labelled = np.isfinite(stars.labels).any(axis=1)
        scaling = _scaling(stars, np.flatnonzero(labelled & (stars.split == TRAIN)), network)
        usable, parallax = labelled, None
        if network.parallax:
            parallax = standard_parallax(stars.parallax[:, 0], stars.parallax[:, 1], scaling, network.head)
            usable = labelled & np.isfinite(parallax).all(axis=1)
        train = np.flatnonzero(usable & (stars.split == TRAIN))
        _require_stars(len(train), stars)
        return cls(
            stars,
            scaling,
            targets=scaling.standard_labels(stars.labels),
            parallax=parallax,
            train=train,
            validation=np.flatnonzero(usable & (stars.split == VALIDATION)),
            left_out=int((labelled & ~usable & (stars.split != TEST)).sum()),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """A process's share of a batch.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
    stamps : ndarray, shape (n, n_bands, size, size)
        As stored, in the orientation of the epoch.
    parallax : ndarray of float32, shape (n, 2), or None
    targets, weights : ndarray of float32, shape (n, n_labels)
        The weight of a label in the mean of the whole batch; 0 where it is missing, and the target too.
    masks : list of ndarray of bool, (n, width), or None
        What each dense layer of the head keeps; None where nothing is dropped.
    """

    rows: NDArray[np.int64]
    stamps: NDArray
    parallax: NDArray[np.float32] | None
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    masks: list[NDArray[np.bool_]] | None


@dataclass(frozen=True, eq=False)
class BatchMaker:
    """Makes the batches of a training, each the same whatever was made before and however it is shared.

    ``share`` is (number of this process, processes); ``dropout`` the widths of the head's layers and their rate.
    """

    standard: StandardStars
    stamps: NDArray
    seed: int
    augment: bool
    dropout: tuple[tuple[int, ...], float]
    share: tuple[int, int] = (0, 1)

    def batch(self, rows: NDArray[np.int64], *, epoch: int, step: int) -> Batch:
        """This process's share of a batch of the training; a process that gets no star has one of weight 0."""
        place = np.arange(len(rows))[self.share[0] :: self.share[1]]
        idle = not len(place)
        place = np.zeros(1, dtype=np.int64) if idle else place
        known = np.isfinite(self.standard.targets[rows])
        mine = rows[place]
        weights = known[place] * (0.0 if idle else 1.0 / known.sum())
        return Batch(
            rows=mine,
            stamps=self._stamps(mine, epoch),
            parallax=self.standard.parallax[mine] if self.standard.parallax is not None else None,
            targets=np.nan_to_num(self.standard.targets[mine], nan=0.0),
            weights=weights.astype(np.float32),
            masks=self._masks(len(rows), step, place),
        )

    def _stamps(self, rows: NDArray[np.int64], epoch: int) -> NDArray:
        stamps = np.asarray(self.stamps[rows])
        return turned(stamps, orientations(self.seed, epoch, rows)) if self.augment else stamps

    def _masks(self, n: int, step: int, place: NDArray[np.int64]) -> list[NDArray[np.bool_]] | None:
        widths, rate = self.dropout
        if not rate:
            return None
        return [mask[place] for mask in keep_masks(self.seed, step, n, widths=widths, rate=rate)]


def _scaling(stars: TrainingStars, rows: NDArray[np.int64], network: ImageNetwork) -> ImageScaling:
    """Scaling of the training stars, each label by the stars that have it."""
    _require_stars(len(rows), stars)
    labels = stars.labels[rows]
    each = [Scaling.of(column[np.isfinite(column)]) for column in labels.T]
    few = rows[:: max(-(-len(rows) // _SCALED_STAMPS), 1)]
    bands = np.asarray(stars.open_stamps()[few])
    filled = np.where(np.isfinite(labels), labels, [float(label.mean) for label in each])
    scaling = ImageScaling.of(bands, stars.parallax[rows], filled, network)
    means = tuple(float(label.mean) for label in each)
    return replace(scaling, label_mean=means, label_std=tuple(float(label.deviation) for label in each))


def _require_stars(n: int, stars: TrainingStars) -> None:
    if n < FEWEST_STARS:
        raise InputError(
            "too few stars to train a network",
            where=f"labels {', '.join(stars.names)}",
            seen=f"{n} training stars that have what the network needs",
            needed=FEWEST_STARS,
            cause="few of the labelled stars have stamps in all bands, or a parallax",
        )


def decisive(training: ImageTraining) -> dict[str, Any]:
    """The settings of a training that decide what the network says; the others change its rounding at most."""
    aside = {"devices", "checkpoint_epochs", "early_look", "split", "without_parallax"}
    return training.model_dump(mode="json", exclude=aside)


def training_seed(seed: int, name: str) -> int:
    """Seed of everything that is drawn for a network, from that of the job and its name."""
    return stream_seed(seed, "image network", name)
