"""A finished training of tiny networks, as the comparison of methods finds it: stars, stamps, networks, predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from reference.tiny_networks import BACKBONE, HEAD, LAYOUT, save_tiny, tiny_stamps

from stellarscale.settings.acf import AcfJob

EXTINCTION = {"g": 2.986, "r": 2.288, "i": 1.588}
NOISE_K = 30.0  # of the network's predictions


def write_training(folder: Path, n: int = 400, *, seed: int = 2) -> pa.Table:
    """Dwarfs and giants whose log g only their distance tells; every tenth has a neighbour that spoils its light."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    giant = rng.random(n) < 0.4
    teff = rng.uniform(4500, 6500, n)
    parallax = np.where(giant, rng.uniform(0.2, 0.6, n), rng.uniform(1.0, 4.0, n))
    near = np.arange(n) % 10 == 0
    ebv = rng.uniform(0, 0.3, n)
    absolute = np.where(giant, 0.5, 4.5) + rng.normal(0, 0.1, n)
    apparent = absolute - 5 * np.log10(parallax / 1000) - 5
    colour = (6000 - teff) / 1500
    bands = {"g": apparent + colour, "r": apparent, "i": apparent - 0.5 * colour}
    spoilt = near * rng.uniform(-1, 1, n)
    columns = {
        "object_id": rng.permutation(10 * n)[:n].astype(np.int64),
        "ra": rng.uniform(0, 360, n),
        "dec": rng.uniform(-80, 0, n),
        "parallax": parallax,
        "parallax_error": rng.uniform(0.02, 0.05, n),
        "teff": np.where(np.arange(n) % 50 == 7, np.nan, teff),
        "logg": np.where(giant, 2.5, 4.4) + rng.normal(0, 0.05, n),
        "split": rng.choice(3, n, p=[0.6, 0.2, 0.2]).astype(np.int8),
        "ebv": ebv,
        "sample_quality": np.where(near, "low", "high").astype(object),
        "self_dist_arcsec": np.where(near, 6.0, np.nan),
        **{
            f"{band}_mag": values + EXTINCTION[band] * ebv + (spoilt if band == "g" else 0) + rng.normal(0, 0.02, n)
            for band, values in bands.items()
        },
    }
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    pq.write_table(table, folder / "table.parquet")
    np.save(folder / "stamps.npy", tiny_stamps(n, seed=seed))
    return table


def write_networks(models: Path, table: pa.Table, labels: tuple[str, ...] = ("teff", "logg"), *, seed: int = 5) -> None:
    """Networks with and without parallax for each label, and what they are made to say of the held-out stars."""
    rng = np.random.default_rng(seed)
    for label in labels:
        for name, parallax in ((label, True), (f"{label}_no_parallax", False)):
            save_tiny(models, (label,), name=name, parallax=parallax)
            write_held_out(models, name, table, label, scatter=NOISE_K * (1 if parallax else 3), rng=rng)


def write_held_out(models: Path, name: str, table: pa.Table, label: str, *, scatter: float, rng) -> None:
    """Predictions of validation and test stars: the truth and some scatter; every ninth star has none."""
    rows = np.flatnonzero(table["split"].to_numpy() > 0)
    truth = table[label].to_numpy()[rows]
    scale = 1.0 if label == "teff" else 0.002
    predicted = np.where(rows % 9 == 4, np.nan, truth + rng.normal(0, scatter * scale, len(rows)))
    found = {"label": [label] * len(rows), "truth": truth, "prediction": predicted, "row": rows}
    columns = {name: pa.array(values, from_pandas=True) for name, values in found.items()}
    pq.write_table(
        pa.table({"object_id": table["object_id"].take(pa.array(rows)), **columns}), models / f"held_out_{name}.parquet"
    )


def compared_job(out: Path, labels: tuple[str, ...] = ("teff", "logg"), **comparisons) -> AcfJob:
    """A job on these stars."""
    given = {"magnitudes": {band: f"{band}_mag" for band in EXTINCTION}, "colours": ["g-r", "r-i"], "trials": 2}
    units = {"teff": "K", "logg": "dex"}
    return AcfJob.model_validate(
        {
            "product": "acf",
            "name": "compared",
            "out": str(out),
            "seed": 3,
            "catalogs": {
                name: {"survey": "skymapper_dr4", "files": ["none"]} for name in ("smss", "detections", "galah")
            },
            "match": {"primary": "smss"},
            "stamps": {
                "files": "none/{image_id}-{ccd}.fits",
                "bands": list(LAYOUT.bands),
                "size_px": LAYOUT.size_px,
                "softening": dict.fromkeys(LAYOUT.bands, 5.0),
                "reddening": {"column": "ebv"},
                "extinction": EXTINCTION,
            },
            "labels": {
                "match": {"catalog": "galah"},
                "labels": {label: {"column": label, "unit": units[label]} for label in labels},
            },
            "network": {"backbone": BACKBONE.model_dump(), "head": HEAD.model_dump()},
            "training": {"without_parallax": True},
            "prediction": {"samples": 4, "batch_size": 64},
            "comparisons": {"max_stars": 200, **given, **comparisons},
            "output": {"columns": {}},
        }
    )
