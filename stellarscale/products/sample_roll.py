"""The roll of a selection: which rows are still in, why the others are not, how many each step has left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

STEPS = pa.schema(
    [
        pa.field("step", pa.string()),
        pa.field("branch", pa.string()),
        pa.field("spectra", pa.int64()),
        pa.field("stars", pa.int64()),
    ]
)


class Roll:
    """Rows of a selection under way.

    Parameters
    ----------
    star : ndarray of int64, shape (n,)
        Number of the star that each row belongs to, from 0 on without large gaps.
    branch : ndarray of int64, shape (n,)
        Number of its branch.
    branches : sequence of str
        Names of the branches.

    Attributes
    ----------
    alive : ndarray of bool, shape (n,)
        Rows that are still in.
    """

    def __init__(self, star: NDArray[np.int64], branch: NDArray[np.int64], branches: Sequence[str]) -> None:
        self.alive = np.ones(len(star), dtype=bool)
        self.star, self.branch, self.branches = star, branch, tuple(branches)
        self._reason = np.full(len(star), -1, dtype=np.int32)
        self._reasons: list[str] = []
        self._steps: list[dict[str, object]] = []

    def drop(self, failed: NDArray[np.bool_], reason: str) -> None:
        """Take rows out and count those that are left; rows that are out keep their first reason."""
        lost = failed & self.alive
        self._reason[lost] = len(self._reasons)
        self._reasons.append(reason)
        self.alive &= ~failed
        self.count(reason)

    def readmit(self, rows: NDArray[np.bool_], step: str) -> None:
        """Take rows in again, as if they had never been out."""
        self.alive |= rows
        self._reason[rows] = -1
        self.count(step)

    def count(self, step: str) -> None:
        """Add to the record how many rows and stars of each branch are in."""
        for number, name in enumerate(self.branches):
            rows = self.alive & (self.branch == number)
            stars = int(np.count_nonzero(np.bincount(self.star[rows])))
            self._steps.append({"step": step, "branch": name, "spectra": int(rows.sum()), "stars": stars})

    def of(self, number: int) -> NDArray[np.bool_]:
        """Rows of a branch that are in."""
        return self.alive & (self.branch == number)

    def reasons(self) -> pa.Array:
        """Why each row is out; null where it is in."""
        names = pa.array(self._reasons, pa.string())
        return names.take(pa.array(self._reason, mask=self._reason < 0))

    def steps(self) -> pa.Table:
        """What each step left, in order, with the columns of ``STEPS``."""
        return pa.Table.from_pylist(self._steps, schema=STEPS)


def best_rows(star: NDArray[np.int64], snr: NDArray[np.float64], rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The row of the highest S/N of each star among some rows; of equals the first one.

    Parameters
    ----------
    star, snr : ndarray, shape (n,)
        Number of the star and signal to noise of each row.
    rows : ndarray of bool, shape (n,)
        Rows that take part.
    """
    chosen = np.flatnonzero(rows)
    order = chosen[np.lexsort((-snr[chosen], star[chosen]))]
    first = np.ones(len(order), dtype=bool)
    first[1:] = star[order[1:]] != star[order[:-1]]
    result = np.zeros(len(rows), dtype=bool)
    result[order[first]] = True
    return result
