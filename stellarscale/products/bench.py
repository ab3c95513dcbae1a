"""Run the benches that ship with the package, each a script of its own in ``tests/bench``."""

from __future__ import annotations

import subprocess
import sys

from stellarscale.errors import ConfigError
from stellarscale.resources import resource_directory


def run_benches(names: tuple[str, ...], *, quick: bool) -> int:
    """Run benches by name, all when none is named, each in a fresh process.

    Returns
    -------
    int
        The first exit code that is not zero, else zero.

    Raises
    ------
    ConfigError
        If a name is not known.
    """
    directory = resource_directory("bench")
    known = {path.stem.removeprefix("bench_"): path for path in sorted(directory.glob("bench_*.py"))}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError("no bench of this name", seen=", ".join(unknown), needed=f"one of {', '.join(known)}")
    codes = []
    for name in names or tuple(known):
        command = [sys.executable, str(known[name]), *(["--quick"] if quick else [])]
        codes.append(subprocess.run(command, check=False).returncode)
    return next((code for code in codes if code), 0)
