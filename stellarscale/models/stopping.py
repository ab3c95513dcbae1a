"""Whether the user has interrupted the program: what works long in a thread looks here between its steps.

Python tells the main thread alone of Ctrl-C; the others would go on until they are done.
"""

from __future__ import annotations

import threading

from stellarscale.errors import RunError

_ASKED = threading.Event()


class StoppedError(RunError):
    """Work was left because the user interrupted the program."""


def ask_to_stop() -> None:
    """Let work in this process end at its next step."""
    _ASKED.set()


def allow_work() -> None:
    """Take back :func:`ask_to_stop`."""
    _ASKED.clear()


def stop_is_asked() -> bool:
    """Whether work is to end."""
    return _ASKED.is_set()


def check_stop() -> None:
    """Raise :class:`StoppedError` if work is to end."""
    if _ASKED.is_set():
        raise StoppedError("the work was interrupted", cause="what is finished is kept; the same command goes on")
