"""What Ctrl-C does to the tasks that run in threads of this process: they are asked to end, and waited for briefly."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stellarscale.models.stopping import allow_work, ask_to_stop, check_stop

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)
PATIENCE_S = 3.0  # a step of a training takes less; what takes longer is left, and its task is done again
_LOOK_S = 0.05
_LOCK = threading.Lock()
_running = 0


@contextmanager
def task_at_work() -> Iterator[None]:
    """Count a task while it runs; it does not begin after an interrupt."""
    global _running
    check_stop()
    with _LOCK:
        _running += 1
    try:
        yield
    finally:
        with _LOCK:
            _running -= 1


def tasks_at_work() -> int:
    """How many tasks run in threads of this process."""
    return _running


@contextmanager
def ends_on_interrupt(client: Client) -> Iterator[None]:
    """On an interrupt, ask the tasks of this process to end, and wait a little for them, before it goes its way.

    Threads that go on after that are no more waited for when the workers close.
    """
    allow_work()
    try:
        yield
    except KeyboardInterrupt:
        ask_to_stop()
        until = time.monotonic() + PATIENCE_S
        while tasks_at_work() and time.monotonic() < until:
            time.sleep(_LOOK_S)
        if tasks_at_work():
            log.info("interrupted: %d tasks are left unfinished", tasks_at_work())
            _leave_threads(client)
        raise


def _leave_threads(client: Client) -> None:
    """Close the workers that are threads of this process, without the half minute that Dask gives to their tasks."""
    from distributed import Worker

    for worker in list(getattr(client.cluster, "workers", {}).values()):
        if isinstance(worker, Worker):
            client.sync(worker.close, executor_wait=False)
