"""A real server on the loopback interface that receives webhooks, and can be made to
misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

LONG = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]  # with lowercase names
    body: bytes
    at: float

    @property
    def message(self) -> Any:
        """The body, decoded from JSON."""
        return json.loads(self.body)

    @property
    def event(self) -> str:
        """The event that it reports."""
        return self.headers["migration-route-event"]


class Receiver:
    """A web server that stores what it receives; `behaviour` determines each response.

    A behaviour is a status, or one of "hang", "drip", "close", "garbage", "redirect".
    """

    def __init__(self, behaviour: Callable[[int], int | str] | None = None) -> None:
        self.behaviour = behaviour or (lambda _: 200)
        self.received: list[Received] = []
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """The URL that it listens on."""
        return f"http://127.0.0.1:{self.port}/hook?key=in-the-address"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def take(self, received: Received) -> int | str:
        """Store a request; return how to respond to it."""
        with self._lock:
            self.received.append(received)
            return self.behaviour(len(self.received))

    def wait_a_little(self, seconds: float) -> bool:
        """Wait; return True when the server is stopping."""
        return self._ends.wait(seconds)

    def events(self, run: str | None = None) -> list[str]:
        """Return the received events, of one run or of all, in order."""
        return [
            each.event
            for each in list(self.received)
            if run is None or (each.message["run"] or {}).get("id") == run
        ]

    def until(self, found: Callable[[], Any], what: str) -> Any:
        """Poll until the result is true, and return it."""
        deadline = time.monotonic() + LONG
        while not (answer := found()):
            assert time.monotonic() < deadline, f"{what}: there was {self.events()}"
            time.sleep(0.02)
        return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect, which the tests do on purpose."""


def a_free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        theirs = receiver

    return Handler


class _Handler(BaseHTTPRequestHandler):
    theirs: Receiver

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        received = Received(
            path=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
            at=time.time(),
        )
        self.answer(self.theirs.take(received))

    def do_GET(self) -> None:
        path = f"GET {self.path}"
        self.theirs.take(Received(path=path, headers={}, body=b"", at=time.time()))
        self.answer(200)

    def answer(self, how: int | str) -> None:
        self.close_connection = True
        match how:
            case int():
                self.send_response(how)
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "redirect":
                self.send_response(307)
                self.send_header("Location", f"http://127.0.0.1:{self.theirs.port}/gone")
                self.end_headers()
            case "hang":
                self.theirs.wait_a_little(LONG)
            case "drip":
                self.drip()
            case "garbage":
                self.wfile.write(b"\x00\xff no HTTP at all\r\n\r\n" * 10)
            case "close":
                self.wfile.write(b"HTTP/1.1 20")

    def drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        with suppress(OSError):
            while not self.theirs.wait_a_little(0.05):
                self.wfile.write(b"a")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
