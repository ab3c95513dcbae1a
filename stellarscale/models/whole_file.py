"""Files of models that are there completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = ".stellarscale-part"  # as the rest of the package: a step sweeps what a killed one left


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a temporary file in the same directory; move it into place when the body ends well.

    A reader sees the file that was there before, or the whole new one.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_TEMPORARY)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
