"""Split of a training table into the stars that train and the stars that test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def held_out(n: int, *, test_fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which of ``n`` rows are held out, drawn as scikit-learn's ``train_test_split`` draws them.

    Parameters
    ----------
    n : int
        Rows of the training table, in catalogue order.
    test_fraction : float
        Share to hold out, between 0 and 1.
    seed : int
        Seed of the permutation.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    from sklearn.model_selection import train_test_split

    _, test = train_test_split(np.arange(n), test_size=test_fraction, random_state=seed)
    mask = np.zeros(n, dtype=bool)
    mask[test] = True
    return mask
