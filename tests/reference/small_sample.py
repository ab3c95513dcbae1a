"""A model's stars as the training step leaves them, and a job to go with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stellarscale.config import SagesJob
from stellarscale.kernels.forest import predict
from stellarscale.models.forest import ForestConfig, describe, train
from stellarscale.models.store import save

INPUTS = ("bp_rp_0", "u_g_0", "m_g_0")


def write_sample(models: Path, name: str, *, n: int = 600, seed: int = 0) -> pa.Table:
    """A sample of ``n`` stars: 60 % train, 20 % are held out, 20 % test from another catalogue."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(INPUTS))).astype(np.float32)
    label = 5000 + 600 * x[:, 0] - 200 * x[:, 1] * x[:, 2] + rng.normal(0, 20, n)
    role = np.array(["train", "train", "train", "held_out", "test:apogee"])[np.arange(n) % 5]
    table = pa.table(
        {
            **{column: x[:, i] for i, column in enumerate(INPUTS)},
            "label": label,
            "role": pa.array(role.astype(object), pa.string()),
            "source": pa.array(np.where(role == "test:apogee", "apogee", "lamost").astype(object), pa.string()),
            "star": np.arange(n),
            "ra": rng.uniform(0, 360, n),
            "dec": rng.uniform(-90, 90, n),
        }
    )
    models.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, models / f"{name}_sample.parquet")
    return table


def write_forest(models: Path, name: str, sample: pa.Table) -> None:
    """A small forest on the sample, and what it says of the stars that did not train."""
    trains = np.array(sample["role"].to_pylist()) == "train"
    x, y = np.column_stack([sample[column].to_numpy() for column in INPUTS]), sample["label"].to_numpy()
    trained = train(x[trains], y[trains], feature_names=INPUTS, config=ForestConfig(n_estimators=20, n_jobs=1))
    save(models / f"{name}.npz", trained.packed, describe(trained, label="teff", unit="K"))
    evaluated = sample.filter(pa.array(~trains)).select(["star", "ra", "dec", "role", "source", "label"])
    mean, _ = predict(trained.packed, np.ascontiguousarray(x[~trains]))
    pq.write_table(evaluated.append_column("prediction", pa.array(mean)), models / f"{name}_evaluated.parquet")


def small_job(out: Path, *, labels: tuple[str, ...] = ("teff",), **training: Any) -> SagesJob:
    """A job with a model of all stars for each label."""
    return SagesJob.model_validate(
        {
            "product": "sages",
            "name": "small",
            "out": str(out),
            "seed": 3,
            "catalogs": {"gaia": {"path": "gaia"}},
            "match": {"primary": "gaia"},
            "output": {"columns": {}},
            "training": {
                "labels": {label: {"column": label} for label in labels},
                "inputs": list(INPUTS),
                "models": [{"label": label} for label in labels],
                "forest": {"n_estimators": 20},
                **training,
            },
        }
    )
