"""Fixtures and settings that every test sees."""

from __future__ import annotations

from pathlib import Path

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
