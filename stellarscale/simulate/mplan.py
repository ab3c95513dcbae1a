"""What a mock of M-star spectra is made of: its size, its blocks, and the random stream of each step."""

from __future__ import annotations

from stellarscale.simulate.blocks import BlockPlan

BLOCK = 256
BAD_KINDS = ("truncated", "wrong_layout", "no_z", "all_masked", "negative_flux", "short_grid")


class MStarPlan(BlockPlan):
    """Size and seed of a mock of M-star spectra; ``rows`` is the number of spectrum files."""

    limits = "A mock of M stars has 1 to 10 million spectra"
    most_rows = 10_000_000
    block_rows = BLOCK
    steps = ("stars", "visits", "observe", "mstellar", "distances", "starhorse", "apogee", "ding", "qiu", "variables")
    # Streams of the mock sky start with a chunk number, which stays far below this one.
    stream = 1 << 31

    @property
    def bad_files(self) -> int:
        """Spoilt files of each of ``BAD_KINDS``: one in a thousand, at least one from a hundred spectra on."""
        return max(1, self.rows // 1000) if self.rows >= 100 else 0
