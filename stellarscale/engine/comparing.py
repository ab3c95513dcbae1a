"""Train other methods on the stars of a model, and measure how they do on the others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.config import ForestSettings
from stellarscale.engine.applying import timed
from stellarscale.engine.stars import Stars, read_stars, sample_path
from stellarscale.errors import ModelError, StellarscaleError
from stellarscale.kernels.forest import PackedForest, predict
from stellarscale.kernels.stats import gaussian_fit, robust_sigma
from stellarscale.models.boosted import BoostedTrees
from stellarscale.models.compare import Method, Regressor, make
from stellarscale.models.store import load
from stellarscale.models.streams import stream_seed
from stellarscale.partition.features import floats

if TYPE_CHECKING:
    from distributed import Client

Record = dict[str, Any]


@dataclass(frozen=True)
class CompareTask:
    """Where the stars of all models are, where models of other methods go, and what the fits share."""

    models: Path
    out: Path
    inputs: tuple[str, ...]
    forest: ForestSettings
    seed: int
    n_jobs: int


@dataclass(frozen=True)
class Fit:
    """One method on the stars of one model."""

    model: str
    method: Method


def compare_one(task: CompareTask, item: Fit) -> Record:
    """Fit one method on the stars that trained the forest, and predict the others.

    Raises
    ------
    ModelError, ConfigError
        If a package is missing, an option is wrong, or the method fails; the message has the reason.
    """
    stars = read_stars(sample_path(task.models, item.model), task.inputs, train=True)
    regressor = make(item.method, forest=task.forest, seed=_seed(task, item), n_jobs=task.n_jobs)
    started = time.perf_counter()
    with failures_told(_place(item)):
        regressor.fit(stars.x, stars.y)
    seconds = time.perf_counter() - started
    return _measured(task, item, regressor, {"n_train": len(stars.y), "fit_seconds": seconds})


def boost_on(client: Client, task: CompareTask, item: Fit) -> Record:
    """Fit boosted trees on all workers of a cluster; to be called where the client is, not in a task.

    Raises
    ------
    ModelError, ConfigError
        As :func:`compare_one`.
    """
    path = sample_path(task.models, item.model)
    n_train = len(read_stars(path, task.inputs, train=True).y)
    boosted = BoostedTrees(item.method.options, seed=_seed(task, item), n_jobs=task.n_jobs)
    started = time.perf_counter()
    with failures_told(_place(item)):
        boosted.fit_on(client, *_spread(client, path, task.inputs, n_train))
    seconds = time.perf_counter() - started
    record = {"n_train": n_train, "fit_seconds": seconds, "workers": len(client.nthreads())}
    return _measured(task, item, boosted, record)


def _spread(client: Client, path: Path, inputs: tuple[str, ...], n_train: int) -> tuple[Any, Any]:
    """Inputs and labels of the training stars as Dask arrays; each worker reads its own, always the same ones."""
    import dask.array as da

    known = client.scheduler_info(n_workers=-1)["workers"]
    workers = sorted(known, key=lambda address: str(known[address]["name"]))
    x, y = [], []
    for number, (start, stop) in enumerate(pairwise(np.linspace(0, n_train, len(workers) + 1).astype(int).tolist())):
        here = {"workers": [workers[number]], "pure": False}
        part = client.submit(_rows, path, inputs, start, stop, **here)
        x.append(da.from_delayed(client.submit(itemgetter(0), part, **here), (stop - start, len(inputs)), np.float32))
        y.append(da.from_delayed(client.submit(itemgetter(1), part, **here), (stop - start,), np.float64))
    return da.concatenate(x), da.concatenate(y)


def forest_record(task: CompareTask, model: str, trained: Mapping[str, Any]) -> Record:
    """What the table says of the forest itself: its own evaluation, and the rate of the kernel in the same chunks.

    ``trained`` is the receipt of its training.

    Raises
    ------
    InputError, ModelError
        If the model's files are not there.
    """
    table = pq.read_table(task.models / f"{model}_evaluated.parquet", columns=["role", "label", "prediction"])
    roles = table["role"].to_numpy(zero_copy_only=False).astype(str)
    test = read_stars(sample_path(task.models, model), task.inputs, train=False)
    packed = _Packed(load(task.models / f"{model}.npz").packed)
    _, rate = timed(packed, test.x, task.n_jobs)
    return {
        "model": model,
        "method": "forest",
        "kind": "forest",
        "against": figures(floats(table, "prediction"), floats(table, "label"), roles),
        **{name: trained.get(name) for name in ("n_train", "fit_seconds", "peak_memory_mb")},
        "predict_rows_per_second": rate,
        "threads": task.n_jobs,
    }


def figures(predicted: NDArray, truth: NDArray, role: NDArray[np.str_]) -> dict[str, Record]:
    """Figures of merit by role: stars, bias (median residual), robust sigma, sigma of a fitted Gaussian, RMSE."""
    found = {}
    for name in sorted(set(role)):
        residual = (predicted - truth)[role == name]
        found[str(name)] = {
            "n": len(residual),
            "bias": float(np.median(residual)),
            "sigma": robust_sigma(residual),
            "gaussian_sigma": gaussian_fit(residual).sigma,
            "rmse": float(np.sqrt(np.mean(residual**2))),
        }
    return found


def _seed(task: CompareTask, item: Fit) -> int:
    return stream_seed(task.seed, "compare", item.model, item.method.name)


@dataclass(frozen=True, eq=False)
class _Packed:
    """A packed forest as a fitted method."""

    packed: PackedForest

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return predict(self.packed, x)[0]


def _measured(task: CompareTask, item: Fit, regressor: Regressor, record: Record) -> Record:
    """Predict the stars that did not train; add figures and rate to the record, and keep what can be kept."""
    test: Stars = read_stars(sample_path(task.models, item.model), task.inputs, train=False)
    with failures_told(_place(item)):
        predicted, rate = timed(regressor, test.x, task.n_jobs)
    bad = int((~np.isfinite(predicted)).sum())
    if bad:
        raise ModelError(
            "the method gives no finite value for some stars",
            where=_place(item),
            seen=f"{bad} of {len(predicted)}",
            cause="the training diverged, or an input is missing",
        )
    if isinstance(regressor, BoostedTrees):
        with atomic_write(task.out / f"{item.model}_{item.method.name}.ubj") as temporary:
            temporary.write_bytes(regressor.ubjson())
    return {
        **record,
        "rows_in": record["n_train"],
        "rows_out": len(test.y),
        "model": item.model,
        "method": item.method.name,
        "kind": item.method.kind,
        "against": figures(predicted, test.y, test.role),
        "predict_rows_per_second": rate,
        "threads": task.n_jobs,
    }


def _rows(path: Path, inputs: tuple[str, ...], start: int, stop: int) -> tuple[NDArray, NDArray]:
    """Inputs and labels of some training stars."""
    stars = read_stars(path, inputs, train=True)
    return stars.x[start:stop].copy(), stars.y[start:stop].copy()


@contextmanager
def failures_told(where: str) -> Iterator[None]:
    """Another library's error in our words: the same again would not help, so the engine need not try it again."""
    try:
        yield
    except StellarscaleError:
        raise
    except Exception as error:
        raise ModelError("the method failed", where=where, seen=f"{type(error).__name__}: {error}") from error


def _place(item: Fit) -> str:
    return f"{item.method.name} on {item.model}"
