"""Out-of-bag scores of forests over their hyper-parameters (paper I, section 4 and Fig. 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError
from stellarscale.kernels.forest import PackedForest, predict
from stellarscale.models.fit import ForestConfig
from stellarscale.models.grow import drawn_rows, grow, tree_seeds
from stellarscale.models.pack import tree_of


@dataclass(frozen=True)
class OobScore:
    """How a forest does on the stars that its trees did not see.

    Attributes
    ----------
    n_estimators : int
        Trees.
    error : float
        1 - R^2 of the out-of-bag predictions: the share of the label's variance that is left.
    seconds : float
        Time of growing the trees; for the first trees of a larger forest, their share of it.
    """

    n_estimators: int
    error: float
    seconds: float


def oob_scores(
    x: NDArray[np.float32], y: NDArray[np.float64], *, config: ForestConfig, n_estimators: Sequence[int]
) -> list[OobScore]:
    """Out-of-bag scores of forests that differ in the number of trees only.

    The trees of a forest draw their random numbers one after the other, so the first trees of a large forest *are*
    the smaller forest of the same seed: growing the largest serves all.

    Parameters
    ----------
    x : numpy.ndarray of float32, (n, n_features)
        Inputs.
    y : numpy.ndarray of float64, (n,)
        Labels, finite.
    config : ForestConfig
        The other hyper-parameters; its ``n_estimators`` is not used.
    n_estimators : sequence of int
        Numbers of trees.

    Returns
    -------
    list of OobScore
        By increasing number of trees.

    Raises
    ------
    InputError
        If no star was left out by any tree, or the labels do not vary: there is no score.
    """
    counts = sorted(set(n_estimators))
    config = replace(config, n_estimators=counts[-1])
    group = grow(x, y, config=config, trees=(0, counts[-1]))
    error = {
        count: unexplained(y, prediction)
        for count, prediction in enumerate(_tree_by_tree(group.packed, x, config), start=1)
        if count in counts
    }
    return [OobScore(count, error[count], group.seconds * count / counts[-1]) for count in counts]


def unexplained(y: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    """1 - R^2 over the rows that have a prediction.

    Raises
    ------
    InputError
        If fewer than two rows have one, or their labels are all equal.
    """
    known = np.isfinite(prediction)
    spread = y[known] - y[known].mean() if known.any() else np.zeros(0)
    variance = float(spread @ spread)
    if variance <= 0:
        raise InputError(
            "there is no out-of-bag score",
            seen=f"{int(known.sum())} of {len(y)} stars with an out-of-bag prediction",
            needed="two stars with different labels, at least",
            cause="too few stars or trees, or a label that does not vary",
        )
    residual = prediction[known] - y[known]
    return float(residual @ residual) / variance


def choose(curves: Mapping[float | None, Mapping[int, float]], *, tolerance: float) -> tuple[int, float | None]:
    """Number of trees and share of features to take.

    The share is the one with the best score at the largest number of trees; the number is the smallest whose score
    (one minus the error) is lower than the best by no more than ``tolerance`` of it. The paper's 300 trees are
    0.1 per cent below 750.

    Parameters
    ----------
    curves : mapping of max_features to mapping of n_estimators to error
    tolerance : float
        Share of the score.

    Returns
    -------
    n_estimators, max_features
    """
    share = min(curves, key=lambda key: curves[key][max(curves[key])])
    curve = curves[share]
    best = 1.0 - min(curve.values())
    enough = [count for count, error in curve.items() if 1.0 - error >= best - tolerance * abs(best)]
    return min(enough), share


def _tree_by_tree(packed: PackedForest, x: NDArray[np.float32], config: ForestConfig) -> Iterator[NDArray[np.float64]]:
    """Mean out-of-bag prediction after each tree; NaN for the rows that all trees so far saw."""
    total, trees = np.zeros(len(x)), np.zeros(len(x), dtype=np.int64)
    for number, seed in enumerate(tree_seeds(config)):
        unseen = np.flatnonzero(drawn_rows(config, seed, len(x)) == 0)
        total[unseen] += predict(tree_of(packed, number), x[unseen])[0]
        trees[unseen] += 1
        yield np.divide(total, trees, out=np.full(len(x), np.nan), where=trees > 0)
