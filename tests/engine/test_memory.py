"""Each step reports its own peak."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from stellarscale.engine.memory import peak_memory_mb, reset_peak


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process start a new peak")
def test_a_new_peak_forgets_what_was_freed():
    block = np.ones(40_000_000)
    high = peak_memory_mb()
    del block
    reset_peak()
    assert peak_memory_mb() < high - 200
    assert peak_memory_mb() > 10
