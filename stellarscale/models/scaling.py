"""Inputs and labels of mean zero and deviation one, for the methods that care."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ModelError

_CLIPPED_PERCENT = 0.1


@dataclass(frozen=True, eq=False)
class Scaling:
    """Range, mean and standard deviation per column; a column that does not vary is only shifted."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray, *, clip: bool = False) -> Scaling:
        """Scaling of an array, shape (n,) or (n, m), finite.

        With ``clip``, the outermost 0.1 per cent at each end, and what lies beyond them later, count as the value
        there: a polynomial or a network otherwise bends to a few wrong magnitudes and has no bounds outside.
        """
        edges = [_CLIPPED_PERCENT, 100.0 - _CLIPPED_PERCENT]
        low, high = np.percentile(values, edges, axis=0) if clip else np.array([-np.inf, np.inf])
        inside = np.clip(values, low, high)
        mean, deviation = inside.mean(axis=0, dtype=np.float64), inside.std(axis=0, dtype=np.float64)
        return cls(low, high, mean, np.where(deviation > 0, deviation, 1.0))

    def standardise(self, values: NDArray) -> NDArray[np.float64]:
        """Values of mean zero and deviation one."""
        return (np.clip(values, self.low, self.high) - self.mean) / self.deviation

    def restore(self, values: NDArray) -> NDArray[np.float64]:
        """What :meth:`standardise` was given."""
        return values * self.deviation + self.mean


def require_finite(x: NDArray, method: str) -> None:
    """Refuse missing inputs for a method that has no way to deal with them.

    Raises
    ------
    ModelError
        Saying how many rows have one.
    """
    bad = int((~np.isfinite(x).all(axis=1)).sum())
    if bad:
        raise ModelError(
            f"the {method} needs every input of every star",
            seen=f"{bad} of {len(x)} stars with a missing input",
            needed="complete rows, or a method that knows missing values (extra_trees, xgboost)",
        )
