"""Draws of a training on images, each from what it is for: a star's orientation, its split, the order of the stars.

Nothing here depends on batches, processes or how often a training was taken up again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stellarscale.models.streams import stream_seed

ORIENTATIONS = 8


def star_draws(seed: int, items: NDArray[np.integer]) -> NDArray[np.uint64]:
    """64 well mixed bits of each item, which depend on the seed and the item alone.

    Parameters
    ----------
    seed : int
        Of the stream, e.g. from :func:`stellarscale.models.streams.stream_seed`.
    items : ndarray of integers, shape (n,)
        E.g. the ids of stars.

    Returns
    -------
    ndarray of uint64, shape (n,)
        By the generator of Steele, Lea & Flood 2014 (OOPSLA, Figure 9) on the item and then on the seed.
    """
    with np.errstate(over="ignore"):
        return _mixed(_mixed(np.asarray(items).astype(np.uint64)) + np.uint64(seed))


def split_of(ids: NDArray[np.integer], shares: Sequence[float], *, seed: int) -> NDArray[np.int8]:
    """Part of each star, 0 to ``len(shares) - 1``, whatever the other stars and their order.

    Parameters
    ----------
    ids : ndarray of integers, shape (n,)
        Of the stars.
    shares : sequence of float
        Of the parts, with sum 1.
    seed : int
        Of the job.

    Returns
    -------
    ndarray of int8, shape (n,)
    """
    uniform = (star_draws(stream_seed(seed, "image split"), ids) >> np.uint64(11)) * 2.0**-53
    edges = np.cumsum(shares)[:-1]
    return np.searchsorted(edges, uniform, side="right").astype(np.int8)


def orientations(seed: int, epoch: int, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Which of the eight orientations each star has in an epoch, shape (n,), from its row in the training set."""
    return (star_draws(stream_seed(seed, "orientation", str(epoch)), rows) % np.uint64(ORIENTATIONS)).astype(np.int64)


def turned(stamps: NDArray, which: NDArray[np.int64]) -> NDArray:
    """Stamps in one of the eight lossless orientations each (paper III, section 3.4.2).

    Parameters
    ----------
    stamps : ndarray, shape (n, n_bands, size, size)
    which : ndarray of int64, shape (n,)
        Quarter turns, plus 4 where the columns are reversed first; 0 leaves the stamp as it is.

    Returns
    -------
    ndarray
        In the shape and dtype of ``stamps``; all bands of a star are turned alike.
    """
    result = np.empty_like(stamps)
    for orientation in range(ORIENTATIONS):
        mine = np.flatnonzero(which == orientation)
        flipped = stamps[mine, :, :, ::-1] if orientation >= 4 else stamps[mine]
        result[mine] = np.rot90(flipped, orientation % 4, axes=(2, 3))
    return result


def epoch_order(seed: int, epoch: int, rows: NDArray[np.integer]) -> NDArray:
    """The training stars in the order of an epoch."""
    return np.random.default_rng(stream_seed(seed, "order", str(epoch))).permutation(rows)


def keep_masks(seed: int, step: int, n_stars: int, *, widths: Sequence[int], rate: float) -> list[NDArray[np.bool_]]:
    """Which inputs of each dense layer a star of a training batch keeps, (n_stars, width) for each layer.

    They are drawn for the whole batch here, not by the device, so that the share of a process finds the ones that
    a single process has.

    Parameters
    ----------
    seed, step : int
        Of the training, and the number of the batch since its start.
    n_stars : int
        Stars of the whole batch.
    widths : sequence of int
        Inputs of each layer.
    rate : float
        Share that is dropped.
    """
    generator = np.random.default_rng([stream_seed(seed, "dropout"), step])
    return [generator.random((n_stars, width), dtype=np.float32) >= rate for width in widths]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
