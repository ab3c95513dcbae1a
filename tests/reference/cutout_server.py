"""A cut-out service on this computer: good images, and every kind of trouble, as a script says."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits

PIXEL_DEG = 0.4976 / 3600.0


def fits_bytes(ra: float, dec: float, *, size_px: int = 24, shape: tuple[int, ...] | None = None) -> bytes:
    """A cut-out with the position in its middle."""
    image = np.arange(np.prod(shape or (size_px, size_px)), dtype=np.float32).reshape(shape or (size_px, size_px))
    unit = fits.PrimaryHDU(image)
    centre = (size_px + 1) / 2
    cards = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": centre,
        "CRPIX2": centre,
    }
    cards |= {"CD1_1": -PIXEL_DEG, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": PIXEL_DEG, "ZPAPPROX": 26.5}
    for key, value in cards.items():
        unit.header[key] = value
    stream = io.BytesIO()
    fits.HDUList([unit]).writeto(stream)
    return stream.getvalue()


class CutoutServer(ThreadingHTTPServer):
    """Answers ``get_image``; ``script`` says what an image gives first, second and so on, then a good one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: dict[str, list[object]] = {}
        self.always: object = None
        self.asked: list[tuple[float, str, str]] = []
        self.queries: list[dict[str, str]] = []
        self.release = threading.Event()
        self.guard = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/siap"

    def images(self) -> list[str]:
        """Images asked for, in order."""
        return [image for _, image, _ in self.asked]

    def handle_error(self, request, client_address) -> None:
        """Clients that went away are part of the play."""


class _Handler(BaseHTTPRequestHandler):
    server: CutoutServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        image = query["IMAGE"]
        with self.server.guard:
            self.server.asked.append((time.monotonic(), image, self.headers["User-Agent"]))
            self.server.queries.append(query)
            waiting = self.server.script.get(image, [])
            what = waiting.pop(0) if waiting else self.server.always
        ra, dec = map(float, query["POS"].split(","))
        self._answer(what, ra, dec)

    def _answer(self, what: object, ra: float, dec: float) -> None:
        good = fits_bytes(ra, dec)
        match what:
            case None:
                self._send(200, good)
            case int():
                self._send(what, f"<html><body><h1>Error {what}</h1></body></html>".encode())
            case (int() as code, wait):
                self._send(code, b"later", **{"Retry-After": str(wait)})
            case "slow":
                self.server.release.wait(10)
                self._send(200, good)
            case "drip":
                self.send_response(200)
                self.end_headers()
                while not self.server.release.wait(0.02):
                    self.wfile.write(b" ")
            case "truncated":
                self._send(200, good[: len(good) * 2 // 3], **{"Content-Length": str(len(good))})
            case "short":
                self._send(200, good[: len(good) * 2 // 3])
            case "html":
                self._send(200, b"<html><title>Oops</title><body>No such  image in the archive</body></html>")
            case "elsewhere":
                self._send(200, fits_bytes(ra + 1.0, dec))
            case "cube":
                self._send(200, fits_bytes(ra, dec, shape=(2, 24, 24)))
            case "empty":
                self._send(200, b"")
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    def _send(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


@contextmanager
def cutout_server() -> Iterator[CutoutServer]:
    """A server in a thread of its own."""
    server = CutoutServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
