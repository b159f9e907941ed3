"""Errors between the remote client and the server."""

from __future__ import annotations

import msgspec

from migration_route.core.errors import InvalidRequest, RouteError
from migration_route.presentation.schemas import Problem
from migration_route.presentation.text.exit_codes import UNREACHABLE, exit_of_problem
from migration_route.presentation.text.terminal import problem_line


class Unreachable(RouteError):
    """The server does not respond."""

    code = "unreachable"
    http_status = 503
    exit_code = UNREACHABLE
    is_passing = True  # a retry may succeed
    was_sent = True  # the request may have arrived


class NotTrusted(Unreachable):
    """The certificate of the server is not trusted."""

    hint = "Use --ca with the file of the authority that signed it."
    is_passing = False
    was_sent = False


class NotAMigrationRoute(InvalidRequest):
    """The server at this address is not a migration route."""

    code = "not_the_route"
    http_status = 404
    hint = (
        "Set --url to where the project mounts it, as in https://example.com/migrations/."
    )


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
