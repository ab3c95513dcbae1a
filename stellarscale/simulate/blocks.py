"""What mocks that are made block by block have in common: the plan of the blocks, the threads, the manifest."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from stellarscale.errors import InputError


@dataclass(frozen=True)
class BlockPlan:
    """Size and seed of a mock; each kind of mock says in its class how it is cut into blocks.

    Parameters
    ----------
    rows : int
        Number of what the mock is made of.
    seed : int
        Seed of every random stream.

    Attributes
    ----------
    limits : str
        What is told when ``rows`` is not between 1 and ``most_rows``.
    block_rows : int
        Rows made at a time; what a block holds never depends on the workers.
    steps : tuple of str
        Names of the random streams of a block.
    stream : int
        Number of the first of them, which sets the streams of a mock apart from those of every other kind.

    Raises
    ------
    InputError
        When ``rows`` or ``seed`` cannot be used.
    """

    rows: int
    seed: int
    limits: ClassVar[str]
    most_rows: ClassVar[int]
    block_rows: ClassVar[int]
    steps: ClassVar[tuple[str, ...]]
    stream: ClassVar[int]

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= self.most_rows:
            raise InputError(self.limits, seen=self.rows)
        if self.seed < 0:
            raise InputError("A seed is a non-negative integer", seen=self.seed)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.rows // self.block_rows)

    def bounds(self, block: int) -> tuple[int, int]:
        """First row and one past the last row of a block."""
        return block * self.block_rows, min((block + 1) * self.block_rows, self.rows)

    def rng(self, step: str, block: int = 0) -> np.random.Generator:
        """The random stream of one step of one block, or of the one step that all blocks share."""
        return np.random.default_rng([self.seed, self.stream + self.steps.index(step), block])


def threads_of(workers: int | None) -> int:
    """The threads that were asked for; else one for each processor that this process may use."""
    if workers is not None:
        return max(workers, 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_manifest(folder: Path, manifest: dict, *, started: float) -> dict:
    """Write ``manifest.json``; gives the manifest with the folder and the seconds since ``started`` beside it."""
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest | {"out": str(folder), "seconds": time.perf_counter() - started}
