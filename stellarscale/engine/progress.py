"""Progress on the terminal: tasks done, rows and rows per second."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """One bar per stage on standard error; silent where that is no terminal, unless asked."""

    def __init__(self, enabled: bool | None = None) -> None:
        self.enabled = sys.stderr.isatty() if enabled is None else enabled
        self._bar: Any = None
        self._rows = 0
        self._counts = "rows"

    @contextmanager
    def stage(self, name: str, *, total: int, done: int, counts: str = "rows") -> Iterator[None]:
        """Show a bar while a stage runs; ``done`` tasks were finished by an earlier run, ``counts`` names its rows."""
        if not self.enabled:
            yield
            return
        from tqdm import tqdm

        self._rows, self._counts = 0, counts
        with tqdm(total=total, initial=done, desc=name, unit="part", file=sys.stderr) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def advance(self, rows: int) -> None:
        """Count a finished task and its rows."""
        if self._bar is None:
            return
        self._rows += rows
        elapsed = max(self._bar.format_dict["elapsed"], 1e-9)
        self._bar.set_postfix_str(f"{self._rows:,} {self._counts}, {self._rows / elapsed:,.0f} {self._counts}/s")
        self._bar.update(1)
