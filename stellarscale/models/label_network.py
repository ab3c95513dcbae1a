"""Stellar labels from spectra by a small network, and the stars whose labels it cannot give back (paper II, 2.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ModelError
from stellarscale.models.network import dense_layers, one_thread, require_torch
from stellarscale.models.scaling import Scaling
from stellarscale.models.streams import stream_seed
from stellarscale.settings.cleaning import NetworkCleaning

FEWEST_STARS = 50
_FARTHEST = 5.0  # standard deviations of a pixel: a cosmic ray must not outvote the rest
_PREDICT_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Session:
    """One training, and what it says about the stars that took part.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
        Stars that took part, as rows of the sample that was given.
    test : ndarray of bool, shape (m,)
        Those held out of the training.
    predicted : ndarray, shape (m, 3)
        Labels by the network.
    outlier : ndarray of bool, shape (m,)
        Those further from their labels than the limits; they take no part in later sessions.
    curve : ndarray, shape (k, 3)
        Iteration, loss on the training stars (mean since the last point), loss on the test stars; mean squared
        error of the standardised labels.
    """

    rows: NDArray[np.int64]
    test: NDArray[np.bool_]
    predicted: NDArray[np.float64]
    outlier: NDArray[np.bool_]
    curve: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NetworkVerdict:
    """The sessions, and the stars that passed all of them, shape (n,)."""

    kept: NDArray[np.bool_]
    sessions: tuple[Session, ...]


def clean_by_network(
    flux: NDArray, ivar: NDArray, labels: NDArray, settings: NetworkCleaning, *, seed: int
) -> NetworkVerdict:
    """Train a network several times, each time dropping the stars whose labels it contradicts.

    Each session holds out a random part; no star is held out twice before all have been once. A network learns some
    wrong labels by heart, which shows only when their stars are held out: five sessions that hold out a fifth test
    every star. The stars of the training are judged too: a label that a network cannot give back even though it was
    taught contradicts the rest all the more.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, n_pix)
        Spectra of unit median flux. A pixel with ``ivar`` 0 enters as the mean of the training stars there.
    labels : ndarray, shape (n, 3)
        teff (K), logg, m_h (dex), finite.
    settings : NetworkCleaning
    seed : int
        The same seed gives the same verdict.

    Raises
    ------
    ModelError
        If torch is not installed, there are fewer than 50 stars, or the network misses so many test stars that it
        is no judge of labels.
    """
    require_torch()
    kept, tested = np.ones(len(flux), dtype=bool), np.zeros(len(flux), dtype=np.int64)
    sessions = []
    for number in range(settings.sessions):
        rows = np.flatnonzero(kept)
        test = _held_out(tested[rows], settings.test_share, stream_seed(seed, "split", str(number)))
        tested[rows[test]] += 1
        session = _session(flux, ivar, labels, rows, test, settings, stream_seed(seed, "weights", str(number)))
        kept[rows[session.outlier]] = False
        sessions.append(session)
    return NetworkVerdict(kept, tuple(sessions))


def _held_out(tested: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """A random part of the stars, those least often held out first."""
    if len(tested) < FEWEST_STARS:
        raise ModelError("too few stars to train the network on", seen=f"{len(tested)}", needed=f"{FEWEST_STARS}")
    order = np.lexsort((np.random.default_rng(seed).random(len(tested)), tested))
    result = np.zeros(len(tested), dtype=bool)
    result[order[: max(round(share * len(tested)), 1)]] = True
    return result


def _session(
    flux: NDArray,
    ivar: NDArray,
    labels: NDArray,
    rows: NDArray[np.int64],
    test: NDArray[np.bool_],
    settings: NetworkCleaning,
    seed: int,
) -> Session:
    network = LabelNetwork(settings, seed=seed)
    learn, exam = rows[~test], rows[test]
    network.fit(flux[learn], ivar[learn], labels[learn], check=(flux[exam], ivar[exam], labels[exam]))
    predicted = network.predict(flux[rows], ivar[rows])
    teff, logg, m_h = np.abs(predicted - labels[rows]).T
    outlier = (teff >= settings.limits[0]) | (logg > settings.limits[1]) | (m_h > settings.limits[2])
    share = float(outlier[test].mean())
    if share > settings.most_dropped:
        raise ModelError(
            "the network does not learn the labels well enough to judge them",
            where=f"{len(learn)} training and {len(exam)} test stars",
            seen=f"{share:.0%} of the test stars beyond the limits {settings.limits}",
            needed=f"{settings.most_dropped:.0%} or less",
            cause="too few stars or iterations, labels that contradict each other, or limits too narrow",
        )
    return Session(rows, test, predicted, outlier, network.curve)


class LabelNetwork:
    """n_pix - 512 - 64 - 3 with rectifiers between, by default; Adam, learning rate falling along a cosine.

    Parameters
    ----------
    settings : NetworkCleaning
    seed : int
        Of the weights and of the order of the stars.
    """

    curve: NDArray[np.float64]

    def __init__(self, settings: NetworkCleaning, *, seed: int) -> None:
        require_torch()
        self.settings, self.seed = settings, seed
        self._pixels: _PixelScaling
        self._labels: Scaling
        self._layers: Any

    def fit(
        self, flux: NDArray, ivar: NDArray, labels: NDArray, *, check: tuple[NDArray, NDArray, NDArray]
    ) -> LabelNetwork:
        """Train on spectra (n, n_pix) with labels (n, 3); ``check`` is the same of stars held out, for the curve."""
        import torch

        self._pixels, self._labels = _PixelScaling.of(flux, ivar), Scaling.of(labels)
        rows, target = self._tensors(torch, flux, ivar, labels)
        held = self._tensors(torch, *check)
        with one_thread(torch):
            generator = torch.Generator().manual_seed(self.seed)
            self._layers = dense_layers(torch, (flux.shape[1], *self.settings.hidden, labels.shape[1]), generator)
            self._descend(torch, rows, target, held, generator)
        return self

    def predict(self, flux: NDArray, ivar: NDArray) -> NDArray[np.float64]:
        """Labels (n, 3) of spectra (n, n_pix)."""
        import torch

        parts = []
        with torch.inference_mode(), one_thread(torch):
            for start in range(0, len(flux), _PREDICT_ROWS):
                chosen = slice(start, start + _PREDICT_ROWS)
                rows = torch.from_numpy(self._pixels.standardise(flux[chosen], ivar[chosen]))
                parts.append(self._layers(rows).numpy().astype(np.float64))
        return self._labels.restore(np.concatenate(parts))

    def _tensors(self, torch: Any, flux: NDArray, ivar: NDArray, labels: NDArray) -> tuple[Any, Any]:
        target = self._labels.standardise(labels).astype(np.float32)
        return torch.from_numpy(self._pixels.standardise(flux, ivar)), torch.from_numpy(target)

    def _descend(self, torch: Any, rows: Any, target: Any, held: tuple[Any, Any], generator: Any) -> None:
        settings, loss = self.settings, torch.nn.functional.mse_loss
        optimiser = torch.optim.Adam(
            self._layers.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.iterations)
        curve, since = [], []
        batches: list[Any] = []
        for iteration in range(1, settings.iterations + 1):
            if not batches:
                batches = list(torch.randperm(len(rows), generator=generator).split(settings.batch_size))
            batch = batches.pop()
            optimiser.zero_grad()
            value = loss(self._layers(rows[batch]), target[batch])
            value.backward()
            optimiser.step()
            schedule.step()
            since.append(value.item())
            if iteration % settings.sample_every == 0 or iteration == settings.iterations:
                with torch.no_grad():
                    curve.append((iteration, float(np.mean(since)), loss(self._layers(held[0]), held[1]).item()))
                since = []
        self.curve = np.array(curve)


@dataclass(frozen=True, eq=False)
class _PixelScaling:
    """Mean and deviation of each pixel over the stars that have it."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, flux: NDArray, ivar: NDArray) -> _PixelScaling:
        has = ivar > 0
        n = np.maximum(np.count_nonzero(has, axis=0), 1)
        mean = np.where(has, flux, 0.0).sum(axis=0, dtype=np.float64) / n
        deviation = np.sqrt(np.where(has, (flux - mean) ** 2, 0.0).sum(axis=0, dtype=np.float64) / n)
        return cls(mean, np.where(deviation > 0, deviation, 1.0))

    def standardise(self, flux: NDArray, ivar: NDArray) -> NDArray[np.float32]:
        values = np.clip((flux - self.mean) / self.deviation, -_FARTHEST, _FARTHEST)
        return np.where(ivar > 0, values, 0.0).astype(np.float32)
