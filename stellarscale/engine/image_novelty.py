"""The stars of a training set that are unlike those that networks learned from. No Dask here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stellarscale.engine.image_training_set import read_training_set
from stellarscale.kernels.stamp_summary import stamp_summary
from stellarscale.models.image_novelty import ImageNovelty, learn_novelty
from stellarscale.models.image_stars import TRAIN
from stellarscale.settings.image_network import ImageNetwork

_ROWS = 2048  # stamps in memory at once


def summary_of(folder: Path) -> NDArray[np.float64]:
    """What the stamps of a training set say without a network, shape (n, 2 n_bands).

    Raises
    ------
    CatalogError
        As :func:`stellarscale.engine.image_training_set.read_training_set`.
    """
    stamps = read_training_set(folder, ()).open_stamps()
    parts = [stamp_summary(np.asarray(stamps[row : row + _ROWS])) for row in range(0, len(stamps), _ROWS)]
    return np.concatenate(parts)


def novelty_of(
    folder: Path,
    labels: tuple[str, ...],
    network: ImageNetwork,
    summary: NDArray[np.float64],
    *,
    quantile: float,
) -> tuple[ImageNovelty, NDArray[np.bool_]]:
    """Learn the region of the stars that trained a network, and say which stars of the set lie outside of it.

    Parameters
    ----------
    folder : Path
        The training set.
    labels : tuple of str
        Of the network: stars with one of them trained it.
    network : ImageNetwork
    summary : ndarray of float64, shape (n, 2 n_bands)
        From :func:`summary_of`.
    quantile : float
        Share of stars like those that trained that shall count as inside.

    Returns
    -------
    ImageNovelty, ndarray of bool, shape (n,)

    Raises
    ------
    CatalogError
        If the training set is not there, or damaged.
    InputError
        If too few stars have all that is looked at.
    """
    stars = read_training_set(folder, labels)
    trained = (stars.split == TRAIN) & np.isfinite(stars.labels).any(axis=1)
    parallax, error = stars.parallax.T
    found = learn_novelty(network, summary[trained], parallax[trained], error[trained], quantile=quantile)
    return found, found.is_novel(summary, parallax, error)
