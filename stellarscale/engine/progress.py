"""Progress on standard error: a bar per stage on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any, Protocol

FIRST_LINE_S = 5.0  # a stage that takes longer is told when it begins too
NEXT_LINE_S = 60.0


class _Display(Protocol):
    def advance(self, rows: int) -> None: ...

    def close(self, *, finished: bool) -> None: ...


class Progress:
    """What is shown of a stage: a bar on a terminal, lines where there is none, or nothing when not enabled."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._display: _Display | None = None

    @contextmanager
    def stage(self, name: str, *, total: int, done: int, counts: str = "rows") -> Iterator[None]:
        """Show a stage while it runs; ``done`` tasks were finished by an earlier run, ``counts`` names its rows."""
        if not self.enabled:
            yield
            return
        kind = _Bar if sys.stderr.isatty() else _Lines
        self._display = display = kind(name, total, done, counts)
        finished = False
        try:
            yield
            finished = True
        finally:
            self._display = None
            display.close(finished=finished)

    def advance(self, rows: int) -> None:
        """Count a finished task and its rows."""
        if self._display is not None:
            self._display.advance(rows)


class _Bar:
    def __init__(self, name: str, total: int, done: int, counts: str) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(total=total, initial=done, desc=name, unit="part", file=sys.stderr)
        self._rows, self._counts = 0, counts

    def advance(self, rows: int) -> None:
        self._rows += rows
        elapsed = max(self._bar.format_dict["elapsed"], 1e-9)
        self._bar.set_postfix_str(f"{self._rows:,} {self._counts}, {self._rows / elapsed:,.0f} {self._counts}/s")
        self._bar.update(1)

    def close(self, *, finished: bool) -> None:
        self._bar.close()


class _Lines:
    """One line when a stage is done; for a long one also when it begins, and one in a minute."""

    def __init__(self, name: str, total: int, done: int, counts: str) -> None:
        self._name, self._total, self._done, self._counts = name, total, done, counts
        self._rows = 0
        self._started = self._last = time.monotonic()
        before = f", {done:,} done before" if done else ""
        self._first = Timer(FIRST_LINE_S, _say, [f"{name}: started, {total:,} tasks{before}"])
        self._first.daemon = True
        self._first.start()

    def advance(self, rows: int) -> None:
        self._rows += rows
        self._done += 1
        if time.monotonic() - self._last >= NEXT_LINE_S:
            self._last = time.monotonic()
            _say(self._state())

    def close(self, *, finished: bool) -> None:
        self._first.cancel()
        _say(self._state() if finished else f"{self._state()}, stopped")

    def _state(self) -> str:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rows = f"{self._rows:,} {self._counts} in {elapsed:.1f} s, {self._rows / elapsed:,.0f} {self._counts}/s"
        return f"{self._name}: {self._done:,} of {self._total:,} tasks, {rows}"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
