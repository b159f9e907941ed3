"""With which key was this token signed? Keys are kept, and had anew when that is due.

How are the keys of an issuer had from its server? Bounded in time and in size.
"""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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

from migration_route.access.actors import IssuerUnavailable
from migration_route.conf.oidc import Issuer, may_be_fetched

LONGEST = 4.0
"""Seconds for one answer, from the first byte that is sent to the last that comes."""

LARGEST = 256 * 1024
_PIECE = 16 * 1024


class JwksFetchError(Exception):
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
        raise JwksFetchError(f"{issuer.issuer} describes itself by another name")
    address = described.get("jwks_uri")
    if not isinstance(address, str) or not may_be_fetched(
        address, insecure=issuer.insecure
    ):
        raise JwksFetchError(f"{issuer.issuer} names no https address for its keys")
    return _fetch(address)


def _fetch(address: str) -> dict[str, Any]:
    try:
        content = _read(address)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise JwksFetchError(f"{address}: {type(error).__name__}: {error}") from error
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise JwksFetchError(f"{address}: this is no JSON") from error
    if not isinstance(found, dict):
        raise JwksFetchError(f"{address}: this is no JSON object")
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
                raise JwksFetchError(f"{address}: more than {LARGEST} bytes")
        if time.monotonic() > deadline:
            raise JwksFetchError(f"{address}: not within {LONGEST:g} s")
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


logger = logging.getLogger("migration_route.access")

FRESH = 60 * 60.0
"""Seconds for which keys are taken as they are."""

STALE = 24 * 60 * 60.0
"""Seconds for which keys are taken while their issuer does not answer."""

PAUSE = 60.0
"""Seconds between two attempts to have the keys of one issuer: anybody can send a token
that names a key which nobody knows."""

_SMALLEST_RSA = 2048  # bits (RFC 7518, 3.3)


class UnknownKey(Exception):
    """The issuer has no key of this name."""


class JwksCache:
    """The keys of one issuer."""

    def __init__(
        self,
        issuer: Issuer,
        fetch: Callable[[Issuer], Mapping[str, Any]] = fetch_keys,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._fetching = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._had_at: float | None = None
        self._tried_at: float | None = None
        if issuer.jwks is not None:
            try:
                self._keys = usable_keys(issuer.jwks, issuer)
            except JwksFetchError as error:
                logger.warning("OIDC: %s", error)

    def find(self, name: str) -> Any:
        """Return the key of this name. Raises `UnknownKey` and `IssuerUnavailable`."""
        if self.issuer.jwks is None and not (self._is_fresh() and name in self._keys):
            self._have_anew(name)
        if name in self._keys and (self.issuer.jwks is not None or self._is_usable()):
            return self._keys[name]
        if self.issuer.jwks is None and not self._is_usable():
            raise IssuerUnavailable(
                f"The keys of {self.issuer.issuer} cannot be had, and none are known that "
                "are young enough."
            )
        raise UnknownKey

    def _age(self) -> float:
        return float("inf") if self._had_at is None else self._clock() - self._had_at

    def _is_fresh(self) -> bool:
        return self._age() <= FRESH

    def _is_usable(self) -> bool:
        return self._age() <= STALE

    def _is_due(self) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= PAUSE

    def _have_anew(self, name: str) -> None:
        """Have the keys, if that is due; one thread at a time, and who can do with what is
        known does not wait for it."""
        if not self._is_due() and not self._fetching.locked():
            return
        can_do = self._is_usable() and name in self._keys
        if not self._fetching.acquire(timeout=0 if can_do else 2 * LONGEST):
            return
        try:
            if not self._is_due():
                return  # another thread has had them meanwhile
            self._tried_at = self._clock()
            self._keys = usable_keys(self._fetch(self.issuer), self.issuer)
            self._had_at = self._clock()
        except JwksFetchError as error:
            logger.warning("The keys of %s were not had: %s", self.issuer.issuer, error)
        finally:
            self._fetching.release()


def usable_keys(found: Mapping[str, Any], issuer: Issuer) -> dict[str, Any]:
    """Return the keys that a signature can be checked with, by name; each knows its
    algorithm. Raises `NotHad` where there is none."""
    listed = found.get("keys")
    keys: dict[str, Any] = {}
    for words in listed if isinstance(listed, list) else ():
        name = words.get("kid") if isinstance(words, dict) else None
        if isinstance(name, str) and (key := _usable_key(words, issuer)) is not None:
            keys[name] = key
    if not keys:
        raise JwksFetchError(f"{issuer.issuer} has no key that can be used")
    return keys


def _usable_key(words: dict[str, Any], issuer: Issuer) -> Any:
    """Return a key with the algorithm that it is for, or None: that is never what the
    token says, and never one whose key the caller has as well."""
    import jwt

    if words.get("use", "sig") != "sig":
        return None
    kind, curve = str(words.get("kty")), str(words.get("crv", ""))
    algorithm = str(words.get("alg") or _ALGORITHM_OF.get((kind, curve)))
    if algorithm not in issuer.algorithms or _KIND_OF[algorithm[:2]] != kind:
        return None
    try:
        key = jwt.PyJWK(words, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if getattr(key.key, "key_size", _SMALLEST_RSA) < _SMALLEST_RSA and algorithm[0] in "RP":
        return None
    return key


_ALGORITHM_OF: dict[tuple[str, str], str] = {
    ("RSA", ""): "RS256",
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "EdDSA",
}
_KIND_OF = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
