"""Peak memory of a worker process, step by step."""

from __future__ import annotations

import contextlib
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Start a new peak, where the system can (Linux): a long-lived worker then reports each step's own."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def peak_memory_mb() -> float:
    """Largest resident memory of this process since :func:`reset_peak` (elsewhere: since it started), in MiB."""
    with contextlib.suppress(OSError, StopIteration):
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
