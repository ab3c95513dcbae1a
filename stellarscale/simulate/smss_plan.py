"""What a mock of SkyMapper images is made of: its size, its blocks, and the random stream of each step."""

from __future__ import annotations

from stellarscale.simulate.blocks import BlockPlan
from stellarscale.simulate.plan import SkyPlan

BLOCK = 32
SLOTS = 4
"""A primary star and at most three neighbours; a star's number is four times its primary's plus its slot."""
FIRST_OBJECT = 100_000_000
_CANDIDATES = 4096


class ImagePlan(BlockPlan):
    """Size and seed of a mock of SkyMapper images; ``rows`` is the number of primary stars."""

    limits = "A mock of images has 1 to 1 million primary stars"
    most_rows = 1_000_000
    block_rows = BLOCK
    steps = ("choose", "exposures", "pixels", "tables", "labels")
    # Streams of the other mocks begin with a chunk number or with 2^31 and little more.
    stream = 3 << 30

    @property
    def candidates(self) -> SkyPlan:
        """The mock Galaxy that the stars are chosen from, a chunk a block."""
        return SkyPlan(rows=_CANDIDATES * self.blocks, seed=self.seed, chunk_rows=_CANDIDATES)

    @property
    def gaia(self) -> SkyPlan:
        """Gaia's view of the chosen stars, a chunk a block."""
        return SkyPlan(rows=SLOTS * self.rows, seed=self.seed, chunk_rows=SLOTS * BLOCK)
