"""What a worker does to grow some trees of a forest, and to read them again. No Dask here."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.config import ModelSpec, Training
from stellarscale.engine.stars import read_stars, sample_path
from stellarscale.errors import InputError, ModelError
from stellarscale.kernels.forest import PackedForest, check_packed
from stellarscale.models.forest import ForestConfig, checked_rows
from stellarscale.models.grow import TreeGroup, group_bounds, grow, with_backend

TREES = ".trees"
"""Directory of the groups of trees, beside the models, for as long as the training takes."""

# Rows times trees of a group: about ten seconds of one core with each backend, but for a single tree that takes longer.
_GROUP_ROWS = {"histogram": 12_000_000, "sklearnex": 4_000_000, "sklearn": 500_000}
_PACKED = ("nodes", "tree_start", "leaf_values", "leaf_start", "depth")


@dataclass(frozen=True)
class GrowTask:
    """Where samples and groups of trees are, the settings of all models, and a digest of what their features mean."""

    out: Path
    training: Training
    seed: int
    features_digest: str = ""

    @property
    def config(self) -> ForestConfig:
        """Hyper-parameters; one thread, because the tasks are what runs side by side."""
        return with_backend(ForestConfig(**self.training.forest.model_dump(), seed=self.seed, n_jobs=1))


@dataclass(frozen=True)
class TreesOf:
    """Some trees of a model: the number of the first, and of the one after the last."""

    spec: ModelSpec
    trees: tuple[int, int]

    @property
    def key(self) -> str:
        """Names the task, its receipt and its file."""
        return f"{self.spec.name} {self.trees[0]}"


def plan_groups(task: GrowTask, spec: ModelSpec, n_train: int) -> list[TreesOf]:
    """Groups of a model's trees, of a size that depends on the sample only, not on the cluster."""
    config = task.config
    n_groups = -(-config.n_estimators * n_train // _GROUP_ROWS[config.backend])
    bounds = group_bounds(config.n_estimators, min(n_groups, config.n_estimators))
    return [TreesOf(spec, trees) for trees in bounds]


def grow_group(task: GrowTask, item: TreesOf) -> dict[str, Any]:
    """Grow some trees of a model on its training stars, and keep them in a file.

    Raises
    ------
    InputError
        If a training star lacks an input; the message names the model and the inputs.
    """
    x, y = training_arrays(task, item.spec)
    group = grow(x, y, config=task.config, trees=item.trees)
    path = _path(task, item)
    path.parent.mkdir(exist_ok=True)
    about = {"first": np.array(group.first), "backend": np.array(group.backend), "seconds": np.array(group.seconds)}
    arrays = {name: getattr(group.packed, name) for name in _PACKED}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, importances=group.importances, **about, **arrays)
    return {
        "rows_in": len(y),
        "rows_out": group.packed.n_trees,
        "backend": group.backend,
        "fit_seconds": round(group.seconds, 3),
        "bytes": path.stat().st_size,
    }


def read_group(task: GrowTask, item: TreesOf) -> TreeGroup:
    """Trees that :func:`grow_group` kept.

    Raises
    ------
    ModelError
        If the file is missing or damaged.
    """
    path = _path(task, item)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            importances = stored["importances"]
            packed = PackedForest(n_features=importances.shape[1], **{name: stored[name] for name in _PACKED})
            group = TreeGroup(
                first=int(stored["first"]),
                packed=packed,
                importances=importances,
                backend=str(stored["backend"]),
                seconds=float(stored["seconds"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            "a group of trees cannot be read",
            where=path,
            seen=error,
            needed="the file that its receipt stands for",
            cause="the file was removed or damaged: remove the directory of the models, and start again",
        ) from error
    check_packed(packed, where=path)
    return group


def training_arrays(task: GrowTask, spec: ModelSpec) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Inputs and labels of the stars that train a model.

    Raises
    ------
    InputError
        If there are too few, or one of them lacks an input or its label.
    """
    names = task.training.inputs
    path = sample_path(task.out, spec.name)
    stars = read_stars(path, names, train=True)
    lacking = ~np.isfinite(stars.x)
    if lacking.any():
        lost = {name: int(n) for name, n in zip(names, lacking.sum(axis=0), strict=True) if n}
        raise InputError(
            "training stars lack inputs",
            where=f"model {spec.name}, {path}",
            seen=", ".join(f"{name} of {n} stars" for name, n in lost.items()),
            needed="finite values",
            cause="the sample was altered, or an input of the job is not among the features",
        )
    try:
        return checked_rows(stars.x, stars.y, names)
    except InputError as error:
        raise InputError(
            error.what, where=f"model {spec.name}, {path}", seen=error.seen, needed=error.needed
        ) from error


def _path(task: GrowTask, item: TreesOf) -> Path:
    return task.out / TREES / f"{item.key.replace(' ', '_')}.npz"
