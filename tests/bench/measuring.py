"""What the benches have in common: timing of one call, peak memory, a folder to work in, how figures are printed."""

from __future__ import annotations

import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Timing(NamedTuple):
    """Wall-clock and processor seconds of one call, and what it gave."""

    wall: float
    processor: float
    result: Any


def timed(function: Callable[[], Any]) -> Timing:
    """Call a function once; processor seconds are those of all threads of this process."""
    wall, processor = time.perf_counter(), time.process_time()
    result = function()
    return Timing(time.perf_counter() - wall, time.process_time() - processor, result)


def peak_memory_mb() -> int:
    """The largest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def machine() -> dict[str, Any]:
    """Cores that this process may use, and the versions that timings depend on."""
    return {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "numpy": np.__version__}


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    """The folder that was given, which stays; else a temporary one, removed at the end."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="stellarscale-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def show(result: dict[str, Any], *, as_json: bool) -> int:
    """Print the figures, as one JSON object or a line each; the exit code, 0 when both sides were ``equal``."""
    if as_json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:28s} {value}")
    return 0 if result["equal"] else 1
