"""Fixtures and settings that every test sees."""

from __future__ import annotations

import os
from pathlib import Path

# Before numpy is imported: a BLAS with a thread per core in each of the test processes makes them all wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# Kernels compile on their first call, so the time of one example says nothing.
settings.register_profile("stellarscale", deadline=None, max_examples=50)
settings.load_profile("stellarscale")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that need it are skipped where it is not."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("real data (../shared/data) is not here")
    return path
