"""API calls of the remote client, with retries.

A request that can be repeated is retried for a bounded time: a deploy replaces the server
in the middle of a run, and a broken connection says nothing about the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec

from migration_route.cli.backend import BackendAnswer, Kind
from migration_route.cli.remote.transport import (
    NotAMigrationRoute,
    Reply,
    Transport,
    Unreachable,
)
from migration_route.core.errors import RouteError
from migration_route.ledger.evidence import is_bundle
from migration_route.presentation.schemas import Problem, to_json
from migration_route.presentation.text.exit_codes import exit_of_problem
from migration_route.presentation.text.problems import problem_line

_PAUSES = (0.2, 0.5, 1.0, 2.0, 3.0)  # seconds; the last one repeats
_TRANSIENT = frozenset({429, 502, 503, 504})
_FINAL = frozenset({"launch_failed"})  # a 503 that ends a run
_PIECE = 64 * 1024


class NotUnderstood(RouteError):
    """The client cannot decode the response of the server."""

    code = "answer_not_understood"
    http_status = 500
    hint = "Install the same version of django-migration-route on both sides."


class ProblemResponse(Exception):
    """The server responded with a problem."""

    def __init__(self, problem: Problem, raw: bytes) -> None:
        self.problem = problem
        self.raw = raw
        super().__init__(problem_line(problem))

    @property
    def exit_code(self) -> int:
        return exit_of_problem(self.problem.code, self.problem.status)


def problem_in(raw: bytes) -> Problem | None:
    """Return the problem in a response body; None if it is not a problem of this API."""
    try:
        return msgspec.json.decode(raw, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@dataclass(slots=True, kw_only=True)
class RouteClient:
    """Sends API calls to one server and decodes the responses."""

    transport: Transport
    patience: float  # seconds of retries without a response; 0: none
    tell_trouble: Callable[[str], Any]  # called with a message before retries

    def get(self, path: str, kind: type[Kind], **query: Any) -> BackendAnswer[Kind]:
        """Send a GET. Raises `ProblemResponse`, `Unreachable`, `NotAMigrationRoute` and
        `NotUnderstood`."""
        wanted = {key: value for key, value in query.items() if value is not None}
        suffix = f"?{urlencode(wanted, doseq=True)}" if wanted else ""
        return _read(self._call("GET", path + suffix), kind)

    def file(self, path: str) -> bytes:
        """Send a GET for an evidence bundle. Raises `ProblemResponse`, `Unreachable` and
        `NotAMigrationRoute`."""
        reply = self._call("GET", path)
        if reply.status != 200:
            raise _refusal(reply)
        if not is_bundle(reply.body):
            raise NotAMigrationRoute(f"The response of {reply.url} is not a zip file.")
        return reply.body

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        kind: type[Kind],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> BackendAnswer[Kind]:
        """Send a POST; retry only with an Idempotency-Key, or if it cannot have arrived."""
        reply = self._call("POST", path, body=json.dumps(body).encode(), headers=headers)
        return _read(reply, kind)

    def lines(self, path: str) -> Iterator[bytes]:
        """Yield lines of JSON that are numbered by `sequence`; a response that breaks off
        is requested again after its last complete line."""
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
                trouble = _transient_error(reply)
                raise trouble or _refusal(reply)
            rest = b""
            while piece := response.read(_PIECE):
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line + b"\n" for line in whole)
        if rest:
            raise Unreachable("The response ended in the middle of a line.")

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
                trouble = _transient_error(reply)
                if trouble is None or not is_repeatable:
                    return reply
            except Unreachable as error:
                if not error.is_passing or (error.was_sent and not is_repeatable):
                    raise
                trouble = error
            began = self._wait(trouble, began, next(pauses))

    def _wait(self, trouble: Exception, began: float | None, pause: float) -> float:
        """Wait before the next attempt; raise the error when the time for retries is used
        up."""
        now = time.monotonic()
        if began is None:
            began = now
            if self.patience:
                self.tell_trouble(f"{trouble} Retrying for {self.patience:g} s.")
        left = began + self.patience - now
        if left <= 0:
            raise trouble
        time.sleep(min(pause, left))
        return began


def _pauses() -> Iterator[float]:
    yield from _PAUSES
    while True:
        yield _PAUSES[-1]


def _transient_error(reply: Reply) -> Exception | None:
    """Return the error of a response that can be a different one a little later."""
    if reply.status not in _TRANSIENT:
        return None
    if (problem := problem_in(reply.body)) is None:
        return Unreachable(not_ours(reply))
    return None if problem.code in _FINAL else ProblemResponse(problem, reply.body)


def _read(reply: Reply, kind: type[Kind]) -> BackendAnswer[Kind]:
    if not 200 <= reply.status < 300:
        raise _refusal(reply)
    try:
        value = msgspec.json.decode(reply.body, type=kind)
    except msgspec.ValidationError as error:
        raise NotUnderstood(
            f"The response of {reply.url} cannot be decoded: {error}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotAMigrationRoute(f"The response of {reply.url} is not JSON.") from error
    return BackendAnswer(value=value, raw=reply.body)


def _refusal(reply: Reply) -> Exception:
    """Return the error of a response, which may come from another server."""
    if (problem := problem_in(reply.body)) is not None:
        return ProblemResponse(problem, reply.body)
    if reply.status in _TRANSIENT:
        return Unreachable(not_ours(reply))
    problem = Problem(
        type="urn:migration-route:answered_by_another",
        title="Answered by another",
        status=reply.status,
        code="answered_by_another",
        detail=not_ours(reply),
        hint=NotAMigrationRoute.hint,
    )
    return ProblemResponse(problem, to_json(problem))


def not_ours(reply: Reply) -> str:
    return f"{reply.url} responded with {reply.status}, but not from migration_route."
