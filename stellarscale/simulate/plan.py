"""What a mock sky is made of: its size, its chunks and the random stream of each step of each chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError

Columns = dict[str, NDArray]
"""Equal-length arrays by name; the form in which a chunk of stars or of survey rows travels."""

STEPS = (
    "stars", "pairs", "gaia", "sages", "twomass", "allwise", "galex", "lamost", "apogee", "rave", "pastel", "vmp",
    "huang", "andrae",
)  # fmt: skip


@dataclass(frozen=True)
class SkyPlan:
    """Size and seed of a mock sky.

    Parameters
    ----------
    rows : int
        Number of true stars.
    seed : int
        Seed of every random stream.
    chunk_rows : int
        Stars made at a time; memory grows with it, and the sky depends on it (but never on the workers).
    """

    rows: int
    seed: int
    chunk_rows: int = 100_000

    def __post_init__(self) -> None:
        if self.rows < 1 or self.chunk_rows < 1:
            raise InputError("A mock sky needs at least one star", seen=(self.rows, self.chunk_rows), needed=">= 1")
        if self.rows > 2**33:
            raise InputError("Too many stars for unique Gaia source ids", seen=self.rows, needed="at most 2**33")
        if self.seed < 0:
            raise InputError("A seed is a non-negative integer", seen=self.seed)

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.rows // self.chunk_rows)

    def bounds(self, chunk: int) -> tuple[int, int]:
        """First star and one past the last star of a chunk."""
        return chunk * self.chunk_rows, min((chunk + 1) * self.chunk_rows, self.rows)

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """Chunk number, first star, one past the last star."""
        for chunk in range(self.chunks):
            yield (chunk, *self.bounds(chunk))

    def share(self, total: int, chunk: int) -> int:
        """How many of ``total`` things fall to a chunk; the shares of all chunks add up to ``total``."""
        first, last = self.bounds(chunk)
        return total * last // self.rows - total * first // self.rows

    def rng(self, chunk: int, step: str) -> np.random.Generator:
        """The random stream of one step of one chunk."""
        return np.random.default_rng([self.seed, chunk, STEPS.index(step)])

    @property
    def bad_rows(self) -> int:
        """Damaged rows of each kind in a survey file: 0.01 %, at least two in a sky of 1000 stars."""
        return max(2, self.rows // 10_000) if self.rows >= 1000 else 0

    @property
    def cluster_members(self) -> int:
        """Members of each star cluster: about 0.1 % of the stars, 60 to 1500, never more than 1 %."""
        return min(max(60, self.rows // 1000), 1500, self.rows // 100)

    @property
    def lamost_targets(self) -> int:
        """Stars with a LAMOST spectrum: 7.2 %, or up to 30,000 (35 %) in a small sky, to train a forest on."""
        return int(max(0.072 * self.rows, min(0.35 * self.rows, 30_000)))

    @property
    def pastel_targets(self) -> int:
        """Stars in PASTEL: 0.1 %, more in a small sky."""
        return int(max(0.001 * self.rows, min(0.02 * self.rows, 300)))

    @property
    def vmp_targets(self) -> int:
        """Stars of the nine papers on very metal-poor stars: paper I's 15,628 of 21,071,305, more in a small sky."""
        return int(max(self.rows * 15_628 / 21_071_305, min(0.005 * self.rows, 150)))

    @property
    def external_targets(self) -> int:
        """Stars in each catalogue that the result is compared with: 60 %, at most a million."""
        return int(min(0.6 * self.rows, 1_000_000))
