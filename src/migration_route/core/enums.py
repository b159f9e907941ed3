"""The enumerations that all modules share.

Their values are stored in rows and in the ledger, and are sent over the API, so none is
ever renamed. This module does not import Django, because the remote client uses it.
"""

from __future__ import annotations

from enum import StrEnum, unique

OWN_APP = "migration_route"
"""The label of this app."""


@unique
class Direction(StrEnum):
    """The direction of a plan or a step."""

    FORWARDS = "forwards"
    """Steps are applied."""
    BACKWARDS = "backwards"
    """Steps are reverted, the last one first."""
    NONE = "none"
    """There is nothing to do."""


@unique
class Mode(StrEnum):
    """How a step is carried out: Django's own three modes."""

    APPLY = "apply"
    """Execute the steps."""
    FAKE = "fake"
    """Only record them: Django's `--fake`."""
    FAKE_INITIAL = "fake_initial"
    """Only record initial migrations whose tables exist: Django's `--fake-initial`."""


@unique
class Phase(StrEnum):
    """The side of a deploy that a step belongs to: before the new release starts, after the
    old one has stopped, or either."""

    AFTER_DEPLOY = "after_deploy"
    ANY = "any"
    BEFORE_DEPLOY = "before_deploy"


@unique
class Severity(StrEnum):
    INFO = "info"
    """For information."""
    WARNING = "warning"
    """Review before you apply the plan."""
    BLOCKING = "blocking"
    """The route refuses the plan."""


@unique
class RunState(StrEnum):
    AWAITING_APPROVAL = "awaiting_approval"
    """Recorded; nothing has started. `approval` shows who has approved, how many approvals
    are required, until when and why. The run owns its database until a request arrives
    after its plan has changed."""
    QUEUED = "queued"
    """Recorded; its process has not started. The run ends as `failed` if that process dies
    on this host, or after 30 seconds without a sign of it on another. With the launchers
    `worker` and `tasks`, it waits for a worker, with the waiting reason `no_worker`."""
    WAITING = "waiting"
    """The run may not start yet: it waits for its scheduled time, a window, or the end of a
    freeze. Or its process has started, and another session holds the lock of the database
    or tables that a step needs. `waiting` contains the reason."""
    RUNNING = "running"
    """The run holds the lock, and its worker is executing steps."""
    PAUSED = "paused"
    """The next step has not started. The run keeps the lock and its heartbeat. Either a
    user paused it, and it continues when a user resumes it; or, with the reason `health` or
    `window`, a signal stops it or no window is open, and it continues by itself."""
    CANCELLING = "cancelling"
    """The run is being cancelled: before its next step, or during the current one, whose
    statement is cancelled in the database."""
    LOST = "lost"
    """The heartbeat stopped. The next process that reads the run determines what it left
    behind, as soon as it has no live session."""
    PARTIAL = "partial"
    """A step stopped partway and could not be rolled back as a whole, or was executed and
    not recorded. No run starts on this database until a user resolves this one."""
    SUCCEEDED = "succeeded"
    """A new connection confirmed that every step is recorded."""
    NOOP = "noop"
    """There was nothing to do."""
    FAILED = "failed"
    """What is recorded as applied is applied. The step that failed, if one had started,
    left nothing behind that the route knows of. Retrying is safe."""
    CANCELLED = "cancelled"
    """The run was cancelled: before a step, during a step that was rolled back, or before
    it started. Steps applied before that stay applied. A run also ends this way if a step
    could not be recorded for a minute."""
    REJECTED = "rejected"
    """A user rejected the run before it started."""
    EXPIRED = "expired"
    """Not enough people approved within the lifetime of the request, or the run was
    released and its process was not started for as long."""
    STALE = "stale"
    """The plan was no longer the permitted one when the worker checked it, or when a user
    approved it. The run stopped there. Steps before the difference stay applied, and each
    step shows how far it got."""
    RESOLVED = "resolved"
    """The run was `partial`, and a user has resolved it."""


ACTIVE_STATES = frozenset(
    {
        RunState.AWAITING_APPROVAL,
        RunState.QUEUED,
        RunState.WAITING,
        RunState.RUNNING,
        RunState.PAUSED,
        RunState.CANCELLING,
        RunState.LOST,
    }
)
"""The states in which a run owns its database, or may still own it."""

ENDED_STATES = frozenset(RunState) - ACTIVE_STATES
"""The states that a run does not leave by itself."""

SUCCESS_STATES = frozenset({RunState.SUCCEEDED, RunState.NOOP})


@unique
class RehearsalState(StrEnum):
    QUEUED = "queued"
    COPYING = "copying"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@unique
class CopyKind(StrEnum):
    """What the copy for a rehearsal contains."""

    DATA = "data"
    SCHEMA = "schema"


@unique
class StepState(StrEnum):
    NOT_STARTED = "not_started"
    """Nothing of it was sent."""
    APPLYING = "applying"
    """It has started, forwards or backwards, and has not ended."""
    APPLIED = "applied"
    """It is in the table `django_migrations`."""
    REVERTED = "reverted"
    """It is no longer in the table `django_migrations`."""
    FAILED = "failed"
    """It was rolled back, or nothing of it was executed."""
    PARTIAL = "partial"
    """Something of it was, or may have been, executed and remains. It is not recorded."""


DONE_STEP_STATES = frozenset({StepState.APPLIED, StepState.REVERTED})
"""The states of a step that finished."""


@unique
class EffectState(StrEnum):
    """Whether the effect of an operation is present in the database."""

    PRESENT = "present"
    """Its effect is in the database."""
    ABSENT = "absent"
    """None of its effect is in the database."""
    PARTIAL = "partial"
    """Part of its effect is in the database, such as an invalid index, or one column of
    two."""
    UNKNOWN = "unknown"
    """Nothing shows its effect: Python, raw SQL, a changed type."""


@unique
class Resolution(StrEnum):
    """How to conclude a step that a run left half applied."""

    APPLIED = "applied"
    """Record the migration as applied. Refused if the catalog shows otherwise."""
    AS_IS = "as_is"
    """Leave the record unchanged, after a manual repair. The default."""
    CONTINUE = "continue"
    """Start a new run that continues after the last operation that is present. Refused if
    that cannot be proved. Also requires `apply`."""
    REVERTED = "reverted"
    """Record the migration as not applied. Refused if the catalog shows otherwise."""


@unique
class WaitingReason(StrEnum):
    LOCK = "lock"
    """Another run, or another process that holds the lock, is working on this database."""
    ORPHANED_SESSION = "orphaned_session"
    """The processes of an earlier run are gone, but its session in the database is not."""
    PAUSED = "paused"
    """A user paused the run. It continues when it is resumed."""
    BLOCKED = "blocked"
    """Other sessions hold locks on tables that the step needs. `waiting` lists them, with
    the attempts so far. The run waits for as long as `lock_retry_timeout` and
    `blocking_budget` allow."""
    HEALTH = "health"
    """A health signal stops the run. `waiting` contains the signals, the time of the next
    check, and the time at which the run gives up. It continues by itself."""
    APPROVAL = "approval"
    """Other people must approve first. `until` is when the request expires."""

    TIME = "time"
    """The run is scheduled for later. Nothing was done for it, and it holds no lock."""
    WINDOW = "window"
    """No window is open. A run that has not started holds no lock; one that is `paused` is
    between two steps and keeps its lock. The run continues by itself at `until`. `resume`
    makes one that has not started check again, with the settings of that time."""
    FREEZE = "freeze"
    """The run was requested during a freeze, and starts when the freeze ends. `resume`
    makes it check again, with the settings of that time."""
    NO_WORKER = "no_worker"
    """No process has claimed the run. With the launchers `worker` and `tasks`, it waits for
    a worker."""


SCHEDULE_REASONS = frozenset(
    {WaitingReason.TIME, WaitingReason.WINDOW, WaitingReason.FREEZE}
)
"""Reasons of a run that has not started: it holds no lock and has done nothing."""


@unique
class ApprovalDecision(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


@unique
class ControlRequest(StrEnum):
    """What a user requests of a run in progress."""

    PAUSE = "pause"
    CANCEL = "cancel"
    FORCE = "force"
    OVERRIDE = "override"  # override the health signals that pause it


@unique
class ActorKind(StrEnum):
    ANONYMOUS = "anonymous"
    """An unknown caller."""
    USER = "user"
    """A signed-in member of staff, by username."""
    TOKEN = "token"  # noqa: S105 - a kind of actor
    """A machine, by the name of its token."""
    PERMIT = "permit"
    """The bearer of a permit, by the name of the person on a host who issued it."""
    COMMAND = "command"
    """`manage.py` on a host, as `user@host`."""
    SYSTEM = "system"
    """The route itself: supervisor, recovery."""


@unique
class Scope(StrEnum):
    """The scopes of tokens, which are also the permissions of users."""

    READ = "read"
    """Read status, runs, events and the ledger."""
    PLAN = "plan"
    """Read plans."""
    REHEARSE = "rehearse"
    """Run a plan on a copy: `POST rehearsals`, `rehearse`. In place, together with
    `force`."""
    APPLY = "apply"
    """Start a run."""
    REVERSE = "reverse"
    """Start a run that goes backwards, together with `apply`."""
    FAKE = "fake"
    """Start a run in the modes `fake` and `fake_initial`, together with `apply`."""
    OPERATE = "operate"
    """Cancel, pause and resume runs. The requester of a run that awaits approval can cancel
    that run without it."""
    APPROVE = "approve"
    """Approve and reject runs that await approval, if the rule names no other permission.
    Never a run of one's own, unless the rule allows it."""
    FORCE = "force"
    """Kill the processes of a run, terminate the sessions that block it, and make it
    continue despite the signals that pause it. Rehearse in place, together with
    `rehearse`."""
    RESOLVE = "resolve"
    """Resolve a run that stopped partway. To continue its step, together with `apply`."""


USER_ONLY_SCOPES = frozenset({Scope.APPROVE, Scope.FORCE, Scope.RESOLVE})
"""Scopes that no machine can have."""


@unique
class EventKind(StrEnum):
    """The kinds of events of a run."""

    STATE = "state"
    """The run changed to the state in `text`: `running`, or its final state. At the end,
    `facts` contains `outcome`. States before `running` are only in the ledger."""
    STEP_STARTED = "step_started"
    """A step starts. `text` is `app.name`, `facts` contains `direction`. Recorded before
    anything of the step is sent."""
    OPERATION_STARTED = "operation_started"
    """An operation starts. `text` is Django's description of it."""
    STATEMENT_RUNNING = "statement_running"
    """A statement has been running for a second. Sent once, while it runs."""
    STATEMENT = "statement"
    """A statement has ended, successfully or not. `text` is its SQL with placeholders."""
    STATEMENTS_OMITTED = "statements_omitted"
    """Statements that were not shown. `facts` contains `count`; `duration_ms` is their
    total."""
    LOCK_ATTEMPT = "lock_attempt"
    """Other sessions blocked a statement. `facts` contains `attempt`, counted within the
    step; `fired`: whether the statement was sent and timed out, or was not sent because a
    check had shown who blocks it; `tables`, `blockers`, and the cost of the step's waiting
    so far: `blocking_ms` while other sessions may have queued behind it, `waited_ms` while
    none did."""
    PROGRESS = "progress"
    """How far the running operation or statement is. `facts` contains `done`, `total` (null
    if unknown), `unit` and `phase`; `text` says the same. Recorded once a second at most,
    and less often the longer it takes."""
    OPERATION_FINISHED = "operation_finished"
    """An operation succeeded."""
    STEP_FINISHED = "step_finished"
    """A step is committed and recorded."""
    OUTPUT = "output"
    """A line printed by the command or the migration. `facts` contains `stream`: `stdout`
    or `stderr`."""
    OUTPUT_TRUNCATED = "output_truncated"
    """The output exceeds what a run records; the rest is omitted. At most once per run."""
    LOCK_LOST = "lock_lost"
    """The lock of the database was lost. `facts` contains `when`, and whether it was
    `taken_again`."""
    INDEX_DROPPED = "index_dropped"
    """An invalid index is dropped, as requested for this run, immediately before it is
    rebuilt. `text` is the statement."""
    HEALTH = "health"
    """The signals that pause the run before its next step, the signals that are unknown at
    its start, or that nothing pauses it any more. `verdict` is `pause` or `go`; `signals`
    lists those that stop and those that are unknown."""
    WINDOW = "window"
    """The window closed before a step. The facts contain the reason and the next
    opening."""
    ERROR = "error"
    """What stopped the run. `facts` contains `type`, `sqlstate` and `traceback`, or
    `status` if the worker ended without a report."""


@unique
class Action(StrEnum):
    """The actions that ledger entries record."""

    LEDGER_INSTALLED = "ledger_installed"
    """Not written in this version: creating the tables has no entry of its own."""
    RUN_REQUESTED = "run_requested"
    """A run was requested and permitted: fingerprint, direction, mode, targets, steps with
    the digests of their sources, the `rows` of the tables of each step, reason."""
    RUN_STATE = "run_state"
    """A run changed from the state `from` to the state `to`: outcome, waiting reason,
    error, and at the end how far each step got."""
    STEP_STARTED = "step_started"
    """A step is about to start. Committed before anything of it is sent."""
    STEP_FINISHED = "step_finished"
    """How a step ended: state, duration, error. If other sessions blocked it, `attempts`,
    `blocking_ms` and `waited_ms` show the cost. `events` and `events_digest` add the events
    so far to the chain."""
    LOCK_LOST = "lock_lost"
    """The lock of the database was lost. `facts` contains `when`, and whether it was
    `taken_again`."""
    INDEX_DROPPED = "index_dropped"
    """An invalid index is dropped, as requested for this run, immediately before it is
    rebuilt. Contains the statement."""
    CANCEL_REQUESTED = "cancel_requested"
    """A run was asked to cancel, with the reason."""
    FORCE_REQUESTED = "force_requested"
    """The processes and sessions of a run were ended by force, with the reason."""
    PAUSE_REQUESTED = "pause_requested"
    """A run was asked to pause before its next step, with the reason."""
    RESUMED = "resumed"
    """A paused run was resumed, or a request to pause was withdrawn, with the reason."""
    HEALTH_OVERRIDDEN = "health_overridden"
    """A user with the permission `force` made a run continue despite the signals that
    paused it: which signals, and the reason."""
    SCHEDULE_OVERRIDDEN = "schedule_overridden"
    """A user made a run start or continue despite its windows, a freeze or its scheduled
    time: which of them, until when, and the reason."""
    RESOLVED = "resolved"
    """A user resolved what a run left behind: how, the reason, and what was known of its
    operations."""
    APPROVED = "approved"
    """A user approved a run: the fingerprint, the reason, the relevant permissions that the
    user had, and the number of approvals required."""
    REJECTED = "rejected"
    """A user rejected a run: the fingerprint and the reason. The run has ended."""
    BLOCKERS_TERMINATED = "blockers_terminated"
    """A user terminated sessions that blocked a run: `terminated` lists them,
    `not_terminated` those that the database did not terminate, `reason` the reason."""
    MIGRATE_STARTED = "migrate_started"
    """A `manage.py migrate` run by hand has taken the lock. `facts` contains its arguments,
    pid and steps, whether it is `locked`, what was `dropped` after waiting, and a run that
    is `unresolved`."""
    MIGRATE_FINISHED = "migrate_finished"
    """That command ended: `finished`, `failed` or `not_begun`, with the recorded state of
    each step. A start without an end means that its process was killed."""
    REHEARSAL_REQUESTED = "rehearsal_requested"
    """`rehearsal` (its ID), `fingerprint`, `kind`, `round_trip`, `in_place`, `targets`,
    `phase`, `reason`."""
    REHEARSAL_ENDED = "rehearsal_ended"
    """`rehearsal`, `fingerprint`, `in_place`, `state`, `error`, `report_digest`: the
    SHA-256 of the report as it is stored, and `durations`: of each step that was executed
    with data, app, name, direction, digest of its source, milliseconds and rows."""
    PERMIT_ISSUED = "permit_issued"
    """A permit for one run of a plan was issued on a host: `permit` (its ID),
    `fingerprint`, `targets`, `mode`, `phase`, `expires`, `reason`. If the ledger did not
    exist yet, the log contains it."""
    PREVIOUS_SECRET_USED = "previous_secret_used"  # noqa: S105 - a kind of entry
    """A token was used with the second of its two secrets, even for a read. Once an hour in
    each process."""
    DENIED = "denied"
    """A request was denied (401, 403): `verb`, `code`, `message`. For a caller without a
    name, `left_out` and `left_out_elsewhere` count the denials without an entry: see [The
    ledger](../explanation/the-ledger.md)."""
    REFUSED = "refused"
    """A request by an actor with the required scope was refused (409): `verb`, `code`,
    `message`."""
