"""A HEALPix partition as a value, and how a sky is cut into partitions of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.healpix import ORDER


@dataclass(frozen=True, order=True)
class Pixel:
    """NESTED HEALPix pixel of a partition; sorts by order, then number.

    Use ``key=Pixel.sky_key`` to sort along the sky.
    """

    order: int
    ipix: int

    @property
    def first(self) -> int:
        """First ``_healpix_29`` inside."""
        return self.ipix << (2 * (ORDER - self.order))

    @property
    def last(self) -> int:
        """First ``_healpix_29`` behind."""
        return (self.ipix + 1) << (2 * (ORDER - self.order))

    @property
    def sky_key(self) -> tuple[int, int]:
        """Place along the NESTED curve: catalogues are read and written in this order."""
        return self.first, self.order

    def __str__(self) -> str:
        return f"{self.order}/{self.ipix}"

    @classmethod
    def parse(cls, text: str) -> Pixel:
        """Read ``ORDER/IPIX``.

        Raises
        ------
        ValueError
            If the text is not of that form or the pixel does not exist.
        """
        order_text, _, ipix_text = text.partition("/")
        digits = order_text.isdecimal() and ipix_text.isdecimal()
        order, ipix = (int(order_text), int(ipix_text)) if digits else (-1, -1)
        if not 0 <= order <= ORDER or not 0 <= ipix < 12 << (2 * order):
            raise ValueError(f"{text!r} is no HEALPix pixel ORDER/IPIX with 0 <= IPIX < 12*4**ORDER")
        return cls(order, ipix)


def adaptive_pixels(counts: NDArray[np.int64], *, max_rows: int, min_order: int = 0) -> list[tuple[Pixel, int]]:
    """Cut the sky into the largest pixels that hold at most ``max_rows`` rows.

    Parameters
    ----------
    counts : ndarray of int64, shape (12 * 4**k,)
        Rows in every pixel of the finest order k.
    max_rows : int
        Row cap of a partition. A finest pixel above the cap stays one partition.
    min_order : int
        No partition is larger than a pixel of this order.

    Returns
    -------
    list of (Pixel, rows)
        Pixels that hold rows, along the sky.
    """
    finest = int(np.log2(len(counts) // 12)) // 2
    levels = [counts]
    for _ in range(finest - min_order):
        levels.append(levels[-1].reshape(-1, 4).sum(axis=1))
    found: list[tuple[Pixel, int]] = []
    open_pixels = np.flatnonzero(levels[-1])
    for order in range(min_order, finest + 1):
        rows = levels[finest - order][open_pixels]
        small = (rows <= max_rows) | (order == finest)
        found += [(Pixel(order, int(p)), int(n)) for p, n in zip(open_pixels[small], rows[small], strict=True)]
        if order < finest:
            children = (open_pixels[~small, None] * 4 + np.arange(4)).ravel()
            open_pixels = children[levels[finest - order - 1][children] > 0]
    return sorted(found, key=lambda item: item[0].sky_key)


def pixels_touching(pixels: Sequence[Pixel], ranges: NDArray[np.int64] | None) -> list[Pixel]:
    """Pixels that overlap sorted, disjoint, half-open ranges of ``_healpix_29``; all of them when there are none."""
    if ranges is None:
        return list(pixels)
    starts, ends = ranges[:, 0], ranges[:, 1]
    # The first range that ends behind the pixel's begin is the only one that can be the first to overlap it.
    first = np.searchsorted(ends, [pixel.first for pixel in pixels], side="right")
    return [p for p, i in zip(pixels, first, strict=True) if i < len(ranges) and starts[i] < p.last]
