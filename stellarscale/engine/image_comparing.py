"""What a worker does for one method beside the networks on images: search, train, score on the same stars. No Dask."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.engine.comparing import failures_told
from stellarscale.engine.gpu import Share
from stellarscale.engine.image_scoring import group_figures, groups_of, held_out, read_stars, scored
from stellarscale.engine.image_tasks import Networks
from stellarscale.engine.image_training_set import PARALLAX, PARALLAX_ERROR, SPLIT, STAMPS_FILE, TABLE_FILE
from stellarscale.errors import InputError, SchemaError
from stellarscale.kernels.dust import ebv_sfd98, galactic
from stellarscale.kernels.photometry import deredden
from stellarscale.models.bayes_search import search_fit
from stellarscale.models.image_features import input_columns, principal_components
from stellarscale.models.image_stars import TRAIN
from stellarscale.models.streams import stream_seed
from stellarscale.partition.features import floats
from stellarscale.settings.acf import ImageComparisons
from stellarscale.settings.features import Reddening
from stellarscale.settings.image_network import ImagePrediction
from stellarscale.surveys.dust import load_dust_maps

Record = dict[str, Any]

_ROWS = 2048  # stamps in memory at once


@dataclass(frozen=True)
class CompareImagesTask:
    """What all comparisons share.

    Attributes
    ----------
    training, models, out : Path
        Training set of the networks, their directory, and where the image features are.
    settings : ImageComparisons
    reddening : Reddening, optional
        Where E(B-V) comes from; None for magnitudes as they are.
    extinction : mapping of str to float
        Band: A / E(B-V).
    seed, n_jobs : int
        Of every draw; threads.
    """

    training: Path
    models: Path
    out: Path
    settings: ImageComparisons
    reddening: Reddening | None
    extinction: Mapping[str, float]
    seed: int
    n_jobs: int


@dataclass(frozen=True)
class ImageFit:
    """One algorithm on one set of features for one label; ``network`` is the one whose features and stars it takes."""

    label: str
    network: str
    algorithm: str
    features: str
    parallax: bool

    @property
    def method(self) -> str:
        """Name in the table."""
        return f"{self.algorithm}_{self.features}"

    @property
    def key(self) -> str:
        """Name of the task."""
        return f"{self.label} {self.method} {'with' if self.parallax else 'without'} parallax"


@dataclass(frozen=True)
class FeatureTask:
    """Image features of all stars of a training set, for the networks of a directory."""

    training: Path
    out: Path
    prediction: ImagePrediction
    share: Share


def about_fit(fit: ImageFit) -> Record:
    """What a record says that it is of."""
    return {**asdict(fit), "model": fit.label, "method": fit.method}


def about_network(label: str, network: str, parallax: bool) -> Record:
    """The same for a network: ACF, or ACPF without parallax."""
    method = "ACF" if parallax else "ACPF"
    about = {"label": label, "network": network, "algorithm": "network", "features": "image", "parallax": parallax}
    return {**about, "model": label, "method": method}


def features_path(out: Path, network: str) -> Path:
    """Where the image features of a network are: (n_stars, channels) float32 of numpy."""
    return out / f"features_{network}.npy"


def image_features(task: FeatureTask, item: tuple[Path, str]) -> Record:
    """Features of every star of the training set by the backbone of one network, given by path and digest.

    Raises
    ------
    ModelError
        If the network does not fit the stamps, or cannot be read.
    """
    path, digest = item
    predictor = Networks(((path, digest),), task.prediction, task.share).load()
    stamps = np.load(task.training / STAMPS_FILE, mmap_mode="r", allow_pickle=False)
    parts = [predictor.features(np.asarray(stamps[row : row + _ROWS])) for row in range(0, len(stamps), _ROWS)]
    found = np.concatenate(parts).astype(np.float32, copy=False)
    unknown = int((~np.isfinite(found).all(axis=1)).sum())
    target = features_path(task.out, path.stem)
    with atomic_write(target) as temporary, open(temporary, "wb") as file:
        np.save(file, found, allow_pickle=False)
    return {"rows_in": len(found), "rows_out": len(found), "without_features": unknown, **predictor.about}


def compare_images_one(task: CompareImagesTask, item: ImageFit) -> Record:
    """Search and train one method on the training stars, and score it on the stars that score the network.

    Raises
    ------
    InputError, SchemaError
        If stars, columns or image features are missing.
    ModelError
        If a package is missing, or the method fails; the message has the reason.
    """
    table = read_stars(task.training)
    y, split = floats(table, item.label), table[SPLIT].to_numpy()
    columns, share = _inputs(task, item, table)
    x = np.column_stack(list(columns.values()))
    trained = (split == TRAIN) & np.isfinite(y)
    tested = scored(task.models, table, item.label, item.network)
    started = time.perf_counter()
    with failures_told(item.key):
        settings = task.settings
        found = search_fit(
            x[trained], y[trained], algorithm=item.algorithm, trials=settings.trials, max_stars=settings.max_stars,
            seed=stream_seed(task.seed, "compare images", item.label), n_jobs=task.n_jobs,
        )  # fmt: skip
        residual = found.regressor.predict(x[tested]) - y[tested]
    return {
        **about_fit(item),
        "n_train": int(trained.sum()),
        "rows_in": int(trained.sum()),
        "rows_out": int(tested.sum()),
        "groups": group_figures(residual, groups_of(table.filter(pa.array(tested)))),
        "inputs": list(columns),
        "missing_inputs": int((~np.isfinite(x[trained | tested]).all(axis=1)).sum()),
        "components_share": share,
        "params": found.params,
        "search_rmse": found.score,
        "search_history": [trial["score"] for trial in found.history],
        "fit_seconds": time.perf_counter() - started,
        "threads": task.n_jobs,
    }


def network_record(task: CompareImagesTask, label: str, network: str, *, parallax: bool, stars_of: str) -> Record:
    """What the table says of a network itself; scored on the stars of the network ``stars_of``, as all methods are.

    Raises
    ------
    InputError
        If its predictions are not there, or too few.
    """
    table = read_stars(task.training)
    known = scored(task.models, table, label, stars_of) & scored(task.models, table, label, network)
    residual = (held_out(task.models, table, label, network) - floats(table, label))[known]
    trained = (table[SPLIT].to_numpy() == TRAIN) & np.isfinite(floats(table, label))
    return {
        **about_network(label, network, parallax),
        "n_train": int(trained.sum()),
        "rows_out": int(known.sum()),
        "groups": group_figures(residual, groups_of(table.filter(pa.array(known)))),
    }


def _inputs(task: CompareImagesTask, item: ImageFit, table: pa.Table) -> tuple[dict[str, NDArray[np.float64]], Any]:
    """Inputs of all stars by name, and the share of the variance that the components hold, where there are some."""
    components = share = None
    if item.features == "image":
        features = _features(task, item, table.num_rows)
        fitted = principal_components(features[table[SPLIT].to_numpy() == TRAIN], task.settings.components)
        components, share = fitted.of(features), float(fitted.share.sum())
    magnitudes = _dereddened(task, table) if item.features != "image" else {}
    parallax = {"parallax_mas": floats(table, PARALLAX), "error_mas": floats(table, PARALLAX_ERROR)}
    given = parallax if item.parallax else {}
    columns = input_columns(item.features, magnitudes, task.settings.colours, components=components, **given)
    return columns, share


def _features(task: CompareImagesTask, item: ImageFit, rows: int) -> NDArray[np.float32]:
    path = features_path(task.out, item.network)
    if not path.is_file():
        raise InputError("the image features are not there", where=path, cause="their own task failed")
    features = np.load(path, allow_pickle=False)
    if len(features) != rows:
        raise InputError("image features of other stars", where=path, seen=len(features), needed=rows)
    return features


def _dereddened(task: CompareImagesTask, table: pa.Table) -> dict[str, NDArray[np.float64]]:
    """Apparent magnitudes of all stars before the dust, by band."""
    magnitudes = {band: floats(table, name) for band, name in _present(task, table).items()}
    ebv = _ebv(task, table)
    if ebv is None:
        return magnitudes
    return {band: deredden(values, ebv, task.extinction[band]) for band, values in magnitudes.items()}


def _ebv(task: CompareImagesTask, table: pa.Table) -> NDArray[np.float64] | None:
    given = task.reddening
    if given is None:
        return None
    if given.value is not None:
        return np.full(table.num_rows, given.value)
    if given.sfd98 is not None:
        return ebv_sfd98(load_dust_maps(given.sfd98), *galactic(floats(table, "ra"), floats(table, "dec")))
    return floats(table, str(given.column))


def _present(task: CompareImagesTask, table: pa.Table) -> Mapping[str, str]:
    """Column of each band's magnitude, once all that is read is known to be there."""
    bands = task.settings.magnitudes
    dust = [task.reddening.column] if task.reddening and task.reddening.column else []
    missing = [name for name in (*bands.values(), *dust) if name not in table.column_names]
    if missing:
        raise SchemaError(
            "the training set lacks columns of the comparisons",
            where=task.training / TABLE_FILE,
            seen=", ".join(table.column_names),
            needed=", ".join(missing),
        )
    return bands
