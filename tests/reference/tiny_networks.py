"""Networks on images that are small enough for tests, and stamps for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from stellarscale.kernels.healpix import pixel_of
from stellarscale.models.image_inputs import ImageScaling
from stellarscale.models.image_network import build_network
from stellarscale.models.image_store import ImageModel, save_image_model
from stellarscale.settings.image_network import Backbone, Head, ImageNetwork
from stellarscale.stamp_columns import StampFormat, binary_array, stamp_field

LAYOUT = StampFormat(("g", "r", "i"), 16, "float16", (5.0,) * 3, 25.0, True)
BACKBONE = Backbone(depths=(1, 1), channels=(16, 32), heads=(2, 2), stripes=(1, 2), mlp_ratio=2)
HEAD = Head(parallax_units=8, hidden=(16, 8), dropout=0.2)
LABELS = {"teff": ("K", 5500.0, 600.0), "logg": ("dex", 4.0, 0.6), "fe_h": ("dex", -0.3, 0.4)}


def tiny_model(labels=tuple(LABELS), *, seed=1, parallax=True, layout=LAYOUT, head=HEAD):
    """A network with random weights and what it is; its outputs are made to differ from star to star."""
    network = ImageNetwork(backbone=BACKBONE, head=head, parallax=parallax, joint=len(labels) > 1)
    bands = len(layout.bands)
    scaling = ImageScaling(
        tuple(LABELS[label][1] for label in labels),
        tuple(LABELS[label][2] for label in labels),
        (1.5,) * bands,
        (1.1,) * bands,
        (1.0, 0.1),
        (0.5, 0.05),
    )
    model = ImageModel(labels, tuple(LABELS[label][0] for label in labels), network, layout, scaling, seed=seed)
    built = build_network(network, n_bands=bands, size_px=layout.size_px, n_outputs=len(labels), seed=seed)
    weights = {
        name: value.clone() * (20 if name.startswith("dense") else 1) for name, value in built.state_dict().items()
    }
    return model, weights


def save_tiny(folder: Path, labels=tuple(LABELS), *, name="joint", **options) -> tuple[Path, str]:
    """The same in a file, and its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    model, weights = tiny_model(labels, **options)
    return folder / f"{name}.safetensors", save_image_model(folder / f"{name}.safetensors", weights, model)


def tiny_stamps(n: int, *, seed=3, layout=LAYOUT) -> np.ndarray:
    """Stamps of stars of all brightnesses in the stored dtype, a few pixels missing."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: layout.size_px, : layout.size_px] - (layout.size_px - 1) / 2
    star = np.exp(-(x**2 + y**2) / rng.uniform(4, 10, (n, 1, 1, 1)))
    flux = 10 ** rng.uniform(1, 4, (n, len(layout.bands), 1, 1)) * star + rng.normal(0, 3, (n, *layout.shape))
    stamps = np.arcsinh(flux / 5.0).astype(layout.dtype)
    stamps[rng.random(stamps.shape) < 0.01] = np.nan
    return stamps


def tiny_parallaxes(n: int, *, seed=4) -> tuple[np.ndarray, np.ndarray]:
    """Parallaxes and errors, mas."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.3, 2.0, n), rng.uniform(0.02, 0.2, n)


def stamp_table(n: int, *, seed=5, layout=LAYOUT, null=()) -> pa.Table:
    """A table of stamps along the sky, in a patch of it; rows of ``null`` have no stamp."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(10, 14, n), rng.uniform(-2, 2, n)
    sky = np.sort(pixel_of(ra, dec))
    parallax, error = tiny_parallaxes(n, seed=seed)
    without = np.isin(np.arange(n), null)
    field = stamp_field(layout)
    columns = {
        "_healpix_29": pa.array(sky),
        "object_id": pa.array(np.arange(n) + 10**9),
        "ra": pa.array(ra),
        "dec": pa.array(dec),
        "gaia_parallax": pa.array(parallax),
        "gaia_parallax_error": pa.array(error),
        "g_mag": pa.array(rng.uniform(12, 17, n).astype(np.float32)),
        "g_mag_err": pa.array(rng.uniform(0.01, 0.1, n).astype(np.float32)),
        "stamp": binary_array(tiny_stamps(n, seed=seed, layout=layout), field.type, null=without),
        "quality_flags": pa.array(np.zeros(n, dtype=np.int32)),
    }
    fields = [field if name == "stamp" else pa.field(name, column.type) for name, column in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields))
