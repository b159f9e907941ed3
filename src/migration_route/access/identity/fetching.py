"""How are the keys of an issuer had from its server? Bounded in time and in size."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
    build_opener,
)

import msgspec

from migration_route.conf.identity import Issuer, may_be_fetched

LONGEST = 4.0
"""Seconds for one answer, from the first byte that is sent to the last that comes."""

LARGEST = 256 * 1024
_PIECE = 16 * 1024


class NotHad(Exception):
    """The keys were not had; the message says why, for the log of the server."""


def fetch_keys(issuer: Issuer) -> dict[str, Any]:
    """Return the set of keys of an issuer. Raises `NotHad`.

    Its address stands in the settings, or in the issuer's discovery document (OpenID
    Connect Discovery 1.0, 4), which has to name the issuer by the very same address.
    """
    if issuer.jwks_uri is not None:
        return _fetch(issuer.jwks_uri)
    described = _fetch(f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration")
    if described.get("issuer") != issuer.issuer:
        raise NotHad(f"{issuer.issuer} describes itself by another name")
    address = described.get("jwks_uri")
    if not isinstance(address, str) or not may_be_fetched(
        address, insecure=issuer.insecure
    ):
        raise NotHad(f"{issuer.issuer} names no https address for its keys")
    return _fetch(address)


def _fetch(address: str) -> dict[str, Any]:
    try:
        content = _read(address)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotHad(f"{address}: {type(error).__name__}: {error}") from error
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NotHad(f"{address}: this is no JSON") from error
    if not isinstance(found, dict):
        raise NotHad(f"{address}: this is no JSON object")
    return found


def _read(address: str) -> bytes:
    deadline = time.monotonic() + LONGEST
    sockets: list[socket.socket] = []
    request = Request(  # noqa: S310 - `may_be_fetched` has looked at its scheme
        address, headers={"Accept": "application/json"}
    )
    with (
        _ended_at(deadline, sockets),
        _opener(sockets).open(request, timeout=LONGEST) as answer,
    ):
        content = b""
        while piece := answer.read(_PIECE):
            content += piece
            if len(content) > LARGEST:
                raise NotHad(f"{address}: more than {LARGEST} bytes")
        if time.monotonic() > deadline:
            raise NotHad(f"{address}: not within {LONGEST:g} s")
        return content


@contextmanager
def _ended_at(deadline: float, sockets: list[socket.socket]) -> Iterator[None]:
    """End the connections at a time: a server that sends a byte now and then never
    exceeds the timeout of a socket."""

    def end() -> None:
        for one in sockets:
            with suppress(OSError):
                # Below TLS: another thread may be reading through it.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _NoRedirects(HTTPRedirectHandler):
    """An issuer's keys are where it says: nowhere else, and never behind http."""

    def redirect_request(self, *arguments: Any, **words: Any) -> None:
        del arguments, words


def _opener(sockets: list[socket.socket]) -> OpenerDirector:
    """Return an opener that remembers its sockets; a proxy of the environment is asked as
    everywhere."""

    class PlainConnection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    class SecureConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    class Plain(HTTPHandler):
        def http_open(self, req: Request) -> Any:
            return self.do_open(PlainConnection, req)

    class Secure(HTTPSHandler):
        def https_open(self, req: Request) -> Any:
            return self.do_open(SecureConnection, req)

    return build_opener(Plain, Secure, _NoRedirects)
