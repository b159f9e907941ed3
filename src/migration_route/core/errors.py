"""What can go wrong on the route, and what should the caller do about it?

RouteError
├── InvalidRequest                     the request itself
│   ├── UnknownDatabase
│   ├── UnknownTarget
│   ├── UnknownRun
│   ├── UnknownRehearsal
│   ├── MethodNotAllowed
│   ├── FingerprintRequired
│   └── IdempotencyMismatch
├── Unauthenticated                    who asks
│   └── IdentityUnavailable
├── Forbidden
│   ├── CsrfFailed
│   └── ReauthenticationRequired
├── Refused                            the world does not allow it now
│   ├── PlanChanged
│   ├── StaleCode
│   ├── ActiveRun
│   ├── ActiveRehearsal
│   ├── CannotRehearse
│   ├── OrphanBackend
│   ├── PoolerDetected
│   ├── TenantsNotSupported
│   ├── NeedsResolution
│   ├── NotInThisState
│   ├── Conflict
│   ├── InconsistentHistory
│   ├── BrokenMigrations
│   ├── BlockersProtected
│   ├── ApprovalRequired
│   └── LedgerMissing
├── DatabaseUnavailable                the surroundings
├── Misconfigured
└── LaunchFailed

The first line of a class's docstring is its default message. `code` never changes.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class RouteError(Exception):
    """The migration route could not do this."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    hint: str = ""

    def __init__(self, message: str = "", *, hint: str = "", **facts: Any) -> None:
        """Take what happened, what to do about it, and facts for machines."""
        self.message = message or inspect.cleandoc(type(self).__doc__ or "").split("\n")[0]
        self.hint = hint or type(self).hint
        self.facts = facts
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidRequest(RouteError):
    """The request cannot be understood."""

    code = "invalid_request"
    http_status = 400
    exit_code = 2


class UnknownDatabase(InvalidRequest):
    """There is no database of this name in the project."""

    code = "unknown_database"
    http_status = 404


class UnknownTarget(InvalidRequest):
    """There is no such migration to go to, or the name fits more than one."""

    code = "unknown_target"
    http_status = 404


class UnknownRun(InvalidRequest):
    """There is no run with this id."""

    code = "unknown_run"
    http_status = 404
    hint = "GET runs lists those that there are."


class UnknownRehearsal(InvalidRequest):
    """There is no rehearsal with this id."""

    code = "unknown_rehearsal"
    http_status = 404
    hint = "GET rehearsals lists those that there are."


class MethodNotAllowed(InvalidRequest):
    """This address does not answer to this method."""

    code = "method_not_allowed"
    http_status = 405


class FingerprintRequired(InvalidRequest):
    """A run needs the fingerprint of the plan that was read."""

    code = "fingerprint_required"
    http_status = 428
    hint = "GET plan, read it, and send its fingerprint along."


class IdempotencyMismatch(InvalidRequest):
    """This Idempotency-Key was used before with another request."""

    code = "idempotency_mismatch"
    http_status = 422
    hint = "Use a new key for a new request."


class Unauthenticated(RouteError):
    """Nobody is signed in, and no valid token came along."""

    code = "unauthenticated"
    http_status = 401
    exit_code = 4
    hint = "Send 'Authorization: Bearer TOKEN', or sign in as a member of staff."


class IdentityUnavailable(Unauthenticated):
    """The tables that say who is signed in cannot be read."""

    code = "unauthenticated"
    hint = (
        "They may be what has to be migrated: use a token, "
        "or 'manage.py migration_route apply' on a host."
    )


class Forbidden(RouteError):
    """This is not allowed for the one who asks."""

    code = "forbidden"
    http_status = 403
    exit_code = 4


class CsrfFailed(Forbidden):
    """The request came with a session but without a valid CSRF token."""

    code = "csrf"
    hint = "Send the X-CSRFToken header, from a page of this site."


class ReauthenticationRequired(Forbidden):
    """The login of this session is too old for a change."""

    code = "reauthentication_required"
    hint = "Sign in again, then send the request again."


class Refused(RouteError):
    """The state of the world does not allow this now."""

    code = "refused"
    http_status = 409
    exit_code = 5


class PlanChanged(Refused):
    """The plan is not the one that was read."""

    code = "plan_changed"
    hint = "Read the plan again; what has changed since is in it."


class StaleCode(Refused):
    """The plan was read from other code than that which is answering."""

    code = "stale_code"
    hint = "Wait until the deploy has reached every process, or read the plan again."


class ActiveRun(Refused):
    """Another run owns this database."""

    code = "active_run"
    hint = "Watch that run, or wait until it has ended."


class ActiveRehearsal(Refused):
    """Another rehearsal of this database is under way."""

    code = "active_rehearsal"
    hint = "Wait until it has ended, and look at what it says first."


class CannotRehearse(Refused):
    """This cannot be rehearsed here."""

    code = "cannot_rehearse"


class SessionOrphaned(Refused):
    """A session of an earlier run is still alive in the database."""

    code = "orphan_backend"
    hint = "Wait until it has gone, or cancel that run: its session is ended then."


class PoolerDetected(Refused):
    """This database is reached through a pooler that hands one session to many clients."""

    code = "pooler_detected"
    hint = (
        "A lock would not hold there. Give DATABASES an alias that leads to the server "
        'itself, and name it as "direct" in MIGRATION_ROUTE["DATABASES"].'
    )


class TenantsNotSupported(Refused):
    """This database holds a schema for each tenant: a fleet, which a run cannot migrate."""

    code = "tenants_not_supported"
    hint = (
        "Fleets are not supported yet. Run 'manage.py migrate', which migrates every "
        "schema: it takes the lock of the database and is recorded on the ledger."
    )


class NeedsResolution(Refused):
    """An earlier run stopped midway and left this database in between."""

    code = "needs_resolution"
    hint = "Put right what it left, then resolve that run with a reason."


class InvalidState(Refused):
    """The run is not in a state in which this can be done."""

    code = "not_in_this_state"


class ConflictingMigrations(Refused):
    """An app has more than one last migration."""

    code = "conflict"
    hint = "Run 'manage.py makemigrations --merge' and deploy the result."


class InconsistentHistory(Refused):
    """A migration is applied although one that it depends on is not."""

    code = "inconsistent_history"
    hint = "Compare the table django_migrations with the code, then repair it."


class BrokenMigrations(Refused):
    """The migrations of this project cannot be loaded."""

    code = "broken_migrations"
    hint = "'manage.py showmigrations' fails in the same way; mend it and deploy."


class TerminateBlockersDisabled(Refused):
    """Ending other sessions is not switched on for this database."""

    code = "blockers_protected"
    hint = "Wait until they have ended, or end them in the database."


class ApprovalRequired(Refused):
    """This plan needs an approval before it can run."""

    code = "approval_required"
    exit_code = 6


class LedgerMissing(Refused):
    """The ledger is not installed yet."""

    code = "ledger_missing"
    hint = "The first run installs it."


class DatabaseUnavailable(RouteError):
    """The database does not answer."""

    code = "database_unavailable"
    http_status = 503
    exit_code = 8


class Misconfigured(RouteError):
    """The settings of the migration route do not allow this."""

    code = "misconfigured"
    hint = "'manage.py check' names what is wrong with MIGRATION_ROUTE."


class LaunchFailed(RouteError):
    """The process of the run could not be started."""

    code = "launch_failed"
    http_status = 503
