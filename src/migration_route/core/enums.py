"""Which words do the parts of the route share?

The members are the words of the wire, of the rows and of the ledger; none of them is
ever renamed. No Django here: the remote client speaks the same words.
"""

from __future__ import annotations

from enum import StrEnum, unique

OWN_APP = "migration_route"
"""The label of this app."""


@unique
class Direction(StrEnum):
    """Which way a plan, or one of its steps, goes."""

    FORWARDS = "forwards"
    BACKWARDS = "backwards"
    NONE = "none"


@unique
class Mode(StrEnum):
    """What carrying out a step means: Django's own three ways."""

    APPLY = "apply"
    FAKE = "fake"
    FAKE_INITIAL = "fake_initial"


@unique
class Phase(StrEnum):
    """On which side of a deploy a step belongs: before the new release, after the old one
    has gone, or on either."""

    AFTER_DEPLOY = "after_deploy"
    ANY = "any"
    BEFORE_DEPLOY = "before_deploy"


@unique
class Severity(StrEnum):
    """How much a finding should weigh with the reader of a plan."""

    INFO = "info"
    WARNING = "warning"
    BLOCKING = "blocking"


@unique
class RunState(StrEnum):
    """Where a run is; `design.md`, States, draws the transitions."""

    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    HELD = "held"
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
    RECONCILED = "reconciled"


ACTIVE_STATES = frozenset(
    {
        RunState.AWAITING_APPROVAL,
        RunState.QUEUED,
        RunState.WAITING,
        RunState.RUNNING,
        RunState.HELD,
        RunState.CANCELLING,
        RunState.LOST,
    }
)
"""The states in which a run owns its database, or may still own it."""

ENDED_STATES = frozenset(RunState) - ACTIVE_STATES
"""The states that a run does not leave by itself."""


@unique
class RehearsalState(StrEnum):
    """Where a rehearsal is."""

    QUEUED = "queued"
    COPYING = "copying"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@unique
class CopyKind(StrEnum):
    """What a rehearsal is carried out on."""

    DATA = "data"
    SCHEMA = "schema"


@unique
class StepState(StrEnum):
    """What is known of one step of a run."""

    NOT_STARTED = "not_started"
    APPLYING = "applying"
    APPLIED = "applied"
    REVERTED = "reverted"
    FAILED = "failed"
    PARTIAL = "partial"


@unique
class EffectState(StrEnum):
    """Is what an operation does in the database?"""

    IN = "in"
    OUT = "out"
    MIDWAY = "midway"
    UNKNOWN = "unknown"


@unique
class Resolution(StrEnum):
    """What becomes of the step that a run left midway."""

    APPLIED = "applied"
    AS_IS = "as_is"
    RESUME = "resume"
    REVERTED = "reverted"


@unique
class WaitingReason(StrEnum):
    """Why a run waits."""

    LOCK = "lock"
    ORPHAN_BACKEND = "orphan_backend"
    HELD = "held"
    BLOCKED = "blocked"  # others hold locks that its statement needs
    HEALTH = "health"  # the moment is not good: a signal stops
    APPROVAL = "approval"  # other people have to agree first

    TIME = "time"  # it was asked for at a later time
    WINDOW = "window"  # no window is open
    FREEZE = "freeze"  # nothing begins in a freeze
    CARRIER = "carrier"  # no process has taken it


SCHEDULE_REASONS = frozenset(
    {WaitingReason.TIME, WaitingReason.WINDOW, WaitingReason.FREEZE}
)
"""Why a run waits that has not begun: nothing was done for it, and it holds no lock."""


@unique
class ApprovalDecision(StrEnum):
    """What somebody says of a run that waits for approval."""

    APPROVE = "approve"
    REJECT = "reject"


@unique
class ControlRequest(StrEnum):
    """What somebody wants of a run that is at work."""

    HOLD = "hold"
    CANCEL = "cancel"
    FORCE = "force"
    GO_ON = "go_on"  # in spite of the signals that hold it


@unique
class ActorKind(StrEnum):
    """Who asks."""

    ANONYMOUS = "anonymous"
    PERSON = "person"
    TOKEN = "token"  # noqa: S105 - a kind of actor
    PERMIT = "permit"
    COMMAND = "command"
    ROUTE = "route"


@unique
class Scope(StrEnum):
    """What an actor may do: the scopes of tokens and the permissions of people."""

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


PEOPLE_ONLY = frozenset({Scope.APPROVE, Scope.FORCE, Scope.RESOLVE})
"""What no machine is ever allowed to do."""


@unique
class EventKind(StrEnum):
    """What happened in a run, in the order in which it happened."""

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
    """What an entry of the ledger says was done."""

    LEDGER_INSTALLED = "ledger_installed"
    RUN_REQUESTED = "run_requested"
    RUN_STATE = "run_state"
    STEP_STARTED = "step_started"
    STEP_FINISHED = "step_finished"
    LOCK_LOST = "lock_lost"
    INDEX_DROPPED = "index_dropped"
    CANCEL_REQUESTED = "cancel_requested"
    FORCE_REQUESTED = "force_requested"
    HOLD_REQUESTED = "hold_requested"
    RESUMED = "resumed"
    HEALTH_OVERRIDDEN = "health_overridden"
    OPENING_OVERRIDDEN = "opening_overridden"
    RESOLVED = "resolved"
    APPROVED = "approved"
    REJECTED = "rejected"
    BLOCKERS_ENDED = "blockers_ended"
    MIGRATE_STARTED = "migrate_started"
    MIGRATE_FINISHED = "migrate_finished"
    REHEARSAL_REQUESTED = "rehearsal_requested"
    REHEARSAL_ENDED = "rehearsal_ended"
    PERMIT_ISSUED = "permit_issued"
    OLD_SECRET_USED = "old_secret_used"  # noqa: S105 - a kind of entry
    DENIED = "denied"
    REFUSED = "refused"
