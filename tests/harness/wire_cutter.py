"""How does a walk break a connection in the middle?

A small TCP proxy stands before the servers: it can lead each connection to the next of
several servers, refuse all of them, or cut one after so many bytes of its answer.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 65536


@dataclass(slots=True)
class Cut:
    """Cut the connections whose request begins like this, so many of them."""

    request: bytes
    after: int  # bytes of the answer that get through
    times: int
    done: int = 0


class WireCutter:
    """A TCP proxy on loopback."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.cuts: list[Cut] = []
        self.heads: list[bytes] = []  # how the requests began that went through
        self._turn = count()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/_m/"
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, *urls: str) -> None:
        """Lead the connections to these servers, by turns; to none: they are closed."""
        self.ports = [int(url.rsplit(":", 1)[1].strip("/")) for url in urls]

    def cut(self, request: bytes, *, after: int = 0, times: int = 1) -> Cut:
        """Cut the next connections whose request begins like this."""
        found = Cut(request, after, times)
        self.cuts.append(found)
        return found

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(60)
            head = client.recv(_PIECE)
            ports = self.ports
            if not head or not ports:
                return
            self.heads.append(head)
            port = ports[next(self._turn) % len(ports)]
            with socket.create_connection(("127.0.0.1", port), 10) as server:
                server.settimeout(60)
                server.sendall(head)
                up = threading.Thread(target=_pass_on, args=(client, server), daemon=True)
                up.start()
                _pass_on(server, client, most=self._most(head))
                # A thread that still reads would keep it open.
                client.shutdown(socket.SHUT_RDWR)

    def _most(self, head: bytes) -> int | None:
        """Give how many bytes of the answer get through; None: all of it."""
        with self._lock:
            for cut in self.cuts:
                if head.startswith(cut.request) and cut.done < cut.times:
                    cut.done += 1
                    return cut.after
        return None


def _pass_on(source: socket.socket, sink: socket.socket, most: int | None = None) -> None:
    passed = 0
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            if most is not None and passed + len(piece) >= most:
                sink.sendall(piece[: most - passed])
                return
            sink.sendall(piece)
            passed += len(piece)


@contextlib.contextmanager
def wire_cutter(*urls: str) -> Iterator[WireCutter]:
    """Give a proxy before these servers."""
    cutter = WireCutter()
    cutter.lead_to(*urls)
    try:
        yield cutter
    finally:
        cutter.close()
