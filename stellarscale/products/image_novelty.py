"""Files that say which stars are unlike the training stars of the networks, beside these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.engine.image_novelty import novelty_of, summary_of
from stellarscale.models.image_novelty import ImageNovelty, read_novelty, write_novelty
from stellarscale.models.store import digest
from stellarscale.products.image_models import TrainedNetwork
from stellarscale.settings.acf import AcfJob


def novelty_file(folder: Path, network: str) -> Path:
    """The region of a network's training stars, in the directory of the networks."""
    return folder / f"novelty_{network}.npz"


def learn_novelties(
    models: Sequence[TrainedNetwork], training_folder: Path, folder: Path, *, quantile: float
) -> dict[str, NDArray[np.bool_]]:
    """Write the file of each network, from its training stars alone.

    Parameters
    ----------
    models : sequence of TrainedNetwork
    training_folder, folder : Path
        Training set; directory of the networks.
    quantile : float
        Share of stars like those that trained that shall count as inside.

    Returns
    -------
    dict of str to ndarray of bool, shape (n,)
        Name of a network: which stars of the training set lie outside.

    Raises
    ------
    CatalogError, InputError
        If the training set is not there, or too few of its stars have all that is looked at.
    """
    summary, found = summary_of(training_folder), {}
    for model in models:
        shape = model.spec.network
        novelty, found[model.name] = novelty_of(training_folder, model.labels, shape, summary, quantile=quantile)
        with atomic_write(novelty_file(folder, model.name)) as temporary:
            write_novelty(temporary, model.name, novelty)
    return found


def novelty_beside(job: AcfJob, models: Sequence[TrainedNetwork]) -> dict[str, tuple[ImageNovelty, str]]:
    """What was learned of the training stars of each network, and SHA-256 of its file, by the network's name.

    Raises
    ------
    ModelError
        If a file is missing, damaged, or of another network.
    """
    found = {}
    for model in models:
        path = novelty_file(model.path.parent, model.name)
        n_bands = len(job.stamps.bands)
        found[model.name] = (read_novelty(path, model.name, model.spec.network, n_bands=n_bands), digest(path))
    return found
