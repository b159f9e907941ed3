"""What can go wrong between the client and the route?"""

from __future__ import annotations

import msgspec

from migration_route.core.errors import InvalidRequest, RouteError
from migration_route.presentation.schemas import Problem
from migration_route.presentation.text.exit_codes import UNREACHABLE, exit_of_problem
from migration_route.presentation.text.terminal import problem_line


class Unreachable(RouteError):
    """The migration route does not answer."""

    code = "unreachable"
    http_status = 503
    exit_code = UNREACHABLE
    is_passing = True  # it may answer a little later
    was_sent = True  # the request may have arrived


class NotTrusted(Unreachable):
    """The certificate of the server is not one that is trusted here."""

    hint = "Name the file of the authority that has signed it with --ca."
    is_passing = False
    was_sent = False


class NotAMigrationRoute(InvalidRequest):
    """What answers at this address is not a migration route."""

    code = "not_the_route"
    http_status = 404
    hint = "--url is where the project mounts it, as in https://example.com/migrations/."


class NotUnderstood(RouteError):
    """The answer of the route is not one that this client can read."""

    code = "answer_not_understood"
    http_status = 500
    hint = "Bring django-migration-route to the same version on both sides."


class ProblemResponse(Exception):
    """The route has answered with a problem."""

    def __init__(self, problem: Problem, raw: bytes) -> None:
        """Take the problem, and the JSON that it came as."""
        self.problem = problem
        self.raw = raw
        super().__init__(problem_line(problem))

    @property
    def exit_code(self) -> int:
        """Return the exit code that goes with it."""
        return exit_of_problem(self.problem.code, self.problem.status)


def problem_in(raw: bytes) -> Problem | None:
    """Return the problem that an answer tells; None when it is none of the route's."""
    try:
        return msgspec.json.decode(raw, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
