"""What a worker does for one cell of a scan of hyper-parameters: fit, score. No Dask here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stellarscale.config import ForestSettings, Tuning
from stellarscale.engine.stars import Stars, read_stars
from stellarscale.models.fit import ForestConfig
from stellarscale.models.streams import stream_seed
from stellarscale.models.tune import oob_scores


@dataclass(frozen=True)
class TuneTask:
    """The stars of one model, and what all cells of its scan share."""

    model: str
    sample: Path
    inputs: tuple[str, ...]
    forest: ForestSettings
    max_stars: int
    seed: int
    n_jobs: int


@dataclass(frozen=True)
class Cell:
    """Forests that differ in the number of trees only."""

    n_estimators: tuple[int, ...]
    max_features: float | None
    max_depth: int | None
    repeat: int = 0

    @property
    def key(self) -> str:
        """Name of the cell; it picks the random stream, so other values in the job do not change this one's."""
        trees = "-".join(str(count) for count in self.n_estimators)
        share, depth = self.max_features or "all", self.max_depth or "free"
        return f"trees {trees} features {share} depth {depth} repeat {self.repeat}"


def plan_cells(tuning: Tuning, forest: ForestSettings) -> tuple[list[Cell], list[Cell]]:
    """Cells of the two panels of paper I, Fig. 4: by trees and features, and by depth."""
    trees = tuple(sorted(set(tuning.n_estimators)))
    left = [Cell(trees, share, forest.max_depth) for share in dict.fromkeys(tuning.max_features)]
    right = [
        Cell((forest.n_estimators,), forest.max_features, depth, repeat)
        for depth in sorted(set(tuning.max_depth))
        for repeat in range(tuning.repeats)
    ]
    return left, right


def tune_one(task: TuneTask, cell: Cell) -> dict[str, Any]:
    """Out-of-bag scores of one cell.

    Raises
    ------
    InputError
        If the stars give no score.
    """
    stars = _chosen(task)
    config = ForestConfig(
        max_features=cell.max_features,
        max_depth=cell.max_depth,
        min_samples_leaf=task.forest.min_samples_leaf,
        seed=stream_seed(task.seed, "tune", task.model, cell.key),
        backend=task.forest.backend,
        n_jobs=task.n_jobs,
    )
    scores = oob_scores(stars.x, stars.y, config=config, n_estimators=cell.n_estimators)
    return {
        "rows_in": len(stars.y),
        "rows_out": len(stars.y),
        "cell": asdict(cell),
        "scores": [asdict(score) for score in scores],
    }


def _chosen(task: TuneTask) -> Stars:
    """The training stars, or as many of them, drawn at random, as the scan may use."""
    stars = read_stars(task.sample, task.inputs, train=True)
    if len(stars.y) <= task.max_stars:
        return stars
    rng = np.random.default_rng(stream_seed(task.seed, "tune", task.model, "stars"))
    rows = np.sort(rng.choice(len(stars.y), task.max_stars, replace=False))
    return Stars(stars.x[rows], stars.y[rows], stars.role[rows])
