"""What a mock of M-star spectra is made of: its size, its blocks, and the random stream of each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stellarscale.errors import InputError

STEPS = ("stars", "visits", "observe", "mstellar", "distances", "starhorse", "apogee", "ding", "qiu", "variables")
BLOCK = 256
BAD_KINDS = ("truncated", "wrong_layout", "no_z", "all_masked", "negative_flux", "short_grid")
# Streams of the mock sky start with a chunk number, which stays far below this one.
_STREAM = 1 << 31


@dataclass(frozen=True)
class MStarPlan:
    """Size and seed of a mock of M-star spectra.

    Parameters
    ----------
    rows : int
        Number of spectrum files.
    seed : int
        Seed of every random stream.

    Raises
    ------
    InputError
        When ``rows`` or ``seed`` cannot be used.
    """

    rows: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= 10_000_000:
            raise InputError("A mock of M stars has 1 to 10 million spectra", seen=self.rows)
        if self.seed < 0:
            raise InputError("A seed is a non-negative integer", seen=self.seed)

    @property
    def bad_files(self) -> int:
        """Spoilt files of each of ``BAD_KINDS``: one in a thousand, at least one from a hundred spectra on."""
        return max(1, self.rows // 1000) if self.rows >= 100 else 0

    def rng(self, step: str, block: int = 0) -> np.random.Generator:
        """The random stream of one step, or of one block of it."""
        return np.random.default_rng([self.seed, _STREAM + STEPS.index(step), block])

    def blocks(self) -> Iterator[tuple[int, slice]]:
        """Number and rows of each block of spectra; what a block holds never depends on the workers."""
        for block, start in enumerate(range(0, self.rows, BLOCK)):
            yield block, slice(start, min(start + BLOCK, self.rows))
