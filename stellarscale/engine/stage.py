"""Map a function over tasks on a Dask client: a bounded number in flight, receipts, retries, quarantine."""

from __future__ import annotations

import json
import logging
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stellarscale.engine.client import capacity
from stellarscale.engine.interrupt import ends_on_interrupt, task_at_work
from stellarscale.engine.ledger import Ledger, write_json
from stellarscale.engine.memory import peak_memory_mb, reset_peak
from stellarscale.engine.progress import Progress
from stellarscale.errors import RunError, StellarscaleError

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)
Record = dict[str, Any]
ATTEMPTS = 3


class StageError(RunError):
    """Tasks of a stage failed for good; the others have their receipts.

    Attributes
    ----------
    failures : mapping of str to Exception
        Error of each failed task by its key.
    """

    failures: Mapping[str, Exception]


@dataclass
class StageResult:
    """Receipts of a stage by task key, and what was found finished."""

    receipts: dict[str, Record] = field(default_factory=dict)
    resumed: int = 0
    seconds: float = 0.0

    def total(self, name: str) -> int:
        """Sum of a number over the receipts."""
        return sum(int(receipt.get(name, 0)) for receipt in self.receipts.values())

    @property
    def peak_memory_mb(self) -> float:
        """Largest peak memory that any worker process reported."""
        return max((receipt.get("peak_memory_mb", 0.0) for receipt in self.receipts.values()), default=0.0)


def run_stage(
    client: Client,
    function: Callable[[Any], Record],
    tasks: Mapping[str, Any],
    *,
    ledger: Ledger,
    stage: str,
    progress: Progress | None = None,
    counts: str = "rows",
    resources: Mapping[str, float] | None = None,
) -> StageResult:
    """Run ``function(item)`` for every task without a receipt, and return all receipts.

    Parameters
    ----------
    function : callable
        Importable on workers (a module's function or a partial of one); takes an item, returns a small JSON-able
        record with at least ``rows_out``.
    tasks : mapping of str to item
        Items by key. The keys name the receipts.
    counts : str
        What ``rows_out`` of a record counts, for the progress.
    resources : mapping of str to float, optional
        What a worker must have for a task, e.g. ``{"GPU": 1}``; only workers that were started with it get one.

    Raises
    ------
    StageError
        When tasks failed for good. The others are finished and have their receipts; the message names what failed.
    """
    started = time.perf_counter()
    done = {key: receipt for key, receipt in ledger.receipts(stage).items() if key in tasks}
    result = StageResult(receipts=done, resumed=len(done))
    waiting = iter([(key, item) for key, item in tasks.items() if key not in done])
    failures: dict[str, Exception] = {}
    bar = progress or Progress(enabled=False)
    client.run(reset_peak)
    name = f"{ledger.out.name} {stage}"
    with (
        ledger.working(stage, len(tasks)),
        bar.stage(name, total=len(tasks), done=len(done), counts=counts),
        ends_on_interrupt(client),
    ):
        for key, outcome in _window(client, function, waiting, ledger, stage, resources):
            if isinstance(outcome, Exception):
                failures[key] = outcome
            else:
                result.receipts[key] = outcome
                bar.advance(int(outcome.get("rows_out", 0)))
    result.receipts = {key: result.receipts[key] for key in tasks if key in result.receipts}
    result.seconds = time.perf_counter() - started
    if failures:
        ledger.stopped()
        raise _failure(stage, failures, len(tasks))
    return result


def _window(
    client: Client,
    function: Callable,
    waiting: Iterator[tuple[str, Any]],
    ledger: Ledger,
    stage: str,
    resources: Mapping[str, float] | None,
) -> Iterator[tuple[str, Record | Exception]]:
    """Keep twice as many tasks in flight as there are threads; yield each outcome once."""
    from distributed import as_completed

    flying: dict[Future, tuple[str, Any, int]] = {}
    completed = as_completed(raise_errors=False)
    mine = uuid.uuid4().hex[:12]  # a scheduler knows tasks by their keys, and others may run the same stage on it

    def launch(key: str, item: Any, attempt: int) -> None:
        """Send one task to the workers."""
        future = client.submit(
            execute,
            function,
            item,
            key,
            ledger.receipt_path(stage, key),
            pure=False,
            resources=resources,
            key=f"{stage}-{key}-{attempt}-{mine}",
        )
        flying[future] = (key, item, attempt)
        completed.add(future)

    def refill() -> None:
        """Send as many waiting tasks as the workers have room for."""
        for _, (key, item) in zip(range(2 * capacity(client) - len(flying)), waiting, strict=False):
            launch(key, item, 1)

    refill()
    for future in completed:
        key, item, attempt = flying.pop(future)
        outcome = _outcome(future)
        future.release()
        if isinstance(outcome, Exception) and attempt < ATTEMPTS and not isinstance(outcome, StellarscaleError):
            log.warning("%s %s failed (attempt %d of %d): %s", stage, key, attempt, ATTEMPTS, outcome)
            launch(key, item, attempt + 1)
            continue
        yield key, outcome
        refill()  # workers may have come since


def _outcome(future: Future) -> Record | Exception:
    """The record, or why there is none: the task's own error, or a record that died with its worker."""
    try:
        return future.result()
    except Exception as error:
        return error


def execute(function: Callable[[Any], Record], item: Any, key: str, receipt: Path) -> Record:
    """What a worker does for one task: the work, then its receipt; a task that has one is not done again."""
    if receipt.is_file():
        return json.loads(receipt.read_text())
    started = time.perf_counter()
    with task_at_work():
        record = function(item)
    record = {
        **record,
        "key": key,
        "seconds": round(time.perf_counter() - started, 4),
        "host": socket.gethostname(),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }
    write_json(receipt, record)
    return record


def _failure(stage: str, failures: Mapping[str, Exception], total: int) -> StageError:
    """The first failure in the words of its own error, and which tasks it and the others were."""
    first, *others = failures.values()
    for error in others[:9]:
        log.error("%s: %s", stage, error)
    keys = ", ".join(list(failures)[:10]) + (", ..." if len(failures) > 10 else "")
    what = f"{len(failures)} of {total} tasks of the step {stage!r} failed ({keys}), the rest is finished and kept"
    if isinstance(first, StellarscaleError):
        cause = f"{first.cause.rstrip('.')}; then start the same command again" if first.cause else None
        failure = StageError(
            f"{what}: {first.what}", where=first.where, seen=first.seen, needed=first.needed, cause=cause
        )
    else:
        failure = StageError(f"{what}: {type(first).__name__}: {first}")
    failure.failures = dict(failures)
    return failure
