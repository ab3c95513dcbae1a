"""Groups of a forest's trees, grown apart and put together: the same forest whatever the groups."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from stellarscale.errors import ModelError
from stellarscale.kernels.forest import PackedForest, predict
from stellarscale.models.fit import ForestConfig, choose_backend, tree_grower
from stellarscale.models.pack import join, pack_tree, tree_of

Result = TypeVar("Result")


@dataclass(frozen=True)
class TreeGroup:
    """Some consecutive trees of a forest.

    Parameters
    ----------
    first : int
        Number of the first tree in the forest.
    packed : PackedForest
        The trees, in order.
    importances : numpy.ndarray of float64, (n_trees, n_features)
        Share of the variance removed by each feature in each tree; zeros for a tree without splits.
    backend : str
        What grew them.
    seconds : float
        Wall-clock time of growing them.
    """

    first: int
    packed: PackedForest
    importances: np.ndarray
    backend: str
    seconds: float

    @property
    def end(self) -> int:
        """Number of the tree after the last."""
        return self.first + self.packed.n_trees


@dataclass(frozen=True)
class OutOfBag:
    """What the trees say of the training rows that they did not see.

    Parameters
    ----------
    prediction : numpy.ndarray of float64, (n,)
        Mean over those trees; NaN for a row that every tree saw.
    spread : numpy.ndarray of float64, (n,)
        Their standard deviation, on the scale of the one that :func:`stellarscale.kernels.forest.predict` gives for
        the whole forest; NaN where they are fewer than two.
    """

    prediction: np.ndarray
    spread: np.ndarray


def grow(x: np.ndarray, y: np.ndarray, *, config: ForestConfig, trees: tuple[int, int]) -> TreeGroup:
    """Grow some trees of a forest.

    A tree's random numbers come from the forest's seed and the tree's number alone, as scikit-learn draws them.

    Parameters
    ----------
    x : numpy.ndarray of float32, (n, n_features)
        Features, finite; NaN where missing, if the backend learns from that.
    y : numpy.ndarray of float64, (n,)
        Labels, finite.
    config : ForestConfig
        Hyper-parameters of the whole forest.
    trees : tuple of int
        Number of the first tree, and of the one after the last.

    Raises
    ------
    ModelError
        If the backend asked for is not installed or cannot do it, or a tree is too large.
    """
    started = time.perf_counter()
    backend = choose_backend(config, missing=bool(np.isnan(x).any()))
    grow_one = tree_grower(x, y, config=config, backend=backend)
    seeds = tree_seeds(config)

    def grown(number: int) -> tuple[PackedForest, np.ndarray]:
        tree = grow_one(drawn_rows(config, seeds[number], len(y)), int(seeds[number]))
        return pack_tree(tree.arrays, x.shape[1], number), tree.importances

    packed, importances = zip(*_in_threads(grown, range(*trees), config.threads), strict=True)
    seconds = time.perf_counter() - started
    return TreeGroup(trees[0], join(packed), np.array(importances), backend, seconds)


def combine(groups: Iterable[TreeGroup], config: ForestConfig) -> TreeGroup:
    """All trees of a forest from its groups, in any order.

    Raises
    ------
    ModelError
        If trees are missing or there twice, or the groups were not grown alike.
    """
    ordered = sorted(groups, key=lambda group: group.first)
    ends = [0, *(group.end for group in ordered)]
    backends = sorted({group.backend for group in ordered})
    if [group.first for group in ordered] != ends[:-1] or ends[-1] != config.n_estimators or len(backends) != 1:
        raise ModelError(
            "The groups of trees do not make a forest",
            seen=", ".join(f"{group.first} to {group.end - 1} by {group.backend}" for group in ordered) or "no group",
            needed=f"0 to {config.n_estimators - 1}, each once, by one backend",
        )
    return TreeGroup(
        first=0,
        packed=join([group.packed for group in ordered]),
        importances=np.concatenate([group.importances for group in ordered]),
        backend=backends[0],
        seconds=sum(group.seconds for group in ordered),
    )


def out_of_bag(packed: PackedForest, x: np.ndarray, y: np.ndarray, *, config: ForestConfig) -> OutOfBag:
    """Predict each training row by the trees that did not see it; which these are is drawn again.

    Parameters
    ----------
    packed : PackedForest
        All trees.
    x, y, config
        What :func:`grow` was given.
    """
    total, squares, seen_by = np.zeros(len(y)), np.zeros(len(y)), np.zeros(len(y))
    for number, seed in enumerate(tree_seeds(config)):
        rows = np.flatnonzero(drawn_rows(config, seed, len(y)) == 0)
        # Sums of differences from the row's own label: they keep the digits of the variance.
        difference = predict(tree_of(packed, number), x[rows])[0] - y[rows]
        total[rows] += difference
        squares[rows] += difference**2
        seen_by[rows] += 1
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 is the NaN that is meant
        mean = total / seen_by
        variance = np.maximum(squares - total * mean, 0.0) / (seen_by - 1)
    whole = (packed.n_trees - 1) / packed.n_trees  # the forest's own spread is a population's
    return OutOfBag(y + mean, np.sqrt(np.where(seen_by > 1, variance * whole, np.nan)))


def tree_seeds(config: ForestConfig) -> np.ndarray:
    """Seed of each tree, as scikit-learn's forests draw them."""
    return np.random.RandomState(config.seed).randint(np.iinfo(np.int32).max, size=config.n_estimators)


def drawn_rows(config: ForestConfig, seed: int, n_rows: int) -> np.ndarray:
    """How often a tree draws each row, shape (n_rows,), int64."""
    if not config.bootstrap:
        return np.ones(n_rows, dtype=np.int64)
    return np.bincount(np.random.RandomState(seed).randint(0, n_rows, n_rows), minlength=n_rows)


def group_bounds(n_trees: int, n_groups: int) -> list[tuple[int, int]]:
    """Bounds of groups of trees that differ by one tree at most."""
    edges = [n_trees * k // n_groups for k in range(n_groups + 1)]
    return list(pairwise(edges))


def with_backend(config: ForestConfig) -> ForestConfig:
    """The config with 'auto' replaced, for complete features: every group must be grown alike."""
    return dataclasses.replace(config, backend=choose_backend(config, missing=False))


def _in_threads(function: Callable[[int], Result], items: Sequence[int], threads: int) -> list[Result]:
    if threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))
