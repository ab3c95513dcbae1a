"""Cut-outs of stars fetched from the survey's service into a folder: politely, and again from where it stopped."""

from __future__ import annotations

import csv
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from stellarscale.catalog.atomic import TEMPORARY_SUFFIX, atomic_write
from stellarscale.engine.lock import Lock
from stellarscale.engine.progress import Progress
from stellarscale.errors import InputError, RunError
from stellarscale.products.steps import Summary
from stellarscale.surveys.cutout_service import (
    CutoutRequest,
    CutoutService,
    Outcome,
    RateLimit,
    check_cutout,
    cutout_url,
    fetch_cutout,
    still_gives,
)

LAYOUT = "{shard}/{object_id}/{image_id}-{ccd}.fits"
FAILED = "failed.csv"
_HEAD = ["object_id", "image_id", "ccd", "permanent", "reason"]
log = logging.getLogger(__name__)
_STATE = ".stellarscale"
_THERE = "there"
_TOLD_EVERY_S = 20.0
_LOOK_S = 1.0
_NONE_EXISTS = 50  # cut-outs said not to exist before one comes: it is rather the address that is wrong
Key = tuple[int, int, int]


def cutout_path(out: Path, request: CutoutRequest) -> Path:
    """Place of a cut-out: folders of a thousandth of the stars, so that none has too many entries."""
    shard = f"{request.object_id % 1000:03d}"
    return out / LAYOUT.format(shard=shard, object_id=request.object_id, image_id=request.image_id, ccd=request.ccd)


def download_cutouts(
    requests: Iterable[CutoutRequest],
    out: Path,
    service: CutoutService,
    *,
    total: int = 0,
    progress: Progress | None = None,
) -> Summary:
    """Fetch cut-outs that are not there yet.

    Parameters
    ----------
    requests : iterable of CutoutRequest
        Taken as the work goes on; never all in memory.
    out : Path
        Folder to make or to go on with. A file that is there and holds its star is not asked for again, nor is one
        that the service said not to have: ``failed.csv`` names these with the others that failed. Without the file
        all are asked for. What a service says not to have is believed once it has given a cut-out.
    service : CutoutService
        Address, rate, retries.
    total : int
        Number of requests, for the progress.
    progress : Progress, optional
        Where to show it.

    Returns
    -------
    dict
        ``asked``, ``there``, ``fetched``, ``failed``, ``bytes``, ``seconds``, ``failed_list`` (None if none failed).

    Raises
    ------
    RunError
        If too many cut-outs fail in a row: the service, or the way to it, is down. Or if the service says of the first
        50 that they do not exist: its address is wrong. What came is kept. Or if another process is filling the folder.
    """
    started = time.perf_counter()
    (out / _STATE).mkdir(parents=True, exist_ok=True)
    stop, limit = threading.Event(), RateLimit(service.requests_per_s)
    shown = progress or Progress(enabled=False)
    with (
        _Tally(out, Lock(out / _STATE), service, shown, total) as tally,
        shown.stage("cutouts", total=total, done=0, counts="files"),
    ):
        work = partial(_one, out, service, limit, stop)
        with ThreadPoolExecutor(service.threads) as pool:
            try:
                _all(pool, work, requests, tally, most=2 * service.threads)
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return {**tally.summary, "seconds": round(time.perf_counter() - started, 2)}


def _all(pool: ThreadPoolExecutor, work, requests: Iterable[CutoutRequest], tally: _Tally, *, most: int) -> None:
    """Keep a few requests waiting, so that no thread is idle and none is far ahead."""
    flying: dict[Future[Outcome | str], CutoutRequest] = {}

    def land(until: int) -> None:
        while len(flying) > until:
            for future in wait(flying, timeout=_LOOK_S, return_when=FIRST_COMPLETED).done:
                tally.add(flying.pop(future), future.result())
            tally.tell()

    for request in requests:
        if tally.is_gone(request):
            continue
        flying[pool.submit(work, request)] = request
        land(most - 1)
    land(0)
    tally.settle()


def _one(
    out: Path, service: CutoutService, limit: RateLimit, stop: threading.Event, request: CutoutRequest
) -> Outcome | str:
    path = cutout_path(out, request)
    if _is_good(path, request):
        return _THERE
    for left in path.parent.glob(f".{path.name}.*{TEMPORARY_SUFFIX}"):  # by a process that was killed
        left.unlink(missing_ok=True)
    return fetch_cutout(service, request, partial(_keep, path, request), limit=limit, stop=stop)


def _keep(path: Path, request: CutoutRequest, raw: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(raw)
        check_cutout(temporary, request)


def _is_good(path: Path, request: CutoutRequest) -> bool:
    if not path.is_file():
        return False
    try:
        check_cutout(path, request)
    except InputError:
        return False
    return True


_FIRST_FAILURES = 4


@dataclass
class _Tally:
    """What became of the requests so far; failures go into a file as they come. The folder is locked while it lives."""

    out: Path
    lock: Lock
    service: CutoutService
    progress: Progress
    total: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("asked", "there", "fetched", "failed"), 0))
    n_bytes: int = 0
    in_a_row: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    doubted: list[tuple[Key, str]] = field(default_factory=list)  # said not to exist before any cut-out came
    known: CutoutRequest | None = None  # one that an earlier run fetched
    believed: bool = False
    told: float = field(default_factory=time.monotonic)

    def __enter__(self) -> _Tally:
        path = self.out / FAILED
        self._gone = read_gone(path)
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(_HEAD)
            rows.writerows([*key, 1, reason] for key, reason in self._gone.items())
        self._stream = path.open("a", encoding="utf-8", newline="")
        self._rows = csv.writer(self._stream, lineterminator="\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._record_doubted(permanent=False)
        self._stream.close()
        if not self.counts["failed"] and not self._gone:
            (self.out / FAILED).unlink()

    def is_gone(self, request: CutoutRequest) -> bool:
        """Whether an earlier run was told that there is no such cut-out; if so it is counted."""
        reason = self._gone.get(_key(request))
        if reason is not None:
            self._count("failed")
            self.reasons[_kind(reason)] += 1
            self.tell()
        return reason is not None

    def add(self, request: CutoutRequest, outcome: Outcome | str) -> None:
        """Count an outcome; raises :class:`RunError` when too many failed in a row, or none seems to exist."""
        if isinstance(outcome, str):
            self._count(outcome)
            self.known = self.known or request
            return
        if outcome.state == "stopped":
            return
        if outcome.state == "failed":
            self._failed(request, outcome)
        elif self.doubted:
            self._record_doubted(permanent=True)
        self.n_bytes += outcome.n_bytes
        self._count(outcome.state)
        self.in_a_row = self.in_a_row + 1 if outcome.state == "failed" and not outcome.permanent else 0
        if self.counts["failed"] == 1 and self.in_a_row:
            log.warning("a cut-out could not be had: %s", outcome.reason)
        # Where nothing has ever come, the way to the service is wrong rather than the service weak.
        most = self.service.give_up_after
        most = most if self.counts["fetched"] else min(most, _FIRST_FAILURES)
        if self.in_a_row >= most:
            raise RunError(
                "the cut-out service does not answer as it should",
                where=self.out / FAILED,
                seen=f"{self.in_a_row} cut-outs that failed in a row; the last: {outcome.reason}",
                cause="the service or the network is down; what came is kept, the same command goes on from there",
            )

        if len(self.doubted) >= _NONE_EXISTS and not self.settle():
            raise RunError(
                "the cut-out service says of every cut-out that it does not exist",
                where=cutout_url(self.service, request),
                seen=f"{len(self.doubted)} failures and no cut-out that came; the last: {outcome.reason}",
                needed="the address of the survey's cut-out service, at which /get_image gives images",
                cause="--url is wrong, or the service has moved; none of these cut-outs is given up: the same command "
                "with the right address asks for them again",
            )

    def settle(self) -> bool:
        """Find out, where nothing came, whether the service gives what it once gave; if so the doubted do not exist."""
        if self.doubted and self.known is not None and still_gives(self.service, self.known):
            self._record_doubted(permanent=True)
            self.believed = True
        return self.believed

    def tell(self) -> None:
        """Log how far it is, now and then."""
        if time.monotonic() < self.told + _TOLD_EVERY_S:
            return
        self.told = time.monotonic()
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in self.reasons.most_common(5))
        asked, there, fetched, failed = (f"{number:,}" for number in self.counts.values())
        line = "cut-outs: %s of %s, %s fetched, %s there before, %s failed%s"
        log.info(line, asked, f"{self.total:,}", fetched, there, failed, f" ({kinds})" if kinds else "")

    def _failed(self, request: CutoutRequest, outcome: Outcome) -> None:
        self.reasons[_kind(outcome.reason)] += 1
        if outcome.permanent and not (self.counts["fetched"] or self.believed):
            self.doubted.append((_key(request), outcome.reason))
            return
        self._record(_key(request), outcome.reason, permanent=outcome.permanent)

    def _record_doubted(self, *, permanent: bool) -> None:
        for key, reason in self.doubted:
            self._record(key, reason, permanent=permanent)
        self.doubted.clear()

    def _record(self, key: Key, reason: str, *, permanent: bool) -> None:
        self._rows.writerow([*key, int(permanent), reason])
        self._stream.flush()

    @property
    def summary(self) -> Summary:
        failed = self.out / FAILED
        return {**self.counts, "bytes": self.n_bytes, "failed_list": str(failed) if self.counts["failed"] else None}

    def _count(self, what: str) -> None:
        self.counts["asked"] += 1
        self.counts[what] += 1
        self.progress.advance(1)


def _kind(reason: str) -> str:
    """A reason without what differs from one cut-out to the next."""
    return reason.split(":")[0][:60]


def _key(request: CutoutRequest) -> Key:
    return request.object_id, request.image_id, request.ccd


def read_gone(path: Path) -> dict[Key, str]:
    """Cut-outs that a list of failures says do not exist, with the reason; a line that is not whole is passed over."""
    if not path.is_file():
        return {}
    gone: dict[Key, str] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.reader(stream):
            if len(row) == len(_HEAD) and row[3] == "1" and all(cell.isdecimal() for cell in row[:3]):
                gone[int(row[0]), int(row[1]), int(row[2])] = row[4]
    return gone
