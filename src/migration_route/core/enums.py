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
    BACKWARDS = "backwards"
    NONE = "none"


@unique
class Mode(StrEnum):
    """How a step is carried out: Django's own three modes."""

    APPLY = "apply"
    FAKE = "fake"
    FAKE_INITIAL = "fake_initial"


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
    WARNING = "warning"
    BLOCKING = "blocking"


@unique
class RunState(StrEnum):
    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    LOST = "lost"
    PARTIAL = "partial"
    SUCCEEDED = "succeeded"
    NOOP = "noop"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    STALE = "stale"
    RESOLVED = "resolved"


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
    APPLYING = "applying"
    APPLIED = "applied"
    REVERTED = "reverted"
    FAILED = "failed"
    PARTIAL = "partial"


@unique
class EffectState(StrEnum):
    """Whether the effect of an operation is present in the database."""

    PRESENT = "present"
    ABSENT = "absent"
    PARTIAL = "partial"
    UNKNOWN = "unknown"


@unique
class Resolution(StrEnum):
    """How to conclude a step that a run left half applied."""

    APPLIED = "applied"
    AS_IS = "as_is"
    CONTINUE = "continue"
    REVERTED = "reverted"


@unique
class WaitingReason(StrEnum):
    LOCK = "lock"
    ORPHANED_SESSION = "orphaned_session"
    PAUSED = "paused"
    BLOCKED = "blocked"  # other sessions hold locks that its statement needs
    HEALTH = "health"  # a health signal stops it
    APPROVAL = "approval"  # it needs the approval of other users

    TIME = "time"  # it was scheduled for a later time
    WINDOW = "window"  # no window is open
    FREEZE = "freeze"  # a freeze is in effect
    NO_WORKER = "no_worker"  # no process has claimed it


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
    USER = "user"
    TOKEN = "token"  # noqa: S105 - a kind of actor
    PERMIT = "permit"
    COMMAND = "command"
    SYSTEM = "system"


@unique
class Scope(StrEnum):
    """The scopes of tokens, which are also the permissions of users."""

    READ = "read"
    PLAN = "plan"
    REHEARSE = "rehearse"
    APPLY = "apply"
    REVERSE = "reverse"
    FAKE = "fake"
    OPERATE = "operate"
    APPROVE = "approve"
    FORCE = "force"
    RESOLVE = "resolve"


USER_ONLY_SCOPES = frozenset({Scope.APPROVE, Scope.FORCE, Scope.RESOLVE})
"""Scopes that no machine can have."""


@unique
class EventKind(StrEnum):
    """The kinds of events of a run."""

    STATE = "state"
    STEP_STARTED = "step_started"
    OPERATION_STARTED = "operation_started"
    STATEMENT_RUNNING = "statement_running"
    STATEMENT = "statement"
    STATEMENTS_OMITTED = "statements_omitted"
    LOCK_ATTEMPT = "lock_attempt"
    OPERATION_FINISHED = "operation_finished"
    STEP_FINISHED = "step_finished"
    OUTPUT = "output"
    OUTPUT_TRUNCATED = "output_truncated"
    LOCK_LOST = "lock_lost"
    INDEX_DROPPED = "index_dropped"
    HEALTH = "health"
    WINDOW = "window"
    ERROR = "error"


@unique
class Action(StrEnum):
    """The actions that ledger entries record."""

    LEDGER_INSTALLED = "ledger_installed"
    RUN_REQUESTED = "run_requested"
    RUN_STATE = "run_state"
    STEP_STARTED = "step_started"
    STEP_FINISHED = "step_finished"
    LOCK_LOST = "lock_lost"
    INDEX_DROPPED = "index_dropped"
    CANCEL_REQUESTED = "cancel_requested"
    FORCE_REQUESTED = "force_requested"
    PAUSE_REQUESTED = "pause_requested"
    RESUMED = "resumed"
    HEALTH_OVERRIDDEN = "health_overridden"
    SCHEDULE_OVERRIDDEN = "schedule_overridden"
    RESOLVED = "resolved"
    APPROVED = "approved"
    REJECTED = "rejected"
    BLOCKERS_TERMINATED = "blockers_terminated"
    MIGRATE_STARTED = "migrate_started"
    MIGRATE_FINISHED = "migrate_finished"
    REHEARSAL_REQUESTED = "rehearsal_requested"
    REHEARSAL_ENDED = "rehearsal_ended"
    PERMIT_ISSUED = "permit_issued"
    PREVIOUS_SECRET_USED = "previous_secret_used"  # noqa: S105 - a kind of entry
    DENIED = "denied"
    REFUSED = "refused"
