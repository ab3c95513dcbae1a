"""What a mock of SkyMapper images is made of: its size, its blocks, and the random stream of each step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stellarscale.errors import InputError
from stellarscale.simulate.plan import SkyPlan

STEPS = ("choose", "exposures", "pixels", "tables", "labels")
BLOCK = 32
"""Primary stars made at a time; what a block holds never depends on the workers."""
SLOTS = 4
"""A primary star and at most three neighbours; a star's number is four times its primary's plus its slot."""
FIRST_OBJECT = 100_000_000
_CANDIDATES = 4096
# Streams of the other mocks begin with a chunk number or with 2^31 and little more.
_STREAM = 3 << 30


@dataclass(frozen=True)
class ImagePlan:
    """Size and seed of a mock of SkyMapper images.

    Parameters
    ----------
    rows : int
        Number of primary stars.
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
        if not 1 <= self.rows <= 1_000_000:
            raise InputError("A mock of images has 1 to 1 million primary stars", seen=self.rows)
        if self.seed < 0:
            raise InputError("A seed is a non-negative integer", seen=self.seed)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.rows // BLOCK)

    def bounds(self, block: int) -> tuple[int, int]:
        """First primary star and one past the last of a block."""
        return block * BLOCK, min((block + 1) * BLOCK, self.rows)

    def rng(self, step: str, block: int) -> np.random.Generator:
        """The random stream of one step of one block."""
        return np.random.default_rng([self.seed, _STREAM + STEPS.index(step), block])

    @property
    def candidates(self) -> SkyPlan:
        """The mock Galaxy that the stars are chosen from, a chunk a block."""
        return SkyPlan(rows=_CANDIDATES * self.blocks, seed=self.seed, chunk_rows=_CANDIDATES)

    @property
    def gaia(self) -> SkyPlan:
        """Gaia's view of the chosen stars, a chunk a block."""
        return SkyPlan(rows=SLOTS * self.rows, seed=self.seed, chunk_rows=SLOTS * BLOCK)
