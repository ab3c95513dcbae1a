"""Clumps of positions at awkward places of the sky for tests of the match, and how its pairs are compared."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from stellarscale.kernels.sphere import propagate

KEEPS = ["nearest", "all", "mutual"]
CENTRES = {
    "north pole": (0.0, 90.0),
    "south pole": (200.0, -90.0),
    "beside the pole": (77.0, 89.999),
    "ra zero": (0.0, 12.0),
    "ra zero, high": (359.9999, -88.0),
    "equator": (180.0, 0.0),
    "anywhere": (83.6, 22.0),
}
seeds = st.integers(0, 2**32 - 1)
regions = st.sampled_from(sorted(CENTRES))
keeps = st.sampled_from(KEEPS)
quick = settings(max_examples=150, deadline=None)


def clump(rng, region, n, size_arcsec):
    """Positions around the centre of a region, by moving each from there in a random direction."""
    ra, dec = CENTRES[region]
    angle, distance = rng.uniform(0.0, 2.0 * np.pi, n), size_arcsec * np.sqrt(rng.uniform(0.0, 1.0, n))
    return propagate(ra, dec, 1e3 * distance * np.cos(angle), 1e3 * distance * np.sin(angle), 1.0)


def assert_equal_to_loop(pairs, expected):
    """The pairs are those of a loop of ``match_loop``, with their separations and numbers of candidates."""
    rows, n_candidates = expected
    assert list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == [(i, j) for i, j, _ in rows]
    np.testing.assert_allclose(pairs.separation_arcsec, [s for *_, s in rows], rtol=0, atol=1e-9)
    assert pairs.n_candidates.tolist() == n_candidates


def as_sorted(pairs):
    """(left, right) of all pairs, in order."""
    return sorted(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
