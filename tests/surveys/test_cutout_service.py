"""The cut-out service's client against a small server on this computer."""

from __future__ import annotations

import itertools
import threading
import time
from email.utils import formatdate

import pytest
from reference.cutout_server import cutout_server, fits_bytes

from stellarscale.errors import ConfigError, InputError
from stellarscale.surveys.cutout_service import (
    CutoutRequest,
    CutoutService,
    RateLimit,
    check_cutout,
    cutout_url,
    fetch_cutout,
)

REQUEST = CutoutRequest(object_id=81234567, image_id=20140425124821, ccd=17, band="r", ra=150.25, dec=-33.5)
NAME = "20140425124821-17"


@pytest.fixture
def server():
    with cutout_server() as made:
        yield made


class Sink:
    """Keeps what comes, after the check that the downloader makes."""

    def __init__(self, folder):
        self.path, self.raw = folder / "cutout", b""

    def __call__(self, raw: bytes) -> None:
        self.path.write_bytes(raw)
        check_cutout(self.path, REQUEST)
        self.raw = raw


@pytest.fixture
def sink(tmp_path):
    return Sink(tmp_path)


def fetch(server, sink, *, limit=None, stop=None, **settings):
    quick = {"requests_per_s": 1000.0, "backoff_s": 0.01, "timeout_s": 5.0} | settings
    service = CutoutService(base_url=server.url, **quick)
    limit, stop = limit or RateLimit(service.requests_per_s), stop or threading.Event()
    return fetch_cutout(service, REQUEST, sink, limit=limit, stop=stop)


def test_the_address_is_that_of_the_survey():
    url = cutout_url(CutoutService(size_deg=0.01), REQUEST)
    assert url == (
        "https://api.skymapper.nci.org.au/public/siap/dr4/get_image?IMAGE=20140425124821-17&SIZE=0.01"
        "&POS=150.2500000,-33.5000000&FORMAT=fits"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "file:///etc"},
        {"size_deg": 0.18},
        {"size_deg": 0.0},
        {"requests_per_s": 0.0},
        {"threads": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ConfigError):
        CutoutService(**settings)


def test_a_good_cutout_comes_at_once_and_we_say_who_asks(server, sink):
    outcome = fetch(server, sink)
    assert (outcome.state, outcome.n_bytes) == ("fetched", len(sink.raw))
    assert sink.raw == fits_bytes(REQUEST.ra, REQUEST.dec)
    assert server.images() == [NAME]
    assert server.asked[0][2].startswith("stellarscale/")
    assert server.queries[0] == {"IMAGE": NAME, "SIZE": "0.01", "POS": "150.2500000,-33.5000000", "FORMAT": "fits"}


@pytest.mark.parametrize("trouble", [503, 500, 502, 504, 429, 408, "reset", "truncated", "short", "empty", "html"])
def test_what_passes_is_asked_for_again(server, sink, trouble):
    server.script[NAME] = [trouble]
    assert fetch(server, sink).state == "fetched"
    assert len(server.asked) == 2
    assert sink.raw == fits_bytes(REQUEST.ra, REQUEST.dec)


@pytest.mark.parametrize("code, permanent", [(404, True), (410, True), (400, False), (403, False)])
def test_what_the_service_refuses_is_not_asked_for_again(server, sink, code, permanent):
    server.script[NAME] = [code, code]
    outcome = fetch(server, sink)
    assert (outcome.state, outcome.permanent) == ("failed", permanent)
    assert f"HTTP {code}" in outcome.reason
    assert f"Error {code}" in outcome.reason
    assert len(server.asked) == 1


def test_attempts_end(server, sink):
    server.always = 503
    outcome = fetch(server, sink, attempts=3)
    assert (outcome.state, outcome.permanent) == ("failed", False)
    assert "HTTP 503" in outcome.reason
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "content, words",
    [
        ("html", "text instead of an image: 'Oops No such image in the archive'"),
        ("short", "truncated"),
        ("elsewhere", "the star is not on the cut-out"),
        ("cube", "not two-dimensional"),
        ("empty", "empty"),
    ],
)
def test_wrong_content_is_asked_for_twice_and_told(server, sink, content, words):
    server.always = content
    outcome = fetch(server, sink)
    assert (outcome.state, outcome.permanent) == ("failed", False)
    assert words in outcome.reason
    assert len(server.asked) == 2
    assert sink.raw == b""


def test_an_answer_cut_off_is_told_by_its_length(server, sink):
    server.always = "truncated"
    outcome = fetch(server, sink, attempts=2)
    assert outcome.state == "failed"
    assert "cut off" in outcome.reason or "IncompleteRead" in outcome.reason


@pytest.mark.parametrize("trouble", ["slow", "drip"])
def test_a_service_that_does_not_come_to_an_end_is_left(server, sink, trouble):
    server.script[NAME] = [trouble]
    started = time.monotonic()
    assert fetch(server, sink, timeout_s=0.3).state == "fetched"
    assert 0.3 <= time.monotonic() - started < 3.0
    assert len(server.asked) == 2


def test_nobody_there_is_a_failure_and_no_traceback(sink, server):
    server.server_close()
    outcome = fetch(server, sink, attempts=2)
    assert outcome.state == "failed"
    assert "refused" in outcome.reason


def test_the_wait_that_the_service_asks_for_is_kept_by_all(server, sink):
    limit = RateLimit(1000.0)
    server.script[NAME] = [(429, 1)]
    started = time.monotonic()
    assert fetch(server, sink, limit=limit).state == "fetched"
    first, second = (moment for moment, _, _ in server.asked)
    assert second - first >= 0.99
    assert time.monotonic() - started < 3.0


def test_a_wait_until_a_date(server, sink):
    server.script[NAME] = [(503, formatdate(time.time() + 2, usegmt=True))]
    assert fetch(server, sink).state == "fetched"
    first, second = (moment for moment, _, _ in server.asked)
    assert second - first >= 0.9  # the date has whole seconds


def test_a_wait_that_is_too_long_gives_the_cutout_up_and_holds_the_others(server, sink):
    clock = [0.0]
    server.always = (503, 100000)
    limit = RateLimit(1000.0, clock=lambda: clock[0])
    assert fetch(server, sink, limit=limit, longest_wait_s=50.0).state == "failed"
    assert len(server.asked) == 1
    assert limit.reserve() == pytest.approx(50.0, abs=0.01)


def test_backoff_grows(server, sink):
    server.always = 500
    fetch(server, sink, attempts=4, backoff_s=0.08)
    moments = [moment for moment, _, _ in server.asked]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    for number, gap in enumerate(gaps):
        assert 0.08 * 2**number * 0.5 <= gap + 1e-3


def test_a_stop_is_heeded_while_waiting_and_while_reading(server, sink):
    stop = threading.Event()
    server.always = "drip"
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    assert fetch(server, sink, stop=stop).state == "stopped"
    assert time.monotonic() - started < 2.0
    assert fetch(server, sink, stop=stop).state == "stopped"
    assert len(server.asked) == 1


def test_turns_are_spaced_by_the_rate_over_all_threads():
    clock = [10.0]
    limit = RateLimit(4.0, clock=lambda: clock[0])
    assert [limit.reserve() for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]
    clock[0] += 0.5
    assert limit.reserve() == 0.5
    clock[0] += 100.0  # turns that nobody took are not saved up
    assert [limit.reserve() for _ in range(2)] == [0.0, 0.25]
    limit.pause(7.0)
    assert limit.reserve() == 7.0


def test_a_page_with_scripts_is_told_by_its_words(tmp_path):
    path = tmp_path / "page"
    path.write_bytes(b"\n<!DOCTYPE html><script>var x = 1;</script><style>a {}</style><p>Down for <b>work</b></p>")
    with pytest.raises(InputError, match="'Down for work'"):
        check_cutout(path, REQUEST)
    path.write_bytes(b'{"error": "bad"}')
    with pytest.raises(InputError, match="bad"):
        check_cutout(path, REQUEST)
