"""TCP proxies that let a test interrupt connections.

`WireCutter` is a proxy in front of web servers: it directs each connection to the next of
several servers, refuses all of them, or cuts one after that many bytes of its response.
`DatabaseLink` is a proxy in front of a database server: it partitions the clients from the
server, and restores the link afterwards.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 65536


@dataclass(slots=True)
class Cut:
    """Cuts that many connections whose request starts with this."""

    request: bytes
    after: int  # bytes of the response that are passed on
    times: int
    done: int = 0


class WireCutter:
    """A TCP proxy on loopback."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.cuts: list[Cut] = []
        self.heads: list[bytes] = []  # the starts of the requests that were passed on
        self._turn = count()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/_m/"
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, *urls: str) -> None:
        """Direct the connections to these servers in turn; without any server, close
        them."""
        self.ports = [int(url.rsplit(":", 1)[1].strip("/")) for url in urls]

    def cut(self, request: bytes, *, after: int = 0, times: int = 1) -> Cut:
        """Cut the next connections whose request starts with this."""
        found = Cut(request, after, times)
        self.cuts.append(found)
        return found

    def close(self) -> None:
        """Accept no more connections."""
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
                # A thread that is still reading would keep it open.
                client.shutdown(socket.SHUT_RDWR)

    def _most(self, head: bytes) -> int | None:
        """Return how many bytes of the response are passed on; None: all of it."""
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
    """Yield a proxy in front of these servers."""
    cutter = WireCutter()
    cutter.lead_to(*urls)
    try:
        yield cutter
    finally:
        cutter.close()


_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


@dataclass(slots=True, eq=False)
class _Wire:
    """A connection of a client, and the matching one to the server."""

    client: socket.socket
    server: socket.socket
    has_expired: bool = False  # the server has dropped it


class DatabaseLink:
    """A TCP proxy on loopback in front of a database server, which a test can interrupt.

    A cut link drops everything silently: neither side is notified, data sent meanwhile
    waits as for a retransmission, and a new connection gets no answer. `expire` makes the
    server drop the current connections, as its keepalive does; their clients are reset when
    they send something over the restored link, or when their keepalive does: a client that
    waits for a lost answer, and has no keepalive, keeps waiting. `reset` breaks all
    connections on both sides at once, and new ones until the link is restored.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._open = threading.Event()
        self._open.set()
        self._resets = False
        self._last_words = b""
        self._has_cut = threading.Event()
        self._lock = threading.Lock()
        self._wires: set[_Wire] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop everything silently from now on."""
        self._open.clear()

    def cut_after(self, text: bytes) -> threading.Event:
        """Cut as soon as a client has sent this: the server has received it, and its answer
        is lost. Return an event that is set then."""
        self._last_words = text
        self._has_cut.clear()
        return self._has_cut

    def expire(self) -> None:
        """Make the server drop the connections that the cut has silenced."""
        assert not self._open.is_set(), "the link is not cut"
        with self._lock:
            wires = list(self._wires)
        for wire in wires:
            wire.has_expired = True
            _end(wire.server)

    def reset(self) -> None:
        """Reset every connection, and new ones until the link is restored."""
        self._resets = True
        self._open.clear()
        with self._lock:
            wires = list(self._wires)
        for wire in wires:
            wire.has_expired = True
            _end(wire.server)
            _reset(wire.client)

    def restore(self) -> None:
        """Restore the link, and first pass on what has waited."""
        self._resets = False
        self._open.set()
        with self._lock:
            expired = [wire for wire in self._wires if wire.has_expired]
        for wire in expired:
            self._reset_at_probe(wire)

    def _reset_at_probe(self, wire: _Wire) -> None:
        """Reset a client when its kernel would next probe the server: here the proxy's
        kernel answers in place of the server."""
        with contextlib.suppress(OSError):
            seconds = seconds_to_probe(wire.client.getpeername()[1])
            if seconds is not None:
                timer = threading.Timer(seconds, _reset, [wire.client])
                timer.daemon = True
                timer.start()

    def close(self) -> None:
        """Accept no more connections, and end the existing ones."""
        self._listener.close()
        self.reset()
        self.restore()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._resets:
            _reset(client)
            return
        self._open.wait()
        try:
            server = socket.create_connection(self._address, 10)
        except OSError:
            _reset(client)
            return
        for end in (client, server):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = _Wire(client, server)
        with self._lock:
            self._wires.add(wire)
        down = threading.Thread(target=self._pump, args=(wire, server, client), daemon=True)
        down.start()
        self._pump(wire, client, server)
        down.join()
        with self._lock:
            self._wires.discard(wire)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.close()

    def _pump(self, wire: _Wire, source: socket.socket, sink: socket.socket) -> None:
        """Forward the data of one side for as long as the connection lasts."""
        try:
            while True:
                piece = source.recv(_PIECE)
                self._open.wait()
                if wire.has_expired:
                    if source is wire.client:
                        _reset(wire.client)
                    return
                if not piece:
                    sink.shutdown(socket.SHUT_WR)
                    return
                if self._last_words and self._last_words in piece:
                    self._last_words = b""
                    self.cut()
                    self._has_cut.set()
                sink.sendall(piece)
        except OSError:  # one side has closed, which ends the connection
            self._open.wait()
            _end(wire.server)
            _reset(wire.client)


def seconds_to_probe(port: int) -> float | None:
    """Return the seconds until the keepalive of a socket with this local port sends a probe
    (proc_pid_net(5), the columns tr and tm->when); None when it has no keepalive."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        kind, when = words[5].split(":")
        if int(words[1].split(":")[1], 16) == port and kind == "02":
            return int(when, 16) / os.sysconf("SC_CLK_TCK")
    return None


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _reset(end: socket.socket) -> None:
    """Close a connection with RST, which also unblocks a thread that reads from it."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RD)
    with contextlib.suppress(OSError):
        end.close()
