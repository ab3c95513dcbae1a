"""Which workers have a GPU, and how many share a machine's cores."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stellarscale.engine.client import cores

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)
RESOURCE = "GPU"


@dataclass(frozen=True)
class Share:
    """What of a machine's cores the networks in one process may take.

    Attributes
    ----------
    processes : int
        That share the machine.
    most : int or None
        Threads that the user gave this process; None for a worker that is a process of its own.
    """

    processes: int = 1
    most: int | None = None

    @property
    def threads(self) -> int:
        """Threads for torch, on the machine where it is asked; more of them than free cores slow each other down."""
        mine = max(1, cores() // self.processes)
        return mine if self.most is None else min(mine, self.most)


def gpu_resources(client: Client) -> dict[str, float] | None:
    """What a task that wants a GPU asks for; None where no worker was started with ``--resources GPU=1``.

    A worker without the resource may use a GPU all the same, if torch finds one there. A worker predicts on one GPU,
    the first that ``CUDA_VISIBLE_DEVICES`` shows it: a machine of several GPUs has a worker for each.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"]  # all of them: by default it may be five
    having = sum(1 for worker in workers.values() if worker.get("resources", {}).get(RESOURCE, 0) >= 1)
    if not having:
        log.info("no worker has the resource %s: networks run on every worker, on what torch finds there", RESOURCE)
        return None
    log.info("%d of %d workers have the resource %s: networks run on these", having, len(workers), RESOURCE)
    return {RESOURCE: 1}


def share_of_machine(client: Client, *, tasks: int | None = None) -> Share:
    """What each process that runs networks may take of its machine.

    The cores of a machine are divided among its worker processes. A worker that is this process itself, as for
    ``--cluster threads:N``, has N threads at most.

    Parameters
    ----------
    client : Client
    tasks : int, optional
        So many run in all, one at a time in a process.
    """
    threads = client.nthreads()
    hosts = Counter(urlsplit(address).hostname for address in threads)
    workers = max(hosts.values(), default=1)
    within = [n for address, n in threads.items() if address.startswith("inproc://")]
    return Share(workers if tasks is None else max(1, min(workers, tasks)), sum(within) or None)
