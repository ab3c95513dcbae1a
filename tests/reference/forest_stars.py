"""Made-up stars to grow forests on, and the options of a small forest."""

from __future__ import annotations

import numpy as np

from stellarscale.models.forest import ForestConfig

NAMES = ("bp_rp_0", "g_abs", "parallax_mas", "ebv")
SMALL = ForestConfig(n_estimators=40, max_depth=9, backend="sklearn", n_jobs=1)


def make_stars(n_rows=600, seed=0):
    """Features (float32) and temperatures that follow from two of them, with noise of 20 K."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, len(NAMES))).astype(np.float32)
    return x, 5500.0 + 400.0 * x[:, 0] + 150.0 * x[:, 1] ** 2 + rng.normal(scale=20.0, size=n_rows)
