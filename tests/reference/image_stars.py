"""Small stamps whose labels can be read off them, and a network small enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from reference.mock_catalog import write_mock

from stellarscale.kernels.healpix import pixel_of
from stellarscale.models.image_stars import TrainingStars
from stellarscale.settings.image_network import Backbone, Head, ImageNetwork
from stellarscale.stamp_columns import StampFormat, binary_array, coverage_field, stamp_field

SIZE = 16
LAYOUT = StampFormat(("g", "r"), SIZE, "float16", (5.0, 5.0), 25.0, False)
BACKBONE = Backbone(stem_kernel=3, depths=(1, 1), channels=(16, 32), heads=(2, 2), stripes=(1, 2), mlp_ratio=2.0)
NETWORK = ImageNetwork(backbone=BACKBONE, head=Head(parallax_units=8, hidden=(32, 16), dropout=0.1))
BLIND = NETWORK.model_copy(update={"parallax": False})


def blob_stamps(n: int, *, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stamps (n, 2, 16, 16) of one blob each, its brightness in asinh units and its colour, both (n,)."""
    rng = np.random.default_rng(seed)
    brightness, colour = rng.uniform(2.0, 6.0, n), rng.uniform(-1.0, 1.0, n)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    profile = np.exp(-0.5 * (x**2 + y**2) / 2.0**2)
    peak = np.stack([brightness, brightness - colour], axis=1)
    noise = rng.normal(0, 0.02, (n, 2, SIZE, SIZE))
    return (peak[:, :, None, None] * profile + noise).astype(np.float16), brightness, colour


def training_stars(folder: Path, n: int = 400, *, seed: int = 1) -> TrainingStars:
    """Stars with two labels: ``teff`` from the brightness, ``logg`` from the colour; four in five train."""
    stamps, brightness, colour = blob_stamps(n, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "stamps.npy", stamps)
    rng = np.random.default_rng(seed + 1)
    return TrainingStars(
        stamps=folder / "stamps.npy",
        names=("teff", "logg"),
        labels=np.stack([5000 + 300 * brightness, 3 + colour], axis=1),
        parallax=np.stack([rng.uniform(0.5, 5, n), rng.uniform(0.01, 0.05, n)], axis=1),
        split=(np.arange(n) % 5 == 4).astype(np.int8),
    )


def labelled_table(n: int = 400, *, seed: int = 1) -> pa.Table:
    """Rows of a catalogue of labelled stars with stamps, along the sky."""
    stamps, brightness, colour = blob_stamps(n, seed=seed)
    rng = np.random.default_rng(seed + 2)
    ra, dec = rng.uniform(30, 34, n), rng.uniform(-42, -38, n)
    sky = pixel_of(ra, dec)
    order = np.argsort(sky, kind="stable")
    columns = {
        "_healpix_29": pa.array(sky[order]),
        "object_id": pa.array(rng.permutation(10 * n)[:n].astype(np.int64)[order]),
        "ra": pa.array(ra[order]),
        "dec": pa.array(dec[order]),
        "g_mag": pa.array((14 - brightness[order]).astype(np.float32)),
        "gaia_parallax": pa.array(rng.uniform(0.5, 5, n)),
        "gaia_parallax_error": pa.array(rng.uniform(0.01, 0.05, n)),
        "galah_teff": pa.array((5000 + 300 * brightness[order]).astype(np.float32)),
        "galah_teff_err": pa.array(rng.uniform(20, 60, n).astype(np.float32)),
        "galah_logg": pa.array((3 + colour[order]).astype(np.float32)),
        "quality_flags": pa.array(np.zeros(n, np.int32)),
    }
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    fields += [stamp_field(LAYOUT), coverage_field(LAYOUT)]
    coverage = np.ones((n, LAYOUT.pixels), dtype=np.uint8)
    arrays = [*columns.values(), binary_array(stamps[order], fields[-2].type)]
    return pa.table([*arrays, binary_array(coverage, fields[-1].type)], schema=pa.schema(fields))


def write_labelled(root: Path, table: pa.Table, *, max_rows: int = 150) -> Path:
    """The table as a catalogue of several partitions."""
    write_mock(root, table, max_rows=max_rows, row_group_rows=32, stellarscale_id="object_id")
    return root
