"""The survey's cut-out service: addresses, a polite rate, retries, and a check of what came.

Of a detection it gives a small FITS image: ``<base>/get_image?IMAGE=<image_id>-<ccd>&SIZE=<deg>&POS=<ra>,<dec>``.
"""

from __future__ import annotations

import email.utils
import http.client
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stellarscale import __version__
from stellarscale.errors import ConfigError, InputError
from stellarscale.kernels.tpv import sky_to_pixel
from stellarscale.surveys.cutouts import read_cutouts

SKYMAPPER = "https://api.skymapper.nci.org.au/public/siap/dr4"
MOST_DEG = 0.17  # what the service allows
_AGENT = f"stellarscale/{__version__} (cut-outs of stars)"
_CHUNK_BYTES = 1 << 16
_WRONG_CONTENT_ATTEMPTS = 2  # a page or image that came complete and is wrong will be so again
_GONE = {404, 410}
_LATER = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class CutoutService:
    """Where cut-outs come from, and how the service is asked.

    Attributes
    ----------
    base_url : str
        Address without ``/get_image``.
    size_deg : float
        Side of a cut-out.
    requests_per_s : float
        At most so many begin in a second, over all threads.
    threads : int
        Requests under way at once.
    attempts : int
        Of one cut-out before it is given up; what the service refuses is not asked for again.
    timeout_s : float
        Longest silence, and longest time that a cut-out may take to come.
    backoff_s : float
        Wait after the first failure; it doubles with each further one.
    longest_wait_s : float
        A wait is never longer; a service that asks for more is not asked again for this cut-out.
    give_up_after : int
        Cut-outs that fail in a row, without one that comes or is said not to exist, before all is given up.
    """

    base_url: str = SKYMAPPER
    size_deg: float = 0.01
    requests_per_s: float = 4.0
    threads: int = 4
    attempts: int = 6
    timeout_s: float = 60.0
    backoff_s: float = 2.0
    longest_wait_s: float = 600.0
    give_up_after: int = 20

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigError("the address of the service is none", seen=self.base_url, needed="http:// or https://")
        if not 0 < self.size_deg <= MOST_DEG:
            raise ConfigError("the service gives no such cut-out", seen=self.size_deg, needed=f"0 to {MOST_DEG} deg")
        if self.requests_per_s <= 0 or self.threads < 1:
            raise ConfigError(
                "nothing would be asked",
                seen=f"{self.requests_per_s} requests/s, {self.threads} threads",
                needed="more than 0 of both",
            )


@dataclass(frozen=True)
class CutoutRequest:
    """One detection of a star, cut out around the star's position (deg)."""

    object_id: int
    image_id: int
    ccd: int
    band: str
    ra: float
    dec: float


@dataclass(frozen=True)
class Outcome:
    """What became of a request; of a failed one whether it will fail again, and why."""

    state: Literal["fetched", "failed", "stopped"]
    n_bytes: int = 0
    permanent: bool = False
    reason: str = ""


class RateLimit:
    """Turns of all threads: requests begin evenly spaced, never more of them in a second than the rate."""

    def __init__(self, requests_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._spacing_s, self._clock = 1.0 / requests_per_s, clock
        self._lock, self._next = threading.Lock(), clock()

    def reserve(self) -> float:
        """Take the next turn; returns the seconds to wait for it."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._spacing_s
            return turn - now

    def pause(self, seconds: float) -> None:
        """No turn begins before so many seconds have passed."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)


class _TroubleError(Exception):
    """Why a cut-out did not come; whether asking again is of use, and how long the service asks to wait before."""

    def __init__(
        self, reason: str, kind: Literal["gone", "refused", "passing"] = "passing", wait_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.kind, self.wait_s = reason, kind, wait_s


def cutout_url(service: CutoutService, request: CutoutRequest) -> str:
    """Address of one cut-out."""
    return (
        f"{service.base_url.rstrip('/')}/get_image?IMAGE={request.image_id}-{request.ccd}&SIZE={service.size_deg:.6g}"
        f"&POS={request.ra:.7f},{request.dec:.7f}&FORMAT=fits"
    )


def fetch_cutout(
    service: CutoutService,
    request: CutoutRequest,
    accept: Callable[[bytes], None],
    *,
    limit: RateLimit,
    stop: threading.Event,
) -> Outcome:
    """Ask for one cut-out until it comes, it is said not to exist, or the attempts are used up.

    Parameters
    ----------
    service : CutoutService
        Attempts, waits, timeout.
    request : CutoutRequest
    accept : callable
        Gets the bytes that came, checks and keeps them; an :class:`InputError` of it means that they are not right.
    limit : RateLimit
        Shared by all threads; a wait that the service asks for holds all of them.
    stop : Event
        Set: ask no more, and leave what is under way.

    Returns
    -------
    Outcome
        Waits between attempts grow twofold, with a random part so that threads do not come back together.
    """
    trouble = _TroubleError("not asked")
    wrong = 0
    for attempt in range(service.attempts):
        if stop.wait(limit.reserve()):
            return Outcome("stopped")
        try:
            raw = _get(cutout_url(service, request), service.timeout_s, stop)
            if raw is None:
                return Outcome("stopped")
            accept(raw)
            return Outcome("fetched", n_bytes=len(raw))
        except _TroubleError as error:
            trouble = error
        except InputError as error:
            trouble, wrong = _TroubleError(f"{error.what}: {error.seen}" if error.seen else error.what), wrong + 1
        if trouble.wait_s is not None:
            limit.pause(min(trouble.wait_s, service.longest_wait_s))
        if trouble.kind != "passing" or wrong == _WRONG_CONTENT_ATTEMPTS or attempt == service.attempts - 1:
            break
        if (trouble.wait_s or 0.0) > service.longest_wait_s:
            break
        wait_s = min(service.backoff_s * 2**attempt, service.longest_wait_s) * random.uniform(0.5, 1.0)
        if trouble.wait_s is None and stop.wait(wait_s):
            return Outcome("stopped")
    return Outcome("failed", permanent=trouble.kind == "gone", reason=trouble.reason)


def still_gives(service: CutoutService, request: CutoutRequest) -> bool:
    """Whether the service gives anything now for a cut-out that it once gave."""
    limit = RateLimit(service.requests_per_s)
    return fetch_cutout(service, request, lambda raw: None, limit=limit, stop=threading.Event()).state == "fetched"


def check_cutout(path: Path, request: CutoutRequest) -> None:
    """Check that a file is a cut-out that stamps can be made of, with the star on one of its images.

    Raises
    ------
    InputError
        If it is no complete FITS file of two-dimensional images with coordinates (of an error page the first words are
        told), or the star lies on none of them.
    """
    with path.open("rb") as stream:
        start = stream.read(2048)
    if start.lstrip()[:1] in (b"<", b"{") or (start and start.isascii() and not start.startswith((b"SIMPLE", b"\x1f"))):
        raise InputError("the service sent a text instead of an image", where=path, seen=repr(_words(start)))
    seen = []
    for cutout in read_cutouts(path):
        x, y = sky_to_pixel(cutout.wcs, request.ra, request.dec)
        height, width = cutout.image.shape
        if -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5:
            return
        seen.append(f"pixel {float(x):.0f}, {float(y):.0f} of {width} x {height}")
    raise InputError("the star is not on the cut-out", where=path, seen="; ".join(seen))


def _get(url: str, timeout_s: float, stop: threading.Event) -> bytes | None:
    """Bytes at an address; None when stopped."""
    try:
        asked = urllib.request.Request(url, headers={"User-Agent": _AGENT, "Accept": "*/*"})
        with urllib.request.urlopen(asked, timeout=timeout_s) as response:
            return _body(response, timeout_s, stop)
    except urllib.error.HTTPError as error:
        raise _refusal(error) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _TroubleError(
            f"{type(cause).__name__}: {cause}" if isinstance(cause, Exception) else str(cause)
        ) from error


def _body(response: http.client.HTTPResponse, timeout_s: float, stop: threading.Event) -> bytes | None:
    until = time.monotonic() + timeout_s
    parts = []
    while part := response.read1(_CHUNK_BYTES):
        parts.append(part)
        if stop.is_set():
            return None
        if time.monotonic() > until:
            raise TimeoutError(f"not complete after {timeout_s:g} s")
    raw, told = b"".join(parts), response.headers.get("Content-Length")
    if told is not None and told.isdecimal() and len(raw) != int(told):
        raise _TroubleError(f"the answer is cut off: {len(raw)} of {told} bytes")
    return raw


def _refusal(error: urllib.error.HTTPError) -> _TroubleError:
    with error:
        try:
            words = _words(error.read(2048))
        except (OSError, http.client.HTTPException):
            words = ""
    reason = f"HTTP {error.code} {error.reason}" + (f": {words}" if words else "")
    kind: Literal["gone", "refused", "passing"] = "passing" if error.code in _LATER else "refused"
    return _TroubleError(
        reason, "gone" if error.code in _GONE else kind, _asked_wait_s(error.headers.get("Retry-After"))
    )


def _asked_wait_s(text: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _words(start: bytes) -> str:
    """First words of a page, without its marks."""
    text = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", start.decode("utf-8", "replace"))
    return " ".join(text.split())[:80]
