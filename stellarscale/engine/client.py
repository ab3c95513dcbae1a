"""Connect to where the work is done: threads or processes of this machine, or a Dask scheduler elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stellarscale.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)
FORMS = "threads[:N], processes[:N], tcp://HOST:PORT or scheduler-file:PATH"

# A worker that dies takes its task with it once; the engine's own retries decide what happens then.
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 1,
    "distributed.scheduler.no-workers-timeout": "5 minutes",
    "distributed.scheduler.worker-ttl": "30 minutes",
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
}


@contextmanager
def connect(cluster: str = "threads") -> Iterator[Client]:
    """Yield a Dask client for a ``--cluster`` value, and close what was started for it.

    Parameters
    ----------
    cluster : str
        ``threads[:N]`` and ``processes[:N]`` start workers here (N: the number of cores), ``tcp://`` and
        ``scheduler-file:`` connect to a scheduler that runs already.

    Raises
    ------
    ConfigError
        If the form is not known, or nothing answers at the address.
    """
    import dask
    import scipy.linalg  # noqa: F401  # its BLAS has to be loaded to be held back
    from distributed import Client, LocalCluster
    from threadpoolctl import threadpool_limits

    if not log.isEnabledFor(logging.DEBUG):  # distributed sets its own level when it is imported
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
    kind, _, rest = cluster.partition(":")
    # Tasks are what runs side by side here. A BLAS that takes every core for each of them makes a small inversion a
    # hundred times slower on a machine that has other work.
    with dask.config.set(_SETTINGS), threadpool_limits(1, user_api="blas"):
        if kind in {"threads", "processes"}:
            n = _count(rest, cluster)
            shape: dict[str, Any] = (
                {"processes": True, "n_workers": n, "threads_per_worker": 1}
                if kind == "processes"
                else {"processes": False, "n_workers": 1, "threads_per_worker": n, "memory_limit": 0}
            )
            with (
                LocalCluster(dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL, **shape) as local,
                Client(local) as client,
            ):
                yield client
            return
        address = {"tcp": cluster, "scheduler-file": None}.get(kind, "")
        if address == "":
            raise ConfigError("no cluster of this form", seen=cluster, needed=FORMS)
        try:
            client = Client(address, scheduler_file=rest if address is None else None, timeout=30)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(
                "the Dask scheduler does not answer", where=cluster, seen=error, cause="wrong address, or not running"
            ) from error
        with client:
            yield client


def capacity(client: Client) -> int:
    """Threads of all workers now; at least one, since workers may still be on their way."""
    return max(1, sum(client.nthreads().values()))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_cores(client: Client, tasks: int) -> int:
    """Threads that each of so many tasks may start, when the workers are on machines like this one."""
    return max(1, cores() // max(1, min(tasks, capacity(client))))


def _count(text: str, cluster: str) -> int:
    if not text:
        return cores()
    if not text.isdigit() or int(text) < 1:
        raise ConfigError("the number of workers is not a positive whole number", seen=cluster, needed=FORMS)
    return int(text)
