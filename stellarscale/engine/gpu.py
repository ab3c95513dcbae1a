"""Which workers have a GPU, and how many share a machine's cores."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)
RESOURCE = "GPU"


def gpu_resources(client: Client) -> dict[str, float] | None:
    """What a task that wants a GPU asks for; None where no worker was started with ``--resources GPU=1``.

    A worker without the resource may use a GPU all the same, if torch finds one there.
    """
    workers = client.scheduler_info()["workers"]
    having = sum(1 for worker in workers.values() if worker.get("resources", {}).get(RESOURCE, 0) >= 1)
    if not having:
        log.info("no worker has the resource %s: networks run on every worker, on what torch finds there", RESOURCE)
        return None
    log.info("%d of %d workers have the resource %s: networks run on these", having, len(workers), RESOURCE)
    return {RESOURCE: 1}


def workers_per_host(client: Client) -> int:
    """Most worker processes that share a machine, at least one: its cores are divided among them."""
    hosts = Counter(urlsplit(address).hostname for address in client.nthreads())
    return max(hosts.values(), default=1)
