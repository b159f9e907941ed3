"""Which calls does the client make, and what does it do when one is not answered?

What may be asked twice is asked again for a bounded time: a deploy replaces the server in
the middle of a run, and a connection that breaks says nothing about the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from migration_route.cli.remote.errors import (
    NotAMigrationRoute,
    NotUnderstood,
    ProblemResponse,
    Unreachable,
    problem_in,
)
from migration_route.cli.remote.transport import Reply, Transport
from migration_route.presentation.schemas import Answer, Problem, to_json

Kind = TypeVar("Kind", bound=Answer)

_PAUSES = (0.2, 0.5, 1.0, 2.0, 3.0)  # seconds; the last one again and again
_PASSING = frozenset({429, 502, 503, 504})
_FOR_GOOD = frozenset({"launch_failed"})  # a 503 that is the end of a run
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Generic[Kind]):
    """An answer, and the JSON that it came as: `--json` prints all of that, known or
    not."""

    value: Kind
    raw: bytes


@dataclass(slots=True, kw_only=True)
class RouteClient:
    """A route that is asked from afar."""

    transport: Transport
    patience: float  # seconds without an answer until the client gives up; 0: at once
    tell_trouble: Callable[[str], Any]  # that it asks again, and why

    def get(self, path: str, kind: type[Kind], **query: Any) -> Answered[Kind]:
        """GET. Raises `Told`, `Unreachable`, `NotTheRoute` and `NotUnderstood`."""
        wanted = {key: value for key, value in query.items() if value is not None}
        words = f"?{urlencode(wanted, doseq=True)}" if wanted else ""
        return _read(self._call("GET", path + words), kind)

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        kind: type[Kind],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answered[Kind]:
        """POST; again only with an Idempotency-Key, or when it cannot have arrived."""
        reply = self._call("POST", path, body=json.dumps(body).encode(), headers=headers)
        return _read(reply, kind)

    def lines(self, path: str) -> Iterator[bytes]:
        """GET lines of JSON that are numbered by `sequence`; when the answer breaks off, it
        is asked for behind the last whole line."""
        last, began, pauses, is_whole = b"", None, _pauses(), False
        while not is_whole:
            after = json.loads(last)["sequence"] if last else 0
            try:
                for line in self._lines_once(f"{path}?after={after}"):
                    last, began, pauses = line, None, _pauses()
                    yield line
                is_whole = True
            except Unreachable as error:
                began = self._wait(error, began, next(pauses))

    def _lines_once(self, path: str) -> Iterator[bytes]:
        with self.transport.opened("GET", path, headers={}) as response:
            if response.status != 200:
                reply = Reply(
                    status=response.status,
                    body=response.read(),
                    build=None,
                    url=response.url,
                )
                trouble = _passing_trouble(reply)
                raise trouble or _refusal(reply)
            rest = b""
            while piece := response.read(_PIECE):
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line + b"\n" for line in whole)
        if rest:
            raise Unreachable("The answer broke off in the middle of a line.")

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        is_repeatable = method == "GET" or "Idempotency-Key" in (headers or {})
        began, pauses = None, _pauses()
        while True:
            try:
                reply = self.transport.send(method, path, body=body, headers=headers)
                trouble = _passing_trouble(reply)
                if trouble is None or not is_repeatable:
                    return reply
            except Unreachable as error:
                if not error.is_passing or (error.was_sent and not is_repeatable):
                    raise
                trouble = error
            began = self._wait(trouble, began, next(pauses))

    def _wait(self, trouble: Exception, began: float | None, pause: float) -> float:
        """Wait before the next try; raise what is wrong when patience is at its end."""
        now = time.monotonic()
        if began is None:
            began = now
            if self.patience:
                self.tell_trouble(f"{trouble} Trying again for {self.patience:g} s.")
        left = began + self.patience - now
        if left <= 0:
            raise trouble
        time.sleep(min(pause, left))
        return began


def _pauses() -> Iterator[float]:
    yield from _PAUSES
    while True:
        yield _PAUSES[-1]


def _passing_trouble(reply: Reply) -> Exception | None:
    """Return what is wrong with an answer that may be another one a little later."""
    if reply.status not in _PASSING:
        return None
    if (problem := problem_in(reply.body)) is None:
        return Unreachable(f"{reply.url} answers with {reply.status}, and not the route.")
    return None if problem.code in _FOR_GOOD else ProblemResponse(problem, reply.body)


def _read(reply: Reply, kind: type[Kind]) -> Answered[Kind]:
    if not 200 <= reply.status < 300:
        raise _refusal(reply)
    try:
        value = msgspec.json.decode(reply.body, type=kind)
    except msgspec.ValidationError as error:
        raise NotUnderstood(
            f"The answer of {reply.url} is not understood: {error}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotAMigrationRoute(
            f"{reply.url} answers with something that is no JSON."
        ) from error
    return Answered(value=value, raw=reply.body)


def _refusal(reply: Reply) -> Exception:
    """Return the error that an answer tells; somebody else may have given it."""
    if (problem := problem_in(reply.body)) is not None:
        return ProblemResponse(problem, reply.body)
    if reply.status in _PASSING:
        return Unreachable(f"{reply.url} answers with {reply.status}, and not the route.")
    stranger = Problem(
        type="urn:migration-route:answered_by_another",
        title="Answered by another",
        status=reply.status,
        code="answered_by_another",
        detail=f"{reply.url} answers with {reply.status}, and not as the route does.",
        hint=NotAMigrationRoute.hint,
    )
    return ProblemResponse(stranger, to_json(stranger))
