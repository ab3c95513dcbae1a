"""Random streams that depend on what is computed, never on which worker computes it."""

from __future__ import annotations

import numpy as np


def stream_seed(seed: int, *cell: str) -> int:
    """Seed of one piece of work, from the seed of the job and the names of the piece.

    Parameters
    ----------
    seed : int
        Seed of the job, not negative.
    *cell : str
        E.g. model and method; other names give an independent stream.

    Returns
    -------
    int
        Below 2^31, which every library accepts.
    """
    words = [word for name in cell for word in (len(name), *name.encode())]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0] >> 1)
