"""The exceptions of this package, with their codes, HTTP statuses, exit codes and hints.

RouteError
├── InvalidRequest                     the request itself
│   ├── UnknownDatabase
│   ├── UnknownTarget
│   ├── UnknownRun
│   ├── UnknownRehearsal
│   ├── MethodNotAllowed
│   ├── FingerprintRequired
│   └── IdempotencyMismatch
├── Unauthenticated                    the caller's identity
│   └── IdentityUnavailable
├── Forbidden                          the caller's permissions
│   ├── CsrfFailed
│   └── ReauthenticationRequired
├── Refused                            the current state of the system
│   ├── PlanChanged
│   ├── StaleCode
│   ├── ActiveRun
│   ├── ActiveRehearsal
│   ├── CannotRehearse
│   ├── SessionOrphaned
│   ├── PoolerDetected
│   ├── TenantsNotSupported
│   ├── NeedsResolution
│   ├── InvalidState
│   ├── ConflictingMigrations
│   ├── InconsistentHistory
│   ├── BrokenMigrations
│   ├── TerminateBlockersDisabled
│   └── ApprovalRequired
├── DatabaseUnavailable                the environment
├── Misconfigured
└── LaunchFailed

The first line of a class's docstring is its default message. `code` never changes.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class RouteError(Exception):
    """Internal error.

    An unexpected error. See the server's log.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    hint: str = ""

    def __init__(self, message: str = "", *, hint: str = "", **facts: Any) -> None:
        """Take what failed, what to do about it, and facts for machines."""
        self.message = message or inspect.cleandoc(type(self).__doc__ or "").split("\n")[0]
        self.hint = hint or type(self).hint
        self.facts = facts
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InvalidRequest(RouteError):
    """The request is invalid.

    The body, a query parameter, a header or a target cannot be read; targets that go in
    both directions; a resolution without a reason. 413: the body is larger than 64 KiB.
    """

    code = "invalid_request"
    http_status = 400
    exit_code = 2


class UnknownDatabase(InvalidRequest):
    """The project has no database with this alias.

    The alias is not in `DATABASES`.
    """

    code = "unknown_database"
    http_status = 404


class UnknownTarget(InvalidRequest):
    """No migration matches this target, or more than one does.

    The app, or the beginning of a migration's name, matches nothing or more than one
    migration.
    """

    code = "unknown_target"
    http_status = 404


class UnknownRun(InvalidRequest):
    """No run has this id."""

    code = "unknown_run"
    http_status = 404
    hint = "List the existing runs with GET runs."


class UnknownRehearsal(InvalidRequest):
    """No rehearsal has this id."""

    code = "unknown_rehearsal"
    http_status = 404
    hint = "List the existing rehearsals with GET rehearsals."


class MethodNotAllowed(InvalidRequest):
    """This address does not support this method.

    The address does not support the method. The header `Allow` lists the methods that it
    supports.
    """

    code = "method_not_allowed"
    http_status = 405


class FingerprintRequired(InvalidRequest):
    """A run requires the fingerprint of the reviewed plan.

    `POST runs` was called without a fingerprint.
    """

    code = "fingerprint_required"
    http_status = 428
    hint = "Request the plan with GET plan, review it, and send its fingerprint."


class IdempotencyMismatch(InvalidRequest):
    """This Idempotency-Key was already used with a different request.

    The key was used with another body. A changed plan has another fingerprint, and
    therefore another body.
    """

    code = "idempotency_mismatch"
    http_status = 422
    hint = "Use a new key for a new request."


class Unauthenticated(RouteError):
    """The request has neither a login nor a valid token.

    No session and no token; an unknown or expired token; tables of users or sessions that
    cannot be read.
    """

    code = "unauthenticated"
    http_status = 401
    exit_code = 4
    hint = "Send 'Authorization: Bearer TOKEN', or sign in as a member of staff."


class IdentityUnavailable(Unauthenticated):
    """The tables that identify the user cannot be read."""

    code = "unauthenticated"
    hint = (
        "They may need a migration themselves: use a token, or run "
        "'manage.py migration_route apply' on a host."
    )


class Forbidden(RouteError):
    """Permission denied.

    A permission is missing (`needs` in `facts`), the token is not for this database, or the
    user is not staff. `perform_migration` returns it to everyone without the permission.
    """

    code = "forbidden"
    http_status = 403
    exit_code = 4


class CsrfFailed(Forbidden):
    """The request has a session but no valid CSRF token.

    A session without its CSRF token.
    """

    code = "csrf_failed"
    hint = "Send the X-CSRFToken header, with the token from a page of this site."


class ReauthenticationRequired(Forbidden):
    """The login of this session is too old for a change.

    A user's login is older than `REAUTHENTICATION` allows for a change. `facts` contains
    `way`: `password`, `elsewhere` or `login`, and `address`. Never returned to a token.
    """

    code = "reauthentication_required"
    hint = "Sign in again, then repeat the request."


class Refused(RouteError):
    """The current state does not allow this.

    The plan goes back through an irreversible step, or the catalog does not allow a
    resolution: `operations` in `facts` contains what is known.
    """

    code = "refused"
    http_status = 409
    exit_code = 5


class PlanChanged(Refused):
    """The plan has changed since it was reviewed.

    The same code now produces another plan: a migration was applied, or a file has changed.
    """

    code = "plan_changed"
    hint = "Request the plan again and review what has changed."


class StaleCode(Refused):
    """The plan was made by different code than the code that is running here.

    The fingerprint comes from another build, or `build` names another build than the one
    that answers.
    """

    code = "stale_code"
    hint = "Wait until the deploy has reached every process, or request the plan again."


class ActiveRun(Refused):
    """Another run owns this database.

    A run of this database has not ended. `run` contains its ID.
    """

    code = "active_run"
    hint = "Watch that run, or wait until it has ended."


class ActiveRehearsal(Refused):
    """Another rehearsal of this database is in progress.

    A rehearsal of this database is in progress, its ID is in `facts`. Only one rehearsal
    per database can be active.
    """

    code = "active_rehearsal"
    hint = "Wait until it has ended, and review its result first."


class CannotRehearse(Refused):
    """This plan cannot be rehearsed here.

    A program (`pg_dump`, `mysqldump`), a privilege (`CREATEDB`) or disk space is missing,
    or this plan cannot be rehearsed in place. `detail` and `hint` name it: see [Rehearse a
    plan](../how-to/rehearse.md).
    """

    code = "cannot_rehearse"


class SessionOrphaned(Refused):
    """A session of an earlier run is still active in the database.

    A run is requested while the session of a lost one is still working in the database:
    `facts` contains its `pid`, `user`, `application`, `query`, `since` and `state`. Also
    the waiting reason of the lost run.
    """

    code = "orphaned_session"
    hint = "Wait until it has ended, or cancel that run, which terminates its session."


class PoolerDetected(Refused):
    """A pooler between this process and the database shares sessions among clients.

    A run is requested through PgBouncer in `transaction` mode or a similar pooler, or
    through a connection pool below Django: see [Use a connection
    pooler](../how-to/use-a-connection-pooler.md).
    """

    code = "pooler_detected"
    hint = (
        "A session lock is not reliable there. Add an alias to DATABASES that connects to "
        'the server itself, and set it as "direct_alias" in MIGRATION_ROUTE["DATABASES"].'
    )


class TenantsNotSupported(Refused):
    """This database has a schema for each tenant: a fleet, which a run cannot migrate.

    A run or a rehearsal is requested on a database whose backend switches schemas, such as
    that of `django-tenants`: see [Use with other
    packages](../how-to/use-with-other-packages.md).
    """

    code = "tenants_not_supported"
    hint = (
        "Fleets are not supported yet. Run 'manage.py migrate', which migrates every "
        "schema, takes the lock of the database and is recorded in the ledger."
    )


class NeedsResolution(Refused):
    """An earlier run stopped midway and left this database partially migrated.

    A run is `partial`. `run` contains its ID.
    """

    code = "needs_resolution"
    hint = "Repair what it left, then resolve that run with a reason."


class InvalidState(Refused):
    """The run is not in a state that allows this.

    The run is not in a suitable state, for example cancelling a run that has ended or is
    lost, or resolving a run that is not partial. `facts` contains the state.
    """

    code = "invalid_state"


class ConflictingMigrations(Refused):
    """An app has more than one leaf migration.

    An app has two leaf migrations. `facts` lists them.
    """

    code = "conflict"
    hint = "Run 'manage.py makemigrations --merge' and deploy the result."


class InconsistentHistory(Refused):
    """A migration is applied before one that it depends on.

    Django's `migrate` would refuse with the same message.
    """

    code = "inconsistent_history"
    hint = "Compare the table django_migrations with the code, then correct the table."


class BrokenMigrations(Refused):
    """The migrations of this project cannot be loaded.

    A migration cannot be imported, or its dependencies are inconsistent.
    """

    code = "broken_migrations"
    hint = "Fix the error that 'manage.py showmigrations' reports, and deploy the fix."


class TerminateBlockersDisabled(Refused):
    """Terminating other sessions is disabled for this database.

    The setting `allow_terminate_blockers` of this database is off.
    """

    code = "terminate_blockers_disabled"
    hint = "Wait until they have ended, or terminate them in the database."


class ApprovalRequired(Refused):
    """This plan needs an approval before it can run.

    The verb `run` is used for a run that still awaits approval.
    """

    code = "approval_required"
    exit_code = 6


class DatabaseUnavailable(RouteError):
    """The database is not available.

    The database, or the ledger's, is unreachable, locked, or refuses: a missing privilege,
    a read-only transaction or file, a full disk, a lock file that cannot be opened.
    `detail` names the cause if the database's error code reveals it.
    """

    code = "database_unavailable"
    http_status = 503
    exit_code = 8


class Misconfigured(RouteError):
    """The setting MIGRATION_ROUTE is invalid.

    An in-memory database, or one that the route cannot lock; `MIGRATION_MODULES` that
    removes the ledger's own migrations; a `LAUNCHER` that cannot start anything;
    `TEMPLATES` that does not find the staff pages (503, for pages only).
    """

    code = "misconfigured"
    hint = "Run 'manage.py check', which lists the errors in MIGRATION_ROUTE."


class LaunchFailed(RouteError):
    """The process of the run could not be started.

    No process could be started: no `DJANGO_SETTINGS_MODULE`, no memory, no usable temporary
    directory, a failing `COMMAND` or queue. The run is recorded as `failed`.
    """

    code = "launch_failed"
    http_status = 503
