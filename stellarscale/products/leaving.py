"""Where a command begins, and the end of a process whose user interrupted it."""

from __future__ import annotations

import os
import sys

from stellarscale.models.stopping import allow_work, stop_is_asked


def begin() -> None:
    """Forget the interrupt of an earlier command in the same process, which would end it at this one's."""
    allow_work()


def leave_interrupted() -> None:
    """End the process with the exit code of an interrupt if tasks ran in it; return if none did.

    The interpreter would wait for threads that still work, or take down under them what they use, and closing what
    was loaded takes seconds. All that is written appears whole or not at all, so that only unfinished tasks are lost.
    """
    if stop_is_asked():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)
